"""The three losses and their sum (paper equations 1, 5, 7, 8, 9), with the choices that the paper leaves open by name.

Three presets. ``default`` is ours. ``paper`` takes the equations as printed, on a correct geometry. ``official``
computes what the published code computes (Ashespt/S2DC, commit b65c9aa), which is not what the paper prints.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from s2dc_core.geometry import Matches
from s2dc_core.matching import (
    ASSIGNMENTS,
    BACKENDS,
    DISPERSIONS,
    MATMUL_DTYPES,
    MatchStatistics,
    at_least_float32,
    match_statistics,
    unit_length,
)
from s2dc_core.options import Options, above_zero, check_choice, from_zero, one_of

NORMALISERS = ("weights", "printed")
FORMS = ("equations", "official")
REDUCTIONS = ("mean", "none")
CHOICES = {"assignment": ASSIGNMENTS, "dispersion": DISPERSIONS, "normaliser": NORMALISERS, "form": FORMS}
CHOICES |= {"backend": BACKENDS, "matmul_dtype": MATMUL_DTYPES}
OF_STATISTICS = ("temperature", "dispersion", "backend", "assignment", "detach_ratio", "matmul_dtype")
"""The options that match_statistics takes."""
WEIGHTS = ("contrast_weight", "patch_to_patch_weight", "patch_to_structure_weight")
"""The factors of equation 9, of L_g, L_p2p and L_p2s."""


def info_nce(
    query: Float[Tensor, "b c"],
    positive: Float[Tensor, "b c"],
    negatives: Float[Tensor, "k c"],
    temperature: float | int,
    reduction: str = "mean",
) -> Float[Tensor, "*b"]:
    """Equation 1, L_g: -log( exp(q . q*' / t) / sum_m exp(q . q*_m / t) ), mean over the queries.

    The sum runs over the positive (m = 0) and the K negatives. The printed denominator divides the exponential by
    the temperature instead of its argument, a misprint. Regions of one shape have as many sub-volumes, so this is a
    mean over regions too; negatives that do not come from the batch leave a region's share its own.

    Args:
        query: student features of sub-volumes, [B, C].
        positive: teacher features of their augmented counterparts, [B, C].
        negatives: dictionary of teacher features, [K, C]; K may be 0, then the loss is 0.
        temperature: positive; unit-length features make the logits cosines over it.
        reduction: "mean", or "none" for each query's own, [B].
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, got {temperature}")
    logits = torch.cat([(query * positive).sum(-1, keepdim=True), query @ negatives.T], dim=1) / temperature
    return reduced(logits.logsumexp(1) - logits[:, 0], reduction)


def patch_to_patch(statistics: MatchStatistics, matches: Matches, reduction: str = "mean") -> Float[Tensor, "*b"]:
    """Equation 5, L_p2p: mean of -log M^_t(i, j) over the matches of a region, then over the regions.

    A region without a match counts 0, so that what a region adds does not depend on the others of its batch.

    Args:
        reduction: "mean", or "none" for each region's own, [B].
    """
    ones = torch.ones_like(statistics.log_confidence)
    return reduced(_mean_of_each(-statistics.log_confidence, ones, matches, len(statistics.source_ratio)), reduction)


def patch_to_structure(
    statistics: MatchStatistics, matches: Matches, normaliser: str = "weights", reduction: str = "mean"
) -> Float[Tensor, "*b"]:
    """Equations 7 and 8, L_p2s: the matches' -log M^_t(i, j), weighted by how peaked their distributions are.

    The weight of a match is (softmax(sr_V)_n + softmax(sr_V')_m) / 2, the softmaxes over all tokens of a region. A
    token with many look-alikes has a low ratio and a small weight: the demand to tell it apart is relaxed.

    Args:
        statistics: detach its ratios to use the weights as soft labels without gradient.
        matches: ground truth.
        normaliser: "printed" divides by N x M as equation 8 does, which leaves at most 5e-4 at N = 144; "weights"
            divides by the sum of the weights over the matches, a weighted mean on the scale of L_p2p.
        reduction: "mean", or "none" for each region's own, [B].

    Raises:
        ValueError: for an unknown normaliser.
    """
    check_choice("normaliser", normaliser, NORMALISERS)
    regions, sources = statistics.source_ratio.shape
    log_weights = log_match_weights(statistics, matches)
    if normaliser == "printed":
        pairs, values = sources * statistics.target_ratio.shape[1], -log_weights.exp() * statistics.log_confidence
        return reduced(values.new_zeros(regions).index_add(0, matches.batch, values) / pairs, reduction)
    # A common factor of a region's weights leaves its weighted mean as it is; taking out the largest keeps them from
    # underflowing together where a token without a match has nearly all of the softmax.
    largest = log_weights.detach().new_full((regions,), -torch.inf)
    largest = largest.scatter_reduce(0, matches.batch, log_weights.detach(), "amax")
    weights = (log_weights - largest[matches.batch]).exp()
    return reduced(_mean_of_each(-statistics.log_confidence, weights, matches, regions), reduction)


def match_weights(statistics: MatchStatistics, matches: Matches) -> Float[Tensor, " p"]:
    """The factor of equation 7 for each match: (softmax(sr_V)_n + softmax(sr_V')_m) / 2, [P]."""
    return log_match_weights(statistics, matches).exp()


def log_match_weights(statistics: MatchStatistics, matches: Matches) -> Float[Tensor, " p"]:
    """Logarithm of match_weights, finite where the softmax underflows."""
    source = statistics.source_ratio.log_softmax(-1)[matches.batch, matches.source]
    target = statistics.target_ratio.log_softmax(-1)[matches.batch, matches.target]
    return torch.logaddexp(source, target) - math.log(2)


def _mean_of_each(
    value: Float[Tensor, " p"], weight: Float[Tensor, " p"], matches: Matches, regions: int
) -> Float[Tensor, " b"]:
    total = value.new_zeros(regions).index_add(0, matches.batch, weight * value)
    mass = value.new_zeros(regions).index_add(0, matches.batch, weight)
    matched = matches.per_region(regions) > 0
    # A total without matches is an exact zero that still hangs on the graph, so that backward() works.
    return total / torch.where(matched, mass, torch.ones_like(mass))


def reduced(values: Float[Tensor, " b"], reduction: str) -> Float[Tensor, "*b"]:
    """The mean of some values, or with "none" the values."""
    check_choice("reduction", reduction, REDUCTIONS)
    return values.mean() if reduction == "mean" else values


class LossTerms(NamedTuple):
    """The loss of equation 9 and its three terms, the terms before their weights; scalars, or one for each region."""

    total: Float[Tensor, "*b"]
    contrast: Float[Tensor, "*b"]
    patch_to_patch: Float[Tensor, "*b"]
    patch_to_structure: Float[Tensor, "*b"]


@dataclass(frozen=True)
class LossOptions(Options):
    """Every choice that the paper leaves open, or that the published code makes in its own way.

    Attributes:
        contrast_weight, patch_to_patch_weight, patch_to_structure_weight: factors of equation 9; a term of weight 0
            is still reported but sends no gradient.
        contrast_temperature: of L_g.
        contrast_unit_length: whether L_g normalises its features, so that its dot products are cosines.
        temperature: of the assignment, equation 4.
        assignment: "dual_softmax" or "sinkhorn".
        dispersion: sigma of equation 6, "std" or "variance".
        normaliser: of equation 8, "weights" or "printed".
        detach_ratio: whether the weights of equation 7 are soft labels without gradient.
        form: "equations" or "official" (the structure terms as the published code computes them, see official.py).
        backend, matmul_dtype: see matching.match_statistics.
    """

    contrast_weight: float | int = 1.0
    patch_to_patch_weight: float | int = 1.0
    patch_to_structure_weight: float | int = 1.0
    contrast_temperature: float | int = 0.2
    contrast_unit_length: bool = True
    temperature: float | int = 0.1
    assignment: str = "dual_softmax"
    dispersion: str = "std"
    normaliser: str = "weights"
    detach_ratio: bool = True
    form: str = "equations"
    backend: str = "auto"
    matmul_dtype: str = "float32"

    RULES: ClassVar = {
        **{name: one_of(*choices) for name, choices in CHOICES.items()},
        **dict.fromkeys(("temperature", "contrast_temperature"), above_zero(1e6)),
        **dict.fromkeys(WEIGHTS, from_zero(1e6)),
    }

    @classmethod
    def disagreements(cls, values, sound) -> Iterator[str]:
        """A loss that trains nothing, and what the official form fixes."""
        if sound(*WEIGHTS) and not any(getattr(values, name) for name in WEIGHTS):
            yield "all three weights of the loss are 0, so nothing would be trained: give one above 0"
        if not sound("form") or values.form != "official":
            return
        if sound("backend") and values.backend == "streaming":
            yield "the official form needs all pairs and cannot use backend 'streaming': leave it, or form='equations'"
        fixed_by_it = {"temperature": 1.0, "dispersion": "std", "normaliser": "weights", "matmul_dtype": "float32"}
        for name, fixed in fixed_by_it.items():
            if sound(name) and getattr(values, name) != fixed:
                said = f"{name}={getattr(values, name)!r} has no effect on the official form"
                yield f"{said}: leave it at {fixed!r}, or set form='equations'"


PRESETS = {
    "default": LossOptions(),
    # Equation 4 prints no temperature, equation 6 says variance, and nothing printed stops a gradient; L_g's
    # temperature is that of the cited MoCo.
    "paper": LossOptions(
        contrast_temperature=0.07, temperature=1.0, dispersion="variance", normaliser="printed", detach_ratio=False
    ),
    "official": LossOptions(
        contrast_weight=0.5,
        patch_to_patch_weight=0.5,
        patch_to_structure_weight=0.5,
        contrast_temperature=0.9,
        contrast_unit_length=False,
        temperature=1.0,
        detach_ratio=False,
        form="official",
    ),
}


class S2DCLoss(nn.Module):
    """Equation 9: L = L_g + L_p2p + L_p2s, each with a weight.

    Calling it: ``(query [B', C'], positive [B', C'], negatives [K, C'], student, teacher, matches) -> LossTerms``,
    where student and teacher are unit-length tokens [B, N, C] with their Matches, or lists of these, one entry per
    token level; the structure terms are means over the levels. Every term is a mean over the regions, and what a region
    adds does not depend on the others: a batch, accumulated batches and several processes give one and the same.
    """

    def __init__(self, options: LossOptions = PRESETS["default"]):
        super().__init__()
        self.options = options

    @classmethod
    def from_preset(cls, name: str = "default", **overrides) -> "S2DCLoss":
        """The loss of a preset ("default", "paper", "official"), with fields of LossOptions replaced by name.

        Raises:
            ValueError: for an unknown preset, option or choice.
        """
        check_choice("preset", name, tuple(PRESETS))
        for option in overrides:
            check_choice("option", option, tuple(LossOptions.__dataclass_fields__))
        return cls(replace(PRESETS[name], **overrides))

    def forward(
        self,
        query: Float[Tensor, "q d"],
        positive: Float[Tensor, "q d"],
        negatives: Float[Tensor, "k d"],
        student: Float[Tensor, "b n c"] | Sequence[Tensor],
        teacher: Float[Tensor, "b m c"] | Sequence[Tensor],
        matches: Matches | Sequence[Matches],
    ) -> LossTerms:
        """The weighted total and the three terms, means over the regions; see the class for the shapes.

        Computed in float32 at least, also under autocast: at temperature 0.1 the rounding of a bfloat16 cosine moves a
        logit by 0.04, and the gradient may turn round. (With matmul_dtype="bfloat16" tokens are rounded before they are
        multiplied, but their cosines are float32.)

        Raises:
            ValueError: unless student, teacher and matches have one entry for each level, and as match_statistics.
            FloatingPointError: if a token holds NaN or infinity, unless the form is "official".
        """
        terms = self.per_region(query, positive, negatives, student, teacher, matches, 1)
        return LossTerms(*(term.squeeze(0) for term in terms))

    def per_region(self, query, positive, negatives, student, teacher, matches, regions: int) -> LossTerms:
        """What forward gives the mean of, for each of the regions, [regions].

        Args:
            query, positive, negatives, student, teacher, matches: as of forward; the queries, and the rows of the
                tokens (samples of a region, one after another), are shared out evenly among the regions.
        """
        student, teacher, matches = _by_level(student, teacher, matches)
        query, positive, negatives = (at_least_float32(x) for x in (query, positive, negatives))
        with torch.autocast(query.device.type, enabled=False):
            return self._terms(query, positive, negatives, zip(student, teacher, matches, strict=True), regions)

    def _terms(self, query, positive, negatives, levels, regions) -> LossTerms:
        if self.options.contrast_unit_length:
            query, positive, negatives = (unit_length(x) for x in (query, positive, negatives))
        contrast = info_nce(query, positive, negatives, self.options.contrast_temperature, "none")
        structure = [
            torch.stack(term).mean(0) for term in zip(*(self._of_level(*each) for each in levels), strict=True)
        ]
        terms = [term.view(regions, -1).mean(1) for term in (contrast, *structure)]
        # Left out rather than multiplied by 0: backward() then skips it, and a NaN in it stays where it is.
        weights = [getattr(self.options, name) for name in WEIGHTS]
        used = [weight * term for weight, term in zip(weights, terms, strict=True) if weight]
        return LossTerms(sum(used, start=terms[0].new_zeros(regions)), *terms)

    def structure_terms(
        self, student: Float[Tensor, "b n c"], teacher: Float[Tensor, "b m c"], matches: Matches
    ) -> tuple[Tensor, Tensor]:
        """L_p2p and L_p2s of one token level, before their weights."""
        p2p, p2s = self._of_level(student, teacher, matches)
        return p2p.mean(), p2s.mean()

    def _of_level(self, student: Tensor, teacher: Tensor, matches: Matches) -> tuple[Tensor, Tensor]:
        options = self.options
        if options.form == "official":
            from s2dc_core.official import official_patch_to_patch, official_patch_to_structure

            tokens = at_least_float32(student), at_least_float32(teacher), matches
            p2p = official_patch_to_patch(*tokens, options.assignment, "none")
            return p2p, official_patch_to_structure(*tokens, options.detach_ratio, "none")
        chosen = {name: getattr(options, name) for name in OF_STATISTICS}
        statistics = match_statistics(student, teacher, matches, **chosen)
        p2p = patch_to_patch(statistics, matches, "none")
        return p2p, patch_to_structure(statistics, matches, options.normaliser, "none")


def _by_level(student, teacher, matches) -> list[list]:
    """Each as a list, with an entry for each token level."""
    levels = [[part] if isinstance(part, (Tensor, Matches)) else list(part) for part in (student, teacher, matches)]
    counts = [len(part) for part in levels]
    if len(set(counts)) > 1 or not counts[0]:
        raise ValueError("each level needs student, teacher and Matches of its own, got {}, {} and {}".format(*counts))
    return levels
