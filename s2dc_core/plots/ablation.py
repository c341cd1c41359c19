"""The figure of lesson 11: how far S2DC is ahead of each choice, and of each other start, with intervals."""

import re
from collections.abc import Mapping, Sequence
from numbers import Real

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from s2dc_core.plots.clusters import BLUE, GREY, RED, Interval
from s2dc_core.plots.slices import figure_grid

DECIDED = {"S2DC is ahead": BLUE, "S2DC is behind": RED, "not decided": GREY}
"""Colour of a difference whose interval is above 0, below 0, or holds it."""


def plot_differences(
    differences: Mapping[str, Mapping[str, Interval]],
    groups: Mapping[str, Sequence[str]],
    units: str | Mapping[str, str],
    title: str = "",
    limits: tuple[Real, Real] | None = None,
    factor: Real = 100,
) -> Figure:
    """A panel per measure, a line per row: S2DC minus the row. All panels have one range; right of 0 S2DC is ahead.

    Args:
        differences: measure to {row: (mean, low, high)}.
        groups: heading to its rows, from top to bottom.
        units: what the lower axis counts, of all measures or of each.
        limits: of the lower axis; a point beyond is drawn at the edge as an arrow, with its number. None shows all.
        factor: shown per unit; 100 shows points.
    """
    lines = [line for heading, rows in groups.items() for line in (heading, *rows)]
    drawn = {
        measure: {line: [factor * value for value in found[line]] for line in lines if line in found}
        for measure, found in differences.items()
    }
    ends = [value for found in drawn.values() for interval in found.values() for value in interval]
    left, right = limits or (min(*ends, 0) - 2, max(*ends, 0) + 2)
    with figure_grid(1, len(drawn), size=(3.5, 1.9 + 0.27 * len(lines))) as (figure, axes):
        for axis, (measure, found) in zip(axes[0], drawn.items(), strict=True):
            axis.set(title=measure, xlim=(left, right), ylim=(len(lines) - 0.5, -0.7))
            for line, interval in found.items():
                _draw(axis, lines.index(line), *interval)
            axis.axvline(0, color="black", linewidth=0.8)
            unit = units if isinstance(units, str) else units[measure]
            axis.set_xlabel(f"S2DC minus the row,\n{unit}")
            axis.set_yticks(range(len(lines)), ["" for _ in lines])
            axis.tick_params(axis="y", length=0)
            axis.xaxis.set_major_locator(MaxNLocator(5))
        axes[0, 0].set_yticks(range(len(lines)), [_with_formulas(line) for line in lines])
        for label, line in zip(axes[0, 0].get_yticklabels(), lines, strict=True):
            label.set(fontsize=10, fontweight="bold" if line in groups else "normal")
        marks = [Line2D([], [], color=colour, marker="o", markeredgecolor="black") for colour in DECIDED.values()]
        figure.legend(marks, list(DECIDED), loc="outside lower center", ncols=len(marks), fontsize=10)
        figure.suptitle(_with_formulas(title), fontsize=12)
    return figure


def _with_formulas(text: str) -> str:
    """L_p2p and its like, as the records name them, as formulas."""
    return re.sub(r"\bL_(\w+)", r"$L_{\1}$", text)


def _draw(axis: Axes, place: int, mean: Real, low: Real, high: Real) -> None:
    """A dot and its interval, or an arrow and its number if the dot lies outside."""
    colour = BLUE if low > 0 else RED if high < 0 else GREY
    left, right = axis.get_xlim()
    axis.plot([max(low, left), min(high, right)], [place, place], color=colour, linewidth=3, alpha=0.7)
    inside = left < mean < right
    edge, marker = (mean, "o") if inside else (right, ">") if mean > 0 else (left, "<")
    axis.plot(edge, place, marker, color=colour, markersize=6, markeredgecolor="black", clip_on=False)
    if not inside:
        side = {"ha": "right" if mean > 0 else "left", "va": "bottom", "fontsize": 9}
        axis.annotate(
            f"{mean:+.0f}", (edge, place), xytext=(-6 if mean > 0 else 6, 1), textcoords="offset points", **side
        )
