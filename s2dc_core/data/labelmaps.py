"""Label maps told from scans by their values; what a file is called only says how closely to look."""

import re
from pathlib import Path

import nibabel as nib
import numpy as np

from s2dc_core.data.files import stem

WORDS = frozenset({
    "annot", "annotation", "annotations", "aparc", "aseg", "contour", "contours", "dseg", "gt", "groundtruth", "label",
    "labelmap", "labelmaps", "labels", "lesion", "lesions", "manual", "mask", "masks", "organ", "organs", "outline",
    "parc", "parcellation", "prob", "probseg", "pve", "pveseg", "ribbon", "roi", "rois", "seg", "segmentation",
    "segmentations", "segs", "truth", "wmparc",
})  # fmt: skip
"""Parts of names that speak of a label map, in small letters."""
BESIDE = frozenset({"all", "final", "ground", "of", "test", "tr", "train", "training", "ts", "val", "validation"})
"""What may stand beside them in the name of a folder that holds nothing else, such as labelsTr."""

FEW, MOST = 16, 256  # distinct values: a scan has more than the one, labels that nothing else speaks for not the other
LARGEST = 2**16  # number of a label; FreeSurfer's go up to 14175
EQUAL = {"whole": 0.6, "resampled": 0.4, "named": 0.3}
"""Share of neighbours of one value. Of label maps 0.5 to 0.95, and 0.3 for scattered lesions; of scans below 0.2, of
one that was blown up to twice its voxels 0.55; of labels that were resampled as if they were an image 0.37 to 0.8."""
PACKED = 1 / 20  # bytes a voxel: noise does not pack to that, label maps pack to less
SAMPLE = 2**18  # voxels that are looked at first, or of each axis
MANY = 2**21  # voxels from which it is worth not to read a file


class LabelMap(ValueError):
    """A file that was given or found as a scan holds labels."""


def refuse_label_map(values: np.ndarray, path: str | Path) -> None:
    """Raise a LabelMap that names the file and the mend, if its values [X, Y, Z] are labels."""
    if is_label_map(values, Path(path)):
        raise LabelMap(
            f"{path} is a label map, not a scan (a few whole numbers from {values.min():g} to {values.max():g}, equal "
            "over whole regions): give the scan it belongs to, and this as its label"
        )


def is_label_map(values: np.ndarray, path: Path) -> bool:
    """Whether finite values [X, Y, Z] are labels, or shares of a structure from 0 to 1, rather than a scan.

    Labels are whole numbers from 0 (or -1, for "ignore") up, and hardly begin above 2. Up to 16 of them are no scan; of
    more, most neighbours are equal, which noise prevents in a scan, of 8 bits too. A CT goes far below 0. Where the
    file's name or its folder's says plainly that these are labels, less is asked for; nothing is a label map by its
    name alone.
    """
    low, high = float(values.min()), float(values.max())
    named = speaks_plainly(path)
    if low < -1 or high > LARGEST or (low > 2 and not named):
        return False
    if named and low > -0.005 and high <= 1.001:
        return True
    if low == high or high < 0.99:
        return False
    step = max(1, round((values.size / SAMPLE) ** (1 / 3)))
    some = values[::step, ::step, ::step]
    whole = some[_whole(some, high)]
    if not named and (whole.size < 0.3 * some.size or len(np.unique(np.rint(whole))) > MOST):
        return False
    counts = sum(_counts(plane, high) for plane in values)
    distinct, all_whole = int((counts > 0).sum()), counts.sum() == values.size
    if all_whole and distinct <= FEW:  # a box of one or two large numbers may be a scan that somebody made up
        return named or high <= 255 or distinct > 4
    if distinct > MOST and not named:
        return False
    if all_whole and distinct <= MOST and low >= 0 and counts.argmax() == 1 and _ends_plainly(path):
        return True  # labels that lie scattered over a background of 0
    needed = EQUAL["named" if named else "whole" if all_whole else "resampled"]
    return _equal_neighbours(values, high, int(counts.argmax()) - 1) > needed


def _whole(values: np.ndarray, high: float) -> np.ndarray:
    """Where values are whole; those from 0 to 1 may be a little beside, as a network's certainties are."""
    return np.abs(values - np.rint(values)) <= (0.02 if high <= 1.001 else 1e-3)


def _counts(values: np.ndarray, high: float) -> np.ndarray:
    """How many of the values are -1, 0, 1, ... up to the highest."""
    return np.bincount(np.rint(values[_whole(values, high)]).astype(int) + 1, minlength=round(high) + 2)


def _equal_neighbours(values: np.ndarray, high: float, background: int) -> float:
    """Share of neighbours, not both background, of one whole number; the least over the axes, so that a scan whose
    slices were repeated is none of equal neighbours. Of a large volume every few lines are looked at."""
    every, shares = max(1, values.size // (4 * SAMPLE)), []
    for axis in range(3):
        along = np.moveaxis(values, axis, 0)[:, :, ::every]
        numbers = np.where(_whole(along, high), np.rint(along), np.nan)  # not a number is equal to nothing
        one, other = numbers[1:], numbers[:-1]
        either = (one != background) | (other != background)
        shares += [float(((one == other) & either).sum() / either.sum())] if either.any() else []
    return min(shares, default=0.0)


def speaks(path: Path) -> bool:
    """Whether the name of a file, or that of its folder, has a word of label maps in it."""
    return not WORDS.isdisjoint(_words(stem(path)) + _words(path.parent.name))


def speaks_plainly(path: Path) -> bool:
    """Whether the last word of a file's name is one of label maps (case_01_seg), or all of its folder's (labelsTr)."""
    folder = _words(path.parent.name)
    return _ends_plainly(path) or (not WORDS.isdisjoint(folder) and set(folder) <= WORDS | BESIDE)


def _ends_plainly(path: Path) -> bool:
    return not WORDS.isdisjoint(_words(stem(path))[-1:])


def _words(name: str) -> list[str]:
    """The words of a name in small letters: labelsTr is labels and tr, SEG is seg, unlabeled_01 is unlabeled."""
    return [
        word.lower()
        for run in re.findall("[A-Za-z]+", name)
        for word in ([run] if run.lower() in WORDS else re.findall("[A-Z]*[a-z]+|[A-Z]+", run))
    ]


def is_packed_as_one(path: Path) -> bool:
    """Whether a large file is packed so small that it cannot be a scan, by its header alone."""
    if not path.name.lower().endswith((".gz", ".bz2", ".mgz")):
        return False
    try:
        voxels = int(np.prod(nib.load(path.absolute()).shape))
    except Exception:  # whatever is wrong with it, reading it will say
        return False
    return voxels >= MANY and path.stat().st_size < PACKED * voxels
