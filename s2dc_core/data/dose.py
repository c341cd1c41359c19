"""PET of less activity: the counts of a scan drawn again, as the scanner would have seen them."""

from collections.abc import Sequence
from numbers import Real

import numpy as np
from scipy import ndimage

FWHM_PER_SD = 2 * np.sqrt(2 * np.log(2))


def dose_pair(
    activity: np.ndarray,
    spacing: Sequence[Real],
    factor: Real,
    seed: int,
    counts: Real = 6000.0,
    resolution: Real = 5.0,
) -> tuple[np.ndarray, np.ndarray]:
    """A scan at a share of the dose, and at the full one: [X, Y, Z] float32 each, in the activity's unit.

    Each voxel's counts are Poisson with mean activity x counts x volume x dose, brought back to activity by the same
    numbers, then smoothed as reconstructions are. The two scans have independent noise, and the same mean.

    Args:
        activity: [X, Y, Z], in SUV, from 0 up.
        spacing: voxel sides in mm.
        factor: the full dose over the low one, above 1.
        seed: of the counts.
        counts: a ml of SUV 1 at the full dose. 6,000 gives a liver about a tenth of noise in voxels of 2.5 mm before
            smoothing, a fiftieth of it seven tenths.
        resolution: full width at half maximum of the smoothing, in mm.

    Raises:
        ValueError: for an activity below 0 or a factor that is not above 1.
    """
    if not factor > 1:
        raise ValueError(f"the full dose must be more than the low one, got a factor of {factor}")
    if activity.min() < 0:
        raise ValueError(f"activity must not be negative, got {activity.min():g}")
    expected = np.asarray(activity, dtype=float) * counts * np.prod(spacing) / 1000
    scale = counts * np.prod(spacing) / 1000
    sd = [resolution / FWHM_PER_SD / side for side in spacing]
    scans = []
    for number, dose in enumerate((1 / factor, 1.0)):
        generator = np.random.default_rng([seed, number])
        seen = generator.poisson(expected * dose) / (scale * dose)
        scans.append(ndimage.gaussian_filter(seen, sd, mode="nearest").astype(np.float32))
    return scans[0], scans[1]
