"""Figures of lesson 03: the similarity distribution of an anchor, its Sharpe ratio, and the weight made of it."""

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from s2dc_core.features import token_affine
from s2dc_core.plots.slices import PALETTE, Array, figure_grid, show_slice

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
    with figure_grid(3, len(anchors), size=(3.7, 2.75)) as (figure, axes):
        for column, (anchor, D) in enumerate(zip(anchors, values, strict=True)):
            show_slice(axes[0, column], source, affine, mark=anchor.point, title=f"{anchor.name}: in V", **window)
            over = {"overlay": D, "overlay_affine": grid_affine, "overlay_alpha": 1.0}
            over |= {"overlay_vmin": float(low), "overlay_vmax": float(high)}
            shown = show_slice(
                axes[1, column], target, affine, mark=anchor.counterpart, title="similarity over V'", **over, **window
            )
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
    distribution: Array, peaks: int, counts: Sequence[int], curves: Mapping[str, Sequence[Real]], measured: Real
) -> Figure:
    """Left: a D_n with a number of equal peaks; right: the Sharpe ratio against that number, log-log.

    Args:
        distribution: [N].
        peaks: how many peaks it has.
        counts: numbers of peaks at which the curves are given.
        curves: name to ratio at each count.
        measured: ratio of `distribution`, drawn as a dot.
    """
    D = np.asarray(distribution)
    with figure_grid(1, 2, size=(5.4, 3.5)) as (figure, axes):
        left, right = axes[0]
        left.vlines(np.arange(len(D)), 0, D, color=SKY, linewidth=0.8)
        left.axhline(D.mean(), color="black")
        left.set(xlabel="token m of V'", ylabel="similarity $D_n(m)$", title=f"{peaks} of {len(D)} tokens are alike")
        for (name, ratios), colour in zip(curves.items(), (BLUE, RED, GREEN, PINK), strict=False):
            right.plot(counts, ratios, color=colour, label=name)
        right.plot(peaks, measured, "o", color="black", markersize=9, label="the one on the left")
        right.set(xscale="log", yscale="log", xlabel="number of alike tokens k", ylabel="Sharpe ratio")
        right.set_title("Noise hides how many peaks there are")
        right.legend(loc="lower left")
    return figure


def plot_ratios_by_tissue(panels: Mapping[str, Mapping[str, Array]], bold: Sequence[str] = ()) -> Figure:
    """Sharpe ratios of the tokens of each tissue, a panel per encoder, each ordered by its own median.

    Boxes hold the middle half of the tokens, whiskers 5 to 95 %; the number of tokens stands with the name.

    Args:
        panels: title to {tissue: ratios of its tokens}.
        bold: tissues to colour.
    """
    rows = max(len(tissues) for tissues in panels.values())
    colours = dict(zip(bold, (RED, BLUE, GREEN, PINK), strict=False))
    with figure_grid(1, len(panels), size=(5.6, 0.9 + 0.27 * rows)) as (figure, axes):
        for axis, (title, tissues) in zip(axes[0], panels.items(), strict=True):
            values = {name: np.asarray(ratios) for name, ratios in tissues.items()}
            order = sorted(values, key=lambda name: np.median(values[name]))
            boxes = axis.boxplot(
                [values[name] for name in order],
                orientation="horizontal",
                whis=(5, 95),
                showfliers=False,
                patch_artist=True,
                medianprops={"color": "black"},
            )
            for name, box in zip(order, boxes["boxes"], strict=True):
                box.set_facecolor(colours.get(name, "#DDDDDD"))
            axis.set_yticks(range(1, len(order) + 1), [f"{name} ({len(values[name])})" for name in order])
            axis.tick_params(axis="y", labelsize=10)
            axis.set(xlabel="Sharpe ratio", title=title)
    return figure


def plot_ratio_against_look_alikes(
    panels: Mapping[str, Mapping[str, tuple[Real, Real]]], bold: Sequence[str] = ()
) -> Figure:
    """Median Sharpe ratio of each tissue against its median number of look-alikes, a panel per encoder.

    Args:
        panels: title to {tissue: (look-alikes, ratio)}.
        bold: tissues to colour and name in bold; the others are named where there is room.
    """
    colours = dict(zip(bold, (RED, BLUE, GREEN, PINK), strict=False))
    with figure_grid(1, len(panels), size=(7.2, 4.4)) as (figure, axes):
        for axis, (title, tissues) in zip(axes[0], panels.items(), strict=True):
            points = {name: np.array([np.log(count), ratio]) for name, (count, ratio) in tissues.items()}
            size = np.ptp(list(points.values()), axis=0).clip(1e-9)
            named = []
            for name in sorted(points, key=lambda name: name not in colours):
                front = {"zorder": 3 if name in colours else 2}
                axis.plot(*tissues[name], "o", color=colours.get(name, "#999999"), markersize=8, **front)
                if all((np.abs(points[name] - points[other]) > size * (0.35, 0.06)).any() for other in named):
                    weight = "bold" if name in colours else "normal"
                    offset = {"xytext": (7, 4), "textcoords": "offset points", "zorder": 4}
                    text = axis.annotate(name, tissues[name], fontsize=10, fontweight=weight, **offset)
                    text.set_path_effects([withStroke(linewidth=3, foreground="white")])
                    named.append(name)
            axis.set(xscale="log", xlabel="look-alikes (median)", ylabel="Sharpe ratio (median)", title=title)
            axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
            axis.xaxis.set_minor_formatter(NullFormatter())
            axis.margins(x=0.2, y=0.08)
    return figure


