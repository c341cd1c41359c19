"""DICOM series, one to a folder: which files are its slices, and the volume that they are, read by pydicom.

MONAI's reader goes by instance numbers, which scanners need not give or keep in order, and puts a series whose
orientation it cannot take over at the origin; here the slices' own positions decide, and what does not fit is refused.
"""

import os
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pydicom
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MRImageStorage,
    PositronEmissionTomographyImageStorage,
)

from s2dc_core.data.pixels import planes_of
from s2dc_core.data.slices import ENHANCED, check_count, geometry_of
from s2dc_core.data.stacks import LITTER, is_stack
from s2dc_core.data.suv import refuse_uncorrected, unit_factor

IMAGES = (CTImageStorage, MRImageStorage, PositronEmissionTomographyImageStorage)
MODALITIES = {"CT": "ct", "MR": "mr", "PT": "pet"}
ENDINGS = (".dcm", ".dicom", ".ima")
NO_DICOM = (
    ".nii", ".gz", ".bz2", ".mha", ".mhd", ".raw", ".zraw", ".nrrd", ".nhdr", ".mgz", ".mgh", ".json", ".csv", ".tsv",
    ".txt", ".png", ".jpg", ".zip",
)  # fmt: skip
"""How the names of files end that need not be opened to know that they are no DICOM."""
CUT = "its header is cut"
HEAD = 512  # bytes that tell DICOM from text
STARTS = (b"\x02\0", b"\x08\0", b"\0\x02", b"\0\x08")
"""First bytes of DICOM without its prefix: the number of its first group, in either order."""


class Parts(NamedTuple):
    """The files of a folder: slices, DICOM objects that are none, and {damaged slice: what is wrong with it}."""

    slices: list[Path]
    others: list[Path]
    damaged: dict[Path, str]


def is_series(folder: Path) -> bool:
    """Whether a folder itself, not one in it, holds slices, damaged ones too, rather than contours or a scout."""
    return _first_slice(folder) is not None or bool(parts_of(folder).damaged)


def is_slice(file: Path) -> bool:
    """Whether a file is a DICOM image of CT, MR or PET."""
    return _what(file) == "slice"


def folder_holds(folder: Path) -> str | None:
    """What a folder holds by its first slice: "ct", "mr", "pet" or "other", as with DICOM files that are none."""
    if first := _first_slice(folder):
        return MODALITIES.get(_header(first).get("Modality"), "other")
    parts = parts_of(folder)
    return "other" if parts.others or CUT in parts.damaged.values() else None


class OtherModality(ValueError):
    """A DICOM series is of another modality than was asked for."""


def refuse_other_modality(place: str | Path, kind: str) -> None:
    """Raise an OtherModality if a place is a folder of DICOM whose headers say another modality: ct, mr or pet."""
    folder = Path(os.path.expanduser(place))
    if folder.is_dir() and not is_stack(folder) and (held := folder_holds(folder)) in set(MODALITIES.values()) - {kind}:
        raise OtherModality(f'{place} is a DICOM series of {held}, not {kind}: give modality="{held}" or leave it out')


def series_uid(folder: Path) -> str | None:
    """The series identifier of a folder that holds slices, by the first of them, else None."""
    first = _first_slice(folder)
    return first and str(_header(first).get("SeriesInstanceUID"))


def parts_of(folder: Path) -> Parts:
    """The files of a folder by what they are.

    A file that is no DICOM is a damaged slice if its name ends as one or is like a slice's (IM007 beside IM008), or,
    beside slices, if it has no ending and is empty or no text; others, such as notes, are none of the series' business.
    """
    parts, no_dicom = Parts([], [], {}), {}
    for file in _visible(folder):
        what = _what(file)
        if what == "slice":
            parts.slices.append(file)
        elif what == "other":
            parts.others.append(file)
        else:
            no_dicom[file] = what
    like = {_shape(file.name) for file in parts.slices}
    for file, what in no_dicom.items():
        name, text = file.name.lower(), what == "it is a text"
        named = name.endswith(ENDINGS) or _shape(name) in like or (".dcm." in name and not text)
        bare = bool(parts.slices) and not text and re.search(r"\.[a-z][^.]*$", name) is None
        if named or bare or what == CUT:
            parts.damaged[file] = what
    return parts


