"""MAE3D (Chen et al., WACV 2023, after MAE, He et al., CVPR 2022): most cells are hidden, a transformer paints them.

Of N cells of a sub-volume a random M with |M| = floor(r N) is hidden. The encoder f gives one feature a cell; those of
hidden cells are replaced by a learned m, places e_i are added, and a light transformer g makes the voxels of a cell::

    L = mean over i in M of mean_j |g_i - P(x)_i|_j

He et al. have squared errors, on voxels or on cells normalised by their own mean and unbiased variance,
(P - mean) / sqrt(var + 1e-6). Kept: the share, the decoder, all these losses.

It cannot keep the asymmetry that gives MAE its speed: the original's ViT sees the visible cells alone, but windows need
a full grid, so a mask token stands for hidden tokens at the patch embedding, as in SimMIM, and the encoder does all of
its work. The decoder reads the level whose token is a cell; what the coarser maps hold is added to it, since their
stages would learn nothing otherwise.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from s2dc_core.encoder import LEVELS, EncoderConfig
from s2dc_core.geometry import split_region
from s2dc_core.methods.parts.hidden_cells import HiddenCells, HiddenCellsOptions, HidingMethod
from s2dc_core.methods.parts.masks import cells_in, normalised, spread
from s2dc_core.options import one_of, within

TARGETS, ERRORS = ("voxels", "normalised"), ("absolute", "squared")


@dataclass(frozen=True, kw_only=True)
class MAE3DOptions(HiddenCellsOptions):
    """What is hidden, what is to be said of it, and how large the decoder is.

    Attributes:
        sub_volumes, cell, ratio: see HiddenCellsOptions. A cell is a token of some level; their number is rounded down.
        target, error: "voxels" or "normalised" cells, and their "absolute" or "squared" errors.
        width, blocks, heads: of the decoder's transformer.
    """

    ratio: float | int = 0.75
    target: str = "voxels"
    error: str = "absolute"
    width: int = 96
    blocks: int = 2
    heads: int = 4

    RULES: ClassVar = {
        **HiddenCellsOptions.RULES,
        "target": one_of(*TARGETS),
        "error": one_of(*ERRORS),
        "width": within(1, 2**16),
        "blocks": within(1, 64),
        "heads": within(1, 4096),
    }
    WHOLE: ClassVar = math.floor

    @classmethod
    def disagreements(cls, values, sound) -> Iterator[str]:
        """Heads share the decoder's width."""
        if sound("width", "heads") and values.width % values.heads:
            yield f"the decoder's {values.heads} heads cannot share a width of {values.width}"

    @classmethod
    def misfits(cls, values, sound: Callable[..., bool], encoder: EncoderConfig) -> Iterator[str]:
        """Cells that are no token of a level, beside what all who hide cells have to look at."""
        tokens = [encoder.patch * 2**level for level in range(LEVELS)]
        yield from super().misfits(values, sound, encoder)
        if values.cell not in tokens:
            yield f"cell {values.cell} must be a token of a level, one of {', '.join(map(str, tokens))} voxels"
        if values.target == "normalised" and values.cell**3 * encoder.in_channels == 1:
            yield "target normalised needs cells of more than one voxel, whose variance there is"

    def build(self, encoder: EncoderConfig) -> "MAE3D":
        """Encoder, mask tokens and decoder."""
        return MAE3D(encoder, self)


def split_cells(volume: Float[Tensor, "g c x y z"], cell: int) -> Float[Tensor, "g n v"]:
    """P(x): the voxels of each cell, channels first; cells last axis fastest."""
    return split_region(volume, (cell,) * 3).flatten(1).unflatten(0, (len(volume), -1))


def masked_error(
    cells: Float[Tensor, "g n v"],
    made: Float[Tensor, "g n v"],
    masked: Bool[Tensor, "g n"],
    target: str = "voxels",
    error: str = "absolute",
) -> Float[Tensor, " g"]:
    """Mean over the hidden cells of each sub-volume of a cell's mean error; see MAE3DOptions for the last two."""
    off = made - (normalised(cells, [-1]) if target == "normalised" else cells)
    errors = off.abs() if error == "absolute" else off.square()
    return (errors.mean(-1) * masked).sum(1) / masked.sum(1)


class MAE3DTerms(NamedTuple):
    """The loss of each region."""

    total: Float[Tensor, "*b"]


class CellDecoder(nn.Module):
    """g: the voxels of each cell from the maps of the encoder, a transformer over the cells of a sub-volume."""

    def __init__(self, encoder: EncoderConfig, options: MAE3DOptions):
        super().__init__()
        width, voxels = options.width, encoder.in_channels * options.cell**3
        self.level = (options.cell // encoder.patch).bit_length() - 1
        self.maps = nn.ModuleList(nn.Linear(encoder.embed_dim * 2**k, width) for k in range(self.level, LEVELS))
        self.mask_token = nn.Parameter(torch.zeros(width).normal_(std=0.02))
        self.places = nn.Parameter(torch.zeros(cells_in(encoder, options.cell), width).normal_(std=0.02))
        block = {"dim_feedforward": 4 * width, "dropout": 0.0, "activation": "gelu"}
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(width, options.heads, **block, batch_first=True, norm_first=True)
            for _ in range(options.blocks)
        )
        self.last = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, voxels))

    def forward(self, maps: list[Tensor], masked: Bool[Tensor, "g n"]) -> Float[Tensor, "g n v"]:
        """Voxels of all cells, hidden or not."""
        own, *coarser = (
            spread(linear(each.movedim(1, -1)), 2**k).flatten(1, 3)
            for k, (linear, each) in enumerate(zip(self.maps, maps[self.level :], strict=True))
        )
        rows = torch.where(masked[..., None], self.mask_token.to(own.dtype), own) + sum(coarser) + self.places
        for block in self.blocks:
            rows = block(rows)
        return self.last(rows)


class MAE3D(HidingMethod):
    """An encoder, the token that stands for what is hidden, and a transformer that makes voxels of cells."""

    Terms = MAE3DTerms

    def __init__(self, encoder: EncoderConfig, options: MAE3DOptions):
        super().__init__(encoder, options)
        self.decoder = CellDecoder(encoder, options)

    def make(self, views: HiddenCells) -> Float[Tensor, "bg n v"]:
        """What is made of all cells; hidden ones have no part in it."""
        return self.decoder(self.look(views), views.masked.flatten(0, 1))

    def forward(self, views: HiddenCells) -> tuple[MAE3DTerms, None]:
        """The loss of each region."""
        made, cells = self.make(views).float(), split_cells(views.volume.float(), self.options.cell)
        losses = masked_error(cells, made, views.masked.flatten(0, 1), self.options.target, self.options.error)
        return MAE3DTerms(losses.view(len(views.masked), -1).mean(1)), None
