"""GVSL (He et al., CVPR 2023): one scan is laid over another, and what was damaged of it restored, by one network.

Of a sub-volume A and of B, the next scan at the same place of its body; A~ is A after the damage of `parts.genesis`.
The encoder and a decoder with skips see A~ and B. An affine G follows from the coarse maps of both, a flow u from the
fine ones, the restored A^ from A~'s::

    (B o phi)(q) = B(G (q + u(q)))
    L = w_1 (1 - mean cc(B o phi, A)^2) + w_2 mean (A^ - A)^2 + w_3 mean over axes of mean (du / daxis)^2

cc is the correlation within a window of w^3 voxels, 0 beyond the volume. G has, about the centre and in mm, three turns
of up to 20 degrees, scales of 1 +- 0.25, shears of tan(+- 10 degrees), and shifts of any size.

Kept: heads, damage, window, the three terms, B without damage; intensities from 0 to 1 for damage and terms. Each
window of a shuffle has an order of its own, where there all have one; how often boxes are painted is inferred. In the
published code G is made of copied numbers, so that neither its head nor the coarse maps learn; here they do, and turns
are bounded smoothly, where a clamp has no gradient. There, shifts and axes fit cubes alone. Scans must share a spacing.

It cannot keep its U-Net, whose local features have 32 channels; a decoder from the Swin's maps stands for it. Hearts
that fill the view correspond as they are; regions of whole bodies do not, so B lies where A does within its body. The
code turns, stretches and bends A, A~ and B together before all else, the paper does not, and neither does this file.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from math import pi, prod
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from s2dc_core.encoder import LEVELS, Encoder, EncoderConfig
from s2dc_core.geometry import grid_of, pull, split_region
from s2dc_core.matching import at_least_float32
from s2dc_core.methods.method import Method, Plan, RandomNumbers, Regions
from s2dc_core.methods.parts.damage import Range
from s2dc_core.methods.parts.decoders import Decoder, conv_block
from s2dc_core.methods.parts.genesis import LEAST_SIDE, Genesis, damaged, draw_genesis
from s2dc_core.methods.parts.heads import pooled
from s2dc_core.methods.parts.sub_volumes import SubVolumeOptions, level_misfits
from s2dc_core.methods.parts.weighted import total_of, weights_of
from s2dc_core.options import MANY, that, whole_numbers_to, within
from s2dc_core.views import Region

TURN, SCALE, SHEAR = pi / 9, 0.25, pi / 18
"""Bounds of an affine: angles, scales about 1, and the angles of shears."""

PAIRS = [(i, j) for i in range(3) for j in range(3) if i != j]


def _damage() -> Genesis:
    return Genesis(shuffle=0.8, windows=5000, window=20, one_size=True, falling=0.0, inside=1.0, boxes=30, box=(10, 5))


@dataclass(frozen=True, kw_only=True)
class GVSLOptions(SubVolumeOptions):
    """Damage, heads and loss.

    Attributes:
        sub_volumes: of a region along each axis.
        damage: see parts.genesis.Genesis.
        level: of the map that the decoder starts from and the affine is read of.
        hidden, flow_hidden, restore_hidden: channels of the heads' convolutions.
        window: w, odd.
        weights: of what is registered, restored and smooth.
    """

    damage: Genesis = field(default_factory=_damage)
    level: int = 4
    hidden: int = 256
    flow_hidden: Sequence[int] = (64, 16)
    restore_hidden: int = 16
    window: int = 9
    weights: Sequence[float | int] = (1.0, 1.0, 1.0)

    RULES: ClassVar = {
        **SubVolumeOptions.RULES,
        "level": within(0, LEVELS - 1),
        **dict.fromkeys(("hidden", "restore_hidden"), within(1, MANY)),
        "flow_hidden": whole_numbers_to(MANY, of=2),
        "window": that(lambda side: side % 2 == 1 and 3 <= side < 100, "must be odd, from 3 to 99"),
        "weights": weights_of(3),
    }

    @property
    def paired(self) -> bool:
        """A region comes with the next scan's."""
        return True

    @classmethod
    def misfits(cls, values, sound: Callable[..., bool], encoder: EncoderConfig) -> Iterator[str]:
        """Sub-volumes that are too small to be damaged, or have no whole tokens to decode."""
        sides = list(encoder.sub_volume)
        yield from level_misfits(values.level, encoder)
        if min(sides) < LEAST_SIDE:
            yield f"sub_volume {sides} must have {LEAST_SIDE} voxels a side at least, as its damage asks"
        if sound("damage") and values.damage.shuffle and max(sides) < 2 * values.damage.window:
            part = max(sides) // 2
            yield (
                f"windows of sub_volume {sides} / {values.damage.window} (damage.window) hold one voxel, and a shuffle "
                f"moves nothing: take damage.window={part} or less, or damage.shuffle=0"
            )

    def plan(self, encoder: EncoderConfig, region: Region, spacing: Sequence[float], random: RandomNumbers) -> Plan:
        """The damage of each of the G sub-volumes, see draw_genesis; "spacing" [G, 3] in mm."""
        parts = prod(grid_of(region.volume.shape[1:], encoder.sub_volume))
        drawn = draw_genesis(self.damage, encoder.sub_volume, parts, random("damage"))
        return drawn | {"spacing": torch.tensor(tuple(spacing), dtype=torch.float64).repeat(parts, 1)}

    def build(self, encoder: EncoderConfig) -> "GVSL":
        """Encoder, decoder and heads."""
        return GVSL(encoder, self)

    def describe(self, encoder: EncoderConfig, regions: Regions) -> list[tuple[str, str]]:
        """That regions come in pairs."""
        return [("pairs", "each region with what the next scan shows at the same place of its body")]


