"""Is a data set on disk what its manifest says? Every file is read, and what is wrong is listed."""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from joblib import cpu_count
from tqdm.auto import tqdm

from s2dc_core.data.cases import find_cases, problem_table
from s2dc_core.data.files import WrongShape, check_grid, read_label
from s2dc_core.data.layout import Case, Problem
from s2dc_core.data.manifests import SECTIONS, Manifest
from s2dc_core.data.overlaps import Overlap, overlaps_of
from s2dc_core.data.scans import read_checked

WORKERS = 4
"""Each holds a volume or two; more would read no faster and fill the memory."""


@dataclass
class Report:
    """What `check` found.

    Attributes:
        datasets: {data set: {"root": folder, "cases": how many, "training" and so on: of each section, "count": how
            many the source has or None, "expected": in words, "voxels" and "mm": their ranges}}.
        problems: in the order of the data sets and cases.
        overlaps: known ones with other data sets.
    """

    datasets: dict[str, dict[str, Any]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    overlaps: list[Overlap] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON has it."""
        overlaps = [overlap._asdict() for overlap in self.overlaps]
        return {"datasets": self.datasets, "problems": [each._asdict() for each in self.problems], "overlaps": overlaps}

    def __str__(self) -> str:
        lines = []
        for name, facts in self.datasets.items():
            counts = ", ".join(f"{facts[section]} {section}" for section in SECTIONS if facts[section])
            lines.append(f"{name}: {facts['cases']} cases ({counts}) in {facts['root']}")
            lines.append(
                f"  voxels {facts['voxels'] or 'not read'}, mm {facts['mm'] or 'not read'}; {facts['expected']}"
            )
        lines += [f"known overlap: {overlap}" for overlap in self.overlaps]
        lines.append(problem_table(self.problems) if self.problems else "no problem found")
        return "\n".join(lines)


class _Facts(NamedTuple):
    """What is kept of a case that was read."""

    problems: list[Problem]
    shape: tuple[int, ...] | None
    spacing: tuple[float, ...] | None
    contents: dict[str, str]


def check(
    datasets: Sequence[tuple[Manifest, str | Path]], workers: int | None = None, progress: bool = False
) -> Report:
    """Compare data sets on disk with their manifests, and with each other.

    Kinds of problems: "ambiguous", "missing", "layout" and "split" as find_cases; "unreadable" (also NaN, one value
    throughout, or another unit than the modality's); "shape" (not one volume, or images and label on different grids);
    "labels" (values that are none, or that the manifest does not name); "duplicate" (equal voxel by voxel, in whatever
    format).

    Args:
        datasets: manifests and the folders that hold them.
        workers: cases read at a time, and in memory; default: one per processor, four at most.

    Raises:
        FileNotFoundError, ValueError: as find_cases.
    """
    report, contents = Report(), {}
    report.overlaps = overlaps_of(*(manifest for manifest, _ in datasets))
    all_found = [find_cases(manifest, root) for manifest, root in datasets]
    for (manifest, root), (cases, problems) in zip(datasets, all_found, strict=True):
        bar = tqdm(total=len(cases), desc=manifest.name, disable=not progress, unit="case", leave=False)
        with ThreadPoolExecutor(workers or min(cpu_count(), WORKERS)) as pool, bar:
            facts = []
            for case, found in zip(cases, pool.map(lambda case, of=manifest: _examine(of, case), cases), strict=True):
                facts.append(found)
                problems += found.problems
                for content in found.contents.values():
                    contents.setdefault(content, []).append(case)
                bar.update()
        report.problems += problems
        report.datasets[manifest.name] = _summary(manifest, root, cases, facts)
    report.problems += _duplicates(contents)
    return report


def _examine(manifest: Manifest, case: Case) -> _Facts:
    problems, contents, grid = [], {}, None
    for name, path in case.images.items():
        try:
            data, affine = read_checked(path, manifest.kind_of(name), manifest.rule, **manifest.unit_of(name))
            contents[name] = _digest(data)
            if grid:
                check_grid(path, data.shape, affine, grid[2], *grid[:2])
            grid = grid or (data.shape, affine, path)
        except WrongShape as error:
            problems.append(Problem("shape", manifest.name, case.name, str(error)))
        except (ValueError, OSError) as error:
            problems.append(Problem("unreadable", manifest.name, case.name, str(error)))
    if case.label and grid:
        problems += _examine_label(manifest, case, *grid)
    spacing = tuple(float(side) for side in np.linalg.norm(grid[1][:3, :3], axis=0)) if grid else None
    return _Facts(problems, grid and grid[0], spacing, contents)


def _digest(data: np.ndarray) -> str:
    """Of shape and voxels, slice by slice: turned volumes are not contiguous, and a copy of them would be large."""
    digest = hashlib.blake2b(str(data.shape).encode(), digest_size=16)
    for plane in data:
        digest.update(np.ascontiguousarray(plane))
    return digest.hexdigest()


def _examine_label(
    manifest: Manifest, case: Case, shape: tuple[int, ...], affine: np.ndarray, image: Path
) -> list[Problem]:
    try:
        values = np.unique(read_label(case.label, shape, affine, image))
    except WrongShape as error:
        return [Problem("shape", manifest.name, case.name, str(error))]
    except (ValueError, OSError) as error:
        return [Problem("labels" if "no labels" in str(error) else "unreadable", manifest.name, case.name, str(error))]
    strange = [int(value) for value in values if value and int(value) not in manifest.label_names]
    if strange and manifest.labels:
        message = f"{case.label} holds {', '.join(map(str, strange))}, which the manifest does not name"
        return [Problem("labels", manifest.name, case.name, message)]
    return []


def _summary(manifest: Manifest, root: str | Path, cases: Sequence[Case], facts: Sequence[_Facts]) -> dict[str, Any]:
    counts = {section: sum(case.section == section for case in cases) for section in SECTIONS}
    count = manifest.cases["count"]
    labelled = sum(case.section != "test" for case in cases)
    expected = f"{count:,} expected" if count else "no number expected"
    if count and labelled < count:
        expected = f"only {labelled:,} of the {count:,} expected"
    return {
        "root": str(root),
        "cases": len(cases),
        **counts,
        "count": count,
        "expected": f"{expected} ({manifest.cases['origin']})",
        "voxels": _range([found.shape for found in facts if found.shape]),
        "mm": _range([found.spacing for found in facts if found.spacing]),
    }


def _range(values: Sequence[tuple]) -> str:
    if not values:
        return ""
    low, high = np.min(values, axis=0), np.max(values, axis=0)
    return " x ".join(f"{a:.4g}" if a == b else f"{a:.4g}..{b:.4g}" for a, b in zip(low, high, strict=True))


def _duplicates(contents: dict[str, list[Case]]) -> list[Problem]:
    problems = []
    for cases in contents.values():
        for other in cases[1:]:
            first = cases[0]
            across = "" if first.section == other.section else f" ({first.section} and {other.section})"
            message = f"equals {first}{across}, voxel by voxel"
            problems.append(Problem("duplicate", other.dataset, other.name, message))
    return problems
