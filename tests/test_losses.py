"""Losses: each equation against a naive loop, a closed form and, for the published form, the published values."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from s2dc_core.geometry import Matches
from s2dc_core.losses import PRESETS, S2DCLoss, info_nce, match_weights, patch_to_patch, patch_to_structure
from s2dc_core.matching import MatchStatistics, match_statistics
from s2dc_core.official import official_patch_to_patch, official_patch_to_structure

PUBLISHED = json.loads((Path(__file__).parent / "reference" / "published_loss_values.json").read_text())["cases"]


def tokens(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(*shape, generator=generator, dtype=torch.float64), dim=-1)


def index_matches(*pairs):
    return Matches(*torch.tensor(pairs, dtype=torch.long).reshape(-1, 3).T)


MATCHES = index_matches((0, 0, 1), (0, 3, 1), (0, 4, 4), (1, 2, 0))


def test_info_nce_equals_the_naive_loop():
    """Implements Eq. (1), with the temperature inside the exponential."""
    query, positive, negatives = tokens(3, 5), tokens(3, 5, seed=1), tokens(7, 5, seed=2)
    total = 0.0
    for q, p in zip(query, positive, strict=True):
        others = sum(math.exp(q @ n / 0.2) for n in negatives)
        total -= math.log(math.exp(q @ p / 0.2) / (math.exp(q @ p / 0.2) + others))
    assert info_nce(query, positive, negatives, 0.2).item() == pytest.approx(total / 3)


def test_info_nce_in_closed_form():
    """All alike: log(K + 1). No negatives: 0. Perfect positive against K orthogonal ones: log(1 + K e^(-1/t))."""
    same = torch.ones(2, 4, dtype=torch.float64) / 2
    assert info_nce(same, same, same.repeat(5, 1), 0.07).item() == pytest.approx(math.log(11))
    assert info_nce(same, same, same[:0], 0.07).item() == 0
    basis = torch.eye(6, dtype=torch.float64)
    loss = info_nce(basis[:1], basis[:1], basis[1:], 0.5)
    assert loss.item() == pytest.approx(math.log(1 + 5 * math.exp(-2)))


def naive_losses(student, teacher, matches, temperature, dispersion, normaliser):
    """Implements Eqs. (4) to (8) with scalars and loops only; no line is shared with the core."""
    student, teacher = student.tolist(), teacher.tolist()
    p2p, p2s = [], []
    for b, (source, target) in enumerate(zip(student, teacher, strict=True)):
        M = [[sum(x * y for x, y in zip(s, t, strict=True)) for t in target] for s in source]
        E = [[math.exp(m / temperature) for m in row] for row in M]
        columns = [sum(row[j] for row in E) for j in range(len(target))]

        def ratio(D):
            mean = sum(D) / len(D)
            variance = sum((d - mean) ** 2 for d in D) / (len(D) - 1)
            return (max(D) - mean) / (variance if dispersion == "variance" else math.sqrt(variance))

        def softmax(values):
            exps = [math.exp(v) for v in values]
            return [e / sum(exps) for e in exps]

        weight_source = softmax([ratio(row) for row in M])
        weight_target = softmax([ratio([row[j] for row in M]) for j in range(len(target))])
        pairs = [(i, j) for r, i, j in zip(*(index.tolist() for index in matches), strict=True) if r == b]
        losses = [-math.log(E[i][j] / sum(E[i]) * E[i][j] / columns[j]) for i, j in pairs]
        weights = [(weight_source[i] + weight_target[j]) / 2 for i, j in pairs]
        weighted = sum(w * x for w, x in zip(weights, losses, strict=True))
        p2p.append(sum(losses) / len(pairs))
        p2s.append(weighted / (sum(weights) if normaliser == "weights" else len(source) * len(target)))
    return sum(p2p) / len(p2p), sum(p2s) / len(p2s)


@pytest.mark.parametrize("temperature", [1.0, 0.1])
@pytest.mark.parametrize("dispersion", ["std", "variance"])
@pytest.mark.parametrize("normaliser", ["weights", "printed"])
def test_structure_losses_equal_the_naive_loop(temperature, dispersion, normaliser):
    student, teacher = tokens(2, 5, 4), tokens(2, 6, 4, seed=1)
    statistics = match_statistics(student, teacher, MATCHES, temperature, dispersion=dispersion)
    expected = naive_losses(student, teacher, MATCHES, temperature, dispersion, normaliser)
    assert patch_to_patch(statistics, MATCHES).item() == pytest.approx(expected[0])
    assert patch_to_structure(statistics, MATCHES, normaliser).item() == pytest.approx(expected[1])


@pytest.mark.parametrize("n", [2, 27, 144])
def test_patch_to_patch_of_equal_tokens_is_two_log_n(n):
    same = torch.ones(1, n, 1, dtype=torch.float64)
    matches = index_matches(*[(0, i, i) for i in range(n)])
    statistics = match_statistics(same, same, matches, 0.1)
    assert patch_to_patch(statistics, matches).item() == pytest.approx(2 * math.log(n))
    assert patch_to_structure(statistics, matches).item() == pytest.approx(2 * math.log(n))


@pytest.mark.parametrize(("temperature", "floor"), [(1.0, 7.95), (0.1, 0.012)])
def test_patch_to_patch_of_a_simplex_is_the_floor_of_the_loss(temperature, floor):
    """144 tokens as far apart as they can all be: cosine -1/143 off the diagonal."""
    simplex = F.normalize(torch.eye(144, dtype=torch.float64) - 1 / 144, dim=-1)[None]
    matches = index_matches(*[(0, i, i) for i in range(144)])
    loss = patch_to_patch(match_statistics(simplex, simplex, matches, temperature), matches).item()
    other = math.exp(-1 / 143 / temperature)
    assert loss == pytest.approx(2 * math.log1p(143 * other / math.exp(1 / temperature)))
    assert loss == pytest.approx(floor, rel=0.05)


def test_printed_normaliser_makes_the_term_vanish():
    """Equation 8 as printed: at most 5e-4 at N = 144, whatever the features."""
    student = tokens(1, 144, 16)
    matches = index_matches(*[(0, i, i) for i in range(144)])
    statistics = match_statistics(student, tokens(1, 144, 16, seed=1), matches, 1.0, dispersion="variance")
    assert 0 < patch_to_structure(statistics, matches, "printed").item() < 5e-4


def test_paper_preset_is_the_equations_as_printed():
    student, teacher = tokens(2, 5, 4), tokens(2, 6, 4, seed=1)
    p2p, p2s = S2DCLoss.from_preset("paper").structure_terms(student, teacher, MATCHES)
    expected = naive_losses(student, teacher, MATCHES, 1.0, "variance", "printed")
    assert (p2p.item(), p2s.item()) == pytest.approx(expected)
    options = PRESETS["paper"]
    assert (options.contrast_temperature, options.detach_ratio, options.form) == (0.07, False, "equations")


def test_weights_that_underflow_together_still_give_a_mean():
    """A token without a match may take all of a softmax: 1 / e^500 is 0 in float32, their ratio is not."""
    matches = index_matches((0, 0, 0), (0, 1, 1))
    ratios = torch.tensor([[1.0, 2.0, 500.0]])
    statistics = MatchStatistics(torch.tensor([-3.0, -5.0]), torch.zeros(2), ratios, ratios)
    assert match_weights(statistics, matches).eq(0).all()
    expected = (3 + 5 * math.e) / (1 + math.e)
    assert patch_to_structure(statistics, matches).item() == pytest.approx(expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("preset", PRESETS)
def test_autocast_and_half_precision_leave_the_loss_in_float32(preset, dtype):
    """A bfloat16 cosine over a temperature of 0.1 is off by up to 0.04; the same numbers in float32 are the oracle."""
    sides = [x.to(dtype) for x in (tokens(2, 8), tokens(2, 8, seed=1), tokens(3, 8, seed=2))]
    student, teacher = tokens(2, 60, 8).to(dtype), tokens(2, 60, 8).to(dtype)
    matches = index_matches(*[(b, i, i) for b in range(2) for i in range(60)])
    loss = S2DCLoss.from_preset(preset)
    oracle = loss(*(x.float() for x in (*sides, student, teacher)), matches)
    with torch.autocast("cpu", dtype=dtype):
        terms = loss(*sides, student, teacher, matches)
    assert all(term.dtype == torch.float32 for term in terms)
    torch.testing.assert_close(terms, oracle)


def test_structure_losses_ignore_the_order_of_tokens():
    student, teacher = tokens(2, 5, 4), tokens(2, 6, 4, seed=1)
    rows, columns = torch.randperm(5), torch.randperm(6)
    moved = Matches(MATCHES.batch, rows.argsort()[MATCHES.source], columns.argsort()[MATCHES.target])
    loss = S2DCLoss()
    before = loss.structure_terms(student, teacher, MATCHES)
    after = loss.structure_terms(student[:, rows], teacher[:, columns], moved)
    torch.testing.assert_close(before, after)


def test_regions_without_matches_count_nothing():
    student, teacher = tokens(2, 5, 4), tokens(2, 6, 4, seed=1)
    only_first = Matches(*(index[:3] for index in MATCHES))
    both = S2DCLoss().structure_terms(student, teacher, only_first)
    alone = S2DCLoss().structure_terms(student[:1], teacher[:1], only_first)
    torch.testing.assert_close(both, tuple(term / 2 for term in alone))


@pytest.mark.parametrize("preset", PRESETS)
def test_no_match_at_all_gives_a_finite_loss_and_gradient(preset):
    student = tokens(2, 5, 4).requires_grad_()
    terms = S2DCLoss.from_preset(preset)(
        tokens(4, 8), tokens(4, 8, seed=1), tokens(3, 8, seed=2), student, tokens(2, 5, 4, seed=1), index_matches()
    )
    terms.total.backward()
    assert all(torch.isfinite(term) for term in terms) and torch.isfinite(student.grad).all()
    if preset != "official":
        assert terms.patch_to_patch == 0 and terms.patch_to_structure == 0


@pytest.mark.parametrize("preset", PRESETS)
def test_every_token_matched_and_a_single_token(preset):
    student, teacher = tokens(1, 6, 4).requires_grad_(), tokens(1, 6, 4, seed=1)
    loss = S2DCLoss.from_preset(preset)
    sides = (tokens(2, 4), tokens(2, 4, seed=1), tokens(3, 4, seed=2))
    everything = index_matches(*[(0, i, j) for i in range(6) for j in range(6)])
    terms = loss(*sides, student, teacher, everything)
    terms.total.backward()
    assert torch.isfinite(terms.total) and torch.isfinite(student.grad).all()
    one = loss(*sides, student[:, :1], teacher[:, :1], index_matches((0, 0, 0)))
    assert torch.isfinite(one.total)
    if preset != "official":
        assert one.patch_to_patch.item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("preset", PRESETS)
def test_constant_features_give_finite_gradients(preset):
    constant = (torch.ones(1, 9, 4, dtype=torch.float64) / 2).requires_grad_()
    matches = index_matches(*[(0, i, i) for i in range(9)])
    terms = S2DCLoss.from_preset(preset)(
        tokens(2, 4), tokens(2, 4, seed=1), tokens(3, 4, seed=2), constant, constant.detach(), matches
    )
    terms.total.backward()
    assert torch.isfinite(terms.total) and torch.isfinite(constant.grad).all()


@pytest.mark.parametrize("preset", PRESETS)
def test_gradcheck_of_the_whole_loss(preset):
    # Soft labels are constants of the gradient but not of the finite difference; gradcheck needs them attached.
    loss = S2DCLoss.from_preset(preset, detach_ratio=False)
    sides = (tokens(2, 3, seed=2), tokens(2, 3, seed=3), tokens(4, 3, seed=4))
    student, teacher = tokens(2, 5, 4).requires_grad_(), tokens(2, 6, 4, seed=1)
    query = sides[0].requires_grad_()
    assert torch.autograd.gradcheck(lambda q, s: loss(q, *sides[1:], s, teacher, MATCHES).total, (query, student))


def test_detached_ratios_are_soft_labels():
    """The gradient of L_p2s is that of a weighted mean with constant weights."""
    teacher = tokens(2, 6, 4, seed=1)
    student = tokens(2, 5, 4).requires_grad_()
    _, term = S2DCLoss().structure_terms(student, teacher, MATCHES)
    (gradient,) = torch.autograd.grad(term, student)
    statistics = match_statistics(student, teacher, MATCHES, 0.1)
    weights = match_weights(statistics, MATCHES).detach()
    per_region = torch.stack([weights[MATCHES.batch == b].sum() for b in range(2)])[MATCHES.batch]
    by_hand = -(weights / per_region * statistics.log_confidence).sum() / 2
    torch.testing.assert_close(gradient, torch.autograd.grad(by_hand, student)[0])
    _, attached = S2DCLoss.from_preset(detach_ratio=False).structure_terms(student, teacher, MATCHES)
    torch.testing.assert_close(attached, term)
    assert not torch.allclose(torch.autograd.grad(attached, student)[0], gradient)


def test_weights_prefer_the_token_with_one_peak():
    ratios = torch.tensor([[1.0, 5.0, 1.0]], dtype=torch.float64)
    statistics = MatchStatistics(torch.zeros(2), torch.zeros(2), ratios, ratios)
    weights = match_weights(statistics, index_matches((0, 0, 0), (0, 1, 1)))
    torch.testing.assert_close(weights[1] / weights[0], torch.tensor(math.exp(4), dtype=torch.float64))


def published_case(case):
    """The arrays of the reference values, by their stated recipe."""
    rng = np.random.default_rng(case["seed"])
    B, N, d = case["B"], case["N"], case["d"]
    q = rng.standard_normal((B, N, d))
    k = 0.7 * q + 0.7 * rng.standard_normal((B, N, d))
    q, k = (torch.tensor(x / np.linalg.norm(x, axis=-1, keepdims=True)) for x in (q, k))
    pairs = []
    for b in range(B):
        rows, columns = (rng.permutation(N)[: case["positives"]] for _ in range(2))
        pairs += [(b, int(i), int(j)) for i, j in zip(rows, columns, strict=True)]
    return q.requires_grad_(), k, index_matches(*pairs)


def assert_published(value, query, expected):
    (gradient,) = torch.autograd.grad(value, query)
    assert value.item() == pytest.approx(expected["total"], rel=1e-6)
    assert gradient.norm().item() == pytest.approx(expected["grad_query_norm"], rel=1e-6)


@pytest.mark.parametrize("case", PUBLISHED, ids=lambda case: f"N={case['N']}")
def test_official_preset_gives_the_published_values(case):
    """Values and gradient norms of the published code, and of its L_g with its choice of negatives."""
    q, k, matches = published_case(case)
    for assignment in ("dual_softmax", "sinkhorn"):
        loss = S2DCLoss.from_preset("official", assignment=assignment)
        p2p, p2s = loss.structure_terms(q, k, matches)
        assert_published(p2p, q, case[f"p2p_{assignment}"])
        assert_published(p2s, q, case["p2s"])
    others = k[:, 1:].reshape(-1, k.shape[-1])
    terms = S2DCLoss.from_preset("official")(q[:, 0], k[:, 0], others, q, k, matches)
    torch.testing.assert_close(terms.total, sum(terms[1:]) / 2)
    assert_published(terms.contrast, q, case["contrast"])


def test_published_clamp_kills_the_gradient():
    """Without a temperature a confidence is at most e^4 / N^2: from N = 7390 on every match is clamped."""
    same = torch.ones(1, 1001, 2, dtype=torch.float64).div(2**0.5).requires_grad_()
    matches = index_matches(*[(0, i, i) for i in range(1001)])
    value = official_patch_to_patch(same, same.detach(), matches, "dual_softmax")
    (gradient,) = torch.autograd.grad(value, same)
    assert value.item() == pytest.approx(-math.log(1e-6) - math.log1p(-1e-6)) and gradient.eq(0).all()


def test_official_patch_to_structure_can_detach_its_ratios():
    q, k, matches = published_case(PUBLISHED[0])
    values = [official_patch_to_structure(q, k, matches, detach) for detach in (False, True)]
    torch.testing.assert_close(*values)
    assert not torch.allclose(*(torch.autograd.grad(value, q)[0] for value in values))


def test_levels_are_averaged_and_weights_applied():
    """Implements Eq. (9)."""
    sides = (tokens(2, 4), tokens(2, 4, seed=1), tokens(3, 4, seed=2))
    fine, coarse = (tokens(2, 5, 4), tokens(2, 6, 4, seed=1)), (tokens(2, 5, 8), tokens(2, 6, 8, seed=1))
    options = {"contrast_weight": 0.5, "patch_to_patch_weight": 2.0, "patch_to_structure_weight": 3.0}
    loss = S2DCLoss.from_preset("default", **options)
    terms = loss(*sides, *([a, b] for a, b in zip(fine, coarse, strict=True)), [MATCHES, MATCHES])
    single = [loss(*sides, *level, MATCHES) for level in (fine, coarse)]
    torch.testing.assert_close(terms.patch_to_patch, (single[0].patch_to_patch + single[1].patch_to_patch) / 2)
    expected = 0.5 * terms.contrast + 2 * terms.patch_to_patch + 3 * terms.patch_to_structure
    torch.testing.assert_close(terms.total, expected)


@pytest.mark.parametrize("one_for_all", [MATCHES, [MATCHES]])
def test_levels_without_their_own_matches_are_told(one_for_all):
    """A Matches holds three index vectors, which three levels must not be given one each."""
    sides = (tokens(2, 4), tokens(2, 4, seed=1), tokens(3, 4, seed=2))
    student, teacher = [tokens(2, 5, 4)] * 3, [tokens(2, 6, 4, seed=1)] * 3
    with pytest.raises(ValueError, match="each level needs student, teacher and Matches of its own, got 3, 3 and 1"):
        S2DCLoss()(*sides, student, teacher, one_for_all)
    with pytest.raises(ValueError, match="got 1, 1 and 2"):
        S2DCLoss()(*sides, student[0], teacher[0], [MATCHES] * 2)
    with pytest.raises(ValueError, match="got 0, 0 and 0"):
        S2DCLoss()(*sides, [], [], [])
    whole = S2DCLoss()(*sides, student, teacher, [MATCHES] * 3)
    torch.testing.assert_close(whole, S2DCLoss()(*sides, student[0], [teacher[0]], MATCHES))


def test_weights_that_train_nothing_are_refused():
    names = ("contrast_weight", "patch_to_patch_weight", "patch_to_structure_weight")
    for preset in PRESETS:
        with pytest.raises(ValueError, match="all three weights of the loss are 0, so nothing would be trained"):
            S2DCLoss.from_preset(preset, **dict.fromkeys(names, 0))
        for name in names:
            S2DCLoss.from_preset(preset, **{**dict.fromkeys(names, 0.0), name: 0.5})


def test_a_term_of_weight_zero_is_reported_without_gradient():
    student = tokens(2, 5, 4).requires_grad_()
    loss = S2DCLoss.from_preset("default", patch_to_patch_weight=0, patch_to_structure_weight=0)
    query = tokens(2, 4).requires_grad_()
    terms = loss(query, tokens(2, 4, seed=1), tokens(3, 4, seed=2), student, tokens(2, 6, 4, seed=1), MATCHES)
    terms.total.backward()
    assert terms.patch_to_patch > 0 and student.grad is None and query.grad.abs().sum() > 0


def test_unit_length_of_the_contrast_is_a_choice():
    query, positive, negatives = 3 * tokens(2, 4), 2 * tokens(2, 4, seed=1), tokens(3, 4, seed=2)
    rest = (tokens(2, 5, 4), tokens(2, 6, 4, seed=1), MATCHES)
    cosine = S2DCLoss()(query, positive, negatives, *rest).contrast
    torch.testing.assert_close(cosine, info_nce(query / 3, positive / 2, negatives, 0.2))
    raw = S2DCLoss.from_preset("official")(query, positive, negatives, *rest).contrast
    torch.testing.assert_close(raw, info_nce(query, positive, negatives, 0.9))


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="unknown preset 'printed': choose one of default, paper, official"):
        S2DCLoss.from_preset("printed")
    with pytest.raises(ValueError, match="unknown option 'temprature'"):
        S2DCLoss.from_preset("default", temprature=0.1)
    with pytest.raises(ValueError, match="unknown normaliser 'mean'"):
        S2DCLoss.from_preset("default", normaliser="mean")
    for preset in PRESETS:
        with pytest.raises(ValueError, match="unknown backend 'fast'"):
            S2DCLoss.from_preset(preset, backend="fast")
        with pytest.raises(ValueError, match="unknown matmul_dtype 'float16': choose one of float32, bfloat16"):
            S2DCLoss.from_preset(preset, matmul_dtype="float16")
    with pytest.raises(ValueError, match="cannot use backend 'streaming'"):
        S2DCLoss.from_preset("official", backend="streaming")
    with pytest.raises(ValueError, match="temperature must be positive, got 0"):
        info_nce(tokens(2, 3), tokens(2, 3), tokens(2, 3), 0)


@pytest.mark.parametrize("value", [0.0, -1.0, math.inf, math.nan])
def test_numbers_out_of_range_are_named(value):
    for name in ("temperature", "contrast_temperature"):
        with pytest.raises(ValueError, match=f"{name} must be positive and finite"):
            S2DCLoss.from_preset("paper", **{name: value})
    if value != 0:
        with pytest.raises(ValueError, match="contrast_weight must be finite and not negative"):
            S2DCLoss.from_preset("paper", contrast_weight=value)


@pytest.mark.parametrize(
    "option",
    [{"temperature": 0.1}, {"dispersion": "variance"}, {"normaliser": "printed"}, {"matmul_dtype": "bfloat16"}],
)
def test_options_without_effect_on_the_published_form_are_refused(option):
    with pytest.raises(ValueError, match=f"{next(iter(option))}=.* has no effect on the official form"):
        S2DCLoss.from_preset("official", **option)
