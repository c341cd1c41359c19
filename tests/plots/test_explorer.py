"""The explorer's chart and its saved picture."""

import io

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from s2dc_core.plots import plot_anchor, plot_pictures


def test_the_chart_shows_the_cosines_and_the_organs_of_each_encoder():
    values = {"a": torch.linspace(-0.2, 1, 60).reshape(3, 4, 5), "b": torch.full((3, 4, 5), 0.5)}
    organs = {"a": {"liver": 0.9, "left_kidney": 0.1}, "b": {"liver": 0.2, "left_kidney": 0.6}}
    figure = plot_anchor(values, {"a": 1.5, "b": 0.25}, organs, "liver")
    left, right = figure.axes
    assert [text.get_text() for text in left.get_legend().get_texts()] == ["a: Sharpe 1.50", "b: Sharpe 0.25"]
    assert [text.get_text() for text in right.get_yticklabels()] == ["left kidney", "liver"]
    assert [text.get_fontweight() for text in right.get_yticklabels()] == ["normal", "bold"]
    heights = [patch.get_data().values for patch in left.patches]
    assert all(sum(found) == pytest.approx(1) for found in heights) and max(heights[1]) == 1


def test_without_organs_there_is_one_panel():
    assert len(plot_anchor({"a": torch.zeros(8)}, {"a": 0.0}, {"a": {}}).axes) == 1


def test_pictures_stand_side_by_side_in_their_own_pixels():
    shot = io.BytesIO()
    plt.imsave(shot, np.random.default_rng(0).random((40, 60, 3)), format="png")
    figure = plot_pictures({"one": shot.getvalue(), "two": shot.getvalue()}, "both")
    assert [axis.get_title() for axis in figure.axes] == ["one", "two"]
    assert figure.axes[0].images[0].get_array().shape[:2] == (40, 60)
