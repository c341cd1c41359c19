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
        slice_.ImageOrientationPatient = [*along, *down]
        slice_.ImagePositionPatient = [*(origin + k * spacing[2] * across)]
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
def test_every_voxel_is_where_its_file_says(tmp_path, orientation):
    stored = values()
    affine = write_series(tmp_path / "series", stored, orientation)
    (tmp_path / "series" / "README.txt").write_text("no slice")
    scan = load_scan(tmp_path / "series", modality="ct")
    back = np.linalg.inv(affine)
    for cell in [(0, 0, 0), (1, 2, 3), *np.ndindex(2, 3, 2)]:
        place = scan.affine @ [*cell, 1.0]
        row, column, k, _ = np.round(back @ place, 6)
        assert (row % 1, column % 1, k % 1) == (0, 0, 0)
        assert scan.raw[cell] == 2 * stored[int(row), int(column), int(k)] - 1024
    assert sorted(scan.spacing) == pytest.approx([0.7, 0.8, 2.5])
    assert (np.diag(scan.affine)[:3] > 0).all() or orientation == OBLIQUE


def test_a_folder_of_files_and_series_is_searched(tmp_path):
    for k in range(2):
        write_series(tmp_path / f"patient{k}" / "study" / "ct", values(k))
    (tmp_path / "patient0" / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM")
    scans, damaged = open_scans([tmp_path], "ct")
    assert len(scans) == 2 and not damaged and scans[0].name == "ct"


def test_what_is_no_whole_series_is_named(tmp_path):
    write_series(tmp_path / "gap", values(), skip=[4])
    with pytest.raises(ValueError, match=r"gap has slices 2.5 mm apart, but 5 mm after instance 4: slices are missing"):
        read_series(tmp_path / "gap")
    write_series(tmp_path / "two", values())
    write_series(tmp_path / "two" / "more", values(1))
    for file in (tmp_path / "two" / "more").iterdir():
        file.rename(tmp_path / "two" / f"b{file.name}")
    with pytest.raises(ValueError, match="two holds 2 DICOM series: sort them into a folder each"):
        read_series(tmp_path / "two")
    write_series(tmp_path / "one", values(shape=(14, 10, 1)))
    with pytest.raises(ValueError, match="one holds one DICOM file"):
        read_series(tmp_path / "one")
    write_series(tmp_path / "placeless", values())
    for file in (tmp_path / "placeless").iterdir():
        slice_ = pydicom.dcmread(file)
        del slice_.ImagePositionPatient
        slice_.save_as(file)
    with pytest.raises(ValueError, match="placeless cannot be read as a DICOM series .*ImagePositionPatient"):
        read_series(tmp_path / "placeless")
    write_series(tmp_path / "cut", values())
    file = sorted((tmp_path / "cut").iterdir())[3]
    file.write_bytes(file.read_bytes()[:-60])
    with pytest.raises(ValueError, match="cut cannot be read as a DICOM series"):
        read_series(tmp_path / "cut")
    with pytest.raises(ValueError, match="5 of 5 scans cannot be used"):
        open_scans([tmp_path], "ct")
