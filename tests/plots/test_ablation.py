"""The forest of differences shows each row where it is measured, in the colour of what is decided."""

import pytest
from matplotlib.colors import to_hex

from s2dc_core import plots
from s2dc_core.plots.clusters import BLUE, GREY, RED


def test_a_line_for_each_row_coloured_by_what_is_decided():
    found = {"worse": (-0.2, -0.3, -0.1), "better": (0.1, 0.05, 0.15), "open": (0.02, -0.1, 0.14)}
    groups = {"first": ["worse", "open"], "second": ["better"]}
    figure = plots.plot_differences({"Dice": found, "silhouette": {"worse": (0.0, -0.01, 0.01)}}, groups, "S2DC", "t")
    dice, silhouette = figure.axes
    assert [label.get_text() for label in dice.get_yticklabels()] == ["first", "worse", "open", "second", "better"]
    shown = {}
    for line in dice.get_lines():
        if len(line.get_xdata()) == 2 and line.get_ydata()[0] == line.get_ydata()[1] and line.get_linewidth() == 3:
            shown[line.get_ydata()[0]] = (list(line.get_xdata()), to_hex(line.get_color()).upper())
    assert shown == {
        1: (pytest.approx([-30, -10]), to_hex(RED).upper()),
        2: (pytest.approx([-10, 14]), to_hex(GREY).upper()),
        4: (pytest.approx([5, 15]), to_hex(BLUE).upper()),
    }
    assert len([line for line in silhouette.get_lines() if line.get_linewidth() == 3]) == 1
