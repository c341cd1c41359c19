"""What the losses need of the similarity matrix, without the matrix (paper sections 3.2 and 3.3 at full resolution).

M_t has N x M entries: 3 GB at N = 27,648, and several times that under autograd. The losses need little of it: the
entries at the P matches, and of each row and column a log-sum-exp, the largest entry, the mean and the variance. So M_t
is made in tiles that stay in the processor's cache, read, and thrown away; the backward pass makes them again. With a
teacher that takes no gradient, forward and backward are three matrix products of the size of M_t, and memory grows with
N + M.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from s2dc_core.geometry import Matches
from s2dc_core.matching import MatchStatistics, at_least_float32, positive_temperature, ratio_of, sums_in

TILES = {"cpu": (1024, 1024), "cuda": (4096, 8192)}
"""Rows and columns of a tile: on a CPU few enough for its cache, on a GPU enough for all of its multiprocessors."""

STRIP, STRIP_ROWS = 2**22, 64
"""Entries of a tile that holds whole rows, as Sinkhorn needs them, and the fewest rows for an efficient product."""

MATCHES_AT_ONCE = 4096
"""Matches whose tokens are copied out at a time: all of them would be as large as the tokens themselves."""


class Profile(NamedTuple):
    """The similarity distribution D of each token of a region with all tokens of the other view, in four numbers.

    Attributes:
        log_sum: log sum exp(D / temperature), [B, N].
        largest: max D, [B, N].
        variance: of D, unbiased, [B, N].
        mean: mean D, [B, N].
    """

    log_sum: Float[Tensor, "b n"]
    largest: Float[Tensor, "b n"]
    variance: Float[Tensor, "b n"]
    mean: Float[Tensor, "b n"]


def streamed_statistics(
    student: Float[Tensor, "b n c"],
    teacher: Float[Tensor, "b m c"],
    matches: Matches,
    temperature: float | int,
    dispersion: str,
    assignment: str,
    detach_ratio: bool,
) -> MatchStatistics:
    """What `matching.match_statistics` gives, without its checks; see there."""
    similarity, rows, columns = streamed_profiles(student, teacher, *matches, temperature)
    source, target = (matches.batch, matches.source), (matches.batch, matches.target)
    if assignment == "sinkhorn":
        u, v = sinkhorn_potentials(student, teacher, temperature=temperature)
        log_confidence = similarity / temperature + u[source] + v[target]
    else:
        log_confidence = 2 * similarity / temperature - rows.log_sum[source] - columns.log_sum[target]
    ratios = [ratio_of(side.largest - side.mean, side.variance, dispersion) for side in (rows, columns)]
    return MatchStatistics(log_confidence, similarity, *(r.detach() if detach_ratio else r for r in ratios))


def streamed_profiles(
    source: Float[Tensor, "b n c"],
    target: Float[Tensor, "b m c"],
    batch: Int[Tensor, " p"],
    i: Int[Tensor, " p"],
    j: Int[Tensor, " p"],
    temperature: float | int,
) -> tuple[Float[Tensor, " p"], Profile, Profile]:
    """M_t at the matches, [P], and the profiles of its rows and of its columns; differentiable once.

    A cosine is at most 1, so exp(M_t / temperature) neither overflows nor vanishes: one exponential per entry serves
    its row and its column, and no maximum has to run along. That holds down to `lowest_temperature`, 1/59 in float32.
    Below it an entry takes two exponentials, each against a maximum of its own: slower, and right at any temperature.

    Tokens in bfloat16 are multiplied as such where the device can; everything else is float32. The products of two
    bfloat16 are exact in float32, so only the backward pass rounds: the tiles of dL/dM_t, before they meet the tokens.

    Where several entries of a row are largest, the gradient of the maximum goes to one of them.

    Args:
        source: tokens of V, no longer than 1; float32, float64 or bfloat16.
        target: tokens of V', likewise.
        batch, i, j: region, token of V and token of V' of each match.
        temperature: positive.
    """
    positive_temperature(temperature)
    means = _mean_similarity(source, target), _mean_similarity(target, source)
    about = [mean.detach() for mean in means]
    similarity, *found = _Profiles.apply(source, target, batch, i, j, temperature, *about)
    rows, columns = Profile(*found[:3], means[0]), Profile(*found[3:], means[1])
    return similarity, rows, columns


def lowest_temperature(dtype: torch.dtype) -> float:
    """Down to here exp(1 / temperature) leaves a third of the exponents for sums and gradients: 1/59 in float32."""
    return 1.5 / math.log(torch.finfo(dtype).max)


def sinkhorn_potentials(
    source: Float[Tensor, "b n c"],
    target: Float[Tensor, "b m c"],
    iterations: int = 100,
    temperature: float | int = 1.0,
) -> tuple[Float[Tensor, "b n"], Float[Tensor, "b m"]]:
    """Sinkhorn's u and v: the log plan is M_t(i, j) / temperature + u_i + v_j, and is never held.

    The plan of `matching.sinkhorn` without a dustbin. An iteration makes every tile once: one matrix product forward,
    two or three backward. Differentiable once, in memory that grows with iterations x (N + M). Half precision is
    raised to float32, because a hundred gradients are added up.
    """
    positive_temperature(temperature)
    source, target = at_least_float32(source), at_least_float32(target)
    u, v = source.new_zeros(source.shape[:2]), target.new_zeros(target.shape[:2])
    for _ in range(iterations):
        u, v = _SinkhornIteration.apply(source, target, v, temperature)
    return u, v


class _Profiles(torch.autograd.Function):
    """With S = M_t / t, of the rows, which are side 0 of each pair below (the columns, side 1, likewise):

    l_i = log sum_j exp(S_ij),  m_i = max_j M_ij,  v_i = sum_j (M_ij - mean_i)^2 / (M - 1)
    """

    @staticmethod
    def forward(ctx, source, target, batch, i, j, temperature, *means):
        """M_t at the matches, then l, m and v of the rows, then of the columns. A tile is S, [rows, columns]."""
        bounded = temperature >= lowest_temperature(sums_in(source))
        sums = [torch.full_like(mean, 0 if bounded else -math.inf) for mean in means]
        largest = [torch.full_like(mean, -math.inf) for mean in means]
        squares = [torch.zeros_like(mean) for mean in means]
        about = [mean / temperature for mean in means]
        for tile, *sides in _tiles(source, target, temperature):
            for side, (axis, here) in enumerate(sides):
                largest[side][here] = torch.maximum(largest[side][here], tile.amax(axis))
                # About the mean, not about 0: near-equal cosines would lose their variance to rounding.
                squares[side][here] += (tile - about[side][here].unsqueeze(axis)).square_().sum(axis)
            if bounded:
                tile.exp_()
            for side, (axis, here) in enumerate(sides):
                if bounded:
                    sums[side][here] += tile.sum(axis)
                else:
                    sums[side][here] = torch.logaddexp(sums[side][here], tile.logsumexp(axis))
        sums = [total.log_() if bounded else total for total in sums]
        others = target.shape[1], source.shape[1]
        variances = [
            total.mul_(temperature**2 / max(count - 1, 1)) for total, count in zip(squares, others, strict=True)
        ]
        largest = [top.mul_(temperature) for top in largest]
        ctx.temperature, ctx.bounded, ctx.others = temperature, bounded, others
        ctx.save_for_backward(source, target, batch, i, j, *means, *sums)
        ctx.set_materialize_grads(False)
        rows, columns = zip(sums, largest, variances, strict=True)
        return _at_matches(source, target, batch, i, j), *rows, *columns

    @staticmethod
    @once_differentiable
    def backward(ctx, to_similarity, *to_profiles):
        """The tiles again: dL/dM_t of a tile, G [rows, columns], times the tokens of the other side.

        From the rows, and likewise from the columns, with dL/dl, dL/dm and dL/dv:

            G_ij = dL/dl_i exp(S_ij - l_i) / t  +  dL/dv_i 2 (M_ij - mean_i) / (M - 1)  +  dL/dm_i [j = argmax_j M_ij]

        for dl_i/dS_ij is the softmax, and dv_i/dmean_i = 0, so that the mean counts as a constant here. The last term
        is a single entry a row, like those of the matches. Then dL/dsource = G target [rows, C], dL/dtarget = G^T
        source [columns, C].
        """
        source, target, batch, i, j, *saved = ctx.saved_tensors
        means, sums = saved[:2], saved[2:]
        to_sums, to_largest, to_variances = (to_profiles[k::3] for k in range(3))
        gradients = _Gradients(source, target, ctx.needs_input_grad)
        if to_similarity is not None:
            gradients.add_at_matches(to_similarity, batch, i, j)
        pull = [(torch.zeros_like(s) if g is None else g) / ctx.temperature for g, s in zip(to_sums, sums, strict=True)]
        peaks = [None if g is None else _Peaks(g) for g in to_largest]
        about = [mean / ctx.temperature for mean in means]
        slopes = [2 * ctx.temperature / max(count - 1, 1) for count in ctx.others]
        needed = any(g is not None for g in to_profiles)
        for tile, *sides in _tiles(source, target, ctx.temperature) if needed else ():
            parts = []
            for side, (axis, here) in enumerate(sides):
                if to_variances[side] is not None:
                    slope = to_variances[side][here] * slopes[side]
                    parts.append((tile - about[side][here].unsqueeze(axis)) * slope.unsqueeze(axis))
                if peaks[side] is not None:
                    peaks[side].update(tile, axis, here, sides[1 - side][1])
            weight = _weight_of_sums(tile, sides, sums, pull, ctx.bounded)
            gradients.add(sum(parts, start=weight), *(here for _, here in sides))
        for side, peak in enumerate(peaks):
            if peak is not None:
                gradients.add_at_matches(*peak.entries(transposed=side == 1))
        return *gradients.results(), *(None,) * 6


def _weight_of_sums(scaled, sides, sums, pull, bounded) -> Tensor:
    """What the log-sum-exps contribute to dL/dM_t: each row's and column's softmax times its pull."""
    if bounded:
        rows, columns = (
            (p[here] * (-s[here]).exp()).unsqueeze(axis) for p, s, (axis, here) in zip(pull, sums, sides, strict=True)
        )
        return scaled.exp_().mul_(rows + columns)
    rows, columns = (
        (scaled - s[here].unsqueeze(axis)).exp_().mul_(p[here].unsqueeze(axis))
        for p, s, (axis, here) in zip(pull, sums, sides, strict=True)
    )
    return rows.add_(columns)


class _Peaks:
    """Where the largest entry of each row (or column) lies, followed from tile to tile."""

    def __init__(self, gradient: Tensor):
        self.gradient = gradient
        self.value = torch.full_like(gradient, -math.inf)
        self.place = torch.zeros_like(gradient, dtype=torch.long)

    def update(self, tile: Tensor, axis: int, here: tuple, others: tuple) -> None:
        """Look at a tile along an axis: the rows (columns) are at `here`, what they are compared with at `others`."""
        value, place = tile.max(axis)
        higher = value > self.value[here]
        self.place[here] = torch.where(higher, place + others[1].start, self.place[here])
        self.value[here] = torch.where(higher, value, self.value[here])

    def entries(self, transposed: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Gradient, region, row and column of each largest entry."""
        region, own = torch.ones_like(self.place).nonzero(as_tuple=True)
        ends = own, self.place.flatten()
        return self.gradient.flatten(), region, *(ends[::-1] if transposed else ends)


