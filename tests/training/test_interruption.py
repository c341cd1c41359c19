"""A run that is killed, or asked to end, goes on as if nothing had happened."""

import os
import random
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from s2dc_core.training import Pretraining, pretrain
from tests.training.test_checkpoints import SCANS, SHORT

ROOT = Path(__file__).resolve().parents[2]
LONG = replace(SHORT, steps=60)
CHILD = """
import sys
from s2dc_core.training import pretrain
from tests.training.test_interruption import LONG, SCANS
say = lambda run: print(len(run.history), flush=True)
options = {"save_every": 7, "resume": True, "on_step": say, "workers": int(sys.argv[2])}
pretrain(LONG, SCANS, progress=False, folder=sys.argv[1], **options)
"""


def run_until(folder, step, number, workers=0):
    """Start or go on with the run, and send its processes a signal after a step; its exit code."""
    command = [sys.executable, "-c", CHILD, str(folder), str(workers)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    options = {"cwd": ROOT, "env": environment, "stdout": subprocess.PIPE, "text": True, "start_new_session": True}
    with subprocess.Popen(command, **options) as child:
        for line in child.stdout:
            if int(line) == step:
                os.killpg(child.pid, number)
        return child.wait()


@pytest.mark.slow
def test_killed_three_times_the_losses_are_those_of_an_uninterrupted_run(tmp_path):
    for step in sorted(random.Random(0).sample(range(8, 60), 3)):
        assert run_until(tmp_path / "killed", step, signal.SIGKILL) == -signal.SIGKILL
    assert run_until(tmp_path / "killed", None, None) == 0
    assert run_until(tmp_path / "whole", None, None) == 0
    killed, whole = (Pretraining.resume(tmp_path / name, SCANS) for name in ("killed", "whole"))
    assert len(whole.history) == 60 and killed.history == whole.history
    for (name, one), other in zip(killed.model.state_dict().items(), whole.model.state_dict().values(), strict=True):
        assert torch.equal(one, other), name


def test_sigterm_saves_after_the_step_and_ends(tmp_path, capsys):
    whole = pretrain(SHORT, SCANS, progress=False)

    def ask(run):
        if len(run.history) == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as stopped:
        pretrain(SHORT, SCANS, progress=False, folder=tmp_path, on_step=ask)
    assert stopped.value.code == 143 and signal.getsignal(signal.SIGTERM) == before
    assert len(Pretraining.resume(tmp_path, SCANS).history) == 3
    assert f"after step 3: its state is in {tmp_path / 'step_0000003'}, and resume=True" in capsys.readouterr().err
    resumed = pretrain(SHORT, SCANS, progress=False, folder=tmp_path, resume=True)
    assert resumed.history == whole.history


@pytest.mark.slow
def test_a_run_whose_readers_still_wait_does_not_hold_up_the_end():
    """Python ends such helpers by SIGTERM, which they outlive, and joins them."""
    script = (
        "from s2dc_core.training import Pretraining\n"
        "from tests.training.test_interruption import LONG, SCANS\n"
        "run = Pretraining(LONG, SCANS, workers=2)\n"
        "run.step()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=environment, check=True, timeout=120)


@pytest.mark.slow
def test_sigterm_to_a_run_and_its_readers_still_saves(tmp_path):
    """As schedulers send it, to every process of a job."""
    assert run_until(tmp_path, 9, signal.SIGTERM, workers=2) == 143
    assert 9 <= len(Pretraining.resume(tmp_path, SCANS).history) < 60


def test_sigterm_without_a_folder_says_that_nothing_was_kept(capsys):
    with pytest.raises(SystemExit):
        pretrain(SHORT, SCANS, progress=False, on_step=lambda run: os.kill(os.getpid(), signal.SIGTERM))
    assert "stopped by SIGTERM after step 1: nothing was kept" in capsys.readouterr().err


def test_a_run_outside_the_main_thread_leaves_signals_alone():
    found = []
    thread = threading.Thread(
        target=lambda: found.append(pretrain(replace(SHORT, steps=1), SCANS, progress=False).history)
    )
    thread.start()
    thread.join()
    assert len(found[0]) == 1
