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


def test_assignment_maps_shows_values_and_true_pairs():
    cosine = torch.linspace(-1, 1, 20).reshape(4, 5)
    maps = {"cosine": cosine, "log": log_dual_softmax(cosine, 0.5)}
    source, target = torch.tensor([0, 2]), torch.tensor([1, 4])
    figure = assignment.plot_assignment_maps(maps, source, target, ["log"], truth="truth")
    truth, plain, logarithmic = [ax for ax in figure.axes if ax.get_xlabel()]
    np.testing.assert_array_equal(truth.get_lines()[0].get_xydata(), [[1, 0], [4, 2]])
    np.testing.assert_allclose(plain.images[0].get_array(), cosine)
    np.testing.assert_allclose(logarithmic.images[0].get_array(), maps["log"] / np.log(10), rtol=1e-6)
    low, high = logarithmic.images[0].get_clim()
    assert high - low == pytest.approx(assignment.DECADES)


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


def test_mass_of_partners_counts_every_token_once():
    mass, partner = torch.tensor([0.1, 0.9, 1.0, 0.2]), torch.tensor([False, True, True, True])
    (ax,) = assignment.plot_mass_of_partners({"dual-softmax": (mass, partner)}).axes
    assert sum(patch.get_height() for patch in ax.patches) == 4


def test_quality_against_cost_draws_each_operator():
    cost = {("alone", 0): 0.0, ("dual-softmax", 0): 1.0, ("Sinkhorn", 1): 1.5, ("Sinkhorn", 100): 90.0}
    values = dict(zip(cost, (0.5, 0.7, 0.8, 0.9), strict=True))
    (ax,) = assignment.plot_quality_against_cost(cost, {"hard": values}).axes
    np.testing.assert_allclose(line(ax, "Sinkhorn").get_xydata(), [[1.5, 0.8], [90, 0.9]])
    np.testing.assert_allclose(line(ax, "dual-softmax").get_xydata(), [[1, 0.7]])
    assert set(line(ax, "alone").get_ydata()) == {0.5} and texts(ax) == ["1", "100"]


def test_quality_against_temperature_draws_each_operator():
    figure = assignment.plot_quality_against_temperature([0.1, 1], {"hard": {"dual-softmax": [0.9, 0.4]}, "easy": {}})
    np.testing.assert_allclose(line(figure.axes[0], "dual-softmax").get_xydata(), [[0.1, 0.9], [1, 0.4]])
    assert len(figure.axes) == 2


def test_training_curves_shows_means_and_leaves_step_0_out_of_the_logarithm():
    accuracy = {"dual-softmax": torch.tensor([[0.0, 0.2, 0.6], [0.2, 0.4, 0.8]])}
    left, right = assignment.plot_training_curves([0, 10, 20], accuracy, {"dual-softmax": 100}).axes
    np.testing.assert_allclose(line(left, "dual-softmax").get_xydata(), [[0, 0.1], [10, 0.3], [20, 0.7]], rtol=1e-6)
    np.testing.assert_allclose(line(right, "dual-softmax").get_xydata(), [[1, 0.3], [2, 0.7]], rtol=1e-6)


def test_loss_against_temperature_draws_curves_and_points():
    tau = torch.tensor([0.1, 1.0])
    points = {"measured": ([0.1], [2.0])}
    figure = assignment.plot_loss_against_temperature(tau, {"floor": tau * 8}, points, {"pull": ([0.1], [3.0])}, [0.1])
    loss, pull = figure.axes
    np.testing.assert_allclose(line(loss, "floor").get_ydata(), [0.8, 8], rtol=1e-6)
    np.testing.assert_allclose(line(loss, "measured").get_xydata(), [[0.1, 2]])
    np.testing.assert_allclose(line(pull, "pull").get_xydata(), [[0.1, 3]])


def test_clamped_confidences_draws_its_three_panels():
    lines = {"equal": ([100, 1000], [1e-4, 1e-7])}
    figure = assignment.plot_clamped_confidences(lines, {"a": ([100], [40.0])}, {"b": ([100], [0.9])}, 1e-6, [144])
    for ax, label, values in zip(figure.axes, ("equal", "a", "b"), ([1e-4, 1e-7], [40], [0.9]), strict=True):
        np.testing.assert_allclose(line(ax, label).get_ydata(), values)
    assert [text.strip() for text in texts(figure.axes[0])] == ["clamped", "144"]
