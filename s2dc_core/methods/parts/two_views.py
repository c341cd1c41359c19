"""Two augmented views of each sub-volume, independent of each other: the pairs of SimCLR, MoCo v3 and others."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from s2dc_core.encoder import EncoderConfig
from s2dc_core.geometry import Reals, grid_of, random_affine, split_region, warp
from s2dc_core.methods.method import Plan, RandomNumbers, Regions
from s2dc_core.methods.parts.contrast import BatchOptions
from s2dc_core.options import from_zero
from s2dc_core.views import FACTORS, IntensityRanges, Region, change_intensities, draw_changes


@dataclass(frozen=True, kw_only=True)
class ViewRanges(IntensityRanges):
    """How a sub-volume's view is drawn.

    Attributes:
        rotation_deg, scale, translation_mm: ranges of the affine about its centre, see geometry.random_affine; what
            comes in from outside the sub-volume is air. A scale of 1 to 2.32 shows 8 to 100 % of it.
        intensity_scale, intensity_shift, noise: see IntensityRanges.
    """

    rotation_deg: float | int = 15.0
    scale: Reals = (0.9, 1.1)
    translation_mm: float | int = 8.0

    RULES: ClassVar = {
        **IntensityRanges.RULES,
        "rotation_deg": from_zero(360),
        "scale": FACTORS,
        "translation_mm": from_zero(1e4),
    }


@dataclass(frozen=True, kw_only=True)
class PairOptions(BatchOptions):
    """Options of a method that tells the two views of a sub-volume from those of the others in its batch.

    Attributes:
        sub_volumes: see BatchOptions.
        views: how both views of each are drawn.
    """

    views: ViewRanges = field(default_factory=ViewRanges)

    def plan(self, encoder: EncoderConfig, region: Region, spacing: Sequence[float], random: RandomNumbers) -> Plan:
        """Both views of each sub-volume, see plan_views."""
        return plan_views(region.volume.shape[1:], encoder.sub_volume, spacing, self.views, random("views"))


class TwoViews(NamedTuple):
    """The pairs of B regions of G sub-volumes each, in the order of split_region."""

    one: Float[Tensor, "b g c _ _ _"]
    other: Float[Tensor, "b g c _ _ _"]

    def together(self) -> Float[Tensor, "n c _ _ _"]:
        """All of the one, then all of the other, for one call of an encoder."""
        return torch.cat([self.one, self.other]).flatten(0, 1)


def plan_views(
    shape: Sequence[int],
    sub_volume: Sequence[int],
    spacing: Reals,
    ranges: ViewRanges,
    generator: torch.Generator,
    views: int = 2,
) -> dict[str, Tensor]:
    """Random views of each of the G sub-volumes of a region.

    Args:
        shape: voxels of the region.
        spacing: millimetres per voxel.
        views: how many of each.

    Returns:
        "H" [views, G, 4, 4], "changes" [views, G, 3] and "seeds" [views, G], see views.draw_changes.
    """
    parts = math.prod(grid_of(shape, sub_volume))
    drawn = (ranges.rotation_deg, ranges.scale, ranges.translation_mm, generator)
    affines = [random_affine(sub_volume, spacing, *drawn) for _ in range(views * parts)]
    changes, seeds = draw_changes(ranges, views * parts, generator)
    named = {"H": torch.stack(affines), "changes": changes, "seeds": seeds}
    return {name: values.unflatten(0, (views, parts)) for name, values in named.items()}


def make_pairs(regions: Regions, sub_volume: Sequence[int]) -> TwoViews:
    """The two views of each sub-volume that `plan_views` planned."""
    each = len(regions.volume)
    return TwoViews(*(view.unflatten(0, (each, -1)) for view in make_views(regions, sub_volume)))


def make_views(regions: Regions, sub_volume: Sequence[int]) -> list[Float[Tensor, "bg c x y z"]]:
    """The views that `plan_views` planned of each region, all sub-volumes of the batch for each."""
    parts = split_region(regions.volume, sub_volume)
    H, changes, seeds = (torch.stack([plan[name] for plan in regions.plan], 1) for name in ("H", "changes", "seeds"))
    fill = regions.background.repeat_interleave(H.shape[2], output_size=len(parts))
    planned = zip(*(each.flatten(1, 2) for each in (H, changes, seeds)), strict=True)
    return [change_intensities(warp(parts, each, fill=fill), change, seed) for each, change, seed in planned]
