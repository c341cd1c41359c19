"""Figures of lesson 02: what the losses hold and cost as the number of tokens grows."""

from collections.abc import Mapping, Sequence
from numbers import Real

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from s2dc_core.plots.assignment import GREY, LINES
from s2dc_core.plots.slices import figure_grid


def plot_memory_against_tokens(
    sizes: Sequence[int],
    memory: Mapping[str, Sequence[Real]],
    predicted: Mapping[str, tuple[Sequence[Real], Sequence[Real]]],
    regions: Mapping[str, int],
    devices: Mapping[str, Real],
) -> Figure:
    """Bytes against the number of tokens N, measured as points and predicted as dashed lines, in GB.

    Args:
        sizes: N of the measurements.
        memory: name to bytes at each size.
        predicted: the same names to (N, bytes).
        regions: name to N, marked on the axis of N.
        devices: name to bytes, marked on the axis of memory.
    """
    with figure_grid(1, 1, size=(9.2, 5.2)) as (figure, axes):
        ax = axes[0, 0]
        for (name, values), (colour, marker, _) in zip(memory.items(), LINES, strict=False):
            ax.plot(sizes, np.divide(values, 1e9), marker, color=colour, markersize=8, label=f"{name}: measured")
            at, held = predicted[name]
            ax.plot(at, np.divide(held, 1e9), "--", color=colour, label=f"{name}: predicted")
        ax.set(xscale="log", yscale="log", xlabel="tokens N of V and of V'", ylabel="memory, forward and backward (GB)")
        for name, count in regions.items():
            ax.axvline(count, color=GREY, linestyle=":", linewidth=1, zorder=0)
            ax.annotate(
                name, (count, 0.02), xycoords=("data", "axes fraction"), xytext=(-4, 0), textcoords="offset points",
                rotation=90, ha="right", va="bottom", fontsize=10, color=GREY,
            )  # fmt: skip
        for name, held in devices.items():
            ax.axhline(held / 1e9, color=GREY, linestyle=":", linewidth=1, zorder=0)
            ax.annotate(
                name, (0.01, held / 1e9), xycoords=("axes fraction", "data"), xytext=(0, 3),
                textcoords="offset points", fontsize=10, color=GREY,
            )  # fmt: skip
        ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure


def plot_cost_of_ways(seconds: Mapping[str, Real], memory: Mapping[str, Real]) -> Figure:
    """Seconds and megabytes of several ways to one result, as dots on logarithmic axes, one row per way."""
    names = list(seconds)
    rows = np.arange(len(names))[::-1]
    with figure_grid(1, 2, size=(4.6, 0.5 * len(names) + 1.3)) as (figure, axes):
        panels = ((seconds, 1.0, "seconds", "{:.2g} s"), (memory, 1e-6, "memory (MB)", "{:.3g} MB"))
        for ax, (values, unit, label, text) in zip(axes[0], panels, strict=True):
            found = [values[name] * unit for name in names]
            ax.set(xscale="log", xlabel=label, ylim=(-0.6, len(names) - 0.4), xlim=(min(found) / 2, max(found) * 6))
            for row, value, (colour, marker, _) in zip(rows, found, LINES, strict=False):
                ax.plot(value, row, marker, color=colour, markersize=9)
                ax.annotate(text.format(value), (value, row), xytext=(9, -4), textcoords="offset points", fontsize=10)
            ax.xaxis.set_minor_formatter(NullFormatter())
            ax.set_yticks(rows, names if ax is axes[0, 0] else [])
            ax.grid(axis="x", alpha=0.3)
    return figure
