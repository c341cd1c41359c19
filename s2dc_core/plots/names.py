"""Names of organs written into them, as in an atlas, or beside them with a thin line; no name covers another."""

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.image import AxesImage
from matplotlib.patheffects import withStroke
from matplotlib.text import Text
from matplotlib.transforms import BboxBase
from scipy import ndimage

from s2dc_core.plots.colours import short_name
from s2dc_core.plots.frame import ink, small_type
from s2dc_core.plots.orientation import OrientedSlice
from s2dc_core.plots.style import CourseFigure

LEAST = 4
"""Pixels of the slice below which a label gets no name."""


class Box(NamedTuple):
    """A name's place in pixels of the slice: its middle (column, row), and half of its width and height."""

    column: Real
    row: Real
    wide: Real
    high: Real

    def mask(self, shape: tuple[int, int]) -> tuple[slice, slice]:
        """The pixels below it, rows and columns."""
        ends = ((self.row, self.high, shape[0]), (self.column, self.wide, shape[1]))
        return tuple(slice(max(int(m - h), 0), min(int(np.ceil(m + h)) + 1, side)) for m, h, side in ends)


def write_names(
    axes: Axes,
    cut: OrientedSlice,
    labels: np.ndarray,
    names: Mapping[int, str],
    layers: Sequence[AxesImage] = (),
) -> None:
    """Write the short name of each label of a slice, once, at its largest piece; those without a name get none.

    Within a figure of `figure_grid` this is done when the panels have got their sizes.

    Args:
        labels: [rows, columns] whole numbers at the pixels of the slice, NaN or 0 for nothing.
        names: label to name.
        layers: the pictures below, for black or white letters.
    """
    labels = np.nan_to_num(np.asarray(labels, dtype=float)).astype(int)
    wanted = {int(k): short_name(names[int(k)]) for k in np.unique(labels) if k > 0 and int(k) in names}
    if isinstance(axes.figure, CourseFigure):
        axes.figure.later.append(lambda: _write(axes, cut, labels, wanted, layers))
    else:
        _write(axes, cut, labels, wanted, layers)


def name_once(images: Sequence[np.ndarray], names: Mapping[int, str]) -> list[dict[int, str]]:
    """For several slices through one label map: the labels that each shall name, the one that shows most of a label."""
    images = [np.nan_to_num(np.asarray(image, dtype=float)).astype(int) for image in images]
    named: list[dict[int, str]] = [{} for _ in images]
    for label in sorted(set(map(int, names)) & {int(k) for image in images for k in np.unique(image)}):
        most = max(range(len(images)), key=lambda number: (images[number] == label).sum())
        named[most][label] = names[label]
    return named


def _write(axes, cut, labels, names, layers) -> None:
    colour, rim = ink(layers, (0.5, 0.5), 0.5) if layers else ("white", "black")
    points = small_type(axes)
    texts = {label: axes.text(0, 0, name, fontsize=points, ha="center", va="center") for label, name in names.items()}
    sizes = {label: _half_size(axes, cut, text) for label, text in texts.items()}
    for label, (box, tip) in place_names(labels, sizes, _taken(axes, cut)).items():
        text = texts.pop(label)
        text.set(position=cut.picture(box.column, box.row), color=colour, gid="name")
        text.set_path_effects([withStroke(linewidth=2, foreground=rim)])
        if tip is not None:
            ends = np.array([cut.picture(*_edge(box, tip)), cut.picture(*tip)]).T
            (line,) = axes.plot(*ends, color=colour, linewidth=0.9, gid="name")
            line.set_path_effects([withStroke(linewidth=2, foreground=rim)])
    for text in texts.values():
        text.remove()


def place_names(
    labels: np.ndarray, sizes: Mapping[int, tuple[Real, Real]], taken: np.ndarray
) -> dict[int, tuple[Box, tuple[float, float] | None]]:
    """Where each name goes: its box, and where its line ends in the organ, None for a name within.

    First the names that have room within their organ. Then the others, the largest organ first, each where its line is
    short, few organs are covered and no other name or line is touched.

    Args:
        labels: [rows, columns].
        sizes: label to half width and half height of its name, in pixels.
        taken: [rows, columns], where no name may stand.
    """
    taken, placed = taken.copy(), {}
    pieces = {label: piece for label in sizes if (piece := _largest(labels == label)).sum() >= LEAST}
    for label, piece in sorted(pieces.items(), key=lambda item: -item[1].sum()):
        box = _within(piece & ~taken, *sizes[label])
        if box is not None:
            placed[label] = box, None
            taken[box.mask(taken.shape)] = True
    lines: list[tuple[np.ndarray, np.ndarray]] = []
    for label, piece in sorted(pieces.items(), key=lambda item: -item[1].sum()):
        found = None if label in placed else _beside(piece, labels > 0, taken, lines, *sizes[label])
        if found is not None:
            box, tip = found
            placed[label] = found
            taken[box.mask(taken.shape)] = True
            lines.append((np.array(_edge(box, tip)), np.array(tip)))
    return placed


