"""Streaming: the numbers of the dense form and its gradient, without a matrix of N x M entries."""

import math

import geomloss
import ot
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from s2dc_core import matching, streaming
from s2dc_core.geometry import Matches
from s2dc_core.losses import S2DCLoss
from s2dc_core.matching import match_statistics, sinkhorn
from s2dc_core.streaming import lowest_temperature, sinkhorn_potentials, streamed_profiles

FEATURES = ("random", "collapsed", "perfect")


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    """Tiles that divide no size used below, so that every edge of a tile is met."""
    monkeypatch.setattr(streaming, "TILES", {"cpu": (7, 5)})
    monkeypatch.setattr(streaming, "STRIP", 3 * 11)
    monkeypatch.setattr(streaming, "STRIP_ROWS", 3)
    monkeypatch.setattr(streaming, "MATCHES_AT_ONCE", 4)


def draw(kind, n, m, dtype=torch.float64, regions=2, width=6, seed=0):
    """Unit tokens of V and V'; "perfect" pairs the first of each side exactly."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(regions, n + m, width, generator=generator, dtype=torch.float64)
    if kind == "perfect":
        noise[:, n : n + min(n, m)] = noise[:, : min(n, m)]
    share = {"random": 1.0, "collapsed": 0.0, "nearly equal": 0.01, "perfect": 1.0}[kind]
    tokens = F.normalize(share * noise + (1 - share) * torch.ones(width, dtype=torch.float64), dim=-1).to(dtype)
    return tokens[:, :n].clone().requires_grad_(), tokens[:, n:].clone().requires_grad_()


def draw_matches(n, m, regions=2, count=9, seed=0):
    """Different numbers of matches, none in the last of three regions or more."""
    generator = torch.Generator().manual_seed(seed)
    batch = (torch.arange(count) ** 2 // count) % max(regions - (regions > 2), 1)
    return Matches(
        batch, torch.randint(n, (count,), generator=generator), torch.randint(m, (count,), generator=generator)
    )


def losses_and_gradients(preset, backend, student, teacher, matches, **overrides):
    loss = S2DCLoss.from_preset(preset, backend=backend, **overrides)
    terms = loss.structure_terms(student, teacher, matches)
    return (*terms, *torch.autograd.grad(sum(terms), (student, teacher)))


def test_profiles_equal_the_naive_loop():
    student, teacher = (x.detach() for x in draw("random", 8, 11, regions=1))
    matches = draw_matches(8, 11, regions=1)
    similarity, rows, columns = streamed_profiles(student, teacher, *matches, 0.2)
    for p, (_, i, j) in enumerate(zip(*matches, strict=True)):
        assert similarity[p].item() == pytest.approx(float(student[0, i] @ teacher[0, j]))
    for own, others, profile in ((student[0], teacher[0], rows), (teacher[0], student[0], columns)):
        for n, token in enumerate(own):
            cosines = [float(token @ other) for other in others]
            mean = sum(cosines) / len(cosines)
            assert profile.log_sum[0, n].item() == pytest.approx(math.log(sum(math.exp(c / 0.2) for c in cosines)))
            assert profile.largest[0, n].item() == pytest.approx(max(cosines))
            assert profile.mean[0, n].item() == pytest.approx(mean)
            variance = sum((c - mean) ** 2 for c in cosines) / (len(cosines) - 1)
            assert profile.variance[0, n].item() == pytest.approx(variance)


@pytest.mark.parametrize("preset", ["default", "paper"])
@pytest.mark.parametrize("kind", FEATURES)
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@pytest.mark.parametrize(("n", "m"), [(23, 17), (16, 31), (1, 6), (12, 1)])
def test_losses_and_gradients_are_those_of_the_dense_form(preset, kind, dtype, bound, n, m):
    student, teacher = draw(kind, n, m, dtype, regions=3)
    matches = draw_matches(n, m, regions=3)
    assert matches.per_region(3)[:2].min() > 0
    for dense, streamed in zip(
        losses_and_gradients(preset, "dense", student, teacher, matches),
        losses_and_gradients(preset, "streaming", student, teacher, matches),
        strict=True,
    ):
        assert streamed.dtype == dtype
        # Of one token, or equal ones, the gradient is a difference of equals: the bound is then one of its terms'.
        torch.testing.assert_close(streamed, dense, rtol=0, atol=bound * max(float(dense.detach().abs().max()), 1))


@pytest.mark.parametrize("preset", ["default", "paper"])
def test_near_equal_tokens_round_no_worse_than_in_the_dense_form(preset):
    """Cosines that differ by 1e-5 near 1: float32 holds three digits of their differences, in either form."""
    exact = draw("nearly equal", 40, 50)
    matches = draw_matches(40, 50)
    truth = losses_and_gradients(preset, "dense", *exact, matches)
    tokens = [x.detach().float().requires_grad_() for x in exact]
    errors = {
        backend: [
            float((one - other).detach().abs().max())
            for one, other in zip(losses_and_gradients(preset, backend, *tokens, matches), truth, strict=True)
        ]
        for backend in ("dense", "streaming")
    }
    for streamed, dense in zip(errors["streaming"], errors["dense"], strict=True):
        assert streamed <= 2 * dense + 1e-7


@pytest.mark.parametrize("preset", ["default", "paper"])
@pytest.mark.parametrize("kind", ["random", "perfect"])
@pytest.mark.parametrize("temperature", [0.1, 1e-3])
def test_gradcheck(preset, kind, temperature):
    """At 1e-3 a tile takes two exponentials; ratios are attached, because a finite difference moves soft labels too."""
    student, teacher = draw(kind, 9, 6)
    matches = draw_matches(9, 6)
    loss = S2DCLoss.from_preset(preset, backend="streaming", temperature=temperature, detach_ratio=False)
    assert torch.autograd.gradcheck(lambda s, t: loss.structure_terms(s, t, matches), (student, teacher))


@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 3), st.floats(1e-3, 5), st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_statistics_are_those_of_the_dense_form_at_any_size_and_temperature(n, m, regions, temperature, seed):
    student, teacher = (x.detach() for x in draw("random", n, m, regions=regions, seed=seed))
    matches = draw_matches(n, m, regions, seed=seed)
    for dense, streamed in zip(
        match_statistics(student, teacher, matches, temperature, backend="dense"),
        match_statistics(student, teacher, matches, temperature, backend="streaming"),
        strict=True,
    ):
        torch.testing.assert_close(streamed, dense, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("share", [0.05, 0.5, 0.999, 1.001])
@pytest.mark.parametrize("sign", [1, -1])
def test_low_temperatures_neither_overflow_nor_vanish(share, sign):
    """Two poles: cosines near 1 and -1 in one row, so that its exponentials are as large and as small as they get."""
    temperature = share * lowest_temperature(torch.float32)
    generator = torch.Generator().manual_seed(0)
    pole = torch.tensor([1.0, -1.0] * 7).unsqueeze(1) * F.normalize(torch.ones(1, 6), dim=-1)
    student, teacher = (
        F.normalize(pole[:count] + 0.02 * torch.randn(2, count, 6, generator=generator), dim=-1) for count in (11, 14)
    )
    student, teacher = student.requires_grad_(), (sign * teacher).requires_grad_()
    matches = draw_matches(11, 14)
    dense = losses_and_gradients("default", "dense", student, teacher, matches, temperature=temperature)
    streamed = losses_and_gradients("default", "streaming", student, teacher, matches, temperature=temperature)
    for one, other in zip(streamed, dense, strict=True):
        size = float(other.detach().abs().max())
        assert size > 0.1
        torch.testing.assert_close(one, other, rtol=0, atol=1e-4 * size)


def test_tokens_that_are_zero_have_statistics():
    """F.normalize leaves a dead token at 0: it is no reason to stop."""
    student, teacher = draw("random", 5, 7)
    with torch.no_grad():
        student[0, 2] = 0
    matches = draw_matches(5, 7)
    for dense, streamed in zip(
        *(match_statistics(student, teacher, matches, 0.1, backend=b) for b in ("dense", "streaming")), strict=True
    ):
        torch.testing.assert_close(streamed, dense)


def test_regions_do_not_see_each_other():
    student, teacher = draw("random", 13, 9, regions=3)
    matches = draw_matches(13, 9, regions=3, count=12)
    together = match_statistics(student, teacher, matches, 0.1, backend="streaming")
    assert matches.per_region(3).unique().numel() == 3 and matches.per_region(3)[2] == 0
    for region in range(3):
        mine = matches.batch == region
        own = Matches(matches.batch[mine] * 0, matches.source[mine], matches.target[mine])
        part = slice(region, region + 1)
        alone = match_statistics(student[part], teacher[part], own, 0.1, backend="streaming")
        torch.testing.assert_close(alone.log_confidence, together.log_confidence[mine])
        torch.testing.assert_close(alone.source_ratio, together.source_ratio[part])


class LargestTensor(TorchDispatchMode):
    """Notes the most entries that any operation returns, in the forward and the backward pass."""

    entries = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in torch.utils._pytree.tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self.entries = max(self.entries, tensor.numel())
        return out


@pytest.mark.parametrize("preset", ["default", "paper"])
@pytest.mark.parametrize("assignment", ["dual_softmax", "sinkhorn"])
def test_no_tensor_grows_with_the_product_of_the_numbers_of_tokens(preset, assignment, monkeypatch):
    monkeypatch.setattr(streaming, "TILES", {"cpu": (20, 15)})
    student, teacher = draw("random", 100, 120, regions=1, width=3)
    matches = draw_matches(100, 120, regions=1)
    found = {}
    for backend in ("streaming", "dense"):
        with LargestTensor() as largest:
            losses_and_gradients(preset, backend, student, teacher, matches, assignment=assignment)
        found[backend] = largest.entries
    assert found["dense"] == 100 * 120
    assert found["streaming"] == 3 * 120  # the tokens themselves


def test_a_teacher_without_gradient_costs_no_product(monkeypatch):
    """Three products of the size of M_t: one forward, two backward."""
    student, teacher = draw("random", 14, 10, regions=1)
    matches = draw_matches(14, 10, regions=1)
    multiplied = []
    multiply = streaming._multiply
    monkeypatch.setattr(
        streaming,
        "_multiply",
        lambda out, a, b, **how: (multiplied.append(len(a) * b.numel()), multiply(out, a, b, **how)),
    )
    loss = S2DCLoss.from_preset("default", backend="streaming")
    sum(loss.structure_terms(student, teacher.detach(), matches)).backward()
    assert sum(multiplied) == 3 * 14 * 10 * 6


@pytest.mark.parametrize("tile", [(7, 5), (64, 80)])
def test_bfloat16_tokens_are_summed_in_float32(monkeypatch, tile):
    """Forward as exact as the float32 of the same rounded tokens; the gradient within its own rounding.

    Small products are not sent to the processor's bfloat16 units, larger ones are, where it has them.
    """
    monkeypatch.setattr(streaming, "TILES", {"cpu": tile})
    student, teacher = (x.detach().bfloat16().requires_grad_() for x in draw("random", 133, 141, width=64))
    matches = draw_matches(133, 141)
    exact = losses_and_gradients(
        "paper", "dense", student.detach().double().requires_grad_(), teacher.double(), matches
    )
    rounded = losses_and_gradients("paper", "streaming", student, teacher, matches)
    assert [x.dtype for x in rounded] == [torch.float32] * 2 + [torch.bfloat16] * 2
    for one, other in zip(rounded[:2], exact[:2], strict=True):
        assert one.item() == pytest.approx(other.item(), rel=1e-5)
    for one, other in zip(rounded[2:], exact[2:], strict=True):
        assert (one - other).abs().max() < 0.01 * other.abs().max()


@pytest.mark.parametrize("given", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("wanted", ["float32", "bfloat16"])
def test_the_option_decides_what_is_multiplied(monkeypatch, given, wanted):
    """Not the tokens' own dtype, which is the device's and autocast's doing. Cosines are float32 either way."""
    seen, multiply = set(), streaming._multiply

    def note(out, a, b, **how):
        seen.add((out.dtype, b.dtype))
        return multiply(out, a, b, **how)

    monkeypatch.setattr(streaming, "_multiply", note)
    student, teacher = draw("random", 14, 10, given, regions=1)
    found = losses_and_gradients("default", "streaming", student, teacher, draw_matches(14, 10, 1), matmul_dtype=wanted)
    assert seen == {(torch.float32, getattr(torch, wanted))}
    assert [x.dtype for x in found] == [torch.float32] * 2 + [given] * 2


