"""Figures of lesson 05: what is similar to an anchor patch (fig. 1B), and how much of that is its organ."""

import textwrap
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import NamedTuple

import numpy as np
from jaxtyping import Shaped
from matplotlib.figure import Figure
from torch import Tensor

from s2dc_core.plots.slices import PALETTE, figure_grid, label_words, oriented_slice, show_slice

ENCODER_COLOURS = ("#888888", PALETTE[1], PALETTE[5], PALETTE[2])
"""Of encoders in their order: grey for the untrained one, blue for L_g, red for S2DC, green for one of your own."""


class HeatmapRow(NamedTuple):
    """One anchor of one scan, and what each encoder makes of it.

    Attributes:
        title: what the anchor is.
        raw, affine: of the scan.
        window: (low, high) of its intensities, or None for its percentiles.
        anchor: the anchor's place in mm.
        outline: [X, Y, Z] whole numbers, outlined wherever they are not 0; or None.
        maps: panel title to (values on the token grid, affine of that grid); NaN stays clear.
        notes: panel title to a line below the panel; may be missing.
        plane: of the slices, which go through the anchor unless `position` says otherwise.
        position: mm along the plane's normal, or None.
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


def display_window(modality: str) -> tuple[Real, Real] | None:
    """(low, high) of what is worth seeing: soft tissue in CT (HU), 0 to 4 SUV in PET; None, the percentiles, in MR."""
    return {"ct": (-160, 240), "pet": (0, 4)}.get(modality)


def mean_note(inside: Real, outside: Real) -> str:
    """The line below a map: its mean in the anchor's structure and in the other ones; NaN for what has no token."""
    if np.isnan(inside):
        return "it fills half of no token"
    told = f"mean: {inside:.2f} inside"
    return told if np.isnan(outside) else f"{told}, {round(outside, 2) + 0.0:.2f} in others"


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
    size = (3.5, 3.5 * min(height / width, 1.3) + 0.55)
    colours = {"overlay_vmin": limits[0], "overlay_vmax": limits[1], "overlay_alpha": 1.0}
    with figure_grid(len(rows), 1 + len(names), size=size) as (figure, axes):
        for line, row in zip(axes, rows, strict=True):
            low, high = row.window or (None, None)
            view = {"plane": row.plane, "position": row.position, "mark": row.anchor, "vmin": low, "vmax": high}
            show_slice(line[0], row.raw, row.affine, labels=row.outline, title=wrapped(row.title), **view)
            for panel, name in zip(line[1:], names, strict=True):
                values, token_affine = row.maps[name]
                over = {"overlay": values, "overlay_affine": token_affine, "labels": row.outline, **colours}
                shown = show_slice(panel, row.raw, row.affine, title=name, **over, **view)
                panel.set_xlabel(row.notes.get(name, ""))
        low_end = "min" if any(float(np.nanmin(v)) < limits[0] for row in rows for v, _ in row.maps.values()) else None
        label = wrapped(bar, int(10 * size[1] * len(rows)))
        figure.colorbar(shown.overlay, ax=axes, shrink=0.9, aspect=30, label=label, extend=low_end or "neither")
        figure.suptitle(title, fontsize=14)
    return figure


def wrapped(title: str, width: int = 24) -> str:
    """Long names of structures on several lines, so that they stay over their panel."""
    return "\n".join(part for line in title.splitlines() for part in textwrap.wrap(line, width) or [""])


def plot_organ_scores(
    scores: Mapping[str, Mapping[tuple[str, str, str], Sequence[Real]]],
    title: str,
    guess: Mapping[str, Mapping[tuple[str, str], Real]] | None = None,
) -> Figure:
    """A row a measure, a column a kind of scan: each organ's scores by each encoder, a dot a body, a bar at the mean.

    Args:
        scores: measure, which is the axis label, to (kind of scan, encoder, organ) to one value a body. Kinds, encoders
            and organs are drawn in the order in which they come first.
        title: the message.
        guess: measure to (kind of scan, organ) to the score of a blind guess, drawn as a black dot; may be missing.

    Raises:
        ValueError: without any organ.
    """
    keys = list(next(iter(scores.values())))
    if not keys:
        raise ValueError("no organ has a score to draw: give a label map whose structures have tokens")
    kinds, encoders, organs = (list(dict.fromkeys(key[place] for key in keys)) for place in range(3))
    size = (4.2 if len(kinds) > 1 else 7.5, max(2.4, 0.4 * len(organs) + 0.9))
    with figure_grid(len(scores), len(kinds), size=size) as (figure, axes):
        for line, (measure, values) in zip(axes, scores.items(), strict=True):
            for panel, kind in zip(line, kinds, strict=True):
                for number, encoder in enumerate(encoders):
                    colour = ENCODER_COLOURS[number % len(ENCODER_COLOURS)]
                    rows = {organ: values.get((kind, encoder, organ), ()) for organ in organs}
                    offset = 0.24 * (number - (len(encoders) - 1) / 2)
                    dots = [(v, place + offset) for place, row in enumerate(rows.values()) for v in row]
                    means = [(np.mean(row), place + offset) for place, row in enumerate(rows.values()) if len(row)]
                    panel.plot(*zip(*dots, strict=True), "o", color=colour, markersize=3.5, alpha=0.45)
                    bars = {"color": colour, "markersize": 10, "markeredgewidth": 3, "label": encoder}
                    panel.plot(*zip(*means, strict=True), "|", **bars)
                for (where, organ), value in (guess or {}).get(measure, {}).items():
                    if where == kind:
                        panel.plot(value, organs.index(organ), "ko", markersize=3)
                panel.axvline(0, color="#BBBBBB", linewidth=1, zorder=0)
                panel.set(xlabel=measure, ylim=(len(organs) - 0.5, -0.5))
                names = list(map(label_words, organs)) if panel is line[0] else []
                panel.set_yticks(range(len(organs)) if names else [], names)
            ends = [panel.get_xlim() for panel in line]
            for panel in line:  # one scale, so that columns can be compared
                panel.set_xlim(min(low for low, _ in ends), max(high for _, high in ends))
        for panel, kind in zip(axes[0], kinds, strict=True):
            panel.set_title(kind)
        handles, names = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=len(names))
        figure.suptitle(title, fontsize=14)
    return figure


def plot_own_mirror_other(
    scores: Mapping[str, Shaped[np.ndarray, "bodies 3"]], names: Sequence[str], title: str
) -> Figure:
    """A panel an encoder: mean cosine of an anchor with its own organ, the mirrored one and all others, a line a body.

    Args:
        scores: encoder to [bodies, 3].
        names: of the three, for the axis.
        title: the message.
    """
    with figure_grid(1, len(scores), size=(3.6, 3.5)) as (figure, axes):
        for panel, (number, (encoder, values)) in zip(axes[0], enumerate(scores.items()), strict=True):
            colour = ENCODER_COLOURS[number % len(ENCODER_COLOURS)]
            panel.plot(range(3), values.T, "o-", color=colour, markersize=5, linewidth=1, alpha=0.55)
            panel.plot(range(3), values.mean(0), "_", color="black", markersize=26, markeredgewidth=3)
            panel.set(title=encoder, xlim=(-0.4, 2.4))
            panel.set_xticks(range(3), names)
        low = min(np.nanmin(values) for values in scores.values())
        for panel in axes[0]:
            panel.set_ylim(min(low, 0) - 0.05, 1.02)
            panel.axhline(0, color="#BBBBBB", linewidth=1, zorder=0)
        axes[0, 0].set_ylabel("mean cosine with the anchor")
        figure.suptitle(title, fontsize=14)
    return figure
