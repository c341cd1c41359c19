"""Options that cannot be are refused, all at once: what a field may hold, and what fields must agree on."""

import difflib
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from numbers import Integral
from types import NoneType, SimpleNamespace, UnionType
from typing import Any, ClassVar, get_args, get_type_hints

import numpy as np

Rule = Callable[[str, Any], str]
"""From the name of a field and its value to what is wrong with it, "" if nothing is."""

MANY = 2**16
"""More regions of a step, channels of a head or samples than anybody has meant."""


class Options:
    """The base of a frozen dataclass whose values come from people: from YAML, from a command line, from Python.

    Lists become tuples, NumPy's numbers Python's and paths text. All that is wrong is then one ValueError, a line for
    each problem.
    """

    RULES: ClassVar[Mapping[str, Rule]] = {}
    """Of fields that may not hold every value of their kind. None is not asked."""

    INNER: ClassVar[str] = ""
    """A field of options whose own fields are named without it, in messages and by whoever sets them."""

    @classmethod
    def kind_within(cls, name: str, values: Mapping[str, Any]) -> "type[Options] | None":
        """The kind of the options that a field holds, whatever the other values say; None if it holds none."""
        return _inner(_hints(cls)[name])

    def __post_init__(self):
        for name, value in vars(self).items():
            object.__setattr__(self, name, _settled(value))
        refuse(problems_of(type(self), vars(self)))

    @classmethod
    def field_names(cls) -> list[str]:
        """What a misspelt name may have been meant to be."""
        return [each.name for each in fields(cls)]

    @classmethod
    def disagreements(cls, values: SimpleNamespace, sound: Callable[..., bool]) -> Iterator[str]:
        """What is wrong between fields.

        Args:
            values: the fields as attributes.
            sound: whether the fields of these names are right by themselves.
        """
        yield from ()


def refuse(problems: Sequence[str]) -> None:
    """Raise one ValueError for all problems, if there are any."""
    if problems:
        listed = "".join(f"\n  {problem}" for problem in problems)
        raise ValueError(problems[0] if len(problems) == 1 else f"{len(problems)} things cannot be:{listed}")


def make(kind: type[Options], values: Mapping[str, Any]) -> Options:
    """Options of a kind from plain values; those that are options themselves may be mappings."""
    refuse(problems_of(kind, values))
    inner = {name: kind.kind_within(name, values) for name in _hints(kind)}
    return kind(
        **{
            name: make(inner[name], value) if inner[name] and isinstance(value, Mapping) else _settled(value)
            for name, value in values.items()
        }
    )


def problems_of(kind: type[Options], values: Mapping[str, Any], where: str = "") -> list[str]:
    """All that keeps options of a kind from being made of these values; fields that are not named keep their default.

    Args:
        where: the name of the field that they are of.
    """
    hints = _hints(kind)
    prefix = f"{where}." if where else ""
    named = hints if where else kind.field_names()
    found, bad = list(_unknown(where or "recipe", values, hints, named)), set()
    full = {each.name: _settled(values[each.name]) if each.name in values else _default(each) for each in fields(kind)}
    for name, hint in hints.items():
        inner = kind.kind_within(name, full)
        if inner and isinstance(full[name], Mapping):
            problems = problems_of(inner, full[name], where if name == kind.INNER else prefix + name)
            full[name] = full[name] if problems else make(inner, full[name])
        else:
            problems = [_problem(prefix + name, full[name], hint, kind.RULES.get(name))]
        if any(problems):
            found += problems
            bad.add(name)
    between = kind.disagreements(SimpleNamespace(**full), lambda *names: bad.isdisjoint(names))
    return found + [f"{where}: {text}" if where else text for text in between]


def nearest(name: object, known: Iterable[str]) -> str:
    """A hint at what a misspelt name was meant to be."""
    names = list(known)
    near = difflib.get_close_matches(str(name), names, 1)
    return f": did you mean {near[0]}?" if near else f": there are {', '.join(names)}"


