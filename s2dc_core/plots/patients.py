"""Figures of notebook 12: labels found in another patient, matches between two, and what each way is worth."""

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import ConnectionPatch

from s2dc_core.plots.colours import LABEL_COLOURS
from s2dc_core.plots.heatmaps import display_window
from s2dc_core.plots.names import name_once, write_names
from s2dc_core.plots.slices import Array, OrientedSlice, figure_grid, oriented_slice, sample_on_slice, show_slice

STYLES = (("#D55E00", "o"), ("#0072B2", "s"), ("#009E73", "^"), ("#CC79A7", "D"), ("#555555", "v"), ("#E69F00", "P"))


class FoundLabels(NamedTuple):
    """One column: labels over a scan.

    Attributes:
        title, note: above and below it.
        volume, affine, modality: of the scan.
        places: world mm, one for each plane.
        found: labels on any grid, 0 shows nothing.
        found_affine: of that grid.
        outline: labels on the scan's grid that are outlined in white, such as the truth; None for none.
        strong: draw title and note bold.
        names: of the labels, which are written into this column's; None where another column has them.
    """

    title: str
    note: str
    volume: Array
    affine: np.ndarray
    modality: str
    places: Sequence[Sequence[Real]]
    found: Array
    found_affine: np.ndarray
    outline: Array | None = None
    strong: bool = False
    names: Mapping[int, str] | None = None


def plot_found_labels(
    columns: Sequence[FoundLabels],
    title: str = "",
    planes: Sequence[str] = ("coronal", "axial"),
    small: str = "",
    margin: Real | None = None,
) -> Figure:
    """A column for each way of finding labels, a row for each plane; colours are those of the labels.

    Args:
        small: a line in small type below.
        margin: mm to show around the labels; the panels of a row show pieces of one size. None shows all.
    """
    colours, count = ListedColormap(LABEL_COLOURS), len(LABEL_COLOURS)
    seen: list[dict[Axes, np.ndarray]] = [{} for _ in planes]
    with figure_grid(len(planes), len(columns), size=(2.6, 2.3)) as (figure, axes):
        for number, column in enumerate(columns):
            labels = np.asarray(column.found).astype(float)
            shown = np.where(labels > 0, (labels - 1) % count, np.nan)
            low, high = display_window(column.modality) or (None, None)
            weight, cuts = "bold" if column.strong else "normal", []
            for row, (plane, place) in enumerate(zip(planes, column.places, strict=True)):
                axis = axes[row, number]
                drawn = show_slice(
                    axis,
                    column.volume,
                    column.affine,
                    plane,
                    place,
                    vmin=low,
                    vmax=high,
                    overlay=shown,
                    overlay_affine=column.found_affine,
                    overlay_cmap=colours,
                    overlay_vmin=-0.5,
                    overlay_vmax=count - 0.5,
                    overlay_alpha=0.75,
                )
                cuts.append((drawn, sample_on_slice(labels, column.found_affine, drawn.slice)))
                seen[row][axis] = cuts[-1][1]
                if column.outline is not None:
                    seen[row][axis] = sample_on_slice(column.outline, column.affine, drawn.slice)
                    _outlined(axis, seen[row][axis], drawn.slice)
                axis.set_xlabel(column.note if row == len(planes) - 1 else "", fontsize=11, fontweight=weight)
            axes[0, number].set_title(column.title, fontsize=11, fontweight=weight)
            named = name_once([here for _, here in cuts], column.names or {})
            for axis, (drawn, here), names in zip(axes[:, number], cuts, named, strict=True):
                write_names(axis, drawn.slice, here, names, [drawn.image, drawn.overlay])
        for line in seen if margin is not None else ():
            _crop(line, margin)
        figure.suptitle(title, fontsize=13)
        if small:
            figure.supxlabel(small, fontsize=8.5, color="#444444")
    return figure


def _crop(seen: Mapping[Axes, np.ndarray], margin: Real) -> None:
    """Show of each picture of a row what lies around its labels, pieces of one size as far as the scans reach."""
    for way in ("x", "y"):
        wanted = {axis: _around(axis, labels, way, margin) for axis, labels in seen.items()}
        size = max(high - low for low, high in wanted.values())
        for axis, (low, high) in wanted.items():
            ends = getattr(axis, f"get_{way}lim")()
            first = np.clip((low + high - size) / 2, min(ends), max(min(ends), max(ends) - size))
            shown = (first, min(first + size, max(ends)))
            getattr(axis, f"set_{way}lim")(shown if ends[0] < ends[1] else shown[::-1])


def _around(axis: Axes, labels: np.ndarray, way: str, margin: Real) -> tuple[Real, Real]:
    """First and last mm, with a margin, of what is labelled in a picture, across (x) or up (y); all, if nothing is."""
    ends = getattr(axis, f"get_{way}lim")()
    places = np.flatnonzero((np.nan_to_num(labels) > 0).any(0 if way == "x" else 1))
    if not len(places):
        return min(ends), max(ends)
    edges = np.linspace(*ends, labels.shape[1 if way == "x" else 0] + 1)[[places[0], places[-1] + 1]]
    return edges.min() - margin, edges.max() + margin


def _outlined(axis: Axes, labels: np.ndarray, cut: OrientedSlice) -> None:
    """White lines around each label of the truth."""
    across, up = cut.picture(np.arange(labels.shape[1]), np.arange(labels.shape[0]))
    for label in np.unique(labels[labels > 0]):
        axis.contour(across, up, (labels == label).astype(float), [0.5], colors="white", linewidths=0.8)


