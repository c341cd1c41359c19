"""Intensities of a scan as the encoder takes them, and the body that they are judged by."""

from collections.abc import Sequence
from numbers import Real

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy import ndimage
from torch import Tensor

from s2dc_core.options import check_choice

CT_WINDOW = (-175.0, 250.0)
SUV_CEILING = 20.0
SPAN = 4.0  # of normalised CT and PET, about 0
MR_LIMIT = 5.0
RULES = ("default", "paper")

SAMPLE = 2**21  # voxels that statistics are taken from: more change no percentile, and take seconds
STRAY = (1, 99)  # percentiles: what lies beyond may be spikes, clips and saturated vessels
FAR = 10  # times the range of tissues below them: no air, but a number that no tissue has
DARK = 0.1  # of the way from air to the brightest tissue: above Rician noise, below muscle


def kind_of(modality: str | None) -> str:
    """The family of a modality: ct, pet or mr ("mr_t1", "mr_t2", "mr_t1ce" and so on).

    Raises:
        ValueError: for any other modality, or none.
    """
    if modality in ("ct", "pet", "mr") or (modality or "").startswith("mr_"):
        return modality.split("_")[0]
    raise ValueError(f'modality {modality!r} is not known: use "ct", "pet", "mr", or "mr_t1", "mr_t2", "mr_t1ce"')


def normalise(
    volume: Float[Tensor, "x y z"],
    modality: str,
    mask: Bool[Tensor, "x y z"] | None = None,
    rule: str = "default",
    window: tuple[Real, Real] = CT_WINDOW,
) -> Float[Tensor, "x y z"]:
    """Intensities for the encoder, by kind of scan; rule "default":

    - CT [HU]: the `window`, -175..250 unless another is given, to -2..2. It is VoCo's, whose settings the paper takes
      over; S2DC's published code has -1000..1000, which keeps lung and bone apart but leaves liver and spleen close to
      each other. Not to 0..1, which is usual: tissues that differ by a twentieth of that look alike to a fresh encoder,
      and it learns more slowly. A span of 4 gives CT and PET about the spread of an MR's z-score.
    - PET [SUV]: asinh(SUV) from 0..20 to -2..2. An SUV is already a scale: the z-score of the published code
      would make a tissue's value depend on how much air the scan holds. asinh keeps muscle (0.7) and liver (2) apart
      while a lesion of 10 still differs from a bladder.
    - MR [any unit]: z-score over the foreground `mask` (default: `foreground`), clipped to -5..5. The published code
      takes the whole volume; then, again, the margin of air decides. The clip bounds the odd bright vessel, and mean
      and deviation leave out what lies further beyond the body's 1st and 99th percentile than these lie apart: one
      voxel of a million would otherwise flatten all tissues. On scans without such voxels it is the plain z-score.

    Rule "paper": CT from the same window to 0..1, as VoCo has it; for PET and MR, of which the paper says nothing, the
    z-score over the whole volume of the published code.

    Raises:
        ValueError: for an unknown modality or rule.
    """
    kind = kind_of(modality)
    check_choice("rule", rule, RULES)
    if kind == "ct":
        low, high = window
        windowed = ((volume - low) / (high - low)).clamp(0, 1)
        return windowed if rule == "paper" else SPAN * (windowed - 0.5)
    if rule == "paper":
        return _score(volume, volume)
    if kind == "pet":
        return SPAN * ((torch.asinh(volume.clamp(min=0)) / float(np.arcsinh(SUV_CEILING))).clamp(0, 1) - 0.5)
    inside = volume[foreground(volume, modality) if mask is None else mask]
    low, high = percentiles(inside.numpy())
    steady = inside[(inside >= low - (high - low)) & (inside <= high + (high - low))]
    return _score(volume, steady).clamp(-MR_LIMIT, MR_LIMIT)


def _score(volume: Float[Tensor, "x y z"], body: Float[Tensor, "..."]) -> Float[Tensor, "x y z"]:
    """Distance from the mean of some voxels in their standard deviations, which is at least what rounding makes."""
    largest = max(abs(float(body.min())), abs(float(body.max())))
    limits = torch.finfo(volume.dtype)
    return (volume - body.mean()) / body.std().clamp(min=max(limits.eps * largest, limits.tiny))


