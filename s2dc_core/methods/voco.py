"""VoCo (Wu, Zhuang and Chen, CVPR 2024): which parts of a region does a random crop overlap, and by how much.

A region is tiled by K base crops; m random crops p_i share y_ik = |crop_i and base_k| / |crop_i| of their volume with
base k. From pooled and projected features the share is told as a cosine, and bases are kept apart::

    paper:  l_ik = max(0, cos(p_i, q_k))     L_pred = mean_ik -log(1 - |y_ik - l_ik|)
            L_reg = mean_{i<j} |cos(q_i, q_j)|
    code:   l = (l(p_s, q_t) + l(p_t, q_s)) / 2 of a student s and a teacher t
            L_pred = sum_ik -y_ik log(1 - |y_ik - l_ik| + e) / sum_ik y_ik + mean_{y_ik = 0} l_ik^2
            L_reg = mean_{i<j} max(0, cos(q_i, q_j))^2

Kept: bases and crops of one size, resized for the encoder; four pooled levels joined; a perceptron with BatchNorm;
flips, turns and shifts of intensity of each crop by itself. Of two other published versions `form` takes L_pred alone:
"first", of the head that came out at the conference, which has one network, pools the last map only and gives the bases
no gradient of L_pred; and "second", of the version for large data, which has one encoder with two heads, dropout and a
term between volumes. Whatever the form, network and gradients are as above.

What it cannot keep on this encoder: VoCo pools SwinUNETR's convolution blocks, one of them on the image; here it is the
maps which those read, levels 0, 1, 2 and 4. Its context is a whole scan within the body, here a region of it.

What it does not keep: as printed the loss is infinite or undefined where a cosine and its share differ by 1 or more, so
"paper" takes the cosine from 0, and the logarithm from e. The code's teacher starts from random numbers of its own and
moves before the step; here it starts as a copy and follows after it. In the code the later base of a pair gets no
gradient of L_reg, the last base therefore none; here both do. Means are each region's own.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from s2dc_core.encoder import LEVEL_NAMES, Encoder, EncoderConfig
from s2dc_core.geometry import grid_of
from s2dc_core.methods.method import Method, MethodOptions, Plan, RandomNumbers, Regions
from s2dc_core.methods.parts.contrast import cosines
from s2dc_core.methods.parts.crops import cut, grid_corners, overlap_shares, random_corners
from s2dc_core.methods.parts.heads import pooled
from s2dc_core.methods.parts.momentum import Teacher
from s2dc_core.model import ProjectionHead
from s2dc_core.options import MANY, from_zero, one_of, that, whole_numbers_to, within
from s2dc_core.views import Region, region_shape

FORMS = ("paper", "code", "first", "second")
EPSILON = 1e-6
"""What the code adds within the logarithm."""

SHARE = that(lambda share: 0 <= share <= 1, "must be from 0 to 1")


@dataclass(frozen=True, kw_only=True)
class VoCoOptions(MethodOptions):
    """Crops, head and loss.

    Attributes:
        bases: base crops of a region along each axis.
        crop: voxels of a crop, which is resized to the encoder's sub-volume; None for as many as that has.
        crops: random crops of a region.
        flip: probability of a mirrored crop, for each axis. It makes a left kidney of a right one.
        turn: probability that a crop is turned about its last axis by one to three quarters.
        shift, shift_chance: largest shift of a crop's intensities, and its probability.
        levels: that are pooled and joined.
        hidden, out: sizes of the perceptron.
        norm: of the perceptron, "batch" over all crops of a batch, or "layer".
        momentum: of the teacher; None for a single network, as the paper describes it.
        form: of the loss, see above.
        reg_weight: of L_reg.
    """

    bases: Sequence[int] = (4, 4, 1)
    crop: Sequence[int] | None = None
    crops: int = 2
    flip: float | int = 0.2
    turn: float | int = 0.2
    shift: float | int = 0.1
    shift_chance: float | int = 0.1
    levels: Sequence[int] = (0, 1, 2, 4)
    hidden: int = 2048
    out: int = 2048
    norm: str = "batch"
    momentum: float | int | None = 0.9
    form: str = "code"
    reg_weight: float | int = 1.0

    PARTS: ClassVar = "crops"
    RULES: ClassVar = {
        "bases": whole_numbers_to(64, of=3),
        "crop": whole_numbers_to(4096, of=3),
        "crops": within(1, 1024),
        **dict.fromkeys(("flip", "turn", "shift_chance", "momentum"), SHARE),
        **dict.fromkeys(("shift", "reg_weight"), from_zero(1e3)),
        "levels": LEVEL_NAMES,
        **dict.fromkeys(("hidden", "out"), within(1, MANY)),
        "norm": one_of("layer", "batch"),
        "form": one_of(*FORMS),
    }

    @classmethod
    def disagreements(cls, values, sound) -> Iterator[str]:
        """One base crop overlaps every crop whole."""
        if sound("bases") and max(values.bases) == 1:
            yield f"bases {list(values.bases)} must be at least two: each crop lies in a single one whole"

    @classmethod
    def misfits(cls, values, sound: Callable[..., bool], encoder: EncoderConfig) -> Iterator[str]:
        """Turns of crops that are not square."""
        sides = list(encoder.sub_volume)
        crop = list(values.crop or sides)
        if values.turn and (sides[0] != sides[1] or crop[0] != crop[1]):
            yield f"crops of {crop} for sub_volume {sides} cannot be turned in their first two axes: turn must be 0"

    @property
    def counts(self) -> tuple[int, int, int]:
        """Base crops of a region along each axis."""
        return tuple(self.bases)

    @property
    def whole_batch(self) -> bool:
        """With BatchNorm, over all crops of the batch."""
        return self.norm == "batch"

    def parts(self, shape: Sequence[int], encoder: EncoderConfig) -> int:
        """Base crops of a region, and the random ones."""
        return math.prod(grid_of(self.region_shape(shape, encoder), self.crop_size(encoder))) + self.crops

    def region_shape(self, shape: Sequence[int], encoder: EncoderConfig) -> tuple[int, int, int]:
        """As many base crops as the scan holds, up to `bases`."""
        return region_shape(shape, self.crop or encoder.sub_volume, self.bases)

    def check_scan(self, shape: Sequence[int], encoder: EncoderConfig) -> None:
        """Raise a ValueError for a scan that holds a single base crop."""
        super().check_scan(shape, encoder)
        if self.region_shape(shape, encoder) == (size := self.crop_size(encoder)):
            raise ValueError(
                f"a scan of {tuple(shape)} voxels holds one base crop of {size}, in which each crop lies whole: use a "
                "smaller crop"
            )

    def crop_size(self, encoder: EncoderConfig) -> tuple[int, int, int]:
        """Voxels of a crop in the region."""
        return tuple(self.crop or encoder.sub_volume)

    def plan(self, encoder: EncoderConfig, region: Region, spacing: Sequence[float], random: RandomNumbers) -> Plan:
        """Where the K + m crops of a region lie, base crops first, their shares, and what is done to each.

        Returns:
            "corners" [K + m, 3]; "shares" [m, K] float64, y; "flips" [K + m, 3] bool, "turns" [K + m], quarters, and
            "shifts" [K + m].
        """
        shape, size, generator = region.volume.shape[1:], self.crop_size(encoder), random("crops")
        bases, crops = grid_corners(shape, size), random_corners(shape, size, self.crops, generator)
        count = len(bases) + len(crops)
        flips, turned, shifted, amount = torch.rand(6, count, generator=generator).split((3, 1, 1, 1))
        quarters = torch.randint(1, 4, (count,), generator=generator)
        return {
            "corners": torch.cat([bases, crops]),
            "shares": overlap_shares(crops, bases, size),
            "flips": (flips < self.flip).T,
            "turns": quarters * (turned[0] < self.turn),
            "shifts": (2 * amount[0] - 1) * self.shift * (shifted[0] < self.shift_chance),
        }

    def build(self, encoder: EncoderConfig) -> "VoCo":
        """Student and teacher."""
        return VoCo(encoder, self)

    def describe(self, encoder: EncoderConfig, regions: Regions) -> list[tuple[str, str]]:
        """How many crops there are, and how many base crops a random one overlaps."""
        shares = torch.cat([plan["shares"] for plan in regions.plan])
        touched = (shares > 0).sum(1).float().mean()
        of = f"{shares.shape[1]} base crops and {self.crops} random ones of a region"
        return [("crops", f"{of}, which overlap {touched:.3g} of them in the batch drawn here")]


def overlap_loss(
    told: Float[Tensor, "b m k"], shares: Float[Tensor, "b m k"], form: str = "code"
) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
    """L_pred of each region in two parts, whose sum it is: of the bases that a crop overlaps, and of those it does not.

    Args:
        told: l, from 0 to 1.
        shares: y, whose rows sum to 1.
        form: see the file.
    """
    apart = shares == 0
    left = 1 - (shares - told).abs()
    if form == "paper":
        losses = -left.clamp(min=EPSILON).log()
        return tuple((losses * part).mean((1, 2)) for part in (~apart, apart))
    weights = (~apart).to(told.dtype) if form == "first" else shares
    touched = ((left + EPSILON).log() * -weights).sum((1, 2)) / weights.sum((1, 2))
    untouched = -(1 - told + EPSILON).log() if form == "second" else told.square()
    return touched, (untouched * apart).sum((1, 2)) / apart.sum((1, 2)).clamp(min=1)


def bases_loss(bases: Float[Tensor, "b k c"], form: str = "code") -> Float[Tensor, " b"]:
    """L_reg of each region: how alike its base crops are, over all pairs."""
    alike, count = cosines(bases, bases), bases.shape[1]
    alike = alike.abs() if form == "paper" else alike.relu().square()
    return alike.triu(1).sum((1, 2)) / (count * (count - 1) / 2)


class VoCoTerms(NamedTuple):
    """L, and its parts, of each region.

    Attributes:
        total: overlapped + apart + reg_weight bases.
        overlapped, apart: L_pred of the bases that a crop overlaps, and of the others.
        bases: L_reg.
    """

    total: Float[Tensor, "*b"]
    overlapped: Float[Tensor, "*b"]
    apart: Float[Tensor, "*b"]
    bases: Float[Tensor, "*b"]


class VoCoViews(NamedTuple):
    """What the networks look at.

    Attributes:
        crops: K base crops and m random ones of each region.
        shares: y.
    """

    crops: Float[Tensor, "b n c _ _ _"]
    shares: Float[Tensor, "b m k"]


class PooledLevels(nn.Module):
    """An encoder whose levels are pooled, joined and projected."""

    def __init__(self, encoder: EncoderConfig, options: VoCoOptions):
        super().__init__()
        self.encoder, self.levels = Encoder(encoder), tuple(options.levels)
        channels = sum(encoder.embed_dim * 2**level for level in self.levels)
        self.head = ProjectionHead(channels, options.hidden, options.out, options.norm)

    def forward(self, crops: Float[Tensor, "n c x y z"]) -> Float[Tensor, "n d"]:
        """A vector of each crop."""
        maps = self.encoder(crops)
        return self.head(torch.cat([pooled(maps[level]) for level in self.levels], 1))


class VoCo(Method):
    """An encoder with a perceptron on its pooled levels, and a teacher that follows both."""

    Terms = VoCoTerms

    def __init__(self, encoder: EncoderConfig, options: VoCoOptions):
        super().__init__()
        self.options = options
        self.student = PooledLevels(encoder, options)
        self.teacher = None if options.momentum is None else Teacher([self.student], options.momentum)

    @property
    def encoder(self) -> Encoder:
        """The student's."""
        return self.student.encoder

    @torch.no_grad()
    def views(self, regions: Regions) -> VoCoViews:
        """The crops of each region."""
        options, encoder = self.options, self.encoder.config
        size, device = options.crop_size(encoder), regions.volume.device
        crops = []
        for volume, plan in zip(regions.volume, regions.plan, strict=True):
            each = zip(*(plan[name].tolist() for name in ("corners", "flips", "turns", "shifts")), strict=True)
            for corner, flips, turns, shift in each:
                crop = cut(volume, corner, size, encoder.sub_volume) + shift
                crop = crop.flip([axis for axis in (1, 2, 3) if flips[axis - 1]])
                crops.append(crop.rot90(turns, (1, 2)) if turns else crop)
        shares = torch.stack([plan["shares"] for plan in regions.plan]).to(regions.volume.dtype)
        return VoCoViews(torch.stack(crops).unflatten(0, (len(shares), -1)), shares.to(device, non_blocking=True))

    def forward(self, views: VoCoViews) -> tuple[VoCoTerms, None]:
        """L of each region, and its parts."""
        options, crops = self.options, views.crops.flatten(0, 1)
        counts = views.shares.shape[:0:-1]  # K bases, then m random crops
        bases, found = self.student(crops).unflatten(0, (len(views.shares), -1)).split(counts, 1)
        told = cosines(found, bases).relu()
        if self.teacher is not None:
            with torch.no_grad():
                (teacher,) = self.teacher
                their_bases, theirs = teacher(crops).unflatten(0, (len(views.shares), -1)).split(counts, 1)
            told = (cosines(found, their_bases).relu() + cosines(theirs, bases).relu()) / 2
        overlapped, apart = overlap_loss(told, views.shares.to(told), options.form)
        alike = bases_loss(bases, options.form)
        return VoCoTerms(overlapped + apart + options.reg_weight * alike, overlapped, apart, alike), None

    def after_step(self, rows: Tensor | None, done: float) -> None:
        """The teacher follows."""
        if self.teacher is not None:
            self.teacher.follow([self.student], done)
