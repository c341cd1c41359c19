"""Figures of lesson 04: what a step looks at, which stage learns from which loss, the curves of a run."""

from collections.abc import Mapping, Sequence
from numbers import Real

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from s2dc_core.plots.slices import PALETTE, Array, OrientedSlice, figure_grid, show_slice
from s2dc_core.plots.style import talking

BLUE, RED, GREY = PALETTE[6], PALETTE[5], "#666666"

STAGE_NAMES = {"patch_embed": "patch embedding"} | {f"layers{k}": f"stage {k}" for k in range(1, 5)}


def plot_regions(
    scan: Array,
    affine: np.ndarray,
    region: Sequence[slice],
    part: Sequence[slice],
    target: Array,
    positive: Array,
    window: tuple[Real, Real] = (-2, 2),
) -> Figure:
    """Where a region lies in its scan, the region V and its counterpart V', a sub-volume of V and its positive.

    Args:
        scan: [X, Y, Z], as the encoder sees it.
        affine: of the scan; axes along those of the world.
        region: the voxels of V in the scan.
        part: the voxels of the sub-volume in V.
        target: V', of V's shape.
        positive: of the sub-volume's shape.
        window: of the intensities.
    """
    scan, view = np.asarray(scan), {"plane": "coronal", "vmin": window[0], "vmax": window[1]}
    of_region, sides = _moved(affine, region), np.linalg.norm(affine[:3, :3], axis=0)
    of_part = _moved(of_region, part)
    place = (of_part @ [*((np.array([p.stop - p.start for p in part]) - 1) / 2), 1.0])[:3]
    mm = [
        " x ".join(f"{(p.stop - p.start) * s:.0f}" for p, s in zip(box, sides, strict=True)) for box in (region, part)
    ]
    panels = {
        "a scan, with $V$": (scan, affine),
        f"$V$, for the student\n{mm[0]} mm": (scan[tuple(region)], of_region),
        "$V'$, for the teacher\n$V$ warped by $H$, with noise": (target, of_region),
        f"one sub-volume $v$\n{mm[1]} mm": (scan[tuple(region)][tuple(part)], of_part),
        "its positive $v'$": (positive, of_part),
    }
    rows, columns = (1, len(panels)) if talking() else (2, 3)
    with figure_grid(rows, columns, size=(2.9, 3.2)) as (figure, axes):
        if rows == 2:  # the scan as high as both rows
            grid = axes[0, 0].get_gridspec()
            grid.set_width_ratios([2.4, 1, 1])
            axes[0, 0].set_subplotspec(grid[:, 0])
            axes[1, 0].remove()
        places = [axes[0, 0], *axes[:, 1:].ravel()]
        cuts = []
        for axis, (title, (volume, of_volume)) in zip(places, panels.items(), strict=True):
            cuts.append(show_slice(axis, volume, of_volume, position=place, title=title, **view).slice)
        _box(places[0], cuts[0], of_region, region)
        _box(places[1], cuts[1], of_part, part)
    return figure


def _moved(affine: np.ndarray, box: Sequence[slice]) -> np.ndarray:
    """The affine of a box of a volume."""
    moved = np.array(affine, dtype=float)
    moved[:3, 3] += moved[:3, :3] @ [part.start for part in box]
    return moved


def _box(axes: Axes, cut: OrientedSlice, affine: np.ndarray, box: Sequence[slice]) -> None:
    """The outline of a box, whose own affine is given, on a slice."""
    ends = np.array([[-0.5] * 3, [part.stop - part.start - 0.5 for part in box]])
    (x, y), (far_x, far_y) = (cut.project((affine @ [*end, 1.0])[:3])[:2] for end in ends)
    axes.add_patch(Rectangle((x, y), far_x - x, far_y - y, fill=False, edgecolor=PALETTE[0], linewidth=2))


def plot_gradient_reach(weights: Mapping[str, Real], norms: Mapping[str, Mapping[str, Real]]) -> Figure:
    """A row a stage, a column a loss: the norm of its gradient there, or a cross where it cannot reach.

    Args:
        weights: share of the encoder's weights in each stage.
        norms: loss to stage to norm.
    """
    table = np.array([[float(column[stage]) for column in norms.values()] for stage in weights])
    with figure_grid(1, 1, size=(2.6 + 1.35 * len(norms), 3.6)) as (figure, axes):
        panel = axes[0, 0]
        reached = table[table > 0]
        norm = LogNorm(reached.min(), max(reached.max(), 1.01 * reached.min()))
        shown = panel.imshow(np.ma.masked_equal(table, 0), cmap="viridis", norm=norm, aspect="auto")
        for row, column in np.ndindex(table.shape):
            value = table[row, column]
            text = "x" if value == 0 else f"{value:.2g}"
            dark = value > 0 and norm(value) < 0.6
            colour = "white" if dark else "black" if value > 0 else GREY
            panel.text(column, row, text, ha="center", va="center", color=colour)
        panel.set_xticks(range(len(norms)), list(norms))
        names = [f"{STAGE_NAMES.get(stage, stage)}\n{share:.1%} of the weights" for stage, share in weights.items()]
        panel.set_yticks(range(len(weights)), names)
        panel.xaxis.tick_top()
        panel.tick_params(length=0)
        panel.spines[:].set_visible(False)
        figure.colorbar(shown, ax=panel, label="norm of the gradient")
    return figure


def plot_pretraining(
    history: Sequence[Sequence[Real]],
    chance: Mapping[str, Real],
    silhouettes: Mapping[int, Real],
    references: Mapping[str, Real],
    window: int = 15,
) -> Figure:
    """The terms of the loss against the step, each with the value that guessing gives, and the silhouette.

    Args:
        history: a row a step, a column a term in the order of `chance`.
        chance: term to the value of an encoder that tells nothing apart.
        silhouettes: step to silhouette.
        references: name to a silhouette drawn as a level line.
        window: steps of the running mean; the thin line is each step.
    """
    values = np.asarray(history, dtype=float)
    steps = np.arange(1, len(values) + 1)
    with figure_grid(1, len(chance) + 1, size=(3.5, 3.1)) as (figure, axes):
        for panel, (name, guess), column in zip(axes[0], chance.items(), values.T, strict=False):
            panel.plot(steps, column, color=PALETTE[1], linewidth=0.7)
            panel.plot(steps, running_mean(column, window), color=BLUE)
            panel.axhline(guess, color=GREY, linestyle="--", linewidth=1)
            panel.annotate("chance", (steps[-1], guess), ha="right", va="bottom", color=GREY)
            panel.set(xlabel="step", title=name)
            panel.set_ylim(0, 1.12 * max(guess, column.max()))
        last = axes[0, -1]
        last.plot(list(silhouettes), list(silhouettes.values()), color=RED, marker="o", markersize=4)
        for name, value in references.items():
            last.axhline(value, color=GREY, linestyle="--", linewidth=1)
            last.annotate(name, (max(silhouettes), value), ha="right", va="bottom", color=GREY)
        last.set(xlabel="step", title="silhouette, unseen body")
    return figure


def running_mean(values: np.ndarray, window: int) -> np.ndarray:
    """Mean of each value and the ones before it, at most `window` of them."""
    sums = np.cumsum(np.insert(np.asarray(values, dtype=float), 0, 0.0))
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    return (sums[ends] - sums[starts]) / (ends - starts)
