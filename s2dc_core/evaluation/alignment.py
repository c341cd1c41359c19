"""Two patients brought over each other by their own matches: a robust affine."""

from collections.abc import Sequence
from numbers import Real
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy.ndimage import map_coordinates

from s2dc_core.evaluation.correspondence import TokenMatches, match_tokens, token_sides
from s2dc_core.features import TokenMap

RESIDUAL = 3.0
"""Tokens by which a match may miss the affine and still count for it."""

SCALES = (0.6, 1.6)
"""Smallest and largest stretch of an affine between two people that is believed."""

FEWEST = 12
"""Matches that an alignment needs, three times what determines an affine."""


class Alignment(NamedTuple):
    """What takes a place of the target scan to the same place of the source scan.

    Attributes:
        affine: [4, 4] float64, target mm to source mm.
        inliers: [M] bool, the matches that agree with it.
        error: root mean square of what the inliers miss, mm.
        bend: further displacement in source mm, [X, Y, Z, 3] on the target's token grid; None for none.
        grid: [4, 4] float64, token index to mm of that grid.
    """

    affine: np.ndarray
    inliers: np.ndarray
    error: float
    bend: np.ndarray | None = None
    grid: np.ndarray | None = None

    def __call__(self, points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
        """Target places in mm, carried to the source, in mm; beyond the grid its border's displacement goes on."""
        moved = points @ self.affine[:3, :3].T + self.affine[:3, 3]
        if self.bend is None:
            return moved
        to_grid = np.linalg.inv(self.grid)
        cells = (points @ to_grid[:3, :3].T + to_grid[:3, 3]).T
        further = [map_coordinates(self.bend[..., axis], cells, order=1, mode="nearest") for axis in range(3)]
        return moved + np.stack(further, -1)


WEIGHT = 0.01
"""What a squared distance of one token, after an alignment, takes off a cosine."""


def align(source: TokenMap, target: TokenMap, *, seed: int = 0, **how) -> Alignment | None:
    """Two scans aligned by the mutual matches of their tokens; see align_matches, and deformation.bend for more.

    Args:
        how: masks and metric, as match_tokens takes them.
    """
    return align_matches(match_tokens(source, target, **how), token_sides(source), seed=seed)


def align_matches(
    matches: TokenMatches, token_mm: Real | Sequence[Real], *, mutual: bool = True, tries: int = 4000, seed: int = 0
) -> Alignment | None:
    """The affine on which most matches agree, by RANSAC.

    Of many affines through four matches each, the one is taken whose truncated squared errors sum to the least
    (MSAC; Torr and Zisserman 2000), after the best ones have been fitted to their inliers anew.

    Args:
        matches: of match_tokens.
        token_mm: side of a token in mm, or its three sides; an inlier misses by RESIDUAL tokens at most.
        mutual: let only mutual matches decide.
        tries: affines that are tried.
        seed: of the draws.

    Returns:
        None if there are fewer than FEWEST matches, or no believable affine on which so many agree.
    """
    used = matches.mutual.numpy() if mutual else np.ones(len(matches.mutual), bool)
    if used.sum() < FEWEST:
        return None
    from_, to = matches.target_mm[used], matches.source_mm[used]
    reach = RESIDUAL * float(np.mean(token_mm))
    affine = robust_affine(from_, to, reach, tries, np.random.default_rng(seed))
    if affine is None:
        return None
    missed = np.linalg.norm(from_ @ affine[:3, :3].T + affine[:3, 3] - to, axis=1)
    agree = missed <= reach
    if agree.sum() < FEWEST:
        return None
    inliers = np.zeros(len(used), bool)
    inliers[np.flatnonzero(used)[agree]] = True
    return Alignment(affine, inliers, float(np.sqrt(np.mean(missed[agree] ** 2))))


def robust_affine(
    points: Float[np.ndarray, "m 3"],
    partners: Float[np.ndarray, "m 3"],
    reach: Real,
    tries: int,
    generator: np.random.Generator,
) -> Float[np.ndarray, "4 4"] | None:
    """The affine points -> partners with the least truncated squared error; None if none is believable.

    Args:
        reach: from which error on a match counts no more, mm.
    """
    picks = np.stack([generator.choice(len(points), 4, replace=False) for _ in range(tries)])
    ends = np.concatenate([points[picks], np.ones((tries, 4, 1))], 2)
    sound = np.abs(np.linalg.det(ends)) > 6 * (reach / 3) ** 3  # four points in a plane determine nothing
    solved = np.linalg.solve(ends[sound], partners[picks[sound]]).transpose(0, 2, 1)
    solved = solved[believable(solved[:, :, :3])]
    if not len(solved):
        return None
    few = generator.permutation(len(points))[:1500]
    losses = np.array([_loss(tried, points[few], partners[few], reach) for tried in solved])
    best = [refit(solved[k], points, partners, reach) for k in np.argsort(losses)[:20]]
    best = [tried for tried in best if tried is not None]
    if not best:
        return None
    affine = np.eye(4)
    affine[:3] = min(best, key=lambda tried: _loss(tried, points, partners, reach))
    return affine


def believable(linear: Float[np.ndarray, "k 3 3"]) -> Bool[np.ndarray, " k"]:
    """Whether linear maps keep hands and stretch within SCALES."""
    stretch = np.linalg.svd(linear, compute_uv=False)
    return (np.linalg.det(linear) > 0) & (stretch.max(1) <= SCALES[1]) & (stretch.min(1) >= SCALES[0])


def refit(
    affine: Float[np.ndarray, "3 4"],
    points: Float[np.ndarray, "m 3"],
    partners: Float[np.ndarray, "m 3"],
    reach: Real,
    times: int = 6,
) -> Float[np.ndarray, "3 4"] | None:
    """The affine fitted by least squares to its inliers, again and again; None if it leaves what is believable."""
    ends = np.concatenate([points, np.ones((len(points), 1))], 1)
    for _ in range(times):
        agree = np.linalg.norm(ends @ affine.T - partners, axis=1) <= reach
        if agree.sum() < FEWEST:
            return None
        affine = np.linalg.lstsq(ends[agree], partners[agree], rcond=None)[0].T
    return affine if believable(affine[None, :, :3])[0] else None


def _loss(affine: np.ndarray, points: np.ndarray, partners: np.ndarray, reach: float) -> float:
    missed = points @ affine[:, :3].T + affine[:, 3] - partners
    return float(np.minimum((missed**2).sum(1), reach**2).sum())
