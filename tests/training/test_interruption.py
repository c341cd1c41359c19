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

from s2dc_core.pretraining import Pretraining, pretrain
from s2dc_core.training.signals import ASKING, Ending
from tests.training.test_checkpoints import SCANS, SHORT

ROOT = Path(__file__).resolve().parents[2]
LONG = replace(SHORT, steps=60)
CHILD = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # else a shell's background job would ignore it
from s2dc_core.pretraining import pretrain
from tests.training.test_interruption import LONG, SCANS
say = lambda run: print(len(run.history), flush=True)
options = {"save_every": 7, "resume": True, "on_step": say, "workers": int(sys.argv[2])}
try:
    pretrain(LONG, SCANS, progress=False, folder=sys.argv[1], **options)
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.fixture(autouse=True)
def usual_handlers():
    """Whatever the tests were started by: a shell's background job ignores Ctrl-C, nohup the end of a terminal."""
    usual = dict.fromkeys(ASKING, signal.SIG_DFL) | {signal.SIGINT: signal.default_int_handler}
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


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


def test_ctrl_c_saves_after_the_step_and_is_a_keyboard_interrupt(tmp_path, capsys):
    def ask(run):
        if len(run.history) == 2:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        pretrain(SHORT, SCANS, progress=False, folder=tmp_path, on_step=ask)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert len(Pretraining.resume(tmp_path, SCANS).history) == 2
    assert f"stopped by SIGINT after step 2: its state is in {tmp_path / 'step_0000002'}" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1])
def test_the_end_of_a_terminal_and_a_schedulers_warning_save_too(tmp_path, number):
    with pytest.raises(SystemExit) as stopped:
        pretrain(SHORT, SCANS, progress=False, folder=tmp_path, on_step=lambda run: os.kill(os.getpid(), number))
    assert stopped.value.code == 128 + number and signal.getsignal(number) == signal.SIG_DFL
    assert len(Pretraining.resume(tmp_path, SCANS).history) == 1


def test_a_second_ctrl_c_ends_at_once(tmp_path, monkeypatch):
    """In the middle of a step, of which nothing stays."""
    real = Pretraining.forward

    def interrupted(run, prepared):
        if len(run.history) == 2:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            raise AssertionError("the second came too late")
        return real(run, prepared)

    monkeypatch.setattr(Pretraining, "forward", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pretrain(SHORT, SCANS, progress=False, folder=tmp_path, save_every=1)
    assert [place.name for place in sorted(tmp_path.glob("*step_*"))] == ["step_0000001", "step_0000002"]


def test_a_launcher_that_passes_ctrl_c_on_does_not_make_two_of_it():
    with pytest.raises(KeyboardInterrupt), Ending(processes=2, silent=True) as ending:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        assert ending.asked == signal.SIGINT
        ending._wait = 0.0  # some seconds later
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("the one after some seconds came too late")


def test_signals_that_are_ignored_stay_so():
    """As nohup does with the end of a terminal."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with Ending() as ending:
        os.kill(os.getpid(), signal.SIGHUP)
        assert ending.asked == 0
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


def test_a_signal_after_the_last_look_still_ends_the_process():
    with pytest.raises(SystemExit) as stopped, Ending(silent=True):
        os.kill(os.getpid(), signal.SIGUSR1)
    assert stopped.value.code == 138


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
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_to_a_run_and_its_readers_still_saves(tmp_path, number, code):
    """As schedulers send it to every process of a job, and a terminal Ctrl-C to all that runs in it."""
    assert run_until(tmp_path, 9, number, workers=2) == code
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
