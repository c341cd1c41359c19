"""The cases of a data set: its files found by the manifest's layout, and which section each belongs to."""

import csv
import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

from monai.apps import DecathlonDataset

from s2dc_core.data.dicom import series_modality
from s2dc_core.data.manifests import Manifest, columns
from s2dc_core.data.stacks import is_stack

PLACEHOLDER = re.compile(r"\{(?P<name>[a-z_]+)(?P<empty>\?)?(?::(?P<length>\d+))?\}")


class Case(NamedTuple):
    """One case of a data set.

    Attributes:
        dataset: name of its manifest.
        name: what tells it from the others, such as "0001" or "patient/study/series".
        patient: as the source names patients, else the case's name.
        section: "training", "validation" or "test".
        images: {image: file or folder}, in the manifest's order.
        label: label map, if there is one.
        target: class, if there are classes.
        parts: what the placeholders of the layout stand for.
    """

    dataset: str
    name: str
    patient: str
    section: str
    images: dict[str, Path]
    label: Path | None
    target: int | None
    parts: dict[str, str]

    def __str__(self) -> str:
        return f"{self.dataset} {self.name}"


class Problem(NamedTuple):
    """Something wrong with a data set: of which kind, with which case, and what."""

    kind: str
    dataset: str
    case: str
    message: str


def find_cases(manifest: Manifest, root: str | Path) -> tuple[list[Case], list[Problem]]:
    """The cases under a folder, in the order of their names, and what does not fit together.

    Problems are of the kinds "ambiguous" (two files that match one case), "missing" (an image, label or class that a
    case lacks, a listed case that is not there) and "split" (a patient in two sections).

    Raises:
        FileNotFoundError: if there is no such folder, or nothing in it matches.
        ValueError: for a collection, or a root without what the split or the classes are read from.
    """
    if manifest.members:
        raise ValueError(f"{manifest.name} is a collection: give its members {', '.join(manifest.members)}")
    root = Path(root).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(f"there is no folder {root}: give the one that holds {manifest.title}")
    paths = list(_walk(root))
    found = [_match_layout(manifest, layout["parts"], root, paths) for layout in manifest.layouts]
    cases, problems = max(found, key=lambda each: len(each[0]))
    if not cases:
        raise FileNotFoundError(_nothing_matches(manifest, root, paths))
    cases = _with_sections(manifest, _with_targets(manifest, root, cases, problems), root, problems)
    return cases, problems + _across_sections(cases)


def require_cases(manifest: Manifest, root: str | Path) -> list[Case]:
    """The cases under a folder; a ValueError that lists every problem if there is one."""
    cases, problems = find_cases(manifest, root)
    if problems:
        raise ValueError(f"{root} is not {manifest.name} as its manifest has it:\n{problem_table(problems)}")
    return cases


def problem_table(problems: Sequence[Problem]) -> str:
    """One line per problem."""
    return columns([("problem", "data set", "case", ""), *problems])


def _walk(root: Path) -> Iterator[str]:
    """Files and, with a slash at the end, folders that hold files, relative to the root; hidden ones are left out."""
    seen = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        if (place := os.path.realpath(folder)) in seen:  # a link back would go round for ever
            folders.clear()
            continue
        seen.add(place)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        inside = Path(folder).relative_to(root).as_posix()
        prefix = "" if inside == "." else f"{inside}/"
        shown = sorted(name for name in files if not name.startswith("."))
        yield from [prefix] if shown and prefix else ()
        yield from (f"{prefix}{name}" for name in shown)


def pattern_of(text: str) -> re.Pattern:
    """A layout's path as a regular expression, at any depth below the root.

    ``*`` is any part of a name, ``{case}`` a part that has a meaning and is the same wherever it is repeated,
    ``{visit?}`` one that may be empty, ``{patient:4}`` one of four characters.
    """
    result, done, known = "", 0, set()
    for match in PLACEHOLDER.finditer(text):
        name, length = match["name"], match["length"]
        size = f"{{{length}}}" if length else "*" if match["empty"] else "+"
        result += _literal(text[done : match.start()])
        result += f"(?P={name})" if name in known else f"(?P<{name}>[^/]{size})"
        known.add(name)
        done = match.end()
    return re.compile(f"(?:.*/)?{result}{_literal(text[done:])}")


