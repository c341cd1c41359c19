"""Figures of the course, and the one helper that decides which way up a slice is drawn.

One convention for every slice: radiological. Axial and coronal: the patient's right is on the picture's left. Axial:
the front of the body is up. Coronal and sagittal: the head is up. Sagittal: the front is on the left. The letters at
the edges say it: R, L, A(nterior), P(osterior), S(uperior), I(nferior).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from numbers import Integral, Real
from typing import NamedTuple

import matplotlib.pyplot as plt
import nibabel as nib
import numpy as np
from jaxtyping import Shaped
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patheffects import withStroke
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

STYLE = {
    "figure.constrained_layout.use": True,
    "figure.facecolor": "white",
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "savefig.dpi": 150,
}

# Okabe and Ito's colours, then some of Tol's muted ones. Past eight or so no set is safe under colour-vision
# deficiency by colour alone, so a figure with more structures than that also names them.
PALETTE = (
    "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#CC79A7", "#D55E00", "#0072B2",
    "#88CCEE", "#CC6677", "#DDCC77", "#44AA99", "#AA4499", "#BBBBBB", "#999933",
)  # fmt: skip


def label_colour(label: Integral) -> str:
    """Colour of a label, the same in every figure."""
    return PALETTE[(label - 1) % len(PALETTE)]


def label_words(name: str) -> str:
    """A structure's name as a figure writes it: without underscores, and with a dollar sign that begins no formula."""
    return name.replace("_", " ").replace("$", r"\$")


@contextmanager
def figure_grid(
    rows: int = 1, columns: int = 1, size: tuple[Real, Real] = (3.4, 3.4)
) -> Iterator[tuple[Figure, np.ndarray]]:
    """A figure in the course's style and its axes [rows, columns]; `size` is one panel's, in inches.

    Use as ``with figure_grid(1, 3) as (figure, axes): ...`` and return the figure. It is closed for pyplot, so a
    notebook shows it once and nothing accumulates.
    """
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(rows, columns, figsize=(size[0] * columns, size[1] * rows), squeeze=False)
        try:
            yield figure, axes
        finally:
            plt.close(figure)


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


class ShownSlice(NamedTuple):
    """What `show_slice` drew: the slice and its pictures, for colour bars (`overlay` may be None)."""

    slice: OrientedSlice
    image: AxesImage
    overlay: AxesImage | None


def show_slice(
    axes: Axes,
    volume: Array,
    affine: Array,
    plane: str = "axial",
    position: Position = None,
    *,
    cmap: str = "gray",
    vmin: Real | None = None,
    vmax: Real | None = None,
    overlay: Array | None = None,
    overlay_affine: Array | None = None,
    overlay_alpha: Real = 0.5,
    overlay_cmap: str | Colormap = "inferno",
    overlay_vmin: Real | None = None,
    overlay_vmax: Real | None = None,
    labels: Array | None = None,
    mark: Point | None = None,
    title: str | None = None,
) -> ShownSlice:
    """Draw one slice with the letters of its edges; over it a map, the outlines of labels, a marked point.

    Args:
        axes: to draw on; the aspect ratio follows the voxel sizes.
        volume, affine, plane, position: as for `oriented_slice`; the default position is that of `mark`.
        vmin, vmax: window; default: the 0.5 and 99.5 percentiles of the volume, so that its slices look alike;
            of a mask (bool) 0 and 1.
        overlay: [x, y, z] or [x, y, z, 3] on any grid, such as a token map: each pixel shows the value of the
            overlay's voxel that it lies in. NaN, and places outside the overlay, stay clear.
        overlay_affine: of the overlay; default: the volume's, and then it must have the volume's shape.
        labels: [X, Y, Z] whole numbers on the volume's grid; each label but 0 is outlined in `label_colour`.
        mark: world point (x, y, z) in mm, drawn as a cross.

    Raises:
        ValueError: as `oriented_slice`, or for an overlay or label map on another grid.
    """
    volume = np.asarray(volume)
    cut = oriented_slice(volume, affine, plane, mark if position is None else position)
    for name, other in (("labels", labels), ("overlay", overlay if overlay_affine is None else None)):
        if other is not None and other.shape[:3] != volume.shape[:3]:
            raise ValueError(f"{name} of shape {tuple(other.shape)} on a volume {volume.shape}: another grid")
    if volume.ndim == 3 and None in (vmin, vmax):
        low, high = (0, 1) if volume.dtype == bool else np.nanpercentile(volume[::2, ::2, ::2], (0.5, 99.5))
        vmin, vmax = low if vmin is None else vmin, high if vmax is None else vmax

    frame = {"origin": "lower", "extent": cut.extent, "interpolation": "nearest"}
    image, over = axes.imshow(cut.image, cmap=cmap, vmin=vmin, vmax=vmax, **frame), None
    if overlay is not None:
        values = sample_on_slice(overlay, affine if overlay_affine is None else overlay_affine, cut)
        window = {"vmin": overlay_vmin, "vmax": overlay_vmax, "alpha": overlay_alpha}
        over = axes.imshow(values, cmap=overlay_cmap, **window, **frame)
    if labels is not None:
        _outline(axes, sample_on_slice(labels, affine, cut), cut)
    if mark is not None:
        axes.plot(*cut.project(mark)[:2], "+", color="#00E5FF", markersize=11, markeredgewidth=2)
    _frame(axes, cut, title)
    return ShownSlice(cut, image, over)


def _outline(axes: Axes, labels: np.ndarray, cut: OrientedSlice) -> None:
    """Outline each label; the rim of background lets those at the picture's edge close."""
    labels = np.pad(labels, 1)
    across, up = cut.picture(np.arange(-1, labels.shape[1] - 1), np.arange(-1, labels.shape[0] - 1))
    for label in np.unique(labels[labels > 0]).astype(int):
        axes.contour(across, up, labels == label, levels=[0.5], colors=label_colour(label), linewidths=1.3)


def _frame(axes: Axes, cut: OrientedSlice, title: str | None) -> None:
    left, right, bottom, top = cut.extent
    axes.set(xlim=(left, right), ylim=(bottom, top), aspect="equal", xticks=[], yticks=[], title=title or "")
    axes.spines[:].set_visible(False)
    places = ((0.02, 0.5, "left", "center"), (0.98, 0.5, "right", "center"))
    places += ((0.5, 0.02, "center", "bottom"), (0.5, 0.98, "center", "top"))
    for letter, (x, y, horizontal, vertical) in zip(cut.letters, places, strict=True):
        text = axes.text(x, y, letter, transform=axes.transAxes, ha=horizontal, va=vertical, color="white")
        text.set(fontsize=9, fontweight="bold", path_effects=[withStroke(linewidth=2, foreground="black")])
