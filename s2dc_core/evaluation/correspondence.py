"""The same place in another scan: for each token the one of the other scan that its features take it for."""

from collections.abc import Sequence
from numbers import Real
from typing import NamedTuple

import numpy as np
import torch
from einops import reduce
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from s2dc_core.features import TokenMap
from s2dc_core.matching import unit_length

METRICS = ("cosine", "euclidean")

QUERIES_AT_ONCE = 512
"""Rows of the similarity matrix that are held at a time."""


class TokenMatches(NamedTuple):
    """The best source token of each target token, M of them, in grid order (last axis fastest).

    Attributes:
        target, source: [M] flat index of both tokens in their grids.
        score: [M] their cosine, in [-1, 1]; with metric "euclidean" minus their mean squared difference.
        margin: [M] how much less the second best scores, at least 0; infinite where there is no second.
        mutual: [M] whether the target token is also the best that its source token finds.
        target_mm, source_mm: [M, 3] float64, centres of both in world millimetres.
    """

    target: Tensor
    source: Tensor
    score: Tensor
    margin: Tensor
    mutual: Tensor
    target_mm: np.ndarray
    source_mm: np.ndarray


def match_tokens(
    source: TokenMap,
    target: TokenMap,
    *,
    source_inside: Bool[Tensor, "x y z"] | None = None,
    target_inside: Bool[Tensor, "a b c"] | None = None,
    metric: str = "cosine",
) -> TokenMatches:
    """For each target token the most similar source token.

    Time grows with the product of the numbers of tokens, memory with their sum: no similarity matrix is kept. Computed
    where the source's features are. Of equal scores the first in grid order is taken.

    Args:
        source, target: of two scans, made with one encoder and the same levels; spacings may differ.
        source_inside, target_inside: tokens that take part, such as `body_tokens`; None for all.
        metric: "cosine", or "euclidean" for features whose length means something, such as raw intensities.

    Raises:
        ValueError: for maps of different channels, an unknown metric, a mask on another grid or without any token.
    """
    check_comparable(source, target, metric)
    (keys, of_keys), (queries, of_queries) = chosen(source, source_inside), chosen(target, target_inside)
    best = find_best(*lifted(queries, keys, metric), 2, both_ways=True)
    first, margin = best.index[:, 0], best.score[:, 0] - best.score[:, -1]
    if len(keys) < 2:
        margin = torch.full_like(margin, torch.inf)
    mutual = best.back[first] == torch.arange(len(first), device=first.device)
    of_first = of_keys[first.cpu()]
    return TokenMatches(
        *(of_queries, of_first, best.score[:, 0].cpu(), margin.cpu(), mutual.cpu()),
        *(token_centres(target)[of_queries], token_centres(source)[of_first]),
    )


class Best(NamedTuple):
    """Of each query its highest-scoring keys, [Q, K] best first, and of each key its best query, [N] if asked for."""

    index: Tensor
    score: Tensor
    back: Tensor | None


def find_best(queries: Float[Tensor, "q c"], keys: Float[Tensor, "n c"], count: int, both_ways: bool = False) -> Best:
    """The keys with the largest dot products with each query, in strips of the matrix; as many as there are.

    Of equal ones the first comes first.

    Args:
        both_ways: find the best query of each key too.
    """
    count = min(count, len(keys))
    strip = queries.new_empty(QUERIES_AT_ONCE, len(keys))
    highest, back = queries.new_full((len(keys),), -torch.inf), queries.new_zeros(len(keys), dtype=torch.long)
    found = []
    for start in range(0, len(queries), QUERIES_AT_ONCE):
        rows = queries[start : start + QUERIES_AT_ONCE]
        scores = torch.mm(rows, keys.T, out=strip[: len(rows)])
        top = scores.topk(count)
        found.append((_first_in_front(top.indices, scores.argmax(1)), top.values))
        if both_ways:
            column, row = scores.max(0)
            back = torch.where(column > highest, row + start, back)
            highest = torch.maximum(highest, column)
    index, score = (torch.cat(parts) for parts in zip(*found, strict=True))
    return Best(index, score, back if both_ways else None)


def _first_in_front(index: Int[Tensor, "q k"], first: Int[Tensor, " q"]) -> Int[Tensor, "q k"]:
    """The first of the best keys in column 0: topk puts equal scores in any order."""
    index = torch.where(index == first[:, None], index[:, :1], index)
    index[:, 0] = first
    return index


def check_comparable(source: TokenMap, target: TokenMap, metric: str = "cosine") -> None:
    """ValueError unless two maps have the same channels and the metric exists."""
    if metric not in METRICS:
        raise ValueError(f"metric {metric!r}: give {' or '.join(METRICS)}")
    channels = [token_map.features.shape[-1] for token_map in (source, target)]
    if channels[0] != channels[1]:
        raise ValueError(
            f"tokens of {channels[0]} and {channels[1]} channels cannot be compared: "
            "encode both scans with one encoder and the same levels"
        )


