"""Label maps and scans: told apart by their values, whatever they are called."""

import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from s2dc_core.data import load_scan, make_phantom, open_scans
from s2dc_core.data.labelmaps import LabelMap, is_label_map, is_packed_as_one, speaks, speaks_plainly
from tests.data.test_folder import write

NEUTRAL, NAMED, PLAINLY = Path("case_1.nii.gz"), Path("lesion_study/case_1.nii.gz"), Path("case_1_seg.nii.gz")
SHAPE = (32, 28, 24)
rng = np.random.default_rng(0)
BODY = np.zeros(SHAPE, bool)
BODY[5:-5, 5:-5, 3:-3] = True
NOISE = ndimage.gaussian_filter(rng.normal(0, 1, SHAPE), 0.7)
MR = np.where(BODY, 120 + 60 * NOISE, 4 * np.abs(rng.normal(0, 1, SHAPE))).clip(0)
EIGHT_BITS = (MR / MR.max() * 255).round()


def labels(numbers, size=6):
    """Boxes of some labels, which overlap."""
    result, draw = np.zeros(SHAPE), np.random.default_rng(1)
    for number in numbers:
        x, y, z = (draw.integers(0, side - size) for side in SHAPE)
        result[x : x + size, y : y + size, z : z + size] = number
    return result


LABELS = {
    "one": labels([1]),
    "one of 255": labels([255]),
    "two": labels([1, 2]),
    "FreeSurfer": labels([2, 3, 17, 41, 53, 1006, 2035]),
    "a hundred": labels(range(1, 105)),
    "to be ignored": np.where(labels([3]) == 3, -1, labels([1, 2])),
    "certainties": np.clip(labels([1]) + rng.normal(0, 0.003, SHAPE), 0, 1),
    "resampled": ndimage.zoom(labels([1, 2, 3, 4], 12), 0.9, order=1),
}
SCANS = {
    "CT of two values": np.where(BODY, 40.0, -1000.0),
    "CT of three values": np.where(labels([1]) == 1, 400.0, np.where(BODY, 40.0, -1000.0)),
    "MR": MR,
    "MR in whole numbers": MR.round(),
    "MR of 8 bits": EIGHT_BITS,
    "MR of 5 bits": (EIGHT_BITS / 8).round(),
    "MR from 0 to 1": MR / MR.max(),
    "MR, z-score": (MR - MR.mean()) / MR.std(),
    "MR, slices repeated": np.repeat(EIGHT_BITS[..., ::4], 4, axis=2),
    "MR, blown up": EIGHT_BITS[:16, :14, :12].repeat(2, 0).repeat(2, 1).repeat(2, 2),
    "without its skull": np.where(BODY, EIGHT_BITS, 0),
    "PET": np.where(BODY, 1 + 0.3 * NOISE, 0.01).clip(0),
    "diffusion in mm2/s": MR / MR.max() * 0.003,
    "shares of one": MR / MR.max() * 0.9,
    "made up": np.where(BODY, 300.0, 0.0),
}


@pytest.mark.parametrize("name", LABELS)
@pytest.mark.parametrize("path", [NEUTRAL, NAMED, PLAINLY])
def test_labels_are_labels_under_any_name(name, path):
    assert is_label_map(LABELS[name].astype(np.float32), path)


@pytest.mark.parametrize("name", sorted(set(SCANS) - {"made up"}))
@pytest.mark.parametrize("path", [NEUTRAL, NAMED])
def test_a_scan_is_a_scan_under_any_name(name, path):
    assert not is_label_map(SCANS[name].astype(np.float32), path)


def test_what_the_values_leave_open_the_name_decides():
    soft = ndimage.gaussian_filter(labels([1], 12), 2)
    for values in (SCANS["made up"], soft, np.zeros(SHAPE)):
        assert not is_label_map(values.astype(np.float32), NEUTRAL)
        assert is_label_map(values.astype(np.float32), PLAINLY)


@pytest.mark.parametrize("kind", ["ct", "pet", "mr_t1", "mr_t2"])
def test_generated_bodies_are_scans_and_their_organs_are_labels(kind):
    body = make_phantom(0, kind, shape=(24, 16, 24), spacing=(12.0, 12.0, 12.0))
    assert not is_label_map(body.volume.astype(np.float32), NAMED)
    assert is_label_map(body.label.astype(np.float32), NEUTRAL)


@pytest.mark.skipif("S2DC_DATA" not in os.environ, reason="S2DC_DATA names no folder of real scans")
def test_every_real_scan_is_one_and_every_real_label_map_is_not():
    files = sorted(Path(os.environ["S2DC_DATA"]).glob("*.nii.gz"))[::6]
    wrong = []
    for file in files:
        values = np.asarray(nib.load(file).dataobj, dtype=np.float32)
        found = [is_label_map(values, path) for path in (NEUTRAL, NAMED)]
        wrong += [] if found == [file.name.endswith("_seg.nii.gz")] * 2 else [file.name]
    assert len(files) > 10 and not wrong


