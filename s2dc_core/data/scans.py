"""One scan, from a NIfTI file, nilearn's MNI152 average or a phantom, made ready for the encoder.

Every scan leaves here in the same shape: axes towards the patient's right, front and head (RAS+), intensities
normalised by the rule of its modality, and its labels on the same grid.
"""

from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Spacing
from torch import Tensor

from s2dc_core.data.dicom import refuse_other_modality
from s2dc_core.data.files import expand, label_names, read_label, read_volume, stem
from s2dc_core.data.intensities import CT_WINDOW, SPAN, foreground, kind_of, normalise
from s2dc_core.data.labelmaps import refuse_label_map
from s2dc_core.data.phantoms import MODALITIES, ORGANS, Phantom, make_phantom
from s2dc_core.data.stacks import is_stack
from s2dc_core.data.units import check_units
from s2dc_core.features import check_affine

# Anything else than three numbers is let in, to get an error that says what to do.
Spacings = Sequence[Real | str] | Real | None


class Scan(NamedTuple):
    """A volume with all that is needed to encode it, to draw it and to name what it shows.

    Attributes:
        volume: [1, X, Y, Z] float32, normalised for the encoder.
        raw: [X, Y, Z] float32, HU, SUV or the scanner's units; for display.
        affine: [4, 4] float64, voxel index to world mm (RAS+).
        spacing: voxel sizes in mm.
        label: [X, Y, Z] int32, 0 for background, or None.
        names: label to name.
        modality: "ct", "pet" or one that starts with "mr".
        background: what `volume` holds outside the body, to pad it with.
        foreground: [X, Y, Z] bool, the body.
        name: for titles.
        rule, window: how `volume` was normalised, see `normalise`; None where nobody noted it, and no window but CT's.
        scale, offset: what made `raw` of the numbers in the file, scale * number + offset.
    """

    volume: Tensor
    raw: Tensor
    affine: np.ndarray
    spacing: tuple[float, float, float]
    label: Tensor | None
    names: dict[int, str]
    modality: str
    background: float
    foreground: Tensor
    name: str
    rule: str | None = None
    window: tuple[float, float] | None = None
    scale: float = 1.0
    offset: float = 0.0


def open_scan(
    image: str | Path | None = None,
    label: str | Path | None = None,
    labels: str | Path | Mapping | None = None,
    modality: str | None = None,
    spacing: Spacings = None,
    seed: int = 0,
    shape: Sequence[int] | None = None,
    findings: Sequence[str] = (),
    scale: Real = 1.0,
    offset: Real = 0.0,
    varied: bool = False,
) -> Scan:
    """The scan that a notebook is asked for; an empty string counts as not given, as command lines write it.

    Args:
        image: "mni152", "phantom_ct" (the default; or _pet, _mr_t1, _mr_t2, _mr_t1ce), or the path of a NIfTI file.
        label, labels: for a file, see `load_scan`.
        modality: of a file, which does not say it itself: "ct", "pet" or "mr".
        spacing: voxel sizes in mm; for MNI152 three equal whole numbers.
        seed: of a phantom, see `make_phantom`; without effect on other images, so that notebooks may always give one.
        shape, findings: of a phantom only.
        scale, offset: of a file only, see `load_scan`.
        varied: of a phantom only, the same body by another scanner and in another phase, see `make_phantom`.

    Raises:
        ValueError: for a file without a modality, options that do not go with the image (label, labels or another
            modality with a built-in one, shape, findings or varied with what is no phantom), and as `load_scan`.
        FileNotFoundError: as `load_scan`.
    """
    image, label, labels, modality = image or "phantom_ct", label or None, labels or None, modality or None
    generated = {f"phantom_{name}": name for name in MODALITIES}
    built_in = {**generated, "mni152": "mr_t1"}
    if image not in built_in and "/" not in str(image) and "." not in str(image) and not Path(image).exists():
        raise ValueError(f"there is no image {image!r}: give one of {', '.join(built_in)} or a NIfTI file")
    if image not in generated and (shape is not None or findings or varied):
        raise ValueError(f"{image} is no phantom: leave out shape, findings and varied")
    spacing = None if spacing is None else check_spacing(spacing)
    if image not in built_in:
        if modality is None:
            raise ValueError(f'{image}: a NIfTI file does not say what it is: give modality="ct", "pet" or "mr"')
        return load_scan(image, label, labels, modality, spacing, scale=scale, offset=offset)
    if (scale, offset) != (1, 0):
        raise ValueError(f"{image} is in the unit of its modality: leave out scale and offset")
    if label or labels or modality not in (None, built_in[image], kind_of(built_in[image])):
        raise ValueError(f"{image} has its own labels and modality: leave out label, labels and modality")
    if image in generated:
        options = {} if shape is None else {"shape": shape}
        options |= {} if spacing is None else {"spacing": spacing}
        name = f"{image}, seed {seed}" + (", varied" if varied else "")
        phantom = make_phantom(seed, generated[image], findings=findings, varied=varied, **options)
        return scan_from_phantom(phantom, name)
    sides = {2.0} if spacing is None else set(spacing)
    if len(sides) != 1 or not min(sides).is_integer():
        raise ValueError(f"mni152 comes with equal whole voxel sides such as (2, 2, 2) mm, not {spacing}")
    return load_mni152(int(min(sides)))


