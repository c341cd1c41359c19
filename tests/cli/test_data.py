"""`s2dc data` as a user types it; on real scans where S2DC_DATA names some."""

import json
import os
import shutil
from pathlib import Path

import pytest
import yaml
from matplotlib.image import imread

from s2dc_core.cli import main
from tests.data.miniature import btcv, cc_ccii
from tests.data.test_manifests import CONTENT
from tests.pretraining.test_pretrain import CONFIG


def test_a_contact_sheet_is_written(tmp_path, capsys, monkeypatch):
    btcv(tmp_path / "btcv")
    monkeypatch.chdir(tmp_path)
    assert main(["data", "preview", "btcv", "--root", str(tmp_path / "btcv"), "--count", "3"]) == 0
    assert capsys.readouterr().out == "written btcv.png\n"
    assert imread(tmp_path / "btcv.png").std() > 0.05
    cc_ccii(tmp_path / "cc_ccii")
    command = ["data", "preview", "cc_ccii", "--root", str(tmp_path / "cc_ccii"), "--out", "sheet.png"]
    assert main(command) == 0 and (tmp_path / "sheet.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["preview", "ct_1k", "--root", "x"], "ct_1k is a collection: give one of its members btcv, tcia_covid19"),
        (["preview", "btcv", "--root", "x", "--count", "0"], "--count must be at least 1, got 0"),
        (["check", "btcv", "--root", "x", "--workers", "0"], "--workers must be at least 1, got 0"),
        (["check", "btcv", "--root", "x"], "there is no folder x"),
        (["check", "absent", "--root", "x"], "there is no manifest 'absent'"),
        (["export", "btcv", "--root", "x", "--out", "y"], "there is no folder x"),
        (["check", "btcv", "--root", "absent=x"], "--root names no folder for btcv: add btcv=DIR"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, arguments, message, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["data", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_data_set_that_is_not_as_it_should_be_is_looked_at_and_not_listed(tmp_path, capsys):
    btcv(tmp_path)
    next(tmp_path.rglob("label0003.nii.gz")).unlink()
    assert main(["data", "export", "btcv", "--root", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "is not btcv as its manifest has it" in error and "label0003" in error
    assert main(["data", "preview", "btcv", "--root", str(tmp_path), "--out", str(tmp_path / "sheet.png")]) == 0
    assert "1 problems with the files: `s2dc data check` lists them" in capsys.readouterr().err


REAL = {
    "headneck": {
        "modality": "ct", "labels": {str(k): f"organ {k}" for k in range(1, 8)},
        "images": {"image": "ct_headneck_{case}.nii.gz"}, "label": "ct_headneck_{case}_seg.nii.gz",
        "split": {"training": list("abcd"), "validation": list("efgh")}, "spacing": [4, 4, 4],
    },
    "sarcoma": {
        "modality": "pet", "labels": {"1": "tumour"}, "pretraining_images": ["pet"], "kinds": {"ct": "ct", "t1": "mr"},
        "images": {"pet": "sarcoma_{patient:1}_pet.nii.gz", "ct": "sarcoma_{patient:1}_ct.nii.gz",
                   "t1": "sarcoma_{patient:1}_t1.nii.gz"}, "label": "sarcoma_{patient:1}_seg.nii.gz",
        "split": {"training": list("abcd"), "validation": list("ef")}, "spacing": [4, 4, 4],
    },
    "hippocampus": {
        "modality": "mr", "labels": {"1": "anterior", "2": "posterior"},
        "images": {"image": "brain_hippocampus_{patient:2}.nii.gz"},
        "label": "brain_hippocampus_{patient:2}_seg.nii.gz",
        "split": {"training": [f"{k:02d}" for k in range(1, 13)], "validation": [f"{k:02d}" for k in range(13, 17)]},
        "spacing": None,
    },
}  # fmt: skip


@pytest.mark.skipif("S2DC_DATA" not in os.environ, reason="S2DC_DATA names no folder with real scans")
@pytest.mark.parametrize("name", sorted(REAL))
def test_real_scans_go_through_check_preview_and_a_step(tmp_path, name, capsys):
    real, folder = REAL[name], Path(os.environ["S2DC_DATA"])
    part = {"images": real["images"], "label": real["label"]}
    content = {
        **CONTENT, "name": name, "modality": real["modality"], "labels": real["labels"],
        "layouts": [{"origin": "a test", "parts": [part]}],
        "split": {"rule": "listed", "origin": "a test, by patient", "sections": real["split"]},
        "preprocessing": {**CONTENT["preprocessing"], "spacing": real["spacing"]},
        **{key: real[key] for key in ("pretraining_images", "kinds") if key in real},
    }  # fmt: skip
    manifest = tmp_path / f"{name}.json"
    manifest.write_text(json.dumps(content))
    cases = sum(map(len, real["split"].values()))
    assert main(["data", "check", str(manifest), "--root", str(folder)]) == 0
    said = capsys.readouterr().out
    assert f"{name}: {cases} cases ({len(real['split']['training'])} training" in said and "no problem found" in said
    sheet = tmp_path / "sheet.png"
    assert main(["data", "preview", str(manifest), "--root", str(folder), "--out", str(sheet), "--count", "4"]) == 0
    assert imread(sheet).std() > 0.05
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(yaml.safe_dump({**CONFIG.as_dict(), "steps": 1, "warmup": 0, "batch": 1, "matched_tokens": 8}))
    run = ["pretrain", "--config", str(recipe), "--manifest", str(manifest), "--root", str(folder)]
    assert main([*run, "--folder", str(tmp_path / "run")]) == 0
    assert (tmp_path / "run" / "step_0000001").is_dir()


@pytest.mark.skipif("S2DC_DATA" not in os.environ, reason="S2DC_DATA names no folder with real scans")
def test_a_real_scan_that_is_in_both_parts_is_found(tmp_path, capsys):
    folder = Path(os.environ["S2DC_DATA"])
    for k, source in enumerate(["01", "02", "01"]):
        shutil.copy(folder / f"brain_hippocampus_{source}.nii.gz", tmp_path / f"case_{k}.nii.gz")
    part = {"images": {"image": "case_{case}.nii.gz"}}
    content = {
        **CONTENT, "modality": "mr", "layouts": [{"origin": "x", "parts": [part]}],
        "split": {"rule": "listed", "origin": "x", "sections": {"training": ["0", "1"], "validation": ["2"]}},
    }  # fmt: skip
    (tmp_path / "tiny.json").write_text(json.dumps(content))
    assert main(["data", "check", str(tmp_path / "tiny.json"), "--root", str(tmp_path)]) == 1
    assert "equals tiny 0 (training and validation), voxel by voxel" in capsys.readouterr().out
