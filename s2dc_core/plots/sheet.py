"""A contact sheet: many scans at a glance."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from s2dc_core.plots.names import name_once
from s2dc_core.plots.slices import PLANES, figure_grid, oriented_slice, show_slice


class SheetEntry(NamedTuple):
    """A scan of a contact sheet: its title, volume [X, Y, Z], affine, label map or None, and window (low, high)."""

    title: str
    volume: np.ndarray
    affine: np.ndarray
    label: np.ndarray | None
    window: tuple[float | None, float | None]


def contact_sheet(title: str, entries: Iterable[SheetEntry], names: Mapping[int, str], count: int) -> Figure:
    """Three slices of each scan, two scans to a row, with the outlines of labels; each is named where it shows most.

    Args:
        entries: read one at a time, so that only one is in memory.
        names: of the labels.
        count: of the entries.
    """
    rows, across = (count + 1) // 2, min(count, 2)
    with figure_grid(rows, 3 * across, (2.4, 2.6)) as (figure, axes):
        for k, entry in enumerate(entries):
            row, middle = axes[k // 2, 3 * (k % 2) : 3 * (k % 2) + 3], _middle(entry)
            for place, plane, named in zip(row, PLANES, _named(entry, middle, names), strict=True):
                low, high = entry.window
                look = {"vmin": low, "vmax": high, "labels": entry.label, "names": named}
                show_slice(place, entry.volume, entry.affine, plane, middle, **look)
            row[0].set_title(_short(entry.title), loc="left", fontsize=9)
        for place in axes.flat[3 * count :]:
            place.set_axis_off()
        figure.suptitle(title)
    return figure


def _named(entry: SheetEntry, middle: np.ndarray, names: Mapping[int, str]) -> list[dict[int, str]]:
    """The labels to be named in each plane."""
    if entry.label is None:
        return [{} for _ in PLANES]
    cuts = [oriented_slice(entry.label, entry.affine, plane, middle).image for plane in PLANES]
    return name_once(cuts, {int(k): names.get(int(k), f"label {k}") for cut in cuts for k in np.unique(cut) if k})


def _short(text: str, most: int = 60) -> str:
    return text if len(text) <= most else f"...{text[3 - most :]}"


def _middle(entry: SheetEntry) -> np.ndarray:
    """World mm of the middle of what is labelled, or of the volume."""
    inside = None if entry.label is None else np.argwhere(entry.label > 0)
    whole = (np.array(entry.volume.shape) - 1) / 2
    voxel = np.round(whole if inside is None or not len(inside) else (inside.min(0) + inside.max(0)) / 2)
    return (entry.affine @ [*voxel, 1.0])[:3]
