"""One run at a time in a folder: the second is refused, and a killed one leaves no lock behind."""

import errno
import fcntl
import os
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from s2dc_core.pretraining import Pretraining, pretrain
from s2dc_core.training import reserve_folder
from s2dc_core.training.lock import FolderLock, take_folder
from tests.training.test_checkpoints import SCANS, SHORT
from tests.training.test_interruption import ROOT

TINY = replace(SHORT, steps=3, batch=1)
HOLDING = """
import os, sys, time
from pathlib import Path
from s2dc_core.training.lock import FolderLock, take_folder

held = FolderLock(Path(sys.argv[1]))
if os.fork() == 0:  # as a reader, which outlives its killed run for a while
    time.sleep(60)
    os._exit(0)
print("held", flush=True)
time.sleep(60)
"""


def test_a_second_run_is_refused_and_the_first_goes_on(tmp_path):
    refused, run_of_its_own = [], Pretraining(TINY, SCANS)

    def start_another(run):
        if len(run.history) == 2:
            with pytest.raises(ValueError, match=rf"another run writes in {tmp_path} \(process {os.getpid()} on "):
                pretrain(TINY, SCANS, progress=False, folder=tmp_path, resume=True)
            with pytest.raises(ValueError, match="another run writes"):
                reserve_folder(tmp_path)
            with pytest.raises(ValueError, match="another run writes"):
                run_of_its_own.save(tmp_path)
            refused.append(True)

    result = pretrain(TINY, SCANS, progress=False, folder=tmp_path, save_every=1, on_step=start_another)
    assert refused and len(result.history) == 3
    assert not (tmp_path / ".lock").exists()
    assert pretrain(TINY, SCANS, progress=False, folder=tmp_path, resume=True).history == result.history


def test_an_error_lets_the_folder_go(tmp_path):
    """Such as one in a notebook, whose process lives on."""

    def fail(run):
        raise KeyError("of somebody's own")

    kept = []  # as a notebook keeps the last traceback, with its frames
    for _ in range(2):
        with pytest.raises(KeyError, match="of somebody's own") as error:
            pretrain(TINY, SCANS, progress=False, folder=tmp_path, on_step=fail)
        kept.append(error)
    with pytest.raises(ValueError, match="made on other scans"):
        pretrain(TINY, SCANS, progress=False, folder=tmp_path)
        pretrain(TINY, SCANS[:1], progress=False, folder=tmp_path, resume=True)
    FolderLock(tmp_path).close()


def test_a_folder_is_held_while_a_run_is_made_ready_which_then_takes_it(tmp_path):
    reserve_folder(tmp_path)
    reserve_folder(tmp_path)
    with pytest.raises(ValueError, match="another run writes"):
        FolderLock(tmp_path)
    taken = take_folder(tmp_path)
    with pytest.raises(ValueError, match="another run writes"):
        reserve_folder(tmp_path)
    taken.close()
    take_folder(tmp_path).close()
    assert not list(tmp_path.iterdir())


def test_a_killed_run_leaves_no_lock_behind(tmp_path):
    command = [sys.executable, "-c", HOLDING, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    options = {"stdout": subprocess.PIPE, "text": True, "start_new_session": True}
    with subprocess.Popen(command, cwd=ROOT, env=environment, **options) as child:
        try:
            assert child.stdout.readline() == "held\n"
            with pytest.raises(ValueError, match=rf"another run writes in {tmp_path} \(process {child.pid} on "):
                FolderLock(tmp_path)
            child.kill()
            started = time.monotonic()
            while time.monotonic() - started < 10:
                try:
                    FolderLock(tmp_path).close()
                    break
                except ValueError:
                    time.sleep(0.05)
            else:
                pytest.fail("the killed process still holds the folder")
        finally:
            os.killpg(child.pid, 9)


def test_a_file_that_was_removed_between_is_no_lock(tmp_path, monkeypatch):
    """The first lets go, and removes the file, after the second has opened it and before it locks it."""
    first, real = FolderLock(tmp_path), fcntl.flock

    def late(handle, how):
        first.close()
        real(handle, how)

    monkeypatch.setattr(fcntl, "flock", late)
    second = FolderLock(tmp_path)
    monkeypatch.undo()
    with pytest.raises(ValueError, match="another run writes"):
        FolderLock(tmp_path)
    second.close()


def test_a_file_system_without_locks_is_said(tmp_path, monkeypatch):
    def no_locks(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.warns(UserWarning, match=f"{tmp_path} lies on a file system without locks"):
        FolderLock(tmp_path).close()
