"""Rotation prediction (Taleb et al., NeurIPS 2020, after Gidaris et al., ICLR 2018): by which turn is a cube seen?

A cube x is turned by R_k, one of ten: none, or 90, 180, 270 degrees about each axis (a cube has 24)::

    L = CE(MLP(f(R_k x)), k),  at zero logits log 10

Kept: the classes in the order of the code, one cross-entropy, a perceptron on the last map. Not kept: its widths where
the last map is one token, and BatchNorm with dropout in it; LayerNorm leaves a cube its own value.

What tells the turn need not be the body. A turn exchanges the sides of a voxel: sub-volumes must be cubes, and voxels
too, or the plan refuses them (`anisotropy`). Air and the bed lie on the same sides in every scan: with `body` above 0
cubes are not the tiles of a region but drawn anywhere in it where the body fills so much of them.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor
from torch.nn import functional as F

from s2dc_core.encoder import LEVELS, Encoder, EncoderConfig
from s2dc_core.geometry import grid_of
from s2dc_core.matching import at_least_float32
from s2dc_core.methods.method import Method, Plan, RandomNumbers, Regions
from s2dc_core.methods.parts.crops import cut, filled_corners, grid_corners
from s2dc_core.methods.parts.heads import MLP, pooled
from s2dc_core.methods.parts.sub_volumes import SubVolumeOptions
from s2dc_core.methods.parts.turns import ANISOTROPY, TURNS, check_isotropic, turn_each, turn_misfits
from s2dc_core.options import MANY, one_of, whole_numbers_to, within
from s2dc_core.views import Region

CLASSES = TURNS["axes"]


@dataclass(frozen=True, kw_only=True)
class ROTOptions(SubVolumeOptions):
    """Cubes and head.

    Attributes:
        sub_volumes: of a region along each axis, and so many cubes.
        body: least share of a cube in the body; of a region that has no such cube, those with most of it are taken.
            0 for the region's tiles, whatever is in them.
        anisotropy: how many times longer the longest side of a voxel may be than the shortest.
        read: of the last map, its "mean", or all of its tokens one after another ("tokens", the source).
        hidden: of the perceptron.
    """

    sub_volumes: Sequence[int] = (2, 2, 2)
    body: float | int = 0.0
    anisotropy: float | int = 1.0
    read: str = "mean"
    hidden: Sequence[int] = (128,)

    RULES: ClassVar = {
        **SubVolumeOptions.RULES,
        "body": within(0, 1),
        "anisotropy": ANISOTROPY,
        "read": one_of("mean", "tokens"),
        "hidden": whole_numbers_to(MANY),
    }

    @classmethod
    def misfits(cls, values, sound: Callable[..., bool], encoder: EncoderConfig) -> Iterator[str]:
        """Sub-volumes that are no cubes of whole tokens of the last map."""
        sides, last = list(encoder.sub_volume), encoder.patch * 2 ** (LEVELS - 1)
        yield from turn_misfits(CLASSES, sides)
        if any(side % last for side in sides):
            yield f"sub_volume {sides} must be multiples of {last}, a token of the last map"

    def plan(self, encoder: EncoderConfig, region: Region, spacing: Sequence[float], random: RandomNumbers) -> Plan:
        """First voxels "corners" [G, 3] of the cubes, and the class of each, "turns" [G].

        Raises:
            ValueError: for voxels that are no cubes.
        """
        check_isotropic(spacing, self.anisotropy)
        corners = grid_corners(region.volume.shape[1:], encoder.sub_volume)
        if self.body:
            own = random("crops")
            corners = filled_corners(region.body.cpu(), encoder.sub_volume, self.body, len(corners), own)
        return {"corners": corners, "turns": torch.randint(len(CLASSES), (len(corners),), generator=random("turns"))}

    def build(self, encoder: EncoderConfig) -> "ROT":
        """Encoder and perceptron."""
        return ROT(encoder, self)

    def describe(self, encoder: EncoderConfig, regions: Regions) -> list[tuple[str, str]]:
        """Chance, and how much of the cubes is not the body."""
        air = 1 - cubes_of(regions.body[:, None], regions.plan, encoder.sub_volume).float().flatten(1).mean(1)
        known = f"{air.mean():.0%} of them outside the body, of one cube up to {air.max():.0%}, which may tell the turn"
        return [("cubes", f"chance {math.log(len(CLASSES)):.3f}; {known}")]


def cubes_of(
    volumes: Shaped[Tensor, "b c x y z"], plans: Sequence[Plan], size: Sequence[int]
) -> Shaped[Tensor, "n c _ _ _"]:
    """The cubes of regions from the "corners" of their plans, one region after another."""
    each = zip(volumes, plans, strict=True)
    return torch.stack([cut(volume, at, size) for volume, plan in each for at in plan["corners"].tolist()])


class ROTTerms(NamedTuple):
    """The loss of each region."""

    total: Float[Tensor, "*b"]


class ROTViews(NamedTuple):
    """What the encoder looks at.

    Attributes:
        volume: the G turned cubes of B regions.
        turns: their classes.
    """

    volume: Float[Tensor, "bg c x y z"]
    turns: Int[Tensor, "b g"]


class ROT(Method):
    """An encoder and a perceptron."""

    Terms = ROTTerms

    def __init__(self, encoder: EncoderConfig, options: ROTOptions):
        super().__init__()
        self.encoder, self.options = Encoder(encoder), options
        tokens = math.prod(grid_of(encoder.sub_volume, encoder.stride(LEVELS - 1))) if options.read == "tokens" else 1
        channels = encoder.embed_dim * 2 ** (LEVELS - 1)
        self.head = MLP([tokens * channels, *options.hidden, len(CLASSES)])

    @torch.no_grad()
    def views(self, regions: Regions) -> ROTViews:
        """The cubes, turned."""
        turns = torch.stack([plan["turns"] for plan in regions.plan])
        cubes = cubes_of(regions.volume, regions.plan, self.encoder.config.sub_volume)
        turned = turn_each(cubes, CLASSES, turns.flatten().tolist())
        return ROTViews(turned, turns.to(turned.device, non_blocking=True))

    def logits(self, cubes: Float[Tensor, "n c x y z"]) -> Float[Tensor, "n 10"]:
        """Of the classes."""
        last = self.encoder(cubes)[-1]
        return at_least_float32(self.head(pooled(last) if self.options.read == "mean" else last.flatten(1)))

    def forward(self, views: ROTViews) -> tuple[ROTTerms, None]:
        """The loss of each region."""
        losses = F.cross_entropy(self.logits(views.volume), views.turns.flatten(), reduction="none")
        return ROTTerms(losses.view(views.turns.shape).mean(1)), None
