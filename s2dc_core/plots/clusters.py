"""Figures of lesson 06: silhouettes, and the distances that they are made of."""

from collections.abc import Mapping, Sequence
from numbers import Real

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from s2dc_core.plots.slices import PALETTE, Array, figure_grid

ORANGE, SKY, GREEN, YELLOW, PINK, RED, BLUE = PALETTE[:7]
GREY = "#BBBBBB"
OWN = "#000000"
STYLES = {
    "untrained": ("#888888", "o"),
    "scratch": ("#888888", "o"),
    "contrast": (SKY, "s"),
    "p2p": (ORANGE, "^"),
    "p2s": (GREEN, "v"),
    "s2dc": (RED, "D"),
}
"""Colour and marker of each arm, the same in every figure; an encoder of your own is a black star."""


def arm_style(arm: str) -> dict:
    """Keyword arguments for a plot of points."""
    colour, marker = STYLES.get(arm, (OWN, "*"))
    return {"color": colour, "marker": marker}


def plot_toy(
    angles: Mapping[str, Sequence[Real]], chosen: Real, curve: Mapping[str, Array | Sequence[Real]], at: int
) -> Figure:
    """Left: tokens of two organs as arrows of unit length, and one token; right: its silhouette against its angle.

    Args:
        angles: organ to the angles of its tokens, in degrees; the chosen one belongs to the first.
        chosen: angle of the one token.
        curve: "angle", "a", "b" and "s" of that token as it turns.
        at: index in the curve of the angle drawn.
    """
    with figure_grid(1, 2, size=(5.0, 3.7)) as (figure, axes):
        left, right = axes[0]
        for (organ, directions), colour in zip(angles.items(), (RED, BLUE), strict=True):
            for angle in directions:
                _arrow(left, angle, colour, 2)
            middle = np.deg2rad(np.mean(directions))
            left.text(1.2 * np.cos(middle), 1.2 * np.sin(middle), organ, color=colour, ha="center", va="center")
        _arrow(left, chosen, "black", 3.5)
        a, b, s = (float(curve[key][at]) for key in "abs")
        left.set(xlim=(-1.25, 1.45), ylim=(-0.25, 1.35), aspect="equal", xticks=[], yticks=[])
        left.spines[:].set_visible(False)
        left.set_title(f"a = {a:.2f}, b = {b:.2f}: s = {s:+.2f}")
        for key, colour, width in (("a", RED, 1.5), ("b", BLUE, 1.5), ("s", "black", 2.8)):
            right.plot(curve["angle"], curve[key], color=colour, linewidth=width)
            right.text(curve["angle"][-1] + 2, curve[key][-1], key, color=colour, va="center", fontweight="bold")
        right.plot(curve["angle"][at], s, "o", color="black", markersize=9)
        right.axhline(0, color=GREY, linewidth=0.8, zorder=0)
        right.set(xlabel="angle of the black token (degrees)", ylabel="cosine distance, silhouette")
        right.set_title("Half way between the two it is 0")
    return figure


def _arrow(axes: Axes, angle: Real, colour: str, width: Real) -> None:
    tip = (np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle)))
    axes.annotate("", tip, (0, 0), arrowprops={"arrowstyle": "-|>", "color": colour, "linewidth": width})


def plot_by_organ(
    panels: Mapping[str, Mapping[str, Mapping[int, Real]]],
    names: Mapping[int, str],
    titles: Mapping[str, str],
    marks: tuple[str, Mapping[int, Real]] | None = None,
    title: str = "",
) -> Figure:
    """A row per organ and a dot per arm, a panel per measure; the last row holds the mean over all organs.

    Args:
        panels: measure to {arm: {label: value}}, of all organs.
        names: of the organs to give a row; the mean is over all that the panels hold.
        titles: arm to title.
        marks: what is marked in the last panel beside the arms, and its value for each label.
        title: of the figure.
    """
    first = next(iter(next(iter(panels.values())).values()))
    rows = [*names.values(), f"mean of all {len(first)}"]
    with figure_grid(1, len(panels), size=(10 if len(panels) == 1 else 6.2, 1.6 + 0.34 * len(rows))) as (figure, axes):
        for axis, (measure, arms) in zip(axes[0], panels.items(), strict=True):
            axis.axhspan(len(names) - 0.5, len(names) + 0.5, color="#EEEEEE", zorder=0)
            axis.axvline(0, color="black", linewidth=0.8, zorder=1)
            for number, (arm, values) in enumerate(arms.items()):
                shown = [*(values[label] for label in names), float(np.mean(list(values.values())))]
                places = np.arange(len(rows)) + 0.11 * (number - (len(arms) - 1) / 2)
                axis.plot(shown, places, linestyle="", markersize=7, label=titles[arm], **arm_style(arm))
            axis.set_yticks(range(len(rows)), rows if axis is axes[0, 0] else [""] * len(rows))
            axis.hlines(
                np.arange(len(rows)) - 0.5, 0, 1, transform=axis.get_yaxis_transform(), color="#DDDDDD", zorder=0
            )
            axis.tick_params(axis="y", length=0)
            axis.set(ylim=(len(rows) - 0.5, -0.5), xlabel=measure)
        if marks:
            what, values = marks
            style = {"linestyle": "", "marker": "|", "markersize": 16, "color": "black", "label": what}
            shown = [*(values[label] for label in names), float(np.mean(list(values.values())))]
            axes[0, -1].plot(shown, range(len(rows)), **style)
        handles, words = axes[0, -1].get_legend_handles_labels()
        figure.legend(handles, words, loc="outside lower center", ncols=len(words), fontsize=10)
        figure.suptitle(title, fontsize=12)
    return figure


