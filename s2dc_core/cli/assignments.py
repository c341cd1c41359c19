"""field=value on a command line: anywhere between the options, behind one that takes several values too."""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from s2dc_core.data.manifests import names
from s2dc_core.options import nearest
from s2dc_core.training.recipe import Recipe

_FIELD = re.compile(r"(\w+)((\.\w+)*)=.*", re.DOTALL)
WORDS = {"scans": "file or folder", "root": "data set", "skip": "pattern", "inputs": "image"}
"""What else a word behind an option of several values may be."""


def add_assignments(parser: argparse.ArgumentParser, example: str) -> None:
    """Add the fields of a recipe to a command; `gather_words` and `take_assignments` collect them."""
    parser.add_argument("assignments", nargs="*", metavar="field=value", help=f"such as {example}")


def gather_words(parser: argparse.ArgumentParser, options: argparse.Namespace, left: Sequence[str]) -> None:
    """What argparse has left over, which takes positional words in one place only: assignments, or an error."""
    strange = [word for word in left if word.startswith("-") and word != "--"]
    if strange or not hasattr(options, "assignments"):
        left = strange or left
        if left:
            parser.error(f"unrecognized arguments: {' '.join(left)}")
        return
    options.assignments += [word for word in left if word != "--"]


def take_assignments(options: argparse.Namespace, recipe: type[Recipe]) -> list[str]:
    """All assignments, those that an option of several values has swallowed too; they leave the option.

    A word is one if it reads field=value and no file has that name; behind --root also NAME=DIR stays what it is.

    Raises:
        ValueError: for a word that is neither an assignment to a field of the recipe nor what its option takes.
    """
    taken = []
    for option, other in WORDS.items():
        words = getattr(options, option, None) or []
        found = [word for word in words if _is_assignment(word, option == "root")]
        for word in found:
            name = word.split("=")[0].split(".")[0]
            known = sorted(recipe.field_names())
            if name not in known:
                else_wise = f"data set {name!r}{nearest(name, names())}" if option == "root" else f"{other} {word!r}"
                raise ValueError(f"recipe has no field {name!r}{nearest(name, known)}, and there is no {else_wise}")
        if found:
            setattr(options, option, [word for word in words if word not in found])
        taken += found
    return [*taken, *options.assignments]


def _is_assignment(word: str, datasets: bool) -> bool:
    match = _FIELD.fullmatch(word)
    if not match or Path(word).exists():
        return False
    name = match[1] + match[2]
    return not (datasets and (name in names() or name.endswith(".json")))
