"""A DICOM folder of which files are damaged, foreign or missing: a whole volume, or a refusal that names the file."""

import numpy as np
import pydicom
import pytest

from s2dc_core.data import load_scan, open_scans
from s2dc_core.data.dicom import folder_holds, is_series, parts_of, read_series
from tests.data.miniature import series as miniature_series
from tests.data.test_dicom import RT, change, values, write_series


@pytest.fixture
def folder(tmp_path):
    """Nine slices IM000 to IM056, in steps of 7; the last two lie at the upper end."""
    write_series(tmp_path / "series", values())
    return tmp_path / "series"


def strip(file):
    """Take the prefix and the file's meta information away, as old scanners write it."""
    plain = pydicom.Dataset()
    for element in pydicom.dcmread(file):
        plain.add(element)
    pydicom.dcmwrite(file, plain, implicit_vr=True, little_endian=True, enforce_file_format=False, overwrite=True)


DAMAGE = {
    "it is empty": lambda file: file.write_bytes(b""),
    "its header is cut": lambda file: file.write_bytes(file.read_bytes()[:300]),
    "it is no DICOM": lambda file: file.write_bytes(b"\0" * 2000),
    "it is a text": lambda file: file.write_text("<html><body>Please sign in</body></html>"),
    "it is a link to nowhere": lambda file: (file.unlink(), file.symlink_to("nowhere")),
    "holds no pixels, it is cut": lambda file: file.write_bytes(file.read_bytes()[:500]),
    "pixel data is less than expected": lambda file: file.write_bytes(file.read_bytes()[:900]),
    "lacks DICOM's prefix, as 1 of 9": strip,
}


@pytest.mark.parametrize("reason", DAMAGE)
@pytest.mark.parametrize("name", ["IM056", "IM028"])
def test_a_damaged_slice_is_named_wherever_it_lies(folder, reason, name):
    DAMAGE[reason](folder / name)
    with pytest.raises(ValueError, match=f"series cannot be read as a DICOM series: {name}.*{reason}"):
        load_scan(folder, modality="ct")
    with pytest.raises(ValueError, match="1 of 1 scans cannot be used"):
        open_scans([folder.parent], "ct")


@pytest.mark.parametrize("name", ["IM057", "other.dcm", ".IM056.dcm.Xy12", "IM056.dcm.part", "unknown", "3.IMA"])
def test_a_file_that_may_have_been_a_slice_is_named(folder, name):
    (folder / name).write_bytes(b"" if name == "IM057" else b"\0\1\2" * 100)
    with pytest.raises(ValueError, match=rf"{name} is no slice \(it is .*fetch the files again, or move away"):
        load_scan(folder, modality="ct")


def test_what_is_known_as_something_else_is_passed_over(folder):
    for name in (
        "README",
        "VERSION.txt",
        "report.json",
        "dicom.csv",
        "preview.png",
        "scan.nii.gz",
        "Thumbs.db",
        ".DS_Store",
    ):
        (folder / name).write_text("a text" if name != "Thumbs.db" else "\0")
    (folder / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM")
    (folder / "more").mkdir()
    other = pydicom.dcmread(folder / "IM000")
    other.SOPClassUID, other.SeriesInstanceUID = RT, "1.2.3"
    other.save_as(folder / "contours")
    scout = pydicom.dcmread(folder / "IM000")
    scout.ImageType, scout.SeriesInstanceUID = ["ORIGINAL", "PRIMARY", "LOCALIZER"], "1.2.4"
    scout.save_as(folder / "scout")
    assert load_scan(folder, modality="ct").raw.shape[2] == 9
    parts = parts_of(folder)
    assert [file.name for file in parts.others] == ["contours", "scout"] and not parts.damaged


def test_a_series_without_prefixes_is_read(folder, tmp_path):
    expected = load_scan(folder, modality="ct")
    for file in folder.iterdir():
        strip(file)
        assert file.read_bytes()[128:132] != b"DICM"
    assert is_series(folder) and folder_holds(folder) == "ct"
    scans, damaged = open_scans([tmp_path], "ct")
    assert len(scans) == 1 and not damaged
    assert np.array_equal(scans[0].raw, expected.raw) and np.array_equal(scans[0].affine, expected.affine)


def test_a_folder_of_damaged_slices_alone_is_damaged_and_not_passed_over(tmp_path):
    (tmp_path / "p1").mkdir()
    for k in range(3):
        (tmp_path / "p1" / f"{k}.dcm").write_bytes(b"")
    write_series(tmp_path / "p2", values())
    with pytest.raises(
        ValueError, match=r"1 of 2 scans.*\n.*p1 cannot be read as a DICOM series: 0.dcm is no slice .*2 more"
    ):
        open_scans([tmp_path], "ct")


def test_two_slices_in_one_place_are_named(folder):
    change(folder, lambda k, slice_: slice_.update({"ImagePositionPatient": [0, 0, 0]}))
    with pytest.raises(ValueError, match="one is missing or double"):
        read_series(folder)


def test_slices_that_the_headers_miss_at_an_end_are_told(folder, tmp_path):
    (folder / "IM056").unlink()
    with pytest.warns(UserWarning) as said:
        change(folder, lambda k, slice_: slice_.update({"ImagesInAcquisition": 9}))
        assert load_scan(folder, modality="ct").raw.shape[2] == 8
    assert any("counts 9 images (ImagesInAcquisition), 8 are there: see that" in str(each.message) for each in said)
    (folder / "IM000").unlink()
    said = []
    assert len(open_scans([folder], "ct", say=said.append)[0]) == 1
    assert "counts its slices from 2 to 8 (InstanceNumber): see that none is missing before them" in said[0]


def test_a_pet_that_counts_more_slices_is_refused(tmp_path):
    miniature_series(tmp_path / "pet", 0, "pet")
    count = len(list((tmp_path / "pet").iterdir()))
    change(tmp_path / "pet", lambda k, slice_: slice_.update({"NumberOfSlices": count}))
    assert load_scan(tmp_path / "pet", modality="pet").raw.shape[2] == count
    sorted((tmp_path / "pet").iterdir())[0].unlink()
    with pytest.raises(
        ValueError, match=rf"its header counts {count} slices \(NumberOfSlices\), {count - 1} are there"
    ):
        load_scan(tmp_path / "pet", modality="pet")


def test_one_file_of_a_series_is_told_to_give_its_folder(folder):
    with pytest.raises(ValueError, match="IM007 is one file of a DICOM series: give the folder"):
        load_scan(folder / "IM007", modality="ct")


def test_links_to_nowhere_alone_are_damage_and_numbers_that_are_none_are_not(folder, tmp_path):
    (tmp_path / "gone").mkdir()
    (tmp_path / "gone" / "1.dcm").symlink_to("nowhere")
    assert folder_holds(tmp_path / "gone") is None and is_series(tmp_path / "gone")
    change(folder, lambda k, slice_: slice_.add_new("InstanceNumber", "LO", "1.5 of 9"))
    scans, damaged = open_scans([tmp_path], "ct", most_damaged=1)
    assert len(scans) == 1 and "1.dcm is no slice (it is a link to nowhere)" in damaged[str(tmp_path / "gone")]
