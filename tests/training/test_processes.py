"""Two processes take the steps of one with the same regions; gradients, queue, running statistics and files are one."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from s2dc_core.model import SharedBatchNorm
from s2dc_core.pretraining import Pretraining, pretrain
from s2dc_core.training import processes
from s2dc_core.training.processes import Processes
from tests.training.test_checkpoints import SCANS, SHORT

ROOT = Path(__file__).resolve().parents[2]
LAYER = replace(SHORT, steps=20, batch=2)
# BatchNorm blows up the rounding of float32 to 0.01 of the loss within these steps, in one process too: so in float64.
BATCH = replace(LAYER, batch=8, norm="batch")
PLANE = torch.arange(24).eq(12).expand(24, 24, 24)
"""A body of one plane: a patch of it is mostly air, and no token may match."""
UNMATCHED = [SCANS[0], SCANS[1]._replace(foreground=PLANE)]
CHILD = """
import sys
from dataclasses import replace
from pathlib import Path
from tests.training.test_processes import BATCH, LAYER, SCANS, UNMATCHED, in_double, pretrain

folder = Path(sys.argv[1])
pretrain(replace(LAYER, batch=1), SCANS, progress=False, folder=folder / "layer", save_every=7)
pretrain(replace(LAYER, batch=1), UNMATCHED, progress=False, folder=folder / "unmatched")
run = in_double(replace(BATCH, batch=4))
assert run.processes.count == 2
run.save(folder / "batch")
"""
FAILING = """
import os, sys
from tests.training.test_processes import BATCH, SCANS, Pretraining, pretrain, replace

def poison(name, kind, before):
    def poisoned(run, *arguments):
        bad = len(run.history) == 3 and run.processes.index == 1
        if bad and before:
            raise kind("only here")
        done = work(run, *arguments)
        if bad:
            raise kind("only here")
        return done

    work = getattr(Pretraining, name)
    setattr(Pretraining, name, poisoned)
    return lambda: setattr(Pretraining, name, work)

def inside(run, prepared):
    if len(run.history) == 3 and run.processes.index == 1:
        def fail(*_):
            raise MemoryError("only here")
        run.model.student.token_heads[0][3].register_forward_pre_hook(fail)  # between its two BatchNorms
    return forward(run, prepared)

forward = Pretraining.forward
cases = {
    "read": lambda: poison("_next_draws", OSError, True),
    "views": lambda: poison("prepare", RuntimeError, True),
    "whole": lambda: poison("forward", FloatingPointError, False),
    "inside": lambda: setattr(Pretraining, "forward", inside),
}
for name, spoil in cases.items():
    mend = spoil()
    try:
        pretrain(replace(BATCH, batch=2), SCANS, progress=False, folder=f"{sys.argv[1]}/{name}")
    except Exception as error:
        notes = getattr(error, "__notes__", [])
        os.write(2, f"{name}: {type(error).__name__}: {error} {notes}\\n".encode())  # at once: both write there
    else:
        raise SystemExit("no error")
    mend and mend()
"""
LEAVING = """
import os, signal, sys, torch
from tests.training.test_processes import BATCH, SCANS, Pretraining, pretrain, replace

class Fails(torch.autograd.Function):
    @staticmethod
    def forward(ctx, value):
        return value.clone()

    @staticmethod
    def backward(ctx, gradient):
        if sys.argv[2] == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        raise MemoryError("only here")

def spoilt(run, prepared):
    terms, extra = forward(run, prepared)
    if len(run.history) == 2 and run.processes.index == 1:
        terms = terms._replace(total=Fails.apply(terms.total))
    return terms, extra

forward, Pretraining.forward = Pretraining.forward, spoilt
pretrain(replace(BATCH, batch=2), SCANS, progress=False, folder=sys.argv[1])
"""
PASSING = """
import sys
from tests.training.test_processes import LAYER, SCANS, Pretraining, pretrain, replace

prepare = Pretraining.prepare
def poisoned(run, draws):
    if 7 in [draw.number for draw in draws]:
        raise FloatingPointError("only here")
    return prepare(run, draws)
Pretraining.prepare = poisoned
pretrain(replace(LAYER, steps=6, batch=1), SCANS, progress=False, folder=sys.argv[1], most_damaged=1)
"""
UNEQUAL = """
import os, sys, torch
from tests.training.test_processes import LAYER, SCANS, Pretraining, Processes, SharedBatchNorm, pretrain

