"""SwinMM (Wang et al., MICCAI 2023): masked volumes seen along several axes, whose reconstructions must agree.

Two copies a = 1, 2 of each sub-volume are turned by k_a quarters, x_a, and some cells M_a of each are hidden, x~_a. A
third and a fourth view are P_a x~_a, the first axis exchanged for another one: a mirror image. With what the decoder
makes, x^, and z = (x - mean) / sqrt(var + 1e-6) of a copy, its variance unbiased, and |M| the mean of a mask::

    L_rec(y, a) = mean((y - z_a)^2 M_a) / |M|
    L = w_1 mean over a of CE(r_a, k_a) + w_2 NT-Xent(f_1, f_2; t)
      + w_3 mean over a of (L_rec(x^_a, a) + L_rec(P^-1 x^_a+2, a)) + w_4 mean((P^-1 x^_3 - x^_1)^2 M_1) / |M|

with w = 1, 1, 1, 1. The heads of r and f look at the first two views, and the last term at the first copy alone, as in
the code. What a last map of one token forbids at 32^3 is the same as in swin_unetr.

It differs where the code goes wrong: its ratio is the share that stays, while the loss is divided by it as if it were
hidden, so that a unit error weighs 3, 1 and 1/3 at ratios of 1/4, 1/2 and 3/4. Here `ratio` is hidden, and a unit error
weighs 1. Hidden voxels are 0 there, the least of its intensities from 0 to 1; here they have the value of air. Copies
have masks of their own (there: one for the batch). That their terms are averaged, not added up, is inferred.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from s2dc_core.encoder import Encoder, EncoderConfig
from s2dc_core.methods.method import Method, Plan, RandomNumbers, Regions
from s2dc_core.methods.parts.decoders import DECODERS
from s2dc_core.methods.parts.masks import RATIO, cell_misfits, cells_in, mask_cells, masked_mean, normalised, spread
from s2dc_core.methods.parts.turned_copies import TurnAndContrast, TurnedCopiesOptions, turned_copies
from s2dc_core.methods.parts.turns import Turn, turn_misfits
from s2dc_core.methods.parts.weighted import total_of, weights_of
from s2dc_core.options import one_of, within
from s2dc_core.views import Region

EXCHANGES = (Turn((1, 0, 2)), Turn((2, 1, 0)))
"""P: the first axis for the second, or for the third. Each undoes itself."""


@dataclass(frozen=True, kw_only=True)
class SwinMMOptions(TurnedCopiesOptions):
    """Masks, turns, heads and decoder; see also TurnedCopiesOptions.

    Attributes:
        cell: side of a hidden cell, in voxels.
        ratio: share of a copy's cells that is hidden, to the nearest cell.
        target: "normalised" sub-volumes, or "voxels" as they are.
        weights: of rotation, contrast, reconstruction and agreement.
    """

    about: str = "x"
    cell: int = 8
    ratio: float | int = 0.5
    target: str = "normalised"
    weights: Sequence[float | int] = (1.0, 1.0, 1.0, 1.0)

    RULES: ClassVar = {
        **TurnedCopiesOptions.RULES,
        "cell": within(1, 4096),
        "ratio": RATIO,
        "target": one_of("normalised", "voxels"),
        "weights": weights_of(4),
    }

    @classmethod
    def misfits(cls, values, sound: Callable[..., bool], encoder: EncoderConfig) -> Iterator[str]:
        """Cells that do not fill the sub-volume, and sides that cannot be exchanged."""
        yield from super().misfits(values, sound, encoder)
        yield from cell_misfits(values.cell, encoder)
        yield from turn_misfits(EXCHANGES, encoder.sub_volume)

    def plan(self, encoder: EncoderConfig, region: Region, spacing: Sequence[float], random: RandomNumbers) -> Plan:
        """Of each copy its turn, "turns" [2 G], its hidden cells, "masked" [2 G, cells], and P, "second" [2 G].

        Raises:
            ValueError: for voxels whose sides in the plane of the turns differ.
        """
        self.check_turned(spacing)
        copies, cells = self.copies_of(region.volume.shape[1:], encoder), cells_in(encoder, self.cell)
        generator = random("cells")
        return {
            "turns": torch.randint(4, (copies,), generator=random("turns")),
            "masked": torch.stack([mask_cells(cells, self.ratio, generator, round) for _ in range(copies)]),
            "second": torch.rand(copies, generator=random("exchanges")) < 0.5,
        }

    def build(self, encoder: EncoderConfig) -> "SwinMM":
        """Encoder, heads and decoder."""
        return SwinMM(encoder, self)


def exchange(volumes: Float[Tensor, "n c x y z"], second: Bool[Tensor, "n 1 1 1 1"]) -> Float[Tensor, "n c x y z"]:
    """P, and P^-1, of each volume: the second of EXCHANGES or the first, chosen without waiting for the device."""
    return torch.where(second, EXCHANGES[1].of(volumes), EXCHANGES[0].of(volumes))


class SwinMMTerms(NamedTuple):
    """The terms of each region."""

    total: Float[Tensor, "*b"]
    rotation: Float[Tensor, "*b"]
    contrast: Float[Tensor, "*b"]
    reconstruction: Float[Tensor, "*b"]
    agreement: Float[Tensor, "*b"]


class SwinMMViews(NamedTuple):
    """The 2 G copies of B regions, in the order of turned_copies.

    Attributes:
        seen: the copies with what is hidden blanked, and all of them again with axes exchanged.
        target: what the decoder is to make.
        masked: the hidden voxels.
        turns: by how many quarters.
        second: whether P exchanges the first axis for the third, not the second.
    """

    seen: Float[Tensor, "n2 c x y z"]
    target: Float[Tensor, "n c x y z"]
    masked: Bool[Tensor, "n 1 x y z"]
    turns: Int[Tensor, "b copies"]
    second: Bool[Tensor, "n 1 1 1 1"]


class SwinMM(Method):
    """An encoder, linear heads for rotation and contrast, and a decoder."""

    Terms = SwinMMTerms

    def __init__(self, encoder: EncoderConfig, options: SwinMMOptions):
        super().__init__()
        self.encoder, self.options = Encoder(encoder), options
        self.heads = TurnAndContrast(encoder, options)
        self.decoder = DECODERS[options.decoder](encoder, options.level)

    @torch.no_grad()
    def views(self, regions: Regions) -> SwinMMViews:
        """The copies turned, their masks, and what is seen of them."""
        sub_volume = self.encoder.config.sub_volume
        turned, turns = turned_copies(regions, sub_volume, self.options.about)
        cells = torch.cat([plan["masked"] for plan in regions.plan]).to(turned.device, non_blocking=True)
        cells = cells.unflatten(1, [side // self.options.cell for side in sub_volume])
        masked = spread(cells, self.options.cell)[:, None]
        air = regions.background.repeat_interleave(turns.shape[1], output_size=len(turned))
        seen = torch.where(masked, air[:, None, None, None, None], turned)
        second = torch.cat([plan["second"] for plan in regions.plan]).to(turned.device, non_blocking=True)
        second = second[:, None, None, None, None]
        target = normalised(turned, [1, 2, 3, 4]) if self.options.target == "normalised" else turned
        return SwinMMViews(torch.cat([seen, exchange(seen, second)]), target, masked, turns, second)

    def forward(self, views: SwinMMViews) -> tuple[SwinMMTerms, None]:
        """The terms of each region."""
        maps, shape = self.encoder(views.seen), views.turns.shape
        rotation, contrast = self.heads(maps[-1][: len(views.target)], views.turns)
        own, exchanged = self.decoder(maps).float().chunk(2)
        exchanged = exchange(exchanged, views.second)
        off = sum(masked_mean((made - views.target).square(), views.masked) for made in (own, exchanged))
        apart = masked_mean((exchanged - own).square(), views.masked).view(shape)[:, : shape[1] // 2]
        terms = (rotation, contrast, off.view(shape).mean(1), apart.mean(1))
        return SwinMMTerms(total_of(self.options.weights, terms), *terms), None
