"""MONAI's dictionaries, transforms by the manifest, and lists that peers' code reads."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
import torch
from monai.data import load_decathlon_datalist, load_decathlon_properties

from s2dc_core.cli import main
from s2dc_core.data import LoadVolumesd, decathlon, items_of, load_manifest, require_cases, transforms_of
from s2dc_core.data.files import read_volume
from tests.data.miniature import MAKERS, SIDE, labels, values


@pytest.fixture(scope="module")
def data_set(tmp_path_factory):
    """A data set's manifest, folder and cases by its name."""

    def made(name):
        root = tmp_path_factory.mktemp(name)
        MAKERS[name](root)
        manifest = load_manifest(name)
        return manifest, root, require_cases(manifest, root)

    return made


def test_a_case_becomes_a_dictionary_of_its_paths(data_set):
    manifest, root, cases = data_set("brats21")
    items = items_of(manifest, cases, "training")
    assert len(items) == sum(case.section == "training" for case in cases) > 0
    item = items[0]
    assert list(item["image"]) == [item[name] for name in ("flair", "t1ce", "t1", "t2")]
    assert item["label"].endswith(f"BraTS2021_{item['patient']}_seg.nii.gz") and item["case"] == item["patient"]
    manifest, root, cases = data_set("cc_ccii")
    item = items_of(manifest, cases)[0]
    assert isinstance(item["image"], str) and item["target"] in (0, 1, 2) and "label" not in item
    manifest, _, cases = data_set("luna16")
    assert "target" not in items_of(manifest, cases)[0]


def test_a_window_goes_to_0_and_1_and_the_grid_to_the_manifests(data_set):
    manifest, _, cases = data_set("btcv")
    item = transforms_of(manifest, ("image", "label"))(items_of(manifest, cases)[0])
    assert item["image"].shape == item["label"].shape == (1, 32, 26, 21)
    assert np.allclose(np.diag(item["image"].affine)[:3], 1.5)
    assert item["image"].min() == 0 and item["image"].max() == 1
    assert set(item["label"].unique().tolist()) <= set(range(14))
    spot = item["image"][0, 16, 13, 10] * 425 - 175
    place = np.array([16, 13, 10]) * 1.5 / SIDE
    stored = values(0, "ct")[tuple(np.round(place).astype(int))]
    assert abs(float(spot) - stored) < 60 or not -175 < stored < 250


def test_a_z_score_is_taken_image_by_image(data_set):
    manifest, _, cases = data_set("brats21")
    item = transforms_of(manifest, ("image", "label"))(items_of(manifest, cases)[0])
    for channel in item["image"]:
        assert abs(float(channel.mean())) < 0.05 and float(channel.std()) == pytest.approx(1, abs=0.05)
    manifest, _, cases = data_set("brats23")
    item = transforms_of(manifest, ("t1n", "t2w"))(items_of(manifest, cases)[0])
    assert item["t1n"].shape == item["t2w"].shape and not torch.equal(item["t1n"], item["t2w"])
    assert isinstance(item["t1c"], str)


def test_values_and_labels_are_those_of_the_files(data_set):
    """CC-CCII's pictures are neither resampled nor clipped: 0..255 to 0..1."""
    manifest, _, cases = data_set("cc_ccii")
    item = transforms_of(manifest)(items_of(manifest, cases)[0])
    assert np.allclose(item["image"][0].numpy() * 255, read_volume(cases[0].images["image"])[0], atol=1e-4)
    manifest, _, cases = data_set("autopet")
    case = next(case for case in cases if case.label)
    item = transforms_of(manifest, ("suv", "label"))(items_of(manifest, [case])[0])
    number = int(str(case.images["suv"]).split("KM-1044")[1].split("/")[0])
    assert np.array_equal(item["label"][0].numpy(), labels(number, [1] if number % 2 else []))


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_the_list_is_one_that_monai_reads(data_set, name, capsys):
    manifest, root, cases = data_set(name)
    assert main(["data", "export", name, "--root", str(root), "--out", str(root / "list.json")]) == 0
    listed = json.loads((root / "list.json").read_text())
    assert listed == decathlon(manifest, cases, root)
    keys = (
        "name",
        "description",
        "reference",
        "licence",
        "tensorImageSize",
        "modality",
        "labels",
        "numTraining",
        "numTest",
    )
    properties = load_decathlon_properties(root / "list.json", keys)
    assert properties["numTraining"] == sum(case.section == "training" for case in cases)
    for section in ("training", "validation"):
        theirs = load_decathlon_datalist(root / "list.json", True, section)
        ours = items_of(manifest, cases, section)
        assert [item["image"] for item in theirs] == [item["image"].rstrip("/") if isinstance(item["image"], str)
                                                     else item["image"] for item in ours]  # fmt: skip
        assert [item.get("label") for item in theirs] == [item.get("label", item.get("target")) for item in ours]
    assert main(["data", "export", name, "--root", str(root), "--out", str(root / "list.json")]) == 2
    assert "exists: give --out another name" in capsys.readouterr().err


def test_a_list_elsewhere_names_the_same_files(data_set, tmp_path):
    manifest, root, cases = data_set("udpet_low_dose")
    (tmp_path / "lists").mkdir()
    file = tmp_path / "lists" / "udpet.json"
    assert main(["data", "export", manifest.name, "--root", str(root), "--out", str(file)]) == 0
    first = load_decathlon_datalist(file, True, "training")[0]
    case = next(case for case in cases if case.section == "training")
    assert Path(first["image"]).resolve() == case.images["low"].resolve()
    assert (file.parent / first["full"]).resolve() == case.images["full"].resolve()
    item = items_of(manifest, [case])[0]
    assert item["image"] == item["low"] == str(case.images["low"]) and item["full"] == str(case.images["full"])


def test_a_channel_on_another_grid_or_in_another_place_is_named(data_set):
    manifest, _, cases = data_set("brats21")
    item = items_of(manifest, cases)[0]
    assert transforms_of(manifest)(item)["image"].shape[0] == 4
    image = nib.load(item["t1"])
    moved = image.affine.copy()
    moved[0, 3] += 80
    nib.save(nib.Nifti1Image(image.get_fdata(), moved), item["t1"])
    with pytest.raises(ValueError, match="t1.nii.gz is on another grid than .*flair.nii.gz, 80 mm away"):
        LoadVolumesd(["image"], manifest)(item)
    nib.save(nib.Nifti1Image(image.get_fdata()[:-1], image.affine), item["t1"])
    with pytest.raises(ValueError, match="t1.nii.gz is on another grid than .*flair.nii.gz, .* voxels"):
        LoadVolumesd(["image"])(item)


def test_a_pet_in_activity_is_no_suv(data_set):
    """Where the manifest has a window of SUV; a z-score takes any unit."""
    manifest, _, cases = data_set("udpet_low_dose")
    folder = cases[0].images["low"]
    for file in folder.iterdir():
        slice_ = pydicom.dcmread(file)
        slice_.Units = "BQML"
        slice_.save_as(file)
    item = items_of(manifest, cases[:1])[0]
    with pytest.raises(ValueError, match="lacks the patient's weight"):
        LoadVolumesd(["low"], manifest)(item)
    assert LoadVolumesd(["low"], load_manifest("udpet"))(item)["low"].shape == (1, 24, 20, 16)
