"""Matching: equations 4 and 6, Sinkhorn, and the statistics that the losses read."""

import math

import numpy as np
import ot
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from s2dc_core.geometry import Matches
from s2dc_core.matching import (
    dual_softmax,
    log_dual_softmax,
    match_statistics,
    sharpe_ratio,
    similarity_matrix,
    sinkhorn,
    unit_length,
)
from s2dc_core.options import whole_numbers


def tokens(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(*shape, generator=generator, dtype=torch.float64), dim=-1)


def index_matches(*pairs):
    return Matches(*torch.tensor(pairs, dtype=torch.long).reshape(-1, 3).T)


def test_dual_softmax_equals_the_naive_loop():
    """Implements Eq. (4) entry by entry."""
    similarity = similarity_matrix(tokens(5, 4), tokens(3, 4, seed=1))
    confidence = dual_softmax(similarity, temperature=0.3)
    for i in range(5):
        for j in range(3):
            row = sum(math.exp(similarity[i, k] / 0.3) for k in range(3))
            column = sum(math.exp(similarity[k, j] / 0.3) for k in range(5))
            assert confidence[i, j].item() == pytest.approx(math.exp(similarity[i, j] / 0.3) ** 2 / (row * column))


def test_log_dual_softmax_is_the_log_and_survives_where_the_product_underflows():
    similarity = similarity_matrix(tokens(6, 4), tokens(6, 4, seed=1))
    torch.testing.assert_close(log_dual_softmax(similarity, 0.1).exp(), dual_softmax(similarity, 0.1))
    cold = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
    assert dual_softmax(cold, 0.005)[0, 1] == 0
    assert log_dual_softmax(cold, 0.005)[0, 1].item() == pytest.approx(-800.0)


@pytest.mark.parametrize("n", [1, 2, 144])
def test_dual_softmax_of_equal_tokens_is_uniform(n):
    confidence = dual_softmax(torch.ones(n, n, dtype=torch.float64), 0.1)
    torch.testing.assert_close(confidence, torch.full_like(confidence, 1 / n**2))


