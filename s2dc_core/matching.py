"""From token features to soft matches and to the shape of a similarity distribution (paper sections 3.2 and 3.3).

``similarity`` M_t is the matrix of dot products of the tokens of V with those of V'; for unit-length tokens these are
cosines in [-1, 1]. Softmax and Sinkhorn divide it by a temperature (the paper prints none, which is temperature 1);
the Sharpe ratio reads it as it is.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from s2dc_core.geometry import Matches, grid_of
from s2dc_core.options import check_choice

DISPERSIONS = ("std", "variance")
BACKENDS = ("auto", "dense", "streaming")
ASSIGNMENTS = ("dual_softmax", "sinkhorn")
MATMUL_DTYPES = ("float32", "bfloat16")

STREAMED_ENTRIES = 2**21
"""Similarities B x N x M from which on backend="auto" streams: about where it is as fast as the matrix."""

LONGEST_TOKEN = 1.01
"""Tokens up to this long count as unit length: half precision rounds."""


class MatchStatistics(NamedTuple):
    """All that the two structure losses need to know of a student and a teacher.

    Attributes:
        log_confidence: log of the assignment at each match, log M^_t(i, j), [P]; at most 0 for the dual-softmax.
        similarity: M_t(i, j) at each match, [P].
        source_ratio: Sharpe ratio of each token of V over all tokens of V', [B, N].
        target_ratio: Sharpe ratio of each token of V' over all tokens of V, [B, M].
    """

    log_confidence: Float[Tensor, " p"]
    similarity: Float[Tensor, " p"]
    source_ratio: Float[Tensor, "b n"]
    target_ratio: Float[Tensor, "b m"]


def at_least_float32(tokens: Tensor) -> Tensor:
    """Half precision raised to float32; float32 and float64 as they are."""
    return tokens.to(sums_in(tokens))


def sums_in(tokens: Tensor) -> torch.dtype:
    """The precision that sums of such numbers are taken in: float32 at least."""
    return torch.promote_types(tokens.dtype, torch.float32)


def unit_length(vectors: Float[Tensor, "*shape c"]) -> Float[Tensor, "*shape c"]:
    """Vectors along the last axis brought to length 1, those of length 0 left at 0.

    In float32 at least: in bfloat16 lengths would come out between 0.995 and 1.005, and each dot product of two of them
    would be off by as much, which a temperature of 0.1 multiplies by ten.
    """
    return torch.nn.functional.normalize(at_least_float32(vectors), dim=-1)


def join_levels(maps: Sequence[Float[Tensor, "b _ _ _ _"]]) -> Float[Tensor, "b x y z c"]:
    """One token for each cell of the finest map, holding the cells of all levels that it lies in.

    Each level counts alike: every vector is brought to length 1 / sqrt(levels), so a joined token has length 1 and the
    cosine of two of them is the mean of the levels' cosines. The fine levels give it detail, the coarse ones context.

    Args:
        maps: [B, X_k, Y_k, Z_k, C_k], finest first; each grid divides the first.

    Raises:
        ValueError: if a grid does not divide the first.
    """
    grid = maps[0].shape[1:4]
    joined = []
    for cells in maps:
        vectors = unit_length(cells) / len(maps) ** 0.5
        for axis, times in enumerate(grid_of(grid, cells.shape[1:4]), start=1):
            vectors = vectors.repeat_interleave(times, axis)
        joined.append(vectors)
    return torch.cat(joined, -1)


def similarity_matrix(source: Float[Tensor, "*b n c"], target: Float[Tensor, "*b m c"]) -> Float[Tensor, "*b n m"]:
    """M_t(i, j) = t_i . t'_j, [..., N, M]."""
    return source @ target.mT


def log_dual_softmax(similarity: Float[Tensor, "*b n m"], temperature: float | int = 1.0) -> Float[Tensor, "*b n m"]:
    """Logarithm of equation 4, stable where the product of two softmaxes underflows.

    log M^_t(i, j) = 2 M_t(i, j) / temperature - LSE_j(row i) - LSE_i(column j).
    """
    scaled = similarity / positive_temperature(temperature)
    return scaled.log_softmax(-1) + scaled.log_softmax(-2)


def dual_softmax(similarity: Float[Tensor, "*b n m"], temperature: float | int = 1.0) -> Float[Tensor, "*b n m"]:
    """Equation 4: M^_t(i, j) = softmax(M_t(i, .))_j * softmax(M_t(., j))_i, values in [0, 1]."""
    scaled = similarity / positive_temperature(temperature)
    return scaled.softmax(-1) * scaled.softmax(-2)


