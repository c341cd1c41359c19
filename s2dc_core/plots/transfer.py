"""Figures of lessons 08 to 10: predictions side by side, curves over labels, scores against clusters."""

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from s2dc_core.plots.clusters import GREY, Interval, arm_style
from s2dc_core.plots.slices import Array, Position, figure_grid, label_colour, label_words, show_slice


class Panel(NamedTuple):
    """A picture of a row.

    Attributes:
        title: above it.
        volume: [X, Y, Z].
        labels: [X, Y, Z] whole numbers to outline, or None.
        window: (lowest, highest) value shown; None for that of the row's first panel.
        cmap: matplotlib's name of the colours.
        bar: what a colour bar beside it says; "" for none.
    """

    title: str
    volume: Array
    labels: Array | None = None
    window: tuple[Real, Real] | None = None
    cmap: str = "gray"
    bar: str = ""


def plot_side_by_side(
    rows: Mapping[str, Sequence[Panel]],
    affine: Array | Mapping[str, Array],
    positions: Mapping[str, Position],
    plane: str = "axial",
    title: str = "",
) -> Figure:
    """A row per case, a panel per way of looking at it, all at the same place.

    Args:
        rows: case to its panels; all rows have as many.
        affine: of the volumes, or of each row's.
        positions: where each case is cut, as show_slice takes it.
    """
    columns = len(next(iter(rows.values())))
    with figure_grid(len(rows), columns, size=(3.1, 3.0)) as (figure, axes):
        for line, (case, panels) in zip(axes, rows.items(), strict=True):
            own = affine[case] if isinstance(affine, Mapping) else affine
            first = np.asarray(panels[0].volume)
            shown = panels[0].window or tuple(np.percentile(first, (0.5, 99.5)))
            for axis, panel in zip(line, panels, strict=True):
                low, high = panel.window or shown
                look = {"vmin": low, "vmax": high, "labels": panel.labels, "cmap": panel.cmap}
                show_slice(axis, panel.volume, own, plane, positions[case], title=panel.title, **look)
                if panel.bar:
                    figure.colorbar(axis.images[0], ax=axis, shrink=0.8, label=panel.bar)
            line[0].set_ylabel(case)
        figure.suptitle(title, fontsize=12)
    return figure


def plot_label_curve(
    curves: Mapping[str, Mapping[Real, Interval]],
    differences: Mapping[Real, Interval],
    titles: Mapping[str, str],
    score: str,
    words: tuple[str, str],
    title: str = "",
    chance: Real | None = None,
) -> Figure:
    """Left: a score against the number of labelled cases, a line per start; right: what pre-training adds.

    Args:
        curves: start to {labelled cases: (mean, low, high)}.
        differences: labelled cases to (mean, low, high) of the paired difference.
        titles: start to title.
        score: name of the score, for the left axis.
        words: labels of the lower axis and of the right one.
        chance: score of a guess, drawn as a line.
    """
    with figure_grid(1, 2, size=(5.2, 3.9)) as (figure, axes):
        left, right = axes[0]
        if chance is not None:
            left.axhline(chance, color="black", linestyle="--", linewidth=1, label="chance")
        for number, (start, points) in enumerate(curves.items()):
            counts = np.array(list(points), dtype=float) * (1 + 0.03 * (number - (len(curves) - 1) / 2))
            mean, low, high = np.transpose(list(points.values()))
            style = arm_style(start)
            left.errorbar(
                counts, mean, [mean - low, high - mean], label=titles[start], capsize=3, markersize=7, **style
            )
        counts = np.array(list(differences), dtype=float)
        mean, low, high = np.transpose(list(differences.values()))
        right.errorbar(counts, mean, [mean - low, high - mean], capsize=3, markersize=7, **arm_style("s2dc"))
        right.axhline(0, color="black", linewidth=0.8)
        for axis in (left, right):
            axis.set_xscale("log")
            axis.xaxis.set_major_locator(FixedLocator(counts))
            axis.xaxis.set_minor_locator(NullLocator())
            axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axis.set_xlabel(words[0])
        left.set_ylim(bottom=0)
        left.set_ylabel(score)
        right.set_ylabel(words[1])
        left.legend(fontsize=10, loc="lower right")
        figure.suptitle(title, fontsize=12)
    return figure


