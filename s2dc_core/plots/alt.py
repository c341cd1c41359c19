"""What a figure shows, in words, for those who cannot see it: from its titles, labels, notes and legends."""

import re
from collections.abc import Iterator
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

MOST = 900
"""Characters of a description; panels beyond are counted."""


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
    parts = [plain(figure.get_suptitle()), shown, _bars(figure), _legends(figure)]
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
    if axes.images:
        title = title or plain(_edge(axes, first=True).get_title())
        note = across or plain(_edge(axes, first=False).get_xlabel())
        words = ", ".join(filter(None, (up, title))) or ("picture" if note else "")
        return f"{words} ({note})" if note else words
    drawn = f"{up} against {across}" if up and across else up or across
    return f"{title} ({drawn})" if title and drawn else title or drawn


def _edge(axes: Axes, first: bool) -> Axes:
    """The picture at the top, or at the bottom, of its column, which may bear the words for all of it."""
    place = axes.get_subplotspec()
    if place is None:
        return axes
    column = [
        (spec.rowspan.start, number, other)
        for number, other in enumerate(axes.figure.axes)
        if other.images and (spec := other.get_subplotspec()) and spec.colspan == place.colspan
        if spec.get_gridspec() is place.get_gridspec()
    ]
    return (min if first else max)(column)[2]


def _most(panels: list[str]) -> str:
    """Panels, each said once, as many as have room."""
    once = [
        f"{panel} (x {panels.count(panel)})" if panels.count(panel) > 1 else panel for panel in dict.fromkeys(panels)
    ]
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


def _all_legends(figure: Figure) -> Iterator[Artist]:
    yield from figure.legends
    yield from (legend for axes in figure.axes if (legend := axes.get_legend()) is not None)
