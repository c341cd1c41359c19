"""The cases of a data set on disk: its files by the manifest's layout, each with its section."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from s2dc_core.data.classes import with_targets
from s2dc_core.data.layout import Case, Problem, match_layouts
from s2dc_core.data.manifests import Manifest, columns
from s2dc_core.data.splits import across_sections, with_sections


def find_cases(manifest: Manifest, root: str | Path) -> tuple[list[Case], list[Problem]]:
    """The cases under a folder, in the order of their names, and what does not fit together.

    Problems are of the kinds "ambiguous" (two files that match one case, two classes in its rows), "missing" (an
    image, label or class that a case lacks, a listed case that is not there), "layout" (a case that lies otherwise than
    the others) and "split" (a patient in two sections, a case that the split does not name).

    Raises:
        FileNotFoundError: if there is no such folder, or nothing in it matches.
        ValueError: for a collection, a root without what the split or the classes are read from, or a table that does
            not show which of its columns names the cases.
    """
    if manifest.members:
        raise ValueError(f"{manifest.name} is a collection: give its members {', '.join(manifest.members)}")
    root = Path(os.path.expanduser(root))
    if not root.is_dir():
        raise FileNotFoundError(f"there is no folder {root}: give the one that holds {manifest.title}")
    cases, problems = match_layouts(manifest, root)
    cases = with_sections(manifest, with_targets(manifest, root, cases, problems), root, problems)
    return cases, problems + across_sections(cases)


def require_cases(manifest: Manifest, root: str | Path) -> list[Case]:
    """The cases under a folder; a ValueError that lists every problem if there is one."""
    cases, problems = find_cases(manifest, root)
    if problems:
        raise ValueError(f"{root} is not {manifest.name} as its manifest has it:\n{problem_table(problems)}")
    return cases


def images_alone(manifest: Manifest) -> Manifest:
    """The manifest as pre-training reads it: only the images that it needs, no labels and no classes."""
    names = manifest.pretraining_images or manifest.image_names
    layouts = [
        {**layout, "parts": [_images_alone(part, names) for part in layout["parts"]]} for layout in manifest.layouts
    ]
    return replace(manifest, layouts=layouts, classes=None)


def _images_alone(part: dict, names: Sequence[str]) -> dict:
    return {**part, "images": {name: part["images"][name] for name in names}, "without_label": True}


def problem_table(problems: Sequence[Problem]) -> str:
    """One line per problem."""
    return columns([("problem", "data set", "case", ""), *problems])
