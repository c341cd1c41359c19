"""Is a scan in the unit of its modality? Judged by the body's distribution, not by one voxel.

What contradicts the unit is refused, with what it looks like and the numbers that mend it; what is merely odd is a
remark. In HU air (-1000), lung, fat (-100), water and soft tissue (0 to 100) and bone have their places; the body's
mean SUV is about 1 by definition. A mask's or a reader's fill around the body says nothing of it and is left out.
"""

import warnings
from functools import cache
from numbers import Real
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import ndimage, stats

from s2dc_core.data.intensities import brighter_than_air, fills_of, percentiles, sample, without

SHIFTS = (1024, 1000, 2048, 8192, 31744, 32768, -1024, -1000)
"""What files add to HU: unsigned scanners and pictures, and a rescaling that was applied twice."""

NARROW = 20.0  # from the 1st to the 99th percentile: less than noise alone has in HU
BETTER = 0.3  # of the log-likelihood, per voxel that is no air: real scans in HU reach 0.28, shifted ones 0.34
HOT = 50.0  # SUV of half of the body's voxels
WHOLE_BODY = 10_000.0  # ml: more than a head
WHOLE_BODY_MEAN = 2.5  # SUV: 1 by definition over all of it, and a trunk holds the organs

STRAY_DENSITY = 1e-6  # per HU, of a voxel in no place
BIN, START, BINS = 8, -1504, 563  # HU: a divisor of all shifts
TISSUES = slice(3, 6)  # of the columns of _places


class Contradiction(ValueError):
    """What a scan's voxels look like, if not the unit of its modality, and the mend."""


class _Seen(NamedTuple):
    """What a check looks at: a sample of all voxels, of those without what was filled in around the body, the fills."""

    all: Float[np.ndarray, " n"]
    inside: Float[np.ndarray, " m"]
    fills: list[float]

    def share(self, low: Real, high: Real) -> float:
        """Of the voxels without the fills that lie in a range."""
        return float(((self.inside >= low) & (self.inside <= high)).mean())

    def times(self, factor: Real) -> "_Seen":
        """The same in another unit."""
        return _Seen(self.all * factor, self.inside * factor, [fill * factor for fill in self.fills])


def _see(values: Float[np.ndarray, "x y z"]) -> _Seen:
    some = sample(values)
    fills, margin = fills_of(values, some)
    inside = without(some, fills, margin)
    return _Seen(some, inside if len(inside) else some, fills)


def check_units(
    values: Float[np.ndarray, "x y z"],
    kind: str | None,
    image: str | Path,
    millilitres: Real = 0.0,
    unsigned: bool = False,
) -> None:
    """A ValueError for units that contradict the modality, which would show as bad features, hours later.

    Args:
        kind: "ct", "pet", "mr", or None where no unit is known.
        image: for the message.
        millilitres: of a voxel.
        unsigned: whether the file can hold no value below 0, as pictures.

    Warns:
        UserWarning: for what is odd, with what is taken.
    """
    low, high = float(values.min()), float(values.max())
    if low == high:
        raise ValueError(f"{image} holds the value {low:g} everywhere: it is no scan")
    try:
        if kind == "ct":
            remark = ct_remark(values, unsigned)
        elif kind == "pet":
            remark = pet_remark(values, millilitres)
        else:
            remark = mr_remark(values) if kind == "mr" else None
    except Contradiction as error:
        unit = {"ct": ", no HU", "pet": ", no SUV"}.get(kind, "")
        raise ValueError(f"{image} holds {low:g} to {high:g}{unit}: {error}") from error
    if remark:
        warnings.warn(f"{image} {remark}", stacklevel=2)


def ct_remark(values: Float[np.ndarray, "x y z"], unsigned: bool = False) -> str | None:
    """What is odd about a CT in HU, or None.

    Args:
        unsigned: whether the file can hold no value below 0, as pictures.

    Raises:
        Contradiction: for what is no HU.
    """
    seen = _see(values)
    _refuse_scaled(seen)
    if shift := _shift_of(seen):
        sign, verb = ("+", "subtract") if shift > 0 else ("-", "add")
        alike = f" (or {sign} 1000)" if abs(shift) == 1024 else ""
        raise Contradiction(f"it looks like HU {sign} {abs(shift)}{alike}: {verb} {abs(shift)} (offset={-shift})")
    if seen.share(-1500, 4000) < 0.9:
        raise Contradiction("more than a tenth of it lies outside -1500..4000, where no tissue is: rescale it to HU")
    if (seen.all < -30).mean() > 1e-3:
        return None
    if unsigned:
        raise Contradiction("a CT has values below 0, air and fat: give the scale and offset that the pictures lost")
    if seen.share(-np.inf, -1) < 1e-3:
        _refuse_magnitudes(seen)
    return "holds neither air nor fat: taken for HU as it is"


