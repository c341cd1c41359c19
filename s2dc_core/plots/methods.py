"""Figures that set many methods side by side: what they are given, and how they score."""

from collections.abc import Mapping, Sequence
from numbers import Real

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from sklearn.isotonic import isotonic_regression
from torch import Tensor

from s2dc_core.plots.clusters import BLUE, GREEN, GREY, RED, Interval
from s2dc_core.plots.slices import figure_grid

NAME = 0.048
"""Share of a panel's height that a name takes."""

LINES = (("#000000", "--"), (GREEN, ":"), ("#7A5195", "-."))


def plot_inputs(rows: Mapping[str, Sequence[tuple[str, Float[Tensor, "x y z"]]]], title: str = "") -> Figure:
    """A row for each method: the middle axial slices of what it is given, each with a word below it.

    Args:
        rows: title to (word, normalised volume on the scanner's axes); a row may be shorter than others.
        title: of the figure.
    """
    columns = max(map(len, rows.values()))
    with figure_grid(len(rows), columns, size=(1.6, 1.9)) as (figure, axes):
        for line, (name, volumes) in zip(axes, rows.items(), strict=True):
            for axis, (word, volume) in zip(line, volumes, strict=False):
                middle = volume[..., volume.shape[-1] // 2]
                axis.imshow(np.asarray(middle.T.cpu()), cmap="gray", vmin=-2, vmax=2, origin="lower")
                axis.set(xticks=[], yticks=[], xlabel=word)
                axis.spines[:].set(visible=True, color=GREY)
            for axis in line[len(volumes) :]:
                axis.set_axis_off()
            line[0].set_ylabel(name)
        figure.suptitle(title)
    return figure


def plot_methods(
    measures: Mapping[str, Mapping[str, Interval]],
    titles: Mapping[str, str],
    strong: str = "s2dc",
    without: Mapping[str, Mapping[str, Real]] | None = None,
    title: str = "",
    columns: int = 4,
) -> Figure:
    """A panel for each measure, a row for each method: its mean and interval.

    Args:
        measures: title of the panel, which is its axis too, to {method: (mean, low, high)}; NaN ends draw no line, and
            a method without a value keeps its row.
        titles: of all methods, in the order of the rows.
        strong: the method in red; "untrained" is grey.
        without: title of the panel to {what needs no encoder: its value}, upright lines.
        title: of the figure.
        columns: panels abreast.
    """
    without, columns = without or {}, min(columns, len(measures))
    kinds = list(dict.fromkeys(kind for values in without.values() for kind in values))
    looks = dict(zip(kinds, LINES, strict=False))
    rows = -(-len(measures) // columns)
    with figure_grid(rows, columns, size=(3.0, 1.3 + 0.27 * len(titles))) as (figure, axes):
        panels = axes.ravel()
        for number, (axis, (measure, values)) in enumerate(zip(panels, measures.items(), strict=False)):
            for row, method in enumerate(titles):
                axis.axhline(row, color="#EEEEEE", linewidth=1, zorder=0)
                if method in values and np.isfinite(values[method][0]):
                    mean, low, high = values[method]
                    colour = {strong: RED, "untrained": "#888888"}.get(method, BLUE)
                    axis.plot([low, high], [row, row], color=colour, linewidth=2.5, solid_capstyle="butt")
                    axis.plot(mean, row, "D" if method == strong else "o", color=colour, markeredgecolor="black")
            for kind, value in without.get(measure, {}).items():
                colour, line = looks[kind]
                axis.axvline(value, color=colour, linestyle=line, linewidth=1.4, zorder=1)
            axis.set_ylim(len(titles) - 0.5, -0.5)
            axis.set_yticks(range(len(titles)), list(titles.values()) if number % columns == 0 else [""] * len(titles))
            axis.xaxis.set_major_locator(MaxNLocator(4))
            axis.tick_params(axis="y", length=0)
            axis.set_title(measure)
        for axis in panels[len(measures) :]:
            axis.set_axis_off()
        if kinds:
            known = [axes.flat[0].plot([], [], color=colour, linestyle=line)[0] for colour, line in looks.values()]
            figure.legend(known, kinds, loc="outside lower center", ncols=len(kinds))
        figure.suptitle(title)
    return figure


def plot_two_scores(
    across: Mapping[str, Real],
    up: Mapping[str, Interval],
    titles: Mapping[str, str],
    words: tuple[str, str],
    title: str = "",
    strong: str = "s2dc",
) -> Figure:
    """A point with its interval for each method that has both scores; its name stands to the right, at a line.

    Args:
        across, up: method to value, and to (mean, low, high).
        titles: of the methods.
        words: labels of the two axes.
    """
    methods = sorted(set(across) & set(up), key=lambda name: up[name][0])
    with figure_grid(1, 1, size=(8.2, 4.8)) as (figure, axes):
        axis = axes[0, 0]
        for method in methods:
            colour, (mean, low, high) = RED if method == strong else BLUE, up[method]
            axis.plot([across[method]] * 2, [low, high], color=GREY, linewidth=2, zorder=1)
            axis.plot(across[method], mean, "D" if method == strong else "o", color=colour, markeredgecolor="black")
        axis.set(xlabel=words[0], ylabel=words[1], title=title)
        low, high = axis.get_ylim()
        places = _spaced([(up[method][0] - low) / (high - low) for method in methods], NAME)
        for method, place in zip(methods, places, strict=True):
            line = {"arrowstyle": "-", "color": GREY, "linewidth": 0.8, "shrinkB": 5}
            look = {"color": RED if method == strong else BLUE, "fontsize": 10, "verticalalignment": "center"}
            aside = {"xytext": (1.03, place), "textcoords": "axes fraction", "arrowprops": line}
            axis.annotate(titles[method], (across[method], up[method][0]), **aside, **look)
    return figure


def _spaced(wanted: Sequence[float], gap: float) -> list[float]:
    """Rising places from 0 to 1, the nearest to the wanted ones in least squares that leave a gap between any two."""
    least = gap * np.arange(len(wanted))
    moved = isotonic_regression(np.asarray(wanted) - least, y_min=0, y_max=max(1 - least[-1], 0))
    return (moved + least).tolist()
