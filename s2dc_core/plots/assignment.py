"""Figures of lesson 02: the assignment of tokens by the dual-softmax and by Sinkhorn (paper section 3.2, eqs. 4-5)."""

from collections.abc import Mapping, Sequence
from numbers import Real

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter
from torch import Tensor

from s2dc_core.plots.slices import PALETTE, figure_grid, show_slice

ORANGE, SKY, GREEN, _, PINK, RED, BLUE = PALETTE[:7]
GREY = "#555555"
LINES = ((BLUE, "o", "-"), (RED, "s", "--"), (GREEN, "^", "-."), (PINK, "D", ":"), (ORANGE, "v", "-"), (SKY, "P", "--"))
DECADES = 3


def plot_matched_pair(
    views: Mapping[str, tuple[Float[Tensor, "x y z"], Sequence[Real] | Tensor, Sequence[Real] | Tensor]],
    affine: Float[np.ndarray, "4 4"],
    patch: Sequence[int],
    plane: str = "axial",
) -> Figure:
    """A region and its counterpart, each cut through a point; a frame shows the token of the matched pair.

    Args:
        views: title to (volume, the token's centre, the point that a cross marks), both in voxels; the first volume
            sets the window.
        affine: voxel index to millimetres, of all.
        patch: voxels of a token along each axis.
        plane: see `show_slice`.
    """
    low, high = np.nanpercentile(next(iter(views.values()))[0], (0.5, 99.5))
    with figure_grid(1, len(views), size=(3.6, 3.8)) as (figure, axes):
        for ax, (title, (volume, centre, point)) in zip(axes[0], views.items(), strict=True):
            mark = (affine @ [*map(float, point), 1.0])[:3]
            shown = show_slice(ax, volume, affine, plane, mark=mark, vmin=low, vmax=high, title=title)
            corners = [[float(c) + sign * side / 2 for c, side in zip(centre, patch, strict=True)] for sign in (-1, 1)]
            (left, bottom, _), (right, top, _) = (shown.slice.project((affine @ [*c, 1.0])[:3]) for c in corners)
            frame = {"fill": False, "edgecolor": ORANGE, "linewidth": 2}
            ax.add_patch(Rectangle((left, bottom), right - left, top - bottom, **frame))
    return figure


def plot_assignment_maps(
    maps: Mapping[str, Float[Tensor, "n m"]],
    source: Int[Tensor, " p"],
    target: Int[Tensor, " p"],
    logarithmic: Sequence[str] = (),
) -> Figure:
    """Small matrices of tokens of V (rows) by tokens of V' (columns) side by side, true pairs ringed.

    Args:
        maps: title to matrix; those named in `logarithmic` hold logarithms to base e and are drawn to base 10, in one
            range: from the largest entry of all down three decades.
        source, target: tokens of the true pairs.
    """
    values = {name: v.detach().numpy() / (np.log(10) if name in logarithmic else 1) for name, v in maps.items()}
    top = max((float(values[name].max()) for name in logarithmic), default=0.0)
    with figure_grid(1, len(maps), size=(3.5, 3.5)) as (figure, axes):
        for ax, (title, entries) in zip(axes[0], values.items(), strict=True):
            window = {"vmin": top - DECADES, "vmax": top} if title in logarithmic else {}
            image = ax.imshow(entries, cmap="viridis", interpolation="nearest", aspect="auto", **window)
            figure.colorbar(image, ax=ax, shrink=0.8, label="$\\log_{10}$" if title in logarithmic else "cosine")
            ring = {"markersize": 6, "markerfacecolor": "none", "markeredgecolor": "white", "linestyle": "none"}
            ax.plot(target, source, "o", markeredgewidth=0.9, **ring)
            ax.set(xlim=(-0.5, entries.shape[1] - 0.5), ylim=(entries.shape[0] - 0.5, -0.5), title=title)
            ax.set(xlabel="token $j$ of $V'$")
            ax.set_box_aspect(1)
        axes[0, 0].set_ylabel("token $i$ of $V$")
    return figure


