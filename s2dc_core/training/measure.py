"""How well organs cluster in the features of an encoder: the number that figures 4 and 5 stand for."""

from collections.abc import Sequence

import numpy as np
from scipy import stats
from torch import nn

from s2dc_core.data import Scan
from s2dc_core.features import organ_silhouettes, organ_tokens, token_features


def scan_silhouettes(
    encoder: nn.Module, scan: Scan, level: int | Sequence[int], purity: float = 0.5, minimum: int = 5
) -> dict[int, float]:
    """Mean cosine silhouette of each organ of a scan, by label; organs with too few tokens are left out.

    Raises:
        ValueError: if the scan has no labels, or fewer than two organs with enough tokens, naming it.
    """
    if scan.label is None:
        raise ValueError(f"{scan.name} has no labels to measure a silhouette with: give a label map")
    token_map = token_features(encoder, scan.volume, level, affine=scan.affine, background=scan.background)
    organs = organ_tokens(token_map, scan.label, purity, minimum)
    if len(organs.kept) < 2:
        raise ValueError(
            f"{scan.name} has {len(organs.kept)} organs of at least {minimum} tokens, two are needed; "
            f"tokens of the others: {organs.dropped}"
        )
    return organ_silhouettes(organs.features, organs.organ)


def mean_silhouette(encoder: nn.Module, scans: Sequence[Scan], level: int | Sequence[int]) -> float:
    """Mean over organs, then over scans: an adrenal gland counts as much as the liver."""
    return float(np.mean([np.mean(list(scan_silhouettes(encoder, scan, level).values())) for scan in scans]))


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float, float]:
    """Mean of independent values and the ends of its Student-t interval.

    Raises:
        ValueError: for fewer than two values, which have no spread.
    """
    values = np.asarray(values, dtype=float)
    if len(values) < 2:
        raise ValueError(f"an interval needs two values, got {len(values)}")
    half = stats.t.ppf((1 + confidence) / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean()), float(values.mean() - half), float(values.mean() + half)
