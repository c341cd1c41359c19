"""NT-Xent, in-batch cross-entropy, SupCon: values computed elsewhere, closed forms, loops, MONAI, rows of a part."""

import math

import pytest
import torch
from monai.losses import ContrastiveLoss
from torch.nn import functional as F

from s2dc_core.methods.parts.contrast import (
    EPSILON,
    cosines,
    in_batch_cross_entropy,
    mean_of_exponentials,
    noise_contrast,
    nt_xent,
    supervised_contrast,
)
from s2dc_core.methods.parts.rows import Rows
from tests.methods.series import series

A, B, C, D = (series(4, 5, shift=shift) for shift in range(4))
ROWS, SOURCE = series(16, 4), torch.arange(16) % 2


@pytest.mark.parametrize(("temperature", "expected"), [(0.5, 0.8997895216), (0.1, 0.0247676445)])
def test_nt_xent_has_the_value_of_its_equation(temperature, expected):
    assert nt_xent(A, B, temperature).mean().item() == pytest.approx(expected, abs=1e-10)
    assert nt_xent(B, A, temperature).mean().item() == pytest.approx(expected, abs=1e-10)
    assert nt_xent(3 * A, 0.2 * B, temperature).mean().item() == pytest.approx(expected, abs=1e-10)


def test_nt_xent_of_other_arrays():
    """Those of the Swin-UNETR reference: sin(4n + c + 1) and cos((4n + c) / 2)."""
    k = torch.arange(12, dtype=torch.float64).view(3, 4)
    for temperature, expected in ((0.5, 2.1359584202), (0.2, 4.6429453843)):
        found = nt_xent((k + 1).sin(), (k / 2).cos(), temperature).mean().item()
        assert found == pytest.approx(expected, abs=1e-10)


def test_its_gradient_has_the_value_of_its_equation():
    a = A.clone().requires_grad_()
    nt_xent(a, B, 0.5).mean().backward()
    expected = [-0.1178114541, -0.1328397538, -0.0309615296, 0.0614768990, 0.0439353289]
    assert a.grad[0].tolist() == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_nt_xent_is_monais_and_a_loop(temperature):
    found = nt_xent(A, B, temperature)
    # MONAI holds its temperature in float32.
    assert found.mean().item() == pytest.approx(ContrastiveLoss(temperature)(A, B).item(), rel=1e-7)
    rows = [row / row.norm() for row in (*A, *B)]
    for n in range(4):
        value = 0.0
        for u, partner in ((n, n + 4), (n + 4, n)):
            shares = [math.exp(float(rows[u] @ rows[v]) / temperature) for v in range(8) if v != u]
            value += (math.log(sum(shares)) - float(rows[u] @ rows[partner]) / temperature) / 2
        assert found[n].item() == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize(("pairs", "expected"), [(4, 1.9459101491), (8, 2.7080502011)])
def test_collapse_leaves_chance(pairs, expected):
    """ln(2N - 1), and ln N."""
    alike = torch.ones(pairs, 3, dtype=torch.float64)
    for rows in (alike, 0 * alike):
        assert nt_xent(rows, rows, 0.3).tolist() == pytest.approx([expected] * pairs, abs=1e-9)
        assert in_batch_cross_entropy(rows, rows, 0.3).tolist() == pytest.approx([math.log(pairs)] * pairs, abs=1e-9)


def test_pairs_at_right_angles():
    rows = torch.eye(4, dtype=torch.float64)
    assert nt_xent(rows, rows, 0.5).mean().item() == pytest.approx(0.5944376642, abs=1e-10)
    found = in_batch_cross_entropy(rows, rows, 0.2).mean().item()
    assert found == pytest.approx(math.log(1 + 3 * math.exp(-5)), abs=1e-10)
    assert nt_xent(torch.eye(2), torch.eye(2), 0.5).mean().item() == pytest.approx(0.2395447662, abs=1e-6)


@pytest.mark.parametrize(("query", "key", "expected"), [(A, D, 8.0260021978), (B, C, 0.7458402138)])
def test_the_cross_entropy_has_the_value_of_its_equation(query, key, expected):
    """q1, q2, k1, k2 = A(0), A(1), A(2), A(3)."""
    found = in_batch_cross_entropy(query, key, 0.2)
    assert found.mean().item() == pytest.approx(expected, abs=1e-10)
    unit = [[row / row.norm() for row in rows] for rows in (query, key)]
    for i in range(4):
        shares = [math.exp(float(unit[0][i] @ each) / 0.2) for each in unit[1]]
        assert found[i].item() == pytest.approx(-math.log(shares[i] / sum(shares)), abs=1e-12)


def test_a_part_of_a_batch_has_its_share():
    """Given the rows of all, a process's rows have the values that they have in the whole batch."""
    whole = nt_xent(A, B, 0.5), in_batch_cross_entropy(A, B, 0.2)
    for first, some in ((0, slice(0, 1)), (1, slice(1, 4))):
        own = nt_xent(A[some], B[some], 0.5, Rows(A, first), Rows(B, first))
        torch.testing.assert_close(own, whole[0][some], atol=1e-12, rtol=0)
        own = in_batch_cross_entropy(A[some], B[some], 0.2, Rows(B, first))
        torch.testing.assert_close(own, whole[1][some], atol=1e-12, rtol=0)
    assert not torch.allclose(nt_xent(A[:2], B[:2], 0.5), whole[0][:2])


