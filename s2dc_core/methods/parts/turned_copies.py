"""Two copies of each sub-volume, each turned by a random quarter: which turn it was, and which copy is the other one's.

With logits r_a and features z_a of copy a = 1, 2, turned by k_a quarters, the terms are

    rotation   (CE(r_1, k_1) + CE(r_2, k_2)) / 2, at zero logits log 4
    contrast   NT-Xent(z_1, z_2; t), whose negatives are all copies of all processes

What Swin-UNETR's pretext and SwinMM have in common. Copies are listed region after region, in each the first copies of
its G sub-volumes before the second ones.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from s2dc_core.encoder import LEVELS, EncoderConfig
from s2dc_core.geometry import grid_of, split_region
from s2dc_core.methods.method import Regions
from s2dc_core.methods.parts.contrast import BatchOptions, nt_xent
from s2dc_core.methods.parts.decoders import DECODERS
from s2dc_core.methods.parts.heads import pooled, tokens_of
from s2dc_core.methods.parts.rows import Rows, RowsOfAll
from s2dc_core.methods.parts.sub_volumes import level_misfits
from s2dc_core.methods.parts.turns import ANISOTROPY, TURNS, check_isotropic, turn_each, turn_misfits
from s2dc_core.options import above_zero, one_of, within


@dataclass(frozen=True, kw_only=True)
class TurnedCopiesOptions(BatchOptions):
    """Turns, heads and decoder.

    Attributes:
        sub_volumes: of a region along each axis.
        about: axis of the turns, "z" (Tang et al.'s paper) or "x" (their code, whose x goes from left to right).
        read: what rotation and contrast read of the last map, its "mean" or its first two "tokens" (the code).
        out: features of the contrast.
        temperature: of the contrast.
        decoder: "transposed" convolutions alone, or "convolutions" with norms and up-sampling.
        level: of the map that it starts from.
        anisotropy: how many times longer one of the two sides of a voxel that a turn exchanges may be than the other.
    """

    sub_volumes: Sequence[int] = (2, 2, 2)
    about: str = "z"
    read: str = "mean"
    out: int = 128
    temperature: float | int = 0.5
    decoder: str = "transposed"
    level: int = 3
    anisotropy: float | int = 1.0

    RULES: ClassVar = {
        **BatchOptions.RULES,
        "about": one_of("x", "y", "z"),
        "read": one_of("mean", "tokens"),
        "out": within(1, 2**16),
        "temperature": above_zero(1e3),
        "decoder": one_of(*DECODERS),
        "level": within(0, LEVELS - 1),
        "anisotropy": ANISOTROPY,
    }

    @classmethod
    def misfits(cls, values, sound: Callable[..., bool], encoder: EncoderConfig) -> Iterator[str]:
        """Sub-volumes that cannot be turned, have no whole tokens to decode, or too few to read."""
        sides = list(encoder.sub_volume)
        yield from turn_misfits(TURNS[values.about], sides)
        yield from level_misfits(values.level, encoder)
        if values.read == "tokens" and all(side <= encoder.patch * 2 ** (LEVELS - 1) for side in sides):
            yield f"the last map of sub_volume {sides} is one token, and read=tokens takes two: read the mean"

    def check_turned(self, spacing: Sequence[float]) -> None:
        """Raise a ValueError for voxels whose sides in the plane of the turns differ, see turns.check_isotropic."""
        plane = [side for axis, side in zip("xyz", spacing, strict=True) if axis != self.about]
        check_isotropic(plane, self.anisotropy)

    def copies_of(self, shape: Sequence[int], encoder: EncoderConfig) -> int:
        """Of the sub-volumes of a region, 2 G."""
        return 2 * math.prod(grid_of(shape, encoder.sub_volume))


def turned_copies(
    regions: Regions, sub_volume: Sequence[int], about: str
) -> tuple[Float[Tensor, "n c x y z"], Int[Tensor, "b copies"]]:
    """The copies, turned by the "turns" of each region's plan, and their turns on the device."""
    turns = torch.stack([plan["turns"] for plan in regions.plan])
    parts = split_region(regions.volume, sub_volume).unflatten(0, (len(turns), -1))
    copies = torch.cat([parts, parts], 1).flatten(0, 1)
    turned = turn_each(copies, TURNS[about], turns.flatten().tolist())
    return turned, turns.to(turned.device, non_blocking=True)


class TurnAndContrast(nn.Module):
    """A linear head each for the turn of a copy and for its features."""

    def __init__(self, encoder: EncoderConfig, options: TurnedCopiesOptions):
        super().__init__()
        channels = encoder.embed_dim * 2 ** (LEVELS - 1)
        self.rotation, self.contrast = nn.Linear(channels, 4), nn.Linear(channels, options.out)
        self.read, self.temperature, self.rows = options.read, options.temperature, RowsOfAll()

    def forward(
        self, last: Float[Tensor, "n d _ _ _"], turns: Int[Tensor, "b copies"]
    ) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
        """The two terms of each region, from the last map of the copies.

        Raises:
            ValueError: for a batch of one sub-volume.
        """
        tokens = (pooled(last),) * 2 if self.read == "mean" else tokens_of(last)[:, :2].unbind(1)
        logits = self.rotation(tokens[0]).float()
        rotation = F.cross_entropy(logits, turns.flatten(), reduction="none").view(turns.shape).mean(1)
        pairs = self.contrast(tokens[1]).unflatten(0, (len(turns), 2, -1)).transpose(1, 2).flatten(0, 1)
        everyone = self.rows(pairs)
        both = (Rows(everyone.all[:, copy], everyone.first) for copy in (0, 1))
        contrast = nt_xent(*pairs.unbind(1), self.temperature, *both)
        return rotation, contrast.view(len(turns), -1).mean(1)
