"""What a run goes on from: the newest good checkpoint, more steps, the same regions; and what cannot be is said."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from s2dc_core.pretraining import Pretraining, pretrain
from s2dc_core.training.checkpoints import READ
from s2dc_core.training.loop import drive
from tests.training.test_checkpoints import SCANS, SHORT

FOUR = replace(SHORT, batch=4, steps=4)


class Stop(Exception):
    """Somebody's own."""


def stop_at(step):
    def stop(run):
        if len(run.history) == step:
            raise Stop

    return stop


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run of four steps that was stopped after the third, and its four losses if it had not been."""
    folder = tmp_path_factory.mktemp("runs") / "stopped"
    with pytest.raises(Stop):
        pretrain(FOUR, SCANS, progress=False, folder=folder, save_every=1, on_step=stop_at(3))
    return folder, pretrain(FOUR, SCANS, progress=False).history


@pytest.fixture
def run(stopped, tmp_path):
    """A copy of it, and its losses."""
    return shutil.copytree(stopped[0], tmp_path / "run"), stopped[1]


def damage(file, how):
    data = bytearray(file.read_bytes())
    if how == "cut":
        del data[len(data) // 2 :]
    elif how == "empty":
        data.clear()
    elif how == "zeroed":
        data[-2000:-1000] = bytes(1000)
    file.write_bytes(data)
    if how == "missing":
        file.unlink()


@pytest.mark.parametrize(
    ("name", "how"),
    [("model.safetensors", "zeroed"), ("state.pt", "zeroed"), ("state.pt", "cut"), ("recipe.json", "empty")],
)
def test_a_damaged_checkpoint_gives_way_to_the_one_before(run, capsys, name, how):
    folder, losses = run
    damage(folder / "step_0000003" / name, how)
    seen = []
    resumed = pretrain(
        FOUR, SCANS, progress=False, folder=folder, resume=True, on_step=lambda run: seen.append(len(run.history))
    )
    assert seen == [3, 4] and resumed.history == losses
    said = capsys.readouterr().err
    assert f"the checkpoint {folder / 'step_0000003'} cannot be read (" in said
    assert "it now lies in step_0000003.damaged, and the run goes on after step 2" in said
    assert (folder / "step_0000003.damaged" / "encoder.safetensors").exists()


def test_a_checkpoint_that_was_taken_away_gives_way_too(run):
    folder, losses = run
    for name in (*READ, "recipe.json"):
        (folder / "step_0000003" / name).unlink()
    assert len(Pretraining.resume(folder, SCANS).history) == 2
    assert pretrain(FOUR, SCANS, progress=False, folder=folder, resume=True).history == losses


def test_where_all_are_damaged_each_is_named_and_nothing_is_started(run):
    folder, _ = run
    for place in folder.glob("step_*"):
        damage(place / "state.pt", "cut")
    before = sorted(folder.rglob("*"))
    with pytest.raises(ValueError, match="no checkpoint in .*step_0000003 .*step_0000002 .*step_0000001 .*new folder"):
        pretrain(FOUR, SCANS, progress=False, folder=folder, resume=True)
    assert sorted(folder.rglob("*")) == before


def test_a_checkpoint_is_not_taken_for_a_runs_folder(run, monkeypatch):
    """A run in it would be lost with it, some checkpoints later."""
    folder, _ = run
    mend = f"is a checkpoint of a run: give the folder of the run, {folder.resolve()}$"
    places = [folder / "step_0000002", folder / "step_0000009", folder / "step_0000003" / "again"]
    for place in places:
        for resume in (True, False):
            with pytest.raises(ValueError, match=mend):
                pretrain(FOUR, SCANS, progress=False, folder=place, resume=resume)
    monkeypatch.chdir(folder / "step_0000002")
    with pytest.raises(ValueError, match=mend):
        pretrain(FOUR, SCANS, progress=False, folder=".", resume=True)
    assert len(Pretraining.resume(folder / "step_0000002", SCANS).history) == 2
    assert not (folder / "step_0000009").exists() and not (folder / "step_0000003" / "again").exists()
    with pytest.raises(ValueError, match=r"quarantine.json is a file: give the folder of the run"):
        pretrain(FOUR, SCANS, progress=False, folder=folder / "quarantine.json")


@pytest.mark.parametrize(("batch", "accumulate"), [(2, 2), (1, 4)])
def test_the_regions_of_a_step_may_come_in_other_batches(run, batch, accumulate):
    folder, losses = run
    config = replace(FOUR, batch=batch, accumulate=accumulate)
    resumed = pretrain(config, SCANS, progress=False, folder=folder, resume=True)
    assert np.array(resumed.history) == pytest.approx(np.array(losses), abs=1e-4)
    assert Pretraining.resume(folder, SCANS).regions == 16


def test_fewer_regions_a_step_are_refused(run, monkeypatch):
    folder, _ = run
    with pytest.raises(ValueError, match="4 regions, not batch=1 x accumulate=2 x 1 process: give batch=1 acc"):
        pretrain(replace(FOUR, batch=1, accumulate=2), SCANS, progress=False, folder=folder, resume=True)
    with pytest.raises(ValueError, match="4 regions, not batch=1 x accumulate=2 x 1 process"):
        resumed = Pretraining.resume(folder, SCANS)
        resumed.config = replace(FOUR, batch=1, accumulate=2)
        drive(resumed, progress=False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="not batch=4 x accumulate=1 x 2 processes: give batch=1 accumulate=2 or"):
        pretrain(FOUR, SCANS, progress=False, folder=folder, resume=True)


def test_steps_may_be_raised_which_is_said(run, capsys):
    folder, losses = run
    more = replace(FOUR, steps=6)
    resumed = pretrain(more, SCANS, progress=False, folder=folder, resume=True)
    assert len(resumed.history) == 6 and resumed.history[:3] == losses[:3]
    rate = FOUR.learning_rate * 0.5 * (1 + np.cos(np.pi / 4))  # a step after the two of the warm-up, of four
    assert f"steps: 4 before, 6 now: from step 3 on the learning rate is that of a run of 6 steps, {rate:.3g} now" in (
        capsys.readouterr().err
    )
    assert Pretraining.resume(folder, SCANS).config == more
    with pytest.raises(ValueError, match="has taken 6 steps, more than steps=5"):
        pretrain(replace(FOUR, steps=5), SCANS, progress=False, folder=folder, resume=True)


def test_an_error_before_a_step_was_taken_leaves_the_folder_to_another_recipe(tmp_path, monkeypatch):
    real = Pretraining.forward

    def too_large(run, prepared):
        if run.config.batch > 1:
            raise torch.OutOfMemoryError("out of memory")
        return real(run, prepared)

    monkeypatch.setattr(Pretraining, "forward", too_large)
    with pytest.raises(torch.OutOfMemoryError) as error:
        pretrain(SHORT, SCANS, progress=False, folder=tmp_path)
    assert error.value.__notes__ == ["at step 0"] and not list(tmp_path.iterdir())
    run = Pretraining(SHORT, SCANS)
    run.save(tmp_path / "old")  # as versions of before did
    assert len(pretrain(replace(SHORT, batch=1, steps=1), SCANS, progress=False, folder=tmp_path / "old").history) == 1
    for resume in (False, True):
        folder = tmp_path / str(resume)
        with pytest.raises(torch.OutOfMemoryError):
            pretrain(SHORT, SCANS, progress=False, folder=folder)
        retried = pretrain(replace(SHORT, batch=1, steps=1), SCANS, progress=False, folder=folder, resume=resume)
        assert len(retried.history) == 1


def test_an_error_beside_a_step_keeps_the_state_after_it(tmp_path):
    """Such as of a case that cannot be scored, in a look at the selection of a fine-tuning."""

    def look(run):
        if len(run.history) == 2:
            raise ValueError("a case cannot be read")

    with pytest.raises(ValueError, match="a case cannot be read") as error:
        drive(Pretraining(SHORT, SCANS), tmp_path, progress=False, on_every=look)
    assert error.value.__notes__ == [f"after step 2; the state before it is in {tmp_path / 'step_0000002'}"]
    assert len(Pretraining.resume(tmp_path, SCANS).history) == 2


def test_an_error_while_weights_change_keeps_nothing_of_it(tmp_path, monkeypatch):
    """Half of them may have moved; the checkpoint before is the newest whole state."""
    real = torch.optim.AdamW.step

    def half(optimiser, *arguments, **options):
        if optimiser.state and optimiser.state[optimiser.param_groups[0]["params"][0]]["step"] == 2:
            raise torch.OutOfMemoryError("out of memory")
        return real(optimiser, *arguments, **options)

    monkeypatch.setattr(torch.optim.AdamW, "step", half)
    with pytest.raises(torch.OutOfMemoryError) as error:
        pretrain(SHORT, SCANS, progress=False, folder=tmp_path, save_every=1, keep=1)
    assert error.value.__notes__ == [
        "at step 2, while weights were changed: nothing is kept of it, and earlier checkpoints stay"
    ]
    assert [place.name for place in tmp_path.glob("step_*")] == ["step_0000002"]


@pytest.mark.parametrize("kind", [None, MemoryError])
def test_a_step_that_fails_leaves_batch_norms_statistics_alone(tmp_path, monkeypatch, kind):
    """Set apart for a number that is not finite, or ended by an error: as before the step, in every file too."""
    config, before = replace(SHORT, norm="batch", steps=3), []
    prepare = Pretraining.prepare

    def spoilt(run, draws):
        views = prepare(run, draws)
        if len(run.history) == 1 and not before:
            before.append({name: value.clone() for name, value in run.model.state_dict().items()})
            views = views._replace(source=views.source * torch.nan, positives=views.positives * torch.nan)
            after = run.model.student.pooled_head.register_forward_hook
            if kind:
                after(lambda *_: (_ for _ in ()).throw(kind("in the middle of a forward pass")))
        return views

    monkeypatch.setattr(Pretraining, "prepare", spoilt)
    if kind:
        with pytest.raises(kind, match="in the middle"):
            pretrain(config, SCANS, progress=False, folder=tmp_path, most_damaged=1)
        monkeypatch.undo()
        kept = Pretraining.resume(tmp_path, SCANS).model.state_dict()
        for name, value in before[0].items():
            assert torch.equal(kept[name], value), name
        assert any(name.endswith("num_batches_tracked") for name in kept)
    else:
        run = Pretraining(config, SCANS, most_damaged=1)
        run.step()
        with pytest.raises(FloatingPointError) as error:
            run.step()
        for name, value in run.model.state_dict().items():
            assert torch.equal(value, before[0][name]), name
        assert run.set_apart(error.value)
        run.step()
        assert all(torch.isfinite(value).all() for value in run.model.state_dict().values())