@pytest.mark.parametrize(("temperature", "expected"), [(0.3, 3.9003149686), (0.07, 12.6999616130)])
def test_supcon_has_the_value_of_its_equation(temperature, expected):
    assert supervised_contrast(ROWS, SOURCE, temperature).mean().item() == pytest.approx(expected, abs=1e-9)
    mixing = (5 * torch.arange(16) + 3) % 16
    mixed = supervised_contrast(ROWS[mixing], SOURCE[mixing], temperature)
    assert mixed.mean().item() == pytest.approx(expected, abs=1e-9)


def test_supcon_is_that_of_a_loop():
    unit = [row / row.norm() for row in ROWS]
    found = supervised_contrast(ROWS, SOURCE, 0.3)
    for c in range(16):
        others = [v for v in range(16) if v != c]
        total = sum(math.exp(float(unit[c] @ unit[v]) / 0.3) for v in others)
        same = [v for v in others if SOURCE[v] == SOURCE[c]]
        value = sum(math.log(total) - float(unit[c] @ unit[p]) / 0.3 for p in same) / len(same)
        assert found[c].item() == pytest.approx(value, abs=1e-12)


def test_a_part_of_a_batch_has_its_share_of_supcon():
    whole = supervised_contrast(ROWS, SOURCE, 0.3)
    for first, some in ((0, slice(0, 5)), (5, slice(5, 16))):
        own = supervised_contrast(ROWS[some], SOURCE, 0.3, Rows(ROWS, first))
        torch.testing.assert_close(own, whole[some], atol=1e-12, rtol=0)


def test_collapse_and_perfect_clusters():
    alike = torch.ones(16, 4, dtype=torch.float64)
    found = supervised_contrast(alike, SOURCE, 0.3).mean().item() * 0.3 / 0.07
    assert found == pytest.approx(11.6059294333, abs=1e-9)
    clusters = F.one_hot(SOURCE).double()
    assert supervised_contrast(clusters, SOURCE, 0.3).mean().item() == pytest.approx(1.9858712401, abs=1e-9)
    rows = alike.clone().requires_grad_()
    supervised_contrast(rows, SOURCE, 0.3).sum().backward()
    assert torch.isfinite(rows.grad).all()


def test_a_batch_of_one_is_refused():
    for loss in (nt_xent, in_batch_cross_entropy):
        with pytest.raises(ValueError, match="the others of its batch, and there is none: use a larger batch"):
            loss(A[:1], B[:1], 0.5)


def test_half_precision_does_not_round_the_cosines():
    a, b = A.float(), B.float()
    with torch.autocast("cpu", torch.bfloat16):
        assert cosines(a, b).dtype == torch.float32
        assert torch.equal(nt_xent(a, b, 0.1), _outside(nt_xent, a, b))
        assert torch.equal(in_batch_cross_entropy(a, b, 0.1), _outside(in_batch_cross_entropy, a, b))


def _outside(loss, a, b):
    with torch.autocast("cpu", enabled=False):
        return loss(a, b, 0.1)


def double(rows):
    return torch.tensor(rows, dtype=torch.float64)


QUERY, KEY = double([[0.6, 0.8], [1, 0]]), double([[0.8, 0.6], [0.6, -0.8]])
MEMORY = double([[0, 1], [-1, 0], [0.28, 0.96]])


def test_noise_contrast_has_the_value_of_its_equation():
    """With 270, to which a whole number cuts the constant, it is another."""
    Z = 7 * mean_of_exponentials(QUERY, KEY, MEMORY, 0.2).mean()
    assert Z.item() == pytest.approx(270.4414142751, abs=1e-9)
    assert noise_contrast(QUERY, KEY, MEMORY, 0.2, Z, 7).mean().item() == pytest.approx(1.8347078041, abs=1e-9)
    assert noise_contrast(QUERY, KEY, MEMORY, 0.2, 270, 7).mean().item() == pytest.approx(1.8343035832, abs=1e-9)


def test_noise_contrast_is_that_of_loops():
    Z, M, n = 31.5, len(MEMORY), 11
    for q, k, found in zip(QUERY, KEY, noise_contrast(QUERY, KEY, MEMORY, 0.3, Z, n), strict=True):
        own = math.exp(float(q @ k) / 0.3) / Z
        expected = -math.log(own / (own + M / n + EPSILON))
        for m in MEMORY:
            other = math.exp(float(q @ m) / 0.3) / Z
            expected -= math.log((M / n) / (other + M / n + EPSILON))
        assert found.item() == pytest.approx(expected, abs=1e-12)


def test_noise_contrast_at_right_angles_is_chance():
    """log(1 + M) + M log(1 + 1 / M), but for epsilon."""
    rows = torch.eye(6, dtype=torch.float64)
    Z = 100 * mean_of_exponentials(rows[:1], rows[1:2], rows[2:], 0.2).mean()
    assert Z.item() == pytest.approx(100)
    found = noise_contrast(rows[:1], rows[1:2], rows[2:], 0.2, Z, 100).item()
    assert found == pytest.approx(math.log(5) + 4 * math.log(5 / 4), abs=2e-3)


def test_the_number_of_samples_drops_out_but_for_epsilon():
    values = []
    for samples in (1, 100):
        Z = samples * mean_of_exponentials(QUERY, KEY, MEMORY, 0.2).mean()
        values.append(noise_contrast(QUERY, KEY, MEMORY, 0.2, Z, samples).mean().item())
    assert values[0] == pytest.approx(values[1], abs=2e-3) and values[0] != values[1]
