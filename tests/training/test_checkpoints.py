"""Checkpoints: a resumed run is the run that was never interrupted, and nothing half-written stays."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from s2dc_core.losses import LossTerms, S2DCLoss
from s2dc_core.pretraining import PretrainConfig, Pretraining, pretrain
from s2dc_core.training import checkpoints
from s2dc_core.weights import load_encoder
from tests.pretraining.test_pretrain import CONFIG, blobs

SHORT = replace(CONFIG, steps=6, queue=8, matched_tokens=40, clip=1.0)
SCANS = [blobs(0), blobs(1)._replace(name="other")]


def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(tmp_path):
    whole = pretrain(SHORT, SCANS, progress=False)

    class Interrupted(Exception):
        pass

    def interrupt(run):
        if len(run.history) == 4:
            raise Interrupted

    with pytest.raises(Interrupted):
        pretrain(SHORT, SCANS, progress=False, folder=tmp_path, save_every=3, on_step=interrupt)
    assert [part.name for part in sorted(tmp_path.iterdir())] == ["quarantine.json", "run.json", "step_0000003"]
    seen = []
    resumed = pretrain(
        SHORT, SCANS, progress=False, folder=tmp_path, resume=True, on_step=lambda run: seen.append(len(run.history))
    )
    assert seen == [4, 5, 6]
    assert resumed.history == whole.history
    for (name, one), other in zip(whole.model.state_dict().items(), resumed.model.state_dict().values(), strict=True):
        assert torch.equal(one, other), name


def test_only_the_last_checkpoints_stay_and_a_finished_run_stays_finished(tmp_path):
    pretrain(SHORT, SCANS, progress=False, folder=tmp_path, save_every=1)
    assert sorted(folder.name for folder in tmp_path.glob("step_*")) == [f"step_000000{k}" for k in (4, 5, 6)]
    again = pretrain(SHORT, SCANS, progress=False, folder=tmp_path, resume=True)
    assert len(again.history) == 6


def test_a_checkpoint_holds_an_encoder_that_opens(tmp_path):
    result = pretrain(replace(SHORT, steps=2), SCANS, progress=False, folder=tmp_path)
    encoder, report = load_encoder(tmp_path / "step_0000002" / "encoder.safetensors")
    assert not report.missing
    for one, other in zip(encoder.parameters(), result.model.student.encoder.parameters(), strict=True):
        assert torch.equal(one, other)


def test_others_may_read_what_the_folder_lets_them_read(tmp_path):
    """A lab's folder on a shared disk: no file is private to who wrote it."""
    plain = tmp_path / "plain"
    plain.write_text("x")
    place = Pretraining(SHORT, SCANS).save(tmp_path)
    assert {file.stat().st_mode for file in place.iterdir()} == {plain.stat().st_mode}


@pytest.mark.parametrize("where", ["tokens", "loss"])
def test_a_loss_that_turns_nan_keeps_the_state_before_it(tmp_path, monkeypatch, where):
    run = Pretraining(SHORT, SCANS)
    for _ in range(2):
        run.step()
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    queue, regions = run.model.queue.features.clone(), run.regions
    real, calls = S2DCLoss.per_region, []

    def poisoned(loss, query, positive, negatives, student, *rest):
        calls.append(1)
        poison = float("nan") if len(calls) == 3 else 1.0
        if where == "tokens":
            return real(loss, query, positive, negatives, [tokens * poison for tokens in student], *rest)
        return LossTerms(*(term * poison for term in real(loss, query, positive, negatives, student, *rest)))

    monkeypatch.setattr(S2DCLoss, "per_region", poisoned)
    with pytest.raises(FloatingPointError, match=r"at step 2, on .*: .*learning_rate.*step_0000002"):
        pretrain(SHORT, SCANS, progress=False, folder=tmp_path)
    monkeypatch.undo()
    saved = Pretraining.resume(tmp_path, SCANS)
    assert len(saved.history) == 2
    for name, value in saved.model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert torch.equal(saved.model.queue.features, queue) and saved.regions == regions == 4


def test_a_step_that_is_not_finite_may_be_set_apart(tmp_path, monkeypatch):
    """Once; the run passes over its regions, resumed or not, and a second one ends it."""
    prepare, forward = Pretraining.prepare, Pretraining.forward

    def poison(*bad):
        def noted(run, draws):
            return prepare(run, draws), {draw.number for draw in draws}

        def poisoned(run, prepared):
            terms, positives = forward(run, prepared[0])
            return terms._replace(total=terms.total * (float("nan") if prepared[1] & set(bad) else 1.0)), positives

        monkeypatch.setattr(Pretraining, "prepare", noted)
        monkeypatch.setattr(Pretraining, "forward", poisoned)

    poison(4)
    whole = pretrain(SHORT, SCANS, progress=False, folder=tmp_path / "a", most_damaged=1)
    assert len(whole.history) == 6 and np.isfinite(whole.history).all()
    (entry,) = json.loads((tmp_path / "a" / "quarantine.json").read_text()).items()
    assert entry[0] == "step 2, regions from 4" and "the loss is not finite" in entry[1]
    assert "on blobs, other" in entry[1] or "on other, blobs" in entry[1]
    pretrain(replace(SHORT, steps=4), SCANS, progress=False, folder=tmp_path / "b", most_damaged=1)
    run = Pretraining.resume(tmp_path / "b", SCANS)
    assert run.regions == 10 and run.history[:2] == whole.history[:2]
    poison(4, 9)
    with pytest.raises(FloatingPointError, match=r"at step 3, on .*: the loss is not finite.*step_0000003"):
        pretrain(SHORT, SCANS, progress=False, folder=tmp_path / "c", most_damaged=1)
    with pytest.raises(FloatingPointError, match="at step 3"):
        pretrain(SHORT, SCANS, progress=False, folder=tmp_path / "c", most_damaged=1, resume=True)
    assert len(json.loads((tmp_path / "c" / "quarantine.json").read_text())) == 2
    resumed = pretrain(SHORT, SCANS, progress=False, folder=tmp_path / "c", most_damaged=2, resume=True)
    assert len(resumed.history) == 6


