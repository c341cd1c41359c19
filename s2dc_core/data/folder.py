"""Many scans at once: files, DICOM series and folders of them, with what cannot be used set apart by name."""

import os
import warnings
from collections.abc import Callable, Sequence
from numbers import Real
from pathlib import Path

from tqdm.auto import tqdm

from s2dc_core.data.cache import CachedScans, ScanFacts, facts_of, overheard
from s2dc_core.data.dicom import OtherModality
from s2dc_core.data.files import stem
from s2dc_core.data.intensities import CT_WINDOW
from s2dc_core.data.labelmaps import LabelMap, is_packed_as_one, speaks, speaks_plainly
from s2dc_core.data.scans import Scan, Spacings, load_scan
from s2dc_core.data.search import SHOWN, search


def open_scans(
    places: Sequence[str | Path],
    modality: str,
    spacing: Spacings = None,
    most_damaged: int = 0,
    skip: Sequence[str] = (),
    check: Callable[[ScanFacts], object] | None = None,
    keep_raw: bool = True,
    progress: bool = False,
    cache: str | Path | None = None,
    rule: str = "default",
    window: tuple[Real, Real] = CT_WINDOW,
    say: Callable[[str], object] | None = None,
    scale: Real = 1.0,
    offset: Real = 0.0,
) -> tuple[Sequence[Scan], dict[str, str]]:
    """The scans of some files and folders, in the order of their names, and what is wrong with the others.

    In a folder that is searched, label maps (by their values, see labelmaps), DICOM series of another modality, hidden
    files, formats that are not read and files of which two names are found are left out, and `say` is told of them. A
    scan is called as its file, without the ending; of files of one name as much of the path is added as tells them
    apart: p1/ct and p2/ct.

    Args:
        places: files, folders of one DICOM series or one stack of pictures, and folders that are searched, with all
            folders in them, for NIfTI, Analyze, FreeSurfer, MetaImage and NRRD files and DICOM series.
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
        rule, window, scale, offset: of the intensities, see scans.load_scan.
        say: is given a sentence on what was left out, with the first names of each kind, and one on what was said of
            scans that are taken; default: each is a UserWarning.

    Returns:
        Scans, and {file: what is wrong with it} for those set apart.

    Raises:
        FileNotFoundError: for a place that does not exist.
        ValueError: if there is no scan, or more are damaged than allowed: naming each, and what was left out.
    """
    how = {"modality": modality, "spacing": spacing, "rule": rule, "window": window, "scale": scale, "offset": offset}
    scans: CachedScans | list[Scan] = [] if cache is None else CachedScans(cache, **how)
    files, left_out = search(places, skip)
    taken: list[Path] = []
    damaged, others, remarks = {}, {}, []
    if cache is not None:
        scans.prepare([file for file, below in files.items() if not (below and speaks(file))], progress=progress)
    for file, below in tqdm(files.items(), disable=not progress, unit="scan", leave=False):
        try:
            if below and speaks(file) and is_packed_as_one(file):
                raise LabelMap(f"{file} is a label map")
            with overheard(file, remarks):
                if cache is None:
                    _add(scans, load_scan(file, **how), check, keep_raw)
                else:
                    scans.add(file, check)
            taken.append(file)
        except (ValueError, FileNotFoundError) as error:  # a broken link is a file that does not exist
            reason = str(error) if str(file) in str(error) else f"{file}: {error}"
            if below and (isinstance(error, LabelMap) or speaks_plainly(file)):
                left_out.add("label maps", below)
            elif below and isinstance(error, OtherModality):
                others[str(file)] = reason
            else:
                damaged[str(file)] = reason
    if not len(scans):
        damaged |= others
    elif others:
        left_out["DICOM series of another modality"] = list(others)
    if len(damaged) > most_damaged or not len(scans):
        listed = "".join(f"\n  {reason}" for reason in (*damaged.values(), *filter(None, [str(left_out)])))
        allowed = f"{len(damaged)} of {len(damaged) + len(scans)} scans cannot be used, {most_damaged} may be"
        nothing = f"there is no NIfTI or MetaImage file and no DICOM series in {_named(places)}"
        raise ValueError(f"{allowed if damaged else nothing}{listed}")
    names = names_of([*taken, *map(Path, damaged)])[: len(taken)]  # one that is damaged later is called the same
    if cache is None:
        scans = [scan._replace(name=name) for scan, name in zip(scans, names, strict=True)]
    else:
        scans.rename(names)
    for sentence in filter(None, (str(left_out), _shortened(remarks))):
        warnings.warn(sentence, stacklevel=2) if say is None else say(sentence)
    return scans, damaged


def names_of(files: Sequence[Path]) -> list[str]:
    """Of scans: a file's name without its ending, and so much of its path before it as tells it from the others."""
    names = {}
    alike: dict[str, list[Path]] = {}
    for file in files:
        alike.setdefault(stem(file), []).append(file)
    for group in alike.values():
        whole = [Path(os.path.abspath(file)) for file in group]
        paths = [path.with_name(stem(path)).parts for path in whole]
        if len(set(paths)) < len(paths):  # scan.nii beside scan.mha
            paths = [path.parts for path in whole]
        depth = next(k for k in range(1, 1 + max(map(len, paths))) if len({path[-k:] for path in paths}) == len(paths))
        names |= {file: "/".join(path[-depth:]) for file, path in zip(group, paths, strict=True)}
    return [names[file] for file in files]


def _shortened(remarks: Sequence[str]) -> str:
    more = f"; and {len(remarks) - SHOWN} more like these" if len(remarks) > SHOWN else ""
    return "; ".join(remarks[:SHOWN]) + more


def _add(found: list[Scan], scan: Scan, check: Callable | None, keep_raw: bool) -> None:
    if check:
        check(facts_of([scan])[0])
    found.append(scan if keep_raw else scan._replace(raw=scan.volume[0]))


def _named(places: Sequence[str | Path]) -> str:
    return ", ".join(map(str, places)) or "no place at all"
