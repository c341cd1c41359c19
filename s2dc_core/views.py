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
    noise: float | int = 0.02
    match_background: bool = False


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
    """A crop of whole sub-volumes; ``inside`` is False where a short scan was padded."""

    volume: Float[Tensor, "c x y z"]
    inside: Bool[Tensor, "x y z"]


def crop_region(
    volume: Float[Tensor, "c x y z"],
    sub_volume: Sequence[int],
    counts: Sequence[int],
    background: float | int = 0.0,
    inside: Bool[Tensor, "x y z"] | None = None,
    generator: torch.Generator | None = None,
) -> Region:
    """A random region of at most ``counts`` sub-volumes, clipped to as many whole ones as the scan holds.

    An axis shorter than one sub-volume is padded at its far end with the background.

    Args:
        inside: voxels that may take part in matches; None for all of the scan.
    """
    shape = volume.shape[1:]
    clipped = [min(n, max(side // s, 1)) for n, side, s in zip(counts, shape, sub_volume, strict=True)]
    size = [n * s for n, s in zip(clipped, sub_volume, strict=True)]
    slack = [max(side - s, 0) for side, s in zip(shape, size, strict=True)]
    start = [int(torch.randint(room + 1, (), generator=generator)) for room in slack]
    window = tuple(slice(a, a + s) for a, s in zip(start, size, strict=True))
    crop = volume[(slice(None), *window)]
    mask = (torch.ones(shape, dtype=torch.bool, device=volume.device) if inside is None else inside)[window]
    missing = [s - side for side, s in zip(crop.shape[1:], size, strict=True)]
    far_end = [amount for room in reversed(missing) for amount in (0, room)]
    return Region(F.pad(crop, far_end, value=background), F.pad(mask, far_end, value=False))


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
    foreground: Bool[Tensor, "x y z"] | None = None,
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
        foreground: the body; tokens that lie mostly outside it take no part in matches, unless config says so.
        generator: makes the draw repeatable.

    Raises:
        ValueError: if the scan is smaller than one patch of a level, or a sub-volume is no multiple of its stride.
    """
    config = config or ViewConfig()
    strides = [encoder.stride(level) for level in levels]
    for stride in strides:
        grid_of(encoder.sub_volume, stride)
        if any(side < s for side, s in zip(volume.shape[1:], stride, strict=True)):
            raise ValueError(
                f"a scan of {tuple(volume.shape[1:])} voxels is smaller than one patch of {stride}: "
                "use a finer token level or a larger scan"
            )
    inside = None if config.match_background else foreground
    region = crop_region(volume, encoder.sub_volume, config.counts, background, inside, generator)
    shape = region.volume.shape[1:]
    H = random_affine(shape, spacing, config.rotation_deg, config.scale, config.translation_mm, generator)[None]
    source, mask = region.volume[None], region.inside[None, None].to(volume.dtype)
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
