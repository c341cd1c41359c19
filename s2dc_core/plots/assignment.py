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
    truth: str | None = None,
) -> Figure:
    """Matrices of tokens of V (rows) by tokens of V' (columns) side by side, matched pairs ringed or dotted.

    Args:
        maps: title to matrix; those named in `logarithmic` hold logarithms to base e and are drawn to base 10,
            from their largest entry down three decades.
        source, target: tokens of the true pairs.
        truth: title of a first panel that shows the true pairs alone; None for none.
    """
    shape = next(iter(maps.values())).shape
    few = max(shape) <= 64
    with figure_grid(1, len(maps) + (truth is not None), size=(3.5, 3.5)) as (figure, axes):
        if truth is not None:
            axes[0, 0].plot(target, source, "s", color="black", markersize=4 if few else 2.2, linestyle="none")
            axes[0, 0].set_title(truth)
        for ax, (title, values) in zip(axes[0, truth is not None :], maps.items(), strict=True):
            in_log = title in logarithmic
            values = values.detach().numpy() / (np.log(10) if in_log else 1)
            top = float(values.max())
            window = {"vmin": top - DECADES, "vmax": top} if in_log else {}
            image = ax.imshow(values, cmap="viridis", interpolation="nearest", aspect="auto", **window)
            figure.colorbar(image, ax=ax, shrink=0.8, label="$\\log_{10}$" if in_log else "cosine")
            if few:
                ring = {"markersize": 6, "markerfacecolor": "none", "markeredgecolor": "white", "linestyle": "none"}
                ax.plot(target, source, "o", markeredgewidth=0.9, **ring)
            ax.set_title(title)
        for ax in axes[0]:
            ax.set(xlim=(-0.5, shape[1] - 0.5), ylim=(shape[0] - 0.5, -0.5), xlabel="token $j$ of $V'$")
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
    return figure


def plot_marginals(row_sums: Mapping[str, Float[Tensor, " n"]], worst: Mapping[int, Real], bound: Real = 1.0) -> Figure:
    """Left: the row sums of each assignment, sorted. Right: the largest distance of a row sum from 1 per iteration.

    Args:
        row_sums: name to the sums over each row.
        worst: number of Sinkhorn iterations to max |row sum - 1|.
        bound: what a row of a doubly stochastic matrix sums to.
    """
    with figure_grid(1, 2, size=(4.6, 3.6)) as (figure, axes):
        for (name, sums), (colour, _, style) in zip(row_sums.items(), LINES, strict=False):
            share = np.linspace(0, 100, len(sums))
            axes[0, 0].plot(share, np.sort(sums.detach().numpy()), style, color=colour, label=name)
        axes[0, 0].axhline(bound, color=GREY, linewidth=0.9, zorder=0)
        axes[0, 0].set(xlabel="tokens of $V$, sorted (%)", ylabel="row sum", ylim=(0, None))
        axes[0, 0].set_title("Only Sinkhorn's rows go to 1")
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=len(row_sums))
        axes[0, 1].plot(list(worst), list(worst.values()), "o-", color=BLUE)
        axes[0, 1].set(xscale="log", yscale="log", xlabel="Sinkhorn iterations", ylabel="largest |row sum $-$ 1|")
        _plain_ticks(axes[0, 1], list(worst))
        axes[0, 1].set_title("How far the rows are from 1")
    return figure


def plot_mass_of_partners(panels: Mapping[str, tuple[Float[Tensor, " n"], Sequence[bool] | Tensor]]) -> Figure:
    """For each panel the mass that tokens keep, tokens with a partner against those without one.

    Args:
        panels: title to (mass per token, whether the token has a partner).
    """
    with figure_grid(1, len(panels), size=(3.7, 3.4)) as (figure, axes):
        for ax, (title, (mass, partner)) in zip(axes[0], panels.items(), strict=True):
            partner, mass = np.asarray(partner, dtype=bool), mass.detach().numpy()
            bins = np.linspace(0, max(1.0, float(mass.max())) + 1e-6, 26)
            groups = ((partner, BLUE, "", "has a partner"), (~partner, ORANGE, "//", "has none"))
            for chosen, colour, hatch, label in groups:
                look = {"color": colour, "alpha": 0.65, "hatch": hatch, "edgecolor": "black", "linewidth": 0.4}
                ax.hist(mass[chosen], bins=bins, label=label, **look)
            ax.set(title=title, xlabel="mass a token gives to tokens of $V'$")
        axes[0, 0].set_ylabel("tokens of $V$")
        axes[0, 0].legend(fontsize=10)
    return figure


