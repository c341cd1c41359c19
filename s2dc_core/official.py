"""The structure losses as the published code has them (Ashespt/S2DC, commit b65c9aa), not as the paper prints them.

They are what the preset "official" takes, in place of equations 5, 7 and 8.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from s2dc_core.geometry import Matches
from s2dc_core.losses import match_weights, reduced
from s2dc_core.matching import (
    ASSIGNMENTS,
    MatchStatistics,
    check_matches,
    dual_softmax,
    sharpe_ratio,
    similarity_matrix,
    sinkhorn,
)
from s2dc_core.options import check_choice

CLAMP = 1e-6
"""The published code clamps every confidence to [CLAMP, 1 - CLAMP]; beyond it the gradient is exactly zero."""


def official_patch_to_patch(
    student: Float[Tensor, "b n c"],
    teacher: Float[Tensor, "b m c"],
    matches: Matches,
    assignment: str,
    reduction: str = "mean",
) -> Float[Tensor, "*b"]:
    """What the published code calls L_p2p: mean -log p over the matches plus mean -log(1 - p) over all other pairs.

    p is the dual-softmax of the cosines without a temperature, or Sinkhorn's plan with a dustbin of score 1 and 100
    iterations, clamped. Both are means of a region, then over the regions (the published code takes them over a batch,
    of one region as it is published). A region without a match has the second alone. Needs the [B, N, M] matrix.
    """
    check_choice("assignment", assignment, ASSIGNMENTS)
    similarity = similarity_matrix(student, teacher)
    if assignment == "sinkhorn":
        confidence = sinkhorn(similarity, iterations=100, dustbin=1.0).exp()[:, :-1, :-1]
    else:
        confidence = dual_softmax(similarity)
    confidence = confidence.clamp(CLAMP, 1 - CLAMP)
    is_match = _match_mask(similarity, matches)
    pull, push = _mean_where(is_match, confidence.log()), _mean_where(~is_match, (1 - confidence).log())
    return reduced(-(pull + push), reduction)


def official_patch_to_structure(
    student: Float[Tensor, "b n c"],
    teacher: Float[Tensor, "b m c"],
    matches: Matches,
    detach_ratio: bool = False,
    reduction: str = "mean",
) -> Float[Tensor, "*b"]:
    """What the published code calls L_p2s, a mean over the regions.

    On s = (1 + cosine) / 2, clamped: the sum over the matches of equation 7's weight times -log s, not divided by
    anything, plus the mean of -log(1 - s) over all other pairs. A region without a match has the second alone. Needs
    the [B, N, M] matrix.
    """
    cosine = similarity_matrix(student, teacher)
    ratios = [sharpe_ratio((1 + cosine) / 2, dim) for dim in (-1, -2)]
    source, target = (ratio.detach() if detach_ratio else ratio for ratio in ratios)
    closeness = ((1 + cosine) / 2).clamp(CLAMP, 1 - CLAMP)
    at = (matches.batch, matches.source, matches.target)
    weights = match_weights(MatchStatistics(closeness[at], cosine[at], source, target), matches)
    pull = cosine.new_zeros(len(student)).index_add(0, matches.batch, -weights * closeness[at].log())
    is_match = _match_mask(cosine, matches)
    return reduced(pull - _mean_where(~is_match, (1 - closeness).log()), reduction)


def _match_mask(similarity: Float[Tensor, "b n m"], matches: Matches) -> Tensor:
    check_matches(matches, *similarity.shape)
    mask = torch.zeros_like(similarity, dtype=torch.bool)
    mask[matches.batch, matches.source, matches.target] = True
    return mask


def _mean_where(mask: Bool[Tensor, "b n m"], values: Float[Tensor, "b n m"]) -> Float[Tensor, " b"]:
    """Mean of the pairs of each region that the mask holds; 0 where it holds none."""
    return torch.where(mask, values, 0).sum((1, 2)) / mask.sum((1, 2)).clamp(min=1)
