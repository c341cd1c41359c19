"""Scans and the label maps that belong to them, by their files' names."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from s2dc_core.data.files import stem
from s2dc_core.data.labelmaps import WORDS
from s2dc_core.data.search import SHOWN, search

LABEL = re.compile(f"(?i)[_.-]({'|'.join(sorted(WORDS))})$")
"""What the name of a label map has behind that of its scan."""


def pair_with_labels(
    scans: Sequence[str | Path], labels: Sequence[str | Path] | None = None
) -> tuple[list[tuple[Path, Path]], str]:
    """Files of scans, in the order of `search`, each with that of its labels; and what was left out, in words.

    A label map is called as its scan, in another folder (labels/case_1.nii.gz), or as its scan with a word of label
    maps behind it (case_1_seg.nii.gz), where it may lie beside it. Endings may differ. Label maps without a scan are
    left alone.

    Args:
        scans: files, DICOM series, and folders that are searched; what has such a word behind a name is no scan there.
        labels: the same of label maps; default: they lie among the scans.

    Raises:
        FileNotFoundError: for a place that does not exist.
        ValueError: for places without a scan, scans without labels, and two files that could be meant by one name.
    """
    found = search(scans)
    files = [file for file, below in found.files.items() if below is None or not LABEL.search(stem(file))]
    if not files:
        raise ValueError(f"there is no scan in {', '.join(map(str, scans))}: give files, or folders that hold some")
    names = _by_name(files, "scans")
    maps = [file for file in (search(labels).files if labels else found.files) if file not in files]
    known = _by_name(maps, "label maps")
    if bare := [name for name in names if name not in known]:
        listed = ", ".join(bare[:SHOWN]) + (f" and {len(bare) - SHOWN} more" if len(bare) > SHOWN else "")
        mend = "a label map is called as its scan, in --labels, or as its scan with _seg behind it"
        raise ValueError(f"no labels for {len(bare)} of {len(names)} scans ({listed}): {mend}")
    return [(file, known[name]) for name, file in names.items()], str(found.left_out)


def _by_name(files: Sequence[Path], what: str) -> Mapping[str, Path]:
    """{name of the scan: file}."""
    named: dict[str, Path] = {}
    for file in files:
        name = LABEL.sub("", stem(file)) if what == "label maps" else stem(file)
        if name in named:
            raise ValueError(f"two {what} could be those of {name}: {named[name]} and {file}; give one of them")
        named[name] = file
    return named