def _refuse_scaled(seen: _Seen) -> None:
    low, high = float(seen.all.min()), float(seen.all.max())
    whole = bool((seen.all == np.round(seen.all)).all())
    width = max(np.ptp(percentiles(some)) for some in (seen.all, seen.inside))
    if width < NARROW and not (whole and width > 5):
        if _looks_like_hu(seen.times(1000)):
            raise Contradiction("it looks like HU / 1000: multiply by 1000 (scale=1000)")
        if low >= 0 and high <= 1:
            raise Contradiction(
                "it looks like a window scaled to 0..1: bring it back, from -175..250 HU by scale=425, offset=-175"
            )
        raise Contradiction("it looks like a z-score or another scale: take the file in HU")
    if low == 0 and 254 <= high <= 255:
        raise Contradiction(
            "it looks like a window turned into grey values 0..255: bring it back, "
            "from -1000..400 HU by scale=5.49, offset=-1000"
        )


def _shift_of(seen: _Seen) -> int | None:
    """What was added to HU, or None if HU as they are explain the body about as well."""
    plain, places = _likelihood(seen, 0)
    if places[0] > 0.01 and _fits(plain, places):  # air is where HU have it: the others need not be tried
        return None
    gains = {}
    for shift in SHIFTS:
        likelihood, weights = _likelihood(seen, shift)
        body = 1 - weights[0]
        if weights[TISSUES].sum() < max(0.02, 0.3 * body):
            continue
        # Air of HU is where tissue less 1024 would be: without an air still darker nothing tells them apart.
        if shift < 0 and weights[:2].sum() < 0.02 and not any(abs(fill - shift + 1000) < 30 for fill in seen.fills):
            continue
        gains[shift] = (likelihood - plain) / body
    best = max(gains, key=gains.get, default=None)
    if best is None or gains[best] < BETTER:
        return None
    usual = {1000: 1024, -1000: -1024}.get(best, best)
    return usual if gains[best] - gains.get(usual, -np.inf) < 0.1 else best


def _likelihood(seen: _Seen, shift: int) -> tuple[float, Float[np.ndarray, " k"]]:
    """Mean log-likelihood of the voxels if a shift was added to HU, and the share of each place that explains them.

    The places' shares are fitted (expectation maximisation), at the noise that fits best.
    """
    whole = np.floor((np.clip(seen.inside, -1e6, 1e6) - shift) / BIN).astype(np.int64) - START // BIN
    found = np.bincount(whole[(whole >= 0) & (whole < BINS)], minlength=BINS) / len(seen.inside)
    there, outside = found > 0, 1 - found.sum()
    best = (-np.inf, np.zeros(len(_places(0).T)))
    for noise in (0, 50, 100):
        places = _places(noise)[there]
        weights = np.full(places.shape[1], 1 / places.shape[1])
        for _ in range(25 if there.any() else 0):
            weights = weights * (places.T @ (found[there] / (places @ weights + STRAY_DENSITY)))
            weights /= weights.sum()
        likelihood = (found[there] * np.log(places @ weights + STRAY_DENSITY)).sum() + outside * np.log(STRAY_DENSITY)
        best = max(best, (float(likelihood), weights), key=lambda each: each[0])
    return best


@cache
def _places(noise: int) -> Float[np.ndarray, "b k"]:
    """Densities over HU, a column each: air, lung, its edges, fat, soft tissue, contrast, three kinds of bone."""
    hu = START + BIN * (np.arange(BINS) + 0.5)

    def peak(mean: Real, sd: Real) -> Float[np.ndarray, " b"]:
        return stats.norm.pdf(hu, mean, np.hypot(sd, noise))

    def even(low: Real, high: Real) -> Float[np.ndarray, " b"]:
        density = ((hu > low) & (hu < high)) / (high - low)
        return ndimage.gaussian_filter1d(density, noise / BIN) if noise else density

    tissues = [peak(-100, 20), peak(45, 30), peak(130, 50)]
    bones = [even(150, 500), even(150, 1100), even(1000, 2000)]
    return np.stack([peak(-1000, 15), peak(-850, 80), even(-980, -120), *tissues, *bones], axis=1)


