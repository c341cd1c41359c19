"""What organs gain in the course of a training, and what the colours of a PCA map follow (figs. 6 and 7)."""

from collections.abc import Mapping, Sequence
from numbers import Real

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from s2dc_core.data import Scan, body_grid, structure_grid, structure_names
from s2dc_core.features import OrganTokens, TokenMap, fit_pca, organ_silhouettes, organ_tokens, pca_map
from s2dc_core.matching import unit_length

LEAST_GAIN = 0.02
"""Of cohesion or silhouette: an organ that gains less counts as not learned."""


def cohesion(tokens: OrganTokens) -> dict[int, float]:
    """Mean cosine of two tokens of an organ, minus that with the other organs, each of which counts alike; by label.

    NaN for an organ of one token.
    """
    unit, organs = unit_length(tokens.features.detach().double()), list(tokens.kept)
    sums = torch.stack([unit[tokens.organ == organ].sum(0) for organ in organs])
    n = torch.tensor([tokens.kept[organ] for organ in organs]).double()
    means = sums @ sums.T / (n[:, None] * n)
    own = torch.stack([unit[tokens.organ == organ].square().sum() for organ in organs])  # each token with itself
    within = (means.diag() * n**2 - own) / (n * (n - 1))
    others = (means.sum(1) - means.diag()) / max(len(organs) - 1, 1)
    return dict(zip(organs, (within - others).tolist(), strict=True))


def organ_progress(scan: Scan, maps: Mapping[int, TokenMap]) -> list[dict]:
    """A row for each organ and step: "organ" (its name), "volume" (ml), "step", "cohesion" and "silhouette".

    Args:
        maps: of the scan, by the step of the encoder that made them.
    """
    names, rows = structure_names(scan), []
    millilitres = float(np.prod(scan.spacing)) / 1000
    for step, token_map in maps.items():
        found = organ_tokens(token_map, scan.label)
        apart = organ_silhouettes(found.features, found.organ)
        for number, value in cohesion(found).items():
            row = {"organ": names[number], "volume": int((scan.label == number).sum()) * millilitres}
            rows.append(row | {"step": step, "cohesion": value, "silhouette": apart[number]})
    return rows


def half_way(steps: Sequence[Real], values: Sequence[Real], least: Real = LEAST_GAIN) -> float:
    """The step at which a curve *first* crosses half of what it gains from its first to its last step, interpolated.

    A curve that rises and falls may cross again later. NaN for a curve that gains less than `least`.
    """
    at, values = np.asarray(steps, dtype=float), np.asarray(values, dtype=float)
    gain = values[-1] - values[0]
    if not gain >= least:
        return float("nan")
    progress = (values - values[0]) / gain
    after = int(np.argmax(progress >= 0.5))
    return float(np.interp(0.5, progress[after - 1 : after + 1], at[after - 1 : after + 1]))


def share_between(values: Float[Tensor, "n k"], groups: Int[Tensor, " n"]) -> float:
    """Share of the variance that lies between groups, not within them; 0 where nothing varies."""
    total, within = ((values - values.mean(0)) ** 2).sum(), 0.0
    for group in groups.unique():
        part = values[groups == group]
        within += ((part - part.mean(0)) ** 2).sum()
    return float(1 - within / total) if total > 0 else 0.0


def followed_by_colours(scan: Scan, token_map: TokenMap) -> dict[str, float]:
    """What "brightness" and "organ" explain of a map's three principal components, on the tokens that lie in an organ.

    The components are those of the body's tokens. Brightness sorts the tokens by their mean intensity into as many
    classes of equal size as there are organs. {} for a scan with fewer than two organs.
    """
    body = body_grid(scan, token_map.patch)
    inside = structure_grid(scan, token_map.patch) * body
    organ = inside[inside > 0]
    classes = len(organ.unique())
    if classes < 2:
        return {}
    flat = token_map._replace(features=rearrange(token_map.features[body], "n c -> n 1 1 c"))
    values = pca_map(token_map, 3, fit_pca(flat))[inside > 0]
    bright = torch.nn.functional.avg_pool3d(scan.volume, token_map.patch, ceil_mode=True, count_include_pad=False)
    ranks = bright[0][inside > 0].argsort().argsort() * classes // len(organ)
    return {"brightness": share_between(values, ranks), "organ": share_between(values, organ)}