def suv_of(normalised: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """SUV of what `normalise` made of a PET by its default rule; what was above the ceiling of 20 stays there."""
    return torch.sinh((normalised / SPAN + 0.5).clamp(min=0) * float(np.arcsinh(SUV_CEILING)))


def foreground(volume: Float[Tensor, "x y z"], modality: str) -> Bool[Tensor, "x y z"]:
    """The body: what is brighter than air, without table and noise, holes filled slice by slice.

    The lungs, closed in by the chest wall on each axial slice (axis 2), count as body. Parts of at least a fifth of
    the largest one stay: two legs are two parts. A volume in which nothing stands out is all foreground.

    Thresholds: CT -300 HU, between fat and lung; PET 0.1 SUV; MR see `brighter_than_air`.
    """
    kind, values = kind_of(modality), volume.numpy()
    bright = brighter_than_air(values) if kind == "mr" else values > {"ct": -300.0, "pet": 0.1}[kind]
    # The body goes on beyond the scan: with air there, the opening would take away a scan of one or two slices.
    bright = np.pad(bright, 1, mode="edge")
    body = ndimage.binary_opening(bright, iterations=1)[1:-1, 1:-1, 1:-1]
    parts, count = ndimage.label(body)
    if count == 0:
        return torch.ones(volume.shape, dtype=torch.bool)
    sizes = np.bincount(parts.ravel())[1:]
    body = np.isin(parts, 1 + np.flatnonzero(sizes >= sizes.max() / 5))
    body = ndimage.binary_closing(np.pad(body, 2), iterations=2)[2:-2, 2:-2, 2:-2]
    for z in range(body.shape[2]):
        body[..., z] = ndimage.binary_fill_holes(body[..., z])
    return torch.from_numpy(body)


def brighter_than_air(values: Float[np.ndarray, "x y z"]) -> Bool[np.ndarray, "x y z"]:
    """The voxels of an MR that are no air: the same for a * values + b, a > 0, and whatever 1 % of them are.

    Above a tenth of the way from air to the 99th percentile. Air is the 1st percentile, or what was filled in around
    the body if that is less, and not so much less that it is no air. A fill amid the body's values, as the 0 of a brain
    that was z-scored without its air, is taken out as such. Otsu's threshold, MONAI's ForegroundMask with it, Yen's and
    Li's part fat from muscle or lose the z-scored brain: Dice of generated bodies down to 0.5, of this 0.83 or more.
    """
    some = sample(values)
    low, high = percentiles(some)
    fills, margin = fills_of(values, some)
    rest = without(some, fills, margin)
    if fills and len(rest):
        low, high = percentiles(rest)
        low = max((fill for fill in fills if low - FAR * (high - low) <= fill < low), default=low)
    threshold = low + DARK * (high - low)
    bright = values > threshold
    # A saturated tissue lies from the 99th percentile on, and is no fill.
    amid = [fill for fill in fills if threshold < fill < high or fill > high + (high - low)]
    if amid and (rest <= threshold).mean() < DARK:  # too few to be air, which the fill has replaced
        bright = np.ones_like(bright)
    for fill in amid:
        bright &= np.abs(values - fill) > margin
    return bright


def fills_of(values: Float[np.ndarray, "x y z"], some: Float[np.ndarray, " n"]) -> tuple[list[float], float]:
    """The values that lie around a body where a mask or a reader put them, and what rounding moves them by.

    Each covers a tenth of the volume's faces at least, three times as much of them as any value that is no fill: the
    coarse grey levels of noise are none. Where there are several, the second and third lie outside the range of the
    rest: a tissue without noise fills the end slices just so.

    Args:
        some: a sample of the values.
    """
    low, high = percentiles(some)
    margin = 1e-4 * (high - low or float(np.ptp(values)))
    if margin == 0:
        return [], margin
    faces = np.concatenate([values.take(k, axis=axis).ravel() for axis in range(3) for k in (0, -1)])
    levels, counts = np.unique(np.round((faces - low) / margin), return_counts=True)
    order = np.argsort(counts)[::-1]
    most, rest = np.append(counts[order], 0), 0.1 * faces.size
    count = max((k for k in range(1, min(3, len(counts)) + 1) if most[k - 1] >= max(rest, 3 * most[k])), default=0)
    fills = [float(low + levels[k] * margin) for k in order[:count]]
    rest = without(some, fills, margin)
    low, high = percentiles(rest) if len(rest) else (low, high)
    return [fill for k, fill in enumerate(fills) if k == 0 or not low <= fill <= high], margin


def without(values: Float[np.ndarray, " n"], fills: Sequence[float], margin: float) -> Float[np.ndarray, " m"]:
    """The values that are none of the fills."""
    return values[np.all([np.abs(values - fill) > margin for fill in fills], axis=0)] if fills else values


def sample(values: Float[np.ndarray, "x y z"]) -> Float[np.ndarray, " n"]:
    """Voxels of a regular grid over the volume, all of them up to about two million."""
    step = int(np.ceil(np.cbrt(values.size / SAMPLE)))
    return values[::step, ::step, ::step].ravel()


def percentiles(values: Float[np.ndarray, " n"]) -> tuple[float, float]:
    """The 1st and the 99th of up to about two million of the values."""
    low, high = np.percentile(values[:: 1 + len(values) // SAMPLE], STRAY)
    return float(low), float(high)