@pytest.mark.parametrize("assignment", ["dual_softmax", "sinkhorn"])
@pytest.mark.parametrize("backend", ["dense", "streaming", "auto"])
def test_bfloat16_products_are_those_of_the_rounded_tokens(backend, assignment, monkeypatch):
    """Forward exact in every form, the gradient within what its own rounding leaves."""
    monkeypatch.setattr(streaming, "TILES", {"cpu": (64, 80)})
    monkeypatch.setattr(streaming, "STRIP", 2**12)
    student, teacher = (x.detach().float().requires_grad_() for x in draw("random", 66, 71, width=64))
    matches, options = draw_matches(66, 71), {"assignment": assignment}
    rounded = [x.detach().bfloat16().double().requires_grad_() for x in (student, teacher)]
    exact = losses_and_gradients("default", "dense", *rounded, matches, **options)
    found = losses_and_gradients("default", backend, student, teacher, matches, matmul_dtype="bfloat16", **options)
    plain = losses_and_gradients("default", backend, student, teacher, matches, **options)
    assert {x.dtype for x in found} == {torch.float32} and not torch.equal(found[0], plain[0])
    for one, other in zip(found[:2], exact[:2], strict=True):
        assert one.item() == pytest.approx(other.item(), rel=1e-5)
    for one, other in zip(found[2:], exact[2:], strict=True):
        assert (one - other).abs().max() < 0.01 * other.abs().max()