class _SinkhornIteration(torch.autograd.Function):
    """u_i = -log sum_j exp(S_ij + v_j), then v'_j = log(N / M) - log sum_i exp(S_ij + u_i), in a pass; S = M_t / t."""

    @staticmethod
    def forward(ctx, source, target, v, temperature):
        n, m = source.shape[1], target.shape[1]
        u, totals = v.new_empty(source.shape[:2]), torch.full_like(v, -math.inf)
        for tile, (_, rows), (_, columns) in _tiles(source, target, temperature, whole_rows=True):
            u[rows] = -(tile + v[columns]).logsumexp(1)
            totals[columns] = torch.logaddexp(totals[columns], tile.add_(u[rows].unsqueeze(1)).logsumexp(0))
        after = math.log(n / m) - totals
        ctx.temperature = temperature
        ctx.save_for_backward(source, target, v, u, totals)
        return u, after

    @staticmethod
    @once_differentiable
    def backward(ctx, to_u, to_after):
        """With Q_ij = exp(S_ij + u_i - log sum_i exp(S_ij + u_i)), columns that sum to 1, and P_ij = exp(S_ij + u_i +
        v_j), rows that sum to 1:

            dL/du_i, through v' too:  h_i = dL/du_i - sum_j Q_ij dL/dv'_j
            dL/dS_ij = -Q_ij dL/dv'_j - P_ij h_i
            dL/dv_j = -sum_i P_ij h_i
        """
        source, target, v, u, totals = ctx.saved_tensors
        gradients, to_v = _Gradients(source, target, ctx.needs_input_grad), torch.zeros_like(v)
        for tile, (_, rows), (_, columns) in _tiles(source, target, ctx.temperature, whole_rows=True):
            tile.add_(u[rows].unsqueeze(1))
            weight = (tile - totals[columns]).exp_().mul_(-to_after[columns])
            through_u = to_u[rows] + weight.sum(1)
            back = tile.add_(v[columns]).exp_().mul_(-through_u.unsqueeze(1))
            to_v[columns] += back.sum(0)
            gradients.add(weight.add_(back).div_(ctx.temperature), rows, columns)
        return *gradients.results(), to_v, None