def sinkhorn(
    similarity: Float[Tensor, "*b n m"],
    iterations: int = 100,
    dustbin: float | int | Tensor | None = None,
    temperature: float | int = 1.0,
) -> Float[Tensor, "*b rows columns"]:
    """Log of the entropic transport plan between the tokens of V and V' (Sinkhorn 1964, in log space).

    Without a dustbin every row sums to 1 and every column to N / M. With one, a further row and column of that score
    take what has no partner, in SuperGlue's scaling (Sarlin et al. 2020): each token carries mass 1, the dustbin row
    M, the dustbin column N.

    Args:
        similarity: [..., N, M].
        iterations: rows, then columns, are normalised this many times; the columns' marginal is exact, the rows' in
            the limit.
        dustbin: score of the extra row and column, on the scale of the similarity; None for none.
        temperature: strength of the entropy; similarity and dustbin are divided by it.

    Returns:
        Log plan, [..., N, M], or [..., N+1, M+1] with a dustbin.
    """
    scores = similarity
    n, m = similarity.shape[-2:]
    rows, columns = similarity.new_zeros(n), similarity.new_full((m,), math.log(n / m))
    if dustbin is not None:
        bin_score = torch.as_tensor(dustbin, dtype=scores.dtype, device=scores.device)
        scores = torch.cat([scores, bin_score.expand(*scores.shape[:-1], 1)], -1)
        scores = torch.cat([scores, bin_score.expand(*scores.shape[:-2], 1, m + 1)], -2)
        rows = torch.cat([rows, rows.new_tensor([math.log(m)])])
        columns = torch.cat([columns.new_zeros(m), columns.new_tensor([math.log(n)])])
    scores = scores / positive_temperature(temperature)
    u, v = torch.zeros_like(scores[..., 0]), torch.zeros_like(scores[..., 0, :])
    for _ in range(iterations):
        u = rows - torch.logsumexp(scores + v.unsqueeze(-2), -1)
        v = columns - torch.logsumexp(scores + u.unsqueeze(-1), -2)
    return scores + u.unsqueeze(-1) + v.unsqueeze(-2)


def sharpe_ratio(
    distribution: Float[Tensor, "*shape"], dim: int = -1, dispersion: str = "std", eps: float = 1e-6
) -> Float[Tensor, "*rest"]:
    """Equation 6: (max D_n - mean D_n) / sigma(D_n); high for one peak, low for many.

    The paper calls sigma the variance; a Sharpe ratio (Sharpe 1966) divides by the standard deviation, which leaves
    the ratio unchanged when D_n is scaled. Both are unbiased estimates.

    Args:
        distribution: similarities of the anchors, D_n along ``dim``.
        dim: the dimension to reduce.
        dispersion: "std" or "variance".
        eps: a distribution whose standard deviation is at most this is taken as constant, and its 0 / 0 as 0.

    Raises:
        ValueError: for an unknown dispersion.
    """
    check_choice("dispersion", dispersion, DISPERSIONS)
    centred = distribution - distribution.mean(dim, keepdim=True)
    variance = centred.square().sum(dim) / max(distribution.shape[dim] - 1, 1)
    return ratio_of(centred.amax(dim), variance, dispersion, eps)


def ratio_of(
    excess: Float[Tensor, "*rest"], variance: Float[Tensor, "*rest"], dispersion: str, eps: float = 1e-6
) -> Float[Tensor, "*rest"]:
    """(largest - mean) / sigma from a largest less the mean and a variance; 0 where all is constant."""
    constant = variance <= eps**2  # False for NaN, which must stay visible
    # The root of a zero would send NaN backwards even where its value is not used.
    sigma = torch.where(constant, torch.ones_like(variance), variance)
    sigma = sigma.sqrt() if dispersion == "std" else sigma
    return torch.where(constant, torch.zeros_like(sigma), excess / sigma)


