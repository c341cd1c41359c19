"""JSON records of runs and studies."""

import json
import math
import platform
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from s2dc_core.training.durable import told_when_full, write_durably


def read_json(file: Path) -> dict:
    """What a record holds."""
    return json.loads(file.read_text(encoding="utf-8"))


def write_json(file: Path, values: dict) -> None:
    """Write a record beside its place and rename it, so that a crash leaves no half of one; see as_json.

    Raises:
        DiskFull: if there is no room.
    """
    data = (as_json(values, indent=1) + "\n").encode()
    with told_when_full(file.parent, file.name, lambda: len(data)):
        write_durably(file, data)


def as_json(values: object, indent: int | None = None) -> str:
    """Values as JSON, which has neither NaN nor infinity: both become null, and `with_nan` gives NaN back."""
    return json.dumps(_finite(values), indent=indent, allow_nan=False)


def _finite(values: Any) -> Any:
    if isinstance(values, Mapping):
        return {name: _finite(value) for name, value in values.items()}
    if isinstance(values, list | tuple):
        return [_finite(value) for value in values]
    return None if isinstance(values, float) and not math.isfinite(values) else values


def with_nan(scores: Any) -> Any:
    """Scores out of a record, nested in whatever way: where it has null there was no number, NaN."""
    if isinstance(scores, Mapping):
        return {name: with_nan(value) for name, value in scores.items()}
    if isinstance(scores, list):
        return [with_nan(value) for value in scores]
    return math.nan if scores is None else scores


def kept_record(file: Path, recipe: Mapping, renewed: Callable[[Any], Any] = lambda there: there) -> dict | None:
    """The record of a job that was done before, to be kept; None if it is still to be done.

    Args:
        recipe: all that decides the job's numbers; write_json is to store it under "recipe".
        renewed: brings what an earlier version stored to how it is stored now.

    Raises:
        ValueError: if what lies there followed another recipe, or does not say which.
    """
    if not file.exists():
        return None
    record, asked = read_json(file), json.loads(as_json(recipe))
    there = json.loads(as_json(renewed(record.get("recipe"))))
    if there != asked:
        names = [name for name in asked if not isinstance(there, Mapping) or there.get(name) != asked[name]]
        differing = f" (differing: {', '.join(names)})" if names and isinstance(there, Mapping) else ""
        raise ValueError(f"{file} followed another recipe: give a new folder{differing}")
    return record


def difference(there: Sequence[str], here: Sequence[str]) -> str:
    """What facts are in one list alone, or that their order is another."""
    gone, new = ([line for line in one if line not in set(other)] for one, other in ((there, here), (here, there)))
    if not gone and not new:
        return "the same, in another order"
    shown = [f"{len(lines)} {word}, such as {lines[0]}" for lines, word in ((gone, "there"), (new, "here")) if lines]
    return "; ".join(shown)


def versions() -> dict[str, str]:
    """What the numbers were made with."""
    names = ("s2dc_core", "torch", "monai", "numpy", "scipy", "scikit-learn", "nibabel", "pydicom", "simpleitk")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}
