"""Figures of lesson 00: whose organs are these, the method in one picture, a heatmap before and after a minute."""

from collections.abc import Mapping, Sequence
from numbers import Integral, Real

import numpy as np
from jaxtyping import Float, Int, Shaped
from matplotlib.figure import Figure
from torch import Tensor

from s2dc_core.plots.heatmaps import mean_note, wrapped
from s2dc_core.plots.patients import FoundLabels, plot_found_labels
from s2dc_core.plots.slices import PALETTE, figure_grid, label_words, show_slice

ANCHOR, GREY = PALETTE[5], "#666666"
AROUND = 15
"""mm that are shown around the organs."""


def plot_whose_organs(
    labelled, found: Mapping[str, tuple], dice: Mapping[str, Real], title: str = "", strong: str = ""
) -> Figure:
    """A labelled scan, the labels that each kind of features finds in another one, and the truth.

    Args:
        labelled: an evaluation.Side, whose labels are carried over.
        found: kind of features to (the Side of the other scan through them, label [X, Y, Z] of each of its tokens).
        dice: kind of features to its Dice, written below.
        strong: the kind that is written bold.
    """
    first = _labels_over(labelled, "one labelled body", "labels are copied from here", labelled.owner)
    columns = [first._replace(names=labelled.scan.names)]
    for name, (side, labels) in found.items():
        column = _labels_over(side, name, f"Dice {dice[name]:.2f}", labels)
        columns.append(column._replace(outline=side.scan.label, strong=name == strong))
    side, _ = list(found.values())[-1]
    columns.append(_labels_over(side, "truth", "in tokens", side.owner))
    return plot_found_labels(columns, title, margin=AROUND)


def _labels_over(side, title: str, note: str, labels: Int[Tensor, "x y z"]) -> FoundLabels:
    """A column of `plot_found_labels`, cut through the middle of the scan's organs."""
    scan = side.scan
    middle = (scan.label > 0).nonzero().double().mean(0).tolist()
    place = tuple((scan.affine @ [*middle, 1.0])[:3])
    affine = side.tokens.affine
    return FoundLabels(title, note, scan.raw, scan.affine, scan.modality, (place, place), labels, affine)


def plot_method(
    regions: tuple[Float[Tensor, "x y z"], Float[Tensor, "x y z"]],
    affine: Shaped[np.ndarray, "4 4"],
    points: tuple[Sequence[Real], Sequence[Real]],
    distribution: Float[Tensor, "gx gy gz"],
    token_affine: Shaped[np.ndarray, "4 4"],
    similarity_at_match: Real,
    ratio: Real,
) -> Figure:
    """Figure 2 of the paper with real arrays: V, V', and one anchor's D_n as a map over V' and as a histogram.

    Args:
        regions: V and V'.
        affine: of both, voxel to mm.
        points: the anchor's place in V and its match's in V', in mm.
        distribution: D_n, cosines of the anchor with all tokens of V', on their grid.
        token_affine: of that grid.
        similarity_at_match: the anchor's cosine with its match.
        ratio: its Sharpe ratio.
    """
    source, target = regions
    with figure_grid(1, 4, size=(3.9, 3.8)) as (figure, axes):
        show_slice(axes[0, 0], source, affine, mark=points[0], title="V, for the student\n+ an anchor patch")
        show_slice(axes[0, 1], target, affine, mark=points[1], title="V' = V warped by H, for the teacher\n+ its match")
        over = {"overlay": distribution, "overlay_affine": token_affine, "overlay_alpha": 1.0}
        title = "$L_{p2p}$: among all patches of V'\nthe match must win"
        shown = show_slice(axes[0, 2], target, affine, mark=points[1], title=title, **over)
        figure.colorbar(shown.overlay, ax=axes[0, 2], shrink=0.75, label="cosine with the anchor")
        histogram = axes[0, 3]
        histogram.hist(distribution.flatten().numpy(), bins=40, color=PALETTE[1])
        histogram.axvline(similarity_at_match, color=ANCHOR, label="its match")
        histogram.set(yscale="log", xlabel="cosine with the anchor", ylabel="patches of V'")
        rank, count = int((distribution > similarity_at_match).sum()) + 1, distribution.numel()
        histogram.set_title(
            f"$L_{{p2s}}$: how much does it stand out?\nno. {rank} of {count:,}, Sharpe ratio {ratio:.1f}"
        )
        histogram.set_ylim(0.7, 6 * histogram.get_ylim()[1])  # room for the legend
        histogram.legend(loc="upper left")
    return figure


