"""Figures of lessons 08 to 10 show the numbers that they were given."""

import numpy as np
import pytest

from s2dc_core import plots


def test_panels_lie_side_by_side_in_one_window():
    volume = np.random.default_rng(0).random((8, 9, 10))
    labels = np.zeros((8, 9, 10), int)
    labels[2:5, 3:6, 4:7] = 1
    panels = [
        plots.Panel("input", volume),
        plots.Panel("truth", volume, labels),
        plots.Panel("off", volume, None, (0, 5)),
    ]
    figure = plots.plot_side_by_side(
        {"a": panels, "b": panels}, np.eye(4), {"a": (4, 4, 4), "b": (4, 4, 5)}, title="both"
    )
    axes = figure.axes
    assert [axis.get_title() for axis in axes[:3]] == ["input", "truth", "off"] and len(axes) == 6
    assert axes[0].get_ylabel() == "a" and axes[3].get_ylabel() == "b"
    windows = [axis.images[0].get_clim() for axis in axes[:3]]
    assert windows[0] == windows[1] == pytest.approx(np.percentile(volume, (0.5, 99.5))) and windows[2] == (0, 5)
    assert not axes[0].collections and axes[1].collections
    barred = [panels[0], panels[1], panels[2]._replace(bar="SUV")]
    bars = plots.plot_side_by_side({"a": barred}, np.eye(4), {"a": (4, 4, 4)}).axes[3:]
    assert [axis.get_ylabel() for axis in bars] == ["SUV"]


def test_a_curve_has_a_point_for_each_number_of_labels():
    curves = {
        "scratch": {1: (0.3, 0.2, 0.4), 12: (0.5, 0.45, 0.55)},
        "s2dc": {1: (0.4, 0.3, 0.5), 12: (0.55, 0.5, 0.6)},
    }
    gains = {1: (0.1, 0.05, 0.15), 12: (0.05, -0.01, 0.11)}
    figure = plots.plot_label_curve(curves, gains, {"scratch": "from scratch", "s2dc": "S2DC"}, "Dice", ("n", "gain"))
    left, right = figure.axes
    assert [list(line.get_ydata()) for line in left.get_lines() if len(line.get_ydata()) == 2][:1] == [[0.3, 0.5]]
    assert list(right.get_lines()[0].get_ydata()) == [0.1, 0.05]
    ends = right.collections[0].get_segments()
    assert [end[:, 1].tolist() for end in ends] == [pytest.approx([0.05, 0.15]), pytest.approx([-0.01, 0.11])]
    assert [text.get_text() for text in left.get_legend().get_texts()] == ["from scratch", "S2DC"]
    titles, words = {"scratch": "from scratch", "s2dc": "S2DC"}, ("n", "gain")
    left = plots.plot_label_curve(curves, gains, titles, "accuracy", words, chance=0.25).axes[0]
    assert [line.get_ydata() for line in left.get_lines() if line.get_label() == "chance"] == [[0.25, 0.25]]


def test_a_point_for_each_organ_with_its_name():
    figure = plots.plot_scores_against({"left_kidney": 0.1, "liver": -0.2}, {"left_kidney": 0.8, "liver": 0.9},
                                       {"left_kidney": 3, "liver": 6}, ("silhouette", "Dice"))  # fmt: skip
    axis = figure.axes[0]
    assert {text.get_text() for text in axis.texts} == {"left kidney", "liver"}
    assert sorted((line.get_xdata()[0], line.get_ydata()[0]) for line in axis.get_lines()[:2]) == [
        (-0.2, 0.9),
        (0.1, 0.8),
    ]


def test_running_means_are_means():
    figure = plots.plot_loss_curves({"scratch": [4, 2, 3, 1, 2]}, {"scratch": "from scratch"}, 3, "loss")
    faint, mean = figure.axes[0].get_lines()
    assert list(faint.get_ydata()) == [4, 2, 3, 1, 2] and list(mean.get_ydata()) == [4, 3, 2, 2, 2]
    assert list(mean.get_xdata()) == [1, 2, 3, 4, 5], "from the first step to the last"


def test_a_confusion_says_what_was_taken_for_what():
    figure = plots.plot_confusion({"S2DC": np.array([[8, 2], [1, 9]])}, ["well", "ill"])
    axis = figure.axes[0]
    assert axis.get_title() == "S2DC: 85% right" and [text.get_text() for text in axis.texts] == ["8", "2", "1", "9"]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["well\n10 in all", "ill\n10 in all"]
    assert [label.get_text() for label in axis.get_xticklabels()] == ["well\n9 in all", "ill\n11 in all"]
