"""Swin-UNETR's pretext (Tang et al., CVPR 2022): paint what is damaged, tell the turn, tell a crop from the others.

Two copies a = 1, 2 of each sub-volume x are turned by k_a quarters about one axis, R, and then damaged, D. The encoder
sees D(R x); a decoder makes x^_a of its map, linear heads four logits r_a and features z_a::

    L = w_1 mean over a of CE(r_a, k_a) + w_2 NT-Xent(z_1, z_2; t) + w_3 mean over a and all voxels of |x^_a - R x|

with w = 1, 1, 1. D: boxes of noise until a share of U(0, 1) `share` of the voxels is set, and as many boxes that hold
the same place of another copy. Noise goes from 0 to 1 in the original, as its images do; here it has the range of the
region. The reconstruction counts in all voxels, damaged or not, as there.

It differs where it must. The copies that boxes are taken from are the region's own, clean: what a region shows does not
depend on its batch then (the original: another of the GPU's, perhaps damaged itself). Boxes have two voxels a side at
least; one voxel scaled by its own extremes is NaN, in a fifth of the original's volumes at 32^3. Negatives are those of
all processes. At 32^3 the last map is one token: rotation and contrast read the mean of it (the code: its first and
second token), and the decoder starts a level finer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from s2dc_core.encoder import Encoder, EncoderConfig
from s2dc_core.methods.method import Method, Plan, RandomNumbers, Regions
from s2dc_core.methods.parts.damage import SIDES, Range, draw_noise_and_swaps, noise_and_swaps
from s2dc_core.methods.parts.decoders import DECODERS
from s2dc_core.methods.parts.turned_copies import TurnAndContrast, TurnedCopiesOptions, turned_copies
from s2dc_core.methods.parts.weighted import total_of, weights_of
from s2dc_core.options import within
from s2dc_core.views import Region


@dataclass(frozen=True, kw_only=True)
class SwinUNETROptions(TurnedCopiesOptions):
    """Damage, turns, heads and decoder; see also TurnedCopiesOptions.

    Attributes:
        share: largest share of a copy's voxels in boxes of noise, and in boxes of another copy.
        sides: least and largest side of a box, shares of the sub-volume's; the largest itself is excluded.
        weights: of rotation, contrast and reconstruction.
    """

    share: float | int = 0.3
    sides: Sequence[float | int] = (0.05, 0.25)
    weights: Sequence[float | int] = (1.0, 1.0, 1.0)

    RULES: ClassVar = {
        **TurnedCopiesOptions.RULES,
        "share": within(0, 1),
        "sides": SIDES,
        "weights": weights_of(3),
    }

    def plan(self, encoder: EncoderConfig, region: Region, spacing: Sequence[float], random: RandomNumbers) -> Plan:
        """The turn of each copy, "turns" [2 G], and its boxes, see damage.draw_noise_and_swaps.

        Raises:
            ValueError: for voxels whose sides in the plane of the turns differ.
        """
        self.check_turned(spacing)
        copies = self.copies_of(region.volume.shape[1:], encoder)
        turns = torch.randint(4, (copies,), generator=random("turns"))
        boxes = draw_noise_and_swaps(encoder.sub_volume, copies, self.share, self.sides, random("damage"))
        return {"turns": turns, **boxes}

    def build(self, encoder: EncoderConfig) -> "SwinUNETR":
        """Encoder, heads and decoder."""
        return SwinUNETR(encoder, self)


class SwinUNETRTerms(NamedTuple):
    """The terms of each region."""

    total: Float[Tensor, "*b"]
    rotation: Float[Tensor, "*b"]
    contrast: Float[Tensor, "*b"]
    reconstruction: Float[Tensor, "*b"]


class SwinUNETRViews(NamedTuple):
    """The 2 G copies of B regions, in the order of turned_copies.

    Attributes:
        damaged: what the encoder looks at.
        turned: what the decoder is to make.
        turns: by how many quarters.
    """

    damaged: Float[Tensor, "n c x y z"]
    turned: Float[Tensor, "n c x y z"]
    turns: Int[Tensor, "b copies"]


class SwinUNETR(Method):
    """An encoder, linear heads for rotation and contrast, and a decoder."""

    Terms = SwinUNETRTerms

    def __init__(self, encoder: EncoderConfig, options: SwinUNETROptions):
        super().__init__()
        self.encoder, self.options = Encoder(encoder), options
        self.heads = TurnAndContrast(encoder, options)
        self.decoder = DECODERS[options.decoder](encoder, options.level)

    @torch.no_grad()
    def views(self, regions: Regions) -> SwinUNETRViews:
        """The copies turned, and damaged."""
        turned, turns = turned_copies(regions, self.encoder.config.sub_volume, self.options.about)
        damaged = noise_and_swaps(turned, Range.of(regions.volume), regions.plan)
        return SwinUNETRViews(damaged, turned, turns)

    def forward(self, views: SwinUNETRViews) -> tuple[SwinUNETRTerms, None]:
        """The terms of each region."""
        maps = self.encoder(views.damaged)
        off = (self.decoder(maps).float() - views.turned.float()).abs()
        terms = (*self.heads(maps[-1], views.turns), off.unflatten(0, views.turns.shape).flatten(1).mean(1))
        return SwinUNETRTerms(total_of(self.options.weights, terms), *terms), None