def _literal(text: str) -> str:
    return re.escape(text).replace(r"\*", "[^/]*")


def _match_layout(
    manifest: Manifest, parts: Sequence[Mapping], root: Path, paths: Sequence[str]
) -> tuple[list[Case], list[Problem]]:
    cases, problems, known = [], [], set()
    for part in parts:
        for case in _match_part(manifest, part, root, paths, problems):
            if case.name in known:
                both = f"{next(iter(case.images.values()))} is a second file of this case"
                problems.append(Problem("ambiguous", manifest.name, case.name, both))
            else:
                cases.append(case)
                known.add(case.name)
    return sorted(cases, key=lambda case: case.name), problems


def _match_part(
    manifest: Manifest, part: Mapping, root: Path, paths: Sequence[str], problems: list[Problem]
) -> Iterator[Case]:
    """Cases of one part of a layout. What matches the label's pattern is no image, whatever else it matches."""
    labels = _matching(part["label"], paths) if "label" in part else {}
    taken = {path for found in labels.values() for path in found}
    images = {name: _matching(pattern, paths, taken) for name, pattern in part["images"].items()}
    images = {name: _of_modality(found, manifest, root) for name, found in images.items()}
    for key in sorted(set().union(labels, *images.values())):
        parts = dict(key)
        name = "/".join(value for placeholder, value in key if placeholder != "class" and value) or manifest.name
        found = {image: by_key[key] for image, by_key in images.items() if key in by_key}
        if "label" in part:
            found["label"] = labels.get(key, [])
        for what, files in found.items():
            if len(files) > 1:
                both = f"{what}: {' and '.join(files)} both match"
                problems.append(Problem("ambiguous", manifest.name, name, both))
        missing = [image for image in part["images"] if image not in found]
        missing += ["label"] if "label" in part and not found["label"] else []
        problems += [
            Problem("missing", manifest.name, name, f"no {what}: {_expected(part, what, parts)}") for what in missing
        ]
        if set(part["images"]) <= set(found):
            files = {image: root / found[image][0] for image in part["images"]}
            label = root / found["label"][0] if found.get("label") else None
            yield Case(
                manifest.name, name, parts.get("patient", name), part.get("section", ""), files, label, None, parts
            )


def _expected(part: Mapping, what: str, parts: Mapping[str, str]) -> str:
    pattern = part["label"] if what == "label" else part["images"][what]
    return f"expected {PLACEHOLDER.sub(lambda match: parts.get(match['name'], '*'), pattern)}"


def _matching(pattern: str, paths: Sequence[str], taken: set[str] = frozenset()) -> dict[tuple, list[str]]:
    """{what the placeholders stand for: paths that match}."""
    expression, found = pattern_of(pattern), {}
    for path in paths:
        if path not in taken and (match := expression.fullmatch(path)):
            found.setdefault(tuple(match.groupdict().items()), []).append(path)
    return found


def _of_modality(found: dict[tuple, list[str]], manifest: Manifest, root: Path) -> dict[tuple, list[str]]:
    """Without folders that are no volumes, such as contours, or the PET of a CT collection."""
    kept = {}
    for key, paths in found.items():
        folders = [path for path in paths if path.endswith("/")]
        unfit = {
            path for path in folders if series_modality(root / path) != manifest.modality and not is_stack(root / path)
        }
        if set(paths) != unfit:
            kept[key] = [path for path in paths if path not in unfit]
    return kept


def _nothing_matches(manifest: Manifest, root: Path, paths: Sequence[str]) -> str:
    expected = [
        f"{next(iter(part['images'].values()))} ({layout['origin']})"
        for layout in manifest.layouts
        for part in layout["parts"][:1]
    ]
    there = f"it holds {len(paths)} files and folders, such as {paths[-1]}" if paths else "it is empty"
    return f"nothing under {root} looks like {manifest.name}: expected {', or '.join(expected)}; {there}"


