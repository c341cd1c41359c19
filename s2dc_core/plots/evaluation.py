"""The figure of `s2dc evaluate`: how much of the organs each method finds, with intervals."""

from collections.abc import Mapping, Sequence
from numbers import Real

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from s2dc_core.plots.clusters import BLUE, GREEN, ORANGE, PINK, RED, SKY
from s2dc_core.plots.slices import figure_grid, label_words

WAYS = {
    "nearest": (SKY, "o"),
    "place": (ORANGE, "s"),
    "aligned": (GREEN, "^"),
    "deformed": (RED, "D"),
    "finer": (PINK, "P"),
    "probe": (BLUE, "v"),
    "registered": ("#666666", "X"),
}
"""Colour and marker of each way, from top to bottom of a row."""

PANELS = {"whole": "the whole scan", "half": "upper or lower half"}


def plot_evaluation(found: Mapping[str, Mapping[str, Mapping[str, Sequence[Real | None]]]], title: str = "") -> Figure:
    """A panel per condition, a row per method, a point per way with its interval.

    Args:
        found: condition to {method: {way: (mean, low, high, ...)}}; ends of None draw no interval.
    """
    methods = list(next(iter(found.values())))
    shown = [way for way in WAYS if any(way in ways for rows in found.values() for ways in rows.values())]
    heights = [max(2, len(next(iter(found.values()))[method])) for method in methods]
    tops = [sum(heights[:k]) + 0.9 * k for k in range(len(heights) + 1)]
    size = (7.4 if len(found) == 1 else 5.6, 1.6 + 0.21 * tops[-1])
    with figure_grid(1, len(found), size=size) as (figure, axes):
        for axis, (condition, rows) in zip(axes[0], found.items(), strict=True):
            for top, height, method in zip(tops, heights, methods, strict=False):
                _row(axis, top, height, rows.get(method, {}))
            for top in tops[1:-1]:
                axis.axhline(top - 0.95, color="#DDDDDD", linewidth=0.8, zorder=0)
            axis.set(xlim=(0, 1), ylim=(tops[-1] - 0.95, -0.9), title=PANELS.get(condition, condition))
            axis.set_xlabel("Dice in tokens, mean and 95 % interval over pairs")
            names = [label_words(method) if axis is axes[0, 0] else "" for method in methods]
            places = [top + (height - 1) / 2 for top, height in zip(tops, heights, strict=False)]
            axis.set_yticks(places, names, fontsize=12)
            axis.tick_params(axis="y", length=0)
            axis.xaxis.set_major_locator(MaxNLocator(5))
        marks = [Line2D([], [], linestyle="", markersize=8, markeredgecolor="black", **_style(way)) for way in shown]
        figure.legend(marks, shown, loc="outside lower center", ncols=len(shown), fontsize=11, handletextpad=0.2)
        figure.suptitle(title, fontsize=13)
    return figure


def _row(axis: Axes, top: Real, height: int, ways: Mapping[str, Sequence[Real | None]]) -> None:
    """The points of a method, below each other; fewer than the row has room for stand in its middle."""
    ordered = [way for way in WAYS if way in ways]
    for number, way in enumerate(ordered):
        place = top + number + (height - len(ordered)) / 2
        mean, low, high, *_ = ways[way]
        if low is not None and high is not None:
            axis.plot([low, high], [place] * 2, color=WAYS[way][0], linewidth=3, solid_capstyle="butt", alpha=0.6)
        point = {"linestyle": "", "markersize": 8, "markeredgecolor": "black", "clip_on": False}
        axis.plot(mean, place, **point, **_style(way))


def _style(way: str) -> dict[str, str]:
    colour, marker = WAYS[way]
    return {"color": colour, "marker": marker}
