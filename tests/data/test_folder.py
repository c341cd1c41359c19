"""Whole folders of scans: what can be used is, what cannot is named."""

import gzip

import nibabel as nib
import numpy as np
import pytest

from s2dc_core.data import make_phantom, open_scans


def write(file, values, affine=None):
    nib.save(nib.Nifti1Image(np.asarray(values, dtype=np.float32), np.eye(4) if affine is None else affine), file)


DAMAGED = ["case_04.nii.gz", "case_07.nii.gz", "case_10.nii.gz", "case_13.nii.gz", "case_16.nii.gz"]


def make_folder(place):
    """Forty bodies as NIfTI files, five of them damaged, beside a label map and a note."""
    (place / "more").mkdir()
    body = make_phantom(0, "ct", shape=(24, 16, 24), spacing=(12.0, 12.0, 12.0))
    for number in range(40):
        inner = place / "more" if number % 3 == 0 else place
        write(inner / f"case_{number:02d}.nii.gz", body.volume + number, body.affine)
    write(place / "case_01_seg.nii.gz", body.label, body.affine)
    (place / "notes.txt").write_text("no scan")
    truncated = place / DAMAGED[0]
    truncated.write_bytes(gzip.compress(gzip.decompress(truncated.read_bytes())[:2000]))
    (place / DAMAGED[1]).write_bytes(b"")
    write(place / DAMAGED[2], np.where(np.arange(24)[:, None, None] == 3, np.nan, body.volume))
    write(place / DAMAGED[3], np.zeros((24, 16, 24, 3)))
    write(place / DAMAGED[4], np.full((24, 16, 24), -1000.0))
    (place / "labelsTr").mkdir()
    write(place / "labelsTr" / "case_01.nii.gz", body.label, body.affine)
    return place


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("scans"))


def test_exactly_the_damaged_scans_are_set_apart(folder):
    scans, damaged = open_scans([folder], "ct", most_damaged=5)
    assert len(scans) == 35
    assert sorted(file.rsplit("/", 1)[1] for file in damaged) == DAMAGED
    assert len({scan.name for scan in scans}) == 35
    words = ("cannot be read", "is an empty file", "NaN", "4 dimensions", "everywhere")
    for word, (file, reason) in zip(words, sorted(damaged.items()), strict=True):
        assert word in reason and file in reason


def test_more_damage_than_allowed_names_every_file(folder):
    with pytest.raises(ValueError, match="5 of 40 scans cannot be used, 4 may be") as raised:
        open_scans([folder], "ct", most_damaged=4)
    assert all(name in str(raised.value) for name in DAMAGED)


def test_a_header_that_lies_and_a_link_to_nowhere_are_damage(tmp_path):
    body = make_phantom(0, "ct", shape=(24, 16, 24), spacing=(12.0, 12.0, 12.0))
    for name in ("good.nii", "odd.nii"):
        write(tmp_path / name, body.volume, body.affine)
    odd = bytearray((tmp_path / "odd.nii").read_bytes())
    odd[70:72] = b"\xff\x7f"  # the type of its voxels
    (tmp_path / "odd.nii").write_bytes(bytes(odd))
    (tmp_path / "gone.nii").symlink_to(tmp_path / "nowhere.nii")
    scans, damaged = open_scans([tmp_path], "ct", most_damaged=2, keep_raw=False)
    assert len(scans) == 1 and scans[0].raw is not None and scans[0].raw.data_ptr() == scans[0].volume.data_ptr()
    assert sorted(damaged) == [str(tmp_path / "gone.nii"), str(tmp_path / "odd.nii")]
    assert "cannot be read as a NIfTI" in damaged[str(tmp_path / "odd.nii")]


def test_a_check_sets_scans_apart(folder):
    def refuse(scan):
        raise ValueError("too small")

    with pytest.raises(ValueError, match="14 of 14 scans cannot be used, 99 may be"):
        open_scans([folder / "more"], "ct", most_damaged=99, check=refuse)


def test_files_and_folders_may_overlap(folder):
    scans, _ = open_scans([folder / "more" / "case_00.nii.gz", folder / "more"], "ct")
    assert len(scans) == 14


def test_no_scan_at_all_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=f"there is no NIfTI or MetaImage file and no DICOM series in {tmp_path}"):
        open_scans([tmp_path], "ct")
    with pytest.raises(FileNotFoundError, match="there is no file or folder .*absent"):
        open_scans([tmp_path / "absent"], "ct")
