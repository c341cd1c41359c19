"""The figures of lesson 03 draw the numbers they are given."""

import math

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from s2dc_core.plots import distribution as plots

GRID, PATCH = (4, 3, 2), (2, 2, 2)
SHAPE = tuple(g * p for g, p in zip(GRID, PATCH, strict=True))


def anchor(name):
    distribution = torch.zeros(GRID)
    distribution[1, 2, 0] = 1.0
    return plots.Anchor(name, (3.0, 2.0, 1.0), (2.5, 4.5, 0.5), distribution, 4.7)


def test_anchor_panels_mark_anchor_and_counterpart_and_show_the_ratio():
    figure = plots.plot_anchors(torch.rand(SHAPE), torch.rand(SHAPE), np.eye(4), PATCH, [anchor("bone"), anchor("air")])
    assert isinstance(figure, Figure)
    axes = np.array(figure.axes[:6]).reshape(3, 2)
    assert [axis.get_title() for axis in axes[0]] == ["bone: in V", "air: in V"]
    assert axes[0, 0].lines[0].get_xydata()[0] == pytest.approx((3.0, 2.0))
    assert axes[1, 0].lines[0].get_xydata()[0] == pytest.approx((2.5, 4.5)), "its counterpart"
    assert sum(bar.get_height() for bar in axes[2, 1].patches if bar.get_height() >= 1) >= math.prod(GRID)
    assert "4.70" in axes[2, 0].get_title()


def test_peaks_and_ratio_draws_every_token_and_curve():
    D = torch.zeros(20)
    D[:3] = 1
    figure = plots.plot_peaks(D, 3, [1, 2, 4], {"no noise": [4.0, 3.0, 2.0], "noise": [3.0, 2.0, 1.0]}, 2.4)
    left, right = figure.axes
    assert len(left.collections[0].get_segments()) == 20
    assert [line.get_ydata()[-1] for line in right.lines] == [2.0, 1.0, 2.4]


def test_draws_of_noise_are_averaged():
    draws = torch.tensor([[1.0, 4.0], [3.0, 8.0]])
    figure = plots.plot_peaks(torch.rand(9), 1, [1, 2], {"noise": draws}, 2.0, hidden=4)
    right = figure.axes[1]
    assert list(right.lines[0].get_ydata()) == [2, 6]
    assert "noise decides" in [text.get_text() for text in right.texts]


def test_ratios_by_tissue_share_the_order_and_the_scale_of_the_last_panel():
    last = {"bone": torch.full((5,), 3.0), "liver": torch.full((7,), 1.0), "air": torch.full((6,), 2.0)}
    first = {name: 4 - values for name, values in last.items()}
    figure = plots.plot_ratios_by_tissue({"untrained": first, "trained": last}, bold=["bone"])
    left, right = figure.axes
    assert [label.get_text() for label in left.get_yticklabels()] == ["liver (7)", "air (6)", "bone (5)"]
    assert left.get_xlim() == right.get_xlim()
    medians = [[line.get_xdata()[0] for line in axis.lines[4::5]] for axis in (left, right)]
    assert medians == [[3, 2, 1], [1, 2, 3]]


def test_look_alikes_stand_beside_the_ratios_in_the_same_rows():
    tissues = {"bone": torch.full((5,), 3.0), "liver": torch.full((7,), 1.0)}
    figure = plots.plot_ratios_by_tissue({"trained": tissues}, {"bone": (20, 0.25), "liver": (300, 0.5)}, ["bone"])
    axis = figure.axes[1]
    assert [text.get_text() for text in axis.texts] == ["50%", "25%"]
    assert [tuple(line.get_xydata()[0]) for line in axis.lines] == [(300, 1), (20, 2)]
    assert figure.axes[0].get_ylim() == axis.get_ylim()


def test_sorted_weights_count_the_effective_tokens():
    figure = plots.plot_sorted_weights({"equal": np.full(8, 1 / 8), "one": np.eye(8)[3] * 0.999 + 1e-5})
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["equal:\n8 of 8 tokens count", "one:\n1 of 8 tokens count"], "beside the curves, not on them"
    assert (np.diff(figure.axes[0].lines[1].get_ydata()) <= 0).all()


@pytest.mark.parametrize(("weights", "count"), [(np.full(5, 0.2), 5.0), (np.array([1.0, 0, 0]), 1.0)])
def test_effective_number(weights, count):
    assert plots.effective_number(weights) == pytest.approx(count)


def test_what_is_asked_is_relative_to_the_share_of_matches():
    axis = plots.plot_asked({"liver": (0.5, 0.25), "bone": (0.1, 0.3)}, "message").axes[0]
    assert [bar.get_width() for bar in axis.patches] == pytest.approx([0.5, 3.0])
    assert [label.get_text() for label in axis.get_yticklabels()] == ["liver", "bone"]
