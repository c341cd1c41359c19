"""A contact sheet: many scans at a glance."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from s2dc_core.plots.slices import PLANES, figure_grid, label_colour, show_slice


class SheetEntry(NamedTuple):
    """A scan of a contact sheet: its title, volume [X, Y, Z], affine, label map or None, and window (low, high)."""

    title: str
    volume: np.ndarray
    affine: np.ndarray
    label: np.ndarray | None
    window: tuple[float | None, float | None]


def contact_sheet(title: str, entries: Iterable[SheetEntry], names: Mapping[int, str], count: int) -> Figure:
    """Three slices of each scan, two scans to a row, with the outlines of labels and a legend of those that show.

    Args:
        entries: read one at a time, so that only one is in memory.
        names: of the labels.
        count: of the entries.
    """
    rows, across = (count + 1) // 2, min(count, 2)
    with figure_grid(rows, 3 * across, (2.4, 2.6)) as (figure, axes):
        shown: set[int] = set()
        for k, entry in enumerate(entries):
            row = axes[k // 2, 3 * (k % 2) : 3 * (k % 2) + 3]
            for place, plane in zip(row, PLANES, strict=True):
                low, high = entry.window
                show_slice(
                    place, entry.volume, entry.affine, plane, _middle(entry), vmin=low, vmax=high, labels=entry.label
                )
            row[0].set_title(_short(entry.title), loc="left", fontsize=9)
            shown |= set() if entry.label is None else set(map(int, np.unique(entry.label))) - {0}
        for place in axes.flat[3 * count :]:
            place.set_axis_off()
        handles = [Line2D([], [], color=label_colour(k), label=names.get(k, f"label {k}")) for k in sorted(shown)]
        if handles:
            figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 5), fontsize=9)
        figure.suptitle(title)
    return figure


def _short(text: str, most: int = 60) -> str:
    return text if len(text) <= most else f"...{text[3 - most :]}"


def _middle(entry: SheetEntry) -> np.ndarray:
    """World mm of the middle of what is labelled, or of the volume."""
    inside = None if entry.label is None else np.argwhere(entry.label > 0)
    whole = (np.array(entry.volume.shape) - 1) / 2
    voxel = np.round(whole if inside is None or not len(inside) else (inside.min(0) + inside.max(0)) / 2)
    return (entry.affine @ [*voxel, 1.0])[:3]
