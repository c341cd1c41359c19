"""Variance and covariance of a batch: against torch's, and what so few rows mean."""

import math

import pytest
import torch
from torch.nn import functional as F

from s2dc_core.methods.parts.spread import covariance_floor, spread


def wave(shift, step, *shape):
    return torch.sin(shift + step * torch.arange(math.prod(shape), dtype=torch.float64)).view(shape)


def by_hand(rows):
    """v and c of B rows, from torch's covariance."""
    C = torch.cov(rows.T)
    deviations = (C.diagonal() + 1e-4).sqrt()
    off = C - C.diag().diag()
    return torch.stack([F.relu(1 - deviations).mean(), off.square().sum() / rows.shape[1]])


@pytest.mark.parametrize(("rows", "features"), [(8, 5), (5, 8), (2, 3)])
def test_variance_and_covariance_are_those_of_each_rank(rows, features):
    many = wave(0.3, 1.1, rows, 3, features)
    expected = torch.stack([by_hand(many[:, rank]) for rank in range(3)], 1)
    torch.testing.assert_close(torch.stack(spread(many)), expected, atol=1e-12, rtol=1e-9)


def tightest(rows, features):
    """Rows of unit variances whose covariance has B - 1 equal eigenvalues."""
    basis = torch.linalg.qr(torch.eye(rows, dtype=torch.float64) - 1 / rows).Q[:, : rows - 1]
    return (rows - 1) ** 0.5 * basis.repeat(1, features // (rows - 1))


def test_what_eight_rows_cannot_fall_below():
    """The bound is reached, and no other rows of unit variances come below it."""
    assert covariance_floor(8, 256) == pytest.approx(35.5714285714) and covariance_floor(512, 8192) < 15.1
    assert covariance_floor(9, 8) == 0
    floor, rows = covariance_floor(8, 28), tightest(8, 28)
    torch.testing.assert_close(rows.var(0), torch.ones(28, dtype=torch.float64))
    assert spread(rows[:, None])[1].item() == pytest.approx(floor)
    for seed in range(5):
        other = torch.randn(8, 28, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        assert spread((other / other.std(0))[:, None])[1].item() > floor
    assert torch.linalg.matrix_rank(torch.cov(other.T)) == 7


def test_with_eight_rows_deviations_of_one_are_not_the_best():
    rows, scales = tightest(8, 259), torch.linspace(0.3, 1.1, 161, dtype=torch.float64)
    v, c = spread(scales[:, None] * rows[:, None])
    best = scales[(25 * v + c).argmin()].item()
    assert best == pytest.approx((25 / 4 / covariance_floor(8, 259)) ** (1 / 3), abs=0.005) and 0.55 < best < 0.57


def test_at_collapse_there_is_no_spread_and_a_gradient_that_is_a_number():
    """1 - 0.01; without what is added within the root the gradient would be NaN."""
    alike = torch.ones(4, 1, 6, dtype=torch.float64, requires_grad=True)
    v, c = spread(alike)
    assert v.item() == pytest.approx(0.99, abs=1e-12) and c.item() == 0
    (v + c).sum().backward()
    assert torch.isfinite(alike.grad).all()


def test_one_row_has_no_variance():
    with pytest.raises(ValueError, match="no variance over a batch of one sub-volume: use a larger batch"):
        spread(torch.ones(1, 2, 3))
