"""Models Genesis (Zhou et al., MICCAI 2019, MedIA 2021): a sub-volume restored from what shuffle, curve and paint left.

With x of 0 to 1, S its random flips, T the damage of `parts.genesis` and U the encoder with a decoder that has skips::

    L = mean over all voxels of (sigmoid(U(T(S x))) - S x)^2

at zero logits mean (x - 1/2)^2. Intensities are the region's, mapped to 0..1 by its own extremes for T and for the
target; the encoder sees them mapped back, on the scale on which its features are read.

Kept: T with all of its chances, whole sub-volumes restored, sigmoid and squared errors, skips. By them the decoder may
copy fine detail past the coarse stages, here from the patch embedding on; the volume itself it does not see. Not kept:
the 3D U-Net; and flips that turn nothing (the code draws one of the channels and the first two axes, so that a third of
its flips has no effect and the last axis none). A flip shows the body as in a mirror: flip=0 leaves it.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from s2dc_core.encoder import LEVELS, Encoder, EncoderConfig
from s2dc_core.geometry import grid_of, split_region
from s2dc_core.methods.method import Method, Plan, RandomNumbers, Regions
from s2dc_core.methods.parts.damage import Range
from s2dc_core.methods.parts.decoders import DECODERS
from s2dc_core.methods.parts.genesis import LEAST_SIDE, Genesis, damaged, draw_genesis
from s2dc_core.methods.parts.sub_volumes import SubVolumeOptions, level_misfits
from s2dc_core.methods.parts.turns import Turn
from s2dc_core.options import one_of, within
from s2dc_core.views import Region

FLIPS = 3
"""Flips of a sub-volume at most."""


@dataclass(frozen=True, kw_only=True)
class ModelsGenesisOptions(SubVolumeOptions):
    """Damage and decoder.

    Attributes:
        sub_volumes: of a region along each axis.
        damage: see parts.genesis.Genesis.
        flip: chance of a flip along one of the axes, and of another after it, up to three.
        decoder: with "skips", or without: "convolutions", or "transposed" ones alone.
        level: of the map that it starts from.
    """

    sub_volumes: Sequence[int] = (2, 2, 2)
    damage: Genesis = field(default_factory=Genesis)
    flip: float | int = 0.4
    decoder: str = "skips"
    level: int = 4

    RULES: ClassVar = {
        **SubVolumeOptions.RULES,
        "flip": within(0, 1),
        "decoder": one_of(*DECODERS),
        "level": within(0, LEVELS - 1),
    }

    @classmethod
    def misfits(cls, values, sound: Callable[..., bool], encoder: EncoderConfig) -> Iterator[str]:
        """Sub-volumes that are too small to be damaged, or have no whole tokens to decode."""
        yield from level_misfits(values.level, encoder)
        if min(sides := list(encoder.sub_volume)) < LEAST_SIDE:
            yield f"sub_volume {sides} must have {LEAST_SIDE} voxels a side at least: a window is a tenth of it"

    def plan(self, encoder: EncoderConfig, region: Region, spacing: Sequence[float], random: RandomNumbers) -> Plan:
        """Which axes of each of the G sub-volumes are flipped, "flips" [G, 3]; and its damage, see draw_genesis."""
        parts, generator = math.prod(grid_of(region.volume.shape[1:], encoder.sub_volume)), random("flips")
        flips = draw_flips(self.flip, parts, generator)
        return {"flips": flips, **draw_genesis(self.damage, encoder.sub_volume, parts, random("damage"))}

    def build(self, encoder: EncoderConfig) -> "ModelsGenesis":
        """Encoder and decoder."""
        return ModelsGenesis(encoder, self)


def draw_flips(chance: float | int, count: int, generator: torch.Generator | None = None) -> Bool[Tensor, "n 3"]:
    """Which axes end up flipped after up to three flips of random ones; the second of an axis undoes the first."""
    goes_on = (torch.rand(count, FLIPS, generator=generator) < chance).cumprod(1)
    axes = torch.randint(3, (count, FLIPS), generator=generator)
    return torch.zeros(count, 3, dtype=torch.long).scatter_add_(1, axes, goes_on) % 2 == 1


class ModelsGenesisTerms(NamedTuple):
    """The loss of each region."""

    total: Float[Tensor, "*b"]


class ModelsGenesisViews(NamedTuple):
    """The G sub-volumes of B regions.

    Attributes:
        damaged: what the encoder looks at.
        target: what was there, from 0 to 1.
    """

    damaged: Float[Tensor, "b g c x y z"]
    target: Float[Tensor, "b g c x y z"]


class ModelsGenesis(Method):
    """An encoder and a decoder."""

    Terms = ModelsGenesisTerms

    def __init__(self, encoder: EncoderConfig, options: ModelsGenesisOptions):
        super().__init__()
        self.encoder = Encoder(encoder)
        self.decoder = DECODERS[options.decoder](encoder, options.level)

    @torch.no_grad()
    def views(self, regions: Regions) -> ModelsGenesisViews:
        """The sub-volumes, flipped, and damaged."""
        span, each = Range.of(regions.volume), len(regions.volume)
        plan = {name: torch.cat([own[name] for own in regions.plan]) for name in regions.plan[0]}
        parts = split_region(span.to_unit(regions.volume), self.encoder.config.sub_volume)
        flips = zip(parts, plan.pop("flips").tolist(), strict=True)
        target = torch.stack([Turn(flipped=tuple(axes)).of(part) for part, axes in flips])
        seen = span.for_each(len(parts) // each).from_unit(damaged(target, plan))
        return ModelsGenesisViews(seen.unflatten(0, (each, -1)), target.unflatten(0, (each, -1)))

    def forward(self, views: ModelsGenesisViews) -> tuple[ModelsGenesisTerms, None]:
        """The loss of each region."""
        made = self.decoder(self.encoder(views.damaged.flatten(0, 1))).float().sigmoid()
        off = made.view_as(views.target) - views.target.float()
        return ModelsGenesisTerms(off.square().flatten(1).mean(1)), None
