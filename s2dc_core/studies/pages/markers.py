"""A page's markers: what stands between two of them is made from the records.

A page holds ::

    <!-- from records: silhouettes -->

    whatever was made last

    <!-- end -->

GitHub and the book show no comments. Text outside the markers is nobody's but the writer's.
"""

import re
from collections.abc import Callable, Mapping

MARKED = re.compile(r"<!-- from records: (?P<name>[^\n]+?) -->\n(?P<text>.*?)<!-- end -->", re.DOTALL)
START, END = "<!-- from records:", "<!-- end -->"


def fill(text: str, parts: Mapping[str, Callable[[], str]]) -> str:
    """The page with every marked part made anew.

    Args:
        text: Markdown.
        parts: name to what makes the part, Markdown without blank lines around it.

    Raises:
        ValueError: for a part that nobody makes, or a marker without its other half.
    """
    if not text.count(START) == text.count(END) == len(MARKED.findall(text)):
        raise ValueError(f"every `{START} NAME -->` on a line of its own needs its `{END}`, and none within another")

    def made(match: re.Match) -> str:
        name = match["name"]
        if name not in parts:
            raise ValueError(f"no part is called {name!r}: there are {', '.join(parts)}")
        return f"{START} {name} -->\n\n{parts[name]()}\n\n{END}"

    return MARKED.sub(made, text)


def names_in(text: str) -> list[str]:
    """The marked parts of a page, in order."""
    return [match["name"] for match in MARKED.finditer(text)]


def without_parts(text: str) -> str:
    """What of a page its writer wrote."""
    return MARKED.sub("", text)
