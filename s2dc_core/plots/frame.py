"""What stands around a slice: the letters of its edges, a bar of so many mm, and how large voxels and tokens are."""

from collections.abc import Sequence
from numbers import Real

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.image import AxesImage
from matplotlib.patheffects import withStroke
from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar

from s2dc_core.plots.orientation import Array, OrientedSlice
from s2dc_core.plots.style import SMALLEST, CourseFigure

BARS = (1, 2, 5, 10, 20, 50, 100, 200)
"""Lengths of scale bars in mm."""

LIGHT = 0.6
"""Luminance, 0 to 1, above which a picture gets black letters."""


def draw_frame(axes: Axes, cut: OrientedSlice, title: str | None, layers: Sequence[AxesImage], bar: bool) -> None:
    """No ticks, equal scales, the title, letters at the edges in black or white, and perhaps the bar.

    Args:
        layers: the pictures that are drawn, from the lowest to the top.
        bar: whether it gets a scale bar.
    """
    left, right, bottom, top = cut.extent
    axes.set(xlim=(left, right), ylim=(bottom, top), aspect="equal", xticks=[], yticks=[], title=title or "")
    axes.spines[:].set_visible(False)
    places = ((0.02, 0.5, "left", "center"), (0.98, 0.5, "right", "center"))
    places += ((0.5, 0.02, "center", "bottom"), (0.5, 0.98, "center", "top"))
    for letter, (x, y, across, up) in zip(cut.letters, places, strict=True):
        text = axes.text(x, y, letter, transform=axes.transAxes, ha=across, va=up, fontweight="bold")
        text.set(fontsize=small_type(axes) + 1, gid="frame")
        _readable(text, layers, (x, y), 2)
    if bar:
        _scale_bar(axes, cut, layers)


def ink(layers: Sequence[AxesImage], at: tuple[Real, Real], reach: Real = 0.05) -> tuple[str, str]:
    """Colour of letters and of their rim where they stand on a picture.

    Args:
        at: place in the picture, 0 to 1 from the left and from below.
        reach: half side of the neighbourhood that is looked at.
    """
    seen = np.ones(3)
    for layer in layers:
        values = layer.get_array()
        window = tuple(
            slice(int(max(place - reach, 0) * side), max(int(np.ceil((place + reach) * side)), 1))
            for place, side in zip(at[::-1], values.shape[:2], strict=True)
        )
        colours = np.asarray(layer.to_rgba(values[window]), dtype=float)
        strength = colours[..., 3:] * (1.0 if layer.get_alpha() is None else layer.get_alpha())
        seen = seen * (1 - strength) + colours[..., :3] * strength
    light = float(np.mean(seen @ (0.2126, 0.7152, 0.0722))) > LIGHT
    return ("black", "white") if light else ("white", "black")


def _readable(artist, layers: Sequence[AxesImage], at: tuple[Real, Real], rim: Real) -> None:
    colour, other = ink(layers, at)
    artist.set(color=colour, path_effects=[withStroke(linewidth=rim, foreground=other)])


def _scale_bar(axes: Axes, cut: OrientedSlice, layers: Sequence[AxesImage]) -> None:
    """A bar of about a quarter of the slice's width, below on the right."""
    width = abs(cut.extent[0] - cut.extent[1])
    length = max((bar for bar in BARS if bar <= 0.3 * width), default=BARS[0])
    colour, rim = ink(layers, (0.86, 0.06), 0.1)
    size = {"size_vertical": 0.012 * width, "color": colour, "fontproperties": FontProperties(size=small_type(axes))}
    drawn = AnchoredSizeBar(
        axes.transData, length, f"{length} mm", "lower right", pad=0.1, borderpad=0.35, sep=2, frameon=False, **size
    )
    words = drawn.txt_label.get_children()[0]
    words.set(gid="frame", path_effects=[withStroke(linewidth=1.5, foreground=rim)])
    for child in drawn.size_bar.get_children():
        child.set(linewidth=0, path_effects=[withStroke(linewidth=1.5, foreground=rim)])
    drawn.set(in_layout=False, gid="scale bar")
    axes.add_artist(drawn)


def small_type(axes: Axes) -> Real:
    """Points of the small type in a panel: that of its figure, or less where the panel is narrow."""
    small = axes.figure.small if isinstance(axes.figure, CourseFigure) else SMALLEST
    width = axes.get_position(original=True).width * axes.figure.get_figwidth()
    return min(small, max(SMALLEST, 3.4 * width))


def size_words(affine: np.ndarray) -> str:
    """Sides of a voxel or token along x, y, z of the patient: "2 mm" of a cube, else "0.8 x 0.8 x 5 mm"."""
    axes = np.asarray(affine, dtype=float)[:3, :3]
    sides = np.linalg.norm(axes, axis=0)[np.abs(axes).argmax(axis=0).argsort()]
    cube = np.ptp(sides) < 0.01 * sides.max()
    return f"{' x '.join(f'{side:.3g}' for side in (sides[:1] if cube else sides))} mm"


def record_sizes(figure: Figure, affine: Array, over: Array | None) -> None:
    """Note how large the voxels of a slice are, and the tokens over it, if its overlay is that much coarser."""
    if not isinstance(figure, CourseFigure):
        return
    voxel, token = size_words(affine), None
    if over is not None:
        volumes = [abs(np.linalg.det(np.asarray(one, dtype=float)[:3, :3])) for one in (affine, over)]
        token = size_words(over) if volumes[1] > 3 * volumes[0] else None
    figure.sizes[voxel, token] = None
