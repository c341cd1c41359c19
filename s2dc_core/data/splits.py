"""The section of each case."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from monai.apps import DecathlonDataset

from s2dc_core.data.layout import Case, Problem, pattern_of
from s2dc_core.data.manifests import Manifest


def with_sections(manifest: Manifest, cases: list[Case], root: Path, problems: list[Problem]) -> list[Case]:
    """The cases with their sections by the manifest's split; what does not fit is added to the problems.

    Raises:
        ValueError: if the list that the split follows is not there or cannot be read.
    """
    split = manifest.split
    if split["rule"] == "all":
        return [case._replace(section=case.section or "training") for case in cases]
    if split["rule"] == "hashed":
        return [case._replace(section=case.section or hashed_section(split, case.patient)) for case in cases]
    listed = split["sections"] if split["rule"] == "listed" else _monai_sections(manifest, root)
    section_of = {name: section for section, names in listed.items() for name in names}
    present = {case.name for case in cases} | {problem.case for problem in problems}
    for name, section in section_of.items():
        if name not in present:
            absent = f"the split has it in {section}, and it is not there"
            problems.append(Problem("missing", manifest.name, name, absent))
    for case in cases:
        if not case.section and case.name not in section_of:
            unnamed = f"the split does not name it ({split['origin']})"
            problems.append(Problem("split", manifest.name, case.name, unnamed))
    return [
        case._replace(section=case.section or section_of[case.name])
        for case in cases
        if case.section or case.name in section_of
    ]


def across_sections(cases: Sequence[Case]) -> list[Problem]:
    """Patients in more than one section."""
    sections: dict[str, set[str]] = {}
    for case in cases:
        sections.setdefault(case.patient, set()).add(case.section)
    return [
        Problem("split", cases[0].dataset, patient, f"this patient is in {' and '.join(sorted(found))}")
        for patient, found in sections.items()
        if len(found) > 1
    ]


def hashed_section(split: Mapping, patient: str) -> str:
    """A section that follows from seed and patient alone: what else is there, or missing, moves nobody."""
    digest = hashlib.sha256(f"{split['seed']}:{patient}".encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    if place < split["validation"]:
        return "validation"
    return "test" if place < split["validation"] + split.get("test", 0) else "training"


def _monai_sections(manifest: Manifest, root: Path) -> dict[str, list[str]]:
    """The training and validation parts of MONAI's DecathlonDataset, as names of cases."""
    split, root = manifest.split, root.resolve()
    task = split["task"]
    homes = (root, root.parent, *filter(Path.is_dir, root.iterdir()))
    home = next((place for place in homes if (place / task / "dataset.json").is_file()), None)
    if home is None:
        raise ValueError(f"{manifest.name} needs {task}/dataset.json under {root}: its split follows the order there")
    pattern = pattern_of(manifest.layouts[0]["parts"][0]["images"]["image"])
    sections = {}
    for section in ("training", "validation"):
        options = {"seed": split["seed"], "val_frac": split["validation"], "cache_num": 0}
        try:
            data = DecathlonDataset(home, task, section, transform=lambda item: item, **options).data
            matches = [pattern.fullmatch(Path(item["image"]).as_posix()) for item in data]
        except (KeyError, TypeError, ValueError, OSError) as error:
            raise ValueError(f"{home / task / 'dataset.json'} is no list of the Decathlon: {error!r}") from error
        sections[section] = [match["case"] for match in matches if match]
    return sections
