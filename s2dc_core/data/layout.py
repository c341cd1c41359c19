"""The files of a data set, matched with the layouts of its manifest."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from s2dc_core.data.dicom import folder_holds
from s2dc_core.data.files import is_volume
from s2dc_core.data.manifests import PLACEHOLDER, Manifest
from s2dc_core.data.search import walk
from s2dc_core.data.stacks import is_stack


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


def match_layouts(manifest: Manifest, root: Path) -> tuple[list[Case], list[Problem]]:
    """Cases and problems by the layout that finds most cases, the first of them if several do.

    A case that only another layout finds is a problem of the kind "layout": the data set lies in a mixture.

    Raises:
        FileNotFoundError: if no layout finds a case.
    """
    paths = list(_walk(root))
    tried = [_match_layout(manifest, layout, root, paths) for layout in manifest.layouts]
    best = max(range(len(tried)), key=lambda k: len(tried[k][0]))
    cases, problems = tried[best]
    if not cases:
        raise FileNotFoundError(_nothing_matches(manifest, root, paths))
    known = {_identity(case) for case in cases}
    for k, (others, _) in enumerate(tried):
        further = {_identity(case): case for case in others if _identity(case) not in known} if k != best else {}
        for case in further.values():
            lies = f"it lies as in {manifest.layouts[k]['origin']}, the others as in {manifest.layouts[best]['origin']}"
            problems.append(Problem("layout", manifest.name, case.name, lies))
        known |= set(further)
    return cases, problems


def _identity(case: Case) -> str:
    """What layouts have in common of a case."""
    return next((case.parts[key] for key in ("patient", "series", "case") if key in case.parts), case.name)


def _walk(root: Path) -> Iterator[str]:
    """Files and, with a slash at the end, folders that hold files, relative to the root; hidden ones are left out."""
    for folder, names, _ in walk(root):
        inside = folder.relative_to(root).as_posix()
        prefix = "" if inside == "." else f"{inside}/"
        yield from [prefix] if names and prefix else ()
        yield from (f"{prefix}{name}" for name in names)


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
    manifest: Manifest, layout: Mapping, root: Path, paths: Sequence[str]
) -> tuple[list[Case], list[Problem]]:
    ignored = [pattern_of(pattern) for pattern in layout.get("ignore", ())]
    paths = [path for path in paths if not any(pattern.fullmatch(path) for pattern in ignored)]
    cases, problems = {}, []
    for part in layout["parts"]:
        for case in _match_part(manifest, part, root, paths, problems):
            if case.name in cases:
                both = f"{next(iter(case.images.values()))} is a second image of this case"
                problems.append(Problem("ambiguous", manifest.name, case.name, both))
            else:
                cases[case.name] = case
    return [cases[name] for name in sorted(cases)], problems


def _match_part(
    manifest: Manifest, part: Mapping, root: Path, paths: Sequence[str], problems: list[Problem]
) -> Iterator[Case]:
    """Cases of one part of a layout. What matches the label's pattern is no image, whatever else it matches."""
    labels = _matching(part["label"], paths) if "label" in part else {}
    taken = {path for found in labels.values() for path in found}
    images = {name: _matching(pattern, paths, taken) for name, pattern in part["images"].items()}
    images = {name: _volumes(found, manifest.kind_of(name), root) for name, found in images.items()}
    required = [*part["images"], *(["label"] if "label" in part and not part.get("without_label") else [])]
    for key in sorted(set().union(*images.values(), labels if "label" in required else ())):
        parts = dict(key)
        name = "/".join(value for placeholder, value in key if placeholder != "class" and value) or manifest.name
        found = {what: files[key] for what, files in {**images, "label": labels}.items() if key in files}
        if "label" not in required:
            found.pop("label", None)
        for what in required:
            if what not in found:
                expected = _filled(part["label"] if what == "label" else part["images"][what], parts)
                problems.append(Problem("missing", manifest.name, name, f"no {what}: expected {expected}"))
            elif len(found[what]) > 1:
                both = f"{what}: {' and '.join(found[what])} both match"
                problems.append(Problem("ambiguous", manifest.name, name, both))
        if set(part["images"]) <= set(found):
            files = {image: root / found[image][0] for image in part["images"]}
            label = root / found["label"][0] if "label" in found else None
            patient = parts.get("patient", name)
            yield Case(manifest.name, name, patient, part.get("section", ""), files, label, None, parts)


def _filled(pattern: str, parts: Mapping[str, str]) -> str:
    return PLACEHOLDER.sub(lambda match: parts.get(match["name"], "*"), pattern)


def _matching(pattern: str, paths: Sequence[str], taken: set[str] = frozenset()) -> dict[tuple, list[str]]:
    """{what the placeholders stand for, in the order of their first letters: paths that match}."""
    expression, found = pattern_of(pattern), {}
    for path in paths:
        if path not in taken and (match := expression.fullmatch(path)):
            found.setdefault(tuple(_ordered(match.groupdict())), []).append(path)
    return found


ORDER = ("class", "patient", "subset", "study", "visit")
"""Of placeholders in the name of a case; others follow as the alphabet has them."""


def _ordered(parts: Mapping[str, str]) -> list[tuple[str, str]]:
    return sorted(parts.items(), key=lambda each: (ORDER.index(each[0]) if each[0] in ORDER else len(ORDER), each[0]))


def _volumes(found: dict[tuple, list[str]], kind: str, root: Path) -> dict[tuple, list[str]]:
    """Without folders that hold something else, such as contours, or the PET of a CT collection.

    What cannot be told stays: reading it says what is wrong with it.
    """
    kept = {}
    for key, paths in found.items():
        fit = [path for path in paths if not path.endswith("/") or _may_hold(root / path, kind)]
        if fit:
            kept[key] = fit
    return kept


def _may_hold(folder: Path, kind: str) -> bool:
    if is_stack(folder):
        return True
    held = folder_holds(folder)
    return held == kind or (held is None and not any(is_volume(file.name) for file in folder.iterdir()))


def _nothing_matches(manifest: Manifest, root: Path, paths: Sequence[str]) -> str:
    expected = [
        f"{next(iter(part['images'].values()))} ({layout['origin']})"
        for layout in manifest.layouts
        for part in layout["parts"][:1]
    ]
    there = f"it holds {len(paths)} files and folders, such as {paths[-1]}" if paths else "it is empty"
    return f"nothing under {root} looks like {manifest.name}: expected {', or '.join(expected)}; {there}"