def within(low: float | int, high: float | int, says: str = "") -> Rule:
    """At least `low` and at most `high`, both taken along; `says` what is said of a value below, or of NaN."""

    def rule(name: str, value: Any) -> str:
        if low <= value <= high:
            return ""
        says_so = f"must be at most {high:,}" if high < value < math.inf else says or f"must be at least {low}"
        return f"{name} {says_so}, got {_short(value)}"

    return rule


def above_zero(most: float | int) -> Rule:
    """Above 0, by so much that its inverse is a number too."""
    return within(1e-12, most, "must be positive and finite")


def from_zero(most: float | int) -> Rule:
    """0 or above."""
    return within(0, most, "must be finite and not negative")


def one_of(*choices: str) -> Rule:
    """A name of a list."""
    listed = ", ".join(choices)
    return lambda name, value: "" if value in choices else f"unknown {name} {value!r}: choose one of {listed}"


def whole_numbers_to(most: int, of: int | None = None) -> Rule:
    """A list of whole numbers from 1 up, of a given length; of any but none if no length is given."""
    says = f"must be {'a list of' if of is None else of} whole numbers from 1 to {most:,}"
    return that(lambda given: len(given) == (of or len(given) or 1) and all(1 <= each <= most for each in given), says)


def that(holds: Callable[[Any], bool], says: str) -> Rule:
    """Whatever holds for the right values alone."""
    return lambda name, value: "" if holds(value) else f"{name} {says}, got {_short(value)}"


@cache
def _hints(kind: type) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {each.name: hints[each.name] for each in fields(kind)}


def _inner(hint: Any) -> type[Options] | None:
    return next((each for each in (hint, *get_args(hint)) if is_dataclass(each)), None)


def _default(field) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()


def _unknown(where: str, values: Mapping, known: Mapping[str, Any], named: Iterable[str]) -> Iterator[str]:
    for name in values:
        if name not in known:
            yield f"{where} has no field {name!r}{nearest(name, named)}"


def _problem(name: str, value: Any, hint: Any, rule: Rule | None) -> str:
    if not _suits(value, hint):
        return f"{name} must {_words(hint)}, got {_short(value)}"
    return rule(name, value) if rule and value is not None else ""


def _suits(value: Any, hint: Any) -> bool:
    if isinstance(hint, UnionType):
        return any(_suits(value, option) for option in get_args(hint))
    if get_args(hint):
        return isinstance(value, tuple) and all(_suits(entry, get_args(hint)[0]) for entry in value)
    return isinstance(value, hint) and not (isinstance(value, bool) and hint is not bool)


_WORDS = {
    int: "be a whole number",
    float: "be a number",
    bool: "be true or false",
    str: "be a name or text",
    dict: "name fields and their values",
    NoneType: "be null (None)",
}


def _words(hint: Any) -> str:
    if isinstance(hint, UnionType):
        kinds = [each for each in get_args(hint) if each is not int or float not in get_args(hint)]
        return " or ".join(map(_words, kinds))
    if get_args(hint):
        return f"be a list of {'whole numbers' if get_args(hint)[0] is int else 'numbers'}"
    return _WORDS.get(hint, _WORDS[dict])


def _settled(value: Any) -> Any:
    """As a frozen value holds it."""
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    listed = isinstance(value, Sequence) and not isinstance(value, (str, bytes))
    return tuple(map(_settled, value)) if listed else value


def _short(value: Any) -> str:
    text = repr(list(value)) if isinstance(value, tuple) else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Refuse an unknown choice by naming the known ones."""
    if value not in choices:
        raise ValueError(f"unknown {name} {value!r}: choose one of {', '.join(choices)}")


def whole_numbers(name: str, values: Iterable, least: int | None = None) -> tuple[int, ...]:
    """The values as ints: numpy's whole numbers count as such, bools and floats do not.

    Raises:
        ValueError: if one of them is no whole number, or below the least, naming them.
    """
    values = tuple(values)
    if any(isinstance(v, bool) or not isinstance(v, Integral) or least is not None and v < least for v in values):
        bound = "" if least is None else f" from {least} up"
        raise ValueError(f"{name} must hold whole numbers{bound}, got {', '.join(map(repr, values))}")
    return tuple(int(v) for v in values)
