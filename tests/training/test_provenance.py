"""A run's folder says how it was made, and what its weights were made on is not forgotten."""

import json
import subprocess
from dataclasses import replace
from datetime import datetime

import pytest

from s2dc_core.data import open_scan, settings_of
from s2dc_core.downstream import Examples, FinetuneConfig, finetune
from s2dc_core.encoder import Encoder
from s2dc_core.library import open_weights
from s2dc_core.pretraining import PretrainConfig, pretrain
from s2dc_core.training import provenance
from s2dc_core.weights import export_encoder, load_encoder
from tests.downstream.test_finetune import BALLS, CONFIG, SIZES, ball
from tests.pretraining.test_pretrain import CONFIG as PRETRAINING

SHORT = PretrainConfig(**{**vars(PRETRAINING), "steps": 2, "batch": 1})
QUICK = replace(CONFIG, head="linear", steps=2)
CT = {"modality": "ct", "rule": "default", "window": [-175.0, 250.0], "spacing": [6.0, 6.0, 6.0], "scans": 1}


@pytest.fixture(scope="module")
def scans():
    options = {"shape": (32, 32, 32), "spacing": (6.0, 6.0, 6.0)}
    return [open_scan("phantom_ct", **options), open_scan("phantom_pet", **options)]


def starts(folder):
    return json.loads((folder / "run.json").read_text())["starts"]


def test_a_pre_training_says_how_it_was_made(tmp_path, scans):
    before = datetime.now().astimezone().replace(microsecond=0)
    pretrain(SHORT, scans, progress=False, folder=tmp_path, device="cpu", note={"manifest": "mine"})
    [start] = starts(tmp_path)
    assert before <= datetime.fromisoformat(start["started"]) <= datetime.now().astimezone()
    assert start["step"] == 0 and start["device"] == "cpu" and start["processes"] == 1 and start["host"]
    assert start["command"].startswith("python ") and start["manifest"] == "mine" and start["kind"] == "Pretraining"
    assert {"python", "s2dc_core", "torch", "monai", "nibabel"} <= set(start["versions"])
    assert PretrainConfig.from_dict(start["recipe"]) == SHORT
    assert start["scans"] == settings_of(scans) == [CT, {**CT, "modality": "pet", "window": None}]
    encoder, _ = load_encoder(tmp_path / "step_0000002" / "encoder.safetensors")
    assert encoder.trained_on == start["scans"] == open_weights(tmp_path / "step_0000002").trained_on


def test_going_on_adds_an_entry_and_changes_none(tmp_path, scans):
    pretrain(SHORT, scans, progress=False, folder=tmp_path)
    first = starts(tmp_path)
    changed = PretrainConfig(**{**vars(SHORT), "learning_rate": 1e-4})
    for count in (2, 3):  # also where no step is left to take
        pretrain(changed, scans, progress=False, folder=tmp_path, resume=True)
        assert starts(tmp_path)[:1] == first and len(starts(tmp_path)) == count
    last = starts(tmp_path)[-1]
    assert last["step"] == 2 and last["recipe"]["learning_rate"] == 1e-4


def test_without_a_folder_nothing_is_written_and_a_strange_record_is_named(tmp_path, scans, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pretrain(SHORT, scans, progress=False)
    assert not list(tmp_path.iterdir())
    (tmp_path / "run.json").write_text('{"a": 1}')
    with pytest.raises(ValueError, match="run.json is no record of a run's starts .*: move it away"):
        pretrain(SHORT, scans, progress=False, folder=tmp_path)
    assert (tmp_path / "run.json").read_text() == '{"a": 1}'


def test_a_run_that_takes_no_step_leaves_no_entry(tmp_path, scans):
    def fail(run):
        raise RuntimeError("before the first step")

    with pytest.raises(RuntimeError):
        pretrain(SHORT, scans, progress=False, folder=tmp_path, on_step=fail)
    assert not (tmp_path / "run.json").exists()


def test_the_commit_is_that_of_a_checkout_alone(tmp_path, monkeypatch):
    def git(*arguments):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        done = subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    place = tmp_path / "s2dc_core" / "training" / "provenance.py"
    place.parent.mkdir(parents=True)
    place.write_text("")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "first")
    git("tag", "-m", "a tag", "v1")
    monkeypatch.setattr(provenance, "__file__", str(place))
    assert provenance._commit() == git("rev-parse", "HEAD")
    place.write_text("changed")
    assert provenance._commit() == git("rev-parse", "HEAD") + "-dirty"
    inside = tmp_path / ".venv" / "site-packages" / "s2dc_core" / "training" / "provenance.py"
    monkeypatch.setattr(provenance, "__file__", str(inside))  # installed in an environment that lies in some checkout
    assert provenance._commit() is None


# Fine-tuning


def cases(settings, *seeds):
    return Examples([{"name": f"ball {seed}", "seed": seed} for seed in seeds], ball, settings=settings)


def test_a_fine_tuning_says_how_it_was_made_and_so_does_its_encoder(tmp_path):
    learnt = BALLS._replace(training=cases([CT], 0, 1, 2, 3))
    finetune(replace(QUICK, selection=1, look_every=1), learnt, progress=False, folder=tmp_path)
    [start] = starts(tmp_path)
    assert start["kind"] == "Finetuning" and start["scans"] == [CT]
    assert FinetuneConfig.from_dict(start["recipe"]).selection == 1
    assert load_encoder(tmp_path / "step_0000002" / "encoder.safetensors")[0].trained_on == [CT]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([{**CT, "rule": "window"}], "given ct from -175..250 to 0..1, 6 x 6 x 6 mm"),
        ([{**CT, "spacing": [1.5, 1.5, 2.0]}], "given ct from -175..250 to -2..2, 1.5 x 1.5 x 2 mm"),
        ([CT], ""),
        (None, ""),
    ],
)
def test_it_says_where_its_cases_differ_from_what_the_encoder_was_trained_on(tmp_path, capsys, given, said):
    encoder = Encoder(SIZES)
    encoder.trained_on = [CT]
    export_encoder(encoder, tmp_path / "start.safetensors")
    config = replace(QUICK, encoder=None, weights=str(tmp_path / "start.safetensors"), steps=1)
    finetune(config, BALLS._replace(training=cases(given, 0, 1)), progress=False)
    err = capsys.readouterr().err
    assert (f"start.safetensors was trained on ct from -175..250 to -2..2, 6 x 6 x 6 mm; {said}" in err) == bool(said)
    assert ("trained on" in err) == bool(said)


def test_the_courses_weights_say_what_they_were_trained_on():
    for arm in ("contrast", "p2p", "p2s", "s2dc"):
        notes = open_weights(arm).trained_on
        assert [note["modality"] for note in notes] == ["ct", "pet", "mr_t1"]
        assert {note["rule"] for note in notes} == {"default"} and notes[0]["window"] == [-175, 250]
        assert sum(note["scans"] for note in notes) == 48
    [note] = settings_of([open_scan("phantom_ct")])
    assert {**note, "scans": 24} == open_weights("s2dc").trained_on[0]
    assert open_weights("untrained").trained_on is None
