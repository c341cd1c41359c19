"""What an affine leaves between two people: a smooth deformation by block matching of their tokens.

Each token looks for its partner near the place where the alignment so far expects it; the moves of those that agree in
both directions are averaged over their neighbours, more and more finely (block matching: Ourselin et al. 2001).
"""

from collections.abc import Iterator, Sequence
from numbers import Real
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.ndimage import gaussian_filter
from torch import Tensor

from s2dc_core.evaluation.alignment import Alignment
from s2dc_core.evaluation.correspondence import (
    check_comparable,
    chosen,
    lifted,
    lifted_places,
    token_centres,
    token_sides,
)
from s2dc_core.features import TokenMap

ROUNDS = ((4.0, 0.03), (3.0, 0.03), (2.0, 0.03), (2.0, 0.05), (1.5, 0.05), (1.5, 0.1), (1.0, 0.1), (1.0, 0.1))
"""Of each round the width of the averaging in tokens, and what a squared token of distance takes off the score."""

REACH = 4.0
"""Tokens within which a partner is looked for."""

BLOCK = 6
"""Target tokens along each side of a block that looks through the same candidates."""

AGAIN = ((1.5, 0.05), (1.5, 0.1))
"""The rounds of a second pass, with finer tokens."""

DOUBT = 0.02
"""Weight of no move in the averages: where few agree, little moves."""


def bend(
    source: TokenMap,
    target: TokenMap,
    alignment: Alignment,
    *,
    source_inside: Bool[Tensor, "x y z"] | None = None,
    target_inside: Bool[Tensor, "a b c"] | None = None,
    metric: str = "cosine",
    rounds: Sequence[tuple[Real, Real]] = ROUNDS,
) -> Alignment:
    """An alignment with a smooth deformation after its affine.

    Args:
        source, target, source_inside, target_inside, metric: as match_tokens takes them.
        alignment: of the two scans; a deformation that it has is gone on from.
        rounds: as ROUNDS.

    Raises:
        ValueError: as match_tokens.
    """
    check_comparable(source, target, metric)
    (keys, of_keys), (queries, of_queries) = chosen(source, source_inside), chosen(target, target_inside)
    side, (queries, keys) = float(np.mean(token_sides(source))), lifted(queries, keys, metric)
    grid, here, there = target.features.shape[:3], of_queries.numpy(), token_centres(source)[of_keys.numpy()]
    centres = token_centres(target)
    cells, moves = np.stack(np.unravel_index(here, grid), 1), np.zeros((*grid, 3))
    start = alignment(centres)
    for width, weight in rounds:
        expected = (start + moves.reshape(-1, 3))[here]
        near = nearby_best(queries, keys, expected / side, there / side, cells, weight)
        found = near.index >= 0
        agree = found & (near.back[near.index] == np.arange(len(found)))
        step = averaged(grid, here[agree], there[near.index[agree]] - expected[agree], width)
        moves = moves + step
    bent = (start - alignment._replace(bend=None)(centres)).reshape(moves.shape) + moves
    return alignment._replace(bend=bent, grid=target.affine)


class Nearby(NamedTuple):
    """Of each query its best key within reach, [Q], -1 where there is none; of each key its best query, [N]."""

    index: np.ndarray
    score: np.ndarray
    back: np.ndarray


def nearby_best(
    queries: Float[Tensor, "q c"],
    keys: Float[Tensor, "n c"],
    expected: Float[np.ndarray, "q 3"],
    places: Float[np.ndarray, "n 3"],
    cells: Int[np.ndarray, "q 3"],
    weight: Real,
    reach: Real = REACH,
) -> Nearby:
    """The key with the largest dot product less weight times the squared distance, among those within reach.

    Args:
        expected: where each query expects its partner, in tokens.
        places: where the keys lie, in tokens.
        cells: grid cell of each query; those of a block look through the same keys together.
        weight: of a squared token of distance.
        reach: largest distance, in tokens.
    """
    index, score = np.full(len(queries), -1), np.full(len(queries), -np.inf, np.float32)
    back, highest = np.full(len(keys), -1), np.full(len(keys), -np.inf, np.float32)
    for rows, columns in blocks(expected, places, cells, reach):
        middle = expected[rows].mean(0)  # squares of large numbers would lose their precision
        asks, lies = lifted_places(expected[rows] - middle, 1, True), lifted_places(places[columns] - middle, 1, False)
        squares = -(asks @ lies.T).to(queries.device)
        scores = torch.addmm(squares, queries[rows], keys[columns].T, beta=-float(weight))
        scores = scores.masked_fill_(squares > reach**2, -torch.inf).cpu()
        best, place = scores.max(1)
        score[rows], index[rows] = best.numpy(), np.where(best > -torch.inf, columns[place.numpy()], -1)
        best, place = (values.numpy() for values in scores.max(0))
        higher = best > highest[columns]
        highest[columns[higher]], back[columns[higher]] = best[higher], rows[place[higher]]
    return Nearby(index, score, back)


def blocks(
    expected: Float[np.ndarray, "q 3"], places: Float[np.ndarray, "n 3"], cells: np.ndarray, reach: Real
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Indices of the queries of each block of the grid, and of the keys in the box that holds all their reach."""
    block = np.unique(cells // BLOCK, axis=0, return_inverse=True)[1].ravel()
    order = np.argsort(block, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(block[order])) + 1):
        low, high = expected[rows].min(0) - reach, expected[rows].max(0) + reach
        columns = np.flatnonzero(((places >= low) & (places <= high)).all(1))
        if len(columns):
            yield rows, columns


def averaged(
    grid: Sequence[int], here: np.ndarray, moves: Float[np.ndarray, "m 3"], width: Real
) -> Float[np.ndarray, "x y z 3"]:
    """The moves of some tokens, [flat index], averaged by a Gaussian of a width in tokens over the grid."""

    def spread(values: np.ndarray) -> np.ndarray:
        field = np.zeros(grid)
        field.flat[here] = values
        return gaussian_filter(field, float(width), mode="constant")

    weight = spread(np.ones(len(here))) + DOUBT
    return np.stack([spread(moves[:, axis]) / weight for axis in range(3)], -1)