@pytest.mark.parametrize(
    ("name", "speaking", "plain"),
    [
        ("p001_frame01_gt.nii.gz", True, True), ("Case00_segmentation.mhd", True, True), ("SEG.NII.GZ", True, True),
        ("labelsTr/la_003.nii.gz", True, True), ("masks/a.nrrd", True, True), ("aparc+aseg.mgz", True, True),
        ("liverMask.nii", True, True), ("a-seg.nii", True, True), ("x.seg.nrrd", True, True), ("ROI/1.nii", True, True),
        ("ground_truth/1.nii", True, True), ("seg2.nii", True, True), ("sub-01_label-GM_probseg.nii.gz", True, True),
        ("lesion_study/sub-01_T1w.nii.gz", True, False), ("sub-04_label-none_ct.nii.gz", True, False),
        ("roi_flair.nii", True, False), ("unlabeled_case_002.nii.gz", False, False), ("unlabelled_3.nii", False, False),
        ("labelled_scans/a.nii", False, False), ("Maskin_01.nii", False, False), ("unmasked_ct.nii.gz", False, False),
        ("t1_masked.nii.gz", False, False), ("not_labeled.nii", False, False), ("imagesTr/la_003.nii.gz", False, False),
    ],
)  # fmt: skip
def test_names_that_speak(name, speaking, plain):
    assert (speaks(Path(name)), speaks_plainly(Path(name))) == (speaking, plain)


TREES = {
    "beside": ("p1/t1.nii.gz", ["p1/t1_gt.nii.gz", "p1/SEG.nii.gz", "p1/t1_Segmentation.nii.gz", "p1/p1.seg.nrrd"]),
    "another folder": ("images/a.nii.gz", ["masks/a.nii.gz", "labelsTr/a.nii.gz", "ROI/1/a.nii.gz", "manual/a.nii.gz"]),
    "FreeSurfer": ("mri/brain.mgz", ["mri/aseg.mgz", "mri/aparc+aseg.mgz", "mri/filled.mgz"]),
    "no hint": ("b/x1.nii.gz", ["b/x2.nii.gz", "b/liver.nii.gz", "b/tumour core.mha"]),
    "lying names": ("lesion_study/roi_01.nii.gz", ["lesion_study/scan.nii.gz"]),
}


@pytest.mark.parametrize("title", TREES)
@pytest.mark.parametrize("modality", ["mr", "pet", "ct"])
def test_label_maps_beside_a_scan_are_left_out_and_named(tmp_path, title, modality):
    image, maps = TREES[title]
    values = {"mr": MR.round(), "pet": SCANS["PET"], "ct": np.where(BODY, 40 + 10 * NOISE, -1000)}[modality]
    for name in (image, *maps):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        content = (values if name == image else LABELS["two"]).astype(np.float32)
        if file.suffix in (".nrrd", ".mha"):
            sitk.WriteImage(sitk.GetImageFromArray(content.T), str(file))
        else:
            nib.save((nib.MGHImage if file.suffix == ".mgz" else nib.Nifti1Image)(content, np.eye(4)), file)
    said = []
    scans, damaged = open_scans([tmp_path], modality, say=said.append)
    assert [scan.name for scan in scans] == [Path(image).name.split(".")[0]] and not damaged
    (sentence,) = said
    assert sentence.startswith(f"left out: {len(maps)} label maps: ")
    assert sentence.endswith(" and 1 more") == (len(maps) > 3) and sum(name in sentence for name in maps) == min(
        len(maps), 3
    )


def test_a_label_map_that_is_given_as_a_scan_is_refused(tmp_path):
    for name in ("case_01.nii.gz", "case_01_seg.nii.gz"):
        write(tmp_path / name, LABELS["two"])
        for kind in ("mr", "ct", "pet"):
            with pytest.raises(LabelMap, match=f"{name} is a label map, not a scan .*as its label"):
                load_scan(tmp_path / name, modality=kind)
        with pytest.raises(ValueError, match=f"1 of 1 scans cannot be used, 0 may be\n.*{name} is a label map"):
            open_scans([tmp_path / name], "mr")
    with pytest.raises(ValueError, match=r"there is no NIfTI .*\n  left out: 2 label maps"):
        open_scans([tmp_path], "mr")


def test_damaged_label_maps_stop_nobody_and_damaged_scans_do(tmp_path):
    write(tmp_path / "a.nii.gz", MR)
    write(tmp_path / "a_seg.nii.gz", np.zeros((*SHAPE, 3)))  # one channel a structure
    (tmp_path / "a_mask.nii.gz").write_bytes(b"cut")
    scans, damaged = open_scans([tmp_path], "mr", say=str)
    assert len(scans) == 1 and not damaged
    (tmp_path / "lesion_b.nii.gz").write_bytes(b"cut")
    with pytest.raises(ValueError, match="1 of 2 scans cannot be used"):
        open_scans([tmp_path], "mr")


def test_large_label_maps_are_known_by_how_small_they_are_packed(tmp_path, monkeypatch):
    monkeypatch.setattr("s2dc_core.data.labelmaps.MANY", 1000)
    (tmp_path / "masks").mkdir()
    write(tmp_path / "masks" / "a.nii.gz", np.broadcast_to(LABELS["two"].astype(np.uint8)[..., :1], (32, 28, 240)))
    write(tmp_path / "a.nii.gz", MR)
    assert is_packed_as_one(tmp_path / "masks" / "a.nii.gz") and not is_packed_as_one(tmp_path / "a.nii.gz")
    monkeypatch.setattr(
        "s2dc_core.data.labelmaps.is_label_map", lambda values, path: path.parent.name == "masks" and 1 / 0
    )
    scans, damaged = open_scans([tmp_path], "mr", say=str)
    assert len(scans) == 1 and not damaged


def test_scattered_labels_are_known_where_the_file_says_so():
    rng = np.random.default_rng(0)
    values = np.where(rng.random((24, 24, 24)) < 0.4, rng.integers(1000, 1035, (24, 24, 24)), 0).astype(np.float32)
    assert is_label_map(values, Path("sub-01/aseg.mgz"))
    assert not is_label_map(values, Path("lesion/t1.nii.gz"))  # a scan of 8 bits without its skull looks like that
