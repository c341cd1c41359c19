"""Volumes from MetaImage and NRRD files, and from folders of slices saved as pictures, read by SimpleITK."""

import re
import warnings
from pathlib import Path

import numpy as np

from s2dc_core.pointers import stands_in

LITTER = ("Thumbs.db", "desktop.ini")
PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")


def read_metaimage(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Values float32 and affine (mm, LPS+) of an .mha, .mhd, .nrrd or .nhdr file, of as many dimensions as it has.

    For n dimensions the affine is [n + 1, n + 1]: ITK gives a time, too, its place and step.

    Raises:
        ValueError: naming the file, if it cannot be read or holds several numbers per voxel.
    """
    import SimpleITK as sitk  # slow to import, and few data sets need it

    try:
        # ITK goes by the ending too, and knows it in small letters alone.
        reader = (
            "" if path.suffix.islower() else {".mha": "MetaImageIO", ".mhd": "MetaImageIO"}.get(path.suffix.lower(), "")
        )
        image = sitk.ReadImage(str(path), imageIO=reader)
    except RuntimeError as error:
        raise ValueError(f"{path} cannot be read as a MetaImage or NRRD ({_reason(error)})") from error
    if (numbers := image.GetNumberOfComponentsPerPixel()) > 1:
        raise ValueError(f"{path} holds {numbers} numbers per voxel: save one of them")
    if image.GetPixelIDTypeAsString().startswith("vector"):
        image = sitk.VectorIndexSelectionCast(image, 0)  # of one number, which numpy would see as one more axis
    count = image.GetDimension()
    affine = np.eye(count + 1)
    affine[:-1, :-1] = np.array(image.GetDirection()).reshape(count, count) * image.GetSpacing()
    affine[:-1, -1] = image.GetOrigin()
    return sitk.GetArrayFromImage(image).astype(np.float32).T, affine


def is_stack(folder: Path) -> bool:
    """Whether this is a folder that holds pictures and nothing else, but for what file managers leave."""
    if not folder.is_dir():
        return False
    inside = [each for each in folder.iterdir() if not each.name.startswith(".") and each.name not in LITTER]
    return bool(inside) and all(each.suffix.lower() in PICTURES for each in inside)


def read_stack(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Values [X, Y, Z] float32 and affine of a folder with one axial slice per picture.

    Slices follow each other by the last number in their names that tells them all apart. Pictures say nothing of
    places: columns are taken to run towards the patient's left, rows towards the back (as radiologists look at them),
    slices towards the head, and voxels to be of 1 mm.

    Raises:
        ValueError: naming the file, for pictures without a number or with the same one, of different sizes, in colour,
            or that cannot be read; naming the numbers that are missing between the first and the last.

    Warns:
        UserWarning: for numbers that all lie more than 1 apart: these slices are taken to be neighbours.
    """
    import SimpleITK as sitk

    slices = []
    for file in _in_order(folder):
        try:
            values = sitk.GetArrayFromImage(sitk.ReadImage(str(file)))
        except RuntimeError as error:
            instead = stands_in(file)
            said = f"is {instead}" if instead else f"cannot be read as a picture ({_reason(error)})"
            raise ValueError(f"{file} {said}") from error
        if values.ndim == 3 and (values == values[..., :1]).all():
            values = values[..., 0]  # grey, saved as colour
        if values.ndim != 2:
            raise ValueError(f"{file} is in colour: a slice has one number per pixel")
        if slices and values.T.shape != slices[0].shape:
            raise ValueError(f"{file} has {values.T.shape} pixels, the slices before it {slices[0].shape}")
        slices.append(values.T.astype(np.float32))
    return np.stack(slices, axis=-1), np.diag([-1.0, -1.0, 1.0, 1.0])


def _in_order(folder: Path) -> list[Path]:
    files = sorted(each for each in folder.iterdir() if each.suffix.lower() in PICTURES)
    found = [[int(number) for number in re.findall(r"\d+", file.stem)] for file in files]
    if without := next((file for file, numbers in zip(files, found, strict=True) if not numbers), None):
        raise ValueError(f"{without} has no number")
    # Of slice_3_of_20 the last number is every slice's; where names differ in form, it is taken all the same.
    columns = list(zip(*found, strict=True)) if len({len(numbers) for numbers in found}) == 1 else []
    apart = [column for column in columns if len(set(column)) == len(files)]
    numbered: dict[int, Path] = {}
    for number, file in zip(apart[-1] if apart else [numbers[-1] for numbers in found], files, strict=True):
        if number in numbered:
            raise ValueError(f"{file} has the number of another slice, as {numbered[number].name} has")
        numbered[number] = file
    _refuse_gaps(folder, sorted(numbered))
    return [numbered[number] for number in sorted(numbered)]


def _refuse_gaps(folder: Path, numbers: list[int]) -> None:
    """A ValueError that names the numbers missing from an even sequence: slices would move together in silence."""
    steps = np.diff(numbers)
    step = int(steps.min()) if len(steps) else 1
    missing = sorted(set(range(numbers[0], numbers[-1], step)) - set(numbers))
    if len(set(steps.tolist())) > 1:
        named = ", ".join(map(str, missing[:5])) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        raise ValueError(
            f"{folder} holds slices {numbers[0]} to {numbers[-1]} without {named}: add what is missing, or number the "
            "slices anew if they do follow each other"
        )
    if step > 1:
        warnings.warn(
            f"{folder}: the numbers of the slices lie {step} apart; the slices are taken to be neighbours", stacklevel=2
        )


def _reason(error: RuntimeError) -> str:
    return str(error).strip().splitlines()[-1].strip()
