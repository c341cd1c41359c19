"""Figures of lesson 08: organs that a network found, what of them it missed and what it invented."""

from collections.abc import Mapping
from numbers import Real
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from s2dc_core.plots.colours import label_colour
from s2dc_core.plots.names import write_names
from s2dc_core.plots.orientation import PLANES, Array, OrientedSlice
from s2dc_core.plots.slices import ShownSlice, sample_on_slice, show_slice
from s2dc_core.plots.style import figure_grid

MISSED, INVENTED = "white", "black"


class Segmented(NamedTuple):
    """A case, and what was found in it.

    Attributes:
        volume, affine: of the scan.
        truth: [X, Y, Z] labels, 0 for none.
        found: title to labels on the same grid.
        notes: title to a line below its panel; may be missing.
    """

    volume: Array
    affine: np.ndarray
    truth: Array
    found: Mapping[str, Array]
    notes: Mapping[str, str] = {}


def fullest_place(label: Array, affine: np.ndarray, plane: str) -> np.ndarray:
    """A world point, mm, in the slice that shows most different labels, of equals in that with most labelled voxels.

    Raises:
        ValueError: for a label map without labels.
    """
    label = np.asarray(label)
    if not label.any():
        raise ValueError("the label map holds no label: no slice shows one")
    axis = int(np.abs(np.asarray(affine)[PLANES[plane][0], :3]).argmax())
    slices = np.moveaxis(label, axis, 0)
    organs = [one[one > 0] for one in slices]
    best = max(range(len(slices)), key=lambda k: (len(np.unique(organs[k])), organs[k].size))
    cells = np.argwhere(slices[best]).mean(0)
    return (np.asarray(affine) @ [*np.insert(cells, axis, best), 1.0])[:3]


def errors_of(truth: Array, found: Array) -> np.ndarray:
    """Labels where they are right, -1 for a missed organ's voxel, -2 for one that has the wrong label or no organ."""
    truth, found = np.asarray(truth).astype(int), np.asarray(found).astype(int)
    return np.where(found == truth, truth, np.where(found == 0, -1, -2))


def plot_segmented(
    cases: Mapping[str, Segmented],
    names: Mapping[int, str],
    plane: str = "coronal",
    title: str = "",
    margin: Real = 15.0,
) -> Figure:
    """A row a case, cut where most organs are seen: the truth with its names, then what each start found.

    Organs are filled where they are right, white where they are missed, black where a voxel got a label that it should
    not have.

    Args:
        cases: all with the same starts.
        margin: mm that are shown around the organs of the truth.
    """
    starts = list(next(iter(cases.values())).found)
    with figure_grid(len(cases), 1 + len(starts), size=(4.2, 3.4)) as (figure, axes):
        for row, (line, (name, case)) in enumerate(zip(axes, cases.items(), strict=True)):
            place = fullest_place(case.truth, case.affine, plane)
            shown = {"truth": np.asarray(case.truth).astype(int)}
            shown |= {start: errors_of(case.truth, found) for start, found in case.found.items()}
            for axis, (what, labels) in zip(line, shown.items(), strict=True):
                drawn = _fill(axis, case, labels, plane, place)
                organs = sample_on_slice(case.truth, case.affine, drawn.slice)
                if what == "truth":
                    write_names(axis, drawn.slice, organs, names, [drawn.image, drawn.overlay])
                _crop(axis, drawn.slice, organs, margin)
                axis.set_title("" if row else what)
                axis.set_xlabel(case.notes.get(what, ""))
            line[0].set_ylabel(name)
        marks = [Patch(facecolor=colour, edgecolor="black") for colour in (MISSED, INVENTED)]
        figure.legend(marks, ["missed", "invented, or another organ's"], loc="outside lower center", ncols=2)
        figure.suptitle(title, fontsize=13)
    return figure


def _fill(axes: Axes, case: Segmented, labels: np.ndarray, plane: str, place: np.ndarray) -> ShownSlice:
    """The scan, pale, and over it labels in their colours, errors in white and black."""
    low, high = np.percentile(np.asarray(case.volume), (0.5, 99.5))
    last = max(int(labels.max()), 1)
    colours = ListedColormap([INVENTED, MISSED, "none", *map(label_colour, range(1, last + 1))])
    over = np.where(labels == 0, np.nan, labels.astype(float))
    view = {"vmin": low - 0.6 * (high - low), "vmax": high + 0.3 * (high - low)}
    fill = {"overlay": over, "overlay_cmap": colours, "overlay_vmin": -2.5, "overlay_vmax": last + 0.5}
    return show_slice(axes, case.volume, case.affine, plane, place, **view, **fill, overlay_alpha=0.9)


def _crop(axes: Axes, cut: OrientedSlice, labels: np.ndarray, margin: Real) -> None:
    rows, columns = np.nonzero(np.nan_to_num(labels))
    x, y = cut.picture(columns, rows)
    axes.set(xlim=(x.max() + margin, x.min() - margin), ylim=(y.min() - margin, y.max() + margin))
