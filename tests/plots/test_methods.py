"""The figures of many methods draw the numbers they are given."""

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from s2dc_core.plots import methods as plots

TITLES = {"untrained": "random weights", "voco": "VoCo", "s2dc": "S2DC"}


def test_a_row_for_each_method_and_a_panel_for_each_measure():
    measures = {
        "Dice": {"untrained": (0.2, 0.1, 0.3), "s2dc": (0.5, 0.4, 0.6)},
        "lungs": dict.fromkeys(TITLES, (0.4, np.nan, np.nan)),
    }
    figure = plots.plot_methods(measures, TITLES, without={"Dice": {"raw patches": 0.25}}, title="a title")
    left, right = figure.axes
    assert [label.get_text() for label in left.get_yticklabels()] == list(TITLES.values())
    assert (left.get_title(), right.get_title()) == ("Dice", "lungs")
    drawn = [(*line.get_xdata(), *line.get_ydata()) for line in left.lines]
    assert (0.1, 0.3, 0, 0) in drawn and (0.5, 2) in drawn and (0.4, 1) not in drawn
    assert (0.25, 0.25, 0, 1) in drawn and not [line for line in right.lines if tuple(line.get_xdata()) == (0.25, 0.25)]
    assert [(*line.get_xdata(), *line.get_ydata()) for line in right.lines].count((0.4, 1)) == 1
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["raw patches"]


def test_more_measures_than_columns_go_on_below():
    measures = {str(number): {"s2dc": (number, number, number)} for number in range(3)}
    figure = plots.plot_methods(measures, TITLES, columns=2)
    shown = [axis for axis in figure.axes if axis.axison]
    assert len(figure.axes) == 4 and [axis.get_title() for axis in shown] == ["0", "1", "2"]
    assert [bool(axis.get_yticklabels()[0].get_text()) for axis in shown] == [True, False, True]
    assert not figure.legends


def test_inputs_are_middle_slices_with_their_words():
    volume = torch.arange(27.0).reshape(3, 3, 3)
    figure = plots.plot_inputs({"VoCo": [("base crop", volume), ("crop", volume + 1)], "S2DC": [("region", volume)]})
    first, second, third, spare = figure.axes
    assert (first.get_ylabel(), first.get_xlabel(), second.get_xlabel()) == ("VoCo", "base crop", "crop")
    assert np.allclose(first.images[0].get_array(), volume[..., 1].T) and third.get_ylabel() == "S2DC"
    assert not spare.axison


def test_two_scores_are_of_methods_that_have_both():
    across, up = {"voco": 83.9, "s2dc": 84.1, "rot": 81.2}, {"voco": (0.5, 0.4, 0.6), "s2dc": (0.7, 0.6, 0.8)}
    figure = plots.plot_two_scores(across, up, TITLES, ("the paper", "here"), "a title")
    (axis,) = figure.axes
    assert {text.get_text() for text in axis.texts} == {"VoCo", "S2DC"}
    points = [line.get_xydata()[0].tolist() for line in axis.lines if len(line.get_xdata()) == 1]
    assert points == [pytest.approx([83.9, 0.5]), pytest.approx([84.1, 0.7])]
    assert axis.get_xlabel() == "the paper"


def test_names_of_close_points_do_not_cross_nor_do_their_lines():
    """As many as the paper's table has rows, most of them within a tenth of the panel."""
    names = {str(number): f"method {number}" for number in range(18)}
    across = {name: 1 + 0.001 * number for number, name in enumerate(names)} | {"0": 0}
    up = {name: (0.5 + 0.002 * number, 0.4, 0.6) for number, name in enumerate(names)}
    figure = plots.plot_two_scores(across, up, names, ("a", "b"))
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    (axis,) = figure.axes
    for text in axis.texts:
        text.update_positions(canvas.get_renderer())
    boxes = [Text.get_window_extent(text) for text in axis.texts]  # without their lines
    assert all(box.count_overlaps(boxes) == 1 for box in boxes)
    assert [text.get_text() for text in axis.texts] == list(names.values())
    assert all(one.y0 < other.y0 for one, other in zip(boxes, boxes[1:], strict=False))
    assert boxes[-1].y1 < figure.bbox.y1 and boxes[0].x0 > axis.get_window_extent().x1
