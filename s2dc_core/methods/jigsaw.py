"""Jigsaw clustering (Chen, Liu, Jia, CVPR 2021): montages of patches of a whole batch, sorted out by what they show.

Each of n sub-volumes is cut into M = m^3 patches that overlap, each changed by itself; all n M of them are shuffled and
laid into n montages, and the encoder sees nothing else. A map of it is pooled to m^3 cells. With u = unit(MLP(cell)),
P(c) the other cells whose patches came from c's sub-volume, and o(c) where in it c's patch lay::

    L_clu = -mean_c mean_{p in P(c)} log( exp(u_c . u_p / T) / sum_{v != c} exp(u_c . u_v / T) )
    L_loc = mean_c cross_entropy(W cell_c, o(c)),  L = L_clu + L_loc

The published code multiplies L_clu by T / 0.07, which at its T of 0.3 is 4.29: form="code".

Kept: montages mix a whole batch, that of all processes; octants reach beyond the middle, so that a patch has no edge to
be matched by; both losses. Not kept: the last map. Of sub-volumes of 32 it has one token, and of 96 three on a side,
which mix the patches when pooled to two; level 3 gives a cell whole tokens of its own. Shifted windows cross the edges
of patches, as convolutions do. Gain, offset and noise stand in for colours and blur; patches are not flipped.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from s2dc_core.encoder import LEVELS, Encoder, EncoderConfig
from s2dc_core.geometry import Reals, grid_of, lay_back, split_region
from s2dc_core.matching import at_least_float32
from s2dc_core.methods.method import Method, Plan, RandomNumbers, Regions
from s2dc_core.methods.parts.contrast import BatchOptions, refuse_single, supervised_contrast
from s2dc_core.methods.parts.heads import MLP, NORMS, tokens_of
from s2dc_core.methods.parts.rows import RowsOfAll
from s2dc_core.options import MANY, above_zero, one_of, that, within
from s2dc_core.views import IntensityRanges, Region, change_intensities, draw_changes

FORMS = ("paper", "code")
BASE = 0.07
"""The temperature that the code divides its own by."""


@dataclass(frozen=True, kw_only=True)
class JigsawOptions(BatchOptions):
    """Patches, heads and loss.

    Attributes:
        sub_volumes: see BatchOptions.
        cuts: m, patches of a sub-volume along each axis.
        reach: how far a patch reaches beyond its part of the sub-volume, in sides of that.
        crop: range of the share of such a patch's volume that is cut out of it, at random, and resized.
        intensities: how each patch is changed.
        level: the map whose cells are sorted.
        hidden, out, norm: of the perceptron; see parts.heads.
        temperature: of the cosines, T.
        form: "paper", or "code" with T / 0.07 times L_clu.
    """

    cuts: int = 2
    reach: float | int = 0.3
    crop: Reals = (1.0, 1.0)
    intensities: IntensityRanges = field(default_factory=IntensityRanges)
    level: int = 3
    hidden: int = 192
    out: int = 128
    norm: str = "none"
    temperature: float | int = 0.3
    form: str = "paper"

    RULES: ClassVar = {
        **BatchOptions.RULES,
        "cuts": within(2, 64),
        "reach": within(0, 1),
        "crop": that(lambda share: len(share) == 2 and 0 < share[0] <= share[1] <= 1, "must be a range within 0 to 1"),
        "level": within(0, LEVELS - 1),
        "hidden": within(1, MANY),
        "out": within(1, MANY),
        "norm": one_of(*NORMS),
        "temperature": above_zero(1e3),
        "form": one_of(*FORMS),
    }

    @classmethod
    def misfits(cls, values, sound: Callable[..., bool], encoder: EncoderConfig) -> Iterator[str]:
        """Patches that are not whole tokens of the level."""
        sides, token = list(encoder.sub_volume), encoder.stride(values.level)[0] * values.cuts
        if any(side % token for side in sides):
            cut = f"{values.cuts} cuts of whole tokens at level {values.level}"
            yield f"sub_volume {sides} must be multiples of {token}: {cut}"

    def plan(self, encoder: EncoderConfig, region: Region, spacing: Sequence[float], random: RandomNumbers) -> Plan:
        """Of each of the G sub-volumes' M patches "boxes" [G, M, 2, 3], first voxel and sides; "changes", "seeds"; and
        "keys" [G, M], by which the patches of a batch are sorted into its montages."""
        parts, patches = math.prod(grid_of(region.volume.shape[1:], encoder.sub_volume)), self.cuts**3
        boxes = draw_boxes(encoder.sub_volume, self.cuts, self.reach, self.crop, parts, random("boxes"))
        changes, seeds = draw_changes(self.intensities, parts * patches, random("views"))
        keys = torch.rand(parts, patches, generator=random("montage"), dtype=torch.float64)
        return {
            "boxes": boxes,
            "changes": changes.view(parts, patches, 3),
            "seeds": seeds.view(parts, patches),
            "keys": keys,
        }

    def build(self, encoder: EncoderConfig) -> "Jigsaw":
        """Encoder and both heads."""
        return Jigsaw(encoder, self)


def draw_boxes(
    sides: Sequence[int], cuts: int, reach: float | int, crop: Reals, count: int, generator: torch.Generator
) -> Int[Tensor, "g m 2 3"]:
    """Random boxes for the patches of sub-volumes: the first voxel and the sides of each.

    Patch (a, b, c) may be cut out of the voxels from a / cuts - reach to (a + 1) / cuts + reach of the side, which end
    at the sub-volume's faces, with a uniform share of their volume at a uniform place.
    """
    boxes = []
    for place in [*product(range(cuts), repeat=3)] * count:
        share, *where = torch.rand(4, generator=generator, dtype=torch.float64).tolist()
        factor = (crop[0] + (crop[1] - crop[0]) * share) ** (1 / 3)
        box = []
        for side, k, at in zip(sides, place, where, strict=True):
            low, high = (round(min(max(end, 0), 1) * side) for end in (k / cuts - reach, (k + 1) / cuts + reach))
            length = max(round((high - low) * factor), 1)
            box.append((low + min(int(at * (high - low - length + 1)), high - low - length), length))
        boxes.append([list(axis) for axis in zip(*box, strict=True)])
    return torch.tensor(boxes).view(count, cuts**3, 2, 3)


class JigsawTerms(NamedTuple):
    """The loss of each region and its parts."""

    total: Float[Tensor, "*b"]
    clustering: Float[Tensor, "*b"]
    location: Float[Tensor, "*b"]


class Montages(NamedTuple):
    """What the encoder looks at.

    Attributes:
        volume: as many montages as there are sub-volumes, G for each of B regions.
        source: the sub-volume of which each patch is, of the montages of all processes, last axis of a montage fastest.
        place: where in it the patch lay.
    """

    volume: Float[Tensor, "b g c _ _ _"]
    source: Int[Tensor, " m"]
    place: Int[Tensor, " m"]


class Jigsaw(Method):
    """An encoder, a perceptron for clustering and a linear layer for the place."""

    Terms = JigsawTerms

    def __init__(self, encoder: EncoderConfig, options: JigsawOptions):
        super().__init__()
        self.encoder, self.options, self.rows = Encoder(encoder), options, RowsOfAll()
        channels = encoder.embed_dim * 2**options.level
        self.cluster = MLP([channels, options.hidden, options.out], options.norm)
        self.locate = nn.Linear(channels, options.cuts**3)

    @torch.no_grad()
    def views(self, regions: Regions) -> Montages:
        """Patches of all regions, and of all processes, sorted by their keys into montages."""
        device, cuts = regions.volume.device, (self.options.cuts,) * 3
        boxes, changes, seeds, keys = (
            torch.cat([plan[name] for plan in regions.plan]) for name in ("boxes", "changes", "seeds", "keys")
        )
        parts = split_region(regions.volume, self.encoder.config.sub_volume)
        size = [side // count for side, count in zip(parts.shape[2:], cuts, strict=True)]
        each = zip(parts, boxes.tolist(), strict=True)
        patches = torch.cat([resized(part, box, size) for part, own in each for box in own])
        patches = change_intensities(patches, changes.flatten(0, 1), seeds.flatten())
        every = self.rows(patches)
        order = self.rows(keys.flatten().to(device, non_blocking=True)).all.argsort()
        own = order[every.first :][: len(patches)]
        montages = lay_back(every.all[own], cuts).unflatten(0, (len(regions.volume), -1))
        return Montages(montages, order // keys.shape[1], order % keys.shape[1])

    def forward(self, views: Montages) -> tuple[JigsawTerms, None]:
        """Both losses of each region's montages."""
        refuse_single(len(views.source) // self.options.cuts**3)
        maps = self.encoder(views.volume.flatten(0, 1))[self.options.level]
        cells = tokens_of(F.adaptive_avg_pool3d(maps, self.options.cuts)).flatten(0, 1)
        rows, t = self.cluster(cells), self.options.temperature
        every = self.rows(rows)
        clustering = supervised_contrast(rows, views.source, t, every)
        clustering = clustering * (t / BASE if self.options.form == "code" else 1)
        place = views.place[every.first :][: len(cells)]
        location = F.cross_entropy(at_least_float32(self.locate(cells)), place, reduction="none")
        of_each = [loss.view(len(views.volume), -1).mean(1) for loss in (clustering, location)]
        return JigsawTerms(sum(of_each), *of_each), None


def resized(
    volume: Float[Tensor, "c x y z"], box: Sequence[Sequence[int]], size: Sequence[int]
) -> Float[Tensor, "1 c _ _ _"]:
    """What lies in a box, first voxel and sides, resampled to a size; one of that size stays as it is."""
    window = tuple(slice(first, first + side) for first, side in zip(*box, strict=True))
    return F.interpolate(volume[(slice(None), *window)][None], size=tuple(size), mode="trilinear", align_corners=False)
