"""Shared cases are left out where names tell, and said where they do not."""

import re

import numpy as np
import pydicom
import pytest
import yaml

from s2dc_core.cli import main
from s2dc_core.cli.data import pretraining_cases, roots_of
from s2dc_core.data import exclude_overlaps, load_all, load_manifest, open_scans, require_cases
from s2dc_core.data.dicom import series_uid
from s2dc_core.training import Pretraining
from tests.data.miniature import MAKERS, adni, adni_cls, brats21, brats23, flare23, lidc_idri, luna16, msd_spleen
from tests.training.test_pretrain import CONFIG


def both(tmp_path, *makers):
    """Manifests and cases of some small trees."""
    manifests, cases = [], {}
    for maker in makers:
        maker(tmp_path / maker.__name__)
        manifest = load_manifest(maker.__name__)
        manifests.append(manifest)
        cases[manifest.name] = require_cases(manifest, tmp_path / maker.__name__)
    return manifests, cases


def test_luna16_gives_way_to_lidc_by_the_series_in_the_headers(tmp_path):
    manifests, cases = both(tmp_path, luna16, lidc_idri)
    name = cases["luna16"][1].parts["series"]
    for file in cases["lidc_idri"][2].images["image"].iterdir():
        slice_ = pydicom.dcmread(file)
        slice_.SeriesInstanceUID = name
        slice_.save_as(file)
    assert series_uid(cases["lidc_idri"][2].images["image"]) == name
    kept, said = exclude_overlaps(manifests, cases)
    assert [case.name for case in kept["luna16"]] == [cases["luna16"][k].name for k in (0, 2)]
    assert kept["lidc_idri"] == cases["lidc_idri"]
    assert said == ["1 of 3 cases of luna16 left out: lidc_idri holds them too"]


def test_patients_that_two_sets_share_are_left_out(tmp_path):
    manifests, cases = both(tmp_path, brats21, brats23)
    kept, said = exclude_overlaps(manifests, {**cases, "brats23": cases["brats23"][:3]})
    assert [case.patient for case in kept["brats21"]] == [f"{k:05d}" for k in range(3, 8)]
    assert said == ["3 of 8 cases of brats21 left out: brats23 holds them too"]
    manifests, cases = both(tmp_path / "adni", adni, adni_cls)
    assert exclude_overlaps(manifests, cases)[0]["adni"] == cases["adni"]


def test_where_names_do_not_tell_it_is_said(tmp_path):
    manifests, cases = both(tmp_path, flare23, msd_spleen)
    kept, said = exclude_overlaps(manifests, cases)
    assert kept == cases
    assert len(said) == 1 and "names do not tell which. Nothing is left out: `s2dc data check`" in said[0]


def test_pre_training_reads_its_sections_alone_and_says_what_is_known(tmp_path):
    MAKERS["btcv"](tmp_path / "btcv")
    MAKERS["udpet"](tmp_path / "udpet")
    for name, words in (("btcv", "btcv used in ct_1k"), ("udpet", "udpet overlaps with udpet_low_dose")):
        manifest = load_manifest(name)
        cases, said = pretraining_cases([(manifest, tmp_path / name)], False)
        assert {case.section for case in cases[name]} == {"training"}
        assert any(words in line for line in said)


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
    assert re.search(r"scans\s+27, and 0 set apart", capsys.readouterr().out)
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
    datasets = roots_of(manifest, [str(tmp_path)])
    cases, said = pretraining_cases(datasets, without_overlaps=True)
    assert list(cases) == manifest.members and all(cases.values())
    assert any("left out" in line for line in said) == (name == "ct_10k")
    chosen = [next(iter(found[0].images.values())) for found in cases.values()]
    options = {"spacing": manifest.preprocessing["spacing"], "window": manifest.window, "rule": manifest.rule}
    scans, _ = open_scans(chosen, manifest.modality, **options)
    assert np.isfinite(Pretraining(CONFIG, scans * 2).step().total)
