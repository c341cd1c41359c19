"""Volumes, label maps and label names read from files, with one clear error for each thing that can be wrong."""

import json
import os
import re
import warnings
import zlib
from collections.abc import Mapping, Sequence
from numbers import Integral
from pathlib import Path

import nibabel as nib
import numpy as np

from s2dc_core.data.dicom import is_series, is_slice, read_series
from s2dc_core.data.stacks import is_stack, read_metaimage, read_stack
from s2dc_core.features import check_affine
from s2dc_core.pointers import stands_in

NIFTI = (".nii", ".nii.gz", ".nii.bz2", ".img", ".img.gz", ".mgz", ".mgh")
METAIMAGES = (".mha", ".mhd", ".nrrd", ".nhdr")
VOLUMES = (*NIFTI, *METAIMAGES)
"""How the names of files end that hold one volume, in small letters or capitals; .img stands for its .hdr too."""
MILLIMETRES = {1: 1000.0, 3: 0.001}  # of NIfTI's codes for metre and micron; 2 is mm, and 0, not said, is taken for it


class WrongShape(ValueError):
    """Not one three-dimensional volume, or not on the grid that it should share."""


UNREADABLE = (
    nib.filebasedimages.ImageFileError,
    nib.spatialimages.HeaderDataError,
    nib.spatialimages.HeaderTypeError,
)


def expand(path: str | Path) -> Path:
    """The home folder for a leading ~; a file whose own name starts with one stays, where Path.expanduser raises."""
    return Path(os.path.expanduser(path))


def is_volume(name: str) -> bool:
    """Whether a file's name ends as one that holds a volume."""
    return name.lower().endswith(VOLUMES)


def stem(path: Path) -> str:
    """A file's name without the ending of a volume; all of another name, such as a folder's."""
    ending = max((end for end in VOLUMES if path.name.lower().endswith(end)), key=len, default="")
    return path.name[: len(path.name) - len(ending)]


