"""The figure of the comparison shows each mean at its place, with its interval where there is one."""

import pytest
from matplotlib.colors import to_hex

from s2dc_core import plots
from s2dc_core.plots.evaluation import WAYS

FOUND = {
    "whole": {
        "s2dc": {"probe": (0.3, 0.2, 0.4, 3), "nearest": (0.5, 0.4, 0.6, 3)},
        "registration_a": {"registered": (0.7, None, None, 1)},
    },
    "half": {"s2dc": {"nearest": (0.2, 0.1, 0.3, 3), "probe": (0.1, -0.1, 0.3, 3)}},
}


def points_of(axis):
    return {
        (to_hex(line.get_color()).upper(), float(line.get_xdata()[0])): float(line.get_ydata()[0])
        for line in axis.get_lines()
        if len(line.get_xdata()) == 1
    }


def test_a_point_for_each_way_with_its_interval():
    figure = plots.plot_evaluation(FOUND, "a title")
    left, right = figure.axes
    colours = {way: colour.upper() for way, (colour, _) in WAYS.items()}
    points = points_of(left)
    assert set(points) == {(colours["nearest"], 0.5), (colours["probe"], 0.3), (colours["registered"], 0.7)}
    assert points[colours["nearest"], 0.5] < points[colours["probe"], 0.3] < points[colours["registered"], 0.7]
    ends = [list(line.get_xdata()) for line in left.get_lines() if line.get_linewidth() == 3]
    assert sorted(ends) == [[0.2, 0.4], [0.4, 0.6]]
    assert len(points_of(right)) == 2 and figure.get_suptitle() == "a title"


def test_rows_are_named_once_and_ways_in_the_legend():
    figure = plots.plot_evaluation(FOUND)
    left, right = figure.axes
    assert [label.get_text() for label in left.get_yticklabels()] == ["s2dc", "registration a"]
    assert [label.get_text() for label in right.get_yticklabels()] == ["", ""]
    assert [axis.get_title() for axis in figure.axes] == ["the whole scan", "upper or lower half"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["nearest", "probe", "registered"]
    assert left.get_xlim() == right.get_xlim() == pytest.approx((0, 1))
    assert len(plots.plot_evaluation({"whole": FOUND["whole"]}).axes) == 1