@given(st.integers(1, 7), st.integers(1, 7), st.floats(0.05, 5), st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_dual_softmax_ignores_the_order_of_tokens_and_mirrors_its_arguments(n, m, temperature, seed):
    generator = torch.Generator().manual_seed(seed)
    similarity = torch.rand(n, m, generator=generator, dtype=torch.float64) * 2 - 1
    rows, columns = torch.randperm(n, generator=generator), torch.randperm(m, generator=generator)
    confidence = dual_softmax(similarity, temperature)
    torch.testing.assert_close(dual_softmax(similarity[rows][:, columns], temperature), confidence[rows][:, columns])
    torch.testing.assert_close(dual_softmax(similarity.T, temperature), confidence.T)
    assert (confidence <= 1 + 1e-12).all() and confidence.sum() <= min(n, m) + 1e-9


def test_sinkhorn_marginals_without_dustbin():
    """Rows sum to 1, columns to N / M."""
    plan = sinkhorn(similarity_matrix(tokens(2, 6, 4), tokens(2, 9, 4, seed=1)), 300, temperature=0.2).exp()
    torch.testing.assert_close(plan.sum(-1), torch.ones(2, 6, dtype=torch.float64))
    torch.testing.assert_close(plan.sum(-2), torch.full((2, 9), 6 / 9, dtype=torch.float64))


def test_sinkhorn_marginals_with_dustbin():
    """SuperGlue's scaling: mass 1 a token, M in the dustbin's row, N in its column."""
    plan = sinkhorn(similarity_matrix(tokens(6, 4), tokens(9, 4, seed=1)), 500, dustbin=0.4, temperature=0.2).exp()
    one = torch.ones(9, dtype=torch.float64)
    torch.testing.assert_close(plan.sum(-1), torch.cat([one[:6], 9 * one[:1]]))
    torch.testing.assert_close(plan.sum(-2), torch.cat([one, 6 * one[:1]]))


@pytest.mark.parametrize(("n", "m"), [(1, 1), (5, 5), (4, 7)])
def test_sinkhorn_equals_pot(n, m):
    """Reference values: POT's solver on the cost -M_t, which scales the plan to mass 1."""
    similarity = similarity_matrix(tokens(n, 8), tokens(m, 8, seed=1))
    uniform = (torch.full((k,), 1 / k, dtype=torch.float64).numpy() for k in (n, m))
    expected = ot.sinkhorn(*uniform, -similarity.numpy(), reg=0.3, numItermax=5000, stopThr=1e-14)
    torch.testing.assert_close(sinkhorn(similarity, 1000, temperature=0.3).exp() / n, torch.as_tensor(expected))


def test_sinkhorn_equals_the_naive_loop_with_a_trained_dustbin():
    similarity = similarity_matrix(tokens(3, 4), tokens(4, 4, seed=1))
    dustbin = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    kernel = torch.full((4, 5), math.exp(0.7 / 0.5), dtype=torch.float64)
    kernel[:3, :4] = (similarity / 0.5).exp()
    rows, columns = [1.0] * 3 + [4.0], [1.0] * 4 + [3.0]
    for _ in range(20):
        for i in range(4):
            kernel[i] *= rows[i] / kernel[i].sum()
        for j in range(5):
            kernel[:, j] *= columns[j] / kernel[:, j].sum()
    plan = sinkhorn(similarity, 20, dustbin, temperature=0.5)
    torch.testing.assert_close(plan.exp(), kernel)
    assert torch.autograd.grad(plan[0, 0], dustbin)[0] != 0


def test_one_sinkhorn_iteration_needs_no_second_to_keep_a_doubly_stochastic_matrix():
    plan = torch.tensor([[0.7, 0.3], [0.3, 0.7]], dtype=torch.float64)
    torch.testing.assert_close(sinkhorn(plan.log(), iterations=1).exp(), plan)


def test_sharpe_ratio_equals_the_naive_loop():
    """Implements Eq. (6) with both readings of sigma, unbiased."""
    for row in tokens(4, 9):
        mean = sum(row) / 9
        variance = sum((x - mean) ** 2 for x in row) / 8
        torch.testing.assert_close(sharpe_ratio(row), (max(row) - mean) / variance**0.5)
        torch.testing.assert_close(sharpe_ratio(row, dispersion="variance"), (max(row) - mean) / variance)


def test_sharpe_ratio_of_one_peak_in_closed_form():
    """One 1 among n - 1 zeros: mean 1/n, unbiased variance 1/n, so the ratio is (n - 1) / sqrt(n)."""
    for n in (2, 10, 144):
        peak = F.one_hot(torch.tensor(3 % n), n).double()
        assert sharpe_ratio(peak).item() == pytest.approx((n - 1) / math.sqrt(n))
        assert sharpe_ratio(peak, dispersion="variance").item() == pytest.approx(n - 1)


def test_sharpe_ratio_falls_as_peaks_multiply():
    ratios = [sharpe_ratio(torch.cat([torch.ones(k), torch.zeros(100 - k)])).item() for k in (1, 2, 5, 20, 50)]
    assert ratios == sorted(ratios, reverse=True)


@pytest.mark.parametrize("dispersion", ["std", "variance"])
@pytest.mark.parametrize("value", [0.0, 0.3, -1.0])
def test_sharpe_ratio_of_a_constant_is_zero_with_a_finite_gradient(dispersion, value):
    constant = torch.full((2, 7), value, requires_grad=True)
    ratio = sharpe_ratio(constant, dispersion=dispersion)
    ratio.sum().backward()
    assert ratio.eq(0).all() and constant.grad.eq(0).all()
    assert sharpe_ratio(torch.tensor([value]), dispersion=dispersion) == 0


def test_sharpe_ratio_of_nan_stays_visible():
    assert sharpe_ratio(torch.tensor([1.0, math.nan, 2.0])).isnan()


def test_sharpe_ratio_of_small_but_real_differences_is_kept():
    """Cosines of a nearly collapsed encoder differ by 1e-4; that is far above rounding and must count."""
    D = 0.5 + 1e-4 * tokens(1, 50)
    torch.testing.assert_close(sharpe_ratio(D), sharpe_ratio(tokens(1, 50)))


def test_sharpe_ratio_and_scale():
    """With std it does not change when D is scaled; with the variance, cosines against (1 + cos) / 2 differ by 2."""
    D = tokens(3, 20)
    torch.testing.assert_close(sharpe_ratio((1 + D) / 2), sharpe_ratio(D))
    torch.testing.assert_close(
        sharpe_ratio((1 + D) / 2, dispersion="variance"), 2 * sharpe_ratio(D, dispersion="variance")
    )


@pytest.mark.parametrize("assignment", ["dual_softmax", "sinkhorn"])
def test_match_statistics_are_those_of_the_single_functions(assignment):
    student, teacher = tokens(2, 5, 4), tokens(2, 6, 4, seed=1)
    matches = index_matches((0, 0, 3), (0, 4, 5), (1, 2, 2))
    statistics = match_statistics(student, teacher, matches, 0.2, dispersion="variance", assignment=assignment)
    similarity = similarity_matrix(student, teacher)
    plan = sinkhorn(similarity, temperature=0.2) if assignment == "sinkhorn" else log_dual_softmax(similarity, 0.2)
    torch.testing.assert_close(statistics.log_confidence, plan[tuple(matches)])
    torch.testing.assert_close(statistics.similarity, similarity[tuple(matches)])
    torch.testing.assert_close(statistics.source_ratio, sharpe_ratio(similarity, -1, "variance"))
    torch.testing.assert_close(statistics.target_ratio, sharpe_ratio(similarity, -2, "variance"))


def test_mean_and_variance_of_a_row_need_no_matrix():
    """mean D_n = t_n . mean t' and var D_n = t_n^T Cov(t') t_n, what a matrix-free form builds on."""
    student, teacher = tokens(5, 4), tokens(30, 4, seed=1)
    similarity = similarity_matrix(student, teacher)
    torch.testing.assert_close(similarity.mean(-1), student @ teacher.mean(0))
    torch.testing.assert_close(similarity.var(-1), torch.einsum("ni,ij,nj->n", student, teacher.T.cov(), student))


def test_match_statistics_gradcheck():
    student, teacher = tokens(1, 4, 3).requires_grad_(), tokens(1, 5, 3, seed=1).requires_grad_()
    matches = index_matches((0, 0, 0), (0, 2, 4), (0, 2, 1))
    assert torch.autograd.gradcheck(lambda s, t: match_statistics(s, t, matches, 0.5), (student, teacher))


def test_bad_input_is_named():
    student = tokens(1, 4, 3)
    with pytest.raises(ValueError, match="unknown backend 'sparse': choose one of auto, dense"):
        match_statistics(student, student, index_matches(), backend="sparse")
    with pytest.raises(ValueError, match="unknown assignment 'greedy'"):
        match_statistics(student, student, index_matches(), assignment="greedy")
    with pytest.raises(ValueError, match="unknown dispersion 'mad'"):
        sharpe_ratio(student, dispersion="mad")
    with pytest.raises(ValueError, match=r"matches.target runs from 9 to 9.*only 4"):
        match_statistics(student, student, index_matches((0, 0, 9)))
    with pytest.raises(ValueError, match="temperature must be positive, got 0"):
        dual_softmax(student, 0)


def test_unit_length_is_float32_whatever_comes():
    """bfloat16 lengths would run from 0.995 to 1.005."""
    vectors = 7 * torch.randn(500, 24, generator=torch.Generator().manual_seed(0)).bfloat16()
    vectors[3] = 0
    with torch.autocast("cpu", torch.bfloat16):
        unit = unit_length(vectors)
    assert unit.dtype == torch.float32 and unit[3].eq(0).all()
    lengths = unit.double().norm(dim=-1)
    assert (lengths[torch.arange(500) != 3] - 1).abs().max() < 1e-6
    torch.testing.assert_close(unit, F.normalize(vectors.double(), dim=-1).float())
    assert unit_length(vectors.double()).dtype == torch.float64


def test_whole_numbers_of_numpy_count_and_bools_and_floats_do_not():
    found = whole_numbers("levels", np.array([1, 2], dtype=np.uint8))
    assert found == (1, 2) and {type(value) for value in found} == {int}
    for bad in (True, np.True_, 1.0, np.float64(1), "1", None):
        with pytest.raises(ValueError, match="levels must hold whole numbers, got 2, "):
            whole_numbers("levels", [2, bad])
    with pytest.raises(ValueError, match="sizes must hold whole numbers from 1 up, got 0"):
        whole_numbers("sizes", [0], 1)
