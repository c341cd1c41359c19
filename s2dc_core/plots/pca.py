"""Figures of lesson 07: tokens as colours (fig. 6), how the colours come about (fig. 7), which organs come first."""

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from torch import Tensor

from s2dc_core.plots.heatmaps import ENCODER_COLOURS, wrapped
from s2dc_core.plots.slices import PALETTE, figure_grid, label_words, oriented_slice, show_slice


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


def plot_colour_rows(rows: Sequence[ColourRow], title: str) -> Figure:
    """A row a scan: one slice of it, then the same slice in the colours of each panel.

    Args:
        rows: all with the same number of panels.
        title: the message.
    """
    cuts = [oriented_slice(row.raw, row.affine, row.plane, row.position) for row in rows]
    shape = max(abs((cut.extent[3] - cut.extent[2]) / (cut.extent[1] - cut.extent[0])) for cut in cuts)
    width = 3.1 if len(rows[0].maps) < 5 else 2.5
    with figure_grid(len(rows), 1 + len(rows[0].maps), size=(width, width * min(shape, 1.4) + 0.6)) as (figure, axes):
        for line, row in zip(axes, rows, strict=True):
            low, high = row.window or (None, None)
            view = {"plane": row.plane, "position": row.position, "vmin": low, "vmax": high}
            show_slice(line[0], row.raw, row.affine, title=wrapped(row.title), **view)
            for panel, (name, (colours, affine)) in zip(line[1:], row.maps.items(), strict=True):
                over = {"overlay": colours, "overlay_affine": affine, "overlay_alpha": 1.0}
                show_slice(panel, row.raw, row.affine, title=name, **over, **view)
                panel.set_xlabel(row.notes.get(name, ""))
        figure.suptitle(title, fontsize=14)
    return figure


def plot_variance_shares(shares: Mapping[tuple[str, str], Sequence[Real]], title: str) -> Figure:
    """Share of the tokens' variance that each component carries, stacked, a bar for each kind of scan and encoder.

    Args:
        shares: (kind of scan, encoder) to the shares of the components, the first one first.
        title: the message.
    """
    kinds, encoders = (list(dict.fromkeys(key[place] for key in shares)) for place in range(2))
    with figure_grid(1, 1, size=(2.2 + 1.8 * len(kinds), 3.6)) as (figure, axes):
        panel, wide = axes[0, 0], 0.8 / len(encoders)
        for number, encoder in enumerate(encoders):
            colour = ENCODER_COLOURS[number % len(ENCODER_COLOURS)]
            for place, kind in enumerate(kinds):
                left, bottom = place + wide * (number - (len(encoders) - 1) / 2), 0.0
                for order, share in enumerate(shares[kind, encoder]):
                    named = encoder if not order and not place else None
                    look = {"color": colour, "alpha": 1 - 0.27 * order, "edgecolor": "white", "label": named}
                    panel.bar(left, share, wide, bottom=bottom, **look)
                    bottom += share
        panel.set(ylabel="share of the variance", ylim=(0, 1))
        panel.set_xticks(range(len(kinds)), kinds)
        panel.set_title(title)
        figure.legend(loc="outside lower center", ncols=len(encoders))
    return figure


def plot_learning_order(
    steps: Sequence[int],
    curves: Mapping[str, Shaped[np.ndarray, " steps"]],
    volumes: Mapping[str, Real],
    halves: Mapping[str, Real],
    title: str,
    measure: str = "cohesion",
    single: Mapping[str, Sequence[Real]] | None = None,
) -> Figure:
    """Left each organ's curve over the steps, coloured by volume; right the step of half its gain, large organs on top.

    Args:
        steps: of the snapshots, drawn as lines on the right.
        curves: organ to its measure at each step.
        volumes: organ to ml.
        halves: organ to the step at which half of its final gain is reached; organs that gained nothing are missing.
        title: of the right panel, the message.
        measure: name of what is measured.
        single: organ to its steps in single bodies, drawn as small dots; may be missing.
    """
    norm, colours = LogNorm(min(volumes.values()), max(volumes.values())), plt.get_cmap("viridis_r")
    shades = {organ: colours(norm(volume)) for organ, volume in volumes.items()}
    rows = sorted(volumes, key=volumes.get, reverse=True)
    with figure_grid(1, 2, size=(6.0, max(3.4, 0.28 * len(rows) + 1.2))) as (figure, axes):
        left, right = axes[0]
        for organ, curve in curves.items():
            look = {"color": shades[organ], "linestyle": "-" if organ in halves else ":"}
            left.plot(steps, curve, marker="o", markersize=4, **look)
        left.set(xlabel="training step", ylabel=measure, title=f"{measure} of each organ (dotted: no gain)")
        for organ, half in halves.items():
            right.plot(half, rows.index(organ), "o", color=shades[organ], markersize=9)
        for organ, values in (single or {}).items():
            right.plot(values, [rows.index(organ)] * len(values), ".", color="#777777", markersize=5)
        for step in steps:
            right.axvline(step, color="#DDDDDD", linewidth=1, zorder=0)
        right.set(xlabel="step of half the gain", ylim=(len(rows) - 0.5, -0.5), title=title)
        right.set_xlim(min(steps), max(steps))
        names = [f"{label_words(organ)} ({volumes[organ]:.0f} ml)" for organ in rows]
        right.set_yticks(range(len(rows)), names)
        figure.colorbar(plt.cm.ScalarMappable(norm, colours), ax=left, label="volume (ml)", aspect=30)
    return figure


SIGN_COLOURS = {"brightness": PALETTE[0], "organ": PALETTE[6]}


def plot_followed(shares: Mapping[str, Mapping[tuple[str, str], Real]], title: str) -> Figure:
    """How much of the three components each explanation covers: a row of dots for each kind of scan and encoder.

    Args:
        shares: explanation ("brightness", "organ") to (kind of scan, encoder) to a share in [0, 1].
        title: the message.
    """
    keys = list(next(iter(shares.values())))
    with figure_grid(1, 1, size=(7.0, 0.36 * len(keys) + 1.5)) as (figure, axes):
        panel = axes[0, 0]
        for what, values in shares.items():
            panel.plot(
                [values[key] for key in keys], range(len(keys)), "o", markersize=8, label=what, color=SIGN_COLOURS[what]
            )
        for place, key in enumerate(keys):
            ends = [values[key] for values in shares.values()]
            panel.plot([min(ends), max(ends)], [place, place], color="#BBBBBB", linewidth=1.5, zorder=0)
        panel.set(
            xlim=(0, 1), ylim=(len(keys) - 0.5, -0.5), xlabel="share of the three components explained", title=title
        )
        panel.set_yticks(range(len(keys)), [", ".join(key) for key in keys])
        figure.legend(loc="outside lower center", ncols=len(shares))
    return figure
