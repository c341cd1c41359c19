"""S2DC (paper section 3, equation 9): student and teacher look at two views of a region, whose patches are matched.

A training step, with the names of the paper, where the losses look at all tokens::

    views = method.views(regions)  # V, V' = H V, the positives v', M_gt: equations 2 and 3
    student = method.student(views.source)  # tokens t, and pooled features q for L_g
    teacher = method.teach(views.target)  # tokens t', no gradient
    keys = method.embed(views.positives)  # k+, no gradient
    terms = method.loss(student.pooled, keys, method.queue.negatives(), student.tokens, teacher.tokens, views.matches)
    terms.total.backward()  # L = L_g + L_p2p + L_p2s
    optimiser.step()
    method.update_teacher()  # phi* <- m phi* + (1 - m) phi
    method.queue.add(keys)
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from s2dc_core.encoder import LEVEL_NAMES, EncoderConfig
from s2dc_core.geometry import Matches, check_fits, grid_of
from s2dc_core.losses import PRESETS, LossOptions, LossTerms, S2DCLoss
from s2dc_core.methods.method import Method, MethodOptions, Plan, RandomNumbers, Regions
from s2dc_core.model import TOKEN_HEADS, BranchOptions, FeatureQueue, StudentTeacher
from s2dc_core.options import MANY, one_of, problems_of, that, within
from s2dc_core.views import Region, ViewConfig, make_counterparts, matches_of, plan_region

NORMS = ("layer", "batch")


@dataclass(frozen=True, kw_only=True)
class S2DCOptions(MethodOptions):
    """Networks, views and loss.

    Attributes:
        levels, joined, hidden, out, token_head: see model.BranchOptions.
        norm: of the heads, "layer" or "batch"; None for "batch" with the official preset and "layer" otherwise. With
            "batch" accumulated batches are not one larger batch.
        momentum: of the teacher, see model.StudentTeacher.
        views: how regions and their counterparts are drawn.
        loss, loss_options: preset of S2DCLoss and what replaces its fields.
        matched_tokens, token_draws: the structure losses look at that many random samples of that many tokens of each
            region, see `sample_tokens`; None for all tokens at once.
        queue: teacher features kept as the negatives of L_g.
    """

    levels: Sequence[int] = (1,)
    joined: bool = False
    hidden: int = 256
    out: int = 128
    momentum: float | int = 0.99
    token_head: str = "mlp"
    norm: str | None = None
    views: ViewConfig = field(default_factory=lambda: ViewConfig(counts=(1, 1, 1)))
    loss: str = "default"
    loss_options: dict = field(default_factory=dict)
    matched_tokens: int | None = None
    token_draws: int = 1
    queue: int = 256

    RULES: ClassVar = {
        "levels": LEVEL_NAMES,
        "hidden": within(1, MANY),
        "out": within(1, MANY),
        "momentum": that(lambda share: 0 <= share <= 1, "must be from 0 to 1"),
        "token_head": one_of(*TOKEN_HEADS),
        "norm": one_of(*NORMS),
        "loss": one_of(*PRESETS),
        "matched_tokens": within(1, 10**9),
        "token_draws": within(1, MANY),
        "queue": within(0, 2**24),
    }

    def __post_init__(self):
        super().__post_init__()
        if self.norm is None:
            object.__setattr__(self, "norm", "batch" if self.loss == "official" else "layer")

    @classmethod
    def disagreements(cls, values, sound) -> Iterator[str]:
        """Options of the loss that it does not have, and levels in another order than they are joined in."""
        if sound("loss_options"):
            preset = vars(PRESETS[values.loss if sound("loss") else "default"])
            yield from problems_of(LossOptions, {**preset, **values.loss_options}, "loss_options")
        if sound("levels", "joined") and values.joined and list(values.levels) != sorted(values.levels):
            yield f"levels to be joined go from fine to coarse, such as 1, 2, 3; got {list(values.levels)}"

    @classmethod
    def misfits(cls, values, sound: Callable[..., bool], encoder: EncoderConfig) -> Iterator[str]:
        """Token levels that the sub-volumes cannot give."""
        sides = list(encoder.sub_volume)
        for level in values.levels if sound("levels") else ():
            stride = encoder.patch * 2**level
            if any(side % stride for side in sides):
                yield f"sub_volume {sides} must be multiples of {stride}, a token at {level} of levels"

    @property
    def counts(self) -> tuple[int, int, int]:
        """Sub-volumes of a region along each axis."""
        return tuple(self.views.counts)

    @property
    def read_at(self) -> int | tuple[int, ...]:
        """The joined levels, or the first."""
        return tuple(self.levels) if self.joined else self.levels[0]

    @property
    def matched_levels(self) -> tuple[int, ...]:
        """The levels whose grids need matches: all, or the finest if they are joined."""
        return tuple(self.levels[:1] if self.joined else self.levels)

    @property
    def whole_batch(self) -> bool:
        """With BatchNorm heads, which normalise over a batch in all processes."""
        return self.norm == "batch"

    def check_scan(self, shape: Sequence[int], encoder: EncoderConfig) -> None:
        """Raise a ValueError for a scan that is smaller than one patch of a level."""
        check_fits(shape, [encoder.stride(level) for level in self.levels])

    def plan(self, encoder: EncoderConfig, region: Region, spacing: Sequence[float], random: RandomNumbers) -> Plan:
        """H, the positives' affines, intensities, matches, and which tokens the structure losses look at."""
        plan = self.plan_views(encoder, region, spacing, random("views"))
        if self.matched_tokens:
            generator, how = random("tokens"), (self.matched_tokens, self.token_draws)
            for level in self.matched_levels:
                tokens = math.prod(grid_of(region.volume.shape[1:], encoder.stride(level)))
                drawn = sample_tokens(plan[f"matches_{level}"], tokens, *how, generator)
                plan |= {f"{name}_{level}": value for name, value in drawn._asdict().items()}
        return plan

    def plan_views(
        self, encoder: EncoderConfig, region: Region, spacing: Sequence[float], generator: torch.Generator
    ) -> dict[str, Tensor]:
        """What becomes of a region, with all its matches; see views.plan_region."""
        return plan_region(region, spacing, encoder, self.matched_levels, self.views, generator)

    def build(self, encoder: EncoderConfig) -> "S2DC":
        """Student, teacher, queue and loss."""
        return S2DC(encoder, self)

    def describe(self, encoder: EncoderConfig, regions: Regions) -> list[tuple[str, str]]:
        """Tokens and matches of each level."""
        shape, lines = regions.volume.shape[2:], []
        together = f"joined with levels {list(self.levels[1:])}, " if self.joined and len(self.levels) > 1 else ""
        for level in self.matched_levels:
            stride = encoder.stride(level)
            tokens = math.prod(grid_of(shape, stride))
            found = sum(plan[f"matches_{level}"].shape[1] for plan in regions.plan)
            seen = f"{found} matches in the batch drawn here"
            lines.append((f"level {level}", f"{tokens} tokens of {stride[0]} voxels a region, {together}{seen}"))
        return lines


