"""Figures of lesson 06: which organs are in colour, and the t-SNE maps of their tokens."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from s2dc_core.plots.clusters import GREY
from s2dc_core.plots.slices import Array, figure_grid, label_colour, label_words

MOST_NAMED = 24
MOST_COLOURED = 6
SHAPES = ("o", "^")


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


def plot_maps(
    maps: Mapping[str, Array], organ: Array, organs: Organs, note: str = "", coloured: int = MOST_COLOURED
) -> Figure:
    """t-SNE maps, a panel each; a few organs in colour and numbered at their largest island, all others grey.

    Args:
        maps: title to the tokens' places [T, 2].
        organ: label of each token, [T].
        organs: from `choose_organs`; its note goes below the panels.
        note: what else is to be said there, such as how tokens were drawn.
        coloured: organs in colour, those with most tokens.
    """
    organ, few = np.asarray(organ), list(organs.names)[:coloured]
    rows = -(-len(maps) // 4)
    columns = -(-len(maps) // rows)
    grey = [f"{organs.names[label]}\xa0({organs.counts[label]})" for label in list(organs.names)[coloured:]]
    parts = [f"grey: {', '.join(grey)}"] if grey else []
    parts += [part for text in (organs.note, note) for part in text.split("\n") if part]
    lines = [line for part in parts for line in textwrap.wrap(part, 48 * columns, break_on_hyphens=False)]
    with figure_grid(rows, columns, size=(3.7, 3.6 + (0.6 + 0.2 * len(lines)) / rows)) as (figure, axes):
        cells = axes.ravel()
        for axis, (title, points) in zip(cells, maps.items(), strict=False):
            _map(axis, np.asarray(points), organ, {label: organs.colour(label) for label in few})
            axis.set_title(title)
        for axis in cells[len(maps) :]:
            axis.set_axis_off()
        dots = [
            Line2D([], [], linestyle="", marker=SHAPES[place % 2], color=organs.colour(label))
            for place, label in enumerate(few)
        ]
        words = [f"{place} {organs.names[label]} ({organs.counts[label]})" for place, label in enumerate(few, start=1)]
        figure.legend(dots, words, loc="outside upper center", ncols=min(len(words), 2 * columns) or 1, fontsize=10)
        figure.supxlabel("\n".join(lines), x=0.01, ha="left", fontsize=10)
        figure.canvas.draw()
        for axis in cells[: len(maps)] if few else ():
            _spread(axis)
    return figure


def _map(axes: Axes, points: np.ndarray, organ: np.ndarray, colours: Mapping[int, str]) -> None:
    other = ~np.isin(organ, list(colours))
    if other.any():
        axes.scatter(*points[other].T, s=7, color="#D5D5D5", linewidths=0, zorder=1)
    for place, (label, colour) in enumerate(colours.items()):
        here = points[organ == label]
        axes.scatter(
            *here.T, s=16, marker=SHAPES[place % 2], color=colour, edgecolors="#222222", linewidths=0.4, zorder=2
        )
        text = axes.text(*_island(here), str(place + 1), ha="center", va="center", zorder=3)
        text.set(fontsize=12, fontweight="bold", path_effects=[withStroke(linewidth=3, foreground="white")])
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(visible=True, color=GREY)
    axes.margins(0.08)


def _island(points: np.ndarray) -> np.ndarray:
    """Median of the points about the one that has most others near it: the plain median of two islands lies between."""
    apart = np.linalg.norm(points[:, None] - points, axis=-1)
    near = apart < 0.5 * np.median(apart) + 1e-9
    return np.median(points[near[near.sum(1).argmax()]], axis=0)


def _spread(axes: Axes, rounds: int = 60) -> None:
    """Move texts up or down until none covers another, and back into the panel sideways."""
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
