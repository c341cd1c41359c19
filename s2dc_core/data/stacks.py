"""Volumes from MetaImage and NRRD files, and from folders of slices saved as pictures, read by SimpleITK."""

import re
from pathlib import Path

import numpy as np

LITTER = ("Thumbs.db", "desktop.ini")
PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")


def read_metaimage(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Values [X, Y, Z] float32 and affine (mm, RAS+) of an .mha, .mhd, .nrrd or .nhdr file.

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
    data = sitk.GetArrayFromImage(image).astype(np.float32).T
    if data.ndim != 3:
        return data, np.eye(4)
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return data, np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine  # ITK counts towards left and back, NIfTI right and front


def is_stack(folder: Path) -> bool:
    """Whether a folder holds pictures and nothing else, but for what file managers leave."""
    inside = [each for each in folder.iterdir() if not each.name.startswith(".") and each.name not in LITTER]
    return bool(inside) and all(each.suffix.lower() in PICTURES for each in inside)


def read_stack(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Values [X, Y, Z] float32 and affine of a folder with one axial slice per picture.

    Slices follow each other by the last number in their names. Pictures say nothing of places: columns are taken to
    run towards the patient's left, rows towards the back (as radiologists look at them), slices towards the head, and
    voxels to be of 1 mm.

    Raises:
        ValueError: naming the file, for pictures without a number or with the same one, of different sizes, in colour,
            or that cannot be read.
    """
    import SimpleITK as sitk

    numbered = {}
    for file in sorted(each for each in folder.iterdir() if each.suffix.lower() in PICTURES):
        numbers = re.findall(r"\d+", file.stem)
        if not numbers or int(numbers[-1]) in numbered:
            other = f", as {numbered[int(numbers[-1])].name} has" if numbers else ""
            raise ValueError(f"{file} has {'the number of another slice' if numbers else 'no number'}{other}")
        numbered[int(numbers[-1])] = file
    slices = []
    for _, file in sorted(numbered.items()):
        try:
            values = sitk.GetArrayFromImage(sitk.ReadImage(str(file)))
        except RuntimeError as error:
            raise ValueError(f"{file} cannot be read as a picture ({_reason(error)})") from error
        if values.ndim == 3 and (values == values[..., :1]).all():
            values = values[..., 0]  # grey, saved as colour
        if values.ndim != 2:
            raise ValueError(f"{file} is in colour: a slice has one number per pixel")
        if slices and values.T.shape != slices[0].shape:
            raise ValueError(f"{file} has {values.T.shape} pixels, the slices before it {slices[0].shape}")
        slices.append(values.T.astype(np.float32))
    return np.stack(slices, axis=-1), np.diag([-1.0, -1.0, 1.0, 1.0])


def _reason(error: RuntimeError) -> str:
    return str(error).strip().splitlines()[-1].strip()
