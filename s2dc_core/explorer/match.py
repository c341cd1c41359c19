"""The same place in another scan, one click at a time: what the explorer of two patients shows, without it."""

from collections.abc import Sequence
from numbers import Integral, Real
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from s2dc_core.evaluation.alignment import WEIGHT, Alignment, align_matches
from s2dc_core.evaluation.correspondence import (
    body_tokens,
    check_comparable,
    match_tokens,
    token_centres,
    token_sides,
)
from s2dc_core.features import TokenMap
from s2dc_core.matching import unit_length


class Side(NamedTuple):
    """One of two scans, with all that a click needs already made; N tokens in grid order (last axis fastest).

    Attributes:
        tokens: its token map.
        unit: [N, C] the features, of length 1.
        inside: [N] bool, the tokens that lie in the body: those that may be clicked and found.
        places: [N, 3] where the tokens lie in the frame of an aligned pair, in tokens; None without an alignment.
    """

    tokens: TokenMap
    unit: Tensor
    inside: Tensor
    places: Tensor | None = None


class Pair(NamedTuple):
    """Two scans to click in.

    Attributes:
        left, right: both scans.
        alignment: left mm to right mm; None where there is none.
        mutual: the mutual matches it was sought in. One that agrees with few of them is not to be trusted.
    """

    left: Side
    right: Side
    alignment: Alignment | None = None
    mutual: int = 0


class PairMatch(NamedTuple):
    """What a clicked voxel finds in the other scan.

    Attributes:
        clicked: the voxel that asks, of the source.
        voxel: of the target, in the middle of the token that was found.
        mm: centre of that token in world mm of the target, [3] float64.
        cosine: of both tokens.
        margin: how much less the second best of the body's tokens scores, at least 0; infinite where there is none.
        mutual: whether the clicked token is also the best that the found one finds in the body of the source.
        similarity: [X, Y, Z] cosine of the clicked token with every token of the target, in air too.
        affine: [4, 4] of that grid, token index to mm.
    """

    clicked: tuple[int, int, int]
    voxel: tuple[int, int, int]
    mm: np.ndarray
    cosine: float
    margin: float
    mutual: bool
    similarity: Tensor
    affine: np.ndarray


def side_of(tokens: TokenMap, body: Shaped[Tensor, "x y z"]) -> Side:
    """A scan made ready for clicks.

    Args:
        tokens: of the scan.
        body: on the voxels of the scan, such as Scan.foreground.

    Raises:
        ValueError: for a mask on another grid, or one that fills half of no token.
    """
    inside = body_tokens(tokens, body).flatten()
    if not inside.any():
        raise ValueError("no token lies in the body: the mask of the body is empty, or the tokens are too large for it")
    return Side(tokens, unit_length(tokens.features).flatten(0, 2), inside)


def aligned(pair: Pair) -> Pair:
    """The pair in one frame, by an affine through its own mutual matches; as it was if none is found.

    Takes seconds: all tokens of both bodies are compared.
    """
    left, right = pair.left, pair.right
    masks = [side.inside.reshape(side.tokens.features.shape[:3]) for side in (left, right)]
    matches = match_tokens(right.tokens, left.tokens, source_inside=masks[1], target_inside=masks[0])
    found = align_matches(matches, token_sides(right.tokens))
    if found is None:
        return pair
    token = float(np.mean(token_sides(right.tokens)))
    places = found(token_centres(left.tokens)), token_centres(right.tokens)
    left, right = (
        side._replace(places=torch.from_numpy(place / token).float())
        for side, place in zip((left, right), places, strict=True)
    )
    return Pair(left, right, found, int(matches.mutual.sum()))


def match_at(voxel: Sequence[Integral] | np.ndarray, source: Side, target: Side, weight: Real = WEIGHT) -> PairMatch:
    """The token of the target's body that is most similar to the one that holds a voxel of the source.

    Two products of a matrix with a vector. Of equal scores the first in grid order is taken. If both sides are of an
    aligned pair, a score is the cosine less `weight` times the squared distance in tokens; else it is the cosine.

    Args:
        voxel: of the source's volume.
        source, target: of two scans, by one encoder and the same levels; spacings may differ.
        weight: of the distance.

    Raises:
        IndexError: for a voxel outside the token map.
        ValueError: for a voxel in air, or sides of different channels.
    """
    check_comparable(target.tokens, source.tokens)
    clicked = tuple(int(v) for v in voxel)
    asks = _token_at(clicked, source.tokens)
    if not source.inside[asks]:
        raise ValueError(f"voxel {clicked} lies in air: click in the body")
    similarity = (target.unit @ source.unit[asks]).clamp(-1, 1)
    scores = _scores(similarity, asks, source, target, weight)
    found = int(scores.argmax())
    second = scores.index_fill(0, torch.tensor([found]), -torch.inf).max()
    back = _scores(source.unit @ target.unit[found], found, target, source, weight)
    grid, patch = target.tokens.features.shape[:3], target.tokens.patch
    cell = np.unravel_index(found, grid)
    return PairMatch(
        clicked,
        # Of a token that is half in the body, this voxel lies in the volume even where the token does not end in it.
        tuple(int(c) * p + (p - 1) // 2 for c, p in zip(cell, patch, strict=True)),
        (target.tokens.affine @ [*cell, 1.0])[:3],
        float(similarity[found]),
        float(scores[found] - second),
        int(back.argmax()) == asks,
        similarity.reshape(grid),
        target.tokens.affine,
    )


def _token_at(voxel: Sequence[int], tokens: TokenMap) -> int:
    """Flat index of the token that holds a voxel."""
    grid = tokens.features.shape[:3]
    cell = [v // p for v, p in zip(voxel, tokens.patch, strict=True)]
    if any(not 0 <= c < side for c, side in zip(cell, grid, strict=True)):
        raise IndexError(f"voxel {tuple(voxel)} lies outside the token map of {tuple(grid)} tokens")
    return int(np.ravel_multi_index(cell, grid))


def _scores(cosines: Float[Tensor, " n"], asks: int, source: Side, target: Side, weight: Real) -> Float[Tensor, " n"]:
    """What each token of the target scores as the partner of one of the source; minus infinity in air."""
    if source.places is not None and target.places is not None:
        cosines = cosines - weight * (target.places - source.places[asks]).square().sum(1)
    return cosines.masked_fill(~target.inside, -torch.inf)