def test_ties_share_the_gradient_of_a_maximum_in_the_dense_form_alone():
    """Two partners that are one and the same: dense gives each half of the gradient, streaming one of them all."""
    student, teacher = draw("random", 3, 4, regions=1)
    with torch.no_grad():
        teacher[0, 2] = teacher[0, 1] = student[0, 0]
    matches, slopes = draw_matches(3, 4, 1), {}
    for backend in ("dense", "streaming"):
        ratio = match_statistics(student, teacher, matches, backend=backend).source_ratio[0, 0]
        slopes[backend] = torch.autograd.grad(ratio, (student, teacher))
    (dense, streamed), apart = ([slope[k] for slope in slopes.values()] for k in (0, 1))
    torch.testing.assert_close(dense, streamed)  # of the anchor, whose partners point the same way
    torch.testing.assert_close(apart[0][0, 1], apart[0][0, 2])
    assert not torch.allclose(apart[1][0, 1], apart[1][0, 2])
    torch.testing.assert_close(apart[0][0, 1:3].sum(0), apart[1][0, 1:3].sum(0))


def test_bfloat16_leaves_the_precision_of_other_products_as_it_was():
    setting = torch.backends.mkldnn.matmul
    before = setting.fp32_precision
    with pytest.raises(RuntimeError), streaming._products_in_bfloat16():
        assert setting.fp32_precision == "bf16"
        raise RuntimeError
    assert setting.fp32_precision == before


