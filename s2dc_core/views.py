"""What a training step looks at (paper section 3.1): a region of sub-volumes, its augmented counterpart, the matches.

The student sees the region V as it is; the teacher sees the counterpart V' under one affine H with changed
intensities, and for L_g every sub-volume once more under a small affine of its own. Tokens of the sub-volumes are laid
back into the region's grid, so a match may cross from one sub-volume into another.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from monai.transforms import Compose, RandGaussianNoise, RandScaleIntensity, RandShiftIntensity
from torch import Tensor

from s2dc_core.geometry import Matches, Reals, grid_of, ground_truth_matches, random_affine, split_region, warp
from s2dc_core.model import EncoderConfig


@dataclass(frozen=True)
class ViewConfig:
    """How views are drawn. The defaults follow the published recipe, with the motion in millimetres and in 3D.

    Attributes:
        counts: sub-volumes of a region along each axis.
        rotation_deg, scale, translation_mm: ranges of H, see geometry.random_affine.
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
    positive_rotation_deg: float | int = 15.0
    positive_scale: Reals = (0.9, 1.1)
    positive_translation_mm: float | int = 8.0
    intensity_scale: float | int = 0.1
    intensity_shift: float | int = 0.1
    noise: float | int = 0.1
    match_background: bool = False

    def __post_init__(self):
        for name in ("counts", "scale", "positive_scale"):  # YAML gives lists; a frozen value holds tuples
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if len(self.counts) != 3 or any(n < 1 for n in self.counts):
            raise ValueError(f"counts must be three numbers of sub-volumes, each at least 1, got {self.counts}")
        for name in ("scale", "positive_scale"):
            span = getattr(self, name)
            if len(span) != 2 or not 0 < span[0] <= span[1]:
                raise ValueError(f"{name} must be a range of positive factors (low, high), got {span}")


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

    def to(self, device: torch.device | str) -> "Views":
        """The same views on another device."""
        moved = (value.to(device) for value in self[:4])
        return Views(*moved, [matches.to(device) for matches in self.matches])


class Region(NamedTuple):
    """A crop of whole sub-volumes.

    Attributes:
        volume: [C, X, Y, Z].
        inside: False where a short scan was padded, [X, Y, Z].
        body: the foreground, False where padded, [X, Y, Z].
    """

    volume: Float[Tensor, "c x y z"]
    inside: Bool[Tensor, "x y z"]
    body: Bool[Tensor, "x y z"]


def check_fits(shape: Sequence[int], strides: Sequence[Sequence[int]]) -> None:
    """Raises ValueError if a scan of this shape is smaller than one patch of a level."""
    for stride in strides:
        if any(side < s for side, s in zip(shape, stride, strict=True)):
            raise ValueError(
                f"a scan of {tuple(shape)} voxels is smaller than one patch of {tuple(stride)}: "
                "use a finer token level or a larger scan"
            )


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
    foreground = everywhere if foreground is None else foreground
    if foreground.shape != shape or foreground.dtype != torch.bool:
        raise ValueError(
            f"the foreground, {tuple(foreground.shape)} of {foreground.dtype}, must be a bool mask on the scan's grid "
            f"of {tuple(shape)} voxels"
        )
    start = _draw_start(foreground if foreground.any() else everywhere, size, generator)
    window = tuple(slice(a, a + s) for a, s in zip(start, size, strict=True))
    crop = volume[(slice(None), *window)]
    missing = [s - side for side, s in zip(crop.shape[1:], size, strict=True)]
    far_end = [amount for room in reversed(missing) for amount in (0, room)]
    masks = (F.pad(mask[window], far_end, value=False) for mask in (everywhere, foreground))
    return Region(F.pad(crop, far_end, value=background), *masks)


def _draw_start(foreground: Tensor, size: Sequence[int], generator: torch.Generator | None) -> list[int]:
    """A corner such that the region lies within the foreground's box, or the box within the region, axis by axis."""
    start = []
    for axis, length in enumerate(size):
        seen = foreground.any(dim=[a for a in range(3) if a != axis]).nonzero()
        first, beyond = int(seen.min()), int(seen.max()) + 1
        last_start = max(foreground.shape[axis] - length, 0)
        low, high = (min(max(place, 0), last_start) for place in sorted((first, beyond - length)))
        start.append(low + int(torch.randint(high - low + 1, (), generator=generator)))
    return start


