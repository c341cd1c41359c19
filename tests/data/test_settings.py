"""How scans were prepared is noted with them, and what differs is said."""

import json

import numpy as np
import pytest
import SimpleITK as sitk

from s2dc_core.data import (
    difference_in_settings,
    facts_of,
    load_manifest,
    load_scan,
    open_scan,
    open_scans,
    settings_in_words,
    settings_of,
    settings_of_manifest,
)

SMALL = {"shape": (32, 24, 32), "spacing": (6.0, 6.0, 6.0)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two CTs and a PET of other voxels."""
    place = tmp_path_factory.mktemp("scans")
    for name, image, side in (("a", "phantom_ct", 6.0), ("b", "phantom_ct", 5.0), ("pet", "phantom_pet", 4.0)):
        scan = open_scan(image, **{**SMALL, "spacing": (side, 6.0, 6.0)})
        written = sitk.GetImageFromArray(np.ascontiguousarray(scan.raw.numpy().T))
        written.SetSpacing(scan.spacing)
        (place / image).mkdir(exist_ok=True)
        sitk.WriteImage(written, place / image / f"{name}.nii.gz")
    return place


CT = {"modality": "ct", "rule": "default", "window": [-175.0, 250.0], "spacing": [6.0, 6.0, 6.0], "scans": 1}


def test_a_scan_says_how_it_was_prepared():
    assert settings_of([open_scan("phantom_ct", **SMALL)]) == [CT]
    [pet, mr] = settings_of([open_scan("phantom_pet", **SMALL), open_scan("phantom_mr_t1", **SMALL)])
    assert pet == {**CT, "modality": "pet", "window": None} and mr == {**CT, "modality": "mr_t1", "window": None}


def test_a_file_does_too_with_any_window_rule_and_spacing(folder):
    file = folder / "phantom_ct" / "a.nii.gz"
    [note] = settings_of([load_scan(file, modality="ct", spacing=(8, 8, 8), rule="paper", window=(-1000, 1000))])
    assert note == {**CT, "rule": "paper", "window": [-1000.0, 1000.0], "spacing": [8.0, 8.0, 8.0]}


@pytest.mark.parametrize("cached", [False, True])
def test_many_scans_are_one_entry_with_the_range_of_their_voxels(folder, tmp_path, cached):
    for _ in range(2):  # the second time out of the cache
        options = {"cache": tmp_path} if cached else {}
        scans, _ = open_scans([folder / "phantom_ct"], "ct", window=(-1000, 500), **options)
        expected = {**CT, "window": [-1000.0, 500.0], "spacing": {"from": [5.0, 6.0, 6.0], "to": [6.0, 6.0, 6.0]}}
        assert settings_of(facts_of(scans)) == settings_of(scans) == [{**expected, "scans": 2}]


def test_mixed_settings_are_all_there(folder):
    scans = [open_scan("phantom_ct", **SMALL)] * 3
    scans += [load_scan(folder / "phantom_ct" / "a.nii.gz", rule="paper"), scans[0]._replace(rule=None, window=None)]
    notes = settings_of(scans)
    assert [(note["rule"], note["window"], note["scans"]) for note in notes] == [
        ("default", [-175.0, 250.0], 3),
        ("paper", [-175.0, 250.0], 1),
        (None, None, 1),
    ]
    assert json.loads(json.dumps(notes)) == notes
    assert "nobody noted" in settings_in_words(notes[-1])


def test_a_manifest_says_what_it_does():
    btcv, pet, brats = map(load_manifest, ("btcv", "phantom_pet", "brats21"))
    [ct] = settings_of_manifest(btcv, ["image"])
    assert (ct["modality"], ct["rule"], ct["window"], ct["manifest"]) == ("ct", "window", [-175, 250], "btcv")
    assert ct["spacing"] == btcv.preprocessing["spacing"]
    assert settings_of_manifest(btcv, ["image"], "default")[0]["rule"] == "default"
    assert settings_of_manifest(pet, pet.input_names)[0]["window"] == [0, 20]
    mr = settings_of_manifest(brats, brats.image_names)
    assert {note["rule"] for note in mr} == {"z-score over nonzero"} and {note["window"] for note in mr} == {None}


ALIKE = [
    ([CT], [{**CT, "manifest": "btcv"}]),
    ([CT], [{**CT, "spacing": [6.05, 6.0, 6.0]}]),
    ([CT], [{**CT, "spacing": None}]),
    ([{**CT, "spacing": {"from": [1, 1, 1], "to": [7, 7, 7]}}], [CT]),
    ([{**CT, "rule": "paper"}], [{**CT, "rule": "window"}]),  # both bring -175..250 HU to 0..1
    ([{**CT, "modality": "mr", "rule": "paper", "window": None}],
     [{**CT, "modality": "mr_t1", "rule": "z-score over volume", "window": None}]),
    ([CT, {**CT, "modality": "pet", "window": None}], [{**CT, "modality": "pet", "window": None}]),
    (None, [CT]),
    ([CT], None),
    ([{**CT, "rule": None}], [CT]),
    ([CT], [{**CT, "rule": None}]),
    ([1, {"rule": "default"}], [CT]),
]  # fmt: skip
DIFFERENT = [
    ([CT], [{**CT, "rule": "window"}], "trained on ct from -175..250 to -2..2, 6 x 6 x 6 mm; given ct from -175"),
    ([CT], [{**CT, "window": [-1000, 500]}], "given ct from -1000..500 to -2..2"),
    ([CT], [{**CT, "spacing": [1.5, 1.5, 2.0]}], "given ct from -175..250 to -2..2, 1.5 x 1.5 x 2 mm"),
    ([CT], [{**CT, "modality": "mr", "window": None}], "given mr, z-score over the body"),
    ([CT], [CT, {**CT, "modality": "pet", "window": None}], "given pet, asinh of the SUV"),
    ([{**CT, "spacing": {"from": [1, 1, 1], "to": [2, 2, 2]}}], [CT], "mm; given ct"),
    ([{**CT, "modality": "mr", "rule": "default", "window": None}],
     [{**CT, "modality": "mr_t1", "rule": "z-score over nonzero", "window": None}], "given mr, z-score over nonzero"),
]  # fmt: skip


@pytest.mark.parametrize(("trained", "here"), ALIKE)
def test_what_is_alike_or_not_known_is_not_spoken_of(trained, here):
    assert difference_in_settings(trained, here) is None


@pytest.mark.parametrize(("trained", "here", "said"), DIFFERENT)
def test_what_differs_is_said(trained, here, said):
    assert said in difference_in_settings(trained, here)
