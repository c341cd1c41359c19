"""Recipes as they are written: by name or in YAML, with fields replaced as a command line gives them."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

import yaml


def recipes_of(room: str) -> tuple[str, ...]:
    """Names of the project's own recipes in a room, such as "s2dc_core.pretraining".

    Those in a folder are named with it, such as "teaching/simmim", and come after those that lie in none.
    """
    return tuple(sorted(_found(resources.files(room).joinpath("recipes")), key=lambda name: ("/" in name, name)))


def _found(folder: Traversable) -> Iterator[str]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from (f"{entry.name}/{name}" for name in _found(entry))
        elif entry.name.endswith(".yaml"):
            yield entry.name.removesuffix(".yaml")


def read_recipe(recipe: str | Path, room: str) -> tuple[dict, list[str]]:
    """The values of a recipe of the project by name, or of any YAML file, and what is wrong with how they are written.

    Raises:
        ValueError: for an unknown name, or a file that holds no recipe.
        FileNotFoundError: if there is no such file.
    """
    if str(recipe) in recipes_of(room):
        file = resources.files(room).joinpath("recipes", *f"{recipe}.yaml".split("/"))
    elif Path(recipe).suffix in (".yaml", ".yml"):
        file = Path(recipe).expanduser()
        if not file.is_file():
            raise FileNotFoundError(f"no recipe {recipe}")
    else:
        raise ValueError(f"unknown recipe {str(recipe)!r}: give one of {', '.join(recipes_of(room))}, or a YAML file")
    try:
        values, twice = _load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"{recipe} is not valid YAML: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{recipe} holds no recipe: it must name fields and their values")
    return values, [f"{recipe}: {problem}" for problem in twice]


def assign(
    values: Mapping, assignments: Sequence[str], place_of: Callable[[str, Mapping], str] = lambda name, _values: name
) -> tuple[dict, list[str]]:
    """The values with fields replaced, such as "steps=2000" or "views.counts=[2, 2, 1]", each read as YAML.

    Args:
        place_of: where a field lies among the values.

    Returns:
        them, and what is wrong with the assignments: one that is none, or a field that two of them give.
    """
    values, problems, given = _own(values), [], {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        place = place_of(name, values)
        *inner, last = place.split(".")
        if not equals or not all((*inner, last)):
            problems.append(f"{assignment!r} is no field=value, such as steps=2000 or views.counts=[2, 2, 1]")
            continue
        try:
            value, twice = _load(text)
        except (yaml.YAMLError, ValueError) as error:
            problems.append(f"{assignment!r}: its value is no YAML ({error})")
            continue
        if not text.strip():
            problems.append(f"{assignment!r} gives no value: write {name}=null for none, or {name}='\"\"' for no text")
        problems += [f"{assignment!r}: {problem}" for problem in twice]
        # A field that holds others takes theirs with it.
        before = [text for other, text in given.items() if f"{other}.".startswith(f"{place}.")]
        problems += [f"{name} is given twice: {text} and {assignment}" for text in before[:1]]
        given |= dict.fromkeys([place, *_names(value, place)], assignment)
        holder = values
        for part in inner:
            holder = holder.setdefault(part, {}) if isinstance(holder, dict) else holder
        if isinstance(holder, dict):
            holder[last] = value
        else:
            problems.append(f"{assignment!r}: {'.'.join(inner)} is one value and has no fields")
    return values, problems


def _own(value: object) -> object:
    """A copy to change, in plain values."""
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    return {name: _own(entry) for name, entry in value.items()} if isinstance(value, Mapping) else value


def _names(value: object, where: str) -> Iterator[str]:
    for name, entry in value.items() if isinstance(value, Mapping) else ():
        yield f"{where}.{name}"
        yield from _names(entry, f"{where}.{name}")


def _load(text: str) -> tuple[object, list[str]]:
    """What YAML holds, and the names that a mapping of it gives twice, of which it would take the last."""
    loader = _Loader(text)
    try:
        return loader.get_single_data(), loader.twice
    finally:
        loader.dispose()


class _Loader(yaml.SafeLoader):
    """YAML whose numbers are those that people write: 1e-4 is one, and 010 is not 8, nor 1:30 ninety."""

    def __init__(self, stream: str):
        super().__init__(stream)
        self.twice: list[str] = []

    def compose_mapping_node(self, anchor):
        """Note the names that come again."""
        node = super().compose_mapping_node(anchor)
        lines: dict[str, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if key.value in lines:
                where = f"lines {lines[key.value]} and {line}" if line > lines[key.value] else f"line {line}"
                self.twice.append(f"{key.value} is given twice, in {where}")
            lines[key.value] = line
        return node


_DIGITS, _POWER = "[0-9][0-9_]*", "[eE][-+]?[0-9]+"
_NUMBERS = {
    "tag:yaml.org,2002:int": "[-+]?(0|[1-9][0-9_]*)",
    "tag:yaml.org,2002:float": rf"[-+]?(({_DIGITS}\.[0-9_]*|\.{_DIGITS})({_POWER})?|{_DIGITS}{_POWER}"
    r"|\.(inf|Inf|INF))|\.(nan|NaN|NAN)",
}
_Loader.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in known if tag not in _NUMBERS]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _tag, _form in _NUMBERS.items():
    _Loader.add_implicit_resolver(_tag, re.compile(f"({_form})$"), list("-+.0123456789"))
