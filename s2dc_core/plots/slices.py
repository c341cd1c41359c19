"""One slice of a volume on axes: with an overlay, outlined labels and their names, a marked point, a scale bar."""

from collections.abc import Mapping
from numbers import Real
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.image import AxesImage
from matplotlib.patheffects import withStroke

from s2dc_core.plots.colours import PALETTE, label_colour, label_words
from s2dc_core.plots.frame import draw_frame, record_sizes
from s2dc_core.plots.names import write_names
from s2dc_core.plots.orientation import (
    PLANES,
    Array,
    OrientedSlice,
    Point,
    Position,
    oriented_slice,
    sample_on_slice,
)
from s2dc_core.plots.style import figure_grid

__all__ = [
    "PALETTE",
    "PLANES",
    "Array",
    "OrientedSlice",
    "Point",
    "Position",
    "ShownSlice",
    "figure_grid",
    "label_colour",
    "label_words",
    "oriented_slice",
    "sample_on_slice",
    "show_slice",
]
"""What a figure of slices needs, from the files of its parts."""


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
    names: Mapping[int, str] | None = None,
    mark: Point | None = None,
    title: str | None = None,
    scale_bar: bool = True,
) -> ShownSlice:
    """Draw one slice with the letters of its edges; over it a map, the outlines of labels, a marked point.

    A scale bar stands in the first slice of a row that are drawn at one scale, and below the figure is said how large
    voxels and tokens are.

    Args:
        axes: to draw on; the aspect ratio follows the voxel sizes.
        volume, affine, plane, position: as for `oriented_slice`; the default position is that of `mark`.
        vmin, vmax: window; default: the 0.5 and 99.5 percentiles of the volume, so that its slices look alike;
            of a mask (bool) 0 and 1.
        overlay: [x, y, z] or [x, y, z, 3] on any grid, such as a token map: each pixel shows the value of the
            overlay's voxel that it lies in. NaN, and places outside the overlay, stay clear.
        overlay_affine: of the overlay; default: the volume's, and then it must have the volume's shape.
        labels: [X, Y, Z] whole numbers on the volume's grid; each label but 0 is outlined in `label_colour`, or in
            white where the overlay hides the scan.
        names: of labels; those of the slice are written into what is outlined, or beside it.
        mark: world point (x, y, z) in mm, drawn as a cross.
        scale_bar: False for a volume whose affine is not in mm.

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
    layers = [layer for layer in (image, over) if layer is not None]
    if labels is not None:
        shown = sample_on_slice(labels, affine, cut)
        _outline(axes, shown, cut, hidden=over is not None and overlay_alpha == 1)
        if names is not None:
            write_names(axes, cut, shown, names, layers)
    if mark is not None:
        axes.plot(*cut.project(mark)[:2], "+", color="#00E5FF", markersize=11, markeredgewidth=2)
    draw_frame(axes, cut, title, layers, scale_bar)
    if scale_bar:
        record_sizes(axes.figure, affine, None if overlay is None else overlay_affine)
    return ShownSlice(cut, image, over)


def _outline(axes: Axes, labels: np.ndarray, cut: OrientedSlice, hidden: bool = False) -> None:
    """Outline each label, with a dark rim; the rim of background lets those at the picture's edge close."""
    labels = np.pad(labels, 1)
    across, up = cut.picture(np.arange(-1, labels.shape[1] - 1), np.arange(-1, labels.shape[0] - 1))
    for label in np.unique(labels[labels > 0]).astype(int):
        colour = "white" if hidden else label_colour(label)
        lines = axes.contour(across, up, labels == label, levels=[0.5], colors=colour, linewidths=1.3)
        lines.set_path_effects([withStroke(linewidth=2.6, foreground="#000000A0")])
