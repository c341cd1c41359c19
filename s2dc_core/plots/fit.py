"""Last touches to a figure, when all is drawn: pictures without bands between them, words that stay in their panel."""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral, Real

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

TALL = 1.45
"""A picture may be this many times as high as its panel is wide."""

NARROW = 0.6
"""Of pictures side by side at one scale, the narrowest panel is at least this share of the widest."""

NEAR = 0.12
"""Inches between panels and their colour bar."""

PLAIN = 0.62
"""Height over width that a panel without picture keeps at least, in a row with pictures."""


def least_words(figure: Figure, points: Real, heading: Real) -> None:
    """No tick's label, panel's title or axis' label below so many points, nor the figure's title below `heading`."""
    if figure._suptitle is not None:
        figure._suptitle.set_fontsize(max(heading, figure._suptitle.get_fontsize()))
    for axes in figure.axes:
        for text in (axes.title, axes.xaxis.label, axes.yaxis.label):
            text.set_fontsize(max(points, text.get_fontsize()))
        for name, axis in (("x", axes.xaxis), ("y", axes.yaxis)):
            labels = axis.get_ticklabels()
            if any(label.get_text() for label in labels) and min(label.get_fontsize() for label in labels) < points:
                axes.tick_params(axis=name, labelsize=points)


def magnify(figure: Figure, factor: Real, below: Real) -> None:
    """Words smaller than `below` points become larger: their size was given and does not come from the style."""
    for text in figure.findobj(Text):
        if text.get_fontsize() < below and text.get_gid() != "frame":
            text.set_fontsize(text.get_fontsize() * factor)


def copy_ticks(axes: np.ndarray, abreast: Integral) -> None:
    """Panels at the left edge that a broken row brought there show the names of the ticks that their row shares."""
    for line in axes:
        first = next(panel for panel in line if panel.figure)  # what a large panel replaced has none
        names = [label.get_text() for label in first.get_yticklabels()]
        for panel in (each for each in line[abreast::abreast] if each.figure):
            shared = np.allclose(first.get_ylim(), panel.get_ylim()) and len(first.get_yticks())
            if shared and not any(label.get_text() for label in panel.get_yticklabels()):
                panel.set_yticks(first.get_yticks(), names)
                for label, other in zip(panel.get_yticklabels(), first.get_yticklabels(), strict=True):
                    label.set(fontweight=other.get_fontweight(), color=other.get_color())
            if not panel.get_ylabel():
                panel.set_ylabel(first.get_ylabel())


def note_sizes(figure: Figure, sizes: Iterable[tuple[str, str | None]], points: Real) -> None:
    """A line in small type below: how large the voxels and tokens of the figure's slices are, unless of many sizes.

    Args:
        sizes: (voxel, token or None) of each slice, in words.
        points: of the type.
    """
    voxels, tokens = (list(dict.fromkeys(size for size in found if size)) for found in zip(*sizes, strict=True))
    if max(len(voxels), len(tokens)) > 2:
        return
    note = f"Voxels of {' and '.join(voxels)}" + (f", tokens of {' and '.join(tokens)}" if tokens else "")
    small = figure._supxlabel
    below = [legend for legend in figure.legends if getattr(legend, "_outside_loc", None) == "lower"]
    if small is not None and small.get_text():
        small.set_text(f"{small.get_text()}\n{note}")
    elif below:
        below[0].set_title(note, prop={"size": points})
    else:
        figure.supxlabel(note, fontsize=points, color="#555555")


def near_colour_bars(figure: Figure) -> None:
    """A bar stands at its panels, however wide they are: matplotlib keeps away a share of their width."""
    for axes in figure.axes:
        info = getattr(axes, "_colorbar_info", {})
        if info.get("location") in ("right", "left"):
            places = [parent.get_subplotspec() for parent in info["parents"]]
            columns = {column for place in places for column in place.colspan}
            width = figure.get_figwidth() * len(columns) / places[0].get_gridspec().ncols
            info["pad"] = min(info["pad"], NEAR / width)


def fit_words(figure: Figure) -> None:
    """Titles, and notes below pictures, are broken where they are wider than their panel or the figure."""
    words = [
        (text, axes)
        for axes in figure.axes
        if axes.get_subplotspec() is not None
        for text in (axes.title, axes.xaxis.label if axes.images else None)
        if text is not None and text.get_text()
    ]
    words += [(text, None) for text in (figure._suptitle, figure._supxlabel) if text is not None and text.get_text()]
    columns = max((axes.get_subplotspec().get_gridspec().ncols for _, axes in words if axes), default=1)
    if not any(_guess(text) > 0.9 * figure.get_figwidth() / (columns if axes else 1) for text, axes in words):
        return
    lay_out(figure)
    for text, axes in words:
        room = figure.bbox.width if axes is None else _cell(axes)[0] * figure.dpi
        width = text.get_window_extent().width
        if width > room:
            text.set_text(_broken(text.get_text(), room / width))


