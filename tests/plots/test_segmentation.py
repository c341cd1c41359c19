"""What was missed and what was invented is marked where it is, on the slice that shows most organs."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from s2dc_core import plots
from s2dc_core.plots.colours import label_colour
from s2dc_core.plots.segmentation import errors_of, fullest_place

AFFINE = np.array([[0, 2.0, 0, -5], [2, 0, 0, 10], [0, 0, 2, 1], [0, 0, 0, 1]])  # its first axis runs to the front


def labels(shape=(10, 12, 14)):
    label = np.zeros(shape, int)
    label[2:5, 2:9, 3:6] = 1
    label[3, 2:5, 8:12] = 2
    label[7, :, :] = 1
    return label


def test_right_missed_and_invented_voxels_are_told_apart():
    truth, found = np.array([0, 0, 3, 3, 3]), np.array([0, 2, 3, 0, 2])
    assert errors_of(truth, found).tolist() == [0, -2, 3, -1, -2]


def test_the_slice_shows_most_labels_and_then_most_of_them():
    place = np.linalg.inv(AFFINE) @ [*fullest_place(labels(), AFFINE, "coronal"), 1]
    assert place[0] == pytest.approx(3), "two labels before many voxels of one"
    assert (np.linalg.inv(AFFINE) @ [*fullest_place(labels() == 1, AFFINE, "coronal"), 1])[0] == pytest.approx(7)
    with pytest.raises(ValueError, match="holds no label"):
        fullest_place(np.zeros((3, 3, 3)), np.eye(4), "axial")


def test_the_figure_paints_errors_white_and_black():
    truth = labels()
    found = truth.copy()
    found[3, 2:5, 8:12], found[3, 10, 12] = 0, 2
    case = plots.Segmented(np.zeros(truth.shape), AFFINE, truth, {"scratch": found}, {"scratch": "Dice 0.5"})
    figure = plots.plot_segmented({"body 1": case}, {1: "liver", 2: "spleen"}, title="message")
    left, right = figure.axes
    assert [left.get_title(), right.get_title(), right.get_xlabel()] == ["truth", "scratch", "Dice 0.5"]
    shown = right.images[1]
    drawn = shown.to_rgba(shown.get_array())[..., :3][np.isfinite(shown.get_array().filled(np.nan))]
    seen = {tuple(np.round(colour, 2)) for colour in drawn}
    assert seen == {tuple(np.round(to_rgb(colour), 2)) for colour in ("white", "black", label_colour(1))}
    assert {text.get_text() for text in left.texts} >= {"liver", "spleen"}
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["missed", "invented, or another organ's"]
