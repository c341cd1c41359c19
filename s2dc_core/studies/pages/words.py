"""Numbers and verdicts in words: an interval decides which words are right."""

import re
import textwrap
from collections.abc import Mapping, Sequence
from numbers import Real

Interval = tuple[Real, Real, Real]
"""A mean and the ends of its interval."""

KEPT = "\0"
"""A space at which no line ends."""

COUNTS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


def spread(interval: Interval, digits: int = 2, signed: bool = False, factor: Real = 1, unit: str = "") -> str:
    """`0.47 (0.38 to 0.56)`; signed `+9.2 (+3.2 to +15.2)`; with a unit behind the mean."""
    mean, low, high = (f"{factor * value:{'+' if signed else ''}.{digits}f}" for value in interval)
    return f"{mean}{unit} ({low} to {high})"


def side(interval: Interval) -> int:
    """1 if the interval lies above 0, -1 if below; 0 if it holds 0, which is then not decided."""
    _, low, high = interval
    return int(low > 0) - int(high < 0)


def verdict(interval: Interval) -> str:
    """`clear`, or `not decided`."""
    return "clear" if side(interval) else "not decided"


def series(words: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last


def count(number: int) -> str:
    """`three`; from thirteen on the numeral."""
    return COUNTS[number] if number < len(COUNTS) else f"{number:,}"


def between(values: Sequence[Real], digits: int, signed: bool = False) -> str:
    """The smallest and the largest: `0.003 to 0.005`, or one if they read alike."""
    low, high = (f"{value:{'+' if signed else ''}.{digits}f}" for value in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def compared(found: Mapping[str, Interval], digits: int) -> str:
    """In which of some places a difference is clear: `higher in CT and PET (by 0.1 to 0.2), not decided in MR`.

    Args:
        found: place to the difference.
    """
    said = []
    for sign, word in ((1, "higher"), (-1, "lower")):
        if where := [place for place, interval in found.items() if side(interval) == sign]:
            sizes = between([abs(found[place][0]) for place in where], digits)
            said.append(f"{word} in {series(where)} (by {sizes})")
    if where := [place for place, interval in found.items() if side(interval) == 0]:
        said.append(f"not decided in {series(where)}")
    return ", ".join(said)


def standing(interval: Interval, other: str, digits: int = 2, factor: Real = 1) -> str:
    """`above raw patches by +0.15 (+0.12 to +0.17)`, `below ...`, or `not told apart from ..., +0.1 (-0.2 to +0.4)`."""
    found = spread(interval, digits, signed=True, factor=factor)
    words = {1: f"above {other} by {found}", -1: f"below {other} by {found}"}
    return words.get(side(interval), f"not told apart from {other}, {found}")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def prose(*sentences: str) -> str:
    """Sentences or points of a list, each from a line of its own on, in lines of 120."""
    sentences = [re.sub(r"\$[^$]*\$", lambda formula: formula[0].replace(" ", KEPT), each) for each in sentences]
    points = [sentence.startswith("- ") for sentence in sentences]
    lines = []
    for number, (sentence, point) in enumerate(zip(sentences, points, strict=True)):
        if number and point != points[number - 1]:
            lines.append("")
        indent = "  " if point else ""
        lines += textwrap.wrap(sentence, 120, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False)
    return "\n".join(lines).replace(KEPT, " ")
