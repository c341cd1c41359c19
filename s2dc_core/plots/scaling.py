"""Figures of lesson 02b: what the clamp does, and what the losses hold, as the number of tokens grows."""

from collections.abc import Mapping, Sequence
from numbers import Real

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from s2dc_core.plots.assignment import GREY, LINES, plain_ticks
from s2dc_core.plots.slices import figure_grid


def plot_clamped_confidences(
    curves: Mapping[str, tuple[Sequence[Real], Sequence[Real]]],
    clamped: Mapping[str, tuple[Sequence[Real], Sequence[Real]]],
    pull: Mapping[str, tuple[Sequence[Real], Sequence[Real]]],
    clamp: Real,
    grids: Sequence[int] = (),
) -> Figure:
    """Against the number of tokens N: confidence of a true pair, share of true pairs clamped, pull on a token.

    Args:
        curves: name to (N, confidence of a true pair), closed forms.
        clamped: name to (N, share of true pairs below the clamp), measured.
        pull: name to (N, gradient norm), measured.
        clamp: smallest confidence that the published loss lets through.
        grids: numbers of tokens to mark by a line, in the panels that reach so far.
    """
    with figure_grid(1, 3, size=(4.0, 4.2)) as (figure, axes):
        for ax, lines in zip(axes[0], (curves, clamped, pull), strict=True):
            for number, (name, (tokens, values)) in enumerate(lines.items()):
                colour, marker, style = LINES[number]
                look = {} if lines is curves else {"marker": marker, "markersize": 5}
                look |= {"linewidth": 5, "alpha": 0.6} if lines is pull and number == 0 else {}
                ax.plot(tokens, values, linestyle=style, color=colour, label=name, **look)
            ax.set(xscale="log", xlabel="tokens $N$")
            ax.legend(fontsize=10, loc="upper center", bbox_to_anchor=(0.5, -0.2))
        first, second, third = axes[0]
        first.set(yscale="log", ylabel="confidence of a true pair", title="Below the clamp: no gradient")
        first.set_ylim(bottom=clamp**2)
        first.axhspan(clamp**2, clamp, color=GREY, alpha=0.2, linewidth=0)
        first.text(0.2, clamp / 50, "clamped", transform=first.get_yaxis_transform(), va="top", fontsize=10)
        second.set(ylabel="true pairs clamped (%)", ylim=(-4, 104), title="How many are below it")
        third.set(
            ylabel="$N\\,|\\partial L/\\partial t_i|$, mean", title="Pull left on distinct tokens", ylim=(0, None)
        )
        for ax in axes[0]:
            _mark_grids(ax, grids)
    return figure


def _mark_grids(ax: Axes, grids: Sequence[int]) -> None:
    """A labelled line at each number of tokens that the panel's own lines reach."""
    low, high = ax.get_xlim()
    for grid in grids:
        if low <= grid <= high:
            ax.axvline(grid, color=GREY, linestyle=":", linewidth=1, zorder=0)
            place = {"transform": ax.get_xaxis_transform(), "rotation": 90, "ha": "right", "va": "bottom"}
            ax.text(grid, 0.03, f"{grid:,} ", fontsize=10, color=GREY, **place)
    ticks = (100, 1000, 10000) if high > 100 * low else (100, 200, 500, 1000, 2000, 5000, 10000)
    plain_ticks(ax, [tick for tick in ticks if low <= tick <= high])
    ax.set_xlim(low, high)


def plot_memory_against_tokens(
    sizes: Sequence[int],
    memory: Mapping[str, Sequence[Real]],
    extended: Mapping[str, tuple[Sequence[Real], Sequence[Real]]],
    regions: Mapping[str, int],
    devices: Mapping[str, Real],
) -> Figure:
    """Bytes against the number of tokens N, measured as points and extended by dashed lines, in MB and GB.

    Args:
        sizes: N of the measurements.
        memory: name to bytes at each size.
        extended: the same names to (N, bytes).
        regions: name to N, marked on the axis of N.
        devices: name to bytes, marked on the axis of memory.
    """
    with figure_grid(1, 1, size=(8.6, 4.6)) as (figure, axes):
        ax = axes[0, 0]
        for (name, values), (colour, marker, _) in zip(memory.items(), LINES, strict=False):
            ax.plot(sizes, values, marker, color=colour, markersize=8, label=f"{name}: measured")
            at, held = (np.asarray(part, dtype=float) for part in extended[name])
            ax.plot(at, held, "--", color=colour, label=f"{name}: extended")
            beside = {"textcoords": "offset points", "color": colour, "va": "center"}
            ax.annotate(name, (at[-1], held[-1]), (6, 0), annotation_clip=False, **beside)
        ax.set(xscale="log", yscale="log", xlabel="tokens N of V and of V'", ylabel="memory, forward and backward")
        ax.yaxis.set_major_formatter(FuncFormatter(lambda held, _: bytes_in_words(held)))
        for name, count in regions.items():
            ax.axvline(count, color=GREY, linestyle=":", linewidth=1, zorder=0)
            place = {"transform": ax.get_xaxis_transform(), "rotation": 90, "ha": "right", "va": "top"}
            ax.text(count, 0.98, f"{name} ", fontsize=10, color=GREY, **place)
        for name, held in devices.items():
            ax.axhline(held, color=GREY, linestyle=":", linewidth=1, zorder=0)
            ax.text(0.01, held, name, transform=ax.get_yaxis_transform(), va="bottom", fontsize=10, color=GREY)
        ax.set_title("points: measured; dashed: extended from the smaller ones")
    return figure


def bytes_in_words(held: Real) -> str:
    """Bytes as MB, GB or TB, of 10^6, 10^9 and 10^12."""
    unit, size = next(((unit, size) for unit, size in (("TB", 1e12), ("GB", 1e9)) if held >= size), ("MB", 1e6))
    return f"{held / size:.3g} {unit}"
