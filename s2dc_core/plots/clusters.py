"""Figures of lesson 06: t-SNE maps of organ tokens, silhouettes, and the distances that they are made of."""

import textwrap
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from s2dc_core.plots.slices import PALETTE, Array, figure_grid, label_colour, label_words

ORANGE, SKY, GREEN, YELLOW, PINK, RED, BLUE = PALETTE[:7]
GREY = "#BBBBBB"
OWN = "#000000"
MOST_NAMED = 24
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


class Organs(NamedTuple):
    """Which organs of a scan a figure shows in colour, and what it says of the others.

    Attributes:
        names: label to name, of the organs in colour, those with most tokens first.
        numbers: label to the number whose `label_colour` it has, of the same.
        counts: label to number of tokens, of all organs.
        note: names and counts of the organs in grey, and of those left out; of each the MOST_NAMED first ones.
    """

    names: dict[int, str]
    numbers: dict[int, int]
    counts: dict[int, int]
    note: str

    def colour(self, label: int) -> str:
        """Colour of one of the organs in colour."""
        return label_colour(self.numbers[label])


def choose_organs(
    kept: Mapping[int, int], dropped: Mapping[int, int], names: Mapping[int, str], most: int = 13
) -> Organs:
    """The organs with most tokens in `label_colour`; where two of them would share a colour, in colours by rank.

    Args:
        kept: label to number of tokens.
        dropped: the same of the organs with too few.
        names: of the labels, with underscores or spaces.
        most: organs in colour.
    """
    named = {label: label_words(names.get(label, f"label {label}")) for label in (*kept, *dropped)}
    order = sorted(kept, key=lambda label: -kept[label])
    numbers = {label: label for label in order[:most]}
    if len({label_colour(number) for number in numbers.values()}) < len(numbers):
        numbers = {label: rank for rank, label in enumerate(order[:most], start=1)}
    lists = {
        "grey": [(named[label], kept[label]) for label in order[most:]],
        "left out, too few tokens": [(named[label], count) for label, count in dropped.items()],
    }
    parts = [f"{key}: {_listed(part)}" for key, part in lists.items() if part]
    return Organs({label: named[label] for label in numbers}, numbers, {**kept, **dropped}, "\n".join(parts))


def _listed(organs: Sequence[tuple[str, int]]) -> str:
    more = f" and {len(organs) - MOST_NAMED} more" if len(organs) > MOST_NAMED else ""
    return ", ".join(f"{name}\xa0({count})" for name, count in organs[:MOST_NAMED]) + more


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