own = Processes()
rows = 3 - own.index
found = own.gather(torch.full((rows, 2), float(own.index)))
assert found.tolist() == [[0.0, 0.0]] * 3 + [[1.0, 1.0]] * 2, found

features = torch.randn(5, 2, generator=torch.Generator().manual_seed(0))
shared, usual = SharedBatchNorm(2, affine=False), torch.nn.BatchNorm1d(2, affine=False)
torch.testing.assert_close(shared(features.split((3, 2))[own.index]), usual(features).split((3, 2))[own.index])
torch.testing.assert_close(shared.state_dict(), usual.state_dict())
pretrain(LAYER, SCANS[: 2 - own.index], progress=False)
"""
TERMINATED = """
import os, signal, sys
from tests.training.test_processes import LAYER, SCANS, Pretraining, pretrain

def ask(run, extras):
    after_step(run, extras)
    if run.processes.index == 1:
        os.kill(os.getpid(), signal.SIGUSR1)

after_step, Pretraining.after_step = Pretraining.after_step, ask
pretrain(LAYER, SCANS, progress=False, folder=sys.argv[1])
"""


def in_double(config, scans=SCANS):
    """A run whose every number is float64, after its last step."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        scans = [scan._replace(volume=scan.volume.double(), raw=scan.raw.double()) for scan in scans]
        run = Pretraining(config, scans, device="cpu")
        for _ in range(config.steps):
            run.step()
        return run
    finally:
        torch.set_default_dtype(before)


