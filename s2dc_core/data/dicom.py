"""Volumes from DICOM series, one series to a folder, read by pydicom.

MONAI's reader goes by instance numbers, which scanners need not give or keep in order, and puts a series whose
orientation it cannot take over at the origin; here the slices' own positions decide, and what does not fit is refused.
"""

from pathlib import Path

import numpy as np
import pydicom
from pydicom.errors import InvalidDicomError
from pydicom.pixels import apply_rescale
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    EnhancedPETImageStorage,
    MRImageStorage,
    PositronEmissionTomographyImageStorage,
)

from s2dc_core.data.suv import suv_factor

IMAGES = (CTImageStorage, MRImageStorage, PositronEmissionTomographyImageStorage)
ENHANCED = (EnhancedCTImageStorage, EnhancedMRImageStorage, EnhancedPETImageStorage)
OFF_THE_GRID = 0.25  # of a step: what rounding may move a slice by; a missing one moves the others by more


MODALITIES = {"CT": "ct", "MR": "mr", "PT": "pet"}


def is_series(folder: Path) -> bool:
    """Whether a folder itself (not the folders in it) holds DICOM images, rather than contours or a scout."""
    return any(_is_image(file) for file in sorted(folder.iterdir()))


def folder_holds(folder: Path) -> str | None:
    """What a folder holds by its first DICOM image: "ct", "mr", "pet" or "other", as with DICOM files that are none."""
    found = None
    for file in sorted(folder.iterdir()):
        if _is_image(file):
            return MODALITIES.get(_header(file, "Modality"), "other")
        if file.is_file() and file.name != "DICOMDIR" and pydicom.misc.is_dicom(file):
            found = "other"
    return found


def series_uid(folder: Path) -> str | None:
    """The series identifier of a folder that holds DICOM images, by the first of them, else None."""
    first = next((file for file in sorted(folder.iterdir()) if _is_image(file)), None)
    return first and str(_header(first, "SeriesInstanceUID"))


def _header(file: Path, tag: str) -> str | None:
    return pydicom.dcmread(file, stop_before_pixels=True, specific_tags=[tag]).get(tag)


def _is_image(file: Path) -> bool:
    if not file.is_file() or file.name == "DICOMDIR" or not pydicom.misc.is_dicom(file):
        return False
    try:
        header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=["SOPClassUID", "ImageType"])
    except (InvalidDicomError, OSError, ValueError):
        return False
    return header.get("SOPClassUID") in (*IMAGES, *ENHANCED) and "LOCALIZER" not in (header.get("ImageType") or ())


def read_series(folder: Path, any_unit: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Values [X, Y, Z] float32, rescaled as the files say, and affine (mm, RAS+) of the series in a folder.

    PET is brought to SUV, unless `any_unit` takes it as it is stored.

    Raises:
        ValueError: naming the folder, for several series in it, slices that are missing, double, of different size,
            spacing or orientation, a tilted gantry, several slices to a file, a PET that cannot be brought to SUV,
            or files without positions or that cannot be decoded.
    """
    try:
        slices = [pydicom.dcmread(file) for file in sorted(folder.iterdir()) if _is_image(file)]
        affine, order = _geometry(slices)
        factor = 1.0 if any_unit else _unit_factor(slices)
        planes = [factor * apply_rescale(slices[k].pixel_array, slices[k]) for k in order]
        return np.stack([plane.T for plane in planes], axis=-1).astype(np.float32), affine
    except (InvalidDicomError, AttributeError, KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"{folder} cannot be read as a DICOM series: {error}") from error


def _unit_factor(slices: list[pydicom.Dataset]) -> float:
    units = slices[0].get("Units")
    if slices[0].Modality != "PT" or units == "GML":
        return 1.0
    if units != "BQML":
        raise ValueError(f"it is a PET in {units}, neither in SUV (GML) nor in Bq/ml (BQML): convert it")
    return suv_factor(slices)


def _geometry(slices: list[pydicom.Dataset]) -> tuple[np.ndarray, np.ndarray]:
    """From column, row and slice to mm, and the order of the slices along their normal."""
    if (series := len({each.SeriesInstanceUID for each in slices})) > 1:
        raise ValueError(f"it holds {series} series, sort them into a folder each")
    if any(each.SOPClassUID in ENHANCED or int(each.get("NumberOfFrames", 1)) > 1 for each in slices):
        raise ValueError("a file holds several slices (enhanced DICOM), convert it to NIfTI")
    if len(slices) < 2:
        raise ValueError("it holds one slice")
    for name in ("ImageOrientationPatient", "PixelSpacing", "Rows", "Columns"):
        values = np.array([getattr(each, name) for each in slices], dtype=float)
        if np.abs(values - values[0]).max() > 1e-3:
            raise ValueError(f"its slices differ in {name}, from {values.min(0)} to {values.max(0)}")
    along, down = np.array(slices[0].ImageOrientationPatient, dtype=float).reshape(2, 3)
    normal = np.cross(along, down)
    places = np.array([each.ImagePositionPatient for each in slices], dtype=float)
    order = np.argsort(places @ normal)
    places = places[order]
    step = (places[-1] - places[0]) / (len(places) - 1)
    if (off := np.abs(places - places[0] - step * np.arange(len(places))[:, None]).max()) > OFF_THE_GRID * (
        step @ normal
    ):
        raise ValueError(
            f"a slice lies {off:.2g} mm off an even spacing of {step @ normal:.3g} mm: one is missing or double"
        )
    if np.linalg.norm(step - (step @ normal) * normal) > 0.01 * np.linalg.norm(step):
        raise ValueError("its slices are shifted against each other (a tilted gantry): convert it to NIfTI")
    rows, columns = (float(side) for side in slices[0].PixelSpacing)
    affine = np.eye(4)
    affine[:3] = np.column_stack([along * columns, down * rows, step, places[0]])
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine, order  # DICOM counts towards left and back, NIfTI right and front
