"""Shared cases are left out where names tell, and said where they do not."""

import re
import shutil

import numpy as np
import pydicom
import pytest
import yaml

from s2dc_core.cli import main
from s2dc_core.cli.data import pretraining_cases, roots_of
from s2dc_core.data import exclude_overlaps, load_all, load_manifest, open_scans, require_cases
from s2dc_core.data.dicom import series_uid
from s2dc_core.pretraining import Pretraining
from tests.data.miniature import (
    MAKERS,
    adni_cls,
    brats21,
    brats23,
    flare23,
    lidc_idri,
    luna16,
    msd_spleen,
    nifti,
    series,
    values,
)  # fmt: skip
from tests.pretraining.test_pretrain import CONFIG


def cases_of(tmp_path, *makers):
    """Manifests and all cases of some small trees."""
    for maker in makers:
        maker(tmp_path / maker.__name__)
    manifests = [load_manifest(maker.__name__) for maker in makers]
    return manifests, {each.name: require_cases(each, tmp_path / each.name) for each in manifests}


def test_luna16_gives_way_to_lidc_by_the_series_in_the_headers(tmp_path):
    manifests, cases = cases_of(tmp_path, luna16, lidc_idri)
    name = cases["luna16"][1].parts["series"]
    for file in cases["lidc_idri"][2].images["image"].iterdir():
        slice_ = pydicom.dcmread(file)
        slice_.SeriesInstanceUID = name
        slice_.save_as(file)
    assert series_uid(cases["lidc_idri"][2].images["image"]) == name
    kept, said = exclude_overlaps(cases, {}, *manifests)
    assert [case.name for case in kept["luna16"]] == [cases["luna16"][k].name for k in (0, 2)]
    assert kept["lidc_idri"] == cases["lidc_idri"]
    assert said == ["1 of 3 cases of luna16 left out: lidc_idri holds them too"]


def test_where_one_side_has_no_such_name_it_is_said(tmp_path):
    manifests, cases = cases_of(tmp_path, luna16)
    nifti(tmp_path / "lidc" / "LIDC-IDRI-0001.nii.gz", values(1, "ct"))
    manifests.append(load_manifest("lidc_idri"))
    cases["lidc_idri"] = require_cases(manifests[1], tmp_path / "lidc")
    kept, said = exclude_overlaps(cases, {}, *manifests)
    assert kept == cases and said[0] == "0 of 3 cases of luna16 left out: lidc_idri holds them too"
    assert said[1].startswith("names do not tell of 3 cases of luna16 whether lidc_idri holds them")
    manifests, cases = cases_of(tmp_path, flare23, msd_spleen)
    kept, said = exclude_overlaps({"flare23": cases["flare23"]}, cases, *manifests)
    assert kept["flare23"] == cases["flare23"] and "names do not tell of 3 cases of flare23" in said[1]


def test_no_patient_of_what_is_kept_apart_is_trained_on(tmp_path):
    """Whatever section the patient is in there: those that are scored on would leak most."""
    manifests, cases = cases_of(tmp_path, brats21, brats23)
    kept, said = exclude_overlaps({"brats21": cases["brats21"]}, {"brats23": cases["brats23"][:3]}, *manifests)
    assert [case.patient for case in kept["brats21"]] == [f"{k:05d}" for k in range(3, 8)]
    assert said == ["3 of 8 cases of brats21 left out: brats23 holds them too"]
    kept, _ = exclude_overlaps({"brats23": cases["brats23"]}, {"brats21": cases["brats21"]}, *manifests)
    assert [case.patient for case in kept["brats23"]] == ["00008", "00009", "00010"]
    adni_cls(tmp_path / "adni_cls")
    scored = require_cases(load_manifest("adni_cls"), tmp_path / "adni_cls")
    shared = {case.section: case.patient for case in scored}
    assert set(shared) == {"training", "validation", "test"}
    for k, patient in enumerate([*shared.values(), "002_S_0295"]):
        series(tmp_path / f"adni/ADNI/{patient}/Coreg/2011-06-0{k + 1}_08_30_53.0/I2400{k}", k, "pet")
    manifest = load_manifest("adni")
    datasets = roots_of(manifest, [str(tmp_path / "adni"), f"adni_cls={tmp_path / 'adni_cls'}"])
    found = pretraining_cases(manifest, datasets, without_overlaps=True)
    assert [case.patient for case in found.cases["adni"]] == ["002_S_0295"] and list(found.cases) == ["adni"]
    with pytest.raises(ValueError, match="adni_cls is not trained on: give --exclude-overlaps"):
        pretraining_cases(manifest, datasets)


