"""How well organs cluster in the features of an encoder: the number that figures 4 and 5 stand for."""

from collections.abc import Sequence
from numbers import Integral, Real
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import ArrayLike
from scipy import stats
from scipy.spatial.distance import cdist
from torch import Tensor, nn

from s2dc_core.data import Scan, structure_problem
from s2dc_core.features import OrganTokens, TokenMap, organ_grid, organ_silhouettes, organ_tokens, token_features
from s2dc_core.matching import unit_length


def labelled_tokens(
    encoder: nn.Module, scan: Scan, level: Real | Sequence[Real], purity: float = 0.5, minimum: int = 5
) -> tuple[OrganTokens, Float[np.ndarray, "t 3"]]:
    """The tokens of a scan's organs and where their centres lie, in world mm; organs with too few are in `dropped`.

    Raises:
        ValueError: if the scan has no labels, or fewer than two organs with enough tokens, naming it.
    """
    tokens, token_map = _tokens_of(encoder, scan, level, purity, minimum)
    owner = organ_grid(token_map, scan.label, purity)
    cells = torch.isin(owner, torch.tensor(list(tokens.kept))).nonzero().double().numpy()
    return tokens, cells @ token_map.affine[:3, :3].T + token_map.affine[:3, 3]


def scan_silhouettes(
    encoder: nn.Module, scan: Scan, level: Real | Sequence[Real], purity: float = 0.5, minimum: int = 5
) -> dict[int, float]:
    """Mean cosine silhouette of each organ of a scan, by label; organs with too few tokens are left out.

    Raises:
        ValueError: if the scan has no labels, or fewer than two organs with enough tokens, naming it.
    """
    tokens, _ = _tokens_of(encoder, scan, level, purity, minimum)
    return organ_silhouettes(tokens.features, tokens.organ)


def _tokens_of(
    encoder: nn.Module, scan: Scan, level: Real | Sequence[Real], purity: float, minimum: int
) -> tuple[OrganTokens, TokenMap]:
    stride = encoder.stride(level if isinstance(level, int) else level[0])
    if problem := structure_problem(scan, stride, "a silhouette", 2, minimum, purity):
        raise ValueError(problem)
    token_map = token_features(encoder, scan.volume, level, affine=scan.affine, background=scan.background)
    return organ_tokens(token_map, scan.label, purity, minimum), token_map


def mean_silhouette(encoder: nn.Module, scans: Sequence[Scan], level: Real | Sequence[Real]) -> float:
    """Mean over organs, then over scans: an adrenal gland counts as much as the liver."""
    return float(np.mean([np.mean(list(scan_silhouettes(encoder, scan, level).values())) for scan in scans]))


def rank_correlation(one: ArrayLike, other: ArrayLike, fewest: int = 4) -> tuple[float, float]:
    """Spearman's rank correlation of paired values and its p-value; pairs with a NaN are left out.

    NaN for fewer pairs than `fewest`, which no rank correlation can decide, and where one side is the same everywhere.
    """
    pairs = np.array([one, other], dtype=float)
    pairs = pairs[:, ~np.isnan(pairs).any(0)]
    if pairs.shape[1] < fewest or (np.ptp(pairs, axis=1) == 0).any():
        return np.nan, np.nan
    found = stats.spearmanr(*pairs)
    return float(found.statistic), float(found.pvalue)


def organ_distances(features: Float[Tensor, "t c"], organ: Int[Tensor, " t"]) -> tuple[list[int], np.ndarray]:
    """Labels, and the mean cosine distance between the tokens of each two organs, [K, K].

    The diagonal holds the distance between two different tokens of one organ, NaN for an organ of one token. A token of
    length zero has cosine 0 with all.
    """
    labels, unit = organ.unique().tolist(), unit_length(features.detach().double())
    sums = torch.stack([unit[organ == label].sum(0) for label in labels])
    counts = torch.stack([(organ == label).sum() for label in labels]).double()
    cosine = (sums @ sums.T) / counts[:, None] / counts
    own = torch.stack([unit[organ == label].square().sum() for label in labels])  # each token with itself
    cosine.diagonal().copy_((sums.square().sum(1) - own) / (counts * (counts - 1)))
    return labels, (1 - cosine).numpy()


