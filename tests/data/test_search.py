"""A folder is searched: every volume in it is read, or named with why it was left out."""

import os

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from s2dc_core.data import facts_of, load_scan, open_scans
from s2dc_core.data.folder import names_of
from s2dc_core.data.search import search
from tests.data.test_dicom import RT, change, write_series
from tests.data.test_dicom import values as stored
from tests.data.test_folder import write

rng = np.random.default_rng(0)
CT = rng.normal(-1000, 20, (12, 10, 8))
CT[3:-3, 3:-3, 2:-2] = rng.normal(40, 10, (6, 4, 4))
CT = CT.round().astype(np.int16)
AFFINE = np.array([[2, 0, 0, 5], [0, 2, 0, -6], [0, 0, 3, 7], [0, 0, 0, 1.0]])


def write_all(place):
    """The same CT under every ending that is read, {stem: name of its file}."""
    place.mkdir(exist_ok=True)
    image = sitk.GetImageFromArray(CT.T)
    image.SetSpacing((2, 2, 3))
    image.SetOrigin((-5, 6, 7))
    image.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))
    for name in ("nii.nii", "gz.nii.gz", "bz.nii.bz2"):
        nib.save(nib.Nifti1Image(CT, AFFINE), place / name)
    for name in ("pair.img", "packed.img.gz"):
        nib.save(nib.Nifti1Pair(CT, AFFINE), place / name)
    for name in ("free.mgz", "surfer.mgh"):
        nib.save(nib.MGHImage(CT, AFFINE), place / name)
    for name in ("meta.mha", "header.mhd", "one.nrrd", "detached.nhdr"):
        sitk.WriteImage(image, str(place / name))
    capitals = {"gz.nii.gz": "UP.NII.GZ", "meta.mha": "META.MHA", "one.nrrd": "ONE.NRRD", "free.mgz": "FREE.MGZ",
                "pair.img": "PAIR.IMG", "pair.hdr": "PAIR.HDR"}  # fmt: skip
    for name, other in capitals.items():
        (place / other).write_bytes((place / name).read_bytes())
    return ["FREE", "META", "ONE", "PAIR", "UP", "bz", "detached", "free", "gz", "header", "meta", "nii",
            "one", "packed", "pair", "surfer"]  # fmt: skip


def test_every_format_gives_the_same_scan_once(tmp_path):
    expected = write_all(tmp_path / "scans")
    said = []
    scans, damaged = open_scans([tmp_path], "ct", say=said.append)
    assert sorted(scan.name for scan in scans) == expected and not damaged and not said
    for scan in scans:
        assert np.array_equal(scan.raw, CT), scan.name
        assert np.allclose(scan.affine, AFFINE, atol=1e-5), scan.name


def test_a_pair_and_a_header_in_capitals_are_read_when_given_alone(tmp_path):
    write_all(tmp_path)
    for name in ("pair.img", "pair.hdr", "META.MHA", "detached.nhdr", "FREE.MGZ"):
        assert np.array_equal(load_scan(tmp_path / name, modality="ct").raw, CT), name


def test_an_analyze_file_says_where_it_cannot_say_which_way_it_lies(tmp_path):
    nib.save(nib.AnalyzeImage(CT, np.diag([-2, 2, 3, 1.0])), tmp_path / "old.img")
    with pytest.warns(UserWarning, match="old.img is an Analyze file, which does not say which side is right"):
        scan = load_scan(tmp_path / "old.img", modality="ct")
    assert np.array_equal(scan.raw, CT[::-1]) and scan.spacing == (2, 2, 3)
    said = []
    open_scans([tmp_path], "ct", say=said.append)
    assert len(said) == 1 and "which side is right" in said[0]


def test_what_is_left_out_is_counted_and_named_by_kind(tmp_path):
    write(tmp_path / "a.nii.gz", CT)
    for name in ("._a.nii.gz", ".cache/old.nii.gz", ".git/config"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    for name in ("b.mnc", "c.npy", "d.PAR", "e.nii.zst", "f.raw", "g.img", "h.hdr", "notes.txt", "table.csv"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "1.png").write_bytes(b"x")
    write_series(tmp_path / "contours", stored())
    change(tmp_path / "contours", lambda k, slice_: slice_.update({"SOPClassUID": RT}))
    (tmp_path / "low dose").mkdir()
    write(tmp_path / "low dose" / "a.nii.gz", CT)
    os.symlink(tmp_path / "a.nii.gz", tmp_path / "z.nii.gz")
    said = []
    scans, damaged = open_scans([tmp_path], "ct", skip=["low*/*"], say=said.append)
    assert [scan.name for scan in scans] == ["a"] and not damaged
    assert said[0].removeprefix("left out: ").split("; ") == [
        "2 hidden: ._a.nii.gz, .cache",
        "5 in formats that are not read (convert them to NIfTI): b.mnc, c.npy, d.PAR and 2 more",
        "2 halves of a pair of .hdr and .img: g.img, h.hdr",
        "1 folders of DICOM without an image of CT, MR or PET: contours",
        "1 folders of pictures (give such a folder itself if it is a scan): pictures",
        "1 by a pattern of what to skip: low dose/a.nii.gz",
        "1 under another name taken already: z.nii.gz",
    ]


def test_where_nothing_is_found_what_was_left_out_is_named(tmp_path):
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "1.png").write_bytes(b"x")
    wanted = r"there is no NIfTI .*\n  left out: 1 folders of pictures .*: p; 1 places that hold no scan: "
    with pytest.raises(ValueError, match=wanted):
        open_scans([tmp_path], "ct")


