"""Figures of lesson 01: each draws the numbers that it was given."""

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from s2dc_core import plots
from s2dc_core.geometry import affine_about_centre, ground_truth_matches, token_centres

SHAPE, PATCH, GRID = (24, 24, 24), (4, 4, 4), (6, 6, 6)


@pytest.fixture(scope="module")
def volume():
    return torch.rand(SHAPE, generator=torch.Generator().manual_seed(0))


def boxes(axes):
    return [patch for patch in axes.patches if patch.get_gid() == "token"]


def test_matched_tokens_carry_the_same_number_on_both_sides(volume):
    H = affine_about_centre(SHAPE, (1, 1, 1), (0, 0, 10))
    matches = ground_truth_matches(H, GRID, PATCH)
    figure = plots.plot_matched_tokens(volume, volume, np.eye(4), PATCH, matches, ("axial", "coronal"), count=5)
    assert isinstance(figure, Figure) and len(figure.axes) == 4
    for axes in figure.axes:
        assert len(boxes(axes)) == 5
        assert {text.get_text()[0] for text in axes.texts} >= set("12345")


def test_a_token_is_drawn_where_it_lies_and_its_partner_where_it_went(volume):
    shift = torch.eye(4, dtype=torch.float64)
    shift[:3, 3] = torch.tensor([4.0, 0, 4])
    matches = ground_truth_matches(shift, GRID, PATCH)
    figure = plots.plot_matched_tokens(volume, volume, np.eye(4), PATCH, matches, planes=["axial"], count=3)
    for before, after in zip(*map(boxes, figure.axes), strict=True):
        assert (after.get_x() - before.get_x(), after.get_y() - before.get_y()) == pytest.approx((4, 0))
        assert abs(before.get_width()) == abs(before.get_height()) == pytest.approx(4)
    assert sum("(+1)" in text.get_text() for text in figure.axes[1].texts) == 3


def test_how_far_each_patch_went_is_drawn_in_its_own_layers(volume):
    shift = torch.eye(4, dtype=torch.float64)
    shift[2, 3] = 6  # one layer and a half, which is on the border: both are partners
    matches = ground_truth_matches(shift, GRID, PATCH)
    figure = plots.plot_matched_tokens(volume, volume, np.eye(4), PATCH, matches, count=3, H=shift)
    heights = [line.get_ydata()[0] for line in figure.axes[2].lines if line.get_marker() == "o"]
    assert heights == pytest.approx([1.5] * 3)


def test_matched_tokens_without_any_match(volume):
    far = torch.eye(4, dtype=torch.float64)
    far[0, 3] = 1000
    figure = plots.plot_matched_tokens(volume, volume, np.eye(4), PATCH, ground_truth_matches(far, GRID, PATCH), H=far)
    assert not any(boxes(axes) for axes in figure.axes)


def test_two_boxes_say_how_many_points_fall_in():
    figure = plots.plot_two_boxes(torch.eye(4, dtype=torch.float64), (5, 5, 1), PATCH, 12)
    left, right = figure.axes
    assert left.get_title().startswith("V: 1 of") and "box of 1 patch" in right.get_title()


def test_offsets_count_what_lies_outside_along_any_axis():
    inside, outside = torch.zeros(5, 3), torch.tensor([[0.0, 0, 0.7], [0.6, 0, 0], [0.1, 0, 0]])
    figure = plots.plot_offsets({"a": inside, "b": outside})
    assert [axes.get_title().split("\n")[1][:6] for axes in figure.axes] == ["0 of 5", "2 of 3"]


def test_wrong_shares_counts_every_draw():
    (axes,) = plots.plot_wrong_shares(torch.tensor([0.0, 0.1, 0.1, 0.9]), 0.275, (0.1, 0.5)).axes
    assert sum(bar.get_height() for bar in axes.patches[:20]) == 4
    assert "27.5 %" in axes.texts[0].get_text()


def test_arrows_keep_right_and_wrong_apart(volume):
    starts = token_centres((6, 6, 1), PATCH)[:, :2]
    wrong = torch.arange(36) < 10
    (axes,) = plots.plot_arrows(volume[0], starts, starts + 1, wrong, 4).axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["right: 26", "wrong: 10"]


def test_rotations_measure_the_stick_in_millimetres(volume):
    affine, stick = np.diag([1.0, 1.0, 5.0, 1.0]), torch.tensor([[2.0, 2, 2], [2, 5, 2]])
    figure = plots.plot_rotations({"a": volume, "b": volume}, affine, {"a": stick, "b": stick[:, [0, 2, 1]]})
    assert [axes.get_title() for axes in figure.axes] == ["a\nstick: 3 mm", "b\nstick: 15 mm"]


def test_equivariance_draws_a_line_per_motion():
    (axes,) = plots.plot_equivariance([0, 1], {"shift": [0.0, 0.4], "turn": [0.1, 0.9]}, [2, 4]).axes
    assert [list(line.get_ydata()) for line in axes.lines[1:]] == [[0.0, 0.4], [0.1, 0.9]]
    assert not [patch for patch in axes.patches if isinstance(patch, Rectangle)]
