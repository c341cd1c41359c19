"""Volumes from DICOM series, one series to a folder, read by MONAI's PydicomReader."""

import re
import warnings
from pathlib import Path

import numpy as np
import pydicom
from monai.data import PydicomReader
from pydicom.errors import InvalidDicomError

HEADER = ("SeriesInstanceUID", "InstanceNumber", "ImagePositionPatient", "ImageOrientationPatient")
UNEVEN = 0.02  # of the distance between slices: the rounding of positions, and no missing slice


def is_series(folder: Path) -> bool:
    """Whether a folder itself (not the folders in it) holds DICOM files."""
    return any(_is_dicom(file) for file in sorted(folder.iterdir()))


def _is_dicom(file: Path) -> bool:
    return file.is_file() and file.name != "DICOMDIR" and pydicom.misc.is_dicom(file)


def read_series(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Values [X, Y, Z] float32, rescaled as the files say, and affine (mm, RAS+) of the series in a folder.

    Raises:
        ValueError: naming the folder, for several series in it, slices that are missing, double or out of order, or
            files without positions or that cannot be decoded.
    """
    files = [file for file in sorted(folder.iterdir()) if _is_dicom(file)]
    try:
        headers = [pydicom.dcmread(file, stop_before_pixels=True, specific_tags=list(HEADER)) for file in files]
        _check_series(folder, headers)
        # The reader takes every file of a folder for a slice, a README too.
        names = "|".join(re.escape(str(file)) for file in files)
        reader = PydicomReader(fname_regex=f"(?:{names})$")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            data, meta = reader.get_data(reader.read(str(folder)))
    except (InvalidDicomError, AttributeError, KeyError, OSError, RuntimeError, NotImplementedError) as error:
        raise ValueError(f"{folder} cannot be read as a DICOM series ({error})") from error
    return np.asarray(data, dtype=np.float32), np.asarray(meta["affine"], dtype=np.float64)


def _check_series(folder: Path, headers: list[pydicom.Dataset]) -> None:
    series = {header.SeriesInstanceUID for header in headers}
    if len(series) > 1:
        raise ValueError(f"{folder} holds {len(series)} DICOM series: sort them into a folder each")
    if len(headers) < 2:
        raise ValueError(f"{folder} holds one DICOM file: a scan is a series of slices")
    headers = sorted(headers, key=lambda header: int(header.InstanceNumber))
    along, down = np.array(headers[0].ImageOrientationPatient, dtype=float).reshape(2, 3)
    places = np.array([header.ImagePositionPatient for header in headers], dtype=float) @ np.cross(along, down)
    steps = np.diff(places)
    usual = float(np.median(steps))
    wrong = np.flatnonzero(np.abs(steps - usual) > UNEVEN * abs(usual))
    if usual == 0 or len(wrong):
        at = int(headers[wrong[0] if len(wrong) else 0].InstanceNumber)
        raise ValueError(
            f"{folder} has slices {usual:g} mm apart, but {steps[wrong[0]] if len(wrong) else 0:g} mm after instance "
            f"{at}: slices are missing, double or numbered out of order"
        )