def plot_losses(
    history: Sequence[Sequence[Real]], names: Sequence[str], chance: Sequence[Sequence[Real] | Real] = ()
) -> Figure:
    """Each column of the history against the step, one panel a name, from 0.

    Args:
        chance: of each name the value of guessing, at every step or at all of them alike; drawn dashed.
    """
    values, steps = np.asarray(history), np.arange(1, len(history) + 1)
    with figure_grid(1, len(names), size=(3.6, 2.8)) as (figure, axes):
        for panel, name, column in zip(axes[0], names, values.T, strict=True):
            panel.plot(steps, column, color=PALETTE[6])
            panel.set(xlabel="step", title=name)
            panel.xaxis.get_major_locator().set_params(integer=True)
        for panel, guess in zip(axes[0], chance, strict=False):
            level = np.broadcast_to(np.asarray(guess, dtype=float), steps.shape)
            panel.plot(steps, level, color=GREY, linestyle="--", linewidth=1)
            panel.annotate("guessing", (steps[-1], level[-1]), ha="right", va="bottom", color=GREY)
        for panel in axes[0]:
            panel.set_ylim(0, 1.12 * panel.get_ylim()[1])
    return figure


def plot_heatmaps(
    scan,
    anchors: Mapping[str, tuple[Integral | None, Sequence[Integral]]],
    heatmaps: Mapping[str, Mapping[str, tuple[Tensor, np.ndarray]]],
    numbers: Mapping[str, Mapping[str, tuple[Real, Real]]],
    window: tuple[Real, Real] | None = None,
) -> Figure:
    """One row an anchor: the scan with the anchor's structure outlined, then its heatmap by each encoder.

    Args:
        scan: has ``raw`` and ``affine``, and ``label`` or None.
        anchors: structure to its label, None for the body, which has no outline, and the anchor's voxel.
        heatmaps: encoder to structure to (similarity, affine of the token map).
        numbers: encoder to structure to (mean inside it, mean in other structures), written below as `mean_note` says
            it; may be missing.
        window: of the scan's intensities.
    """
    low, high = window or (None, None)
    sides = np.linalg.norm(scan.affine[:3, :3], axis=0) * scan.raw.shape
    tall = 4.3 * sides[1] / sides[0] + 0.65  # a panel's slice and its words, and no empty band
    with figure_grid(len(anchors), 1 + len(heatmaps), size=(4.3, tall)) as (figure, axes):
        for row, (name, (number, voxel)) in zip(axes, anchors.items(), strict=True):
            outline = None if number is None else (scan.label == number) * number
            place = (scan.affine @ [*voxel, 1.0])[:3]
            view = {"plane": "axial", "mark": place, "vmin": low, "vmax": high}
            title = wrapped(f"anchor: {label_words(name)}", 40)
            show_slice(row[0], scan.raw, scan.affine, labels=outline, title=title, **view)
            for panel, (encoder, maps) in zip(row[1:], heatmaps.items(), strict=True):
                values, token_affine = maps[name]
                colours = {"overlay_vmin": 0, "overlay_vmax": 1, "overlay_alpha": 1.0}
                over = {"overlay": values, "overlay_affine": token_affine, **colours}
                shown = show_slice(panel, scan.raw, scan.affine, title=encoder, **over, **view)
                if name in numbers[encoder]:
                    panel.set_xlabel(mean_note(*numbers[encoder][name]))
        figure.colorbar(shown.overlay, ax=axes, shrink=0.6, pad=0.01, label="cosine with the anchor")
    return figure