class TokenSample(NamedTuple):
    """Which tokens of a region the structure losses look at, in some samples.

    Attributes:
        source, target: tokens of V and of V'; the first of them are matches, each token with its partner.
        matched: how many, of each sample.
    """

    source: Int[Tensor, "draws k"]
    target: Int[Tensor, "draws k"]
    matched: Int[Tensor, " draws"]


def sample_tokens(
    pairs: Int[Tensor, "2 p"], tokens: int, count: int, draws: int = 1, generator: torch.Generator | None = None
) -> TokenSample:
    """Random samples of up to ``count`` tokens of a region of ``tokens``, with the matches among them.

    In a sample, matched tokens come first, drawn with their partners; room that is left goes to unmatched tokens, which
    the others must still be told apart from. A small count spreads a sample over the region: tokens are then told apart
    from other structures more often than from their own neighbours.
    """
    count = min(count, tokens)
    sides, matched = ([], []), []
    for _ in range(draws):
        some = torch.randperm(pairs.shape[1], generator=generator)[:count]
        matched.append(len(some))
        for side, own in zip(sides, pairs[:, some], strict=True):
            side.append(_fill_up(own, tokens, count, generator))
    return TokenSample(*map(torch.stack, sides), torch.tensor(matched))


def _fill_up(first: Int[Tensor, " k"], total: int, count: int, generator: torch.Generator | None) -> Tensor:
    """The given tokens, then others of ``total`` at random, up to ``count``."""
    free = torch.ones(total, dtype=torch.bool)
    free[first] = False
    others = free.nonzero()[:, 0]
    others = others[torch.randperm(len(others), generator=generator)][: count - len(first)]
    return torch.cat([first, others])


