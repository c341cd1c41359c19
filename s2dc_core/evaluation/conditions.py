"""Another field of view: half a scan, a box of it, the patient turned."""

from collections.abc import Sequence
from numbers import Integral, Real

import numpy as np
import torch
from scipy.ndimage import affine_transform

from s2dc_core.data import Scan


def cut(scan: Scan, low: Sequence[Integral], high: Sequence[Integral]) -> Scan:
    """The voxels from low up to high of each axis; they stay where they are in the world.

    Raises:
        ValueError: for a box that does not lie in the scan.
    """
    shape = scan.raw.shape
    if any(not 0 <= a < b <= side for a, b, side in zip(low, high, shape, strict=True)):
        raise ValueError(f"a box from {tuple(low)} to {tuple(high)} does not lie in {tuple(shape)} voxels")
    box = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    affine = scan.affine.copy()
    affine[:3, 3] += scan.affine[:3, :3] @ np.asarray(low, float)
    return scan._replace(
        volume=scan.volume[(slice(None), *box)].contiguous(),
        raw=scan.raw[box],
        affine=affine,
        label=None if scan.label is None else scan.label[box].contiguous(),
        foreground=scan.foreground[box].contiguous(),
    )


def half(scan: Scan, upper: bool) -> Scan:
    """The upper or the lower half of a scan along z (its last axis: scans are RAS+)."""
    x, y, z = scan.raw.shape
    if z < 2:
        raise ValueError(f"{scan.name} has one slice along z: there is no half of it")
    return cut(scan, (0, 0, z // 2 if upper else 0), (x, y, z if upper else z // 2))


def box(scan: Scan, share: Real = 0.6, seed: int = 0) -> Scan:
    """A box of a share of each side, at a random place.

    Raises:
        ValueError: for a share that is not in (0, 1].
    """
    if not 0 < share <= 1:
        raise ValueError(f"share {share} is not in (0, 1]")
    sides = [max(1, round(side * share)) for side in scan.raw.shape]
    draw = np.random.default_rng(seed)
    low = [int(draw.integers(0, n - side + 1)) for n, side in zip(scan.raw.shape, sides, strict=True)]
    return cut(scan, low, [start + side for start, side in zip(low, sides, strict=True)])


def turned(scan: Scan, degrees: Real = 20.0, seed: int = 0) -> Scan:
    """The patient turned about a random axis through the middle of the scan; voxels that come from beyond it are air.

    Images are interpolated linearly, labels are those of the nearest voxel.
    """
    back = turn_matrix(scan, degrees, seed)
    middle = (np.array(scan.raw.shape) - 1) / 2
    linear = np.linalg.inv(scan.affine[:3, :3]) @ back @ scan.affine[:3, :3]
    where = {"matrix": linear, "offset": middle - linear @ middle}

    def moved(values, order: int, fill: Real):
        return affine_transform(np.asarray(values), order=order, mode="grid-constant", cval=fill, **where)

    volume = moved(scan.volume[0], 1, scan.background)
    return scan._replace(
        volume=torch.from_numpy(volume)[None],
        raw=torch.from_numpy(moved(scan.raw, 1, float(scan.raw.min()))),
        label=None if scan.label is None else torch.from_numpy(moved(scan.label, 0, 0)),
        foreground=torch.from_numpy(moved(scan.foreground.to(torch.uint8), 0, 0)).bool(),
    )


def turn_matrix(scan: Scan, degrees: Real, seed: int) -> np.ndarray:
    """[3, 3], from a place of the turned patient to that of the patient before, in mm about the scan's middle."""
    axis = np.random.default_rng(seed).standard_normal(3)
    x, y, z = axis / np.linalg.norm(axis)
    angle = np.radians(float(degrees))
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