def plot_maps(maps: Mapping[str, Array], organ: Array, organs: Organs, note: str = "") -> Figure:
    """t-SNE maps, a panel each, organs named in the middle of their largest island; the last cell is the legend.

    Args:
        maps: title to the tokens' places [T, 2].
        organ: label of each token, [T].
        organs: from `choose_organs`; its note goes below the panels.
        note: what else is to be said there, such as how tokens were drawn.
    """
    organ = np.asarray(organ)
    columns = 3 if len(maps) < 6 else 4
    rows = -(-(len(maps) + 1) // columns)
    parts = [part for text in (organs.note, note) for part in text.split("\n") if part]
    lines = [line for part in parts for line in textwrap.wrap(part, 55 * columns, break_on_hyphens=False)]
    with figure_grid(rows, columns, size=(4.3, 4.0 + 0.2 * len(lines) / rows)) as (figure, axes):
        cells = axes.ravel()
        for axis, (title, points) in zip(cells, maps.items(), strict=False):
            _map(axis, np.asarray(points), organ, organs)
            axis.set_title(title)
        for axis in cells[len(maps) :]:
            axis.set_axis_off()
        dots = [Line2D([], [], marker="o", linestyle="", color=colour) for colour in map(organs.colour, organs.names)]
        words = [f"{name} ({organs.counts[label]})" for label, name in organs.names.items()]
        cells[len(maps)].legend(
            dots, words, loc="center left", title="organ (its tokens in the scan)", alignment="left"
        )
        figure.supxlabel("\n".join(lines), x=0.01, ha="left", fontsize=11)
        figure.canvas.draw()
        for axis in cells[: len(maps)] if organs.names else ():
            _spread(axis)
    return figure


def _map(axes: Axes, points: np.ndarray, organ: np.ndarray, organs: Organs) -> None:
    other = ~np.isin(organ, list(organs.names))
    size = float(np.clip(12000 / max((~other).sum(), 1), 8, 28))
    if other.any():
        axes.scatter(*points[other].T, s=6, color="#DDDDDD", linewidths=0, zorder=1)
    for label, name in organs.names.items():
        here = points[organ == label]
        axes.scatter(*here.T, s=size, color=organs.colour(label), linewidths=0, zorder=2)
        text = axes.text(*_island(here), name, fontsize=10, ha="center", va="center", zorder=3)
        text.set_path_effects([withStroke(linewidth=2.5, foreground="white")])
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(visible=True, color=GREY)
    axes.margins(0.08)


def _island(points: np.ndarray) -> np.ndarray:
    """Median of the points about the one that has most others near it: the plain median of two islands lies between."""
    apart = np.linalg.norm(points[:, None] - points, axis=-1)
    near = apart < 0.5 * np.median(apart) + 1e-9
    return np.median(points[near[near.sum(1).argmax()]], axis=0)


def _spread(axes: Axes, rounds: int = 60) -> None:
    """Move names up or down until none covers another, and back into the panel sideways."""
    frame, boxes = axes.get_window_extent(), [text.get_window_extent() for text in axes.texts]
    half = np.array([[box.width / 2, 0.42 * box.height] for box in boxes])
    place = np.array([[(box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2] for box in boxes])
    low, high = np.array([frame.x0, frame.y0]) + half + 3, np.array([frame.x1, frame.y1]) - half - 3
    for _ in range(rounds):
        place = np.clip(place, low, np.maximum(low, high))
        moved = False
        for i in range(len(place)):
            for j in range(i):
                room = half[i] + half[j] - np.abs(place[i] - place[j])
                if (room > 0).all():
                    step = (room[1] / 2 + 0.5) * (1 if place[i, 1] >= place[j, 1] else -1)
                    place[i, 1], place[j, 1], moved = place[i, 1] + step, place[j, 1] - step, True
        if not moved:
            break
    for text, where in zip(axes.texts, axes.transData.inverted().transform(place), strict=True):
        text.set_position(where)


def plot_by_organ(
    panels: Mapping[str, Mapping[str, Mapping[int, Real]]],
    names: Mapping[int, str],
    titles: Mapping[str, str],
    chance: Mapping[int, Real] | None = None,
    title: str = "",
) -> Figure:
    """A row per organ and a dot per arm, a panel per measure; the last row holds the mean over all organs.

    Args:
        panels: measure to {arm: {label: value}}, of all organs.
        names: of the organs to give a row; the mean is over all that the panels hold.
        titles: arm to title.
        chance: label to a value to mark in the last panel.
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
        if chance:
            style = {"linestyle": "", "marker": "|", "markersize": 16, "color": "black", "label": "by chance"}
            axes[0, -1].plot([chance[label] for label in names], range(len(names)), **style)
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
) -> Figure:
    """A column per modality. Above: each arm's value per seed and its interval; below: S2DC minus each other arm.

    Args:
        values: modality to {arm: value of each seed}.
        intervals: modality to {arm: (mean, low, high)}.
        differences: modality to {other arm: (mean, low, high)}.
        titles: arm to title.
    """
    arms = list(next(iter(values.values())))
    with figure_grid(2, len(values), size=(4.2, 1.1 + 0.34 * len(arms))) as (figure, axes):
        for column, modality in enumerate(values):
            above, below = axes[:, column]
            for row, arm in enumerate(arms):
                _interval(above, row, intervals[modality][arm], arm)
                seeds = values[modality][arm]
                above.plot(seeds, np.full(len(seeds), row + 0.25), ".", color="#666666", markersize=5)
            for row, (arm, interval) in enumerate(differences[modality].items()):
                _interval(below, row, interval, arm)
            below.axvline(0, color="black", linewidth=0.8)
            others = list(differences[modality])
            above.set(title=modality, xlabel="silhouette", ylim=(len(arms) - 0.5, -0.5))
            below.set(xlabel="S2DC minus the other arm", ylim=(len(others) - 0.5, -0.5))
            clear = sum(low > 0 for _, low, _ in differences[modality].values())
            below.set_title(f"clearly above {clear} of {len(others)} arms")
            above.set_yticks(range(len(arms)), [titles[arm] if column == 0 else "" for arm in arms])
            below.set_yticks(range(len(others)), [f"- {titles[arm]}" if column == 0 else "" for arm in others])
            for axis in (above, below):
                axis.xaxis.set_major_locator(MaxNLocator(5))
        for line in axes:
            limits = np.array([axis.get_xlim() for axis in line])
            for axis in line:
                axis.set_xlim(limits[:, 0].min(), limits[:, 1].max())
    return figure


def _interval(axes: Axes, row: Real, interval: Interval, arm: str) -> None:
    mean, low, high = interval
    axes.plot([low, high], [row, row], color=arm_style(arm)["color"], linewidth=3, solid_capstyle="butt", alpha=0.6)
    axes.plot(mean, row, linestyle="", markersize=8, markeredgecolor="black", **arm_style(arm))


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
