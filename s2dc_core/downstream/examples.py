"""Cases with their truth, as fine-tuning reads them: from a list, or from a data set by its manifest."""

import math
import os
from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from s2dc_core.data import Case, Manifest, check_files, items_of, labels_in, settings_of_manifest, transforms_of
from s2dc_core.training.order import random_numbers

PATIENT = ("patient", "patient_id", "PatientID", "subject", "subject_id", "participant_id")
"""Under which an entry may name its patient; the first that it has counts."""


class Example(NamedTuple):
    """A case ready for a network.

    Attributes:
        name: for messages and tables.
        image: [C, X, Y, Z] float32, normalised.
        truth: label map [X, Y, Z] int; image to be predicted [X, Y, Z] float32; or class, a number.
        background: what the image is padded with where a crop reaches beyond it.
        affine: [4, 4], voxel to world mm, for pictures.
    """

    name: str
    image: Tensor
    truth: Tensor | int
    background: float = 0.0
    affine: np.ndarray | None = None


class Examples(Sequence):
    """Cases that are read when asked for and, if there is room, kept.

    Args:
        entries: what is known of each without reading it: "name", and where it applies "patient" (default: the name;
            for other keys see PATIENT) and "target" (its class).
        read: makes the example of an entry.
        keep: in memory, once read.
        labels_in: the label values of an entry without reading all of it; default: from the example.
        check: looks at an entry's files without reading all of them, and raises a ValueError for one that will not do.
        settings: how the images are prepared, see data.settings_of; None where nobody noted it.
    """

    def __init__(
        self,
        entries: Sequence[Mapping[str, Any]],
        read: Callable[[Mapping[str, Any]], Example],
        keep: bool = True,
        labels_in: Callable[[Mapping[str, Any]], set[int]] | None = None,
        check: Callable[[Mapping[str, Any]], object] | None = None,
        settings: list[dict] | None = None,
    ):
        self.entries, self.keep, self.settings = list(entries), keep, settings
        self._read, self._labels_in, self._check = read, labels_in, check
        self._kept: dict[int, Example] = {}
        self._labels: dict[int, set[int]] = {}

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> Example:
        if index in self._kept:
            return self._kept[index]
        example = self._read(self.entries[index])
        if self.keep:
            self._kept[index] = example
        return example

    def __iter__(self) -> Iterator[Example]:
        return (self[index] for index in range(len(self)))

    @property
    def names(self) -> list[str]:
        """Of the cases."""
        return [entry["name"] for entry in self.entries]

    def labels_in(self, index: int) -> set[int]:
        """The values of a case's label map."""
        if index not in self._labels:
            cheaply = self._labels_in and index not in self._kept
            values = self._labels_in(self.entries[index]) if cheaply else self[index].truth.unique().tolist()
            self._labels[index] = set(values)
        return self._labels[index]

    def check(self, index: int) -> None:
        """See that a case can be read, as far as that is cheap: by its files' headers, or by reading what is kept.

        Raises:
            ValueError, OSError: if it cannot.
        """
        if index in self._kept:
            return
        if self._check:
            self._check(self.entries[index])
        elif self.keep and not self._labels_in:
            self[index]

    def only(self, indices: Sequence[int]) -> "Examples":
        """Some of them; what was read stays read."""
        how = (self._read, self.keep, self._labels_in, self._check, self.settings)
        chosen = Examples([self.entries[k] for k in indices], *how)
        chosen._kept = {place: self._kept[k] for place, k in enumerate(indices) if k in self._kept}
        chosen._labels = {place: self._labels[k] for place, k in enumerate(indices) if k in self._labels}
        return chosen

    def without(self, names: Container[str]) -> "Examples":
        """Those of other names."""
        return self.only([k for k, name in enumerate(self.names) if name not in names])

    def split(self, aside: int, seed: int) -> tuple["Examples", "Examples"]:
        """The cases without, and those of, so many patients that the seed draws.

        Raises:
            ValueError: if no patient would be left.
        """
        patients = list(map(patient_of, self.entries))
        known = list(dict.fromkeys(patients))
        if aside >= len(known):
            raise ValueError(f"{aside} of {len(known)} patients cannot be set aside: none would be left to train on")
        order = torch.randperm(len(known), generator=random_numbers(seed, "cases", 0)).tolist()
        chosen = {known[k] for k in order[:aside]}
        here = [k for k, patient in enumerate(patients) if patient not in chosen]
        return self.only(here), self.only([k for k in range(len(patients)) if k not in set(here)])

    def share(self, part: float | int, seed: int) -> "Examples":
        """A share of the cases that the seed draws, class by class where there are classes; at least one of each.

        A smaller share of the same seed is part of a larger one.

        Raises:
            ValueError: for a share that is not above 0 and at most 1.
        """
        if not 0 < part <= 1:
            raise ValueError(f"a share of the labels must be above 0 and at most 1, got {part}")
        groups: dict[Any, list[int]] = {}
        for k, entry in enumerate(self.entries):
            groups.setdefault(entry.get("target"), []).append(k)
        chosen: list[int] = []
        for number, group in enumerate(groups[key] for key in sorted(groups, key=str)):
            order = torch.randperm(len(group), generator=random_numbers(seed, "cases", 1 + number)).tolist()
            chosen += [group[k] for k in order[: max(1, math.ceil(part * len(group) - 1e-9))]]
        return self.only(sorted(chosen))


