"""How the slices of a DICOM series lie in space, and whether all of them are there."""

import warnings
from pathlib import Path

import numpy as np
import pydicom
from pydicom.uid import EnhancedCTImageStorage, EnhancedMRImageStorage, EnhancedPETImageStorage

ENHANCED = (EnhancedCTImageStorage, EnhancedMRImageStorage, EnhancedPETImageStorage)
OFF_THE_GRID = 0.25  # of a step: what rounding may move a slice by; a missing one moves the others by more
PLACED = ("ImageOrientationPatient", "PixelSpacing", "Rows", "Columns")


def geometry_of(slices: list[pydicom.Dataset]) -> tuple[np.ndarray, np.ndarray]:
    """From column, row and slice to mm, and the order of the slices along their normal."""
    if (series := len({each.SeriesInstanceUID for each in slices})) > 1:
        raise ValueError(f"it holds {series} series, sort them into a folder each")
    if any(each.SOPClassUID in ENHANCED or int(each.get("NumberOfFrames", 1)) > 1 for each in slices):
        raise ValueError("a file holds several slices (enhanced DICOM), convert it to NIfTI")
    if len(slices) < 2:
        raise ValueError("it holds one slice")
    for name in ("ImagePositionPatient", *PLACED):
        if without := next((each for each in slices if each.get(name) in (None, "")), None):
            raise ValueError(f"{Path(without.filename).name} has no {name}: it is cut, or the series lies nowhere")
    for name in PLACED:
        values = np.array([getattr(each, name) for each in slices], dtype=float)
        if np.abs(values - values[0]).max() > 1e-3:
            raise ValueError(f"its slices differ in {name}, from {values.min(0)} to {values.max(0)}")
    along, down = np.array(slices[0].ImageOrientationPatient, dtype=float).reshape(2, 3)
    normal = np.cross(along, down)
    places = np.array([each.ImagePositionPatient for each in slices], dtype=float)
    order = np.argsort(places @ normal)
    places = places[order]
    step = (places[-1] - places[0]) / (len(places) - 1)
    off = np.abs(places - places[0] - step * np.arange(len(places))[:, None]).max()
    if off >= OFF_THE_GRID * (step @ normal):  # also where all lie in one place
        raise ValueError(
            f"a slice lies {off:.2g} mm off an even spacing of {step @ normal:.3g} mm: one is missing or double"
        )
    if np.linalg.norm(step - (step @ normal) * normal) > 0.01 * np.linalg.norm(step):
        raise ValueError("its slices are shifted against each other (a tilted gantry): convert it to NIfTI")
    rows, columns = (float(side) for side in slices[0].PixelSpacing)
    affine = np.eye(4)
    affine[:3] = np.column_stack([along * columns, down * rows, step, places[0]])
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine, order  # DICOM counts towards left and back, NIfTI right and front


def check_count(folder: Path, slices: list[pydicom.Dataset]) -> None:
    """Slices that are missing at an end leave no gap: whether the headers know of more.

    A PET counts the slices of a volume. Other counts may be of more than this series: they are worth a word.
    """
    here, first = len(slices), slices[0]
    if (of_volume := _number(first, "NumberOfSlices")) > here:
        raise ValueError(f"its header counts {of_volume} slices (NumberOfSlices), {here} are there: fetch the others")
    if (of_scan := _number(first, "ImagesInAcquisition")) > here:
        said = f"counts {of_scan} images (ImagesInAcquisition), {here} are there"
        warnings.warn(f"{folder} {said}: see that none is missing at an end", stacklevel=3)
    numbers = sorted(_number(each, "InstanceNumber") for each in slices)
    if numbers[0] > 1 and numbers == list(range(numbers[0], numbers[0] + here)):
        said = f"counts its slices from {numbers[0]} to {numbers[-1]} (InstanceNumber)"
        warnings.warn(f"{folder} {said}: see that none is missing before them", stacklevel=3)


def _number(header: pydicom.Dataset, tag: str) -> int:
    """A count that a header need not give, and that decides nothing where it is none."""
    try:
        return int(header.get(tag) or 0)
    except (TypeError, ValueError):
        return 0