def plot_scores_against(
    across: Mapping[str, Real],
    up: Mapping[str, Real],
    numbers: Mapping[str, int],
    words: tuple[str, str],
    title: str = "",
) -> Figure:
    """A point per organ, in its colour and with its name.

    Args:
        across, up: name to value.
        numbers: name to label, for the colour.
        words: labels of the two axes.
    """
    with figure_grid(1, 1, size=(6.6, 4.6)) as (figure, axes):
        axis = axes[0, 0]
        spread = [np.ptp(list(values.values())) or 1 for values in (across, up)]
        placed: list[tuple[Real, Real]] = []
        for name in sorted(across, key=lambda name: -up[name]):
            point = (across[name], up[name])
            axis.plot(*point, "o", markersize=9, color=label_colour(numbers[name]), markeredgecolor="black")
            crowded = any(abs(point[0] - x) < 0.3 * spread[0] and y - point[1] < 0.06 * spread[1] for x, y in placed)
            below = {"xytext": (7, -11) if crowded else (7, 3), "textcoords": "offset points"}
            axis.annotate(label_words(name), point, fontsize=9, **below)
            placed.append(point)
        axis.axvline(0, color=GREY, linewidth=0.8, zorder=0)
        axis.set(xlabel=words[0], ylabel=words[1], title=title)
        axis.margins(x=0.18, y=0.1)
    return figure


def plot_loss_curves(
    losses: Mapping[str, Sequence[Real]], titles: Mapping[str, str], window: int, title: str
) -> Figure:
    """The loss of each start against the step, faint, and its running mean, on a logarithmic axis.

    Args:
        window: steps of the mean, about as many before a step as after it; fewer at both ends.
    """
    with figure_grid(1, 1, size=(6.6, 3.6)) as (figure, axes):
        axis = axes[0, 0]
        for start, values in losses.items():
            colour, steps = arm_style(start)["color"], np.arange(1, len(values) + 1)
            axis.plot(steps, values, color=colour, alpha=0.45, linewidth=1)
            axis.plot(steps, _running_mean(values, window // 2), color=colour, linewidth=2.2, label=titles[start])
        axis.set(xlabel="step", ylabel="loss", title=title, yscale="log")
        axis.yaxis.set_major_locator(FixedLocator([0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5, 10]))
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.yaxis.set_minor_locator(NullLocator())
        axis.legend(fontsize=10)
    return figure


def _running_mean(values: Sequence[Real], reach: int) -> list[float]:
    """Of each value and up to `reach` on both of its sides, as many on the one as on the other."""
    last = len(values) - 1
    near = [min(reach, k, last - k) for k in range(len(values))]
    return [float(np.mean(values[k - n : k + n + 1])) for k, n in enumerate(near)]


def plot_confusion(tables: Mapping[str, Array], names: Sequence[str]) -> Figure:
    """A panel per start: how many cases of each class (rows) were taken for each (columns), with the sums of both."""
    with figure_grid(1, len(tables), size=(4.0, 4.0)) as (figure, axes):
        for axis, (title, counts) in zip(axes[0], tables.items(), strict=True):
            counts = np.asarray(counts)
            axis.imshow(counts, cmap="Blues", vmin=0, vmax=counts.sum(1).max())
            for row, column in np.ndindex(counts.shape):
                dark = counts[row, column] > 0.6 * counts.sum(1).max()
                word = {"ha": "center", "va": "center", "color": "white" if dark else "black"}
                axis.text(column, row, int(counts[row, column]), **word)
            columns, rows = ([f"{name}\n{total} in all" for name, total in zip(names, counts.sum(k), strict=True)]
                             for k in (0, 1))  # fmt: skip
            axis.set_xticks(range(len(names)), columns)
            axis.set_yticks(range(len(names)), rows if axis is axes[0, 0] else [""] * len(names))
            axis.set(xlabel="taken for", ylabel="is" if axis is axes[0, 0] else "")
            axis.set_title(f"{title}: {np.trace(counts) / counts.sum():.0%} right")
    return figure