def launch(tmp_path, source, *arguments):
    """Run a script in two processes on CPUs."""
    script = tmp_path / "child.py"
    script.write_text(source)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(script)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    return subprocess.run(
        [*command, *map(str, arguments)], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    folder = tmp_path_factory.mktemp("together")
    done = launch(folder, CHILD, folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(("folder", "scans"), [("layer", SCANS), ("unmatched", UNMATCHED)])
def test_two_processes_take_the_steps_of_one(together, folder, scans):
    """Also where the second process has no match in its region: it counts nothing there, as in a batch of both."""
    two, one = Pretraining.resume(together / folder, scans, "cpu"), Pretraining(LAYER, scans, "cpu")
    for _ in range(20):
        one.step()
    assert np.array(two.history) == pytest.approx(np.array(one.history), abs=1e-5)
    torch.testing.assert_close(two.model.queue.features, one.model.queue.features, atol=1e-5, rtol=0)
    assert two.model.queue.seen == one.model.queue.seen == 40 and two.regions == one.regions == 40
    assert sorted(entry.name for entry in (together / folder).glob("step_*"))[-1] == "step_0000020"


@pytest.mark.slow
def test_what_two_processes_began_one_takes_on_with_as_many_regions_a_step(together, tmp_path):
    """Each gave one; alone it takes two, at once or one after the other, and no longer one."""
    folder, more = tmp_path / "run", replace(LAYER, steps=22)
    shutil.copytree(together / "layer", folder)
    options = {"progress": False, "device": "cpu", "folder": folder, "resume": True}
    with pytest.raises(ValueError, match="takes 2 regions, not batch=1 x accumulate=1 x 1 process: give batch=1 acc"):
        pretrain(replace(more, batch=1), SCANS, **options)
    resumed = pretrain(replace(more, batch=1, accumulate=2), SCANS, **options)
    again = Pretraining.resume(together / "layer", SCANS, "cpu")
    again.config = more
    again.set_rates()
    assert np.array(resumed.history[20:]) == pytest.approx(np.array([again.step(), again.step()]), abs=1e-5)


@pytest.mark.slow
def test_batch_norm_heads_normalise_over_both(together):
    one = in_double(BATCH)
    state = torch.load(together / "batch" / "step_0000020" / "state.pt", weights_only=True)
    assert np.array(state["history"]) == pytest.approx(np.array(one.history), abs=1e-9)
    kept = load_file(together / "batch" / "step_0000020" / "model.safetensors")
    running = {f"model.{name}": value for name, value in one.model.state_dict().items() if "running_" in name}
    assert len(running) == 16
    for name, value in running.items():
        torch.testing.assert_close(kept[name], value, rtol=1e-9, atol=1e-9)


@pytest.mark.slow
def test_an_error_in_one_stops_both_with_the_state_kept(tmp_path):
    """With heads that exchange numbers within the forward pass; before it, after it and in the middle of it."""
    done = launch(tmp_path, FAILING, tmp_path)
    assert done.returncode == 0, done.stderr
    kinds = {"read": "OSError", "views": "RuntimeError", "whole": "FloatingPointError", "inside": "MemoryError"}
    for name, kind in kinds.items():
        lines = [line for line in done.stderr.splitlines() if line.startswith(f"{name}: ")]
        assert sum(line.startswith(f"{name}: {kind}: ") and "only here" in line for line in lines) == 1, lines
        assert sum("StoppedElsewhere" in line and "another process met an error" in line for line in lines) == 1, lines
        assert all("at step 3" in line and f"{name}/step_0000003" in line for line in lines), lines
        assert len(Pretraining.resume(tmp_path / name, SCANS, "cpu").history) == 3


@pytest.mark.slow
@pytest.mark.parametrize("how", ["fails", "killed"])
def test_the_first_process_keeps_the_state_when_another_leaves_it_in_a_backward_pass(tmp_path, how):
    """Nothing can be agreed on there; the exchange fails when the other one has gone (with gloo, on CPUs)."""
    done = launch(tmp_path, LEAVING, tmp_path / "run", how)
    assert done.returncode != 0 and f"the state before it is in {tmp_path / 'run' / 'step_0000002'}" in done.stderr
    assert ("only here" in done.stderr) == (how == "fails")
    assert len(Pretraining.resume(tmp_path / "run", SCANS, "cpu").history) == 2


@pytest.mark.slow
def test_a_step_that_one_cannot_take_is_passed_over_by_both(tmp_path):
    done = launch(tmp_path, PASSING, tmp_path)
    assert done.returncode == 0, done.stderr
    assert list(json.loads((tmp_path / "quarantine.json").read_text())) == ["step 3, regions from 6"]
    run = Pretraining.resume(tmp_path, SCANS, "cpu")
    assert len(run.history) == 6 and run.regions == 14
    steps = pretrain(replace(LAYER, steps=3), SCANS, progress=False, device="cpu").history
    assert np.array(run.history[:3]) == pytest.approx(np.array(steps), abs=1e-5)


@pytest.mark.slow
def test_a_signal_to_one_ends_both_after_the_same_step(tmp_path):
    done = launch(tmp_path, TERMINATED, tmp_path / "run")
    assert done.returncode != 0 and done.stderr.count("stopped by SIGUSR1 after step 1: its state is in") == 1
    assert json.loads((tmp_path / "run" / "quarantine.json").read_text()) == {}


@pytest.mark.slow
def test_unequal_rows_are_gathered_and_unequal_runs_are_refused(tmp_path):
    """Scans of several sizes give different numbers of sub-volumes; different scans would give different runs."""
    done = launch(tmp_path, UNEQUAL)
    assert (
        done.returncode != 0
        and done.stderr.count("the processes hold different runs (step 0, 2 scans; step 0, 1 ") == 2
    )


def test_accumulated_batches_are_one_batch():
    whole = pretrain(replace(LAYER, steps=5), SCANS, progress=False).history
    halves = pretrain(replace(LAYER, steps=5, batch=1, accumulate=2), SCANS, progress=False).history
    assert np.array(halves) == pytest.approx(np.array(whole), abs=1e-5)


def test_in_one_process_the_shared_batch_norm_is_torchs():
    features = torch.randn(12, 5, generator=torch.Generator().manual_seed(0))
    own, usual = SharedBatchNorm(5, affine=False), torch.nn.BatchNorm1d(5, affine=False)
    assert torch.equal(own(features), usual(features)) and torch.equal(own.running_var, usual.running_var)


def test_processes_that_do_not_find_each_other_are_refused(monkeypatch):
    """A launcher that accelerate does not know: each process would take itself for the only one, and write."""
    alone = SimpleNamespace(num_processes=1, process_index=0, device=torch.device("cpu"))
    monkeypatch.setattr(processes, "Accelerator", lambda **_options: alone)
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(ValueError, match="4 processes were started, and this one finds 1"):
        Processes()
