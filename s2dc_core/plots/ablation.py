"""The figure of lesson 11: what each choice changes, with intervals."""

from collections.abc import Mapping, Sequence
from numbers import Real

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from s2dc_core.plots.clusters import BLUE, GREY, RED, Interval
from s2dc_core.plots.slices import figure_grid


def plot_differences(
    differences: Mapping[str, Mapping[str, Interval]],
    groups: Mapping[str, Sequence[str]],
    default: str,
    title: str = "",
    factor: Real = 100,
) -> Figure:
    """A panel per measure, a line per row: its difference from the default, red if clearly below, blue if above.

    Args:
        differences: measure to {row: (mean, low, high)}.
        groups: heading to its rows, from top to bottom.
        default: what the rows differ from, for the axis.
        factor: shown per unit; 100 shows points.
    """
    lines = [line for heading, rows in groups.items() for line in (heading, *rows)]
    headings = set(groups)
    with figure_grid(1, len(differences), size=(3.5, 1.6 + 0.27 * len(lines))) as (figure, axes):
        for axis, (measure, found) in zip(axes[0], differences.items(), strict=True):
            for place, line in enumerate(lines):
                if line in headings or line not in found:
                    continue
                mean, low, high = (factor * value for value in found[line])
                colour = RED if high < 0 else BLUE if low > 0 else GREY
                axis.plot([low, high], [place, place], color=colour, linewidth=3, solid_capstyle="butt", alpha=0.7)
                axis.plot(mean, place, "o", color=colour, markersize=7, markeredgecolor="black")
            axis.axvline(0, color="black", linewidth=0.8)
            axis.set(title=measure, xlabel=f"minus {default}, points", ylim=(len(lines) - 0.5, -0.7))
            axis.set_yticks(range(len(lines)), ["" for _ in lines])
            axis.tick_params(axis="y", length=0)
            axis.xaxis.set_major_locator(MaxNLocator(5))
        axes[0, 0].set_yticks(range(len(lines)), lines)
        for label, line in zip(axes[0, 0].get_yticklabels(), lines, strict=True):
            label.set(fontsize=10, fontweight="bold" if line in headings else "normal")
        figure.suptitle(title, fontsize=12)
    return figure
