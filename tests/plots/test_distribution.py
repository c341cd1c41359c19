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


def test_ratios_by_tissue_are_ordered_by_their_median():
    tissues = {"bone": torch.full((5,), 3.0), "liver": torch.full((7,), 1.0), "air": torch.full((6,), 2.0)}
    figure = plots.plot_ratios_by_tissue({"untrained": tissues, "trained": tissues}, bold=["bone"])
    for axis in figure.axes:
        assert [label.get_text() for label in axis.get_yticklabels()] == ["liver (7)", "air (6)", "bone (5)"]


def test_ratio_against_lookalikes_names_each_tissue():
    figure = plots.plot_ratio_against_look_alikes({"trained": {"bone": (20, 3.0), "liver": (300, 1.5)}}, bold=["bone"])
    axis = figure.axes[0]
    assert {text.get_text() for text in axis.texts} == {"bone", "liver"}
    assert [tuple(line.get_xydata()[0]) for line in axis.lines] == [(20, 3.0), (300, 1.5)]


def test_sorted_weights_count_the_effective_tokens():
    figure = plots.plot_sorted_weights({"equal": np.full(8, 1 / 8), "one": np.eye(8)[3] * 0.999 + 1e-5})
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert labels[0] == "equal: 8 of 8 tokens count" and labels[1] == "one: 1 of 8 tokens count"
    assert (np.diff(figure.axes[0].lines[1].get_ydata()) <= 0).all()


@pytest.mark.parametrize(("weights", "count"), [(np.full(5, 0.2), 5.0), (np.array([1.0, 0, 0]), 1.0)])
def test_effective_number(weights, count):
    assert plots.effective_number(weights) == pytest.approx(count)


def test_loss_against_tokens_draws_each_loss():
    figure = plots.plot_loss_against_tokens([27, 144], {"printed": [1e-2, 5e-4], "by the weights": [5.0, 7.0]})
    assert [tuple(line.get_ydata()) for line in figure.axes[0].lines] == [(1e-2, 5e-4), (5.0, 7.0)]


def test_pushes_and_pulls_keep_their_sign():
    kinds = {"match": -2.0, "same organ": 1e-3, "other organ": 1e-4}
    figure = plots.plot_pushes_and_pulls({"L_p2p": kinds, "L_p2s": kinds}, {"liver": (0.5, 0.25), "bone": (0.1, 0.3)})
    left, right = figure.axes
    assert [bar.get_width() for bar in left.patches] == [*kinds.values(), *kinds.values()]
    assert [bar.get_width() for bar in right.patches] == pytest.approx([0.5, 3.0])
    assert [label.get_text() for label in right.get_yticklabels()] == ["liver", "bone"]