def plot_dice_by_way(
    rows: Mapping[str, Mapping[str, Real]], title: str = "", label: str = "Dice in tokens, mean over organs"
) -> Figure:
    """A row for each kind of features, a mark for each way of using them.

    Args:
        rows: kind to {way: value}; NaN is left out.
    """
    ways = list(dict.fromkeys(way for values in rows.values() for way in values))
    with figure_grid(1, 1, size=(8.2, 1.7 + 0.42 * len(rows))) as (figure, axes):
        axis = axes[0, 0]
        for number, values in enumerate(rows.values()):
            known = [value for value in values.values() if np.isfinite(value)]
            axis.plot([min(known, default=0), max(known, default=0)], [number] * 2, color="#BBBBBB", zorder=1)
        for way, (colour, marker) in zip(ways, STYLES, strict=False):
            points = [(values.get(way, np.nan), number) for number, values in enumerate(rows.values())]
            axis.plot(*zip(*points, strict=True), linestyle="", color=colour, marker=marker, markersize=9, label=way)
        axis.set_yticks(range(len(rows)), list(rows))
        axis.set(xlabel=label, ylim=(len(rows) - 0.5, -0.5), xlim=(0, 1), title=title)
        figure.legend(loc="outside lower center", ncols=min(len(ways), 5), fontsize=10)
    return figure


class MatchLines(NamedTuple):
    """Lines from places of one scan to places of another, in mm; `right` says which of them agree with an alignment."""

    title: str
    source_mm: np.ndarray
    target_mm: np.ndarray
    right: np.ndarray


def plot_match_lines(
    source: tuple[Array, np.ndarray, str],
    target: tuple[Array, np.ndarray, str],
    rows: Sequence[MatchLines],
    plane: str = "coronal",
    most: int = 60,
    seed: int = 0,
) -> Figure:
    """Both scans side by side, a row for each kind of features, and lines between matched tokens.

    Args:
        source, target: volume, affine and modality.
        most: lines a row, drawn at random from all matches, in proportion.
        seed: of that draw.
    """
    with figure_grid(len(rows), 2, size=(4.0, 3.2)) as (figure, axes):
        for (left, right), row in zip(axes, rows, strict=True):
            cuts = []
            for axis, (volume, affine, modality), name in ((left, source, "labelled"), (right, target, "unlabelled")):
                low, high = display_window(modality) or (None, None)
                cuts.append(show_slice(axis, volume, affine, plane, vmin=low, vmax=high, title=name).slice)
            left.set_ylabel(row.title, fontsize=11)
            chosen = np.random.default_rng(seed).permutation(len(row.right))[:most]
            for number in sorted(chosen, key=lambda n: row.right[n]):
                ends = [cut.project(p[number])[:2] for cut, p in zip(cuts, (row.source_mm, row.target_mm), strict=True)]
                agrees = bool(row.right[number])
                line = ConnectionPatch(
                    *ends, "data", "data", axesA=left, axesB=right, color="#00A878" if agrees else "#D55E00",
                    linewidth=1.0 if agrees else 0.6, alpha=0.9 if agrees else 0.45,
                )  # fmt: skip
                figure.add_artist(line)
    return figure


def plot_over_target(
    target: tuple[Array, np.ndarray, str],
    columns: Mapping[str, Array],
    places: Sequence[Sequence[Real]],
    title: str = "",
    planes: Sequence[str] = ("coronal", "axial"),
    names: Mapping[int, str] | None = None,
) -> Figure:
    """Label maps on the target's grid, each outlined over the target in the colours of the labels.

    Args:
        target: volume, affine and modality.
        columns: title to label map [X, Y, Z].
        places: world mm, one for each plane.
        names: of the labels, which are written into those of the first column.
    """
    volume, affine, modality = target
    low, high = display_window(modality) or (None, None)
    with figure_grid(len(planes), len(columns), size=(3.2, 2.7)) as (figure, axes):
        for number, (name, labels) in enumerate(columns.items()):
            cuts = [oriented_slice(labels, affine, *where).image for where in zip(planes, places, strict=True)]
            named = name_once(cuts, names or {}) if number == 0 else [None] * len(planes)
            for row, (plane, place) in enumerate(zip(planes, places, strict=True)):
                look = {"vmin": low, "vmax": high, "labels": labels, "title": name if row == 0 else None}
                look["names"] = named[row]
                show_slice(axes[row, number], volume, affine, plane, place, **look)
        figure.suptitle(title, fontsize=13)
    return figure


def plot_curves(
    curves: Mapping[str, Mapping[int, Real]],
    title: str = "",
    of: str = "labelled bodies",
    label: str = "Dice in tokens, mean over organs",
) -> Figure:
    """A score against a count that doubles, such as labelled bodies or steps, a line for each way.

    Args:
        of: what is counted.
    """
    with figure_grid(1, 1, size=(6.4, 4.0)) as (figure, axes):
        axis = axes[0, 0]
        for (name, points), (colour, marker) in zip(curves.items(), STYLES, strict=False):
            axis.plot(list(points), list(points.values()), color=colour, marker=marker, markersize=8, label=name)
        counts = sorted({count for points in curves.values() for count in points})
        axis.set_xscale("log", base=2)
        axis.set_xticks(counts, [str(count) for count in counts])
        axis.set(xlabel=of, ylabel=label, ylim=(0, 1), title=title)
        axis.legend()
    return figure