def affine_of(
    numbers: Float[Tensor, "n 15"], spacing: Float[Tensor, "n 3"], shape: Sequence[int]
) -> Float[Tensor, "n 4 4"]:
    """G = S^-1 (Sh Z R_z R_y R_x) S about the centre, then a shift, in float64; the identity of zeros.

    Args:
        numbers: three each of turns, scales and shifts, the last in halves of a side, then six shears, row by row.
        spacing: of the voxels, in mm: S = diag(spacing).
    """

    def identity(size: int) -> Float[Tensor, "n size size"]:
        return numbers.new_ones(len(numbers), size, dtype=torch.float64).diag_embed()

    turns, scales, shifts, shears = numbers.double().split((3, 3, 3, 6), 1)
    linear, shear, found = identity(3), identity(3), identity(4)
    for axis, angle in enumerate((TURN * turns.tanh()).unbind(1)):
        turn, one, other = identity(3), (axis + 1) % 3, (axis + 2) % 3
        turn[:, one, one] = turn[:, other, other] = angle.cos()
        turn[:, one, other], turn[:, other, one] = -angle.sin(), angle.sin()
        linear = turn @ linear
    for (i, j), number in zip(PAIRS, (SHEAR * shears.tanh()).tan().unbind(1), strict=True):
        shear[:, i, j] = number
    linear = shear @ ((1 + SCALE * scales.tanh())[..., None] * linear)
    found[:, :3, :3] = linear * spacing[:, None] / spacing[..., None]
    for axis, side in enumerate(shape):
        found[:, axis, 3] += side / 2 * shifts[:, axis] + (side - 1) / 2
        found[:, :3, 3] -= (side - 1) / 2 * found[:, :3, axis]
    return found