def test_links_are_followed_and_do_not_go_round(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "p1").mkdir(parents=True)
    write(elsewhere / "p1" / "ct.nii.gz", CT)
    place = tmp_path / "place"
    place.mkdir()
    (place / "p1").symlink_to(elsewhere / "p1")
    (place / "again").symlink_to(place)
    (place / "gone.nii.gz").symlink_to(tmp_path / "nowhere")
    found = search([place])
    assert [below.as_posix() for below in found.files.values()] == ["gone.nii.gz", "p1/ct.nii.gz"]


def test_a_place_with_nothing_in_it_is_named(tmp_path):
    write(tmp_path / "a.nii.gz", CT)
    (tmp_path / "empty").mkdir()
    with pytest.warns(UserWarning, match="left out: 1 places that hold no scan: .*empty"):
        scans, _ = open_scans([tmp_path / "a.nii.gz", tmp_path / "empty"], "ct")
    assert len(scans) == 1


def test_series_of_another_modality_are_left_out_of_a_search_and_refused_when_given(tmp_path):
    write_series(tmp_path / "study" / "ct", stored())
    write_series(tmp_path / "study" / "pet", stored())
    change(tmp_path / "study" / "pet", lambda k, slice_: slice_.update({"Modality": "PT"}))
    with pytest.warns(UserWarning, match="left out: 1 DICOM series of another modality: .*pet"):
        scans, damaged = open_scans([tmp_path], "ct")
    assert [scan.name for scan in scans] == ["ct"] and not damaged
    with pytest.raises(ValueError, match='pet is a DICOM series of pet, not ct: give modality="pet" or leave it out'):
        load_scan(tmp_path / "study" / "pet", modality="ct")
    with pytest.raises(ValueError, match="2 of 2 scans cannot be used"):
        open_scans([tmp_path], "mr")


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (["p1/ct.nii.gz", "p2/ct.nii.gz"], ["p1/ct", "p2/ct"]),
        (["a/x/ct.nii", "b/x/ct.nii", "b/y/ct.nii"], ["a/x/ct", "b/x/ct", "b/y/ct"]),
        (["s/p1/ct.nii", "s/p2/ct.nii", "s/p3/mr.nii"], ["p1/ct", "p2/ct", "mr"]),
        (["a.nii", "a.nii.gz", "b.mha"], ["a.nii", "a.nii.gz", "b"]),
        (["CASE_1.NII.GZ", "case 2.img", "1.2.3.mhd"], ["CASE_1", "case 2", "1.2.3"]),
    ],
)
def test_names_are_the_shortest_that_tell_scans_apart(tmp_path, files, names):
    assert names_of([tmp_path / file for file in files]) == names


@pytest.mark.parametrize("cached", [False, True])
def test_scans_of_one_file_name_are_called_by_their_folders(tmp_path, cached):
    for k, name in enumerate(("p1", "p2", "p3")):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "ct.nii.gz", CT + k)
        write(tmp_path / name / f"other {k}.nii.gz", CT + k)
    (tmp_path / "p1" / "ct.nii.gz").write_bytes(b"damaged, and known by its name all the same")
    write_series(tmp_path / "p1" / "study" / "series", stored(1))
    write_series(tmp_path / "p2" / "study" / "series", stored(2))
    options = {"cache": tmp_path / ".cache"} if cached else {}
    wanted = ["other 0", "p2/ct", "other 1", "p3/ct", "other 2", "p1/study/series", "p2/study/series"]
    for _ in range(2):  # once from the files, once from the cache
        scans, damaged = open_scans([tmp_path], "ct", most_damaged=1, say=str, **options)
        assert [scan.name for scan in scans] == [facts.name for facts in facts_of(scans)] == wanted
        assert [file.rsplit("/", 2)[1:] for file in damaged] == [["p1", "ct.nii.gz"]]
