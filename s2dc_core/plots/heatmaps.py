"""Figures of lesson 05: what is similar to an anchor patch (fig. 1B), and how much of that is its organ."""

import re
import textwrap
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Shaped
from matplotlib.figure import Figure
from torch import Tensor

from s2dc_core.plots.slices import PALETTE, figure_grid, oriented_slice, show_slice

HEAT = plt.get_cmap("inferno").with_extremes(bad="#5A5A5A")
"""Colours of a map; where it has no value it is grey, so that no sliver of the scan shines through."""

BLUE, RED, GREY = PALETTE[6], PALETTE[5], "#888888"

ENCODER_COLOURS = ("#888888", PALETTE[1], PALETTE[5], PALETTE[2])
"""Of encoders in their order: grey for the untrained one, blue for L_g, red for S2DC, green for one of your own."""


class HeatmapRow(NamedTuple):
    """One anchor of one scan, and what each encoder makes of it.

    Attributes:
        title: what the anchor is.
        raw, affine: of the scan.
        window: (low, high) of its intensities, or None for its percentiles.
        anchor: the anchor's place in mm.
        outline: [X, Y, Z] labels, outlined in their colours on the scan and in white on the maps; or None.
        maps: panel title to (values on the token grid, affine of that grid); NaN is drawn grey.
        notes: panel title to lines below the panel; may be missing.
        plane: of the slices, which go through the anchor unless `position` says otherwise.
        position: mm along the plane's normal, or None.
        outlined_maps: whether the maps are outlined as the scan is; a thin sheet would be hidden by its own outline.
    """

    title: str
    raw: Tensor
    affine: np.ndarray
    window: tuple[Real, Real] | None
    anchor: Sequence[Real] | np.ndarray
    outline: Tensor | None
    maps: Mapping[str, tuple[Tensor, np.ndarray]]
    notes: Mapping[str, str] = {}
    plane: str = "axial"
    position: Real | None = None
    outlined_maps: bool = True


def display_window(modality: str) -> tuple[Real, Real] | None:
    """(low, high) of what is worth seeing: soft tissue in CT (HU), 0 to 4 SUV in PET; None, the percentiles, in MR."""
    return {"ct": (-160, 240), "pet": (0, 4)}.get(modality)


def mean_note(inside: Real, outside: Real) -> str:
    """The line below a map: its mean in the anchor's structure and in the other ones; NaN for what has no token."""
    if np.isnan(inside):
        return "it fills half of no token"
    told = f"mean inside {inside:.2f}"
    return told if np.isnan(outside) else f"{told}, others {round(outside, 2) + 0.0:.2f}"


def plot_heatmap_rows(
    rows: Sequence[HeatmapRow],
    title: str,
    bar: str = "cosine with the anchor patch",
    limits: tuple[Real, Real] = (0, 1),
) -> Figure:
    """A row an anchor: the scan with the anchor (+) and its structure, then the map of each encoder over it.

    Args:
        rows: all with the same panels.
        title: the message.
        bar, limits: of the one colour bar that all panels share; what lies below it is drawn in its darkest colour.
    """
    names = list(rows[0].maps)
    shape = oriented_slice(rows[0].raw, rows[0].affine, rows[0].plane, rows[0].anchor)
    width, height = abs(shape.extent[0] - shape.extent[1]), abs(shape.extent[3] - shape.extent[2])
    titles = [wrapped(row.title) for row in rows]
    lines = max(t.count("\n") for t in (*titles, *names)) + max(_lines(row.notes) for row in rows)
    size = (3.5, 3.5 * min(height / width, 1.3) + 0.35 + 0.2 * lines)
    colours = {"overlay_vmin": limits[0], "overlay_vmax": limits[1], "overlay_alpha": 1.0, "overlay_cmap": HEAT}
    with figure_grid(len(rows), 1 + len(names), size=size) as (figure, axes):
        for panels, row, title_of_row in zip(axes, rows, titles, strict=True):
            low, high = row.window or (None, None)
            view = {"plane": row.plane, "position": row.position, "mark": row.anchor, "vmin": low, "vmax": high}
            outlines = [row.outline, row.outline if row.outlined_maps else None]
            show_slice(panels[0], row.raw, row.affine, labels=outlines[0], title=title_of_row, **view)
            for panel, name in zip(panels[1:], names, strict=True):
                values, token_affine = row.maps[name]
                over = {"overlay": values, "overlay_affine": token_affine, "labels": outlines[1], **colours}
                shown = show_slice(panel, row.raw, row.affine, title=in_formulas(name), **over, **view)
                panel.set_xlabel(row.notes.get(name, ""))
        low_end = "min" if any(float(np.nanmin(v)) < limits[0] for row in rows for v, _ in row.maps.values()) else None
        label = wrapped(bar, int(10 * size[1] * len(rows)))
        bar_of = {"shrink": 0.9, "aspect": 30, "pad": 0.01, "label": label, "extend": low_end or "neither"}
        figure.colorbar(shown.overlay, ax=axes, **bar_of)
        figure.suptitle(title, fontsize=14)
    return figure


