"""Figures of memory and cost: what is plotted is what was given, in the units of the axes."""

import numpy as np
import pytest
from matplotlib import pyplot as plt

from s2dc_core import plots


def test_memory_is_drawn_in_gigabytes():
    memory = {"dense": [1e9, 4e9], "streaming": [1e7, 2e7]}
    predicted = {"dense": ([100, 400], [1e9, 1.6e10]), "streaming": ([200, 400], [2e7, 4e7])}
    figure = plots.plot_memory_against_tokens([100, 200], memory, predicted, {"stride 8": 300}, {"a GPU": 8e9})
    points = {line.get_label(): line.get_xydata() for line in figure.axes[0].lines}
    np.testing.assert_allclose(points["dense: measured"], [(100, 1), (200, 4)])
    np.testing.assert_allclose(points["streaming: predicted"], [(200, 0.02), (400, 0.04)])
    assert {text.get_text() for text in figure.axes[0].texts} == {"stride 8", "a GPU"}
    plt.close(figure)


def test_each_way_has_its_seconds_and_its_megabytes():
    figure = plots.plot_cost_of_ways({"one": 0.5, "other": 20.0}, {"one": 3e6, "other": 4e8})
    seconds, memory = figure.axes
    assert [text.get_text() for text in seconds.get_yticklabels()] == ["one", "other"]
    assert [line.get_xdata()[0] for line in seconds.lines] == [0.5, 20.0]
    assert [line.get_xdata()[0] for line in memory.lines] == pytest.approx([3, 400])
    assert [text.get_text() for text in memory.texts] == ["3 MB", "400 MB"]
    plt.close(figure)