def plot_quality_against_cost(
    cost: Mapping[tuple[str, int], Real], quality: Mapping[str, Mapping[tuple[str, int], Real]]
) -> Figure:
    """Quality of each operator against its cost in dual-softmaxes, one panel per kind of tokens.

    Args:
        cost: (operator, iterations) to time over the time of a dual-softmax; iterations is 0 for an operator
            without any. An operator of cost 0 is drawn as a level, for comparison.
        quality: title to the quality, in [0, 1], of each of these operators.
    """
    with figure_grid(1, len(quality), size=(3.9, 3.8)) as (figure, axes):
        for ax, (title, values) in zip(axes[0], quality.items(), strict=True):
            families = list(dict.fromkeys(name for name, _ in values))
            for family, (colour, marker, style) in zip(families, (*LINES,), strict=False):
                keys = [key for key in values if key[0] == family]
                if cost[keys[0]] == 0:
                    ax.axhline(values[keys[0]], color=GREY, linestyle=":", label=family)
                    continue
                single = {"marker": "*", "markersize": 17, "linestyle": "none"}
                line = {"marker": marker, "linestyle": style, "markersize": 6}
                look = single if keys[0][1] == 0 else line
                ax.plot([cost[k] for k in keys], [values[k] for k in keys], color=colour, label=family, **look)
                if keys[0][1]:
                    for key, up in ((keys[0], -16), (keys[-1], 7)):
                        beside = {"xytext": (0, up), "textcoords": "offset points", "ha": "center", "color": colour}
                        ax.annotate(str(key[1]), (cost[key], values[key]), fontsize=10, **beside)
            ax.set(xscale="log", title=title, xlabel="cost (dual-softmaxes)")
            ax.margins(y=0.1)
            _plain_ticks(ax, [1, 2, 5, 10, 20, 50, 100])
        axes[0, 0].set_ylabel("average precision")
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def plot_quality_against_temperature(
    temperature: Sequence[Real], quality: Mapping[str, Mapping[str, Sequence[Real]]]
) -> Figure:
    """Quality of each operator against the temperature, one panel per kind of tokens.

    Args:
        temperature: where it was measured.
        quality: title to operator to its qualities, in [0, 1].
    """
    with figure_grid(1, len(quality), size=(3.9, 3.8)) as (figure, axes):
        for ax, (title, operators) in zip(axes[0], quality.items(), strict=True):
            for (name, values), (colour, marker, style) in zip(operators.items(), LINES, strict=False):
                ax.plot(temperature, values, color=colour, marker=marker, linestyle=style, markersize=5, label=name)
            ax.set(xscale="log", title=title, xlabel="temperature")
            _plain_ticks(ax, temperature)
        axes[0, 0].set_ylabel("average precision")
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
    measured: Mapping[str, tuple[Sequence[Real], Sequence[Real]]],
    gradient: Mapping[str, tuple[Sequence[Real], Sequence[Real]]],
    marked: Sequence[Real] = (),
) -> Figure:
    """L_p2p against the temperature: closed forms with points measured on tokens, and the gradient on a token.

    Args:
        temperature: of the curves.
        curves: name to closed form.
        measured: name to (temperatures, losses) of tokens.
        gradient: name to (temperatures, gradient norms) of tokens.
        marked: temperatures to mark by a line.
    """
    with figure_grid(1, 2, size=(5.4, 4.6)) as (figure, axes):
        for (name, values), (colour, _, style) in zip(curves.items(), LINES, strict=False):
            axes[0, 0].plot(temperature, values, style, color=colour, label=name)
        for number, (name, (at, losses)) in enumerate(measured.items()):
            marker = LINES[number][1]
            axes[0, 0].plot(at, losses, marker, color="black", markersize=5.5, label=name, markerfacecolor="none")
        for (name, (at, norms)), (colour, marker, style) in zip(gradient.items(), LINES, strict=False):
            axes[0, 1].plot(at, norms, label=name, color=colour, marker=marker, linestyle=style)
        axes[0, 1].legend(fontsize=10, loc="upper center", bbox_to_anchor=(0.5, -0.2))
        axes[0, 0].set(ylabel="$L_{p2p}$", title="The loss and its floor", ylim=(-0.4, None))
        axes[0, 1].set(
            ylabel="$N\\,|\\partial L_{p2p}/\\partial t_i|$, mean", title="The pull on a token", ylim=(0, None)
        )
        for ax in axes[0]:
            ax.set(xscale="log", xlabel="temperature")
            _plain_ticks(ax, [0.02, 0.05, 0.1, 0.2, 0.5, 1])
            for place in marked:
                ax.axvline(place, color=GREY, linestyle=":", linewidth=1, zorder=0)
        axes[0, 0].legend(fontsize=10, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)
    return figure