class Spread(NamedTuple):
    """How far apart tokens lie, as mean cosine distances, each organ counting alike.

    Attributes:
        within: of two tokens of one organ.
        between: of two tokens of different organs.
        nearest: of an organ and the one nearest to it.
    """

    within: float
    between: float
    nearest: float


def spread_of(features: Float[Tensor, "t c"], organ: Int[Tensor, " t"]) -> Spread:
    """Mean distances within organs, between two of them, and to the nearest other one; organs of one token have none
    within."""
    _, matrix = organ_distances(features, organ)
    own = np.eye(len(matrix), dtype=bool)
    nearest = np.where(own, np.inf, matrix).min(1)
    return Spread(float(np.nanmean(matrix[own])), float(matrix[~own].mean()), float(nearest.mean()))


def draw_tokens(organ: Int[Tensor, " t"], most: Integral, seed: Integral) -> tuple[np.ndarray, int]:
    """All tokens of small organs and a draw of large ones: indices in order, and how many of an organ at most.

    That number is the largest that keeps the sum within `most`, and at least 2.
    """
    labels, counts = np.unique(organ, return_counts=True)
    caps = range(2, int(counts.max()) + 1)
    cap = max((cap for cap in caps if np.minimum(counts, cap).sum() <= most), default=2)
    generator = np.random.default_rng(seed)
    drawn = [generator.permutation(np.flatnonzero(organ == label))[:cap] for label in labels]
    return np.sort(np.concatenate(drawn)), cap


def place_in_body(scan: Scan, points: Float[np.ndarray, "t 3"]) -> Float[np.ndarray, "t 3"]:
    """Places in mm counted from 0 to 1 along each axis of the box that holds the scan's body."""
    body = scan.foreground.nonzero().double().numpy() @ scan.affine[:3, :3].T + scan.affine[:3, 3]
    low, size = body.min(0), np.ptp(body, axis=0)
    return (points - low) / np.where(size > 0, size, 1)


def nearest_tokens(features: Float[Tensor, "t c"], chunk: int = 1024) -> Int[Tensor, " t"]:
    """For each token the index of the other token that has the largest cosine with it."""
    unit = unit_length(features.detach())
    nearest = []
    for start in range(0, len(unit), chunk):
        cosine = unit[start : start + chunk] @ unit.T
        rows = torch.arange(len(cosine))
        cosine[rows, start + rows] = -torch.inf
        nearest.append(cosine.argmax(1))
    return torch.cat(nearest)


def cosine_by_distance(
    features: Float[Tensor, "t c"],
    organ: Int[Tensor, " t"],
    points: Float[np.ndarray, "t 3"],
    edges: Sequence[Real] | np.ndarray,
    minimum: int = 20,
    chunk: int = 512,
) -> tuple[np.ndarray, np.ndarray]:
    """Mean cosine of two tokens against their distance: of one organ, and of different organs, a value per bin.

    First for each organ, then the mean over those organs that have at least `minimum` pairs of either kind in the bin:
    so both curves speak of the same organs at each distance, and a large organ counts no more than a small one. NaN in
    bins without any.

    Args:
        points: centres of the tokens in mm.
        edges: of the bins in mm, growing; a distance on an edge belongs to the bin above.
    """
    unit, edges, bins = unit_length(features.detach()), np.asarray(edges, dtype=float), len(edges) - 1
    means = []
    for label in organ.unique().tolist():
        total, count = np.zeros((2, bins + 2)), np.zeros((2, bins + 2))
        for rows in (organ == label).nonzero()[:, 0].split(chunk):
            cosine = (unit[rows] @ unit.T).double().numpy()
            place = np.digitize(cdist(points[rows.numpy()], points), edges)
            place[np.arange(len(rows)), rows.numpy()] = 0  # a token with itself
            for kind, here in enumerate(((organ == label).numpy(), (organ != label).numpy())):
                cells = place[:, here].ravel()
                total[kind] += np.bincount(cells, cosine[:, here].ravel(), bins + 2)
                count[kind] += np.bincount(cells, minlength=bins + 2)
        enough = (count >= minimum).all(0)
        means.append(np.where(enough, total / np.maximum(count, 1), np.nan)[:, 1:-1])
    means = np.stack(means)
    known = ~np.isnan(means)
    averaged = np.where(known, means, 0).sum(0) / np.where(known.any(0), known.sum(0), np.nan)
    return averaged[0], averaged[1]
