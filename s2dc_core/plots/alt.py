"""What a figure shows, in words, for those who cannot see it: from its titles, labels, notes and legends."""

import re
from collections.abc import Iterator
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator

MOST = 900
"""Characters of a description; panels beyond are counted."""


WORD = re.compile(r"[^\W\d_]{2}")
"""What has two letters in a row is a word; numbers in cells, letters of a slice's edges are none."""


class Described(Figure):
    """A figure that IPython shows with its description as alternative text, in notebooks and in pages made of them.

    Attributes:
        alt: the description; None for the one that `describe` makes.
    """

    alt: str | None = None

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict, dict]:
        """No data: IPython's own formatters make the picture. The metadata go with it."""
        text = self.alt or describe(self)
        return {}, {kind: {"alt": text} for kind in ("image/png", "image/svg+xml")}


def describe(figure: Figure) -> str:
    """Title; what each panel is called, what is drawn in it against what, the note below it; legend; small print."""
    panels = [words for axes in figure.axes if (words := _panel(axes))]
    shown = _most(panels)
    if len(panels) > 1:
        shown = f"{len(panels)} panels: {shown}"
    parts = [plain(figure.get_suptitle()), shown, _bars(figure), _legends(figure), _said(figure)]
    parts += map(plain, figure.get_supxlabel().split("\n"))
    text = " ".join(part if part[-1] in ".!?" else f"{part}." for part in parts if part)
    return text or f"A figure without words, {len(figure.axes)} panels."


def plain(text: str) -> str:
    """A figure's text as a screen reader can say it: one line, formulas without the marks of LaTeX."""
    text = re.sub(r"\\mathcal|\\mathrm|\\,|(?<!\\)\$", "", text).replace(r"\$", "$")
    text = re.sub(r"\\([A-Za-z]+)", r"\1", text).translate({ord(mark): None for mark in "{}"})
    return " ".join(text.split())


def _panel(axes: Axes) -> str:
    """Its title; y against x, or the note below a picture."""
    if axes.get_label() == "<colorbar>" or not axes.get_visible():
        return ""
    title = ", ".join(filter(None, (plain(axes.get_title(loc)) for loc in ("left", "center", "right"))))
    if not axes.axison:
        return title
    across, up = plain(axes.get_xlabel()), plain(axes.get_ylabel())
    if axes.images and not any(map(_categories, (axes.xaxis, axes.yaxis))):
        top, bottom = _column(axes)
        title = title or plain(top.get_title())
        note = across or ("" if bottom.get_title() else plain(bottom.get_xlabel()))
        words = ", ".join(filter(None, (up, title))) or ("picture" if note else "")
        return f"{words} ({note})" if note else words
    drawn = f"{up} against {across}" if up and across else up or across
    named = [_categories(axis) for axis in (axes.yaxis, axes.xaxis)]
    words = "; ".join(filter(None, [drawn, *named]))
    return f"{title} ({words})" if title and words else title or words


def _categories(axis: Axis) -> str:
    """Names at an axis, such as those of rows; numbers are left out."""
    if not isinstance(axis.get_major_locator(), FixedLocator):
        return ""
    names = dict.fromkeys(plain(label.get_text()) for label in axis.get_ticklabels())
    return _listed([name for name in names if re.search(r"[^\W\d]", name)])


def _listed(names: list[str], most: int = 14) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _column(axes: Axes) -> tuple[Axes, Axes]:
    """The uppermost and the lowest picture of its column: the one may bear the title for all, the other the note."""
    place = axes.get_subplotspec()
    if place is None:
        return axes, axes
    column = [
        (spec.rowspan.start, number, other)
        for number, other in enumerate(axes.figure.axes)
        if other.images and (spec := other.get_subplotspec()) and spec.colspan == place.colspan
        if spec.get_gridspec() is place.get_gridspec()
    ]
    return min(column)[2], max(column)[2]


def _most(panels: list[str]) -> str:
    """Panels, each said once, as many as have room."""
    once = list(dict.fromkeys(panels))
    kept, length = [], 0
    for panel in once:
        length += len(panel) + 2
        if length > MOST:
            break
        kept.append(panel)
    more = len(once) - len(kept)
    return "; ".join(kept) + (f"; and {more} more" if more else "")


def _bars(figure: Figure) -> str:
    labels = dict.fromkeys(
        plain(axes.get_ylabel() or axes.get_xlabel()) for axes in figure.axes if axes.get_label() == "<colorbar>"
    )
    named = ", ".join(filter(None, labels))
    return f"Colour: {named}" if named else ""


def _legends(figure: Figure) -> str:
    words = dict.fromkeys(plain(text.get_text()) for legend in _all_legends(figure) for text in legend.get_texts())
    named = ", ".join(filter(None, words))
    return f"Legend: {named}" if named else ""


def _said(figure: Figure) -> str:
    """Words within the panels: lines that are named where they end, organs that are named where they lie."""
    words = dict.fromkeys(plain(text.get_text()) for axes in figure.axes for text in axes.texts)
    named = _listed([word for word in words if WORD.search(word)])
    return f"Named in it: {named}" if named else ""


def _all_legends(figure: Figure) -> Iterator[Artist]:
    yield from figure.legends
    yield from (legend for axes in figure.axes if (legend := axes.get_legend()) is not None)