def chosen(token_map: TokenMap, inside: Shaped[Tensor, "..."] | None) -> tuple[Float[Tensor, "m c"], Int[Tensor, " m"]]:
    """Features and flat indices of the tokens that take part.

    Raises:
        ValueError: for a mask on another grid or without any token, or features that are not finite.
    """
    grid = tuple(token_map.features.shape[:3])
    if inside is None:
        index = torch.arange(int(np.prod(grid)))
    elif tuple(inside.shape) != grid:
        raise ValueError(f"a mask of {tuple(inside.shape)} tokens does not lie on the token grid {grid}")
    else:
        index = inside.flatten().nonzero()[:, 0].cpu()
    if not len(index):
        raise ValueError("no token takes part: the mask is empty")
    features = token_map.features.detach().flatten(0, 2)[index.to(token_map.features.device)]
    if count := int((~torch.isfinite(features)).any(1).sum()):
        raise ValueError(f"{count} tokens hold NaN or infinite features: look at the scan and at the weights")
    return features, index


def lifted(
    queries: Float[Tensor, "q c"], keys: Float[Tensor, "n c"], metric: str
) -> tuple[Float[Tensor, "q d"], Float[Tensor, "n d"]]:
    """Vectors, where the keys are and in their precision, whose dot product is the metric's score."""
    queries, lift = queries.to(keys), lifted_by(metric)
    if metric == "euclidean":  # squares of large numbers would lose the precision of small differences
        queries, keys = queries - keys.mean(0), keys - keys.mean(0)
    return lift(queries, True), lift(keys, False)


def lifted_by(metric: str):
    """What brings features to vectors whose dot product is the metric's score; its flag says on which side they are."""

    def cosine(features: Tensor, asks: bool) -> Tensor:
        return unit_length(features)

    def euclidean(features: Tensor, asks: bool) -> Tensor:
        # -|a - b|^2 / C = 2 a.b / C - |a|^2 / C - |b|^2 / C
        scaled = features.float() / features.shape[1] ** 0.5
        return _with_squares(scaled, asks)

    return {"cosine": cosine, "euclidean": euclidean}[metric]


def lifted_places(places: Float[np.ndarray, "m 3"], weight: Real, asks: bool) -> Float[Tensor, "m 5"]:
    """Three numbers a token so that the dot product of two sides is -weight times their squared distance."""
    return _with_squares(torch.from_numpy(places * float(weight) ** 0.5).float(), asks)


def _with_squares(vectors: Tensor, asks: bool) -> Tensor:
    squares, ones = -vectors.square().sum(1, keepdim=True), vectors.new_ones(len(vectors), 1)
    return torch.cat([vectors * 2**0.5, *((squares, ones) if asks else (ones, squares))], 1)


def body_tokens(token_map: TokenMap, body: Shaped[Tensor, "x y z"], share: Real = 0.5) -> Bool[Tensor, "a b c"]:
    """The tokens of which at least a share lies in the body; voxels beyond the volume's border count as outside.

    Args:
        token_map: of a volume.
        body: on the volume's grid, such as Scan.foreground.
        share: in (0, 1].

    Raises:
        ValueError: for a mask on another grid, or a share that is none.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share {share} is not in (0, 1]")
    grid, patch = token_map.features.shape[:3], token_map.patch
    if body.ndim != 3 or any(-(-s // p) != g for s, p, g in zip(body.shape, patch, grid, strict=True)):
        raise ValueError(
            f"a mask of {tuple(body.shape)} voxels does not lie under {tuple(grid)} tokens of {patch} voxels"
        )
    missing = [side for s, p, g in zip(body.shape, patch, grid, strict=True) for side in (g * p - s, 0)][::-1]
    padded = torch.nn.functional.pad(body.float(), missing)
    kinds = dict(zip(("i", "j", "k"), patch, strict=True))
    return reduce(padded, "(a i) (b j) (c k) -> a b c", "mean", **kinds) >= share


def token_centres(token_map: TokenMap) -> Float[np.ndarray, "m 3"]:
    """Where the centres of all tokens lie, in world mm, in grid order."""
    cells = np.stack(np.meshgrid(*map(np.arange, token_map.features.shape[:3]), indexing="ij"), -1).reshape(-1, 3)
    return cells @ token_map.affine[:3, :3].T + token_map.affine[:3, 3]


def token_sides(token_map: TokenMap) -> Sequence[float]:
    """Sides of a token in mm."""
    return np.linalg.norm(token_map.affine[:3, :3], axis=0).tolist()
