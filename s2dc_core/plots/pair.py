"""The same place in two patients: where somebody clicked in the one, and what that finds in the other."""

from numbers import Real
from typing import Protocol, runtime_checkable

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from s2dc_core.plots.heatmaps import display_window, wrapped
from s2dc_core.plots.slices import figure_grid, oriented_slice, show_slice


@runtime_checkable
class Pictured(Protocol):
    """What is drawn of a scan, see data.Scan."""

    raw: Tensor
    affine: np.ndarray
    modality: str
    name: str


@runtime_checkable
class Found(Protocol):
    """What is drawn of a match, see explorer.PairMatch."""

    clicked: tuple[int, int, int]
    voxel: tuple[int, int, int]
    mm: np.ndarray
    cosine: float
    similarity: Tensor
    affine: np.ndarray


def plot_pair(scan_a: Pictured, scan_b: Pictured, match: Found, plane: str = "axial", threshold: Real = 0.0) -> Figure:
    """Left the clicked place in A, then the one that was found in B, and over B the similarity with the clicked token.

    Each slice goes through its own place (+).

    Args:
        scan_a, scan_b: in which was clicked, and searched.
        match: of explorer.match_at.
        plane: of all slices: "axial", "coronal" or "sagittal".
        threshold: cosine below which the map is clear.
    """
    asked, found = ((s.affine @ [*v, 1.0])[:3] for s, v in ((scan_a, match.clicked), (scan_b, match.voxel)))
    # The middle of the last token may lie on the volume's rim, or just beyond it; the voxel next to it lies inside.
    views = ((scan_a, asked, asked), (scan_b, found, match.mm), (scan_b, found, match.mm))
    shapes = [oriented_slice(scan.raw, scan.affine, plane, place).extent for scan, place, _ in views]
    tallest = max(abs((top - bottom) / (right - left)) for left, right, bottom, top in shapes)
    shown = match.similarity.numpy()
    over = {"overlay": np.where(shown >= threshold, shown, np.nan), "overlay_affine": match.affine}
    over |= {"overlay_vmin": threshold, "overlay_vmax": 1.0, "overlay_alpha": 0.7}
    titles = [f"clicked in {scan_a.name}\n{_mm(asked)}", f"found in {scan_b.name}\n{_mm(match.mm)}"]
    titles.append(f"similar to the clicked token\ncosine {match.cosine:.2f} at the cross")
    with figure_grid(1, 3, size=(3.8, 3.5 * min(tallest, 1.4) + 0.7)) as (figure, axes):
        for panel, (scan, place, mark), title, extra in zip(axes[0], views, titles, ({}, {}, over), strict=True):
            low, high = display_window(scan.modality) or (None, None)
            look = {"mark": mark, "vmin": low, "vmax": high, "title": wrapped(title, 36), **extra}
            drawn = show_slice(panel, scan.raw, scan.affine, plane, place, **look)
        label = "cosine with the clicked token"
        figure.colorbar(drawn.overlay, ax=axes, shrink=0.85, aspect=25, pad=0.01, label=label)
    return figure


def _mm(place: np.ndarray) -> str:
    return f"({', '.join(f'{value:.0f}' for value in place)}) mm"