def valid_tokens(inside: Float[Tensor, "b 1 x y z"], patch: Sequence[int]) -> Bool[Tensor, "b n"]:
    """Tokens of which at least half lies inside, [B, N]; inside runs from 0 to 1."""
    # A warped mask sums to half of a patch only up to rounding.
    return (F.avg_pool3d(inside, tuple(patch)) >= 0.5 - 1e-4).flatten(1)


def change_intensities(
    volume: Float[Tensor, "b c x y z"], config: ViewConfig, generator: torch.Generator | None = None
) -> Float[Tensor, "b c x y z"]:
    """Random gain, offset and noise (MONAI's transforms), drawn anew for each volume of the batch."""
    transform = Compose(
        [
            RandScaleIntensity(factors=config.intensity_scale, prob=1.0),
            RandShiftIntensity(offsets=config.intensity_shift, prob=1.0),
            RandGaussianNoise(std=config.noise, prob=1.0),
        ]
    )
    changed = []
    for single in volume:
        transform.set_random_state(seed=int(torch.randint(2**31, (), generator=generator)))
        changed.append(torch.as_tensor(transform(single)).to(volume.dtype))
    return torch.stack(changed).as_subclass(Tensor)


def make_views(
    volume: Float[Tensor, "c x y z"],
    spacing: Reals,
    encoder: EncoderConfig,
    levels: Sequence[int],
    config: ViewConfig | None = None,
    background: float | int = 0.0,
    foreground: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Views:
    """Views of one region of a scan, B = 1; collate several with collate_views.

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
    if not levels:
        raise ValueError("make_views needs at least one token level to match")
    strides = [encoder.stride(level) for level in levels]
    for stride in strides:
        grid_of(encoder.sub_volume, stride)
    check_fits(volume.shape[1:], strides)
    region = crop_region(volume, encoder.sub_volume, config.counts, background, foreground, generator)
    may_match = region.inside if config.match_background else region.body
    shape = region.volume.shape[1:]
    H = random_affine(shape, spacing, config.rotation_deg, config.scale, config.translation_mm, generator)[None]
    source, mask = region.volume[None], may_match[None, None].to(volume.dtype)
    target = change_intensities(warp(source, H, fill=background), config, generator)
    warped_mask = warp(mask, H)
    matches = [
        ground_truth_matches(H, grid_of(shape, s), s, valid_tokens(mask, s), valid_tokens(warped_mask, s))
        for s in strides
    ]
    return Views(source, target, make_positives(source, spacing, encoder, config, background, generator), H, matches)


def make_positives(
    source: Float[Tensor, "b c x y z"],
    spacing: Reals,
    encoder: EncoderConfig,
    config: ViewConfig,
    background: float | int = 0.0,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "g c _ _ _"]:
    """The augmented version v' of every sub-volume v, each under an affine of its own, [B * G, C, sx, sy, sz]."""
    parts = split_region(source, encoder.sub_volume)
    ranges = (config.positive_rotation_deg, config.positive_scale, config.positive_translation_mm)
    each = torch.stack([random_affine(encoder.sub_volume, spacing, *ranges, generator) for _ in parts])
    return change_intensities(warp(parts, each, fill=background), config, generator)


def collate_views(views: Sequence[Views]) -> Views:
    """Several regions of one shape as a batch.

    Raises:
        ValueError: if the regions differ in shape (short scans are clipped to fewer sub-volumes).
    """
    shapes = {tuple(view.source.shape[1:]) for view in views}
    if len(shapes) != 1:
        raise ValueError(f"a batch needs regions of one shape, got {sorted(shapes)}: batch scans of one size together")
    levels = []
    for level in zip(*(view.matches for view in views), strict=True):
        batch = torch.cat([matches.batch + index for index, matches in enumerate(level)])
        source, target = (torch.cat([m[k] for m in level]) for k in (1, 2))
        levels.append(Matches(batch, source, target))
    return Views(*(torch.cat(tensors) for tensors in list(zip(*views, strict=True))[:4]), levels)
