"""Figures of lesson 03: the similarity distribution of an anchor, its Sharpe ratio, and the weight made of it."""

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from s2dc_core.features import token_affine
from s2dc_core.plots.slices import PALETTE, Array, figure_grid, oriented_slice, show_slice

ORANGE, SKY, GREEN, YELLOW, PINK, RED, BLUE = PALETTE[:7]


class Anchor(NamedTuple):
    """One token of V with its neighbourhood similarity distribution.

    Attributes:
        name: for the title.
        point: centre of the token in V, world mm.
        counterpart: where H takes it in V', world mm.
        distribution: D_n over the token grid of V', [x, y, z].
        ratio: Sharpe ratio of D_n.
    """

    name: str
    point: Sequence[Real] | np.ndarray
    counterpart: Sequence[Real] | np.ndarray
    distribution: Array
    ratio: float


def plot_anchors(
    source: Array, target: Array, affine: Array, patch: Sequence[int], anchors: Sequence[Anchor]
) -> Figure:
    """A column per anchor: it on V, its D_n laid over V', and the histogram of D_n (fig. 3).

    The slice of V' is the one through the anchor's counterpart, which the cross marks. All columns share one scale.

    Args:
        source, target: V and V', [X, Y, Z], as the encoder sees them.
        affine: of both.
        patch: voxels of a token.
        anchors: whose distributions lie on the token grid of V'.
    """
    source, target = np.asarray(source), np.asarray(target)
    grid_affine = token_affine(np.asarray(affine, dtype=float), patch)
    values = [np.asarray(anchor.distribution) for anchor in anchors]
    low, high = min(np.quantile(D, 0.02) for D in values), max(D.max() for D in values)
    window = {"vmin": float(source.min()), "vmax": float(np.quantile(source, 0.995))}
    cut = oriented_slice(source, affine)
    height = 3.2 * abs((cut.extent[3] - cut.extent[2]) / (cut.extent[1] - cut.extent[0])) + 0.35
    with figure_grid(3, len(anchors), size=(3.7, min(height, 3.7))) as (figure, axes):
        for column, (anchor, D) in enumerate(zip(anchors, values, strict=True)):
            show_slice(axes[0, column], source, affine, mark=anchor.point, title=f"{anchor.name}: in V", **window)
            over = {"overlay": D, "overlay_affine": grid_affine, "overlay_alpha": 1.0}
            over |= {"overlay_vmin": float(low), "overlay_vmax": float(high)}
            over |= {"mark": anchor.counterpart, "title": f"$D_n$ of {anchor.name}, over V'"}
            shown = show_slice(axes[1, column], target, affine, **over, **window)
            _histogram(axes[2, column], D, anchor.ratio)
            axes[2, column].set_xlim(min(D.min() for D in values), float(high) + 0.03)
        axes[2, 0].set_ylabel("tokens of V'")
        figure.colorbar(shown.overlay, ax=axes[1, :], label="similarity", shrink=0.9)
    return figure


def _histogram(axes: Axes, distribution: Array, ratio: Real) -> None:
    """Histogram of D_n on a log scale, with its mean, one standard deviation to either side, and its maximum."""
    D = np.asarray(distribution, dtype=float).ravel()
    mean, spread = D.mean(), D.std(ddof=1)
    counts, _, _ = axes.hist(D, bins=60, color=SKY, log=True)
    ceiling = counts.max() * 12
    axes.axvspan(mean - spread, mean + spread, color="#DDDDDD", zorder=0)
    axes.axvline(mean, color="black")
    axes.axvline(D.max(), color=RED, linestyle="--")
    axes.annotate("", (D.max(), ceiling / 3), (mean, ceiling / 3), arrowprops={"arrowstyle": "<->", "color": "black"})
    axes.text((mean + D.max()) / 2, ceiling / 2.6, f"{ratio:.1f} σ", ha="center", va="bottom")
    axes.set(xlabel="similarity with the anchor", ylim=(0.7, ceiling), title=f"Sharpe ratio {ratio:.2f}")