def plot_sorted_weights(weights: Mapping[str, Array], title: str = "") -> Figure:
    """The softmax weights of a region's tokens from the largest down, times N, both axes logarithmic.

    The legend gives the effective number of tokens, exp of the entropy: N if all weigh the same, 1 if one has all.
    """
    with figure_grid(1, 1, size=(7.2, 4.0)) as (figure, axes):
        axis, styles = axes[0, 0], ((BLUE, "-"), (SKY, "--"), (ORANGE, "-"), (RED, "-"))
        for (name, values), (colour, dash) in zip(weights.items(), styles, strict=False):
            values = np.sort(np.asarray(values, dtype=float))[::-1]
            label = f"{name}: {effective_number(values):,.0f} of {len(values):,} tokens count"
            axis.plot(np.arange(1, len(values) + 1), values * len(values), dash, color=colour, label=label)
        axis.axhline(1, color="black", linewidth=0.8)
        axis.set(xscale="log", yscale="log", ylim=(1e-6, None), title=title)
        axis.set(xlabel="rank of the token", ylabel="weight x N  (1 = all equal)")
        axis.legend(loc="lower left", fontsize=10)
    return figure


def effective_number(weights: Array) -> float:
    """exp of the entropy of weights that sum to 1."""
    weights = np.asarray(weights, dtype=float)
    weights = weights[weights > 0]
    return float(np.exp(-(weights * np.log(weights)).sum()))


def plot_loss_against_tokens(tokens: Sequence[int], losses: Mapping[str, Sequence[Real]], title: str = "") -> Figure:
    """Measured losses against the number of tokens N, log-log."""
    with figure_grid(1, 1, size=(7.2, 3.9)) as (figure, axes):
        axis = axes[0, 0]
        styles = ((SKY, "o-", 4), (BLUE, "s--", 1.5), (RED, "o-", 2), (ORANGE, "o-", 2))
        for (name, values), (colour, style, width) in zip(losses.items(), styles, strict=False):
            axis.plot(tokens, values, style, color=colour, label=name, markersize=5, linewidth=width)
        axis.set(xscale="log", yscale="log", xlabel="tokens N of a region", ylabel="loss", title=title)
        axis.set_xticks(tokens, [f"{count:,}" for count in tokens])
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.legend(loc="lower left")
    return figure


def plot_pushes_and_pulls(
    mean_gradient: Mapping[str, Mapping[str, Real]], share: Mapping[str, tuple[Real, Real]], title: str = ""
) -> Figure:
    """Left: which pairs a loss pulls together and which it pushes apart; right: how much it asks of each tissue.

    Args:
        mean_gradient: loss to {kind of pair: mean of dL / dM_t(n, m)}; negative pulls together.
        share: tissue to (its share of the matches, its share of the weight in L_p2s).
    """
    with figure_grid(1, 2, size=(6.0, 3.9)) as (figure, axes):
        left, right = axes[0]
        kinds = list(next(iter(mean_gradient.values())))
        height = 0.8 / len(mean_gradient)
        for number, (loss, colour) in enumerate(zip(mean_gradient, (SKY, RED, PINK), strict=False)):
            places = np.arange(len(kinds)) + (number - (len(mean_gradient) - 1) / 2) * height
            values = [mean_gradient[loss][kind] for kind in kinds]
            bars = left.barh(places, values, height * 0.9, color=colour, label=loss)
            left.bar_label(bars, [f"{value:+.0e}" for value in values], padding=3, fontsize=10)
        smallest = min(abs(value) for values in mean_gradient.values() for value in values.values() if value)
        left.set_xscale("symlog", linthresh=smallest / 3)
        left.set_xticks([])
        left.margins(x=0.25)
        left.axvline(0, color="black", linewidth=0.8)
        left.set_yticks(range(len(kinds)), kinds)
        left.invert_yaxis()
        left.set(xlabel="pulled together  ←  mean gradient (log scale)  →  pushed apart", title=title)
        left.legend(loc="lower left")
        tissues = sorted(share, key=lambda name: share[name][1] / share[name][0])
        relative = [share[name][1] / share[name][0] for name in tissues]
        right.barh(range(len(tissues)), relative, color=BLUE)
        right.axvline(1, color="black", linewidth=0.8)
        right.set_yticks(range(len(tissues)), tissues)
        right.set(xlabel="weight of its matches, relative to the mean", title="Who is asked less, who more")
    return figure
