"""The values of DICOM slices: as they were stored, however they are packed and wherever in their bits they lie."""

import locale
import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.pixels import pixel_array
from pydicom.uid import RLELossless

from s2dc_core.data import load_scan, open_scans
from tests.data.miniature import series as miniature_series
from tests.data.test_dicom import change, values, write_series

STORED = values(shape=(14, 10, 6))
HU = np.flip(2.0 * STORED - 1024, (0, 1)).transpose(1, 0, 2)
"""What is read of it: columns towards the right, rows towards the front."""


@pytest.fixture
def folder(tmp_path):
    write_series(tmp_path / "series", STORED)
    return tmp_path / "series"


def rewrite(folder, encode, **fields):
    """Store each slice's pixels otherwise: as what `encode` makes of them, int64, in 16 bits."""

    def edit(k, slice_):
        pixels = encode(slice_.pixel_array.astype(np.int64))
        slice_.update(fields)
        slice_.PixelData = (pixels & 0xFFFF).astype(np.uint16).tobytes()

    change(folder, edit)


def read(folder, modality="ct"):
    return load_scan(folder, modality=modality).raw.numpy()


def test_the_fixture_is_read_as_it_should_be(folder):
    assert np.array_equal(read(folder), HU)


BITS = {
    "12 of 16 at the lower end": (lambda pixels: pixels, {"BitsStored": 12, "HighBit": 11}),
    "12 of 16 at the upper end": (lambda pixels: pixels << 4, {"BitsStored": 12, "HighBit": 15}),
    "12 of 16 in the middle": (lambda pixels: (pixels << 2) | 0x8000, {"BitsStored": 12, "HighBit": 13}),
    "signed at the upper end": (
        lambda pixels: (pixels - 512) << 4,
        {"BitsStored": 12, "HighBit": 15, "PixelRepresentation": 1, "RescaleIntercept": 0},
    ),
    "signed, the sign continued": (
        lambda pixels: pixels - 512,
        {"BitsStored": 12, "HighBit": 11, "PixelRepresentation": 1, "RescaleIntercept": 0},
    ),
    "signed, the sign not continued": (
        lambda pixels: (pixels - 512) & 0xFFF,
        {"BitsStored": 12, "HighBit": 11, "PixelRepresentation": 1, "RescaleIntercept": 0},
    ),
}


@pytest.mark.parametrize("name", BITS)
def test_values_are_taken_from_where_they_lie(folder, name):
    encode, fields = BITS[name]
    rewrite(folder, encode, **fields)
    assert np.array_equal(read(folder), HU)


def test_a_high_bit_that_the_values_contradict_is_told(folder):
    rewrite(folder, lambda pixels: pixels, BitsStored=12, HighBit=15)
    with pytest.warns(UserWarning, match="HighBit 15 with 12 bits stored, its values lie in the lower bits"):
        assert np.array_equal(read(folder), HU)
    rewrite(folder, lambda pixels: pixels << 3, BitsStored=12, HighBit=15)
    with pytest.raises(ValueError, match="IM.* has HighBit 15 with 12 bits stored, and its values fit neither"):
        read(folder)


def test_an_overlay_in_the_unused_bits_is_no_tissue(folder):
    drawn = np.zeros((14, 10), np.int64)
    drawn[3:6, 2:8] = 0x1000

    def edit(k, slice_):
        slice_.add_new((0x6000, 0x0102), "US", 12)

    rewrite(folder, lambda pixels: pixels | drawn, BitsStored=12, HighBit=11)
    with pytest.raises(ValueError, match=r"IM.* holds values that do not fit into its 12 stored bits \(BitsStored\)"):
        read(folder)
    change(folder, edit)
    assert np.array_equal(read(folder), HU)


def test_values_that_do_not_fit_are_refused_and_padding_is_the_lowest_value(folder):
    rewrite(folder, lambda pixels: np.where(pixels < 100, 63536, pixels), BitsStored=12, HighBit=11)
    with pytest.raises(ValueError, match="do not fit into its 12 stored bits"):
        read(folder)
    change(folder, lambda k, slice_: slice_.add_new((0x0028, 0x0120), "US", 63536))  # PixelPaddingValue
    found, outside = read(folder), HU < 2 * 100 - 1024
    assert np.array_equal(found[~outside], HU[~outside])
    for k in range(6):
        assert (found[..., k][outside[..., k]] == HU[..., k][~outside[..., k]].min()).all()


