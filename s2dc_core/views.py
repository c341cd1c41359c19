"""What a training step looks at (paper section 3.1): a region of sub-volumes, its augmented counterpart, the matches.

The student sees the region V as it is; the teacher sees the counterpart V' under one affine H with changed
intensities, and for L_g every sub-volume once more under a small affine of its own. Tokens of the sub-volumes are laid
back into the region's grid, so a match may cross from one sub-volume into another.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from s2dc_core.encoder import EncoderConfig
from s2dc_core.geometry import (
    Matches,
    Reals,
    check_fits,
    grid_of,
    ground_truth_matches,
    random_affine,
    split_region,
    warp,
)
from s2dc_core.options import Options, from_zero, that, whole_numbers_to

Generators = Sequence[torch.Generator | None] | None


FACTORS = that(
    lambda span: len(span) == 2 and 1e-3 <= span[0] <= span[1] <= 1e3,
    "must be a range of positive factors (low, high), within 0.001 and 1000",
)


@dataclass(frozen=True)
class IntensityRanges(Options):
    """How intensities change.

    Attributes:
        intensity_scale, intensity_shift, noise: largest relative gain, offset and standard deviation of
            Gaussian noise, in units of the normalised volume.
    """

    intensity_scale: float | int = 0.1
    intensity_shift: float | int = 0.1
    noise: float | int = 0.1

    RULES: ClassVar = dict.fromkeys(("intensity_scale", "intensity_shift", "noise"), from_zero(1e3))


@dataclass(frozen=True, kw_only=True)
class ViewConfig(IntensityRanges):
    """How views are drawn. The defaults follow the published recipe, with the motion in millimetres and in 3D.

    Attributes:
        counts: sub-volumes of a region along each axis.
        rotation_deg, scale, translation_mm, in_plane: ranges of H, see geometry.random_affine.
        positive_rotation_deg, positive_scale, positive_translation_mm: the same for each sub-volume's own
            counterpart, the positive of L_g.
        intensity_scale, intensity_shift, noise: in V' and the positives, see IntensityRanges.
        match_background: whether tokens outside the body may match; air looks like air everywhere.
    """

    counts: Sequence[int] = (4, 4, 1)
    rotation_deg: float | int = 30.0
    scale: Reals = (0.9, 1.2)
    translation_mm: float | int = 24.0
    in_plane: bool = False
    positive_rotation_deg: float | int = 15.0
    positive_scale: Reals = (0.9, 1.1)
    positive_translation_mm: float | int = 8.0
    match_background: bool = False

    RULES: ClassVar = {
        **IntensityRanges.RULES,
        "counts": whole_numbers_to(1024, of=3),
        **dict.fromkeys(("scale", "positive_scale"), FACTORS),
        **dict.fromkeys(("rotation_deg", "positive_rotation_deg"), from_zero(360)),
        **dict.fromkeys(("translation_mm", "positive_translation_mm"), from_zero(1e4)),
    }


class Views(NamedTuple):
    """One or several regions with all that a step needs; B regions of G sub-volumes each.

    Attributes:
        source: V, [B, C, X, Y, Z].
        target: V', [B, C, X, Y, Z].
        positives: augmented counterpart of each sub-volume of V, [B * G, C, sx, sy, sz], in split_region's order.
        H: V's voxels to those of V', [B, 4, 4] float64.
        matches: per token level, over the whole regions.
    """

    source: Float[Tensor, "b c x y z"]
    target: Float[Tensor, "b c x y z"]
    positives: Float[Tensor, "g c _ _ _"]
    H: Float[Tensor, "b 4 4"]
    matches: list[Matches]


class Region(NamedTuple):
    """A crop of whole sub-volumes.

    Attributes:
        volume: [C, X, Y, Z].
        inside: False where a short scan was padded, [X, Y, Z].
        body: the foreground, False where padded, [X, Y, Z].
        background: normalised value of air.
    """

    volume: Float[Tensor, "c x y z"]
    inside: Bool[Tensor, "x y z"]
    body: Bool[Tensor, "x y z"]
    background: float | int = 0.0


def region_shape(shape: Sequence[int], sub_volume: Sequence[int], counts: Sequence[int]) -> tuple[int, int, int]:
    """Voxels of a region: at most ``counts`` sub-volumes, as many whole ones as the scan holds, at least one."""
    return tuple(min(n, max(side // s, 1)) * s for n, side, s in zip(counts, shape, sub_volume, strict=True))


def crop_region(
    volume: Float[Tensor, "c x y z"],
    sub_volume: Sequence[int],
    counts: Sequence[int],
    background: float | int = 0.0,
    foreground: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Region:
    """A random region of region_shape's size, within the foreground's bounding box as far as it fits.

    An axis shorter than one sub-volume is padded at its far end with the background.

    Args:
        foreground: [X, Y, Z] bool, the body; None or all False for all of the scan.

    Raises:
        ValueError: if the foreground is no bool mask on the scan's grid.
    """
    shape = volume.shape[1:]
    if foreground is not None and (foreground.shape != shape or foreground.dtype != torch.bool):
        raise ValueError(
            f"the foreground, {tuple(foreground.shape)} of {foreground.dtype}, must be a bool mask on the scan's grid "
            f"of {tuple(shape)} voxels"
        )
    if foreground is None or not foreground.any():
        foreground = torch.ones(shape, dtype=torch.bool, device=volume.device)
    window = draw_window(shape, bounding_box(foreground), region_shape(shape, sub_volume, counts), generator)
    return pad_region(volume[(slice(None), *window)], foreground[window], window, background)


def draw_window(
    shape: Sequence[int],
    box: Sequence[tuple[int, int]],
    size: Sequence[int],
    generator: torch.Generator | None = None,
) -> tuple[slice, slice, slice]:
    """A random place for a region of a size, within a scan's bounding box as far as it fits; it may reach beyond the
    scan's far end where that is shorter.

    Args:
        box: of the body, see bounding_box: the region lies within it, or it within the region, axis by axis.
    """
    start = [low + int(torch.randint(high - low + 1, (), generator=generator)) for low, high in rooms(shape, box, size)]
    return tuple(slice(a, a + length) for a, length in zip(start, size, strict=True))


def rooms(shape: Sequence[int], box: Sequence[tuple[int, int]], size: Sequence[int]) -> list[tuple[int, int]]:
    """Along each axis the first and the last place that draw_window may give a region."""
    found = []
    for side, length, (first, beyond) in zip(shape, size, box, strict=True):
        low, high = (min(max(place, 0), max(side - length, 0)) for place in sorted((first, beyond - length)))
        found.append((low, high))
    return found


def pad_region(
    crop: Float[Tensor, "c x y z"], body: Bool[Tensor, "x y z"], window: Sequence[slice], background: float | int
) -> Region:
    """A region of the window's size from what lies there, padded at its far ends with the background."""
    sizes = [part.stop - part.start for part in window]
    missing = [size - side for size, side in zip(sizes, crop.shape[1:], strict=True)]
    far_end = [amount for room in reversed(missing) for amount in (0, room)]
    masks = (F.pad(mask, far_end, value=False) for mask in (torch.ones_like(body), body))
    return Region(F.pad(crop, far_end, value=background), *masks, background)