Interval = tuple[Real, Real, Real]


def plot_intervals(
    values: Mapping[str, Mapping[str, Sequence[Real]]],
    intervals: Mapping[str, Mapping[str, Interval]],
    differences: Mapping[str, Mapping[str, Interval]],
    titles: Mapping[str, str],
    close: Sequence[str] = (),
) -> Figure:
    """A column per modality. Above: each arm's value per seed and its interval; below: S2DC minus each other arm.

    Args:
        values: modality to {arm: value of each seed}.
        intervals: modality to {arm: (mean, low, high)}.
        differences: modality to {other arm: (mean, low, high)}.
        titles: arm to title.
        close: other arms whose differences are so small that they get an axis of their own.
    """
    arms, others = list(next(iter(values.values()))), list(next(iter(differences.values())))
    lines = [[arm for arm in others if (arm in close) == near] for near in (False, True)]
    lines = [line for line in lines if line]
    heights = [len(arms) + 1, *(len(line) + 1.4 for line in lines)]
    with figure_grid(len(heights), len(values), size=(4.0, 0.8 + 0.36 * np.mean(heights))) as (figure, axes):
        axes[0, 0].get_gridspec().set_height_ratios(heights)
        for column, modality in enumerate(values):
            above = axes[0, column]
            for row, arm in enumerate(arms):
                _interval(above, row, intervals[modality][arm], arm)
                seeds = values[modality][arm]
                above.plot(seeds, np.full(len(seeds), row + 0.3), ".", color="#666666", markersize=5)
            above.set(title=modality, xlabel="silhouette")
            _name_rows(above, [titles[arm] for arm in arms], column == 0)
            for below, line in zip(axes[1:, column], lines, strict=True):
                for row, arm in enumerate(line):
                    _interval(below, row, differences[modality][arm], arm)
                below.axvline(0, color="black", linewidth=0.8)
                below.set_xlabel("difference of silhouettes")
                _name_rows(below, [f"S2DC minus {titles[arm]}" for arm in line], column == 0)
        for line in axes:
            limits = np.array([axis.get_xlim() for axis in line])
            for axis in line:
                axis.set_xlim(limits[:, 0].min(), limits[:, 1].max())
    return figure


def _name_rows(axes: Axes, names: Sequence[str], shown: bool) -> None:
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_yticks(range(len(names)), names if shown else [""] * len(names))
    axes.xaxis.set_major_locator(MaxNLocator(5))


def _interval(axes: Axes, row: Real, interval: Interval, arm: str) -> None:
    mean, low, high = interval
    axes.plot([low, high], [row, row], color=arm_style(arm)["color"], linewidth=3, solid_capstyle="butt")
    axes.plot(mean, row, linestyle="", markersize=6, markeredgecolor="black", **arm_style(arm))


def plot_rows_of_dots(
    rows: Mapping[str, Mapping[str, Real]], titles: Mapping[str, str], label: str, title: str = ""
) -> Figure:
    """A row per arm, a dot per named value, joined by a line; the first row names the dots.

    Args:
        rows: arm to {what: value}.
        titles: arm to title.
        label: of the axis.
        title: of the figure.
    """
    with figure_grid(1, 1, size=(8.2, 1.7 + 0.42 * len(rows))) as (figure, axes):
        axis = axes[0, 0]
        for number, values in enumerate(rows.values()):
            axis.plot([min(values.values()), max(values.values())], [number] * 2, color=GREY, zorder=1)
            for (what, value), style in zip(values.items(), ((RED, "o"), (BLUE, "s"), (GREEN, "^")), strict=False):
                known = {"label": what} if number == 0 else {}
                axis.plot(value, number, linestyle="", color=style[0], marker=style[1], markersize=9, **known)
        axis.set_yticks(range(len(rows)), [titles[arm] for arm in rows])
        axis.set(xlabel=label, ylim=(len(rows) - 0.5, -0.5), title=title)
        axis.set_xlim(left=min(0, axis.get_xlim()[0]))
        figure.legend(loc="outside lower center", ncols=3, fontsize=10)
    return figure


def plot_cosine_by_distance(
    curves: Mapping[str, tuple[Array, Array]], middles: Array, titles: Mapping[str, str], title: str = ""
) -> Figure:
    """A panel per arm: mean cosine of two tokens against their distance, of one organ and of different organs.

    Args:
        curves: arm to (same organ, different organs), a value per bin, NaN where there is none.
        middles: of the bins, mm.
        titles: arm to title.
        title: of the figure.

    Raises:
        ValueError: if no bin has a value.
    """
    everything = np.concatenate([np.ravel(curve) for pair in curves.values() for curve in pair])
    if np.isnan(everything).all():
        raise ValueError("no distance has enough pairs of tokens for a curve: take larger organs or finer voxels")
    with figure_grid(1, len(curves), size=(2.9, 3.3)) as (figure, axes):
        for axis, (arm, (same, different)) in zip(axes[0], curves.items(), strict=True):
            axis.plot(middles, same, "o-", color=RED, markersize=5, label="same organ")
            axis.plot(middles, different, "s--", color=BLUE, markersize=5, label="different organs")
            axis.fill_between(middles, same, different, color="#DDDDDD", zorder=0)
            axis.set(title=titles[arm], xlabel="distance (mm)", xlim=(0, None))
        low, high = np.nanmin(everything), np.nanmax(everything)
        for axis in axes[0]:
            axis.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))
            axis.tick_params(labelleft=axis is axes[0, 0])
        axes[0, 0].set_ylabel("mean cosine")
        axes[0, -1].legend(loc="best", fontsize=10)
        figure.suptitle(title, fontsize=12)
    return figure
