"""The command: a dry run that writes nothing, a run that resumes, and one line for each mistake."""

import json
import shutil

import pytest
import yaml

from s2dc_core.cli import main
from s2dc_core.data import open_scans
from s2dc_core.training import PretrainConfig, Pretraining
from tests.data.test_folder import DAMAGED, make_folder
from tests.training.test_pretrain import CONFIG

SCANS = ["--modality", "ct"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("scans"))


@pytest.fixture
def recipe(tmp_path):
    file = tmp_path / "tiny.yaml"
    file.write_text(yaml.safe_dump({**CONFIG.as_dict(), "steps": 9, "matched_tokens": 8}))
    return str(file)


def test_a_dry_run_reports_and_writes_nothing(folder, recipe, tmp_path, capsys, monkeypatch):
    arguments = ["pretrain", "--config", recipe, *SCANS, "--dry-run", "--scans", str(folder / "more"), "steps=36000"]
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert main([*arguments, "--folder", "run"]) == 0
    report = capsys.readouterr().out
    for words in ("million weights", "sub-volumes a second", "patch_to_patch", "level 1", "for 36,000 steps", "GB"):
        assert words in report
    assert sorted(tmp_path.rglob("*")) == before


def test_what_a_folder_holds_besides_is_named(folder, recipe, tmp_path, capsys):
    arguments = ["pretrain", "--config", recipe, *SCANS, "--scans", str(folder), "--most-damaged", "5", "steps=1"]
    left_out = "left out: 1 by a pattern of what to skip: more/case_00.nii.gz; "
    left_out += "2 label maps: case_01_seg.nii.gz, labelsTr/case_01.nii.gz\n"
    assert main([*arguments, "--dry-run", "--skip", "case_00*"]) == 0
    assert left_out in capsys.readouterr().out
    assert main([*arguments, "--folder", str(tmp_path / "run"), "--skip", "case_00*"]) == 0
    assert left_out in capsys.readouterr().err


def test_a_run_sets_damaged_scans_apart_and_goes_on_where_it_stopped(folder, recipe, tmp_path, capsys):
    run = str(tmp_path / "run")
    arguments = ["pretrain", "--config", recipe, "--scans", str(folder), *SCANS, "--folder", run, "--most-damaged", "5"]
    assert main([*arguments, "--save-every", "4"]) == 0
    assert capsys.readouterr().err.count("set apart: ") == 5
    apart = json.loads((tmp_path / "run" / "quarantine.json").read_text())
    assert sorted(file.rsplit("/", 1)[1] for file in apart) == DAMAGED
    kept = sorted(path.name for path in (tmp_path / "run").glob("step_*"))
    assert kept == ["step_0000004", "step_0000008", "step_0000009"]
    whole = Pretraining.resume(tmp_path / "run", open_scans([folder], "ct", most_damaged=5)[0]).history
    assert main(arguments) == 2
    assert "give --resume to go on" in capsys.readouterr().err
    shutil.rmtree(tmp_path / "run" / "step_0000009")
    assert main([*arguments, "--resume", "--spacing", "10", "10", "10"]) == 2
    assert "was made on other scans: 35 there, such as case_" in capsys.readouterr().err
    assert main([*arguments, "--resume"]) == 0
    again = Pretraining.resume(tmp_path / "run", open_scans([folder], "ct", most_damaged=5)[0]).history
    assert len(again) == 9 and again == whole
    assert main([*arguments, "--resume", "momentum=0.5"]) == 2
    assert "follows another recipe: momentum: 0.99 there, 0.5 here" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("stepz=3", "recipe has no field 'stepz'"),
        ("views.count=3", "views has no field 'count'"),
        ("steps=many", "recipe cannot take steps='many': it must be int"),
        ("steps=1.5", "recipe cannot take steps=1.5: it must be int"),
        ("views.counts=2", "views cannot take counts=2"),
        ("=3", "'=3' is no field=value"),
        ("steps.x=3", "'steps.x=3': steps is one value and has no fields"),
        ("steps=yes", "recipe cannot take steps=True: it must be int"),
        ("views.counts=[2, 2, a]", "views cannot take counts=[2, 2, 'a']"),
        ("views.scale=[0.9]", "scale must be a range of positive factors (low, high), got (0.9,)"),
        ("steps=[1", "'steps=[1': its value is no YAML"),
    ],
)
def test_a_wrong_field_is_named_before_anything_is_read(assignment, message, capsys):
    assert main(["pretrain", "--scans", "/absent", *SCANS, "--folder", "/absent/run", assignment]) == 2
    assert message in capsys.readouterr().err


def test_what_is_missing_is_named(tmp_path, capsys):
    assert main(["pretrain", "--scans", str(tmp_path), *SCANS]) == 2
    assert "a run needs --folder" in capsys.readouterr().err
    assert main(["pretrain", "--scans", str(tmp_path), *SCANS, "--dry-run"]) == 2
    assert "there is no NIfTI or MetaImage file and no DICOM series in" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--device", "xpu:7"], "there is no device 'xpu:7' here"),
        (["seed=-1"], "seed must not be negative, got -1"),
        (["--workers", "-1"], "--workers must be at least 0, got -1"),
        (["--dry-run"], "a dry run is for one process"),
    ],
)
def test_what_would_stop_a_run_later_stops_it_before_scans_are_read(extra, message, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["pretrain", "--scans", "/absent", *SCANS, "--folder", str(tmp_path), *extra]) == 2
    assert message in capsys.readouterr().err


def test_assignments_are_read_as_yaml():
    config = PretrainConfig.from_recipe(
        "teaching", ["learning_rate=1e-4", "views.counts=[3, 2, 1]", "clip=null", "encoder.window=3"]
    )
    assert (config.learning_rate, config.views.counts, config.clip, config.encoder.window) == (1e-4, (3, 2, 1), None, 3)
    plain = PretrainConfig.from_recipe("teaching")
    assert config.views.noise == plain.views.noise and config.encoder.embed_dim == plain.encoder.embed_dim