def plot_numbered_matrices(matrices: Mapping[str, Float[Tensor, "n m"]], by_column: Sequence[str] = ()) -> Figure:
    """Small matrices with their numbers in the cells, and a frame round the largest entry of each row.

    Args:
        matrices: title to matrix.
        by_column: titles of those that get a frame in each column instead.
    """
    with figure_grid(1, len(matrices), size=(3.3, 3.5)) as (figure, axes):
        for ax, (title, values) in zip(axes[0], matrices.items(), strict=True):
            limit = max(1.0, float(values.max()))
            ax.imshow(values.numpy(), cmap="Blues", vmin=min(0.0, float(values.min())), vmax=1.25 * limit)
            for (row, column), value in np.ndenumerate(values.numpy()):
                colour = "white" if value > 0.7 * limit else "black"
                ax.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=10.5, color=colour)
            down, across = title in by_column, range(values.shape[0 if title not in by_column else 1])
            for place, best in zip(across, values.argmax(0 if down else 1).tolist(), strict=True):
                column, row = (place, best) if down else (best, place)
                ax.add_patch(Rectangle((column - 0.46, row - 0.46), 0.92, 0.92, fill=False, edgecolor=RED, lw=2))
            ax.set(title=title, xticks=range(values.shape[1]), yticks=range(values.shape[0]))
            ax.set_xticklabels([f"$j={j + 1}$" for j in range(values.shape[1])])
            ax.set_yticklabels([f"$i={i + 1}$" for i in range(values.shape[0])])
            ax.tick_params(length=0)
            ax.spines[:].set_visible(False)
        columns = ", ".join(by_column)
        figure.supxlabel("framed: the largest of each row" + (f"; {columns}: of each column" if columns else ""))
    return figure


def plot_marginals(row_sums: Mapping[str, Float[Tensor, " n"]], worst: Mapping[int, Real], bound: Real = 1.0) -> Figure:
    """Left: the row sums of each assignment, sorted. Right: the largest distance of a row sum from 1 per iteration.

    Args:
        row_sums: name to the sums over each row.
        worst: number of Sinkhorn iterations to max |row sum - 1|.
        bound: what a row of a doubly stochastic matrix sums to.
    """
    with figure_grid(1, 2, size=(4.8, 3.4)) as (figure, axes):
        for (name, sums), (colour, _, style) in zip(row_sums.items(), LINES, strict=False):
            share, ordered = np.linspace(0, 100, len(sums)), np.sort(sums.detach().numpy())
            axes[0, 0].plot(share, ordered, style, color=colour, label=name)
            _label_line(axes[0, 0], name, (100, ordered[-1]), colour)
        axes[0, 0].plot([0, 100], [bound] * 2, color=GREY, linewidth=0.9, zorder=0)
        axes[0, 0].set(xlabel="tokens of $V$, sorted (%)", ylabel="row sum", ylim=(0, None))
        axes[0, 0].set_title("Only Sinkhorn's rows go to 1")
        axes[0, 1].plot(list(worst), list(worst.values()), "o-", color=BLUE)
        axes[0, 1].set(xscale="log", yscale="log", xlabel="Sinkhorn iterations", ylabel="largest |row sum $-$ 1|")
        plain_ticks(axes[0, 1], list(worst))
        axes[0, 1].set_title("How far the rows are from 1")
    return figure


def plot_gain_by_iterations(
    gains: Mapping[str, Mapping[str, Mapping[int, tuple[Real, Real, Real]]]], than: str
) -> Figure:
    """How much better an operator reads than another one, against its iterations, one panel a kind of tokens.

    Args:
        gains: title to operator to iterations to (mean, low, high) of the paired difference in average precision.
        than: the operator that the differences are from, which is the line at 0.
    """
    with figure_grid(1, len(gains), size=(3.7, 3.5)) as (figure, axes):
        for ax in axes[0, 1:]:
            ax.sharey(axes[0, 0])
        for ax, (title, operators) in zip(axes[0], gains.items(), strict=True):
            ax.axhline(0, color=GREY, linewidth=1, zorder=0)
            for (name, found), (colour, marker, style) in zip(operators.items(), LINES, strict=False):
                mean, low, high = 100 * np.array(list(found.values())).T
                bars = {"yerr": (mean - low, high - mean), "capsize": 3, "elinewidth": 1}
                ax.errorbar(list(found), mean, color=colour, marker=marker, linestyle=style, label=name, **bars)
            ax.set(xscale="log", title=title, xlabel="Sinkhorn iterations")
            plain_ticks(ax, sorted({n for found in operators.values() for n in found}))
        axes[0, 0].set_ylabel(f"average precision, points\nabove {than}")
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def plot_quality_against_temperature(
    temperature: Sequence[Real], quality: Mapping[str, Mapping[str, Sequence[tuple[Real, Real, Real]]]]
) -> Figure:
    """Quality of each operator against the temperature, with its interval, one panel per kind of tokens.

    Args:
        temperature: where it was measured.
        quality: title to operator to its (mean, low, high) at each temperature, in [0, 1].
    """
    with figure_grid(1, len(quality), size=(3.7, 3.5)) as (figure, axes):
        for ax, (title, operators) in zip(axes[0], quality.items(), strict=True):
            for (name, values), (colour, marker, style) in zip(operators.items(), LINES, strict=False):
                mean, low, high = np.array(values).T
                ax.plot(temperature, mean, color=colour, marker=marker, linestyle=style, markersize=5, label=name)
                ax.fill_between(temperature, low, high, color=colour, alpha=0.12, linewidth=0)
            ax.set(xscale="log", title=title, xlabel="temperature")
            plain_ticks(ax, temperature)
        axes[0, 0].set_ylabel("average precision\n(each panel its own scale)")
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
    return figure


