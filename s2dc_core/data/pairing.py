"""Scans and the label maps that belong to them, by their files' names."""

import os
import re
from collections.abc import Collection, Mapping, Sequence
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
        labels: the same of label maps; default: they lie among the scans, with such a word behind their names.

    Raises:
        FileNotFoundError: for a place that does not exist.
        ValueError: for places without a scan, scans without labels, and two files that could be meant by one name.
    """
    found, others = search(scans), list(search(labels).files) if labels else []
    stems = {stem(file) for file in found.files}
    speaking = [file for file, below in found.files.items() if _speaks(file, below is not None, stems)]
    files = [file for file in found.files if file not in speaking]
    elsewhere = {os.path.realpath(file) for file in others}
    files = [file for file in files if os.path.realpath(file) not in elsewhere] or files
    if not files:
        raise ValueError(f"there is no scan in {', '.join(map(str, scans))}: give files, or folders that hold some")
    names, taken = _by_name(files, "scans"), {os.path.realpath(file) for file in files}
    maps = [file for file in (others if labels else speaking) if os.path.realpath(file) not in taken]
    known = _by_name(maps, "label maps")
    if bare := [name for name in names if name not in known]:
        listed = ", ".join(bare[:SHOWN]) + (f" and {len(bare) - SHOWN} more" if len(bare) > SHOWN else "")
        mend = "a label map is called as its scan, in --labels, or as its scan with _seg behind it"
        raise ValueError(f"no labels for {len(bare)} of {len(names)} scans ({listed}): {mend}")
    return [(file, known[name]) for name, file in names.items()], str(found.left_out)


def _speaks(file: Path, searched: bool, stems: Collection[str]) -> bool:
    """Whether a file's name says that it is a label map; of one that was given itself only beside its scan."""
    scan = LABEL.sub("", stem(file))
    return scan != stem(file) and (searched or scan in stems)


def _by_name(files: Sequence[Path], what: str) -> Mapping[str, Path]:
    """{name of the scan: file}."""
    named: dict[str, Path] = {}
    for file in files:
        name = LABEL.sub("", stem(file)) if what == "label maps" else stem(file)
        if name in named:
            raise ValueError(f"two {what} could be those of {name}: {named[name]} and {file}; give one of them")
        named[name] = file
    return named