def scan_from_phantom(phantom: Phantom, name: str = "phantom") -> Scan:
    """A generated body as a scan, with its 13 organs as labels."""
    return _as_scan(phantom.volume, phantom.affine, phantom.label, dict(ORGANS), phantom.modality, name)


def check_spacing(spacing: Spacings) -> tuple[float, float, float]:
    """Three voxel sides in mm; a ValueError for anything else."""
    sides = tuple(spacing) if isinstance(spacing, Iterable) else ()
    if len(sides) != 3 or not all(isinstance(side, Real) and 0 < side < np.inf for side in sides):
        raise ValueError(f"spacing {spacing!r} is not three lengths in mm, such as (2.0, 2.0, 2.0)")
    return tuple(float(side) for side in sides)


def load_scan(
    image: str | Path,
    label: str | Path | None = None,
    labels: str | Path | Mapping | None = None,
    modality: str | None = "ct",
    spacing: Spacings = None,
    rule: str = "default",
    window: tuple[Real, Real] = CT_WINDOW,
    scale: Real = 1.0,
    offset: Real = 0.0,
) -> Scan:
    """A scan from a file of any orientation (NIfTI, MetaImage, NRRD), a DICOM series or a stack of pictures.

    Args:
        image: a file with three dimensions that ends as one of files.VOLUMES, or a folder of one DICOM series or of
            one picture a slice; CT in HU or PET in SUV; "~" in a path is the home folder.
        label: label map on the same grid (its axes may be stored in another order).
        labels: names of the labels, {number: name} or a JSON file that holds it, alone or as "labels" (as in the
            dataset.json of the Medical Segmentation Decathlon). A label without a name is called "label 7".
        modality: "ct", "pet" or "mr".
        spacing: voxel sizes in mm to resample to (MONAI's Spacing: linear, labels nearest); default: as stored.
        rule, window: of the intensities, see `normalise`; the course's weights and notebooks have the defaults.
        scale, offset: what brings the file's numbers to HU, SUV or whatever unit, scale * number + offset: 1 and -1024
            for a CT that was stored 1024 too high, as pictures are.

    Raises:
        FileNotFoundError: for a missing file or a folder that is no volume.
        ValueError: naming the file and the mend, for what cannot be read or is not one 3D volume, voxels that are not
            finite, intensities that contradict the modality's unit (see units), a singular affine, a label map on
            another grid, values that are no labels, a label map given as the image, or a modality, spacing, scale or
            names that are none.

    Warns:
        UserWarning: for a file whose sform and qform say different places; the sform is used, as nibabel does. For
            intensities that are odd, but may be of the unit, with what they are taken for.
    """
    kind = kind_of(modality)
    spacing = None if spacing is None else check_spacing(spacing)
    data, affine = read_checked(image, kind, rule, window, scale, offset)
    if label is None and labels is not None:
        raise ValueError(f"labels without a label map: give `label` with {image}")
    label_data = None if label is None else read_label(label, data.shape, affine, image)
    names = {} if label is None else label_names(labels, label_data)
    if spacing is not None:
        if label_data is not None:
            label_data = _resample(label_data, affine, spacing, "nearest")[0]
        data, affine = _resample(data, affine, spacing, "bilinear")
    scan = _as_scan(data, affine, label_data, names, modality, stem(Path(image)), rule, window)
    return scan._replace(scale=float(scale), offset=float(offset))