def _visible(folder: Path) -> list[Path]:
    return [
        file
        for file in sorted(folder.iterdir())
        if not (file.is_dir() or file.name in LITTER or file.name.upper() == "DICOMDIR")
        # Such as .IM007.dcm.x1y2z3, which rsync leaves of a transfer that was cut short.
        and (".dcm." in file.name.lower() or not (file.name.startswith(".") or file.name.lower().endswith(NO_DICOM)))
    ]


def _shape(name: str) -> str:
    return re.sub(r"\d+", "0", name.lower())


def _first_slice(folder: Path) -> Path | None:
    return next((file for file in _visible(folder) if _what(file) == "slice"), None)


def _what(file: Path) -> str:
    """ "slice", "other" for DICOM that is none, or what is wrong with it."""
    try:
        head = _head(file)
    except FileNotFoundError:
        return "it is a link to nowhere"
    except OSError as error:
        return str(error.strerror)
    if _has_prefix(head) or head.startswith(STARTS):
        header = _header(file)
        if kind := header.get("SOPClassUID"):
            return "slice" if kind in (*IMAGES, *ENHANCED) and not _is_localizer(header) else "other"
        if _has_prefix(head):
            return CUT
    if not head:
        return "it is empty"
    return "it is a text" if min(head) > 8 else "it is no DICOM"


def _is_localizer(header: pydicom.Dataset) -> bool:
    return "LOCALIZER" in (header.get("ImageType") or ())


def _head(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(HEAD)


def _has_prefix(head: bytes) -> bool:
    return head[128:132] == b"DICM"


def _header(file: Path) -> pydicom.Dataset:
    """Of a DICOM file what tells what it is; nothing if it cannot be read."""
    tags = ["SOPClassUID", "ImageType", "Modality", "SeriesInstanceUID"]
    try:
        return pydicom.dcmread(file, stop_before_pixels=True, force=True, specific_tags=tags)
    except Exception:  # of bytes that are no DICOM pydicom raises whatever they lead it to
        return pydicom.Dataset()


def read_series(folder: Path, any_unit: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Values [X, Y, Z] float32, rescaled as the files say, and affine (mm, RAS+) of the series in a folder.

    PET is brought to SUV, unless `any_unit` takes it as it is stored.

    Raises:
        ValueError: naming the folder, for several series in it, slices that are damaged, missing, double, of different
            size, spacing or orientation, a tilted gantry, several slices to a file, a PET without attenuation
            correction or that cannot be brought to SUV, files without positions, and as pixels.planes_of.

    Warns:
        UserWarning: for a series whose headers count more slices than there are, or count from later than the first,
            and as pixels.planes_of and suv.unit_factor.
    """
    try:
        slices = _slices(folder)
        affine, order = geometry_of(slices)
        check_count(folder, slices)
        refuse_uncorrected(slices)
        factor = 1.0 if any_unit else unit_factor(slices)
        planes = planes_of([slices[k] for k in order])
        return np.stack([factor * plane.T for plane in planes], axis=-1).astype(np.float32), affine
    except (AttributeError, KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"{folder} cannot be read as a DICOM series: {error}") from error


def _slices(folder: Path) -> list[pydicom.Dataset]:
    parts = parts_of(folder)
    if parts.damaged:
        ((file, reason), *others) = parts.damaged.items()
        more = f", and {len(others)} more" if others else ""
        raise ValueError(f"{file.name} is no slice ({reason}){more}: fetch the files again, or move away what is none")
    slices = [_slice(file) for file in parts.slices]
    for file, slice_ in zip(parts.slices, slices, strict=True):
        if not any(name in slice_ for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
            raise ValueError(f"{file.name} holds no pixels, it is cut: fetch it again")
    bare = [file.name for file, slice_ in zip(parts.slices, slices, strict=True) if slice_.preamble is None]
    if 0 < len(bare) < len(slices):  # old scanners leave it out of all; and with it goes how the file is packed
        lost = f"{bare[0]} lacks DICOM's prefix, as {len(bare)} of {len(slices)} slices do"
        raise ValueError(f"{lost}: they were damaged on the way, fetch them again")
    return slices


def _slice(file: Path) -> pydicom.Dataset:
    """A file's data, with how it is stored, which files without the prefix do not say."""
    slice_ = pydicom.dcmread(file, force=True)
    if "TransferSyntaxUID" not in slice_.file_meta:
        implicit, little = slice_.original_encoding
        plain = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        slice_.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else plain
    return slice_
