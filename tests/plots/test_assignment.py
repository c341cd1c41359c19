"""The figures of lesson 02 draw what they are given."""

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from s2dc_core.matching import log_dual_softmax
from s2dc_core.plots import assignment


def texts(ax):
    return [text.get_text() for text in ax.texts]


def line(ax, label):
    (found,) = [line for line in ax.get_lines() if line.get_label() == label]
    return found


def test_matched_pair_frames_the_token_round_its_centre():
    volume, centre = torch.rand(12, 12, 12), (5.5, 5.5, 5.5)
    views = {"V": (volume, centre, centre), "V'": (volume, centre, torch.tensor([6.0, 5.0, 5.5]))}
    figure = assignment.plot_matched_pair(views, np.diag([2.0, 2.0, 2.0, 1.0]), (4, 4, 4))
    assert isinstance(figure, Figure) and [ax.get_title() for ax in figure.axes] == ["V", "V'"]
    for ax in figure.axes:
        (frame,) = ax.patches
        assert (abs(frame.get_width()), abs(frame.get_height())) == pytest.approx((8, 8))
        assert frame.get_x() + frame.get_width() / 2 == pytest.approx(11)


def test_assignment_maps_show_values_and_true_pairs_and_share_the_range_of_logarithms():
    cosine = torch.linspace(-1, 1, 20).reshape(4, 5)
    maps = {"cosine": cosine, "log": log_dual_softmax(cosine, 0.5), "another log": log_dual_softmax(cosine, 5.0)}
    source, target = torch.tensor([0, 2]), torch.tensor([1, 4])
    figure = assignment.plot_assignment_maps(maps, source, target, ["log", "another log"])
    plain, logarithmic, another = [ax for ax in figure.axes if ax.get_xlabel()]
    np.testing.assert_array_equal(plain.get_lines()[0].get_xydata(), [[1, 0], [4, 2]])
    np.testing.assert_allclose(plain.images[0].get_array(), cosine)
    np.testing.assert_allclose(logarithmic.images[0].get_array(), maps["log"] / np.log(10), rtol=1e-6)
    low, high = logarithmic.images[0].get_clim()
    assert high - low == pytest.approx(assignment.DECADES) and another.images[0].get_clim() == (low, high)


def test_numbered_matrices_writes_each_number_and_frames_the_best():
    values = torch.tensor([[0.1, 0.9], [0.2, 0.3]])
    figure = assignment.plot_numbered_matrices({"rows": values, "columns": values}, by_column=["columns"])
    rows, columns = figure.axes
    assert texts(rows) == texts(columns) == ["0.10", "0.90", "0.20", "0.30"]
    corners = [[(round(p.get_x() + 0.46), round(p.get_y() + 0.46)) for p in ax.patches] for ax in (rows, columns)]
    assert corners == [[(1, 0), (1, 1)], [(0, 1), (1, 0)]]  # (column, row)


def test_marginals_sorts_the_row_sums():
    figure = assignment.plot_marginals({"dual-softmax": torch.tensor([0.3, 0.1, 0.2])}, {1: 0.5, 10: 0.01})
    left, right = figure.axes
    np.testing.assert_allclose(line(left, "dual-softmax").get_ydata(), [0.1, 0.2, 0.3], rtol=1e-6)
    np.testing.assert_allclose(right.get_lines()[0].get_xydata(), [[1, 0.5], [10, 0.01]])


def test_gains_are_drawn_in_points_on_one_scale():
    gains = {"hard": {"Sinkhorn": {1: (0.1, 0.08, 0.13), 100: (0.2, 0.1, 0.3)}}, "easy": {"Sinkhorn": {1: (0, 0, 0)}}}
    figure = assignment.plot_gain_by_iterations(gains, "the dual-softmax")
    (bars, *_), _ = figure.axes[0].containers, figure.axes
    np.testing.assert_allclose(bars.lines[0].get_xydata(), [[1, 10], [100, 20]])
    segments = [segment[:, 1].tolist() for segment in bars.lines[2][0].get_segments()]
    np.testing.assert_allclose(segments, [[8, 13], [10, 30]])
    assert figure.axes[0].get_ylim() == figure.axes[1].get_ylim()
    assert "points" in figure.axes[0].get_ylabel() and "dual-softmax" in figure.axes[0].get_ylabel()


def test_quality_against_temperature_draws_each_operator():
    values = {"dual-softmax": [(0.9, 0.8, 1.0), (0.4, 0.3, 0.5)]}
    figure = assignment.plot_quality_against_temperature([0.1, 1], {"hard": values, "easy": {}})
    np.testing.assert_allclose(line(figure.axes[0], "dual-softmax").get_xydata(), [[0.1, 0.9], [1, 0.4]])
    assert len(figure.axes) == 2 and len(figure.axes[0].collections) == 1


def test_training_curves_shows_means_and_leaves_step_0_out_of_the_logarithm():
    accuracy = {"dual-softmax": torch.tensor([[0.0, 0.2, 0.6], [0.2, 0.4, 0.8]])}
    left, right = assignment.plot_training_curves([0, 10, 20], accuracy, {"dual-softmax": 100}).axes
    np.testing.assert_allclose(line(left, "dual-softmax").get_xydata(), [[0, 0.1], [10, 0.3], [20, 0.7]], rtol=1e-6)
    np.testing.assert_allclose(line(right, "dual-softmax").get_xydata(), [[1, 0.3], [2, 0.7]], rtol=1e-6)


def test_loss_against_temperature_names_its_lines():
    tau, pulls = torch.tensor([0.1, 1.0]), {"pull": ([0.1, 0.2], [3.0, 1.0])}
    figure = assignment.plot_loss_against_temperature(tau, {"floor": tau * 8}, pulls, {"ours": 0.1})
    loss, pull = figure.axes
    np.testing.assert_allclose(line(loss, "floor").get_ydata(), [0.8, 8], rtol=1e-6)
    np.testing.assert_allclose(line(pull, "pull").get_xydata(), [[0.1, 3], [0.2, 1]])
    assert [text.strip() for text in texts(loss)] == ["floor", "ours"] and texts(pull) == ["pull"]