def _as_scan(
    data: np.ndarray,
    affine: np.ndarray,
    label: np.ndarray | None,
    names: dict[int, str],
    modality: str,
    name: str,
    rule: str = "default",
    window: tuple[Real, Real] = CT_WINDOW,
) -> Scan:
    raw = torch.from_numpy(np.ascontiguousarray(data, dtype=np.float32))
    mask = foreground(raw, modality)
    volume = normalise(raw, modality, mask, rule, window)
    # Outside the body CT and PET hold air by definition; MR holds noise, whose level the scan itself shows.
    air = volume[~mask].median() if kind_of(modality) == "mr" and not mask.all() else volume.min()
    known = {"ct": -SPAN / 2, "pet": -SPAN / 2} if rule == "default" else {"ct": 0.0}
    background = known.get(kind_of(modality), float(air))
    label = None if label is None else torch.from_numpy(np.ascontiguousarray(label, dtype=np.int32))
    spacing = tuple(float(side) for side in nib.affines.voxel_sizes(affine))
    noted = (rule, tuple(map(float, window)) if kind_of(modality) == "ct" else None)
    return Scan(volume[None], raw, affine, spacing, label, names, modality, background, mask, name, *noted)


def read_checked(
    image: str | Path,
    kind: str,
    rule: str = "default",
    window: tuple[Real, Real] = CT_WINDOW,
    scale: Real = 1.0,
    offset: Real = 0.0,
) -> tuple[np.ndarray, np.ndarray]:
    """As files.read_volume, scale * stored + offset, with a ValueError too for another kind of DICOM series, a LabelMap
    for labels, and a ValueError for what contradicts the unit of its kind.

    A z-score (rule "paper") takes a PET in any unit. A CT whose window is 0..255 and cuts nothing off is in grey
    values, as the window says.
    """
    if not (np.isfinite(scale) and np.isfinite(offset) and scale != 0):
        raise ValueError(f"scale={scale!r} and offset={offset!r} must be finite numbers, and scale not 0")
    any_unit = kind == "pet" and rule == "paper"
    refuse_other_modality(image, kind)
    data, affine = read_volume(image, any_unit)
    refuse_label_map(data, image)
    if (scale, offset) != (1, 0):
        data = np.float32(scale) * data + np.float32(offset)
    grey = kind == "ct" and tuple(window) == (0, 255) and data.min() >= 0 and data.max() <= 255
    pictures = is_stack(expand(image)) and (scale, offset) == (1, 0)
    millilitres = abs(float(np.linalg.det(affine[:3, :3]))) / 1000
    check_units(data, None if any_unit or grey else kind, image, millilitres, pictures)
    return data, affine


def _resample(
    data: np.ndarray, affine: np.ndarray, spacing: tuple[float, float, float], mode: str
) -> tuple[np.ndarray, np.ndarray]:
    source = MetaTensor(torch.from_numpy(np.ascontiguousarray(data, dtype=np.float32))[None], affine=affine)
    result = Spacing(pixdim=spacing, mode=mode)(source)
    return result[0].numpy(), np.asarray(result.affine, dtype=np.float64)


def load_mni152(resolution: int = 2) -> Scan:
    """The average T1 of 152 brains in MNI space that nilearn's package carries; nothing is downloaded.

    Labels are 1, grey, and 2, white matter, where the maps that come with it give the tissue more than 0.5. The two
    maps are shares of a voxel and never exceed 1 together, so no voxel is both.

    Args:
        resolution: side of the voxels in mm, a whole number.
    """
    from nilearn import datasets  # slow to import, and only this scan needs it

    image = datasets.load_mni152_template(resolution=resolution)
    label = np.zeros(image.shape, dtype=np.int32)
    label[datasets.load_mni152_gm_template(resolution=resolution).get_fdata() > 0.5] = 1
    label[datasets.load_mni152_wm_template(resolution=resolution).get_fdata() > 0.5] = 2
    names = {1: "grey matter", 2: "white matter"}
    return _as_scan(image.get_fdata(dtype=np.float32), check_affine(image.affine), label, names, "mr_t1", "MNI152")