def fit_bar_labels(figure: Figure) -> None:
    """The label of a colour bar beside its panels is broken where it is longer than the bar."""
    for axes in figure.axes:
        label, room = axes.yaxis.label, axes.get_window_extent().height
        if hasattr(axes, "_colorbar_info") and label.get_text():
            height = label.get_window_extent().height
            if height > 1.1 * room:
                label.set_text(_broken(label.get_text(), room / height))


def lay_out(figure: Figure) -> None:
    """Bring the panels to the places that they will be drawn at."""
    figure.get_layout_engine().execute(figure)
    for axes in figure.axes:
        locate = axes.get_axes_locator()
        axes.apply_aspect(locate(axes, None) if locate else None)


def _guess(text: Text) -> float:
    """About how wide a text is, in inches."""
    return max(map(len, text.get_text().split("\n"))) * 0.55 * text.get_fontsize() / 72


def _broken(text: str, share: float) -> str:
    """Lines of at most this share of the longest one's length, broken between words and not within a formula."""
    lines = text.split("\n")
    most = max(int(share * max(map(len, lines))), 8)
    parts = [part for line in lines for part in textwrap.wrap(line, most, break_long_words=False) or [""]]
    return text if any(part.count("$") % 2 for part in parts) else "\n".join(parts)


def fit_pictures(figure: Figure) -> None:
    """Rows with pictures of a fixed aspect become as high as these are; columns of pictures alone get one scale."""
    pictures = [axes for axes in figure.axes if axes.get_subplotspec() and _shape(axes)]
    if not pictures:
        return
    grid = pictures[0].get_subplotspec().get_gridspec()
    panels = [axes for axes in figure.axes if (spec := axes.get_subplotspec()) and spec.get_gridspec() is grid]
    for axes in pictures:
        axes.set_anchor("N")
    across = _common_widths(pictures)
    if len(across) == grid.ncols and all(axes in pictures or not axes.axison for axes in panels):
        grid.set_width_ratios(np.maximum(across / across.max(), NARROW).tolist())
    widths: dict[Axes, float] = {}
    for _ in range(2):
        lay_out(figure)
        # A picture that its height limits leaves room beside it, in which the layout puts words: the width grows too.
        widths = {axes: min(_cell(axes)[0], widths.get(axes, np.inf)) for axes in panels}
        now, wanted = _row_heights(widths, pictures, grid.nrows)
        change = float((wanted - now).sum())
        grid.set_height_ratios(wanted.tolist())
        figure.set_figheight(figure.get_figheight() + change)
        if abs(change) < 0.03 * figure.get_figheight():
            break
    lay_out(figure)


def _common_widths(pictures: Sequence[Axes]) -> np.ndarray:
    """Width of each column's pictures in their own units, if all of a column have about the same; else nothing.

    A column whose picture spans rows, and so has a scale of its own, has none.
    """
    columns: dict[int, list[float]] = {}
    for axes in (each for each in pictures if len(each.get_subplotspec().rowspan) == 1):
        column = axes.get_subplotspec().colspan.start
        columns.setdefault(column, []).append(abs(float(np.subtract(*axes.get_xlim()))))
    alike = all(max(widths) < 1.15 * min(widths) for widths in columns.values())
    return np.array([max(columns[column]) for column in sorted(columns)] if alike else [])


def _row_heights(widths: Mapping[Axes, Real], pictures: Sequence[Axes], rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Inches that each row's panels have, and that they should have at these widths."""
    now, wanted, plain = np.zeros(rows), np.zeros(rows), np.zeros(rows)
    for axes, width in widths.items():
        row = axes.get_subplotspec().rowspan.start
        if len(axes.get_subplotspec().rowspan) > 1:  # as high as the rows that the others make
            continue
        height = _cell(axes)[1]
        now[row] = max(now[row], height)
        if axes in pictures:
            wanted[row] = max(wanted[row], width * min(_shape(axes), TALL))
        elif axes.axison:
            plain[row] = max(plain[row], min(PLAIN * width, height))
    return now, np.where(wanted > 0, np.maximum(wanted, plain), now)


def _shape(axes: Axes) -> float:
    """Height over width of a picture whose pixels or whose box have a fixed shape; else 0."""
    if axes.get_box_aspect() is not None:
        return float(axes.get_box_aspect())
    if axes.images and axes.get_aspect() == 1:
        return abs(float(np.subtract(*axes.get_ylim()) / np.subtract(*axes.get_xlim())))
    return 0.0


def _cell(axes: Axes) -> tuple[float, float]:
    """Width and height in inches of the place that the layout gave to a panel."""
    place = axes.get_position(original=True)
    width, height = axes.figure.get_size_inches()
    return float(place.width * width), float(place.height * height)


def thin_scale_bars(figure: Figure) -> None:
    """One scale bar is enough for the pictures of a row that have one scale."""
    kept: list[tuple[int, float]] = []
    for axes in figure.axes:
        for bar in [artist for artist in axes.artists if artist.get_gid() == "scale bar"]:
            row = spec.rowspan.start if (spec := axes.get_subplotspec()) else -1
            scale = axes.get_position().width * figure.get_figwidth() / abs(np.subtract(*axes.get_xlim()))
            if any(row == other and abs(scale / known - 1) < 0.03 for other, known in kept):
                bar.remove()
            kept.append((row, scale))
