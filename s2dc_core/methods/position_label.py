"""Position labels (Zhang, Gong, AAAI 2023): tokens are asked where they lie, alone or in pairs.

With tokens t_i of a map of g^3 cells c_i, first and second half of a token's channels t_i' and t_i''::

    absolute   L = mean_i    cross_entropy(MLP(t_i'), i)                                 g^3 classes
    relative   L = mean_i,j  cross_entropy(MLP([t_i', t_j'']), class of c_i - c_j)       (2g - 1)^3 classes

Kept: labels, halves, perceptrons that are thrown away. Not kept: the published code adds the loss to a supervised one,
with a weight of 0.5; here it stands alone. It reads the last map, which has one token of 32^3 voxels and trains all
stages; at level k stages up to k are trained, and all pairs grow with the square of the tokens, so that they may be
sampled. The code's ViT adds its positions to the tokens that are asked; a Swin has none to add.

A head that knows only how often each class comes has `count_entropy`; what lies below was learnt, but not always from
the image. Where windows fill the grids, as in the teaching recipe, all tokens of a constant volume are alike, and there
is no less to be had from it. Windows that are padded (7 on 48 tokens), and the padded convolutions of v2 blocks, tell
tokens apart whatever the image shows: at the paper's sizes the loss is to be read beside that on a constant volume.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from s2dc_core.encoder import LEVELS, Encoder, EncoderConfig
from s2dc_core.geometry import grid_of
from s2dc_core.matching import at_least_float32
from s2dc_core.methods.method import Method, Plan, RandomNumbers, Regions
from s2dc_core.methods.parts.heads import MLP, tokens_of
from s2dc_core.methods.parts.sub_volumes import SubVolumeOptions
from s2dc_core.methods.parts.two_views import ViewRanges, make_views, plan_views
from s2dc_core.options import one_of, within
from s2dc_core.views import Region

LABELS = ("relative", "absolute")

MOST = 4096
"""Tokens of a map above which the list of their pairs alone, from which some are drawn, takes seconds a region."""


@dataclass(frozen=True, kw_only=True)
class PositionLabelOptions(SubVolumeOptions):
    """Tokens and labels.

    Attributes:
        sub_volumes: of a region along each axis.
        views: how the view of each is drawn, so that faces do not always show the same.
        level: the map whose tokens are asked.
        labels: "relative" or "absolute".
        pairs: of a sub-volume, drawn at random; None for all. Relative labels only.
    """

    views: ViewRanges = field(default_factory=ViewRanges)
    level: int = 2
    labels: str = "relative"
    pairs: int | None = None

    RULES: ClassVar = {
        **SubVolumeOptions.RULES,
        "level": within(0, LEVELS - 1),
        "labels": one_of(*LABELS),
        "pairs": within(1, 2**24),
    }

    @property
    def read_at(self) -> int:
        """The level that is asked."""
        return self.level

    @classmethod
    def misfits(cls, values, sound: Callable[..., bool], encoder: EncoderConfig) -> Iterator[str]:
        """A level of one token, of no whole ones, or of too many; channels that have no halves."""
        sides, stride = list(encoder.sub_volume), encoder.stride(values.level)[0]
        if any(side % stride for side in sides) or all(side == stride for side in sides):
            yield f"sub_volume {sides} must be multiples of {stride}, a token at level {values.level}, and hold several"
        elif values.labels == "relative" and (tokens := math.prod(side // stride for side in sides)) > MOST:
            yield f"level {values.level} of sub_volume {sides} has {tokens:,} tokens, more than {MOST:,}: take a later"
        if encoder.embed_dim * 2**values.level % 2:
            yield f"embed_dim {encoder.embed_dim} must be even: position labels ask halves of a token"

    def plan(self, encoder: EncoderConfig, region: Region, spacing: Sequence[float], random: RandomNumbers) -> Plan:
        """The view of each of the G sub-volumes, see two_views.plan_views; and the "pairs" [G, K] asked, numbered
        i N + j, if not all are."""
        plan = plan_views(region.volume.shape[1:], encoder.sub_volume, spacing, self.views, random("views"), views=1)
        if self.labels == "relative" and self.pairs:
            tokens, parts = math.prod(grid_of(encoder.sub_volume, encoder.stride(self.level))), plan["seeds"].shape[1]
            drawn = [torch.randperm(tokens**2, generator=random("pairs"))[: self.pairs] for _ in range(parts)]
            plan["pairs"] = torch.stack(drawn).int()
        return plan

    def build(self, encoder: EncoderConfig) -> "PositionLabel":
        """Encoder and perceptron."""
        return PositionLabel(encoder, self)

    def describe(self, encoder: EncoderConfig, regions: Regions) -> list[tuple[str, str]]:
        """Classes, and what knowing nothing of the image gives."""
        grid = grid_of(encoder.sub_volume, encoder.stride(self.level))
        if self.labels == "absolute":
            return [("labels", f"{math.prod(grid)} places, chance {math.log(math.prod(grid)):.3f}")]
        known = f"{count_entropy(grid):.3f} from how often each comes"
        return [("labels", f"{math.prod(2 * g - 1 for g in grid)} offsets of {math.prod(grid) ** 2} pairs, {known}")]


def offset_classes(grid: Sequence[int]) -> Int[Tensor, "n n"]:
    """The class of c_i - c_j for each pair of cells, [N, N], last grid axis fastest in cells and in classes."""
    cells = torch.cartesian_prod(*(torch.arange(side) for side in grid))
    offsets = cells[:, None] - cells + torch.tensor(grid) - 1
    return (offsets[..., 0] * (2 * grid[1] - 1) + offsets[..., 1]) * (2 * grid[2] - 1) + offsets[..., 2]


def count_entropy(grid: Sequence[int]) -> float:
    """The relative loss of a head that knows only how many pairs each class has."""
    shares = offset_classes(grid).flatten().bincount().double() / math.prod(grid) ** 2
    return float(-(shares * shares.log()).sum())


class PositionLabelTerms(NamedTuple):
    """The loss of each region."""

    total: Float[Tensor, "*b"]


class PositionLabelViews(NamedTuple):
    """What the encoder looks at.

    Attributes:
        volume: a view of each of the G sub-volumes of B regions.
        pairs: the pairs of tokens that are asked, i N + j; none with absolute labels.
    """

    volume: Float[Tensor, "b g c _ _ _"]
    pairs: Int[Tensor, "b g k"]


class PositionLabel(Method):
    """An encoder and a perceptron."""

    Terms = PositionLabelTerms

    def __init__(self, encoder: EncoderConfig, options: PositionLabelOptions):
        super().__init__()
        self.encoder, self.options = Encoder(encoder), options
        channels = encoder.embed_dim * 2**options.level
        grid = grid_of(encoder.sub_volume, encoder.stride(options.level))
        relative = options.labels == "relative"
        labels = offset_classes(grid).flatten() if relative else torch.arange(math.prod(grid))
        self.register_buffer("classes", labels, persistent=False)
        inputs = channels if relative else channels // 2
        self.head = MLP([inputs, channels // 2, max(inputs // 2, 1), int(labels.max()) + 1], "none", activation=nn.GELU)

    @torch.no_grad()
    def views(self, regions: Regions) -> PositionLabelViews:
        """The view of each sub-volume, and the pairs."""
        (view,) = make_views(regions, self.encoder.config.sub_volume)
        each, device = len(regions.volume), view.device
        if self.options.labels == "relative" and self.options.pairs:
            pairs = torch.stack([plan["pairs"] for plan in regions.plan]).to(device, non_blocking=True).long()
        else:
            every = len(self.classes) if self.options.labels == "relative" else 0
            pairs = torch.arange(every, device=device).expand(each, len(view) // each, -1)
        return PositionLabelViews(view.unflatten(0, (each, -1)), pairs)

    def forward(self, views: PositionLabelViews) -> tuple[PositionLabelTerms, None]:
        """The loss of each region."""
        tokens = tokens_of(self.encoder(views.volume.flatten(0, 1))[self.options.level])
        first, second = tokens.chunk(2, -1)
        if self.options.labels == "relative":
            pairs = views.pairs.flatten(0, 1)
            sides = zip((first, second), (pairs // tokens.shape[1], pairs % tokens.shape[1]), strict=True)
            asked = torch.cat([half.take_along_dim(place[..., None], 1) for half, place in sides], -1)
            labels = self.classes[pairs]
        else:
            asked, labels = first, self.classes.expand(len(tokens), -1)
        logits = at_least_float32(self.head(asked)).flatten(0, 1)
        losses = F.cross_entropy(logits, labels.flatten(), reduction="none")
        return PositionLabelTerms(losses.view(len(views.volume), -1).mean(1)), None