def _refuse_magnitudes(seen: _Seen) -> None:
    """A Contradiction for what looks like an MR: noise of magnitudes around the body, or a body cut out of one."""
    low, high = percentiles(seen.inside)
    dark = seen.inside[seen.inside < 0.12 * high]
    noise = len(dark) > 0.1 * len(seen.inside) and high > 30 and dark.std() > 0.4 * dark.mean()
    middle = float(np.median(seen.inside))
    if noise or (0 in seen.fills and middle > 100 and low < 0.1 * middle):
        raise Contradiction('it looks like an MR, without a value below 0: give modality="mr", or rescale it to HU')


def _looks_like_hu(seen: _Seen) -> bool:
    """Whether air, or what was filled in for it, and tissue are where HU have them."""
    likelihood, weights = _likelihood(seen, 0)
    air = weights[0] > 0.01 or any(-1030 <= fill <= -990 or fill in (-2000, -2048, -3024) for fill in seen.fills)
    return bool(air and _fits(likelihood, weights))


def _fits(likelihood: float, weights: Float[np.ndarray, " k"]) -> bool:
    """Whether the places of HU explain the voxels, and tissue is among them."""
    return bool(likelihood > -8.5 and weights[TISSUES].sum() > 0.3 * (1 - weights[0]))


def mr_remark(values: Float[np.ndarray, "x y z"]) -> str | None:
    """What is odd about an MR, or None.

    Raises:
        Contradiction: for what are plainly HU; any other unit will do.
    """
    seen = _see(values)
    if _looks_like_hu(seen):
        raise Contradiction('air and tissue are where HU have them, which are HU: give modality="ct"')
    low, high = percentiles(seen.inside)
    far = int((np.abs(values - (low + high) / 2) > 10 * (high - low)).sum())
    if far and high > low:
        return f"holds {far} voxels far beyond the rest, which lies about {low:g} to {high:g}: they are clipped"
    return None


def pet_remark(values: Float[np.ndarray, "x y z"], millilitres: Real = 0.0) -> str | None:
    """What is odd about a PET in SUV, or None.

    Args:
        millilitres: of a voxel; 0 if not known.

    Raises:
        Contradiction: for what is no SUV.
    """
    if percentiles(sample(values))[0] < -100 or _looks_like_hu(_see(values)):
        raise Contradiction('it goes far below 0, as HU do, which are HU: give modality="ct"')
    bright = brighter_than_air(values)
    body, air = values[bright], values[~bright]
    middle, level = float(np.median(body)), float(np.median(air)) if len(air) > 0.1 * values.size else 0.0
    if level < -0.1 * max(1.0, middle):
        raise Contradiction(f"air lies at {level:.2g}, and has an SUV of 0: take it as it was before it was z-scored")
    if values.min() == 0 and values.max() in (1, 255):
        raise Contradiction(f"it looks scaled to 0..{values.max():g}: take it as it was before")
    if middle > HOT:
        raise Contradiction(
            f"half of the body lies above {middle:.3g}; divide Bq/ml by injected dose per body weight "
            "(scale = weight in g / dose in Bq), counts by their calibration too, SUV times 1000 by 1000 (scale=0.001)"
        )
    volume, mean = body.size * millilitres, float(body.mean())
    if volume > WHOLE_BODY and mean > WHOLE_BODY_MEAN:
        raise Contradiction(
            f"{volume / 1000:.0f} litres of body with a mean of {mean:.3g}, which is about 1 in SUV: it looks like "
            "kBq/ml, divide by injected dose per body weight (scale = weight in kg / dose in MBq)"
        )
    if middle > 3:
        return f"has its middle at SUV {middle:.2g}, as a brain or a hot organ has: taken for SUV, in kBq/ml it is not"
    return f"has its middle at SUV {middle:.2g}, as hardly any tracer has: taken for SUV" if middle < 0.02 else None