def _lines(notes: Mapping[str, str]) -> int:
    """Lines that the longest note takes."""
    return max((note.count("\n") + 1 for note in notes.values() if note), default=0)


def in_formulas(name: str) -> str:
    """A plain L_g, as printed lines and widgets write it, as a figure's formula; what is a formula already stays."""
    return name if "$" in name else re.sub(r"\bL_(\w+)", r"$L_{\1}$", name)


def wrapped(title: str, width: int = 24) -> str:
    """Long names of structures on several lines, so that they stay over their panel."""
    return "\n".join(part for line in title.splitlines() for part in textwrap.wrap(line, width) or [""])


def plot_comparisons(
    rows: Sequence[tuple[str, str, str, Real, Real, Real]], title: str = "", unit: str = "difference"
) -> Figure:
    """Differences with their intervals: a panel a measure, a line a comparison and kind of scan.

    Blue where the whole interval lies above zero, red where it lies below, grey where it is not decided.

    Args:
        rows: (measure, comparison, kind of scan, mean, low, high); a NaN interval draws the mean alone.
        unit: of the axes.

    Raises:
        ValueError: without any row.
    """
    if not rows:
        raise ValueError("there is nothing to compare: give a label map whose structures have tokens")
    measures, compared, kinds = (list(dict.fromkeys(row[place] for row in rows)) for place in range(3))
    step = len(kinds) + 0.8  # a gap between comparisons
    places = {(c, k): step * i + j for i, c in enumerate(compared) for j, k in enumerate(kinds)}
    with figure_grid(1, len(measures), size=(3.9, 1.3 + 0.27 * step * len(compared))) as (figure, axes):
        for panel, measure in zip(axes[0], measures, strict=True):
            for name, comparison, kind, mean, low, high in rows:
                if name == measure:
                    colour = BLUE if low > 0 else RED if high < 0 else GREY
                    place = places[comparison, kind]
                    panel.plot([low, high], [place] * 2, color=colour, linewidth=3, solid_capstyle="butt", alpha=0.7)
                    panel.plot(mean, place, "o", color=colour, markersize=7, markeredgecolor="black")
            panel.axvline(0, color="black", linewidth=0.8)
            panel.set(title=measure, xlabel=unit, ylim=(step * len(compared) - 0.8, -0.8))
            panel.set_yticks(list(places.values()), [kind for _, kind in places] if panel is axes[0, 0] else [])
            panel.tick_params(axis="y", length=0)
        for number, comparison in enumerate(compared):
            middle = step * number + (len(kinds) - 1) / 2
            look = {"transform": axes[0, 0].get_yaxis_transform(), "va": "center", "ha": "right"}
            axes[0, 0].text(-0.24, middle, wrapped(in_formulas(comparison), 20), **look)
        figure.suptitle(title, fontsize=14)
    return figure


def plot_by_tissue(
    scores: Mapping[str, Shaped[np.ndarray, "bodies tissues"]], names: Sequence[str], title: str
) -> Figure:
    """A panel an encoder: mean cosine of an anchor with each tissue, the anchor's own first; a line a body.

    Args:
        scores: encoder to [bodies, tissues].
        names: of the tissues, for the axis.
        title: the message.
    """
    count = len(names)
    with figure_grid(1, len(scores), size=(0.95 * count, 3.5)) as (figure, axes):
        for panel, (number, (encoder, values)) in zip(axes[0], enumerate(scores.items()), strict=True):
            colour = ENCODER_COLOURS[number % len(ENCODER_COLOURS)]
            panel.plot(range(count), values.T, "o-", color=colour, markersize=5, linewidth=1, alpha=0.55)
            panel.plot(range(count), values.mean(0), "_", color="black", markersize=24, markeredgewidth=3)
            panel.set(title=encoder, xlim=(-0.5, count - 0.5))
            panel.set_xticks(range(count), names, fontsize=10)
        low = min(np.nanmin(values) for values in scores.values())
        for panel in axes[0]:
            panel.set_ylim(min(low, 0) - 0.05, 1.02)
            panel.axhline(0, color="#BBBBBB", linewidth=1, zorder=0)
        axes[0, 0].set_ylabel("mean cosine with the anchor")
        figure.suptitle(title, fontsize=14)
    return figure