def plot_clamped_confidences(
    curves: Mapping[str, tuple[Sequence[Real], Sequence[Real]]],
    clamped: Mapping[str, tuple[Sequence[Real], Sequence[Real]]],
    pull: Mapping[str, tuple[Sequence[Real], Sequence[Real]]],
    clamp: Real,
    grids: Sequence[int] = (),
) -> Figure:
    """Against the number of tokens N: confidence of a true pair, share of true pairs clamped, pull on a token.

    Args:
        curves: name to (N, confidence of a true pair), closed forms.
        clamped: name to (N, share of true pairs below the clamp), measured.
        pull: name to (N, gradient norm), measured.
        clamp: smallest confidence that the published loss lets through.
        grids: numbers of tokens to mark by a line.
    """
    with figure_grid(1, 3, size=(4.4, 4.4)) as (figure, axes):
        for ax, lines in zip(axes[0], (curves, clamped, pull), strict=True):
            for number, (name, (tokens, values)) in enumerate(lines.items()):
                colour, marker, style = LINES[number]
                look = {} if lines is curves else {"marker": marker, "markersize": 5}
                look |= {"linewidth": 4, "alpha": 0.6} if lines is pull and number == 0 else {}
                ax.plot(tokens, values, linestyle=style, color=colour, label=name, **look)
            for grid in grids:
                ax.axvline(grid, color=GREY, linestyle=":", linewidth=1, zorder=0)
            ax.set(xscale="log", xlabel="tokens $N$")
            ax.legend(fontsize=10, loc="upper center", bbox_to_anchor=(0.5, -0.2))
        axes[0, 0].set(yscale="log", ylabel="confidence of a true pair", title="Below the clamp: no gradient")
        axes[0, 0].set_ylim(bottom=clamp**2)
        axes[0, 0].axhspan(clamp**2, clamp, color=GREY, alpha=0.2, linewidth=0)
        axes[0, 0].text(0.25, clamp / 3e3, "clamped", transform=axes[0, 0].get_yaxis_transform(), va="top", fontsize=10)
        for grid in grids:
            place = {"transform": axes[0, 0].get_xaxis_transform(), "rotation": 90, "ha": "right", "va": "bottom"}
            axes[0, 0].text(grid, 0.02, f"{grid:,} ", fontsize=10, **place)
        axes[0, 1].set(ylabel="true pairs clamped (%)", ylim=(-4, 104), title="How many are below it")
        axes[0, 2].set(
            ylabel="$N\\,|\\partial L/\\partial t_i|$, mean",
            title="What pull is left on distinct tokens",
            ylim=(0, None),
        )
    return figure


def _plain_ticks(ax: Axes, places: Sequence[Real]) -> None:
    ax.xaxis.set_major_locator(FixedLocator(places))
    ax.xaxis.set_major_formatter(ScalarFormatter())
    ax.xaxis.set_minor_locator(NullLocator())
