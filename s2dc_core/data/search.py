"""Folders searched for scans: what is taken, and the name of everything that looks like one and is left out."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from s2dc_core.data.dicom import is_series, parts_of
from s2dc_core.data.files import is_volume, stem
from s2dc_core.data.stacks import is_stack

SHOWN = 3  # names of each kind
NOT_READ = (
    ".nii.zst", ".nii.xz", ".mnc", ".par", ".rec", ".head", ".brik", ".brik.gz", ".mif", ".mif.gz", ".gipl", ".gipl.gz",
    ".vtk", ".vti", ".raw", ".zraw", ".raw.gz", ".npy", ".npz", ".h5", ".hdf5", ".mat", ".tif", ".tiff", ".zip", ".tar",
    ".tar.gz", ".tgz", ".7z", ".rar",
)  # fmt: skip
"""How the names of files end that may hold volumes and are not read: other formats, and archives."""
HEADERS = (".mhd", ".nhdr")  # their voxels lie beside them, in what ends as follows
VOXELS = (".raw", ".zraw", ".raw.gz", ".zraw.gz")


class LeftOut(dict[str, list[str]]):
    """{why: names} of what a search left out."""

    def add(self, why: str, name: str | Path) -> None:
        """Note one."""
        self.setdefault(why, []).append(str(name))

    def __str__(self) -> str:
        parts = []
        for why, names in self.items():
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            parts.append(f"{len(names)} {why}: {', '.join(names[:SHOWN])}{more}")
        return f"left out: {'; '.join(parts)}" if parts else ""


class Found(NamedTuple):
    """{file or folder that may be a scan: its name below the place that was searched, None if it was given itself}, in
    order, and what was left out."""

    files: dict[Path, Path | None]
    left_out: LeftOut


def search(places: Sequence[str | Path], skip: Sequence[str] = ()) -> Found:
    """What may be scans in some places: files, DICOM series and stacks of pictures, and folders that are searched.

    Links are followed; of a file that is reached by several ways the first counts.

    Args:
        skip: names in folders that are no images, as patterns.

    Raises:
        FileNotFoundError: for a place that does not exist.
    """
    found, left_out = {}, LeftOut()
    known: dict[str, Path] = {}
    for place in (Path(os.path.expanduser(place)) for place in places):
        if not place.exists():
            raise FileNotFoundError(f"there is no file or folder {place}")
        searched = place.is_dir() and not is_stack(place)
        inside = _inside(place, left_out) if searched else [place]
        if not inside:
            left_out.add("places that hold no scan", place)
        for file in inside:
            if searched and file != place and any(file.match(pattern) for pattern in skip):
                left_out.add("by a pattern of what to skip", _within(file, place))
            elif (first := known.setdefault(os.path.realpath(file), file)) is file:
                found[file] = file.relative_to(place) if searched and file != place else None
            elif os.path.abspath(first) != os.path.abspath(file):
                left_out.add("under another name taken already", _within(file, place))
    return Found(found, left_out)


def _inside(place: Path, left_out: LeftOut) -> list[Path]:
    files, series = [], []
    for folder, names, hidden in walk(place, lambda name: left_out.add("folders that cannot be opened", name)):
        for name in hidden:
            if is_volume(name) or ((folder / name).is_dir() and _any_volume(folder / name)):
                left_out.add("hidden", _within(folder / name, place))
        if is_stack(folder):
            left_out.add("folders of pictures (give such a folder itself if it is a scan)", _within(folder, place))
            continue
        files += [folder / name for name in _volumes(folder, names, place, left_out)]
        if is_series(folder):
            series.append(folder)
        elif parts_of(folder).others:
            left_out.add("folders of DICOM without an image of CT, MR or PET", _within(folder, place))
    return sorted(files) + sorted(series)


def _volumes(folder: Path, names: Sequence[str], place: Path, left_out: LeftOut) -> list[str]:
    """Which names of a folder's files are volumes; of a pair .hdr and .img the second is."""
    here, found = {name.lower() for name in names}, []
    for name in names:
        small = name.lower()
        base = stem(Path(small.replace(".hdr", ".img")))
        ending = small.removeprefix(base).replace(".hdr", ".img")
        if ending in (".img", ".img.gz"):
            if {base + ending, base + ending.replace(".img", ".hdr")} <= here:
                found += [] if ".hdr" in small else [name]
            else:
                left_out.add("halves of a pair of .hdr and .img", _within(folder / name, place))
        elif is_volume(name):
            found.append(name)
        elif small.endswith(VOXELS) and any(other.endswith(HEADERS) for other in here):
            continue
        elif small.endswith(NOT_READ):
            left_out.add("in formats that are not read (convert them to NIfTI)", _within(folder / name, place))
    return found


def walk(root: Path, unopened: Callable[[str], object] = str) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Folders under a root, itself first, each with the names of its files and those of hidden files and folders.

    It does not go into hidden folders. Links are followed, and every folder is visited once.

    Args:
        unopened: called with the name of a folder that cannot be opened.
    """
    seen = set()
    for folder, folders, files in os.walk(root, followlinks=True, onerror=lambda error: unopened(error.filename)):
        if (place := os.path.realpath(folder)) in seen:  # a link back would go round for ever
            folders.clear()
            continue
        seen.add(place)
        hidden = sorted(name for name in (*folders, *files) if name.startswith("."))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield Path(folder), sorted(name for name in files if not name.startswith(".")), hidden


def _any_volume(folder: Path) -> bool:
    return any(is_volume(name) for _, names, _ in walk(folder) for name in names)


def _within(file: Path, place: Path) -> Path:
    return file.relative_to(place) if file != place else file
