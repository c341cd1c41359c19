"""PCRLv2 (Zhou et al., TPAMI 2023): restore one of two damaged views, and keep all views alike at every scale.

Two global crops that overlap and L local ones about them are damaged and encoded; a decoder without skips makes maps
d_1, d_2, .. of them, coarse first. Scale s has h = norm(mean d_s), a prediction q = P(h), and a restoration r_s::

    sim_s(a, b) = -(cos(q_a, h_b) + cos(q_b, h_a)) / 2, no gradient through h
    L = mean (x^_1 - x_1)^2 + sim_s(1, 2) + beta mean (up(r_s(view 1)) - x_1)^2
        + mean over local views l, and v = 1, 2, of sim_s'(l, v)

with beta = (1 + cos(pi t)) / 2 over the training, t from 0 to 1. s is drawn for each pair of views and s' for each pair
of a local and a global one. x_1 is view 1 after its affine and before blur, noise, gamma and swapped cells; view 2 is
not restored.

Kept: how crops are drawn, the damage and its order, one scale for each term, P with a hidden layer of 2 C, BatchNorm.

What it cannot keep on this encoder: its 3D U-Net is of another kind; here the decoder starts at the Swin's last map,
and its three coarsest maps take the heads. Local crops of 16^3 leave v2 blocks one token, so those need larger ones.
Crops are cubes, as sub-volumes are. BatchNorm of maps in the decoder is GroupNorm.

What it does not keep: it has images from 0 to 1, a sigmoid after each restoration, and input that is z-normalised after
the damage. Here a restoration is linear, blur, noise and gamma see each region's range as 0 to 1, and nothing is
normalised after them. Swaps exchange cells of a grid; in the source they may overlap.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from s2dc_core.encoder import LEVELS, Encoder, EncoderConfig
from s2dc_core.geometry import random_affine, warp
from s2dc_core.matching import at_least_float32, unit_length
from s2dc_core.methods.method import Method, Plan, RandomNumbers, Regions
from s2dc_core.methods.parts.corruption import corrupted, draw_corruption, draw_swaps, swap_cells
from s2dc_core.methods.parts.crops import cubes_around, cut, random_pair, refuse_large_crops
from s2dc_core.methods.parts.damage import Range
from s2dc_core.methods.parts.decoders import Decoder
from s2dc_core.methods.parts.heads import MLP, pooled
from s2dc_core.methods.parts.sub_volumes import SubVolumeOptions, level_misfits
from s2dc_core.model import SharedBatchNorm
from s2dc_core.options import from_zero, one_of, whole_numbers_to, within
from s2dc_core.views import FACTORS, Region

SCALES = 3
"""Maps of the decoder, the coarsest ones, that have heads."""


@dataclass(frozen=True, kw_only=True)
class PCRLv2Options(SubVolumeOptions):
    """Crops, damage, heads.

    Attributes:
        sub_volumes: of a region along each axis, within which crops are drawn.
        pairs: of global crops, of a region.
        locals: local crops of a pair.
        global_sides, local_sides: voxels of a crop, one of which is drawn; it is resized to the sub-volume or to
            local_size.
        local_size: voxels of a local crop as the encoder sees it.
        overlap: least intersection over union of a pair.
        margin: voxels by which local crops may lie outside the pair's bounding box.
        flip: probability of a mirrored crop, along the first axis. It makes a left kidney of a right one.
        rotation_deg, scale: of each crop's affine, see geometry.random_affine.
        blur: largest standard deviation, in voxels.
        noise: largest standard deviation, in ranges of the region.
        gamma: largest logarithm of the exponent, to either side.
        swap_cell, swapped: side of the cells that a global view exchanges, and their share.
        norm: of the heads, "batch" over the views of a batch, or "layer".
    """

    sub_volumes: Sequence[int] = (2, 2, 2)
    pairs: int = 1
    locals: int = 6
    global_sides: Sequence[int] = (64, 96, 112)
    local_sides: Sequence[int] = (8, 16, 32)
    local_size: int = 32
    overlap: float | int = 0.3
    margin: int = 3
    flip: float | int = 0.5
    rotation_deg: float | int = 10.0
    scale: Sequence[float | int] = (0.9, 1.1)
    blur: float | int = 2.0
    noise: float | int = 0.25
    gamma: float | int = 0.3
    swap_cell: int = 4
    swapped: float | int = 0.2
    norm: str = "batch"

    PARTS: ClassVar = "pairs of global crops"
    RULES: ClassVar = {
        **SubVolumeOptions.RULES,
        **dict.fromkeys(("pairs", "locals"), within(1, 1024)),
        **dict.fromkeys(("global_sides", "local_sides"), whole_numbers_to(4096)),
        **dict.fromkeys(("local_size", "swap_cell"), within(1, 4096)),
        "overlap": within(0, 0.9),
        "margin": within(0, 4096),
        **dict.fromkeys(("flip", "swapped"), within(0, 1)),
        "rotation_deg": from_zero(360),
        "scale": FACTORS,
        **dict.fromkeys(("blur", "noise", "gamma"), from_zero(1e2)),
        "norm": one_of("layer", "batch"),
    }

    @classmethod
    def disagreements(cls, values, sound) -> Iterator[str]:
        """Local crops that do not fit about global ones."""
        if sound("global_sides", "local_sides") and max(values.local_sides) > min(values.global_sides):
            yield f"local_sides {list(values.local_sides)} must not exceed global_sides {list(values.global_sides)}"

    @classmethod
    def misfits(cls, values, sound: Callable[..., bool], encoder: EncoderConfig) -> Iterator[str]:
        """Sub-volumes that are no cubes of whole tokens and cells, and locals that leave an instance norm one token."""
        sides, least = list(encoder.sub_volume), encoder.patch * 8
        if len(set(sides)) > 1:
            yield f"sub_volume {sides} must be a cube, as crops are"
        yield from level_misfits(LEVELS - 1, encoder)
        if sides[0] % values.swap_cell:
            yield f"swap_cell {values.swap_cell} must divide sub_volume {sides}"
        if values.local_size % encoder.patch or encoder.use_v2 and values.local_size <= least:
            more = f" larger than {least}, or a norm of use_v2 has one token left" if encoder.use_v2 else ""
            yield f"local_size {values.local_size} must be a multiple of the patch, {encoder.patch}{more}"

    @property
    def whole_batch(self) -> bool:
        """With BatchNorm, over the views of the batch."""
        return self.norm == "batch"

    @property
    def least_parts(self) -> int:
        """Two pairs with BatchNorm, which makes a single row 0."""
        return 2 if self.whole_batch else 1

    def parts(self, shape: Sequence[int], encoder: EncoderConfig) -> int:
        """Pairs of global crops of a region."""
        return self.pairs

    def check_scan(self, shape: Sequence[int], encoder: EncoderConfig) -> None:
        """Raise a ValueError for a scan whose region is smaller than a crop."""
        super().check_scan(shape, encoder)
        refuse_large_crops("global_sides", self.global_sides, self.region_shape(shape, encoder), shape)

    def plan(self, encoder: EncoderConfig, region: Region, spacing: Sequence[float], random: RandomNumbers) -> Plan:
        """Crops, their affines and damage, and the scales of the terms, of P pairs with L local crops each.

        Returns:
            "crops" [P, 2 + L, 4], first voxel and side; "H" [P, 2 + L, 4, 4] float64; "damage" [P, 2 + L, 3], blur,
            exponent and noise, and "seeds" of the noise [P, 2 + L]; "swaps" [P, 2, 2, k], cells and what they are
            exchanged with, int32; "scales" [P, 1 + 2 L].
        """
        shape, generator, views = region.volume.shape[1:], random("crops"), 2 + self.locals
        pairs = [random_pair(shape, self.global_sides, self.overlap, generator) for _ in range(self.pairs)]
        around = (self.margin, shape, self.local_sides, self.locals, generator)
        crops = torch.stack([torch.cat([pair, cubes_around(pair, *around)]) for pair in pairs])
        sizes = [encoder.sub_volume[0]] * 2 + [self.local_size] * self.locals
        generator = random("views")
        H = [
            self._affine(size, [mm * side / size for mm in spacing], generator)
            for sides in crops[..., 3].tolist()
            for size, side in zip(sizes, sides, strict=True)
        ]
        damage = draw_corruption(self.blur, self.gamma, self.noise, (self.pairs, views), generator)
        cells = (encoder.sub_volume[0] // self.swap_cell) ** 3
        swaps = draw_swaps(cells, self.swapped, 2 * self.pairs, generator).unflatten(0, (self.pairs, 2))
        return {
            "crops": crops,
            "H": torch.stack(H).unflatten(0, (self.pairs, views)),
            "damage": damage,
            "seeds": torch.randint(2**62, (self.pairs, views), generator=generator),
            "swaps": swaps,
            "scales": torch.randint(SCALES, (self.pairs, 1 + 2 * self.locals), generator=generator),
        }

    def _affine(self, size: int, spacing: Sequence[float], generator: torch.Generator) -> Float[Tensor, "4 4"]:
        H = random_affine((size,) * 3, spacing, self.rotation_deg, self.scale, 0.0, generator)
        mirror = torch.eye(4, dtype=H.dtype)
        if torch.rand((), generator=generator) < self.flip:
            mirror[0, 0], mirror[0, 3] = -1, size - 1
        return H @ mirror

    def build(self, encoder: EncoderConfig) -> "PCRLv2":
        """Encoder, decoder and heads."""
        return PCRLv2(encoder, self)

    def describe(self, encoder: EncoderConfig, regions: Regions) -> list[tuple[str, str]]:
        """How many views there are."""
        return [("views", f"each pair has {self.locals} local crops of {self.local_size}^3")]


def similarity(
    a: tuple[Float[Tensor, "*n c"], Float[Tensor, "*n c"]], b: tuple[Float[Tensor, "*m c"], Float[Tensor, "*m c"]]
) -> Float[Tensor, "*k"]:
    """sim(a, b) of the (h, q) of two views, from -1 for views alike to 1; no gradient through h."""
    (h_a, q_a), (h_b, q_b) = (tuple(map(unit_length, (h.detach(), q))) for h, q in (a, b))
    return -((q_a * h_b).sum(-1) + (q_b * h_a).sum(-1)) / 2


def restoring_weight(done: float | int) -> float:
    """beta = (1 + cos(pi done)) / 2."""
    return (1 + math.cos(math.pi * done)) / 2


class PCRLv2Terms(NamedTuple):
    """L, and its parts, of each region.

    Attributes:
        total: their sum.
        restored: of the voxels, from the decoder's last map.
        alike: sim of the two global views.
        coarse: beta times that of the voxels, from the map of one scale.
        local_alike: sim of local views and global ones.
    """

    total: Float[Tensor, "*b"]
    restored: Float[Tensor, "*b"]
    alike: Float[Tensor, "*b"]
    coarse: Float[Tensor, "*b"]
    local_alike: Float[Tensor, "*b"]


class PCRLv2Views(NamedTuple):
    """What the encoder looks at, of P pairs of each region.

    Attributes:
        clean: view 1 without damage.
        seen: both global views.
        local: the local ones.
        scales: of sim_s and r_s, then of each local view with each global one.
    """

    clean: Float[Tensor, "b p c x y z"]
    seen: Float[Tensor, "b p 2 c x y z"]
    local: Float[Tensor, "b p l c _ _ _"]
    scales: Int[Tensor, "b p terms"]


class ScaleHead(nn.Module):
    """Of one scale: h of a pooled map and its prediction q, and a restoration."""

    def __init__(self, channels: int, out: int, norm: str):
        super().__init__()
        self.norm = SharedBatchNorm(channels) if norm == "batch" else nn.LayerNorm(channels)
        self.predict = MLP([channels, 2 * channels, channels], norm)
        self.restore = nn.Sequential(
            nn.Conv3d(channels, channels, 3, padding=1),
            nn.GroupNorm(math.gcd(8, channels), channels),
            nn.ReLU(),
            nn.Conv3d(channels, out, 1),
        )

    def forward(self, cells: Float[Tensor, "n c x y z"]) -> tuple[Float[Tensor, "n c"], Float[Tensor, "n c"]]:
        """h and q of views of one kind."""
        h = self.norm(pooled(cells))
        return h, self.predict(h)


class PCRLv2(Method):
    """An encoder, a decoder without skips, and heads at its coarsest maps.

    Attributes:
        beta: the weight of what is restored at a coarse scale.
    """

    Terms = PCRLv2Terms

    def __init__(self, encoder: EncoderConfig, options: PCRLv2Options):
        super().__init__()
        self.encoder, self.options = Encoder(encoder), options
        self.decoder = Decoder(encoder)
        channels, out = self.decoder.channels, encoder.in_channels
        self.heads = nn.ModuleList(ScaleHead(width, out, options.norm) for width in channels[:SCALES])
        self.restore = nn.Conv3d(channels[-1], out, 1)
        self.register_buffer("beta", torch.ones(()))

    @torch.no_grad()
    def views(self, regions: Regions) -> PCRLv2Views:
        """The crops of each pair after their affines; all but the clean ones damaged."""
        options, span, sides = self.options, Range.of(regions.volume), self.encoder.config.sub_volume
        plan = {name: torch.stack([each[name] for each in regions.plan]) for name in regions.plan[0]}
        damage = plan["damage"].to(regions.volume, non_blocking=True)
        made = []
        for which, to in ((slice(0, 2), sides), (slice(2, None), (options.local_size,) * 3)):
            crops, H = plan["crops"][:, :, which].flatten(1, 2), plan["H"][:, :, which]
            each = zip(regions.volume, crops.tolist(), strict=True)
            cuts = torch.stack([cut(volume, at, (side,) * 3, to) for volume, boxes in each for *at, side in boxes])
            moved = warp(cuts, H.flatten(0, 2), fill=regions.background.repeat_interleave(crops.shape[1]))
            how = damage[:, :, which].flatten(0, 2), plan["seeds"][:, :, which].flatten()
            made += [(moved, corrupted(moved, span.for_each(crops.shape[1]), *how), H.shape[:3])]
        (clean, seen, shape), (_, local, local_shape) = made
        seen = swap_cells(seen, plan["swaps"].flatten(0, 2), options.swap_cell).unflatten(0, shape)
        scales = plan["scales"].to(regions.volume.device, non_blocking=True)
        return PCRLv2Views(clean.unflatten(0, shape)[:, :, 0], seen, local.unflatten(0, local_shape), scales)

    def forward(self, views: PCRLv2Views) -> tuple[PCRLv2Terms, None]:
        """L of each region, and its parts."""
        shape, locals_ = views.clean.shape[:2], self.options.locals
        clean, pairs = at_least_float32(views.clean.flatten(0, 1)), views.clean[:, :, 0, 0, 0, 0].numel()
        decoded = self.decoder(self.encoder(views.seen.flatten(0, 2)))
        near = self.decoder(self.encoder(views.local.flatten(0, 2)), SCALES)
        alike, coarse, local_alike = [], [], []
        for head, cells, local in zip(self.heads, decoded, near, strict=False):
            first, second = cells.unflatten(0, (pairs, 2)).unbind(1)
            one, other = head(first), head(second)
            alike.append(similarity(one, other))
            restored = F.interpolate(head.restore(first), size=clean.shape[2:], mode="trilinear")
            coarse.append((at_least_float32(restored) - clean).square().flatten(1).mean(1))
            both = tuple(torch.stack(sides, 1)[:, None] for sides in zip(one, other, strict=True))
            own = tuple(side.unflatten(0, (pairs, locals_, 1)) for side in head(local))
            local_alike.append(similarity(own, both).flatten(1))
        drawn = F.one_hot(views.scales.flatten(0, 1), SCALES).to(alike[0].dtype)
        picked = [(torch.stack(each, -1) * drawn[:, 0]).sum(-1) for each in (alike, coarse)]
        picked.append((torch.stack(local_alike, -1) * drawn[:, 1:]).sum(-1).mean(1))
        last = self.restore(decoded[-1].unflatten(0, (pairs, 2))[:, 0])
        voxels = (at_least_float32(last) - clean).square().flatten(1).mean(1)
        terms = [term.unflatten(0, shape).mean(1) for term in (voxels, picked[0], self.beta * picked[1], picked[2])]
        return PCRLv2Terms(sum(terms), *terms), None

    def after_step(self, rows: Tensor | None, done: float) -> None:
        """beta falls from 1 to 0."""
        self.beta.fill_(restoring_weight(done))
