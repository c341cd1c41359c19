"""Many scans at once: files, DICOM series and folders of them, with what cannot be used set apart by name."""

import warnings
from collections.abc import Callable, Sequence
from numbers import Real
from pathlib import Path

from tqdm.auto import tqdm

from s2dc_core.data.cache import CachedScans, ScanFacts, facts_of
from s2dc_core.data.dicom import is_series
from s2dc_core.data.files import VOLUMES
from s2dc_core.data.scans import CT_WINDOW, Scan, Spacings, load_scan
from s2dc_core.data.stacks import is_stack

LABEL_MAPS = [f"{name}.{kind}" for name in ("*_seg", "*-seg", "*label*", "*_mask") for kind in ("nii*", "mh?", "nrrd")]
NO_IMAGES = (*LABEL_MAPS, "labelsT*/*", "segmentations/*", ".*")
"""Names of label maps in the usual layouts, and of hidden files."""


def open_scans(
    places: Sequence[str | Path],
    modality: str,
    spacing: Spacings = None,
    most_damaged: int = 0,
    skip: Sequence[str] = NO_IMAGES,
    check: Callable[[ScanFacts], object] | None = None,
    keep_raw: bool = True,
    progress: bool = False,
    cache: str | Path | None = None,
    rule: str = "default",
    window: tuple[Real, Real] = CT_WINDOW,
) -> tuple[Sequence[Scan], dict[str, str]]:
    """The scans of some files and folders, in the order of their names, and what is wrong with the others.

    Args:
        places: files, folders of one DICOM series or one stack of pictures, and folders that are searched, with all
            folders in them, for NIfTI, MetaImage and NRRD files and DICOM series.
        modality: "ct", "pet" or "mr".
        spacing: voxel sizes in mm to resample to; default: as stored.
        most_damaged: files that may be unusable (unreadable, not three-dimensional, NaN, of another modality, of one
            value throughout, or refused by `check`) before that is an error.
        skip: names in folders that are no images, as patterns.
        check: given the facts of a scan (see ScanFacts), raises ValueError for one that will not do, such as one that
            is too small.
        keep_raw: False leaves out the intensities as stored, which training does not read: `raw` is then `volume`.
        progress: show a bar.
        cache: a folder in which prepared scans are kept; they are then read from it one at a time instead of staying
            in memory (5 bytes a voxel either way), and `raw` is always left out.
        rule, window: of the intensities, see scans.normalise.

    Returns:
        Scans, and {file: what is wrong with it} for those set apart.

    Raises:
        FileNotFoundError: for a place that does not exist.
        ValueError: if there is no scan, or more are damaged than allowed: naming each.
    """
    found: CachedScans | list[Scan] = [] if cache is None else CachedScans(cache, modality, spacing, rule, window)
    damaged = {}
    for file in tqdm(_files(places, skip), disable=not progress, unit="scan", leave=False):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of headers; a scan that can be used is used
                if cache is None:
                    scan = load_scan(file, modality=modality, spacing=spacing, rule=rule, window=window)
                    _add(found, scan, check, keep_raw)
                else:
                    found.add(file, check)
        except (ValueError, FileNotFoundError) as error:  # a broken link is a file that does not exist
            damaged[str(file)] = str(error) if str(file) in str(error) else f"{file}: {error}"
    if len(damaged) > most_damaged or not len(found):
        listed = "".join(f"\n  {reason}" for reason in damaged.values())
        allowed = f"{len(damaged)} of {len(damaged) + len(found)} scans cannot be used, {most_damaged} may be"
        nothing = f"there is no NIfTI or MetaImage file and no DICOM series in {_named(places)}"
        raise ValueError(f"{allowed if damaged else nothing}{listed}")
    return found, damaged


def _add(found: list[Scan], scan: Scan, check: Callable | None, keep_raw: bool) -> None:
    if check:
        check(facts_of([scan])[0])
    found.append(scan if keep_raw else scan._replace(raw=scan.volume[0]))


def _files(places: Sequence[str | Path], skip: Sequence[str]) -> list[Path]:
    found = []
    for place in map(Path, places):
        place = place.expanduser()
        if place.is_dir() and not is_stack(place):
            inside = sorted(file for file in place.rglob("*") if file.name.endswith(VOLUMES) and not file.is_dir())
            inside += sorted(folder for folder in (place, *place.rglob("*/")) if folder.is_dir() and is_series(folder))
            found += [file for file in inside if not any(file.match(pattern) for pattern in skip)]
        elif place.exists():
            found.append(place)
        else:
            raise FileNotFoundError(f"there is no file or folder {place}")
    return list(dict.fromkeys(found))


def _named(places: Sequence[str | Path]) -> str:
    return ", ".join(map(str, places)) or "no place at all"
