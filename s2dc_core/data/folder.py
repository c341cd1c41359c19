"""Many scans at once: files and whole folders of NIfTI, with what cannot be used set apart by name."""

import warnings
from collections.abc import Sequence
from pathlib import Path

from s2dc_core.data.scans import Scan, Spacings, load_scan

SUFFIXES = (".nii", ".nii.gz")


def open_scans(
    places: Sequence[str | Path],
    modality: str,
    spacing: Spacings = None,
    most_damaged: int = 0,
    skip: Sequence[str] = ("*_seg.nii*", "*_label.nii*"),
) -> tuple[list[Scan], dict[str, str]]:
    """The scans of some files and folders, in the order of their names, and what is wrong with the others.

    Args:
        places: NIfTI files, and folders that are searched with all folders in them.
        modality: "ct", "pet" or "mr".
        spacing: voxel sizes in mm to resample to; default: as stored.
        most_damaged: files that may be unusable (unreadable, not three-dimensional, NaN, of another modality, or of
            one value throughout) before that is an error.
        skip: names in folders that are no images.

    Returns:
        Scans, and {file: what is wrong with it} for those set apart.

    Raises:
        FileNotFoundError: for a place that does not exist.
        ValueError: if there is no scan, or more are damaged than allowed: naming each.
    """
    scans, damaged = [], {}
    for file in _files(places, skip):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of headers; a scan that can be used is used
                scan = load_scan(file, modality=modality, spacing=spacing)
        except ValueError as error:
            damaged[str(file)] = str(error)
        else:
            scans.append(scan)
    if len(damaged) > most_damaged or not scans:
        listed = "".join(f"\n  {reason}" for reason in damaged.values())
        allowed = f"{len(damaged)} of {len(damaged) + len(scans)} scans cannot be used, {most_damaged} may be"
        raise ValueError(f"{allowed if damaged else 'there is no NIfTI file in ' + _named(places)}{listed}")
    return scans, damaged


def _files(places: Sequence[str | Path], skip: Sequence[str]) -> list[Path]:
    found = []
    for place in map(Path, places):
        place = place.expanduser()
        if place.is_dir():
            inside = sorted(file for file in place.rglob("*") if file.name.endswith(SUFFIXES) and file.is_file())
            found += [file for file in inside if not any(file.match(pattern) for pattern in skip)]
        elif place.exists():
            found.append(place)
        else:
            raise FileNotFoundError(f"there is no file or folder {place}")
    return list(dict.fromkeys(found))


def _named(places: Sequence[str | Path]) -> str:
    return ", ".join(map(str, places)) or "no place at all"