def _largest(mask: np.ndarray) -> np.ndarray:
    pieces, count = ndimage.label(mask)
    return mask if count < 2 else pieces == 1 + np.bincount(pieces[pieces > 0] - 1).argmax()


def _within(piece: np.ndarray, wide: Real, high: Real) -> Box | None:
    """The place nearest to the piece's middle where a box, but for its rim, lies within it, if there is one."""
    size = (2 * round(0.75 * high) + 1, 2 * round(0.95 * wide) + 1)
    fits = np.argwhere(ndimage.minimum_filter(piece, size=size, mode="constant"))
    if not len(fits):
        return None
    row, column = fits[np.linalg.norm(fits - np.argwhere(piece).mean(0), axis=1).argmin()]
    return Box(float(column), float(row), wide, high)


def _beside(
    piece: np.ndarray, organs: np.ndarray, taken: np.ndarray, lines: Sequence, wide: Real, high: Real
) -> tuple[Box, tuple[float, float]] | None:
    """The best free place near a piece, covering little of it and less of others; where the line ends in the piece."""
    depth = ndimage.distance_transform_edt(np.pad(piece, 1))[1:-1, 1:-1]
    row, column = np.unravel_index(depth.argmax(), depth.shape)
    tip = (float(column), float(row))
    size = (2 * int(np.ceil(high)) + 1, 2 * int(np.ceil(wide)) + 1)
    free = ~ndimage.maximum_filter(taken, size=size, mode="constant", cval=1)
    covered = ndimage.uniform_filter(organs - 0.4 * piece, size=size)
    rows, columns = np.nonzero(free)
    if not len(rows):
        return None
    away = np.hypot(np.maximum(abs(columns - column) - wide, 0), np.maximum(abs(rows - row) - high, 0))
    cost = away + 14 * high * covered[rows, columns]
    best, least = None, np.inf
    for k in cost.argsort()[:: max(1, len(cost) // 8000)][:400]:  # some of the cheapest
        if cost[k] >= least:
            break
        box = Box(float(columns[k]), float(rows[k]), wide, high)
        start = np.array(_edge(box, tip))
        crossed = sum(_cross(start, np.array(tip), *line) for line in lines)
        price = cost[k] + 12 * high * crossed + 6 * high * _over(taken, start, np.array(tip))
        if price < least:
            best, least = box, price
    return None if best is None else (best, tip)


def _edge(box: Box, tip: tuple[float, float]) -> tuple[float, float]:
    """The point of a box nearest to another point."""
    column = float(np.clip(tip[0], box.column - box.wide, box.column + box.wide))
    return column, float(np.clip(tip[1], box.row - box.high, box.row + box.high))


def _cross(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray) -> bool:
    """Whether two lines a-b and c-d cross."""

    def side(p: np.ndarray, q: np.ndarray, r: np.ndarray) -> float:
        return float((q[0] - p[0]) * (r[1] - p[1]) - (q[1] - p[1]) * (r[0] - p[0]))

    return side(a, b, c) * side(a, b, d) < 0 and side(c, d, a) * side(c, d, b) < 0


def _over(taken: np.ndarray, start: np.ndarray, end: np.ndarray) -> float:
    """Share of a line that runs over what is taken."""
    points = np.rint(start + np.linspace(0, 1, 24)[:, None] * (end - start)).astype(int)[1:]
    inside = ((points >= 0) & (points < taken.shape[::-1])).all(1)
    return float(taken[points[inside, 1], points[inside, 0]].mean()) if inside.any() else 0.0


def _pixels(axes: Axes, cut: OrientedSlice, box: BboxBase) -> np.ndarray:
    """Corners of a box on the screen as pixels of the slice: [[first column, first row], [last column, last row]]."""
    left, right, bottom, top = cut.extent
    rows, columns = cut.image.shape[:2]
    share = (axes.transData.inverted().transform(box.get_points()) - (left, bottom)) / (right - left, top - bottom)
    return np.sort(share * (columns, rows) - 0.5, axis=0)


def _half_size(axes: Axes, cut: OrientedSlice, text: Text) -> tuple[float, float]:
    """Half width and half height of a text, with a little room, in pixels of the slice."""
    wide, high = np.diff(_pixels(axes, cut, text.get_window_extent()), axis=0)[0] / 2
    return 1.06 * float(wide), float(high)


def _taken(axes: Axes, cut: OrientedSlice) -> np.ndarray:
    """Pixels of the slice below the letters of its edges and its scale bar, or out of sight."""
    taken = np.ones(cut.image.shape[:2], dtype=bool)
    bars = [artist for artist in axes.artists if artist.get_gid() == "scale bar"]
    letters = [text for text in axes.texts if text.get_transform() is axes.transAxes]
    for artist in [axes.patch, *letters, *bars]:
        (left, bottom), (right, top) = _pixels(axes, cut, artist.get_window_extent()).round().astype(int)
        taken[max(bottom, 0) : max(top + 1, 0), max(left, 0) : max(right + 1, 0)] = artist is not axes.patch
    return taken
