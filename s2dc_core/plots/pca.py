"""Figures of lesson 07: tokens as colours (fig. 6), how the colours come about (fig. 7), which organs come first."""

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from s2dc_core.plots.heatmaps import wrapped
from s2dc_core.plots.slices import figure_grid, label_words, oriented_slice, show_slice

LARGE_TO_SMALL = ("#08519C", "#3182BD", "#6BAED6", "#FDAE6B", "#E6550D", "#A63603")


class ColourRow(NamedTuple):
    """One scan, and what each encoder's principal components make of it.

    Attributes:
        title: what the scan is.
        raw, affine: of the scan.
        window: (low, high) of its intensities, or None for its percentiles.
        maps: panel title to (colours [x, y, z, 3] on the token grid, affine of that grid).
        notes: panel title to a line below the panel; may be missing.
        plane, position: of the slice, as for `oriented_slice`.
    """

    title: str
    raw: Tensor
    affine: np.ndarray
    window: tuple[Real, Real] | None
    maps: Mapping[str, tuple[Tensor, np.ndarray]]
    notes: Mapping[str, str] = {}
    plane: str = "coronal"
    position: Real | Sequence[Real] | np.ndarray | None = None


def as_colours(
    components: Float[Tensor, "x y z 3"], body: Bool[Tensor, "x y z"], limits: Float[Tensor, "2 3"] | None = None
) -> tuple[Float[Tensor, "x y z 3"], Float[Tensor, "2 3"]]:
    """Three components as red, green and blue in [0, 1]; black outside the body.

    Args:
        components: of pca_map.
        body: the tokens to be coloured.
        limits: what is drawn darkest and brightest of each; default: the 2 and 98 percentiles in the body, or of all
            tokens where none is in it.

    Returns:
        The colours, and the limits for another map that is to be compared with this one.
    """
    if limits is None:
        seen = components[body] if body.any() else components.flatten(0, 2)
        limits = torch.quantile(seen, torch.tensor([0.02, 0.98]), dim=0)
    colours = ((components - limits[0]) / (limits[1] - limits[0]).clamp(min=1e-9)).clamp(0, 1)
    return torch.where(body[..., None], colours, 0.0), limits


def plot_colour_rows(rows: Sequence[ColourRow], title: str, note: str = "") -> Figure:
    """A row a scan, named at its left edge: one slice of it, then the same slice in the colours of each panel.

    Rows of one scan show it once, on the left of them all.

    Args:
        rows: all with the same number of panels; panel titles stand above the first of those rows that share them.
        title: the message.
        note: in small type below.
    """
    cuts = [oriented_slice(row.raw, row.affine, row.plane, row.position) for row in rows]
    shape = max(abs((cut.extent[3] - cut.extent[2]) / (cut.extent[1] - cut.extent[0])) for cut in cuts)
    width = 3.1 if len(rows[0].maps) < 5 else 2.5
    once = len(rows) > 1 and all(row.raw is rows[0].raw for row in rows)
    with figure_grid(len(rows), 1 + len(rows[0].maps), size=(width, width * min(shape, 1.4) + 0.4)) as (figure, axes):
        for number, (line, row) in enumerate(zip(axes, rows, strict=True)):
            low, high = row.window or (None, None)
            view = {"plane": row.plane, "position": row.position, "vmin": low, "vmax": high}
            if number == 0 or not once:
                show_slice(line[0], row.raw, row.affine, **view)
            named = number == 0 or list(row.maps) != list(rows[number - 1].maps)
            for panel, (name, (colours, affine)) in zip(line[1:], row.maps.items(), strict=True):
                over = {"overlay": colours, "overlay_affine": affine, "overlay_alpha": 1.0}
                show_slice(panel, row.raw, row.affine, title=name if named else "", **over, **view)
                panel.set_xlabel(row.notes.get(name, ""))
            line[1 if once else 0].set_ylabel(wrapped(row.title), fontsize=12)
        if once:
            grid = axes[0, 0].get_gridspec()
            grid.set_width_ratios([min(len(rows), 2.4), *[1] * (grid.ncols - 1)])
            axes[0, 0].set_subplotspec(grid[:, 0])
            for axis in axes[1:, 0]:
                axis.remove()
        figure.suptitle(title, fontsize=14)
        figure.supxlabel(note, fontsize=10, color="#444444")
    return figure