def _with_targets(manifest: Manifest, root: Path, cases: list[Case], problems: list[Problem]) -> list[Case]:
    if manifest.classes:
        classes = _read_classes(manifest, root)
        key = manifest.classes["key"]
        targets = [classes.get(case.parts[key]) for case in cases]
    elif "class" in (cases[0].parts if cases else ()):
        numbers = {name: number for number, name in manifest.label_names.items()}
        targets = [numbers.get(case.parts["class"]) for case in cases]
    else:
        return cases
    for case, target in zip(cases, targets, strict=True):
        if target is None:
            where = manifest.classes["file"] if manifest.classes else f"the folder {case.parts['class']}"
            problems.append(
                Problem("missing", manifest.name, case.name, f"no class: {where} gives none of the manifest's")
            )
    return [case._replace(target=target) for case, target in zip(cases, targets, strict=True) if target is not None]


def _read_classes(manifest: Manifest, root: Path) -> dict[str, int]:
    """{case: class} of the tables under the root that have the manifest's column."""
    rule, classes = manifest.classes, {}
    tables = [root / path for path in _walk(root) if fnmatch(Path(path).name, rule["file"])]
    for file in tables:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            for row in csv.DictReader(lines):
                identities = [value for column, value in row.items() if column != rule["column"]]
                if (value := row.get(rule["column"])) in rule["values"]:
                    classes |= {identity: rule["values"][value] for identity in identities if identity}
    if not classes:
        raise ValueError(
            f"{manifest.name} needs a table {rule['file']} under {root} whose column {rule['column']} holds "
            f"{', '.join(rule['values'])}"
        )
    return classes


def _with_sections(manifest: Manifest, cases: list[Case], root: Path, problems: list[Problem]) -> list[Case]:
    split = manifest.split
    if split["rule"] == "all":
        return [case._replace(section=case.section or "training") for case in cases]
    if split["rule"] == "hashed":
        return [case._replace(section=case.section or _hashed_section(split, case.patient)) for case in cases]
    listed = split["sections"] if split["rule"] == "listed" else _monai_sections(manifest, root)
    section_of = {name: section for section, names in listed.items() for name in names}
    present = {case.name for case in cases} | {problem.case for problem in problems}
    for name, section in section_of.items():
        if name not in present:
            problems.append(
                Problem("missing", manifest.name, name, f"the split has it in {section}, and it is not there")
            )
    result = []
    for case in cases:
        if case.section or case.name in section_of:
            result.append(case._replace(section=case.section or section_of[case.name]))
        else:
            problems.append(
                Problem("split", manifest.name, case.name, f"the split does not name it ({split['origin']})")
            )
    return result


def _hashed_section(split: Mapping, patient: str) -> str:
    """A section that follows from seed and patient alone: what else is there, or missing, moves nobody."""
    digest = hashlib.sha256(f"{split['seed']}:{patient}".encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    if place < split["validation"]:
        return "validation"
    return "test" if place < split["validation"] + split.get("test", 0) else "training"


def _monai_sections(manifest: Manifest, root: Path) -> dict[str, list[str]]:
    """The training and validation parts of MONAI's DecathlonDataset, as names of cases."""
    split = manifest.split
    task = split["task"]
    home = next(
        (place for place in (root, root.parent, *root.iterdir()) if (place / task / "dataset.json").is_file()), None
    )
    if home is None:
        raise ValueError(
            f"{manifest.name} needs {task}/dataset.json under {root}: its split follows the order in that file"
        )
    pattern = pattern_of(manifest.layouts[0]["parts"][0]["images"]["image"])
    sections = {}
    for section in ("training", "validation"):
        options = {"seed": split["seed"], "val_frac": split["validation"], "cache_num": 0}
        data = DecathlonDataset(home, task, section, transform=lambda item: item, **options)
        matches = [pattern.fullmatch(Path(item["image"]).as_posix()) for item in data.data]
        sections[section] = [match["case"] for match in matches if match]
    return sections


def _across_sections(cases: Sequence[Case]) -> list[Problem]:
    sections: dict[str, dict[str, str]] = {}
    for case in cases:
        sections.setdefault(case.patient, {}).setdefault(case.section, case.name)
    return [
        Problem("split", cases[0].dataset, patient, f"this patient is in {' and '.join(sorted(found))}")
        for patient, found in sections.items()
        if len(found) > 1
    ]