def test_pre_training_reads_its_sections_and_images_alone_and_says_what_is_known(tmp_path):
    for name, words in (("btcv", "btcv used in ct_1k"), ("udpet", "udpet overlaps with udpet_low_dose")):
        MAKERS[name](tmp_path / name)
        manifest = load_manifest(name)
        if name == "btcv":
            shutil.rmtree(tmp_path / "btcv/RawData/Training/label")
        found = pretraining_cases(manifest, [(manifest, tmp_path / name)])
        assert {case.section for case in found.cases[name]} == {"training"} and not found.problems
        assert any(words in line for line in found.remarks)
    MAKERS["autopet"](tmp_path / "autopet")
    for file in [*(tmp_path / "autopet").rglob("CTres.nii.gz"), *(tmp_path / "autopet").rglob("SEG.nii.gz")]:
        file.unlink()
    manifest = load_manifest("autopet")
    found = pretraining_cases(manifest, [(manifest, tmp_path / "autopet")])
    assert found.cases["autopet"] and all(list(case.images) == ["suv"] for case in found.cases["autopet"])


def test_what_is_missing_counts_as_damaged(tmp_path, capsys):
    MAKERS["btcv"](tmp_path)
    (tmp_path / "RawData/Training/img/img0003.nii.gz").unlink()
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(yaml.safe_dump({**CONFIG.as_dict(), "steps": 2, "matched_tokens": 8}))
    run = ["pretrain", "--config", str(recipe), "--manifest", "btcv", "--root", str(tmp_path), "--dry-run"]
    assert main(run) == 2
    assert "1 cases of btcv cannot be used, 0 may be" in capsys.readouterr().err
    assert main([*run, "--most-damaged", "1"]) == 0
    said = capsys.readouterr()
    assert "set apart: btcv 0003: the split has it in training, and it is not there" in said.err
    assert re.search(r"scans\s+23, and 1 set apart", said.out)


def test_a_collection_is_pre_trained_on_from_the_command_line(tmp_path, capsys):
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(yaml.safe_dump({**CONFIG.as_dict(), "steps": 2, "matched_tokens": 8}))
    roots = []
    for name in ("btcv", "tcia_covid19"):
        MAKERS[name](tmp_path / name)
        roots.append(f"{name}={tmp_path / name}")
    command = ["pretrain", "--config", str(recipe), "--manifest", "ct_1k", "--folder", str(tmp_path / "run")]
    assert main([*command, "--root", *roots, "steps=1"]) == 0
    said = capsys.readouterr()
    assert "known overlap: btcv used in ct_1k" in said.err
    assert [path.name for path in (tmp_path / "run").glob("step_*")] == ["step_0000001"]
    dry = ["pretrain", "--config", str(recipe), "--manifest", "ct_1k", "--dry-run"]
    assert main([*dry, "--root", str(tmp_path), "--exclude-overlaps", "steps=1"]) == 0
    said = capsys.readouterr()
    assert re.search(r"scans\s+3, and 0 set apart", said.out)
    assert "all 24 cases of btcv left out: a downstream task trains on them" in said.err
    assert main([*dry, "--root", str(tmp_path), "steps=1"]) == 0
    assert re.search(r"scans\s+27, and 0 set apart", capsys.readouterr().out)
    assert main([*dry, "--root", str(tmp_path), "bctv=x"]) == 2
    assert "there is no data set 'bctv': did you mean btcv?" in capsys.readouterr().err
    assert main([*dry, "--root", str(tmp_path), "--modality", "mr"]) == 2
    assert "ct_1k is ct, not mr: leave out --modality" in capsys.readouterr().err
    assert main([*dry, "--scans", str(tmp_path)]) == 2
    assert "give either --scans and --modality, or --manifest and --root" in capsys.readouterr().err
    assert main(["pretrain", "--dry-run", "--scans", str(tmp_path)]) == 2
    assert "scans do not say what they are: give --modality" in capsys.readouterr().err
    assert main(dry) == 2
    assert "--root names no folder for btcv" in capsys.readouterr().err


@pytest.mark.parametrize("name", [name for name, manifest in load_all().items() if manifest.members])
def test_every_collection_is_one_run(name, tmp_path):
    """Its members' trees side by side, one spacing, window and rule for all."""
    manifest = load_manifest(name)
    for member in manifest.members:
        MAKERS[member](tmp_path / member)
    found = pretraining_cases(manifest, roots_of(manifest, [str(tmp_path)]))
    assert list(found.cases) == manifest.members and all(found.cases.values())
    assert bool(found.remarks) == (name != "mri_6k")
    chosen = [next(iter(cases[0].images.values())) for cases in found.cases.values()]
    options = {"spacing": manifest.preprocessing["spacing"], "window": manifest.window, "rule": manifest.rule}
    scans, _ = open_scans(chosen, manifest.modality, **options)
    assert np.isfinite(Pretraining(CONFIG, scans * 2).step().total)