def plot_training_curves(
    steps: Sequence[int], accuracy: Mapping[str, Float[Tensor, "seeds steps"]], milliseconds: Mapping[str, Real]
) -> Figure:
    """Accuracy on unseen tokens, mean and range over seeds: left against steps, right against time.

    Args:
        steps: when it was measured, from 0.
        accuracy: name of the arm to its accuracies.
        milliseconds: time of one step of each arm.
    """
    with figure_grid(1, 2, size=(5.0, 4.0)) as (figure, axes):
        for (name, values), (colour, marker, style) in zip(accuracy.items(), LINES, strict=False):
            values, at = values.numpy(), np.asarray(steps)
            seconds = at * milliseconds[name] / 1000
            line = {"color": colour, "marker": marker, "linestyle": style, "markersize": 5}
            for ax, x, first in zip(axes[0], (at, seconds), (0, 1), strict=True):  # a logarithmic axis has no 0
                ax.plot(x[first:], values.mean(0)[first:], label=name, **line)
                ends = (values.min(0)[first:], values.max(0)[first:])
                ax.fill_between(x[first:], *ends, color=colour, alpha=0.15, linewidth=0)
        axes[0, 0].set(xlabel="steps", ylabel="right partner first (share)", title="Step by step", ylim=(0, 1))
        axes[0, 1].set(xlabel="seconds of training (log)", xscale="log", title="Second by second", ylim=(0, 1))
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def plot_loss_against_temperature(
    temperature: Float[Tensor, " t"],
    curves: Mapping[str, Float[Tensor, " t"]],
    gradient: Mapping[str, tuple[Sequence[Real], Sequence[Real]]],
    marked: Mapping[str, Real] = {},
) -> Figure:
    """L_p2p against the temperature: closed forms, and the gradient on a token.

    Args:
        temperature: of the curves.
        curves: name to closed form, named at its right end.
        gradient: name to (temperatures, gradient norms) of tokens, named at its largest value.
        marked: name to a temperature that gets a line.
    """
    with figure_grid(1, 2, size=(5.2, 3.8)) as (figure, axes):
        left, right = axes[0]
        for (name, values), (colour, _, style) in zip(curves.items(), LINES, strict=False):
            left.plot(temperature, values, style, color=colour, label=name)
            _label_line(left, name, (float(temperature[-1]), float(values[-1])), colour)
        beside = ((8, 5), (8, 6), (-14, -18))  # the third lies below the others
        for (name, (at, norms)), (colour, marker, style), offset in zip(gradient.items(), LINES, beside, strict=False):
            right.plot(at, norms, label=name, color=colour, marker=marker, linestyle=style)
            top = int(np.argmax(norms))
            _label_line(right, name, (at[top], norms[top]), colour, offset)
        left.set(ylabel="$L_{p2p}$", title="The loss and its floor", ylim=(-0.4, None))
        right.set(ylabel="$N\\,|\\partial L_{p2p}/\\partial t_i|$, mean", title="The pull on a token", ylim=(0, None))
        for ax in axes[0]:
            ax.set(xscale="log", xlabel="temperature")
            plain_ticks(ax, [0.02, 0.05, 0.1, 0.2, 0.5, 1])
            for place in marked.values():
                ax.axvline(place, color=GREY, linestyle=":", linewidth=1, zorder=0)
        for name, place in marked.items():
            words = {"rotation": 90, "ha": "right", "va": "top", "fontsize": 10, "color": GREY}
            left.text(place, 0.98, f"{name} ", transform=left.get_xaxis_transform(), **words)
    return figure


def _label_line(ax: Axes, name: str, at: tuple[Real, Real], colour: str, offset: tuple[Real, Real] = (6, -4)) -> None:
    """A line's name beside a point of it."""
    ax.annotate(name, at, offset, textcoords="offset points", fontsize=10, color=colour, annotation_clip=False)


def plain_ticks(ax: Axes, places: Sequence[Real]) -> None:
    """Ticks of a logarithmic axis at these places, written as plain numbers."""
    ax.xaxis.set_major_locator(FixedLocator(places))
    ax.xaxis.set_major_formatter(ScalarFormatter())
    ax.xaxis.set_minor_locator(NullLocator())