def plot_peaks(
    distribution: Array,
    peaks: int,
    counts: Sequence[int],
    curves: Mapping[str, Array | Sequence[Real]],
    measured: Real,
    hidden: Real = 0,
) -> Figure:
    """Left: a D_n with a number of equal peaks; right: the Sharpe ratio against that number, log-log.

    Args:
        distribution: [N].
        peaks: how many peaks it has.
        counts: numbers of peaks at which the curves are given.
        curves: name to ratio at each count, [counts], or of several draws [draws, counts]: their mean and, as a band,
            the middle nine tenths of them.
        measured: ratio of `distribution`, drawn as a dot.
        hidden: number of peaks below which noise decides, drawn as a shade; 0 for none.
    """
    D = np.asarray(distribution)
    with figure_grid(1, 2, size=(5.4, 3.5)) as (figure, axes):
        left, right = axes[0]
        left.vlines(np.arange(len(D)), 0, D, color=SKY, linewidth=0.8)
        left.axhline(D.mean(), color="black")
        left.set(xlabel="token m of V'", ylabel="similarity $D_n(m)$", title=f"{peaks} of {len(D)} tokens are alike")
        if hidden > 1:
            right.axvspan(1, hidden, color="#EEEEEE", zorder=0)
            right.text(1.15, 0.03, "noise decides", transform=right.get_xaxis_transform(), color="#666666")
        for (name, ratios), colour in zip(curves.items(), (BLUE, RED, GREEN, PINK), strict=False):
            draws = np.atleast_2d(np.asarray(ratios, dtype=float))
            right.plot(counts, draws.mean(0), color=colour, label=name)
            right.fill_between(counts, *np.quantile(draws, (0.05, 0.95), axis=0), color=colour, alpha=0.2, linewidth=0)
        right.plot(peaks, measured, "o", color="black", markersize=9, label="the one on the left")
        right.set(xscale="log", yscale="log", xlabel="number of alike tokens k", ylabel="Sharpe ratio")
        _whole_numbers(right.yaxis)
        _whole_numbers(right.xaxis)
        right.set_title("Noise hides how many peaks there are")
        right.legend(loc="upper right")
    return figure