class _Gradients:
    """dL/dsource and dL/dtarget, summed up from parts of dL/dM_t; only those that are asked for."""

    def __init__(self, source: Tensor, target: Tensor, needed: tuple[bool, ...]):
        self.tokens = source, target
        self.totals = [
            tokens.new_zeros(tokens.shape, dtype=sums_in(tokens)) if need else None
            for tokens, need in zip(self.tokens, needed, strict=False)
        ]

    def add(self, weight: Tensor, rows: tuple, columns: tuple) -> None:
        """A tile of dL/dM_t."""
        if self.totals[0] is not None:
            _multiply(self.totals[0][rows], weight, self.tokens[1][columns], add=True)
        if self.totals[1] is not None:
            _multiply(self.totals[1][columns], weight.T, self.tokens[0][rows], add=True)

    def add_at_matches(self, weight: Tensor, batch: Tensor, i: Tensor, j: Tensor) -> None:
        """Single entries of dL/dM_t."""
        for w, b, n, m in _in_parts(weight, batch, i, j):
            for total, other, own, partner in zip(self.totals, self.tokens[::-1], (n, m), (m, n), strict=True):
                if total is not None:
                    row = b * total.shape[1] + own
                    total.view(-1, total.shape[2]).index_add_(0, row, w[:, None] * other[b, partner].to(w.dtype))

    def results(self) -> tuple[Tensor | None, Tensor | None]:
        return tuple(None if g is None else g.to(x.dtype) for g, x in zip(self.totals, self.tokens, strict=True))