class Sampled(NamedTuple):
    """The tokens of a level that the structure losses look at, B * draws samples, on the device.

    Attributes:
        source, target: tokens of V and of V'.
        matches: among the samples.
    """

    source: Int[Tensor, "s k"]
    target: Int[Tensor, "s k"]
    matches: Matches


class S2DCViews(NamedTuple):
    """What student and teacher look at.

    Attributes:
        source, target, positives, H, matches: see views.Views; H lies on the CPU, and so do all the matches if the
            losses look at samples.
        samples: of each level; None for all tokens.
    """

    source: Tensor
    target: Tensor
    positives: Tensor
    H: Tensor
    matches: list[Matches]
    samples: list[Sampled] | None


class S2DC(StudentTeacher, Method):
    """Student, teacher, queue and the loss of equation 9.

    Attributes:
        student, teacher: see StudentTeacher.
        queue: the negatives of L_g.
        loss: S2DCLoss.
    """

    Terms = LossTerms

    def __init__(self, encoder: EncoderConfig, options: S2DCOptions):
        names = ("levels", "hidden", "out", "norm", "token_head", "joined")
        super().__init__(encoder, BranchOptions(**{name: getattr(options, name) for name in names}), options.momentum)
        self.options = options
        self.queue = FeatureQueue(options.queue, options.out)
        self.loss = S2DCLoss.from_preset(options.loss, **options.loss_options)

    @property
    def encoder(self):
        """The student's."""
        return self.student.encoder

    @torch.no_grad()
    def views(self, regions: Regions) -> S2DCViews:
        """Counterparts and positives by the plan, and the matches."""
        plan, device = regions.plan, regions.volume.device
        target, positives = make_counterparts(regions.volume, regions.background, plan, self.encoder.config.sub_volume)
        H = torch.stack([each["H"] for each in plan])
        levels = self.options.matched_levels
        sampled = self.options.matched_tokens is not None
        where = "cpu" if sampled else device
        matches = [matches_of([each[f"matches_{level}"] for each in plan], where) for level in levels]
        samples = [self._samples(plan, level, device) for level in levels] if sampled else None
        return S2DCViews(regions.volume, target, positives, H, matches, samples)

    def _samples(self, plan: Sequence[Plan], level: int, device: torch.device) -> Sampled:
        sides = torch.stack([torch.cat([each[f"{side}_{level}"] for each in plan]) for side in ("source", "target")])
        counts = torch.cat([each[f"matched_{level}"] for each in plan]).tolist()
        among = matches_of([torch.arange(count).expand(2, -1) for count in counts], device)
        return Sampled(*sides.to(device, non_blocking=True), among)

    def forward(self, views: S2DCViews) -> tuple[LossTerms, Tensor]:
        """The terms of equation 9 of each region, and the positives' teacher features."""
        student, teacher = self.student(views.source), self.teach(views.target)
        keys = self.embed(views.positives)
        levels = zip(student.tokens, teacher.tokens, views.matches, strict=True)
        if views.samples is not None:
            levels = [
                (_pick(own, some.source), _pick(theirs, some.target), some.matches)
                for (own, theirs, _), some in zip(levels, views.samples, strict=True)
            ]
        tokens = map(list, zip(*levels, strict=True))
        terms = self.loss.per_region(student.pooled, keys, self.queue.negatives(), *tokens, len(views.source))
        return terms, keys

    @torch.no_grad()
    def embed(self, positives: Tensor) -> Tensor:
        """The teacher's pooled features of the positives, k+."""
        return self.teacher.embed(positives)

    def after_step(self, rows: Tensor | None, done: float) -> None:
        """The teacher follows, and the positives become negatives."""
        self.update_teacher()
        self.queue.add(rows)


def _pick(tokens: Tensor, index: Tensor) -> Tensor:
    """Tokens [B, N, C] at [B * draws, k], the samples of a region one after another."""
    regions, draws = len(tokens), len(index) // len(tokens)
    region = torch.arange(regions, device=tokens.device).repeat_interleave(draws, output_size=len(index))
    return tokens[region[:, None], index]
