"""The one frame of all figures: type, lines, the grid of panels; and `talk`, in which a room can read them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import ceil
from numbers import Integral, Real
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from s2dc_core.plots.alt import Described
from s2dc_core.plots.fit import (
    copy_ticks,
    fit_bar_labels,
    fit_pictures,
    fit_words,
    least_words,
    magnify,
    near_colour_bars,
    note_sizes,
    thin_scale_bars,
)

PAGE = 9.3
"""Inches: the column of the book, 56 em; JupyterLab's is no narrower. A wider figure is shown smaller than drawn."""

SMALLEST = 8
"""Points of a tick's label on such a page."""

SHARED = {
    "figure.constrained_layout.use": True,
    "figure.facecolor": "white",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "savefig.dpi": 150,
}
STYLE = SHARED | {"font.size": 11, "axes.titlesize": 12, "lines.linewidth": 1.8}
TALK = SHARED | {
    "font.size": 16,
    "axes.titlesize": 17,
    "axes.linewidth": 1.4,
    "lines.linewidth": 3.2,
    "lines.markersize": 9,
    "xtick.major.width": 1.4,
    "ytick.major.width": 1.4,
}


class Look(NamedTuple):
    """How figures are drawn.

    Attributes:
        style: settings of matplotlib.
        small: points of the smallest type.
        abreast: most panels beside each other; those of a longer row go on below.
        panel: inches, the least width of a panel.
    """

    style: dict[str, Any]
    small: Real
    abreast: Integral | None = None
    panel: Real = 0.0


PAPER, TALKING = Look(STYLE, 8.25), Look(TALK, 14, abreast=2, panel=5.6)


class _Chosen:
    """The look of the figures that are drawn from now on; left as a context, the one before again."""

    look = PAPER

    def __init__(self, look: Look):
        self.before, _Chosen.look = _Chosen.look, look

    def __enter__(self) -> None:
        return None

    def __exit__(self, *exception: object) -> None:
        _Chosen.look = self.before


def talk(on: bool = True) -> Any:
    """Figures that can be read from the last row: 16 points, thicker lines, at most two panels beside each other.

    ``plots.talk()`` holds until ``plots.talk(False)``; ``with plots.talk():`` for what is drawn within.
    """
    return _Chosen(TALKING if on else PAPER)


def talking() -> bool:
    """Whether figures are drawn for a talk now."""
    return _Chosen.look is TALKING


class CourseFigure(Described):
    """A figure that is finished, sized and described when its grid is left.

    Attributes:
        small: points of the smallest type.
        later: what can be drawn only when the panels have their sizes, such as names within organs.
        sizes: (voxel, token or None) in mm of the slices drawn, see `slices.show_slice`.
    """

    def __init__(self, *arguments: Any, **settings: Any):
        super().__init__(*arguments, **settings)
        self.small = float(SMALLEST)
        self.later: list[Callable[[], None]] = []
        self.sizes: dict[tuple[str, str | None], None] = {}


@contextmanager
def figure_grid(
    rows: int = 1, columns: int = 1, size: tuple[Real, Real] = (3.4, 3.4)
) -> Iterator[tuple[Figure, np.ndarray]]:
    """A figure in the course's style and its axes [rows, columns]; `size` is one panel's, in inches.

    Use as ``with figure_grid(1, 3) as (figure, axes): ...`` and return the figure. It is closed for pyplot, so a
    notebook shows it once and nothing accumulates. When the block is left, rows of pictures get the height that the
    pictures have, titles that would run into the next panel are broken, and no tick's label is below SMALLEST points
    on a PAGE. Under `talk` a long row goes on below, and the axes keep their places in the array.
    """
    look = _Chosen.look
    abreast = min(columns, look.abreast or columns)
    lines = ceil(columns / abreast)
    grow = max(1.0, look.panel / size[0])
    width, height = size[0] * grow * abreast, size[1] * grow * rows * lines
    least = SMALLEST * max(1.0, width / PAGE)
    style = look.style | {"font.size": max(look.style["font.size"], least)}
    style["axes.titlesize"] = max(style["axes.titlesize"], style["font.size"] + 0.5)
    with plt.rc_context(style):
        figure, cells = plt.subplots(
            rows * lines, abreast, figsize=(width, height), squeeze=False, FigureClass=CourseFigure
        )
        axes, figure.small = _as_asked(cells, rows, columns), max(look.small, 0.85 * least)
        try:
            yield figure, axes
            if look is TALKING:
                magnify(figure, TALK["font.size"] / STYLE["font.size"], TALK["font.size"])
                copy_ticks(axes, abreast)
            least_words(figure, least, style["axes.titlesize"])
            if figure.sizes:
                note_sizes(figure, figure.sizes, figure.small)
            near_colour_bars(figure)
            fit_words(figure)
            fit_pictures(figure)
            fit_bar_labels(figure)
            thin_scale_bars(figure)
            for draw in figure.later:
                draw()
        finally:
            plt.close(figure)


def _as_asked(cells: np.ndarray, rows: Integral, columns: Integral) -> np.ndarray:
    """The axes [rows, columns]; those of a row that went on below follow in reading order, what is over is removed."""
    lines = cells.reshape(rows, -1)
    for spare in lines[:, columns:].flat:
        spare.remove()
    return lines[:, :columns]