def packed(folder, compressor):
    """A copy of a series, packed by SimpleITK, with the slope and intercept of the original."""
    place = folder.with_name(compressor)
    shutil.copytree(folder, place)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    writer.UseCompressionOn()
    writer.SetImageIO("GDCMImageIO")
    writer.SetCompressor(compressor)
    change(
        place, lambda k, slice_: slice_.update({"RescaleSlope": 1, "RescaleIntercept": 0, "StudyInstanceUID": "1.2"})
    )
    before = locale.setlocale(locale.LC_ALL)
    for file in sorted(place.iterdir()):
        plain = pydicom.dcmread(file)
        writer.SetFileName(str(file) + ".dcm")
        writer.Execute(sitk.ReadImage(str(file)))
        locale.setlocale(locale.LC_ALL, before)  # writing, GDCM leaves "C", in which other tests' texts are ASCII
        file.unlink()
        made = pydicom.dcmread(str(file) + ".dcm")
        for name in (
            "SeriesInstanceUID",
            "Modality",
            "ImagePositionPatient",
            "ImageOrientationPatient",
            "PixelSpacing",
        ):
            made[name] = plain[name]
        made.RescaleSlope, made.RescaleIntercept = 2, -1024
        made.save_as(str(file) + ".dcm")
    return place


@pytest.mark.parametrize("compressor", ["JPEG", "JPEG2000"])
def test_packed_series_hold_the_same_values(folder, compressor):
    place = packed(folder, compressor)
    first = pydicom.dcmread(next(place.iterdir()))
    assert first.file_meta.TransferSyntaxUID.is_encapsulated
    if compressor == "JPEG":
        with pytest.raises(RuntimeError):  # which pydicom does not read alone, and the reader must
            pixel_array(first)
    assert np.array_equal(read(place), HU)


def test_run_lengths_are_read(folder):
    change(folder, lambda k, slice_: slice_.compress(RLELossless))
    assert np.array_equal(read(folder), HU)


def test_jpeg_ls_is_read_as_the_same_slice_unpacked(tmp_path):
    files = Path(pydicom.__file__).parent / "data" / "test_files"
    if not (files / "MR_small_jpeg_ls_lossless.dcm").is_file():
        pytest.skip("pydicom came without its test files")
    read_back = {}
    for name in (
        "MR_small",
        "MR_small_jpeg_ls_lossless",
        "MR_small_jp2klossless",
        "MR_small_RLE",
        "MR_small_bigendian",
    ):
        (tmp_path / name).mkdir()
        for k in range(3):
            slice_ = pydicom.dcmread(files / f"{name}.dcm")
            slice_.ImagePositionPatient = [0, 0, 5 * k]
            slice_.save_as(tmp_path / name / f"{k}.dcm")
        read_back[name] = read(tmp_path / name, "mr")
    for name, found in read_back.items():
        assert np.array_equal(found, read_back["MR_small"]), name


def test_what_nobody_can_unpack_is_refused_with_a_mend(folder):
    place = packed(folder, "JPEG")
    file = sorted(place.iterdir())[2]
    slice_ = pydicom.dcmread(file)
    slice_.PixelData = slice_.PixelData.replace(b"\xff\xd8\xff", b"\0\0\0")  # no image starts any more
    slice_.save_as(file)
    with pytest.raises(
        ValueError, match=f"{file.name} cannot be unpacked .JPEG Lossless.*: unpack the series with .* or convert"
    ):
        read(place)


def test_each_slice_of_a_pet_has_its_own_slope(tmp_path):
    miniature_series(tmp_path / "pet", 3, "pet")
    plain = read(tmp_path / "pet", "pet")

    def edit(k, slice_):
        factor = 2 if k % 2 else 4
        slice_.PixelData = (slice_.pixel_array * factor).astype(np.uint16).tobytes()
        slice_.RescaleSlope = 0.01 / factor

    change(tmp_path / "pet", edit)
    assert np.abs(read(tmp_path / "pet", "pet") - plain).max() < 1e-5


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, r"a picture in colour \(RGB\)"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, r"a picture in colour \(PALETTE COLOR\)"),
        ({"Modality": "MR", "PhotometricInterpretation": "MONOCHROME1"}, "stored inverted, low values bright"),
        ({"RescaleType": "MGML"}, "a CT in MGML, not in HU"),
    ],
)
def test_what_is_no_scan_in_its_unit_is_refused(folder, fields, message):
    change(folder, lambda k, slice_: slice_.update(fields))
    with pytest.raises(ValueError, match=message):
        read(folder, "mr" if "Modality" in fields else "ct")


def test_how_a_ct_is_shown_does_not_change_its_hu(folder):
    change(folder, lambda k, slice_: slice_.update({"PhotometricInterpretation": "MONOCHROME1", "RescaleType": "HU"}))
    assert np.array_equal(read(folder), HU)


def test_a_ct_that_is_not_rescaled_is_told(folder):
    change(folder, lambda k, slice_: slice_.pop("RescaleSlope"), only=2)
    with pytest.raises(ValueError, match="has no RescaleSlope, other slices have"):
        read(folder)
    rewrite(folder, lambda pixels: 2 * pixels - 1024, PixelRepresentation=1)

    def edit(k, slice_):
        slice_.pop("RescaleSlope", None)
        slice_.pop("RescaleIntercept", None)

    change(folder, edit)
    said = []
    (scan,), _ = open_scans([folder.parent], "ct", say=said.append)
    assert np.array_equal(scan.raw, HU)
    assert (
        "series has no RescaleSlope: its stored values are taken as they are" in said[0] and "RescaleInter" in said[0]
    )