def read_volume(path: str | Path, any_unit: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Values [X, Y, Z] float32 and affine (mm) of a file, or of a folder that holds one DICOM series or a stack.

    The axes are turned to the nearest canonical orientation (RAS+).

    Args:
        any_unit: take a DICOM PET in whatever unit it is stored, instead of bringing it to SUV.

    Raises:
        FileNotFoundError: for a missing file or another folder.
        ValueError: naming the file and the mend, for what cannot be read, voxels that are not finite, or a singular
            affine; a WrongShape for what is not one 3D volume; and as dicom.read_series and stacks.read_stack.
    """
    path = expand(path)
    if path.is_dir() and is_stack(path):
        return _canonical(path, *read_stack(path))
    if path.is_dir() and is_series(path):
        return _canonical(path, *read_series(path, any_unit))
    if path.is_dir():
        found = sorted(file.name for file in path.iterdir() if is_volume(file.name))
        mend = (
            f"give one of its {len(found)} images, such as {found[0]}"
            if found
            else "it holds no .nii, .nii.gz, .mha or DICOM series"
        )
        raise FileNotFoundError(f"{path} is a folder: {mend}")
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: check the path, or give a .nii or .nii.gz file")
    if not is_volume(path.name) and is_slice(path):
        raise ValueError(f"{path} is one file of a DICOM series: give the folder that holds all of them")
    read = _read_metaimage if path.name.lower().endswith(METAIMAGES) else _read_nifti
    try:
        return _canonical(path, *read(path))
    except WrongShape:
        raise
    except ValueError as error:
        for file in (path, *_parts(path)):
            if instead := stands_in(file):
                raise ValueError(f"{file} is {instead}") from error
        raise


def _parts(path: Path) -> list[Path]:
    """The file that holds the voxels of a header, or the header of such a file, where there are two."""
    ending = path.suffix.lower()
    if ending in (".mhd", ".nhdr"):
        header = path.read_text(encoding="latin-1")
        named = re.search(r"^(?:ElementDataFile *=|data ?file:) *(\S.*?) *$", header, re.MULTILINE)
        return [path.parent / named[1]] if named else []
    return [path.with_suffix(".hdr")] if ending == ".img" else []


def _read_nifti(path: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        image = nib.load(path.absolute())  # nibabel would expand a leading ~ once more
        if image.get_data_dtype().kind not in "iuf":
            raise ValueError(f"voxels of type {image.get_data_dtype()}")
        data = np.asarray(image.dataobj, dtype=np.float32)
    except (*UNREADABLE, OSError, EOFError, ValueError, OverflowError, zlib.error) as error:
        raise ValueError(f"{path} cannot be read as a NIfTI with one number per voxel ({error})") from error
    return _one_volume(path, data, _affine_mm(image, path))


def _read_metaimage(path: Path) -> tuple[np.ndarray, np.ndarray]:
    data, affine = _one_volume(path, *read_metaimage(path))
    return data, np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine  # ITK counts towards left and back, NIfTI right and front


def _one_volume(path: Path, data: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A volume of three axes and its affine [4, 4], without further axes of length one behind or before them.

    A NIfTI's affine is of the first three axes, whatever follows; ITK's is of all.
    """
    while data.ndim > 3:
        axis = next((k for k in (data.ndim - 1, 0) if data.shape[k] == 1), None)
        if axis is None or (axis == 0 and len(affine) <= data.ndim):
            break
        if len(affine) > data.ndim:
            affine = _without_axis(path, affine, axis)
        data = data.squeeze(axis)
    if data.ndim != 3:
        raise WrongShape(f"{path} has {data.ndim} dimensions {data.shape}, a scan has three: {_mend_shape(data.shape)}")
    return data, affine


def _without_axis(path: Path, affine: np.ndarray, axis: int) -> np.ndarray:
    """An affine [n + 1, n + 1] without an axis of the voxels and the axis of the world that it runs along."""
    along = int(np.abs(affine[:-1, axis]).argmax())
    rest = np.delete(np.delete(affine, axis, axis=1), along, axis=0)
    aslant = max(np.abs(np.delete(affine[:-1, axis], along)).max(), np.abs(np.delete(affine[along, :-1], axis)).max())
    if aslant > 1e-3 * np.abs(affine[:-1, :-1]).max():
        raise WrongShape(f"{path} has a further axis that runs aslant through space: save it with three axes")
    return rest


def _canonical(path: Path, data: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if count := int((~np.isfinite(data)).sum()):
        raise ValueError(f"{path} holds {count} voxels that are NaN or infinite: replace them by the value of air")
    turn = nib.orientations.io_orientation(affine)
    affine = affine @ nib.orientations.inv_ornt_aff(turn, data.shape)
    return nib.orientations.apply_orientation(data, turn), affine


def _mend_shape(shape: tuple[int, ...]) -> str:
    if len(shape) < 3:
        return "give a whole volume"
    if len(shape) == 4 and 1 not in shape:  # several volumes, one after the other
        return "save one of its volumes, image.slicer[..., 0] in nibabel"
    return "squeeze the axes of length one, reorder the others to (X, Y, Z), keep one volume, and save it anew"


def _affine_mm(image: nib.spatialimages.SpatialImage, path: Path) -> np.ndarray:
    """The affine of a file in mm, [4, 4] float64; warns if its header holds two that differ, or none."""
    try:
        affine = check_affine(image.affine)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    header = image.header
    if not isinstance(header, nib.Nifti1Header):
        if isinstance(image, nib.AnalyzeImage) and np.allclose(affine, header.get_best_affine()):
            said = "is an Analyze file, which does not say which side is right: columns are taken to run to the left"
            warnings.warn(f"{path} {said}", stacklevel=2)
        return affine
    if header["sform_code"] > 0 and header["qform_code"] > 0:
        try:
            apart = _apart(affine, header.get_qform(), image.shape[:3]) / nib.affines.voxel_sizes(affine).min()
        except ValueError:  # a qform that is none: nobody can mean it
            apart = 0.0
        if apart > 0.1:
            message = f"{path}: sform and qform lie up to {apart:.2g} voxels apart; the sform is used"
            warnings.warn(message, stacklevel=2)
    return np.diag([*[MILLIMETRES.get(int(header["xyzt_units"]) % 8, 1.0)] * 3, 1.0]) @ affine


def _apart(one: np.ndarray, other: np.ndarray, shape: Sequence[int]) -> float:
    """The largest distance between the places that two affines give a corner of a volume."""
    corners = np.array([[x, y, z, 1] for x in (0, shape[0]) for y in (0, shape[1]) for z in (0, shape[2])])
    return float(np.linalg.norm(corners @ (one - other).T, axis=1).max())


def check_grid(
    path: str | Path,
    shape: tuple[int, ...],
    affine: np.ndarray,
    other: str | Path,
    other_shape: tuple[int, ...],
    other_affine: np.ndarray,
) -> None:
    """A WrongShape if two files of one case differ in voxels, or by more than a tenth of one in place."""
    if shape != other_shape:
        raise WrongShape(f"{path} is on another grid than {other}, {shape} voxels and {other_shape}: resample it")
    apart = _apart(affine, other_affine, shape)
    if apart > 0.1 * nib.affines.voxel_sizes(other_affine).min():
        raise WrongShape(f"{path} is on another grid than {other}, {apart:.2g} mm away: resample it")


def read_label(path: str | Path, shape: tuple[int, ...], affine: np.ndarray, image: str | Path) -> np.ndarray:
    """Label map [X, Y, Z] int32 of a scan whose shape and affine read_volume gave; ``image`` is for the message.

    Raises:
        FileNotFoundError: as read_volume.
        ValueError: as read_volume, for another grid than the scan's, or values that are no labels.
    """
    values, label_affine = read_volume(path)
    check_grid(path, values.shape, label_affine, image, shape, affine)
    whole = np.round(values)
    if np.abs(values - whole).max() > 1e-3 or whole.min() < 0:
        raise ValueError(f"{path} holds values that are no labels (whole numbers from 0 up): is it an image?")
    if whole.max() >= 2**24:  # where float32, in which it was read, can no longer tell n from n + 1
        raise ValueError(f"{path} holds the label {whole.max():.0f}: renumber the labels to less than {2**24}")
    return whole.astype(np.int32)


def label_names(labels: str | Path | Mapping | None, label: np.ndarray) -> dict[int, str]:
    """Names of all labels of a map, and of those that only the list has."""
    if isinstance(labels, str | Path):
        try:
            labels = json.loads(expand(labels).read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise FileNotFoundError(f"the file of label names {labels} does not exist") from error
        except (OSError, ValueError) as error:
            raise ValueError(f"{labels} cannot be read as JSON ({error})") from error
    listed = labels.get("labels", labels) if isinstance(labels, Mapping) else ({} if labels is None else None)
    try:
        if not all(isinstance(number, Integral | str) and isinstance(name, str) for number, name in listed.items()):
            raise TypeError("int() would cut 1.5 to 1 and str() call a structure None")
        listed = {int(number): name for number, name in listed.items()}
    except (AttributeError, ValueError, TypeError) as error:
        raise ValueError(f'label names are {{number: name}}, such as {{"1": "spleen"}}, got {labels}') from error
    present = {int(number): f"label {number}" for number in np.unique(label)}
    return {number: name for number, name in sorted((present | listed).items()) if number != 0}