def plot_learning_order(
    steps: Sequence[int],
    curves: Mapping[str, Shaped[np.ndarray, " steps"]],
    volumes: Mapping[str, Real],
    halves: Mapping[str, Real],
    title: str,
    measure: str = "cohesion",
    single: Mapping[str, Sequence[Real]] | None = None,
    named: int = 3,
) -> Figure:
    """Left curves over the steps, of the largest and smallest organs in colour; right the step of half the gain.

    Args:
        steps: of the snapshots, drawn as lines on the right.
        curves: organ to its measure at each step.
        volumes: organ to ml; large organs are on top.
        halves: organ to the step at which it first has half of its final gain; organs that gained nothing are missing.
        title: the message.
        measure: name of what is measured.
        single: organ to its steps in single bodies, drawn as small dots; may be missing.
        named: how many of the largest, and of the smallest, have a colour and a name; the others are grey.
    """
    rows = sorted(volumes, key=volumes.get, reverse=True)
    shown = list(dict.fromkeys([*rows[:named], *rows[max(len(rows) - named, 0) :]]))
    shades = dict.fromkeys(rows, "#BBBBBB") | dict(zip(shown, LARGE_TO_SMALL, strict=False))
    with figure_grid(1, 2, size=(6.0, max(3.4, 0.28 * len(rows) + 1.2))) as (figure, axes):
        left, right = axes[0]
        for organ in [*(organ for organ in rows if organ not in shown), *shown]:
            strong = organ in shown
            look = {"color": shades[organ], "linewidth": 2.4 if strong else 1.0, "zorder": 3 if strong else 1}
            left.plot(steps, curves[organ], marker="o", markersize=4, **look)
            if organ in halves:
                right.plot(halves[organ], rows.index(organ), "o", color=shades[organ], markersize=9)
        _name_ends(left, steps[-1], {organ: (curves[organ][-1], shades[organ]) for organ in shown})
        left.set(xlabel="training step", ylabel=measure, xlim=(-0.03 * max(steps), 1.4 * max(steps)))
        for organ, values in (single or {}).items():
            right.plot(values, [rows.index(organ)] * len(values), ".", color="#444444", markersize=5)
        for step in steps:
            right.axvline(step, color="#DDDDDD", linewidth=1, zorder=0)
        right.set(xlabel="step at which half of the gain is first reached", ylim=(len(rows) - 0.5, -0.5))
        right.set_xlim(min(steps), max(steps))
        right.set_yticks(range(len(rows)), [f"{label_words(organ)} ({volumes[organ]:.0f} ml)" for organ in rows])
        figure.suptitle(title, fontsize=13)
    return figure


def _name_ends(axes: Axes, step: Real, ends: Mapping[str, tuple[Real, str]]) -> None:
    """Names of curves beside their last points, moved up where they would touch."""
    low, high = axes.get_ylim()
    last = -np.inf
    for organ, (value, colour) in sorted(ends.items(), key=lambda item: item[1][0]):
        last = max(value, last + 0.06 * (high - low))
        axes.text(1.03 * step, last, label_words(organ), color=colour, va="center", fontsize=10)


SIGN_COLOURS = {"brightness": "#E69F00", "organ": "#0072B2"}


def plot_followed(shares: Mapping[str, Mapping[tuple[str, str], Real]], title: str) -> Figure:
    """How much of the three components each explanation covers: a row for each encoder and kind of scan.

    Args:
        shares: explanation ("brightness", "organ") to (kind of scan, encoder) to a share in [0, 1].
        title: the message.
    """
    keys = list(next(iter(shares.values())))
    encoders = list(dict.fromkeys(encoder for _, encoder in keys))
    keys.sort(key=lambda key: encoders.index(key[1]))
    with figure_grid(1, 1, size=(7.0, 0.36 * len(keys) + 1.5)) as (figure, axes):
        panel = axes[0, 0]
        for place, key in enumerate(keys):
            ends = [values[key] for values in shares.values()]
            panel.plot([min(ends), max(ends)], [place, place], color="#BBBBBB", linewidth=1.5, zorder=1)
            if encoders.index(key[1]) % 2:
                panel.axhspan(place - 0.5, place + 0.5, color="#F0F0F0", zorder=0)
        for (what, values), marker in zip(shares.items(), "os", strict=False):
            look = {"markersize": 8, "label": what, "color": SIGN_COLOURS[what]}
            panel.plot([values[key] for key in keys], range(len(keys)), marker, **look)
        panel.set(xlim=(0, 1), ylim=(len(keys) - 0.5, -0.5), title=title)
        panel.set_xlabel("share of the three components explained")
        panel.set_yticks(range(len(keys)), [f"{encoder}, {kind}" for kind, encoder in keys])
        figure.legend(loc="outside lower center", ncols=len(shares))
    return figure
