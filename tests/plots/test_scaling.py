"""Figures of the clamp and of memory: what is plotted is what was given, in the units of the axes."""

import numpy as np
from matplotlib import pyplot as plt

from s2dc_core import plots
from s2dc_core.plots.scaling import bytes_in_words


def line(ax, label):
    (found,) = [line for line in ax.get_lines() if line.get_label() == label]
    return found


def test_memory_is_drawn_in_bytes_and_written_in_megabytes():
    memory = {"dense": [1e9, 4e9], "streaming": [1e7, 2e7]}
    extended = {"dense": ([100, 400], [1e9, 1.6e10]), "streaming": ([200, 400], [2e7, 4e7])}
    figure = plots.plot_memory_against_tokens([100, 200], memory, extended, {"stride 8": 300}, {"a GPU": 8e9})
    points = {line.get_label(): line.get_xydata() for line in figure.axes[0].lines}
    np.testing.assert_allclose(points["dense: measured"], [(100, 1e9), (200, 4e9)])
    np.testing.assert_allclose(points["streaming: extended"], [(200, 2e7), (400, 4e7)])
    assert {text.get_text().strip() for text in figure.axes[0].texts} == {"stride 8", "a GPU", "dense", "streaming"}
    assert [bytes_in_words(held) for held in (2e6, 4e9, 1.5e12)] == ["2 MB", "4 GB", "1.5 TB"]
    plt.close(figure)


def test_clamped_confidences_draws_its_three_panels():
    lines = {"equal": ([100, 1000], [1e-4, 1e-7])}
    clamped, pull = {"a": ([100, 300], [40.0, 50.0])}, {"b": ([200, 300], [0.9, 0.8])}
    figure = plots.plot_clamped_confidences(lines, clamped, pull, 1e-6, [144, 3456])
    for ax, label, values in zip(figure.axes, ("equal", "a", "b"), ([1e-4, 1e-7], [40, 50], [0.9, 0.8]), strict=True):
        np.testing.assert_allclose(line(ax, label).get_ydata(), values)
    marks = [[text.get_text().strip() for text in ax.texts] for ax in figure.axes]
    assert marks == [["clamped", "144"], ["144"], []], "a line stands only where the panel has points"
    plt.close(figure)