def _tiles(source: Tensor, target: Tensor, temperature: float, whole_rows: bool = False) -> Iterator[tuple]:
    """Tiles of M_t / temperature, each overwritten by the next, and (axis to reduce, place) of its rows and columns."""
    n, m = source.shape[1], target.shape[1]
    rows, columns = (max(STRIP_ROWS, STRIP // m), m) if whole_rows else TILES.get(source.device.type, TILES["cpu"])
    buffer = source.new_empty(min(rows, n) * min(columns, m), dtype=sums_in(source))
    for region in range(len(source)):
        for top in range(0, n, rows):
            for left in range(0, m, columns):
                here, there = (region, slice(top, top + rows)), (region, slice(left, left + columns))
                a, b = source[here], target[there]
                tile = buffer[: len(a) * len(b)].view(len(a), len(b))
                _multiply(tile, a, b.T, scale=1 / temperature)
                yield tile, (1, here), (0, there)


def _at_matches(source: Tensor, target: Tensor, batch: Tensor, i: Tensor, j: Tensor) -> Tensor:
    pairs = ((source[b, n], target[b, m]) for b, n, m in _in_parts(batch, i, j))
    return torch.cat([(at_least_float32(one) * at_least_float32(other)).sum(-1) for one, other in pairs])


def _in_parts(*values: Tensor) -> Iterator[tuple[Tensor, ...]]:
    return zip(*(value.split(MATCHES_AT_ONCE) for value in values), strict=True)


def _mean_similarity(tokens: Tensor, others: Tensor) -> Tensor:
    return (at_least_float32(tokens) @ others.mean(1, keepdim=True, dtype=sums_in(others)).mT).squeeze(-1)


def _multiply(out: Tensor, a: Tensor, b: Tensor, scale: float = 1.0, add: bool = False) -> None:
    """out = scale a @ b, or added to out, summed in the precision of out; a bfloat16 among them makes both bfloat16."""
    if torch.bfloat16 not in (a.dtype, b.dtype):
        torch.addmm(out, a, b, beta=int(add), alpha=scale, out=out)
    elif out.is_cuda:
        product = torch.mm(a.bfloat16(), b.bfloat16(), out_dtype=out.dtype).mul_(scale)
        out.add_(product) if add else out.copy_(product)
    else:
        with _products_in_bfloat16():
            torch.addmm(out, a.float(), b.float(), beta=int(add), alpha=scale, out=out)


@contextmanager
def _products_in_bfloat16() -> Iterator[None]:
    """float32 products of a CPU through its bfloat16 units; one that has none goes on in float32."""
    setting = torch.backends.mkldnn.matmul
    before = setting.fp32_precision
    setting.fp32_precision = "bf16"
    try:
        yield
    finally:
        setting.fp32_precision = before
