"""Sub-volumes of which random cells are hidden from the encoder: what SimMIM, MAE3D and GL-MAE have in common.

A learned token stands for the tokens of hidden cells between the patch embedding and the first stage. They cannot be
left out, as a ViT leaves them out: windows need a full grid.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from s2dc_core.encoder import LEVELS, Encoder, EncoderConfig
from s2dc_core.geometry import grid_of, split_region
from s2dc_core.methods.method import Method, Plan, RandomNumbers, Regions
from s2dc_core.methods.parts.masks import RATIO, cell_misfits, cells_in, mask_cells, spread
from s2dc_core.methods.parts.sub_volumes import SubVolumeOptions
from s2dc_core.options import within
from s2dc_core.views import Region


@dataclass(frozen=True, kw_only=True)
class HiddenCellsOptions(SubVolumeOptions):
    """What is hidden.

    Attributes:
        sub_volumes: of a region along each axis.
        cell: side of a hidden cell, in voxels.
        ratio: share of a sub-volume's cells that are hidden.
    """

    sub_volumes: Sequence[int] = (2, 2, 2)
    cell: int = 8
    ratio: float | int = 0.6

    RULES: ClassVar = {
        **SubVolumeOptions.RULES,
        "cell": within(1, 4096),
        "ratio": RATIO,
    }
    WHOLE: ClassVar[Callable[[float], int]] = math.ceil
    """Makes a whole number of a share of the cells, see mask_cells."""

    @classmethod
    def misfits(cls, values, sound: Callable[..., bool], encoder: EncoderConfig) -> Iterator[str]:
        """Cells that are no whole tokens, or do not fill the sub-volume; a sub-volume of no whole last tokens."""
        sides, last = list(encoder.sub_volume), encoder.patch * 2 ** (LEVELS - 1)
        yield from cell_misfits(values.cell, encoder)
        if any(side % last for side in sides):
            yield f"sub_volume {sides} must be multiples of {last}, a token of the last map"

    def plan(self, encoder: EncoderConfig, region: Region, spacing: Sequence[float], random: RandomNumbers) -> Plan:
        """Which cells of each sub-volume are hidden, "masked" [G, cells]."""
        return {"masked": self.hide(math.prod(grid_of(region.volume.shape[1:], encoder.sub_volume)), encoder, random)}

    def hide(self, count: int, encoder: EncoderConfig, random: RandomNumbers) -> Bool[Tensor, "count cells"]:
        """Random cells of so many sub-volumes."""
        cells, generator = cells_in(encoder, self.cell), random("cells")
        return torch.stack([mask_cells(cells, self.ratio, generator, type(self).WHOLE) for _ in range(count)])


class HiddenCells(NamedTuple):
    """What the encoder looks at.

    Attributes:
        volume: the G sub-volumes of B regions.
        masked: their hidden cells, for each region.
    """

    volume: Float[Tensor, "bg c x y z"]
    masked: Bool[Tensor, "b g cells"]


class HidingMethod(Method):
    """A method whose encoder sees a learned token in place of what is hidden."""

    def __init__(self, encoder: EncoderConfig, options: HiddenCellsOptions):
        super().__init__()
        self.encoder, self.options = Encoder(encoder), options
        self.mask_token = nn.Parameter(torch.zeros(encoder.embed_dim).normal_(std=0.02))

    @torch.no_grad()
    def views(self, regions: Regions) -> HiddenCells:
        """The sub-volumes and their hidden cells."""
        return HiddenCells(split_region(regions.volume, self.encoder.config.sub_volume), masks_of(regions))

    def look(self, views: HiddenCells) -> list[Float[Tensor, "bg d _ _ _"]]:
        """The maps of what is not hidden."""
        return self.encoder(views.volume, self.over(views.masked, self.encoder.config.patch), self.mask_token)

    def over(self, masked: Bool[Tensor, "b g cells"], size: int = 1) -> Bool[Tensor, "bg _ _ _"]:
        """The mask over tokens of a size, or over voxels."""
        grid = [side // self.options.cell for side in self.encoder.config.sub_volume]
        return spread(masked.flatten(0, 1).unflatten(1, grid), self.options.cell // size)


def masks_of(regions: Regions) -> Bool[Tensor, "b g cells"]:
    """The hidden cells that were planned, on the device."""
    return torch.stack([plan["masked"] for plan in regions.plan]).to(regions.volume.device, non_blocking=True)
