"""The figures of lesson 06 draw the numbers they are given."""

import numpy as np
import pytest

from s2dc_core.plots import clusters as plots

NAMES = {6: "liver", 1: "spleen"}
TITLES = {"untrained": "untrained", "contrast": "$L_g$", "s2dc": "S2DC"}


def test_toy_marks_the_token_on_its_curve():
    curve = {"angle": [0, 45, 90], "a": [0.1, 0.2, 0.9], "b": [0.9, 0.4, 0.1], "s": [0.8, 0.5, -0.8]}
    figure = plots.plot_toy({"organ A": [0, 15], "organ B": [80]}, 45, curve, 1)
    left, right = figure.axes
    assert len([text for text in left.texts if not text.get_text()]) == 4, "an arrow each"
    assert left.get_title() == "a = 0.20, b = 0.40: s = +0.50"
    assert [45, 0.5] in [line.get_xydata()[0].tolist() for line in right.lines]


def test_by_organ_draws_a_row_per_organ_and_the_mean_of_all():
    scores = {"untrained": {1: 0.1, 2: 0.3, 6: 0.5}, "s2dc": {1: 0.2, 2: 0.4, 6: 0.9}}
    figure = plots.plot_by_organ(
        {"silhouette": scores, "share": scores}, NAMES, TITLES, ("place alone", {6: 0.6, 2: 0.2, 1: 0.1}), "a title"
    )
    left, right = figure.axes
    assert [label.get_text() for label in left.get_yticklabels()] == ["liver", "spleen", "mean of all 3"]
    lines = {line.get_label(): line.get_xdata() for line in right.lines}
    assert lines["S2DC"] == pytest.approx([0.9, 0.2, 0.5]) and lines["untrained"] == pytest.approx([0.5, 0.1, 0.3])
    assert lines["place alone"] == pytest.approx([0.6, 0.1, 0.3])


def test_intervals_draw_seeds_means_and_differences_on_one_scale():
    values = {"CT": {"untrained": [0.0, 0.2], "s2dc": [0.3, 0.5]}, "PET": {"untrained": [0.1, 0.1], "s2dc": [0.1, 0.3]}}
    intervals = {"CT": {"untrained": (0.1, -0.1, 0.3), "s2dc": (0.4, 0.3, 0.5)}}
    intervals["PET"] = {"untrained": (0.1, 0.1, 0.1), "s2dc": (0.2, 0.0, 0.4)}
    differences = {"CT": {"untrained": (0.3, 0.1, 0.5)}, "PET": {"untrained": (0.1, -0.1, 0.3)}}
    figure = plots.plot_intervals(values, intervals, differences, TITLES)
    above, above_pet, below, below_pet = figure.axes
    drawn = [line.get_xdata().tolist() for line in above.lines]
    assert [0.0, 0.2] in drawn and [0.3, 0.5] in drawn and [0.1] in np.array([d for d in drawn if len(d) == 1]).tolist()
    assert [label.get_text() for label in below.get_yticklabels()] == ["S2DC minus untrained"]
    assert above.get_xlim() == above_pet.get_xlim() and below.get_xlim() == below_pet.get_xlim()


def test_small_differences_get_an_axis_of_their_own():
    arms = {"untrained": [0.0, 0.2], "contrast": [0.29, 0.49], "s2dc": [0.3, 0.5]}
    intervals = {arm: (np.mean(runs), min(runs), max(runs)) for arm, runs in arms.items()}
    differences = {"untrained": (0.3, 0.29, 0.31), "contrast": (0.01, 0.005, 0.015)}
    figure = plots.plot_intervals({"CT": arms}, {"CT": intervals}, {"CT": differences}, TITLES, close=("contrast",))
    _, far, close = figure.axes
    assert [label.get_text() for label in far.get_yticklabels()] == ["S2DC minus untrained"]
    assert [label.get_text() for label in close.get_yticklabels()] == ["S2DC minus $L_g$"]
    assert np.ptp(close.get_xlim()) < 0.1 * np.ptp(far.get_xlim())


def test_rows_of_dots_name_each_series_once():
    rows = {"untrained": {"within": 0.2, "between": 0.4}, "s2dc": {"within": 0.3, "between": 0.9}}
    figure = plots.plot_rows_of_dots(rows, TITLES, "mean cosine distance", "a title")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["within", "between"]
    dots = [line.get_xydata()[0].tolist() for line in figure.axes[0].lines if line.get_marker() != "None"]
    assert dots == [[0.2, 0], [0.4, 0], [0.3, 1], [0.9, 1]]


def test_cosine_by_distance_draws_both_curves_on_one_scale():
    curves = {"untrained": (np.array([0.9, np.nan]), np.array([0.5, np.nan])), "s2dc": (np.ones(2), np.zeros(2))}
    figure = plots.plot_cosine_by_distance(curves, np.array([10, 20]), TITLES)
    left, right = figure.axes
    assert left.lines[0].get_ydata() == pytest.approx([0.9, np.nan], nan_ok=True)
    assert right.lines[1].get_ydata() == pytest.approx([0, 0])
    assert left.get_ylim() == right.get_ylim()


def test_an_encoder_of_ones_own_has_a_style():
    assert plots.arm_style("yours")["marker"] == "*"
    assert plots.arm_style("s2dc") != plots.arm_style("p2p")


def test_curves_without_any_value_are_refused():
    nothing = np.full(3, np.nan)
    with pytest.raises(ValueError, match="no distance has enough pairs of tokens"):
        plots.plot_cosine_by_distance({"s2dc": (nothing, nothing)}, np.arange(3), TITLES)