def test_auto_streams_from_a_size_on(monkeypatch):
    student, teacher = draw("random", 4, 5)
    matches = draw_matches(4, 5)
    called = []
    for room, name in ((streaming, "streamed_statistics"), (matching, "_dense")):
        compute = getattr(room, name)
        monkeypatch.setattr(room, name, lambda *all, name=name, compute=compute: called.append(name) or compute(*all))
    for entries in (2 * 4 * 5 + 1, 2 * 4 * 5):
        monkeypatch.setattr(matching, "STREAMED_ENTRIES", entries)
        match_statistics(student, teacher, matches)
    assert called == ["_dense", "streamed_statistics"]


def test_tokens_of_two_precisions_meet_in_the_higher():
    student, teacher = (x.detach() for x in draw("random", 9, 8))
    matches = draw_matches(9, 8)
    for one, other in ((torch.float32, torch.bfloat16), (torch.float64, torch.float32), (torch.float16, torch.float16)):
        sides = student.to(one), teacher.to(other)
        exact = match_statistics(*(x.double() for x in sides), matches, 0.1, backend="dense")
        for backend in ("dense", "streaming"):
            found = match_statistics(*sides, matches, 0.1, backend=backend)
            for value, truth in zip(found, exact, strict=True):
                assert value.dtype == torch.promote_types(torch.promote_types(one, other), torch.float32)
                torch.testing.assert_close(value.double(), truth, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("backend", ["dense", "streaming"])
def test_autocast_does_not_round_the_cosines(backend):
    student, teacher = (x.detach().float() for x in draw("random", 33, 41))
    matches = draw_matches(33, 41)
    plain = match_statistics(student, teacher, matches, 0.1, backend=backend)
    with torch.autocast("cpu", torch.bfloat16):
        found = match_statistics(student, teacher, matches, 0.1, backend=backend)
    torch.testing.assert_close(found, plain)


def test_the_layout_of_the_tokens_does_not_matter():
    """Tokens laid back into a region's grid come as channels first, seen through a transpose."""
    student, teacher = draw("random", 9, 8, regions=3)
    matches = draw_matches(9, 8, regions=3)
    plain = losses_and_gradients("paper", "streaming", student, teacher, matches)
    turned = [x.detach().mT.contiguous().mT.requires_grad_() for x in (student, teacher)]
    for one, other in zip(losses_and_gradients("paper", "streaming", *turned, matches), plain, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("temperature", [0.2, 0.01])
def test_sinkhorn_potentials_give_the_dense_plan(temperature):
    student, teacher = draw("random", 8, 11)
    u, v = sinkhorn_potentials(student, teacher, 7, temperature)
    plan = student @ teacher.mT / temperature + u.unsqueeze(-1) + v.unsqueeze(-2)
    torch.testing.assert_close(plan, sinkhorn(student @ teacher.mT, 7, temperature=temperature))


def test_sinkhorn_gradients_are_those_of_the_dense_form():
    student, teacher = draw("random", 8, 11)
    matches = draw_matches(8, 11)
    dense, streamed = (
        losses_and_gradients("default", backend, student, teacher, matches, assignment="sinkhorn")
        for backend in ("dense", "streaming")
    )
    for one, other in zip(streamed, dense, strict=True):
        torch.testing.assert_close(one, other)
    assert torch.autograd.gradcheck(lambda s, t: sinkhorn_potentials(s, t, 3, 0.2), (student, teacher))


def test_sinkhorn_raises_half_precision():
    sides = [x.detach().bfloat16() for x in draw("random", 8, 11)]
    exact = sinkhorn_potentials(*(x.double() for x in sides), 20, 0.1)
    for found, truth in zip(sinkhorn_potentials(*sides, 20, 0.1), exact, strict=True):
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.double(), truth, rtol=1e-4, atol=1e-4)


def test_sinkhorn_potentials_are_pots_and_geomlosss():
    """With cost 1 - cosine, which is half of GeomLoss's squared distance. POT's plan has mass 1, ours N.

    GeomLoss lowers its temperature step by step and does not iterate at the last: it meets ours as the steps shrink.
    """
    student, teacher = (x.detach()[0] for x in draw("random", 8, 11, regions=1, width=3))
    u, v = (x[0] for x in sinkhorn_potentials(student[None], teacher[None], 500, 0.5))
    plan = (student @ teacher.T / 0.5 + u[:, None] + v).exp()
    weights = [torch.full((k,), 1 / k, dtype=torch.float64) for k in (8, 11)]
    pot = ot.sinkhorn(*weights, 1 - student @ teacher.T, 0.5, method="sinkhorn_log", numItermax=2000, stopThr=1e-14)
    torch.testing.assert_close(plan, 8 * pot, rtol=1e-9, atol=1e-12)
    options = {"p": 2, "blur": 0.5**0.5, "diameter": 2.0, "debias": False, "potentials": True}
    f, g = geomloss.SamplesLoss("sinkhorn", scaling=0.999, **options)(weights[0], student, weights[1], teacher)
    theirs = ((f.view(-1, 1) + g.view(1, -1) - 1 + student @ teacher.T) / 0.5).exp() / 11
    torch.testing.assert_close(plan, theirs, rtol=0, atol=2e-4)


def with_entry(tokens, value):
    tokens = tokens.detach().clone()
    tokens[1, 2, 0] = value
    return tokens


@pytest.mark.parametrize("backend", ["dense", "streaming"])
def test_bad_input_is_named(backend):
    student, teacher = (x.detach() for x in draw("random", 5, 7))
    matches = draw_matches(5, 7)
    for temperature in (0.0, -0.1, math.nan):
        with pytest.raises(ValueError, match="temperature must be positive"):
            match_statistics(student, teacher, matches, temperature, backend=backend)
        with pytest.raises(ValueError, match="temperature must be positive"):
            streamed_profiles(student, teacher, *matches, temperature)
        with pytest.raises(ValueError, match="temperature must be positive"):
            sinkhorn_potentials(student, teacher, 1, temperature)
    unchecked = match_statistics.__wrapped__  # without the shapes that jaxtyping checks in tests only
    with pytest.raises(ValueError, match=r"student \(2, 5, 6\) and teacher \(2, 7, 5\) must agree"):
        unchecked(student, teacher[..., :5], matches, backend=backend)
    with pytest.raises(ValueError, match="must agree in regions"):
        unchecked(student, teacher[:1], matches, backend=backend)
    for value in (math.nan, math.inf):
        with pytest.raises(FloatingPointError, match="1 of 14 tokens of the teacher hold NaN or infinity"):
            match_statistics(student, with_entry(teacher, value), matches, backend=backend)
    with pytest.raises(ValueError, match=r"matches.target runs from 0 to 7, but there are only 7"):
        match_statistics(student, teacher, matches._replace(target=torch.arange(9) % 8), backend=backend)


def test_tokens_that_are_too_long_are_refused_where_the_bound_may_be_used(monkeypatch):
    student, teacher = (x.detach() for x in draw("random", 5, 7))
    matches = draw_matches(5, 7)
    long = with_entry(student, 4.0)
    told = r"the student has tokens of length 4\.\d+, .*normalize.*backend='dense'"
    with pytest.raises(ValueError, match=told):
        match_statistics(long, teacher, matches, backend="streaming")
    match_statistics(long, teacher, matches, backend="dense")
    for entries in (2 * 5 * 7 + 1, 2 * 5 * 7):  # at a size that "auto" holds, and at one that it streams
        monkeypatch.setattr(matching, "STREAMED_ENTRIES", entries)
        with pytest.raises(ValueError, match=told):
            match_statistics(long, teacher, matches, backend="auto")


def test_a_second_derivative_is_refused():
    student, teacher = draw("random", 5, 7)
    found = match_statistics(student, teacher, draw_matches(5, 7), backend="streaming")
    (slope,) = torch.autograd.grad(found.log_confidence.square().sum(), student, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()
