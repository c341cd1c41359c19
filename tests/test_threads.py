"""A process among others: how long its threads wait awake, how many it takes, and what a user has set stays."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from s2dc_core import threads

ROOT = Path(__file__).resolve().parents[1]
READ = ("GOMP_SPINCOUNT", "KMP_BLOCKTIME", "OMP_WAIT_POLICY", "OMP_NUM_THREADS")
COUNTS = """
import os, threading
import numpy, torch
import s2dc_core
import scipy.linalg
from threadpoolctl import threadpool_info

found = {library["num_threads"] for library in threadpool_info()}
other = threading.Thread(target=lambda: found.add(torch.get_num_threads()))
other.start(), other.join()
print(torch.get_num_threads(), max(found), os.environ.get("OMP_NUM_THREADS"))
"""
FIRST = COUNTS.replace("import numpy, torch\nimport s2dc_core", "import s2dc_core\nimport numpy, torch")


def bare(**settings: str) -> dict[str, str]:
    """This process's environment without what OpenMP and make read, and with these."""
    hidden = (*READ, "LOKY_MAX_CPU_COUNT", "MAKEFLAGS", "MAKELEVEL", "MFLAGS")
    kept = {name: value for name, value in os.environ.items() if name not in hidden}
    return {**kept, "PYTHONPATH": str(ROOT), **settings}


def run(*command: str, settings: dict[str, str], **options) -> subprocess.CompletedProcess:
    done = subprocess.run(command, cwd=ROOT, env=bare(**settings), capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stderr
    return done


def settings_in(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: environment[name] for name in READ if name in environment}


@pytest.fixture
def environment(monkeypatch):
    """An empty one, in place of this process's; and as many cores as the process sees are its own."""
    found = {}
    monkeypatch.setattr(os, "environ", found)
    monkeypatch.setattr(threads, "cpu_count", lambda: 4)
    monkeypatch.setattr(threads, "_cores_seen", lambda: 4)
    return found


def test_waiting_threads_are_told_when_to_sleep(environment):
    threads.share_the_machine()
    assert settings_in(environment) == {"GOMP_SPINCOUNT": threads.SPINS, "KMP_BLOCKTIME": threads.BLOCKTIME}


@pytest.mark.parametrize(
    ("mine", "then"),
    [
        ({"GOMP_SPINCOUNT": "7"}, {"GOMP_SPINCOUNT": "7", "KMP_BLOCKTIME": threads.BLOCKTIME}),
        ({"KMP_BLOCKTIME": "infinite"}, {"GOMP_SPINCOUNT": threads.SPINS, "KMP_BLOCKTIME": "infinite"}),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, {"OMP_WAIT_POLICY": "ACTIVE"}),
        ({"OMP_WAIT_POLICY": "PASSIVE"}, {"OMP_WAIT_POLICY": "PASSIVE"}),
    ],
)
def test_what_a_user_has_set_stays(environment, mine, then):
    environment |= mine
    threads.share_the_machine()
    assert settings_in(environment) == then


def test_a_containers_share_is_the_number_of_threads(environment, monkeypatch):
    limited = []
    monkeypatch.setattr(threads, "cpu_count", lambda: 3)
    monkeypatch.setattr(threads, "_limit_what_is_loaded", limited.append)
    threads.share_the_machine()
    assert environment["OMP_NUM_THREADS"] == "3" and limited == [3]
    environment["OMP_NUM_THREADS"] = "8"
    threads.share_the_machine()
    assert environment["OMP_NUM_THREADS"] == "8" and limited == [3]


@pytest.mark.parametrize("order", [FIRST, COUNTS], ids=["before torch", "after torch"])
def test_no_library_takes_more_threads_than_the_process_may_use(order):
    """Whatever was loaded first; LOKY_MAX_CPU_COUNT stands in for a quota."""
    done = run(sys.executable, "-c", order, settings={"LOKY_MAX_CPU_COUNT": "1"})
    assert done.stdout.split()[:2] == ["1", "1"]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")
def test_a_process_bound_to_one_core_has_one_thread():
    bind = "import os\nos.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
    done = run(sys.executable, "-c", bind + FIRST, settings={})
    assert done.stdout.split() == ["1", "1", "None"]


def test_the_command_sets_it_before_torch_is_loaded():
    """As the library that torch loads says itself."""
    done = run(sys.executable, "-m", "s2dc_core.cli", "--help", settings={"OMP_DISPLAY_ENV": "VERBOSE"})
    said = set(re.findall(r"(GOMP_SPINCOUNT|KMP_BLOCKTIME) *= *'?(\d+)", done.stderr))
    if not said:
        pytest.skip("this torch has neither GNU's nor LLVM's OpenMP")
    assert said <= {("GOMP_SPINCOUNT", threads.SPINS), ("KMP_BLOCKTIME", threads.BLOCKTIME)}


@pytest.mark.parametrize(
    ("mine", "then"),
    [
        ({}, {"GOMP_SPINCOUNT": threads.SPINS, "KMP_BLOCKTIME": threads.BLOCKTIME}),
        ({"GOMP_SPINCOUNT": "7"}, {"GOMP_SPINCOUNT": "7", "KMP_BLOCKTIME": threads.BLOCKTIME}),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, {"OMP_WAIT_POLICY": "ACTIVE"}),
    ],
)
def test_the_makefile_gives_every_target_the_same(mine, then):
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    done = run("make", "-f", "Makefile", "-f", "-", "probe", settings=mine, input="probe:\n\t@env\n")
    found = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    assert settings_in(found) == then
