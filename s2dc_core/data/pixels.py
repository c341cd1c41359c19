"""The values of DICOM slices: decoded, taken out of the bits that they are stored in, and rescaled."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pydicom
from pydicom.pixels import apply_modality_lut
from pydicom.uid import ExplicitVRBigEndian

NO_HU = ("MGML", "Z_EFF", "ED", "EDW", "PCT", "OD")
"""What the rescaled values of a CT may be instead of HU, by DICOM's terms: iodine, effective atomic numbers, ..."""


def planes_of(slices: Sequence[pydicom.Dataset]) -> list[np.ndarray]:
    """Values [rows, columns] of each slice, rescaled as the files say.

    Raises:
        ValueError: naming the file, for what cannot be decoded, is cut, in colour, shown inverted, or holds bits that
            contradict its header.

    Warns:
        UserWarning: for a CT or PET that does not say how its values are rescaled.
    """
    for each in slices:
        _refuse_no_slice(each)
    _say_what_is_not_rescaled(slices)
    shift = _shift(slices)
    return [_plane(each, shift) for each in slices]


def _refuse_no_slice(each: pydicom.Dataset) -> None:
    shown = each.get("PhotometricInterpretation", "MONOCHROME2")
    if each.get("SamplesPerPixel", 1) != 1 or not shown.startswith("MONOCHROME"):
        raise ValueError(f"{_name(each)} is a picture in colour ({shown}), no scan: leave it out")
    if shown == "MONOCHROME1" and (each.get("Modality") == "MR" or _is_packed(each)):
        raise ValueError(f"{_name(each)} is stored inverted, low values bright (MONOCHROME1): convert it to NIfTI")
    if each.get("Modality") == "CT" and each.get("RescaleType") in NO_HU:
        raise ValueError(f"{_name(each)} is a CT in {each.RescaleType}, not in HU: export the series in HU")


def _say_what_is_not_rescaled(slices: Sequence[pydicom.Dataset]) -> None:
    for tag in ("RescaleSlope", "RescaleIntercept"):
        without = [each for each in slices if each.get(tag) is None and "ModalityLUTSequence" not in each]
        if without and len(without) < len(slices):
            raise ValueError(f"{_name(without[0])} has no {tag}, other slices have: fetch it again")
        if without and slices[0].get("Modality") in ("CT", "PT"):
            warnings.warn(f"{_folder(slices)} has no {tag}: its stored values are taken as they are", stacklevel=2)


def _plane(each: pydicom.Dataset, shift: int) -> np.ndarray:
    try:
        stored = each.pixel_array
    except Exception as error:  # pydicom and its plugins raise of any kind
        if _is_packed(each):
            return _by_gdcm(each, error)
        raise ValueError(f"{_name(each)}: {error}: fetch it again") from error
    if shift:
        top = _words(each).reshape(stored.shape) << (each.BitsAllocated - 1 - each.HighBit)
        stored = top.view(stored.dtype) >> (each.BitsAllocated - each.BitsStored)  # with the sign, where there is one
    elif _has_words(each):
        stored = _within_bits(each, stored)
    return apply_modality_lut(stored, each)


def _by_gdcm(each: pydicom.Dataset, error: Exception) -> np.ndarray:
    """What pydicom cannot decode alone, such as JPEG Lossless and JPEG-LS, as SimpleITK reads it, rescaled too."""
    import SimpleITK as sitk  # slow to import, and few series need it

    try:
        return sitk.GetArrayFromImage(sitk.ReadImage(str(each.filename), imageIO="GDCMImageIO"))[0]
    except RuntimeError:
        packing = each.file_meta.TransferSyntaxUID.name
        mend = "unpack the series with dcmconv, dcmdjpeg or gdcmconv --raw, or convert it to NIfTI with dcm2niix"
        raise ValueError(f"{_name(each)} cannot be unpacked ({packing}): {mend}") from error


def _shift(slices: Sequence[pydicom.Dataset]) -> int:
    """By how many bits stored values lie higher than the lowest ones, where HighBit contradicts BitsStored.

    Today's standard has them at the lower end, HighBit = BitsStored - 1. Where it says otherwise the bits decide.
    """
    odd = [each for each in slices if _has_words(each) and each.get("HighBit", 0) + 1 != each.get("BitsStored", 1)]
    if not odd:
        return 0
    stored, high, signed = {(each.BitsStored, each.HighBit, each.PixelRepresentation) for each in odd}.pop()
    contradiction = f"{_name(odd[0])} has HighBit {high} with {stored} bits stored"
    shift = high + 1 - stored
    if len(odd) < len(slices) or len({(each.BitsStored, each.HighBit) for each in odd}) > 1:
        raise ValueError(f"{contradiction}, other slices have not: convert the series to NIfTI")
    used = int(np.bitwise_or.reduce([np.bitwise_or.reduce(_words(each)) for each in odd]))
    if shift > 0 and used % 2**shift == 0:
        return shift
    if used < 2 ** min(stored, high + 1) and not (signed and shift < 0 and used >> high):
        warnings.warn(f"{_folder(odd)}: {contradiction}, its values lie in the lower bits", stacklevel=2)
        return 0
    raise ValueError(f"{contradiction}, and its values fit neither: convert the series to NIfTI")


def _within_bits(each: pydicom.Dataset, stored: np.ndarray) -> np.ndarray:
    """Stored values, whose unused higher bits pydicom cleared: that must not have changed them.

    They may continue the sign, or hold an overlay that the header names. Padding that does not fit becomes the lowest
    value, as outside the field of view.
    """
    words, bits = _words(each).reshape(stored.shape), each.BitsStored
    beyond = words.astype(stored.dtype) != stored if not each.PixelRepresentation else _is_no_sign(words, bits)
    overlays = [each.get((group, 0x0102)) for group in range(0x6000, 0x6020, 2)]
    if not beyond.any() or any(position is not None and position.value for position in overlays):
        return stored
    padding = each.get("PixelPaddingValue")
    if padding is None or beyond.all() or (words[beyond] != int(padding) % 2**each.BitsAllocated).any():
        raise ValueError(f"{_name(each)} holds values that do not fit into its {bits} stored bits (BitsStored)")
    return np.where(beyond, stored[~beyond].min(), stored)


def _is_no_sign(words: np.ndarray, bits: int) -> np.ndarray:
    """Where the bits above the stored ones are neither empty nor all as the sign."""
    above = words >> bits
    ones = np.iinfo(words.dtype).max >> bits
    return (above != 0) & ~((above == ones) & ((words >> (bits - 1)) & 1 == 1))


def _words(each: pydicom.Dataset) -> np.ndarray:
    """Unpacked pixels as they are stored, with all their bits, unsigned."""
    order = ">" if each.file_meta.TransferSyntaxUID == ExplicitVRBigEndian else "<"
    kind = np.dtype(f"{order}u{each.BitsAllocated // 8}")
    count = min(each.Rows * each.Columns, len(each.PixelData) // kind.itemsize)
    return np.frombuffer(each.PixelData, kind, count).astype(kind.newbyteorder("="))


def _has_words(each: pydicom.Dataset) -> bool:
    return not _is_packed(each) and "PixelData" in each and each.BitsAllocated in (8, 16, 32)


def _is_packed(each: pydicom.Dataset) -> bool:
    return each.file_meta.TransferSyntaxUID.is_encapsulated


def _name(each: pydicom.Dataset) -> str:
    return Path(each.filename).name


def _folder(slices: Sequence[pydicom.Dataset]) -> Path:
    return Path(slices[0].filename).parent
