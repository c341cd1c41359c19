"""The forest of differences shows each row where it is measured, in the colour of what is decided."""

import pytest
from matplotlib.colors import to_hex

from s2dc_core import plots
from s2dc_core.plots.clusters import BLUE, GREY, RED

FOUND = {"L_g alone": (0.2, 0.1, 0.3), "better": (-0.1, -0.15, -0.05), "open": (0.02, -0.1, 0.14)}
GROUPS = {"first": ["L_g alone", "open"], "second": ["better"]}


def bars(axis):
    """{line: (ends, colour)} of the intervals of a panel."""
    lines = (line for line in axis.get_lines() if line.get_linewidth() == 3)
    return {line.get_ydata()[0]: (list(line.get_xdata()), to_hex(line.get_color()).upper()) for line in lines}


def test_a_line_for_each_row_coloured_by_what_is_decided():
    measures = {"Dice": FOUND, "silhouette": {"better": (0.0, -0.01, 0.01)}}
    figure = plots.plot_differences(measures, GROUPS, {"Dice": "points", "silhouette": "hundredths"}, "above L_g")
    dice, silhouette = figure.axes
    names = [label.get_text() for label in dice.get_yticklabels()]
    assert names == ["first", "$L_{g}$ alone", "open", "second", "better"] and figure.get_suptitle() == "above $L_{g}$"
    assert bars(dice) == {
        1: (pytest.approx([10, 30]), to_hex(BLUE).upper()),
        2: (pytest.approx([-10, 14]), to_hex(GREY).upper()),
        4: (pytest.approx([-15, -5]), to_hex(RED).upper()),
    }
    assert len(bars(silhouette)) == 1 and dice.get_xlim() == silhouette.get_xlim() == pytest.approx((-17, 32))
    assert [axis.get_xlabel().split("\n")[1] for axis in (dice, silhouette)] == ["points", "hundredths"]


def test_what_lies_beyond_the_limits_is_an_arrow_with_its_number():
    dice = plots.plot_differences({"Dice": FOUND}, GROUPS, "points", limits=(-20, 15)).axes[0]
    assert [text.get_text() for text in dice.texts] == ["+20"] and dice.get_xlim() == (-20, 15)
    arrows = [line for line in dice.get_lines() if line.get_marker() == ">"]
    assert [list(line.get_xdata()) for line in arrows] == [[15]] and bars(dice)[1][0] == pytest.approx([10, 15])