def bounding_box(foreground: Bool[Tensor, "x y z"]) -> list[tuple[int, int]]:
    """Along each axis the first voxel of a mask and the one beyond its last; all of the grid if it is empty."""
    columns = foreground.any(2)
    held = (columns.any(1), columns.any(0), foreground.any(0).any(0))
    seen = [axis.nonzero()[:, 0] for axis in held]
    if not len(seen[0]):
        return [(0, side) for side in foreground.shape]
    return [(int(axis[0]), int(axis[-1]) + 1) for axis in seen]


def valid_tokens(inside: Float[Tensor, "b 1 x y z"], patch: Sequence[int]) -> Bool[Tensor, "b n"]:
    """Tokens of which at least half lies inside, [B, N]; inside runs from 0 to 1."""
    # A warped mask sums to half of a patch only up to rounding.
    return (F.avg_pool3d(inside, tuple(patch)) >= 0.5 - 1e-4).flatten(1)


def valid_in_both(
    mask: Float[Tensor, "b 1 x y z"], H: Float[Tensor, "b 4 4"], strides: Sequence[Sequence[int]]
) -> list[tuple[Tensor, Tensor]]:
    """For each stride the tokens of V and of V' of which at least half lies in the mask, see valid_tokens.

    The mask is warped in cells of up to an eighth of the smallest patch, which is fine enough to tell half of it.
    """
    smallest = min(min(stride) for stride in strides)
    side = max(n for n in range(1, max(smallest // 8, 1) + 1) if smallest % n == 0)
    cells = F.avg_pool3d(mask, side)
    to_voxels = torch.diag(torch.tensor([side, side, side, 1.0], dtype=H.dtype)).to(H)
    to_voxels[:3, 3] = (side - 1) / 2
    warped = warp(cells, torch.linalg.inv(to_voxels) @ H @ to_voxels)
    patches = [[s // side for s in stride] for stride in strides]
    return [(valid_tokens(cells, patch), valid_tokens(warped, patch)) for patch in patches]


def draw_changes(
    config: IntensityRanges, count: int, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Random gain, offset and noise level of some volumes, [count, 3] float64, and the seeds of their noise, [count].

    Uniform in +-intensity_scale, +-intensity_shift and 0..noise.
    """
    ranges, factors, seeds = (config.intensity_scale, config.intensity_shift), [], []
    for _ in range(count):
        *signed, level = torch.rand(3, generator=generator, dtype=torch.float64).tolist()
        factors.append([*((2 * x - 1) * most for x, most in zip(signed, ranges, strict=True)), level * config.noise])
        seeds.append(int(torch.randint(2**62, (), generator=generator)))
    return torch.tensor(factors, dtype=torch.float64), torch.tensor(seeds)


def change_intensities(
    volume: Float[Tensor, "b c x y z"], factors: Float[Tensor, "b 3"], seeds: Int[Tensor, " b"]
) -> Float[Tensor, "b c x y z"]:
    """v (1 + g) + o + s n: gain, offset and noise level of each volume, n ~ N(0, 1) from its seed.

    The noise is drawn on the volume's device, which has a stream of its own.

    Args:
        factors, seeds: on the CPU, see draw_changes.
    """
    gain, offset, level = factors.to(volume).T[..., None, None, None, None]
    if not factors[:, 2].any():
        return torch.addcmul(offset, volume, 1 + gain)
    noise = torch.empty_like(volume)
    for single, seed in zip(noise, seeds.tolist(), strict=True):
        single.normal_(generator=torch.Generator(volume.device).manual_seed(seed))
    return torch.addcmul(noise.mul_(level).add_(offset), volume, 1 + gain)


def plan_region(
    region: Region,
    spacing: Reals,
    encoder: EncoderConfig,
    levels: Sequence[Real],
    config: ViewConfig,
    generator: torch.Generator | None = None,
) -> dict[str, Tensor]:
    """Every random decision about a region's views, and what follows from its geometry, as small tensors on the CPU.

    Returns:
        "H" [4, 4] and "positives_H" [G, 4, 4] of the G sub-volumes, float64; "changes" [1 + G, 3] and "seeds" [1 + G],
        of V' and the positives, see draw_changes; for each level k "matches_k" [2, P], tokens of V and of V'.

    Raises:
        ValueError: without levels, or if a sub-volume is no multiple of a stride.
    """
    if not levels:
        raise ValueError("views need at least one token level to match")
    strides = [encoder.stride(level) for level in levels]
    for stride in strides:
        grid_of(encoder.sub_volume, stride)
    shape = region.volume.shape[1:]
    H = random_affine(
        shape, spacing, config.rotation_deg, config.scale, config.translation_mm, generator, config.in_plane
    )
    changes = [draw_changes(config, 1, generator)]
    ranges = (config.positive_rotation_deg, config.positive_scale, config.positive_translation_mm)
    parts = math.prod(grid_of(shape, encoder.sub_volume))
    own = [random_affine(encoder.sub_volume, spacing, *ranges, generator) for _ in range(parts)]
    changes.append(draw_changes(config, parts, generator))
    mask = (region.inside if config.match_background else region.body)[None, None].float().cpu()
    plan = {"H": H, "positives_H": torch.stack(own)}
    plan |= {"changes": torch.cat([change[0] for change in changes]), "seeds": torch.cat([c[1] for c in changes])}
    for level, stride, valid in zip(levels, strides, valid_in_both(mask, H[None], strides), strict=True):
        matches = ground_truth_matches(H[None], grid_of(shape, stride), stride, *valid)
        plan[f"matches_{level}"] = torch.stack([matches.source, matches.target])
    return plan


def make_views(
    volume: Float[Tensor, "c x y z"],
    spacing: Reals,
    encoder: EncoderConfig,
    levels: Sequence[Real],
    config: ViewConfig | None = None,
    background: float | int = 0.0,
    foreground: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Views:
    """Views of one region of a scan, B = 1: crop_region, then augment_regions.

    Args:
        volume: normalised intensities.
        spacing: millimetres per voxel along each axis.
        encoder: gives sub-volume and strides.
        levels: token levels that need matches.
        config: how to draw; None for the defaults.
        background: normalised value of air, for padding and for what the warp brings in from outside.
        foreground: [X, Y, Z] bool, the body: regions are drawn from it, and tokens that lie mostly outside it take no
            part in matches, unless config says so.
        generator: makes the draw repeatable.

    Raises:
        ValueError: without levels, if the scan is smaller than one patch of a level, if a sub-volume is no multiple
            of its stride, or for a foreground that is no bool mask on the scan's grid.
    """
    config = config or ViewConfig()
    check_fits(volume.shape[1:], [encoder.stride(level) for level in levels])
    region = crop_region(volume, encoder.sub_volume, config.counts, background, foreground, generator)
    return augment_regions([region], [spacing], encoder, levels, config, [generator], volume.device)


def augment_regions(
    regions: Sequence[Region],
    spacings: Sequence[Reals],
    encoder: EncoderConfig,
    levels: Sequence[Real],
    config: ViewConfig,
    generators: Generators = None,
    device: torch.device | str = "cpu",
) -> Views:
    """Counterparts, positives and matches of regions of one shape, as one batch on the device that will encode them.

    Args:
        spacings: millimetres per voxel of each region.
        generators: one for each region, on the CPU. What a region becomes depends on its own alone, not on the batch.

    Raises:
        ValueError: without levels, if a sub-volume is no multiple of a stride, or if the regions differ in shape.
    """
    generators = [None] * len(regions) if generators is None else generators
    each = zip(regions, spacings, generators, strict=True)
    plans = [plan_region(region, spacing, encoder, levels, config, generator) for region, spacing, generator in each]
    source, background = stack_regions(regions, device)
    target, positives = make_counterparts(source, background, plans, encoder.sub_volume)
    H = torch.stack([plan["H"] for plan in plans]).to(source.device)
    matches = [matches_of([plan[f"matches_{level}"] for plan in plans], source.device) for level in levels]
    return Views(source, target, positives, H, matches)


def stack_regions(
    regions: Sequence[Region], device: torch.device | str = "cpu"
) -> tuple[Float[Tensor, "b c x y z"], Float[Tensor, " b"]]:
    """The volumes of regions of one shape and their backgrounds, on a device.

    Raises:
        ValueError: if the regions differ in shape.
    """
    shapes = {tuple(region.volume.shape) for region in regions}
    if len(shapes) != 1:
        raise ValueError(f"a batch needs regions of one shape, got {sorted(shapes)}: batch scans of one size together")
    volume = torch.stack([region.volume.to(device, non_blocking=True) for region in regions])
    return volume, torch.tensor([region.background for region in regions]).to(volume)


def make_counterparts(
    source: Float[Tensor, "b c x y z"],
    background: Float[Tensor, " b"],
    plans: Sequence[Mapping[str, Tensor]],
    sub_volume: Sequence[int],
) -> tuple[Float[Tensor, "b c x y z"], Float[Tensor, "g c _ _ _"]]:
    """V' of each region, and the augmented version v' of every sub-volume v under an affine of its own.

    Args:
        background: what the warp brings in from outside.
        plans: of each region, see plan_region.

    Returns:
        [B, C, X, Y, Z], and [B * G, C, sx, sy, sz] in split_region's order.
    """
    H, own = (torch.stack([plan[name] for plan in plans]) for name in ("H", "positives_H"))
    changes, seeds = (torch.stack([plan[name] for plan in plans]) for name in ("changes", "seeds"))
    target = change_intensities(warp(source, H, fill=background), changes[:, 0], seeds[:, 0])
    parts, fill = split_region(source, sub_volume), background.repeat_interleave(own.shape[1])
    warped = warp(parts, own.flatten(0, 1), fill=fill)
    return target, change_intensities(warped, changes[:, 1:].flatten(0, 1), seeds[:, 1:].flatten())


def matches_of(pairs: Sequence[Int[Tensor, "2 _"]], device: torch.device | str = "cpu") -> Matches:
    """The matches of a batch from those of each region, [2, P] on the CPU, sent to a device at once."""
    batch = torch.repeat_interleave(torch.tensor([each.shape[1] for each in pairs]))
    return Matches(*torch.cat([batch[None], torch.cat(list(pairs), 1)]).to(device, non_blocking=True))
