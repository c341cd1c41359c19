"""The command: a dry run that writes nothing, a run that resumes, and one line for each mistake."""

import json
import shutil

import pytest
import yaml

from s2dc_core.cli import main
from s2dc_core.cli import pretrain as command
from s2dc_core.data import open_scans
from s2dc_core.pretraining import PretrainConfig, Pretraining
from s2dc_core.training.lock import FolderLock
from tests.data.test_folder import DAMAGED, make_folder
from tests.pretraining.test_pretrain import CONFIG

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
        ("steps=many", "steps must be a whole number, got 'many'"),
        ("steps=1.5", "steps must be a whole number, got 1.5"),
        ("views.counts=2", "views.counts must be a list of whole numbers, got 2"),
        ("=3", "'=3' is no field=value"),
        ("steps.x=3", "'steps.x=3': steps is one value and has no fields"),
        ("steps=yes", "steps must be a whole number, got True"),
        ("views.counts=[2, 2, a]", "views.counts must be a list of whole numbers, got [2, 2, 'a']"),
        (
            "views.scale=[0.9]",
            "views.scale must be a range of positive factors (low, high), within 0.001 and 1000, got [0.9]",
        ),
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
        (["seed=-1"], "seed must be at least 0, got -1"),
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
    assert (config.learning_rate, config.options.views.counts, config.clip, config.encoder.window) == (
        1e-4,
        (3, 2, 1),
        None,
        3,
    )
    plain = PretrainConfig.from_recipe("teaching")
    assert (
        config.options.views.noise == plain.options.views.noise and config.encoder.embed_dim == plain.encoder.embed_dim
    )


@pytest.mark.parametrize("cached", [False, True])
def test_a_run_goes_on_without_scans_that_went_and_shows_its_steps(tmp_path, recipe, capsys, cached):
    (tmp_path / "scans").mkdir()
    make_folder(tmp_path / "scans")
    files = sorted((tmp_path / "scans" / "more").glob("*.nii.gz"))[:5]
    run = tmp_path / "run"
    arguments = ["pretrain", "--config", recipe, *SCANS, "--folder", str(run), "--scans", *map(str, files)]
    arguments += ["--cache", str(tmp_path / "cache")] if cached else []
    assert main([*arguments, "--keep", "1", "--keep-every", "4", "--log-every", "3"]) == 0
    lines = [line.split(",")[0] for line in capsys.readouterr().err.splitlines() if line.startswith("step ")]
    assert lines == ["step 3/9", "step 6/9", "step 9/9"]
    assert sorted(place.name for place in run.glob("step_*")) == ["step_0000004", "step_0000008", "step_0000009"]
    shutil.rmtree(run / "step_0000009")
    files[0].unlink()
    files[1].write_bytes(b"")
    assert main([*arguments, "--resume", "--most-damaged", "1"]) == 2
    said = capsys.readouterr().err
    assert f"{files[0]} does not exist" in said and str(files[1]) in said
    assert main([*arguments, "--resume", "--most-damaged", "2"]) == 0
    assert sorted(json.loads((run / "quarantine.json").read_text())) == [str(file) for file in files[:2]]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--keep", "0"], "--keep must be at least 1, got 0"),
        (["--keep-every", "0"], "--keep-every must be at least 1, got 0"),
        (["--log-every", "-1"], "--log-every must be at least 0, got -1"),
    ],
)
def test_what_is_kept_and_shown_is_checked_first(tmp_path, capsys, option, message):
    assert main(["pretrain", "--scans", "/absent", *SCANS, "--folder", str(tmp_path / "run"), *option]) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_a_second_run_is_refused_before_its_scans_are_read(tmp_path, capsys):
    lock = FolderLock(tmp_path)
    assert main(["pretrain", "--scans", "/absent", *SCANS, "--folder", str(tmp_path)]) == 2
    assert f"another run writes in {tmp_path}" in capsys.readouterr().err
    lock.close()


def test_ctrl_c_ends_the_command_without_a_traceback(tmp_path, recipe, capsys, monkeypatch):
    def interrupted(*_arguments, **_options):
        with pytest.raises(ValueError, match="another run writes"):  # while scans are read, too
            FolderLock(tmp_path / "run")
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "open_scans", interrupted)
    arguments = ["pretrain", "--config", recipe, "--scans", str(tmp_path), *SCANS, "--folder", str(tmp_path / "run")]
    assert main(arguments) == 130
    assert capsys.readouterr().err == ""
