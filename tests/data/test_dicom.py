"""DICOM series: places, units and order as the files say; what is missing or mixed up is named."""

import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from s2dc_core.data import load_scan, open_scans
from s2dc_core.data.dicom import read_series

AXIAL = ([1, 0, 0], [0, 1, 0])
CORONAL = ([1, 0, 0], [0, 0, -1])
OBLIQUE = ([1, 0, 0], [0, np.cos(0.3), np.sin(0.3)])
RT = "1.2.840.10008.5.1.4.1.1.481.3"


def write_series(
    folder, stored, orientation=AXIAL, spacing=(0.7, 0.8, 2.5), origin=(-20.0, 30.0, 5.0), skip=(), uid=None
):
    """Write [rows, columns, slices] stored values as a CT series, HU = 2 stored - 1024; its affine to RAS."""
    folder.mkdir(parents=True, exist_ok=True)
    uid = uid or generate_uid()
    along, down = np.array(orientation[0], float), np.array(orientation[1], float)
    across, origin = np.cross(along, down), np.array(origin)
    for k in set(range(stored.shape[2])) - set(skip):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        slice_ = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
        slice_.SOPClassUID, slice_.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
        slice_.SeriesInstanceUID, slice_.Modality, slice_.InstanceNumber = uid, "CT", k + 1
        slice_.Rows, slice_.Columns, slice_.SamplesPerPixel = *stored.shape[:2], 1
        slice_.PhotometricInterpretation, slice_.PixelRepresentation = "MONOCHROME2", 0
        slice_.BitsAllocated, slice_.BitsStored, slice_.HighBit = 16, 16, 15
        slice_.PixelSpacing, slice_.SliceThickness = [spacing[0], spacing[1]], spacing[2]
        slice_.ImageOrientationPatient = [round(float(value), 6) for value in (*along, *down)]
        slice_.ImagePositionPatient = [round(float(value), 6) for value in origin + k * spacing[2] * across]
        slice_.RescaleSlope, slice_.RescaleIntercept = 2, -1024
        slice_.PixelData = np.ascontiguousarray(stored[..., k], dtype=np.uint16).tobytes()
        # Names that do not sort as the slices do.
        slice_.save_as(folder / f"IM{(7 * k) % 100:03d}", enforce_file_format=True)
    lps = np.eye(4)
    lps[:3] = np.column_stack([down * spacing[0], along * spacing[1], across * spacing[2], origin])
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ lps


def values(seed=0, shape=(14, 10, 9)):
    return np.random.default_rng(seed).integers(0, 1200, shape)


@pytest.mark.parametrize("orientation", [AXIAL, CORONAL, OBLIQUE])
@pytest.mark.parametrize("numbers", ["in order", "backwards", "none"])
def test_every_voxel_is_where_its_file_says(tmp_path, orientation, numbers):
    stored, folder = values(), tmp_path / "series [1]"
    affine = write_series(folder, stored, orientation)
    for file in folder.iterdir():
        slice_ = pydicom.dcmread(file)
        slice_.InstanceNumber = {"in order": slice_.InstanceNumber, "backwards": -slice_.InstanceNumber}.get(numbers)
        slice_.save_as(file)
    (folder / "README.txt").write_text("no slice")
    scan = load_scan(folder, modality="ct")
    back = np.linalg.inv(affine)
    for cell in [(0, 0, 0), (1, 2, 3), *np.ndindex(2, 3, 2)]:
        row, column, k = np.round(back @ scan.affine @ [*cell, 1.0], 4)[:3]
        assert (row % 1, column % 1, k % 1) == (0, 0, 0)
        assert scan.raw[cell] == 2 * stored[int(row), int(column), int(k)] - 1024
    assert sorted(scan.spacing) == pytest.approx([0.7, 0.8, 2.5], rel=1e-5)