def patient_of(entry: Mapping[str, Any]) -> str:
    """Whose case an entry is."""
    return next((str(entry[key]).strip() for key in PATIENT if entry.get(key) not in (None, "")), str(entry["name"]))


def refuse_shared(training: Examples, scored: Examples) -> None:
    """What is learnt from must not be scored: no case, no patient, no image; and no two scored cases have one name.

    Raises:
        ValueError: naming the case or the patient.
    """
    if both := set(training.names) & set(scored.names):
        raise ValueError(f"{len(both)} cases are learnt from and scored, such as {min(both)}")
    for what, of in (("patients", patient_of), ("images", _image_of)):
        known = {of(entry): entry["name"] for entry in training.entries}
        both = {of(entry): entry["name"] for entry in scored.entries if of(entry) and of(entry) in known}
        if both:
            one, case = min(both.items())
            cases = f"{known[one]} is learnt from, {case} is scored"
            raise ValueError(f"{len(both)} {what} are learnt from and scored, such as {one} ({cases})")
    refuse_namesakes(scored)


def refuse_namesakes(examples: Examples) -> None:
    """Raise a ValueError if two cases have one name, under which the scores of one would be lost."""
    if twice := [name for name, count in Counter(examples.names).items() if count > 1]:
        raise ValueError(f"{len(twice)} names stand for several cases, such as {min(twice)}: give each its own")


def _image_of(entry: Mapping[str, Any]) -> str:
    """The file or files of a case's image, if its entry names any."""
    image = entry.get("image")
    paths = image if isinstance(image, list | tuple) else [image]
    named = all(isinstance(path, str | os.PathLike) and os.fspath(path) for path in paths)
    return ", ".join(os.path.abspath(path) for path in paths) if named else ""


def examples_of(
    manifest: Manifest,
    cases: Sequence[Case],
    section: str,
    inputs: Sequence[str] | None = None,
    target: str | None = None,
    rule: str = "manifest",
    keep: bool = True,
) -> Examples:
    """The cases of a section, prepared by the manifest.

    Args:
        inputs: images that are the network's channels; default: all that are not to be predicted.
        target: image to be predicted; None for the label map, or the class.
        rule: intensities of the inputs, see transforms_of; what is to be predicted goes by the manifest.
        keep: in memory, once read.

    Raises:
        ValueError: if the section has no case with a label map, class or target.
    """
    inputs = list(inputs or (name for name in manifest.input_names if name != target))
    for name in (*inputs, *([target] if target else ())):
        if name not in manifest.image_names:
            raise ValueError(f"{manifest.name} has no image {name!r}: there are {', '.join(manifest.image_names)}")
    labelled = target is None and any(case.label for case in cases)
    found = [item for item in items_of(manifest, cases, section) if not labelled or "label" in item]
    found = [item for item in found if labelled or target or "target" in item]
    if target:
        manifest = replace(manifest, targets=[target])
    if not found:
        raise ValueError(f"no case of {manifest.name} in its section {section!r} has a truth to learn or to score by")
    truth = "label" if labelled else target
    prepare = transforms_of(manifest, [*inputs, *([truth] if truth else ())], rule)

    def read(item: Mapping[str, Any]) -> Example:
        try:
            item = prepare(item)
        except RuntimeError as error:  # in which MONAI wraps what its transforms raise
            if isinstance(error.__cause__, ValueError | OSError):
                raise error.__cause__ from None
            raise
        image = torch.cat([item[name].as_tensor() for name in inputs]).float()
        facts = {"background": float(image.min()), "affine": item[inputs[0]].affine.numpy()}
        if truth is None:
            return Example(item["name"], image, int(item["target"]), **facts)
        volume = item[truth].as_tensor()[0]
        return Example(item["name"], image, volume.round().int() if labelled else volume.float(), **facts)

    def check(item: Mapping[str, Any]) -> None:
        check_files(item[name] for name in (*inputs, *([truth] if truth else ())))

    entries = [{**item, "name": item["case"]} for item in found]
    settings = settings_of_manifest(manifest, inputs, rule)
    return Examples(entries, read, keep, labels_in if labelled else None, check, settings)