def correlation(one: Float[Tensor, "n c x y z"], other: Float[Tensor, "n c x y z"], window: int) -> Float[Tensor, " n"]:
    """mean cc^2, from 0 to 1, of windows about every voxel; both are 0 beyond their faces.

    In float64: in float32 the variance of a window of equal values is not 0 but noise of either sign.
    """
    one, other = one.double(), other.double()
    voxels, means = window**3, torch.cat([one, other, one * one, other * other, one * other], 1)
    means = F.pad(means, [window // 2] * 6)
    for axis in range(3):
        means = F.avg_pool3d(means, [window if each == axis else 1 for each in range(3)], stride=1)
    a, b, aa, bb, ab = (means * voxels).chunk(5, 1)
    both, own, others = ab - a * b / voxels, aa - a * a / voxels, bb - b * b / voxels
    return (both.square() / (own * others + 1e-5)).flatten(1).mean(1)


def roughness(flow: Float[Tensor, "n 3 x y z"]) -> Float[Tensor, " n"]:
    """Mean over the axes of the mean squared difference of neighbours along them, in voxels."""
    return sum(flow.diff(dim=axis).square().flatten(1).mean(1) for axis in (2, 3, 4)) / 3


class GVSLTerms(NamedTuple):
    """L, and its parts, of each region.

    Attributes:
        total: their weighted sum.
        registered: 1 - mean cc^2.
        restored: the squared error, in ranges of the region.
        smooth: roughness of u.
    """

    total: Float[Tensor, "*b"]
    registered: Float[Tensor, "*b"]
    restored: Float[Tensor, "*b"]
    smooth: Float[Tensor, "*b"]


class GVSLViews(NamedTuple):
    """The G sub-volumes of B regions and of their partners.

    Attributes:
        seen: A~ of each, and then B, as the encoder looks at them.
        target: A, from 0 to 1.
        other: B, from 0 to 1.
        spacing: of A's voxels, in mm.
    """

    seen: Float[Tensor, "2 b g c x y z"]
    target: Float[Tensor, "b g c x y z"]
    other: Float[Tensor, "b g c x y z"]
    spacing: Float[Tensor, "bg 3"]


class GVSL(Method):
    """An encoder, a decoder with skips, and heads for an affine, a flow and a restoration."""

    Terms = GVSLTerms

    def __init__(self, encoder: EncoderConfig, options: GVSLOptions):
        super().__init__()
        self.encoder, self.options = Encoder(encoder), options
        self.decoder = Decoder(encoder, options.level, skips=True)
        coarse, fine = encoder.embed_dim * 2**options.level, self.decoder.channels[-1]
        hidden, (wide, narrow), last = options.hidden, options.flow_hidden, options.restore_hidden
        self.coarse = nn.Sequential(conv_block(2 * coarse, hidden), conv_block(hidden, hidden))
        self.affine = nn.Linear(hidden, 15)
        steps = conv_block(2 * fine, wide), conv_block(wide, narrow)
        self.flow = nn.Sequential(*steps, nn.Conv3d(narrow, 3, 3, padding=1))
        self.restore = nn.Sequential(conv_block(fine, last), nn.Conv3d(last, encoder.in_channels, 1))
        for head in (self.affine, self.flow[-1]):  # it starts next to the identity
            nn.init.normal_(head.weight, std=1e-3)
            nn.init.zeros_(head.bias)

    @torch.no_grad()
    def views(self, regions: Regions) -> GVSLViews:
        """Sub-volumes of both scans, those of the region damaged."""
        shape, size = (len(regions.volume), -1), self.encoder.config.sub_volume
        own, others = (Range.of(each) for each in (regions.volume, regions.partner.volume))
        target = split_region(own.to_unit(regions.volume), size)
        other = split_region(others.to_unit(regions.partner.volume), size)
        plan = {name: torch.cat([each[name] for each in regions.plan]) for name in regions.plan[0]}
        spans = own.for_each(len(target) // len(regions.volume))
        seen = torch.stack([spans.from_unit(damaged(target, plan)), split_region(regions.partner.volume, size)])
        spacing = plan["spacing"].to(seen.device, non_blocking=True)
        return GVSLViews(seen.unflatten(1, shape), target.unflatten(0, shape), other.unflatten(0, shape), spacing)

    def forward(self, views: GVSLViews) -> tuple[GVSLTerms, None]:
        """L of each region, and its parts."""
        shape = views.target.shape[:2]
        target, other = (at_least_float32(each.flatten(0, 1)) for each in (views.target, views.other))
        maps = self.encoder(views.seen.flatten(0, 2))
        fine = self.decoder(maps)[-1]
        back, flow = self.register(maps[self.options.level], fine, views.spacing)
        laid = pull(other, back, flow)
        off = at_least_float32(self.restore(fine[: len(target)])) - target
        like = correlation(laid, target, self.options.window).to(off)
        terms = (1 - like, off.square().flatten(1).mean(1), roughness(flow))
        terms = [term.view(shape).mean(1) for term in terms]
        return GVSLTerms(total_of(self.options.weights, terms), *terms), None

    def register(
        self, coarse: Float[Tensor, "_ d _ _ _"], fine: Float[Tensor, "_ c x y z"], spacing: Float[Tensor, "n 3"]
    ) -> tuple[Float[Tensor, "n 4 4"], Float[Tensor, "n 3 x y z"]]:
        """G and u, from the maps of all A~ and then of all B."""
        both, near = (torch.cat(each.chunk(2)[::-1], 1) for each in (coarse, fine))
        numbers = at_least_float32(self.affine(pooled(self.coarse(both))))
        return affine_of(numbers, spacing, fine.shape[2:]), at_least_float32(self.flow(near))