def test_a_folder_of_files_and_series_is_searched(tmp_path):
    for k in range(2):
        write_series(tmp_path / f"patient{k}" / "study" / "ct", values(k))
    (tmp_path / "patient0" / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM")
    for name, field in (
        ("scout", {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}),
        ("contours", {"SOPClassUID": RT}),
    ):
        write_series(tmp_path / name, values())
        change(tmp_path / name, lambda k, slice_, field=field: slice_.update(field))
    scans, damaged = open_scans([tmp_path], "ct", say=str)
    assert [scan.name for scan in scans] == ["patient0/study/ct", "patient1/study/ct"] and not damaged


def change(folder, edit, only=None):
    """Change the fields of a series' files, which need not be in the order of its slices."""
    for k, file in enumerate(sorted(folder.iterdir())):
        if only is None or k == only:
            slice_ = pydicom.dcmread(file)
            edit(k, slice_)
            slice_.save_as(file)


def tilt(k, slice_):
    slice_.ImagePositionPatient = [0.0, 0.3 * float(slice_.ImagePositionPatient[2]), slice_.ImagePositionPatient[2]]


@pytest.mark.parametrize(
    ("name", "edit", "only", "message"),
    [
        ("placeless", lambda k, s: s.pop("ImagePositionPatient"), 2, "ImagePositionPatient"),
        ("wide", lambda k, s: setattr(s, "PixelSpacing", [0.9, 0.8]), 3, "its slices differ in PixelSpacing"),
        ("turned", lambda k, s: setattr(s, "ImageOrientationPatient", [0, 1, 0, -1, 0, 0]), 3, "differ in ImageOrient"),
        ("tilted", tilt, None, r"shifted against each other \(a tilted gantry\)"),
        ("counts", lambda k, s: s.update({"Modality": "PT", "Units": "CNTS"}), None, "a PET in CNTS, neither in SUV"),
        ("activity", lambda k, s: s.update({"Modality": "PT", "Units": "BQML"}), None, "lacks the patient's weight"),
        ("frames", lambda k, s: setattr(s, "NumberOfFrames", 9), None, "a file holds several slices"),
        ("cut", lambda k, s: setattr(s, "PixelData", s.PixelData[:-60]), 3, "pixel data is less than expected"),
    ],
)
def test_what_cannot_be_placed_is_refused(tmp_path, name, edit, only, message):
    write_series(tmp_path / name, values())
    change(tmp_path / name, edit, only)
    with pytest.raises(ValueError, match=f"{name} cannot be read as a DICOM series: .*{message}"):
        read_series(tmp_path / name)
    with pytest.raises(ValueError, match="1 of 1 scans cannot be used"):
        open_scans([tmp_path], "ct")


def test_what_is_no_whole_series_is_named(tmp_path):
    write_series(tmp_path / "gap", values(shape=(14, 10, 60)), skip=[57])
    with pytest.raises(ValueError, match=r"gap cannot be read .*: a slice lies \d.\d+ mm off an even spacing"):
        read_series(tmp_path / "gap")
    write_series(tmp_path / "two", values())
    write_series(tmp_path / "two" / "more", values(1))
    for file in (tmp_path / "two" / "more").iterdir():
        file.rename(tmp_path / "two" / f"b{file.name}")
    with pytest.raises(ValueError, match="two .* holds 2 series, sort them into a folder each"):
        read_series(tmp_path / "two")
    write_series(tmp_path / "one", values(shape=(14, 10, 1)))
    with pytest.raises(ValueError, match="one .* holds one slice"):
        read_series(tmp_path / "one")


def test_positions_may_be_rounded(tmp_path):
    write_series(tmp_path / "fine", values(shape=(8, 8, 40)), spacing=(0.7, 0.8, 0.625))
    change(
        tmp_path / "fine",
        lambda k, s: setattr(s, "ImagePositionPatient", [round(float(p), 1) for p in s.ImagePositionPatient]),
    )
    assert load_scan(tmp_path / "fine", modality="ct").spacing[2] == pytest.approx(0.625, abs=0.002)
