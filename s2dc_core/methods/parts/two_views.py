"""Two augmented views of each sub-volume, independent of each other: the pairs of SimCLR, MoCo v3 and others."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from s2dc_core.geometry import Reals, grid_of, random_affine, split_region, warp
from s2dc_core.methods.method import Regions
from s2dc_core.options import from_zero
from s2dc_core.views import FACTORS, IntensityRanges, change_intensities, draw_changes


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


class TwoViews(NamedTuple):
    """The pairs, sub-volumes in the order of split_region, regions one after another."""

    one: Float[Tensor, "bg c x y z"]
    other: Float[Tensor, "bg c x y z"]


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


def make_views(regions: Regions, sub_volume: Sequence[int]) -> list[Float[Tensor, "bg c x y z"]]:
    """The views that `plan_views` planned of each region, all sub-volumes of the batch for each."""
    parts = split_region(regions.volume, sub_volume)
    H, changes, seeds = (torch.stack([plan[name] for plan in regions.plan], 1) for name in ("H", "changes", "seeds"))
    fill = regions.background.repeat_interleave(H.shape[2], output_size=len(parts))
    planned = zip(*(each.flatten(1, 2) for each in (H, changes, seeds)), strict=True)
    return [change_intensities(warp(parts, each, fill=fill), change, seed) for each, change, seed in planned]
