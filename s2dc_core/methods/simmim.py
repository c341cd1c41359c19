"""SimMIM (Xie et al., CVPR 2022): masked cells of a sub-volume are told from what is left of it.

Tokens of masked cells are replaced by a learned one between the patch embedding and the first stage; a decoder makes
voxels of the last map; L = mean over the masked voxels of |x - x^|. The published head, one linear layer from a token
to all its voxels, has more weights than the encoder of the course; a chain of transposed convolutions is such a map of
lower rank (Disruptive Autoencoders, Valanarasu et al. 2023, have it too).
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
from s2dc_core.methods.method import Method, MethodOptions, Plan, RandomNumbers, Regions
from s2dc_core.methods.parts.decoders import plain_decoder
from s2dc_core.methods.parts.masks import RATIO, cell_misfits, cells_in, mask_cells, masked_mean, spread
from s2dc_core.options import whole_numbers_to, within
from s2dc_core.views import Region


@dataclass(frozen=True, kw_only=True)
class SimMIMOptions(MethodOptions):
    """What is masked.

    Attributes:
        sub_volumes: of a region along each axis.
        cell: side of a masked cell, in voxels.
        ratio: share of a sub-volume's cells that are masked, rounded up.
    """

    sub_volumes: Sequence[int] = (2, 2, 2)
    cell: int = 8
    ratio: float | int = 0.6

    RULES: ClassVar = {
        "sub_volumes": whole_numbers_to(1024, of=3),
        "cell": within(1, 4096),
        "ratio": RATIO,
    }

    @property
    def counts(self) -> tuple[int, int, int]:
        """Sub-volumes of a region along each axis."""
        return tuple(self.sub_volumes)

    @classmethod
    def misfits(cls, values, sound: Callable[..., bool], encoder: EncoderConfig) -> Iterator[str]:
        """Cells that are no whole tokens, or do not fill the sub-volume."""
        sides, last = list(encoder.sub_volume), encoder.patch * 2 ** (LEVELS - 1)
        yield from cell_misfits(values.cell, encoder)
        if any(side % last for side in sides):
            yield f"sub_volume {sides} must be multiples of {last}, a token of the last map"

    def plan(self, encoder: EncoderConfig, region: Region, spacing: Sequence[float], random: RandomNumbers) -> Plan:
        """Which cells of each sub-volume are masked, "masked" [G, cells]."""
        generator = random("cells")
        parts = math.prod(grid_of(region.volume.shape[1:], encoder.sub_volume))
        cells = cells_in(encoder, self.cell)
        return {"masked": torch.stack([mask_cells(cells, self.ratio, generator) for _ in range(parts)])}

    def build(self, encoder: EncoderConfig) -> "SimMIM":
        """Encoder, mask token and decoder."""
        return SimMIM(encoder, self)


class SimMIMTerms(NamedTuple):
    """The loss of each region."""

    total: Float[Tensor, "*b"]


class SimMIMViews(NamedTuple):
    """What the encoder looks at.

    Attributes:
        volume: the G sub-volumes of B regions.
        masked: their masked cells, for each region.
    """

    volume: Float[Tensor, "bg c x y z"]
    masked: Bool[Tensor, "b g _ _ _"]


class SimMIM(Method):
    """An encoder, the token that stands for what is masked, and a decoder from the last map to voxels."""

    Terms = SimMIMTerms

    def __init__(self, encoder: EncoderConfig, options: SimMIMOptions):
        super().__init__()
        self.encoder, self.cell = Encoder(encoder), options.cell
        self.mask_token = nn.Parameter(torch.zeros(encoder.embed_dim).normal_(std=0.02))
        self.decoder = plain_decoder(encoder)

    @torch.no_grad()
    def views(self, regions: Regions) -> SimMIMViews:
        """The sub-volumes and their masked cells."""
        sub_volume = self.encoder.config.sub_volume
        masked = torch.stack([plan["masked"] for plan in regions.plan]).to(regions.volume.device, non_blocking=True)
        cells = masked.unflatten(2, [side // self.cell for side in sub_volume])
        return SimMIMViews(split_region(regions.volume, sub_volume), cells)

    def forward(self, views: SimMIMViews) -> tuple[SimMIMTerms, None]:
        """The loss of each region."""
        cells = views.masked.flatten(0, 1)
        tokens, voxels = (spread(cells, self.cell // size) for size in (self.encoder.config.patch, 1))
        made = self.decoder(self.encoder(views.volume, tokens, self.mask_token)[-1])
        losses = masked_mean((views.volume.float() - made.float()).abs(), voxels[:, None])
        return SimMIMTerms(losses.view(len(views.masked), -1).mean(1)), None