def match_statistics(
    student: Float[Tensor, "b n c"],
    teacher: Float[Tensor, "b m c"],
    matches: Matches,
    temperature: float | int = 1.0,
    *,
    dispersion: str = "std",
    backend: str = "auto",
    assignment: str = "dual_softmax",
    detach_ratio: bool = False,
    matmul_dtype: str = "float32",
) -> MatchStatistics:
    """Log-confidence and similarity at the matches, and the Sharpe ratio of every token, in one go.

    Both structure losses read their numbers from here, so that the similarity matrix is made once, or never. Both
    backends have the same values and gradients, but for ties: where several entries of a row are its largest, the
    dense form shares the gradient of that maximum between them, and streaming gives it to one of them.

    Args:
        student: unit-length tokens of V, [B, N, C].
        teacher: unit-length tokens of V', [B, M, C].
        matches: ground truth; regions may have different numbers of them.
        temperature: of the assignment; D_n is the cosine and never divided by it.
        dispersion: "std" or "variance", see sharpe_ratio.
        backend: "dense" holds [B, N, M] matrices, of tokens of any length; "streaming" holds none, and its tokens may
            not be longer than 1 (see streaming.py); "auto" streams from STREAMED_ENTRIES similarities on, and refuses
            longer tokens at any size.
        assignment: "dual_softmax" (equation 4) or "sinkhorn" (the paper's appendix; no dustbin, 100 iterations).
        detach_ratio: whether the ratios carry no gradient; saves what only their gradient needs.
        matmul_dtype: what the tokens are multiplied in: "float32" (float64 tokens stay as they are), or "bfloat16", to
            which they are rounded, and their products summed in float32. Streaming does that by the device's bfloat16
            units, and is faster where it has them; the dense form and Sinkhorn's iterations gain nothing by it.

    Returns:
        At least float32, also for bfloat16 tokens.

    Raises:
        ValueError: for an unknown backend, assignment or dispersion, a temperature that is not positive, tokens of
            different widths or numbers of regions, matches that name a region or a token that is not there, or tokens
            longer than 1 unless the backend is "dense".
        FloatingPointError: if a token holds NaN or infinity.
    """
    check_choice("backend", backend, BACKENDS)
    check_choice("assignment", assignment, ASSIGNMENTS)
    check_choice("dispersion", dispersion, DISPERSIONS)
    check_choice("matmul_dtype", matmul_dtype, MATMUL_DTYPES)
    positive_temperature(temperature)
    _check_tokens(student, teacher, unit_length=backend != "dense")
    check_matches(matches, *student.shape[:2], teacher.shape[1])
    common = torch.promote_types(torch.promote_types(student.dtype, teacher.dtype), torch.float32)
    dtype = torch.bfloat16 if matmul_dtype == "bfloat16" else common
    large = student.shape[0] * student.shape[1] * teacher.shape[1] >= STREAMED_ENTRIES
    compute = _dense
    if backend == "streaming" or backend == "auto" and large:
        from s2dc_core.streaming import streamed_statistics as compute  # the same numbers in less memory: read it last
    student, teacher = student.to(dtype), teacher.to(dtype)
    with torch.autocast(student.device.type, enabled=False):  # which would round the cosines
        return compute(student, teacher, matches, temperature, dispersion, assignment, detach_ratio)


def _dense(student, teacher, matches, temperature, dispersion, assignment, detach_ratio) -> MatchStatistics:
    similarity = similarity_matrix(at_least_float32(student), at_least_float32(teacher))
    at = (matches.batch, matches.source, matches.target)
    if assignment == "sinkhorn":
        log_confidence = sinkhorn(similarity, temperature=temperature)[at]
    else:
        scaled = similarity / temperature
        row = scaled.logsumexp(-1)[matches.batch, matches.source]
        column = scaled.logsumexp(-2)[matches.batch, matches.target]
        log_confidence = 2 * scaled[at] - row - column
    distribution = similarity.detach() if detach_ratio else similarity
    ratios = (sharpe_ratio(distribution, dim, dispersion) for dim in (-1, -2))
    return MatchStatistics(log_confidence, similarity[at], *ratios)


def _check_tokens(student: Tensor, teacher: Tensor, unit_length: bool) -> None:
    """Refuse tokens that cannot be compared."""
    if (student.shape[0], student.shape[2]) != (teacher.shape[0], teacher.shape[2]):
        raise ValueError(
            f"student {tuple(student.shape)} and teacher {tuple(teacher.shape)} must agree in regions and width: "
            "[B, N, C] and [B, M, C]"
        )
    named = (("student", student), ("teacher", teacher))
    each = [torch.linalg.vector_norm(tokens.detach(), dim=-1) for _, tokens in named]
    most = torch.stack([sides.max().to(torch.float64) for sides in each]).tolist()  # NaN if any is
    for (name, _), lengths, longest in zip(named, each, most, strict=True):
        if not math.isfinite(longest):
            unfit = int((~lengths.isfinite()).sum())
            raise FloatingPointError(f"{unfit} of {lengths.numel()} tokens of the {name} hold NaN or infinity")
        if unit_length and longest > LONGEST_TOKEN:
            raise ValueError(
                f"the {name} has tokens of length {longest:.3g}, and the streaming backend relies on "
                "cosines: give torch.nn.functional.normalize(tokens, dim=-1), or backend='dense' for any length"
            )


def check_matches(matches: Matches, regions: int, sources: int, targets: int) -> None:
    """Refuse matches that name a region or a token that is not there (an index error on a GPU names nothing)."""
    if not len(matches.batch):
        return
    spans = torch.stack([torch.stack(index.aminmax()) for index in matches]).tolist()  # a GPU is waited for once
    for name, (low, high), size in zip(Matches._fields, spans, (regions, sources, targets), strict=True):
        if low < 0 or high >= size:
            raise ValueError(
                f"matches.{name} runs from {low} to {high}, but there are only {size}: "
                "were the matches made for another grid or batch?"
            )


def positive_temperature(temperature: float | int) -> float | int:
    """The temperature, if it is one."""
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, got {temperature}")
    return temperature
