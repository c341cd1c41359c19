"""Manifests: where a data set comes from, how its files lie, how it is split, prepared and scored."""

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from s2dc_core.data.intensities import CT_WINDOW

FOLDER = resources.files("s2dc_core.data").joinpath("manifests")
SECTIONS = ("training", "validation", "test")
ACCESS = {
    "public": "public download",
    "registration": "registration",
    "application": "application",
    "generated": "made here",
    "bundled": "comes along",
}
UNVERIFIED = "(u)"
PLACEHOLDER = re.compile(r"\{(?P<name>[a-z_]+)(?P<empty>\?)?(?::(?P<length>\d+))?\}")
"""In a layout's path: {name}, {name?}, {name:4}."""


@dataclass(frozen=True)
class Manifest:
    """A data set, or a collection of data sets (`members`); every field is described in data_manifests/schema.json."""

    name: str
    title: str
    modality: str
    tasks: list[str]
    citation: str
    preprocessing: dict[str, Any]
    access: dict[str, str] | None = None
    licence: str | None = None
    cases: dict[str, Any] | None = None
    layouts: list[dict[str, Any]] = field(default_factory=list)
    classes: dict[str, Any] | None = None
    labels: dict[str, str] = field(default_factory=dict)
    regions: dict[str, list[int]] = field(default_factory=dict)
    split: dict[str, Any] | None = None
    pretraining_sections: tuple[str, ...] | list[str] = ("training",)
    pretraining_images: list[str] | None = None
    kinds: dict[str, str] = field(default_factory=dict)
    targets: list[str] = field(default_factory=list)
    metric: dict[str, Any] | None = None
    files: list[dict[str, Any]] = field(default_factory=list)
    generated: dict[str, Any] | None = None
    members: list[str] = field(default_factory=list)
    relations: list[dict[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unverified: list[str] = field(default_factory=list)

    @property
    def label_names(self) -> dict[int, str]:
        """Number to name, of labels or classes."""
        return {int(number): name for number, name in self.labels.items()}

    @property
    def image_names(self) -> list[str]:
        """The images of a case, in the order of the manifest."""
        return list(self.layouts[0]["parts"][0]["images"]) if self.layouts else []

    @property
    def input_names(self) -> list[str]:
        """The images of a case that are not to be predicted."""
        return [name for name in self.image_names if name not in self.targets]

    def kind_of(self, image: str) -> str:
        """Modality of an image of a case."""
        return self.kinds.get(image, self.modality)

    @property
    def rule(self) -> str:
        """Of `scans.normalise`, for pre-training: "paper" for a z-score over the whole volume, else ours."""
        return "paper" if self.preprocessing["intensity"].get("over") == "volume" else "default"

    @property
    def window(self) -> tuple[float, float]:
        """Of the intensities, where the rule is a window; else the default of a CT, which MR and PET do not read."""
        rule = self.preprocessing["intensity"]
        return (float(rule["low"]), float(rule["high"])) if rule["rule"] == "window" else CT_WINDOW

    @property
    def scale(self) -> float:
        """With `offset` what brings the files to HU or SUV: scale * stored + offset."""
        return float(self.preprocessing.get("scale", 1.0))

    @property
    def offset(self) -> float:
        """See `scale`."""
        return float(self.preprocessing.get("offset", 0.0))

    def unit_of(self, image: str) -> dict[str, Any]:
        """What `scans.read_checked` takes for an image of a case; others than of the modality are in their own unit."""
        own = self.kind_of(image) == self.modality
        return {"window": self.window, "scale": self.scale, "offset": self.offset} if own else {}


def load_manifest(manifest: str | Path) -> Manifest:
    """A manifest by its name in data_manifests/, or from a JSON file of your own.

    Raises:
        FileNotFoundError: for a name or file that does not exist.
        ValueError: naming the file and the field, for one that breaks the schema.
    """
    if str(manifest) in names():
        return _read(FOLDER.joinpath(f"{manifest}.json"))
    file = Path(os.path.expanduser(manifest))
    if file.suffix != ".json":
        raise FileNotFoundError(
            f"there is no manifest {str(manifest)!r}: give a .json file or one of {', '.join(names())}"
        )
    if not file.is_file():
        raise FileNotFoundError(f"there is no file {file}")
    return _read(file)


@cache
def names() -> tuple[str, ...]:
    """Of all manifests that come with the repository."""
    found = (file.name.removesuffix(".json") for file in FOLDER.iterdir() if file.name.endswith(".json"))
    return tuple(sorted(name for name in found if name != "schema"))


def load_all() -> dict[str, Manifest]:
    """{name: manifest} of all that come with the repository."""
    return {name: load_manifest(name) for name in names()}


def members_of(manifest: Manifest) -> list[Manifest]:
    """The data sets of a collection, or the one itself."""
    return [load_manifest(name) for name in manifest.members] or [manifest]


@cache
def _validator() -> Draft202012Validator:
    return Draft202012Validator(json.loads(FOLDER.joinpath("schema.json").read_text(encoding="utf-8")))


def _read(file: Any) -> Manifest:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{file} cannot be read as JSON: {error}") from error
    if error := best_match(_validator().iter_errors(content)):
        place = error.json_path.removeprefix("$").removeprefix(".") or "the manifest"
        raise ValueError(f"{file} breaks the schema at {place}: {error.message}")
    if content["name"] != file.name.removesuffix(".json"):
        raise ValueError(f"{file} breaks the schema at name: it is {content['name']!r}, its file's is another")
    manifest = Manifest(**content)
    for place, names, known in _references(manifest):
        if strange := sorted(set(names) - set(known)):
            there = f"there are {', '.join(known)}" if known else "there is none"
            raise ValueError(f"{file} breaks the schema at {place}: {', '.join(strange)} is no name of it, {there}")
    return manifest


def _references(manifest: Manifest) -> Iterator[tuple[str, Sequence[str], Sequence[str]]]:
    """What one field says of another: field, names in it, and the names that there are."""
    images = manifest.image_names
    for name in ("pretraining_images", "kinds", "targets"):
        yield name, getattr(manifest, name) or (), images
    for k, layout in enumerate(manifest.layouts):
        for j, part in enumerate(layout["parts"]):
            place = f"layouts[{k}].parts[{j}].images"
            yield place, part["images"], images
            yield f"{place} (all parts have the same)", images, list(part["images"])
            for image, pattern in part["images"].items():
                placeholders = [found["name"] for found in PLACEHOLDER.finditer(pattern)]
                if manifest.classes:
                    yield "classes.key", [manifest.classes["key"]], placeholders
                if manifest.split["rule"] == "monai":
                    yield f"{place}.{image} (of a split as MONAI's)", ["case"], placeholders
    for region, numbers in manifest.regions.items():
        yield f"regions.{region}", list(map(str, numbers)), list(manifest.labels)


def describe(manifest: Manifest) -> str:
    """All that a manifest says, to be read in a terminal; what was not verified is marked (u)."""
    lines = [f"{manifest.name}: {manifest.title}", ""]
    for entry in fields(manifest):
        value = getattr(manifest, entry.name)
        if entry.name in ("name", "title") or not value:
            continue
        mark = f" {UNVERIFIED}" if entry.name in manifest.unverified else ""
        lines += _outline(f"{entry.name.replace('_', ' ')}{mark}", value, 0)
    if manifest.unverified:
        lines += ["", f"{UNVERIFIED}: not verified at the source"]
    return "\n".join(lines)


def _outline(name: str, value: Any, depth: int) -> list[str]:
    head = f"{'  ' * depth}{name}"
    if isinstance(value, Mapping):
        return [head, *(line for key, inner in value.items() for line in _outline(str(key), inner, depth + 1))]
    if isinstance(value, list | tuple) and any(isinstance(each, Mapping) or len(str(each)) > 40 for each in value):
        return [line for k, each in enumerate(value, 1) for line in _outline(f"{name} {k}", each, depth)]
    if isinstance(value, list | tuple):
        return [f"{head}: {', '.join(map(str, value))}"]
    return [f"{head}: {value}"]


HEADS = ("name", "data set", "kind", "for", "scans", "access", "licence", "split")


def table(manifests: Iterable[Manifest], markdown: bool = False) -> str:
    """One line per manifest, for a terminal or, as Markdown, for data_manifests/README.md."""
    rows = [_row(manifest, markdown) for manifest in manifests]
    if markdown:
        lines = [HEADS, ["---"] * len(HEADS), *rows]
        return "\n".join(f"| {' | '.join(row)} |" for row in lines)
    return columns([HEADS[:6], *(row[:6] for row in rows)])


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows of texts as columns of a terminal."""
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _row(manifest: Manifest, markdown: bool) -> list[str]:
    def marked(name: str, text: str) -> str:
        return f"{text} {UNVERIFIED}" if name in manifest.unverified else text

    name = f"[{manifest.name}]({manifest.name}.json)" if markdown else manifest.name
    head = [name, manifest.title, manifest.modality, ", ".join(manifest.tasks)]
    if manifest.members:
        return [*head, "", f"collection of {', '.join(manifest.members)}", "", ""]
    access = ACCESS[manifest.access["kind"]]
    if markdown and "where" in manifest.access:
        access = f"[{access}]({manifest.access['where']})"
    count = manifest.cases["count"]
    return [
        *head,
        marked("cases", f"{count:,}" if count else "not known"),
        marked("access", access),
        marked("licence", manifest.licence),
        marked("split", manifest.split["origin"]),
    ]