def test_a_gradient_that_is_not_finite_stops_before_the_weights_move(monkeypatch):
    run = Pretraining(SHORT, SCANS)
    before = [weight.clone() for weight in run.model.student.parameters()]
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda weights, most: torch.tensor(float("inf")))
    with pytest.raises(FloatingPointError, match="at step 0, on blobs, .*: the gradient is not finite"):
        run.step()
    assert all(torch.equal(a, b) for a, b in zip(before, run.model.student.parameters(), strict=True))


def test_a_crash_while_writing_leaves_the_earlier_checkpoint(tmp_path, monkeypatch):
    run = Pretraining(SHORT, SCANS)
    run.step()
    run.save(tmp_path)
    run.step()

    def crash(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", crash)
    with pytest.raises(OSError, match="disk full"):
        run.save(tmp_path)
    monkeypatch.undo()
    assert len(Pretraining.resume(tmp_path, SCANS).history) == 1


def test_saving_the_same_step_twice_replaces_it(tmp_path):
    run = Pretraining(SHORT, SCANS)
    assert run.save(tmp_path) == run.save(tmp_path)
    assert [entry.name for entry in tmp_path.glob("*step_*")] == ["step_0000000"]


def test_a_run_goes_on_with_another_learning_rate_and_less_memory(tmp_path):
    pretrain(replace(SHORT, steps=6), SCANS, progress=False, folder=tmp_path / "a")
    run = Pretraining(SHORT, SCANS)
    for _ in range(3):
        run.step()
    run.save(tmp_path / "b")
    eased = replace(SHORT, learning_rate=1e-4, gradient_checkpointing=1)
    rates = []

    def note(run):
        rates.append(run.schedule.get_last_lr()[0])

    pretrain(eased, SCANS, progress=False, folder=tmp_path / "b", resume=True, on_step=note)
    expected = Pretraining(eased, SCANS).schedule.lr_lambdas[0]
    assert rates == pytest.approx([1e-4 * expected(step) for step in (4, 5, 6)])
    assert Pretraining.resume(tmp_path / "b", SCANS).config == eased


def test_what_cannot_be_resumed_is_said(tmp_path):
    with pytest.raises(ValueError, match="resume needs the folder"):
        pretrain(SHORT, SCANS, progress=False, resume=True)
    with pytest.raises(FileNotFoundError, match="holds no checkpoint"):
        Pretraining.resume(tmp_path, SCANS)
    pretrain(replace(SHORT, steps=1), SCANS, progress=False, folder=tmp_path)
    with pytest.raises(ValueError, match="holds the checkpoints of a run: give resume=True"):
        pretrain(SHORT, SCANS, progress=False, folder=tmp_path)
    with pytest.raises(ValueError, match="another recipe: .*warmup: 2 there, 3 here"):
        pretrain(replace(SHORT, warmup=3), SCANS, progress=False, folder=tmp_path, resume=True)
    with pytest.raises(ValueError, match=r"made on other scans: 1 there, such as other: ct, \(24, 24, 24\)"):
        Pretraining.resume(tmp_path, SCANS[:1])
    (tmp_path / "step_0000001" / "checkpoint.json").unlink()  # as in those of before there was one
    state = torch.load(tmp_path / "step_0000001" / "state.pt", weights_only=True)
    torch.save(
        {name: value for name, value in state.items() if name != "regions"}, tmp_path / "step_0000001" / "state.pt"
    )
    with pytest.raises(ValueError, match="an earlier version wrote it, without 'regions'"):
        Pretraining.resume(tmp_path, SCANS)
    torch.save(state, tmp_path / "step_0000001" / "state.pt")
    recipe = tmp_path / "step_0000001" / "recipe.json"
    values = json.loads(recipe.read_text())
    recipe.write_text(json.dumps({**values, "hidden": 16}), encoding="utf-8")
    with pytest.raises(ValueError, match="does not fit its own recipe"):
        Pretraining.resume(tmp_path, SCANS)
    recipe.write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match="no checkpoint in .* can be read: the checkpoint .*step_0000001 cannot"):
        Pretraining.resume(tmp_path, SCANS)


def test_a_state_file_that_would_run_code_is_refused(tmp_path):
    pretrain(replace(SHORT, steps=1), SCANS, progress=False, folder=tmp_path)

    class Evil:
        def __reduce__(self):
            return (exec, ("raise SystemExit",))

    torch.save({"optimiser": Evil()}, tmp_path / "step_0000001" / "state.pt")
    with pytest.raises(ValueError, match="cannot be read"):
        checkpoints.load_checkpoint(
            tmp_path / "step_0000001", lambda config: Pretraining(config, SCANS), PretrainConfig
        )
