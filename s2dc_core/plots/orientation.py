"""The one helper that decides which way up a slice is drawn.

One convention for every slice: radiological. Axial and coronal: the patient's right is on the picture's left. Axial:
the front of the body is up. Coronal and sagittal: the head is up. Sagittal: the front is on the left. The letters at
the edges say it: R, L, A(nterior), P(osterior), S(uperior), I(nferior).
"""

from collections.abc import Sequence
from numbers import Real
from typing import NamedTuple

import nibabel as nib
import numpy as np
from jaxtyping import Shaped
from torch import Tensor

from s2dc_core.features import check_affine

Array = Shaped[np.ndarray, "..."] | Shaped[Tensor, "..."]
Point = Sequence[Real] | np.ndarray
Position = Real | Point | None

# Axes of the canonical (RAS+) volume: the normal, the one drawn across, which runs backwards so that R or A comes
# first, and the one drawn upwards; then the letters of the left, right, bottom and top edge.
PLANES = {
    "axial": (2, 0, 1, ("R", "L", "P", "A")),
    "coronal": (1, 0, 2, ("R", "L", "I", "S")),
    "sagittal": (0, 1, 2, ("A", "P", "I", "S")),
}


class OrientedSlice(NamedTuple):
    """One slice of a volume, ready for imshow(image, origin="lower", extent=extent).

    Attributes:
        image: [rows, columns] or [rows, columns, 3]; row 0 is the bottom.
        extent: outer edges (left, right, bottom, top) in mm. Left is the larger number: the picture runs against
            the world's axis, so that of an axis-aligned volume a point is drawn at its own world coordinates.
        letters: of the left, right, bottom and top edge.
        world: [4, 4], (column, row, slices further along the normal, 1) to world mm.
        position: mm along the plane's normal, at the slice's centre.
    """

    image: np.ndarray
    extent: tuple[float, float, float, float]
    letters: tuple[str, str, str, str]
    world: np.ndarray
    position: float

    def picture(self, column: Real | np.ndarray, row: Real | np.ndarray) -> tuple:
        """Picture coordinates, in mm, of a pixel (column, row)."""
        left, right, bottom, top = self.extent
        rows, columns = self.image.shape[:2]
        return left + (column + 0.5) * (right - left) / columns, bottom + (row + 0.5) * (top - bottom) / rows

    def project(self, point: Point) -> tuple[float, float, float]:
        """Where a world point (x, y, z) falls: its picture coordinates in mm, and how many slices it lies away."""
        column, row, away = (np.linalg.inv(self.world) @ [*point, 1.0])[:3]
        return *map(float, self.picture(column, row)), float(away)


def oriented_slice(volume: Array, affine: Array, plane: str = "axial", position: Position = None) -> OrientedSlice:
    """One slice of a volume with any affine, the right way round (see the head of this file).

    Axes are swapped and flipped to the nearest canonical orientation (RAS+); nothing is resampled. So an oblique or
    sheared volume is drawn along its own axes, and the letters name the nearest directions.

    Args:
        volume: [X, Y, Z] or, in colour, [X, Y, Z, 3].
        affine: voxel index to world mm (as in NIfTI: x grows to the patient's right, y to the front, z to the head).
        plane: "axial", "coronal" or "sagittal".
        position: mm along the plane's normal, measured at the slice's centre, or a world point (x, y, z) that the
            slice shall hold; the nearest slice is taken. Default: the middle of the volume.

    Raises:
        ValueError: for an unknown plane, another number of dimensions, an affine that cannot be inverted, or a
            position outside the volume.
    """
    if plane not in PLANES:
        raise ValueError(f"plane {plane!r} does not exist: take one of {', '.join(PLANES)}")
    volume, affine = np.asarray(volume), check_affine(affine)
    if volume.ndim != 3 and (volume.ndim, volume.shape[-1]) != (4, 3):
        raise ValueError(f"slices are cut from [X, Y, Z] or [X, Y, Z, 3], got {volume.shape}: choose one channel")
    turn = nib.orientations.io_orientation(affine)
    canonical = nib.orientations.apply_orientation(volume, turn)
    affine = affine @ nib.orientations.inv_ornt_aff(turn, volume.shape[:3])

    normal, across, up, letters = PLANES[plane]
    index = _slice_index(affine, canonical.shape, normal, position)
    image = np.take(canonical, index, axis=normal).swapaxes(0, 1)[:, ::-1]
    rows, columns = image.shape[:2]
    world = affine[:, [across, up, normal, 3]]
    world[:, 3] += index * world[:, 2] + (columns - 1) * world[:, 0]
    world[:, 0] *= -1

    centre = world @ [(columns - 1) / 2, (rows - 1) / 2, 0, 1]
    width, height = columns * np.linalg.norm(world[:3, 0]), rows * np.linalg.norm(world[:3, 1])
    horizontal = (centre[across] + width / 2, centre[across] - width / 2)
    extent = (*horizontal, centre[up] - height / 2, centre[up] + height / 2)
    return OrientedSlice(image, tuple(map(float, extent)), letters, world, float(centre[normal]))


def _slice_index(affine: np.ndarray, shape: Sequence[int], normal: int, position: Position) -> int:
    """Number of the slice of a canonical volume that lies nearest to a position, see `oriented_slice`."""
    if position is None:
        return shape[normal] // 2
    if np.ndim(position):
        place = (np.linalg.inv(affine) @ [*position, 1.0])[normal]
    else:
        first = np.array([*((n - 1) / 2 for n in shape[:3]), 1.0])
        first[normal] = 0
        place = (position - affine[normal] @ first) / affine[normal, normal]
    if not -0.5 <= place < shape[normal] - 0.5:
        raise ValueError(f"position {position} lies outside the volume: slice {place:.1f} of 0 to {shape[normal] - 1}")
    return int(np.floor(place + 0.5))


def sample_on_slice(volume: Array, affine: Array, cut: OrientedSlice) -> np.ndarray:
    """Values of another volume at the pixels of a slice: of the voxel that each pixel's centre lies in.

    Returns:
        [rows, columns] float with NaN outside the volume, or [rows, columns, 4] with alpha 0 there for a volume
        [X, Y, Z, 3].
    """
    volume = np.asarray(volume)
    rows, columns = np.indices(cut.image.shape[:2])
    pixels = np.stack([columns, rows, np.zeros_like(rows), np.ones_like(rows)], axis=-1)
    index = np.floor(pixels @ (np.linalg.inv(check_affine(affine)) @ cut.world).T + 0.5)[..., :3].astype(int)
    inside = ((index >= 0) & (index < volume.shape[:3])).all(axis=-1)
    if volume.ndim == 3:
        values = np.full(inside.shape, np.nan)
        values[inside] = volume[tuple(index[inside].T)]
    else:
        values = np.zeros((*inside.shape, 4))
        values[inside, :3] = volume[tuple(index[inside].T)]
        values[inside, 3] = 1
    return values
