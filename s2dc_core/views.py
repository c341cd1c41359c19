"""What a training step looks at (paper section 3.1): a region of sub-volumes, its augmented counterpart, the matches.

The student sees the region V as it is; the teacher sees the counterpart V' under one affine H with changed
intensities, and for L_g every sub-volume once more under a small affine of its own. Tokens of the sub-volumes are laid
back into the region's grid, so a match may cross from one sub-volume into another.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
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


_FACTORS = that(
    lambda span: len(span) == 2 and 1e-3 <= span[0] <= span[1] <= 1e3,
    "must be a range of positive factors (low, high), within 0.001 and 1000",
)


@dataclass(frozen=True)
class ViewConfig(Options):
    """How views are drawn. The defaults follow the published recipe, with the motion in millimetres and in 3D.

    Attributes:
        counts: sub-volumes of a region along each axis.
        rotation_deg, scale, translation_mm, in_plane: ranges of H, see geometry.random_affine.
        positive_rotation_deg, positive_scale, positive_translation_mm: the same for each sub-volume's own
            counterpart, the positive of L_g.
        intensity_scale, intensity_shift, noise: largest relative gain, offset and standard deviation of
            Gaussian noise in V', in units of the normalised volume.
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
    intensity_scale: float | int = 0.1
    intensity_shift: float | int = 0.1
    noise: float | int = 0.1
    match_background: bool = False

    RULES: ClassVar = {
        "counts": whole_numbers_to(1024, of=3),
        **dict.fromkeys(("scale", "positive_scale"), _FACTORS),
        **dict.fromkeys(("rotation_deg", "positive_rotation_deg"), from_zero(360)),
        **dict.fromkeys(("translation_mm", "positive_translation_mm"), from_zero(1e4)),
        **dict.fromkeys(("intensity_scale", "intensity_shift", "noise"), from_zero(1e3)),
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
    shape, size = volume.shape[1:], region_shape(volume.shape[1:], sub_volume, counts)
    everywhere = torch.ones(shape, dtype=torch.bool, device=volume.device)
    if foreground is not None and (foreground.shape != shape or foreground.dtype != torch.bool):
        raise ValueError(
            f"the foreground, {tuple(foreground.shape)} of {foreground.dtype}, must be a bool mask on the scan's grid "
            f"of {tuple(shape)} voxels"
        )
    foreground = everywhere if foreground is None or not foreground.any() else foreground
    start = _draw_start(foreground, size, generator)
    window = tuple(slice(a, a + s) for a, s in zip(start, size, strict=True))
    crop = volume[(slice(None), *window)]
    missing = [s - side for side, s in zip(crop.shape[1:], size, strict=True)]
    far_end = [amount for room in reversed(missing) for amount in (0, room)]
    masks = (F.pad(mask[window], far_end, value=False) for mask in (everywhere, foreground))
    return Region(F.pad(crop, far_end, value=background), *masks, background)


def _draw_start(foreground: Tensor, size: Sequence[int], generator: torch.Generator | None) -> list[int]:
    """A corner such that the region lies within the foreground's box, or the box within the region, axis by axis."""
    start, columns = [], foreground.any(2)
    for axis, (length, held) in enumerate(
        zip(size, (columns.any(1), columns.any(0), foreground.any(0).any(0)), strict=True)
    ):
        seen = held.nonzero()
        first, beyond = int(seen.min()), int(seen.max()) + 1
        last_start = max(foreground.shape[axis] - length, 0)
        low, high = (min(max(place, 0), last_start) for place in sorted((first, beyond - length)))
        start.append(low + int(torch.randint(high - low + 1, (), generator=generator)))
    return start


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


def change_intensities(
    volume: Float[Tensor, "b c x y z"], config: ViewConfig, generators: Generators = None
) -> Float[Tensor, "b c x y z"]:
    """Random gain, offset and Gaussian noise, drawn anew for each volume of the batch.

    v (1 + g) + o + s n: g, o uniform in +-intensity_scale, +-intensity_shift, s uniform in 0..noise, n ~ N(0, 1).

    Args:
        generators: one for each volume, on the CPU; the noise itself is drawn on the volume's device.
    """
    noise, factors = torch.empty_like(volume), []
    for single, generator in zip(noise, _each(generators, len(volume)), strict=True):
        gain, offset, level = torch.rand(3, generator=generator, dtype=torch.float64).tolist()
        factors.append(
            ((2 * gain - 1) * config.intensity_scale, (2 * offset - 1) * config.intensity_shift, level * config.noise)
        )
        seed = int(torch.randint(2**62, (), generator=generator))
        if config.noise:
            single.normal_(generator=torch.Generator(volume.device).manual_seed(seed))
    gain, offset, level = torch.tensor(factors).to(volume).T[..., None, None, None, None]
    return torch.addcmul(noise.mul_(level).add_(offset) if config.noise else offset, volume, 1 + gain)


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
    if not levels:
        raise ValueError("views need at least one token level to match")
    for level in levels:
        grid_of(encoder.sub_volume, encoder.stride(level))
    shapes = {tuple(region.volume.shape) for region in regions}
    if len(shapes) != 1:
        raise ValueError(f"a batch needs regions of one shape, got {sorted(shapes)}: batch scans of one size together")
    generators = _each(generators, len(regions))
    source = torch.stack([region.volume.to(device, non_blocking=True) for region in regions])
    may_match = [region.inside if config.match_background else region.body for region in regions]
    mask = torch.stack([each.to(device, non_blocking=True) for each in may_match])[:, None].to(source.dtype)
    background = torch.tensor([region.background for region in regions], device=source.device)
    ranges = (config.rotation_deg, config.scale, config.translation_mm)
    H = _draw_affines(source.shape[2:], spacings, ranges, generators, config.in_plane).to(source.device)
    target = change_intensities(warp(source, H, fill=background), config, generators)
    strides = [encoder.stride(level) for level in levels]
    valid = zip(strides, valid_in_both(mask, H, strides), strict=True)
    matches = [ground_truth_matches(H, grid_of(source.shape[2:], patch), patch, *both) for patch, both in valid]
    positives = make_positives(source, spacings, encoder, config, background, generators)
    return Views(source, target, positives, H, matches)


def make_positives(
    source: Float[Tensor, "b c x y z"],
    spacings: Sequence[Reals],
    encoder: EncoderConfig,
    config: ViewConfig,
    background: float | int | Tensor = 0.0,
    generators: Generators = None,
) -> Float[Tensor, "g c _ _ _"]:
    """The augmented version v' of every sub-volume v, each under an affine of its own, [B * G, C, sx, sy, sz]."""
    parts = split_region(source, encoder.sub_volume)
    each = len(parts) // len(source)
    ranges = (config.positive_rotation_deg, config.positive_scale, config.positive_translation_mm)
    owners = [generator for generator in _each(generators, len(source)) for _ in range(each)]
    H = _draw_affines(encoder.sub_volume, [spacing for spacing in spacings for _ in range(each)], ranges, owners)
    fill = torch.as_tensor(background, device=source.device).expand(len(source)).repeat_interleave(each)
    return change_intensities(warp(parts, H, fill=fill), config, owners)


def _draw_affines(
    shape: Sequence[int], spacings: Sequence[Reals], ranges: tuple, generators: Sequence, in_plane: bool = False
) -> Tensor:
    each = zip(spacings, generators, strict=True)
    return torch.stack([random_affine(shape, mm, *ranges, generator, in_plane) for mm, generator in each])


def _each(generators: Generators, count: int) -> Sequence[torch.Generator | None]:
    return [None] * count if generators is None else generators
