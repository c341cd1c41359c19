"""Figures of lesson 00: the method in one picture, and one heatmap before and after a minute of training."""

from collections.abc import Mapping, Sequence
from numbers import Integral, Real

import numpy as np
from jaxtyping import Float, Shaped
from matplotlib.figure import Figure
from torch import Tensor

from s2dc_core.plots.heatmaps import mean_note, wrapped
from s2dc_core.plots.slices import PALETTE, figure_grid, label_words, show_slice

ANCHOR = PALETTE[5]


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
        histogram.set_title(f"$L_{{p2s}}$: one peak or many?\nSharpe ratio of this $D_n$: {ratio:.1f}")
        histogram.set_ylim(0.7, 6 * histogram.get_ylim()[1])  # room for the legend
        histogram.legend(loc="upper left")
    return figure


def plot_losses(history: Sequence[Sequence[Real]], names: Sequence[str]) -> Figure:
    """Each column of the history against the step, one panel a name."""
    values = np.asarray(history)
    with figure_grid(1, len(names), size=(3.4, 2.6)) as (figure, axes):
        for panel, name, column in zip(axes[0], names, values.T, strict=True):
            panel.plot(np.arange(1, len(column) + 1), column, color=PALETTE[6])
            panel.set(xlabel="step", title=name)
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
    with figure_grid(len(anchors), 1 + len(heatmaps), size=(4.3, 3.9)) as (figure, axes):
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
        figure.colorbar(shown.overlay, ax=axes, shrink=0.6, label="cosine with the anchor")
    return figure
