"""What the files of a case say of themselves, without their voxels: minutes earlier than reading them would tell."""

import math
from collections.abc import Iterable
from pathlib import Path

import nibabel as nib

from s2dc_core.data.files import METAIMAGES, NIFTI, WrongShape
from s2dc_core.pointers import stands_in


def check_files(paths: Iterable[str | Path]) -> None:
    """See that the files of a case are there and are volumes by their headers; a folder is only seen to be there.

    Raises:
        FileNotFoundError, ValueError: for one that is not, naming it.
    """
    for path in map(Path, paths):
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist")
        if instead := stands_in(path):
            raise ValueError(f"{path} is {instead}")
        try:
            shape = _shape(path)
        except Exception as error:  # a damaged header may raise anything
            reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
            raise ValueError(f"{path} cannot be read by its header ({reason})") from error
        if sum(side != 1 for side in shape) > 3:
            raise WrongShape(f"{path} has {len(shape)} dimensions {shape}, a scan has three")


def _shape(path: Path) -> tuple[int, ...]:
    """Voxels along each axis by the header; () where nothing cheap tells them."""
    name = path.name.lower()
    if name.endswith(NIFTI):
        image = nib.load(path.absolute())
        if name.endswith(".nii"):
            whole = image.dataobj.offset + math.prod(image.shape) * image.get_data_dtype().itemsize
            if path.stat().st_size < whole:
                raise ValueError(f"it has {path.stat().st_size} bytes of {whole}")
        return image.shape
    if name.endswith(METAIMAGES):
        import SimpleITK as sitk  # slow to import, and few data sets need it

        reader = sitk.ImageFileReader()
        reader.SetFileName(str(path.absolute()))
        reader.ReadImageInformation()
        return reader.GetSize()
    return ()
