"""Figures of notebook 12: labels found in another patient, matches between two, and what each way is worth."""

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import NamedTuple

import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import ConnectionPatch

from s2dc_core.plots.heatmaps import display_window
from s2dc_core.plots.slices import PALETTE, Array, figure_grid, oriented_slice, show_slice

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


def plot_found_labels(
    columns: Sequence[FoundLabels], title: str = "", planes: Sequence[str] = ("coronal", "axial"), small: str = ""
) -> Figure:
    """A column for each way of finding labels, a row for each plane; colours are those of the labels.

    Args:
        small: a line in small type below.
    """
    colours = ListedColormap(PALETTE)
    with figure_grid(len(planes), len(columns), size=(2.6, 2.3)) as (figure, axes):
        for number, column in enumerate(columns):
            labels = np.asarray(column.found).astype(float)
            shown = np.where(labels > 0, (labels - 1) % len(PALETTE), np.nan)
            low, high = display_window(column.modality) or (None, None)
            weight = "bold" if column.strong else "normal"
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
                    overlay_vmax=len(PALETTE) - 0.5,
                    overlay_alpha=0.65,
                )
                if column.outline is not None:
                    _outlined(axis, column, plane, place, drawn.slice.extent)
                axis.set_xlabel(column.note if row == len(planes) - 1 else "", fontsize=11, fontweight=weight)
            axes[0, number].set_title(column.title, fontsize=11, fontweight=weight)
        figure.suptitle(title, fontsize=13)
        if small:
            figure.supxlabel(small, fontsize=8.5, color="#444444")
    return figure


def _outlined(axis, column: FoundLabels, plane: str, place: Sequence[Real], extent: tuple) -> None:
    """White lines around each label of the truth."""
    cut = oriented_slice(np.asarray(column.outline), column.affine, plane, place)
    rows, columns = cut.image.shape
    x = extent[0] + (np.arange(columns) + 0.5) * (extent[1] - extent[0]) / columns
    y = extent[2] + (np.arange(rows) + 0.5) * (extent[3] - extent[2]) / rows
    for label in np.unique(cut.image):
        if label:
            axis.contour(x, y, (cut.image == label).astype(float), [0.5], colors="white", linewidths=0.8)


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
) -> Figure:
    """Label maps on the target's grid, each outlined over the target in the colours of the labels.

    Args:
        target: volume, affine and modality.
        columns: title to label map [X, Y, Z].
        places: world mm, one for each plane.
    """
    volume, affine, modality = target
    low, high = display_window(modality) or (None, None)
    with figure_grid(len(planes), len(columns), size=(3.2, 2.7)) as (figure, axes):
        for number, (name, labels) in enumerate(columns.items()):
            for row, (plane, place) in enumerate(zip(planes, places, strict=True)):
                words = name if row == 0 else None
                show_slice(
                    axes[row, number], volume, affine, plane, place, vmin=low, vmax=high, labels=labels, title=words
                )
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
