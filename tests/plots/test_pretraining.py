"""Figures of lesson 04 draw what they are given."""

import numpy as np
import pytest

from s2dc_core import plots
from s2dc_core.plots import plot_gradient_reach, plot_pretraining, plot_regions
from s2dc_core.plots.pretraining import running_mean


def test_the_reach_shows_norms_and_crosses():
    figure = plot_gradient_reach({"a": 0.25, "b": 0.75}, {"one": {"a": 0.5, "b": 0.0}, "two": {"a": 2.0, "b": 4.0}})
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts == ["0.5", "2", "x", "4"]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()][1] == "b\n75.0% of the weights"


def test_one_loss_that_reaches_one_stage_can_be_drawn():
    assert plot_gradient_reach({"a": 0.5, "b": 0.5}, {"one": {"a": 0.5, "b": 0.0}}).axes


def test_the_curves_carry_the_history():
    history = [[1.0, 5.0], [2.0, 4.0], [3.0, 3.0]]
    figure = plot_pretraining(history, {"g": 4.0, "p": 9.0}, {0: -0.1, 3: 0.2}, {"untrained": -0.1}, window=2)
    first, second, last = figure.axes
    np.testing.assert_array_equal(first.lines[0].get_ydata(), [1, 2, 3])
    np.testing.assert_allclose(second.lines[1].get_ydata(), [5, 4.5, 3.5])
    assert second.get_ylim()[1] > 9 and list(last.lines[0].get_ydata()) == [-0.1, 0.2]


def test_running_mean_against_a_loop():
    values = np.random.default_rng(0).normal(size=20)
    expected = [values[max(k - 6, 0) : k + 1].mean() for k in range(20)]
    assert running_mean(values, 7) == pytest.approx(expected)


def test_boxes_mark_the_region_in_the_scan_and_the_part_in_the_region():
    scan, affine = np.random.default_rng(0).random((20, 12, 16)), np.diag([2.0, 2, 2, 1])
    region, part = (slice(4, 12), slice(2, 10), slice(6, 14)), (slice(4, 8), slice(0, 4), slice(0, 4))
    figure = plot_regions(scan, affine, region, part, scan[region], scan[region][part])
    assert [len(panel.images) for panel in figure.axes] == [1] * 5
    assert figure.axes[1].get_title().endswith("16 x 16 x 16 mm")
    outer, inner = (panel.patches[0].get_bbox() for panel in figure.axes[:2])
    assert sorted([outer.x0, outer.x1]) == [7, 23] and sorted([outer.y0, outer.y1]) == [11, 27], "world mm"
    assert sorted([inner.x0, inner.x1]) == [15, 23] and sorted([inner.y0, inner.y1]) == [11, 19]
    np.testing.assert_array_equal(figure.axes[3].images[0].get_array(), figure.axes[4].images[0].get_array())
    with plots.talk():
        assert len(plot_regions(scan, affine, region, part, scan[region], scan[region][part]).axes) == 5