def _whole_numbers(axis: Axis) -> None:
    """Ticks of a logarithmic axis at 1, 2, 5, 10 ..., written as they are."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axis.set_minor_formatter(NullFormatter())


def plot_ratios_by_tissue(
    panels: Mapping[str, Mapping[str, Array]],
    look_alikes: Mapping[str, tuple[Real, Real]] | None = None,
    bold: Sequence[str] = (),
) -> Figure:
    """Sharpe ratios of the tokens of each tissue, a panel per encoder; beside them how many tokens look like one.

    Boxes hold the middle half of the tokens, whiskers 5 to 95 %; the number of tokens stands with the name. All panels
    share their rows, which are ordered by the median in the last of them, and those of ratios their scale.

    Args:
        panels: title to {tissue: ratios of its tokens}, all of the same tissues.
        look_alikes: tissue to (look-alikes, share of them that is of the same tissue) for the last panel.
        bold: tissues to colour.
    """
    *_, last = panels.values()
    rows = sorted(last, key=lambda name: np.median(np.asarray(last[name])))
    colours = dict(zip(bold, (RED, BLUE, GREEN, PINK), strict=False))
    with figure_grid(1, len(panels) + bool(look_alikes), size=(4.2, 1.0 + 0.25 * len(rows))) as (figure, axes):
        for axis, (title, tissues) in zip(axes[0], panels.items(), strict=False):
            look = {"orientation": "horizontal", "whis": (5, 95), "showfliers": False, "patch_artist": True}
            boxes = axis.boxplot([np.asarray(tissues[name]) for name in rows], medianprops={"color": "black"}, **look)
            for name, box in zip(rows, boxes["boxes"], strict=True):
                box.set_facecolor(colours.get(name, "#DDDDDD"))
            axis.set(xlabel="Sharpe ratio", title=title)
        ends = np.array([axis.get_xlim() for axis in axes[0, : len(panels)]])
        for axis in axes[0, : len(panels)]:
            axis.set_xlim(ends[:, 0].min(), ends[:, 1].max())
        if look_alikes:
            _look_alikes(axes[0, -1], {name: look_alikes[name] for name in rows}, colours)
        for axis in axes[0]:
            axis.set(ylim=(0.4, len(rows) + 0.6), yticks=range(1, len(rows) + 1), yticklabels=[])
        axes[0, 0].set_yticklabels([f"{name} ({len(last[name])})" for name in rows], fontsize=10)
    return figure


def _look_alikes(axes: Axes, rows: Mapping[str, tuple[Real, Real]], colours: Mapping[str, str]) -> None:
    """A dot a tissue at the number of its look-alikes, and the share of them that is of the same tissue."""
    for place, (name, (count, same)) in enumerate(rows.items(), start=1):
        axes.plot(count, place, "o", color=colours.get(name, "#888888"), markersize=8)
        axes.annotate(f"{same:.0%}", (count, place), (8, 0), textcoords="offset points", va="center", fontsize=9)
    axes.set(xscale="log", xlabel="look-alikes of a token (median)")
    axes.set_title("look-alikes, and how\nmany are of the same tissue")
    axes.margins(x=0.25)
    _whole_numbers(axes.xaxis)


def plot_sorted_weights(weights: Mapping[str, Array], title: str = "") -> Figure:
    """The softmax weights of a region's tokens from the largest down, times N, both axes logarithmic.

    The legend gives the effective number of tokens, exp of the entropy: N if all weigh the same, 1 if one has all.
    """
    with figure_grid(1, 1, size=(8.6, 3.4)) as (figure, axes):
        axis, styles = axes[0, 0], ((BLUE, "-"), (SKY, "--"), (ORANGE, "-"), (RED, "-"))
        for (name, values), (colour, dash) in zip(weights.items(), styles, strict=False):
            values = np.sort(np.asarray(values, dtype=float))[::-1]
            label = f"{name}:\n{effective_number(values):,.0f} of {len(values):,} tokens count"
            axis.plot(np.arange(1, len(values) + 1), values * len(values), dash, color=colour, label=label)
        axis.axhline(1, color="black", linewidth=0.8)
        axis.set(xscale="log", yscale="log", ylim=(1e-6, None), title=title)
        axis.set(xlabel="rank of the token", ylabel="weight x N  (1 = all equal)")
        figure.legend(loc="outside right center", fontsize=10, labelspacing=1.2)
    return figure


def effective_number(weights: Array) -> float:
    """exp of the entropy of weights that sum to 1."""
    weights = np.asarray(weights, dtype=float)
    weights = weights[weights > 0]
    return float(np.exp(-(weights * np.log(weights)).sum()))


def plot_asked(share: Mapping[str, tuple[Real, Real]], title: str = "") -> Figure:
    """How much L_p2s asks of each tissue's matches, relative to the mean over all matches; a bar a tissue.

    Args:
        share: tissue to (its share of the matches, its share of the weight in L_p2s).
    """
    relative = {name: weight / part for name, (part, weight) in share.items()}
    tissues = sorted(relative, key=relative.get)
    with figure_grid(1, 1, size=(7.2, 1.1 + 0.25 * len(tissues))) as (figure, axes):
        axis = axes[0, 0]
        bars = axis.barh(tissues, [relative[name] for name in tissues], color=BLUE)
        words = [f"{relative[name]:.2f}" for name in tissues]
        axis.bar_label(bars, words, padding=3, fontsize=10, backgroundcolor="white")
        axis.axvline(1, color="black", linewidth=0.8)
        axis.set(xlabel="weight of its matches, relative to the mean", title=title)
        axis.margins(x=0.08)
    return figure
