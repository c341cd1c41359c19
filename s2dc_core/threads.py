"""One process among others: threads that wait soon sleep, and there are no more than the process may use.

OpenMP's threads meet at the end of every loop that they share. One that waits there spins, in the hope of going on at
once; where another process needs its core, it keeps that from the very thread it waits for.
"""

import os
import sys

from joblib import cpu_count
from threadpoolctl import threadpool_info, threadpool_limits

SPINS = "1000"
"""Turns that a waiting thread of GNU's OpenMP spins before it sleeps. Its own number is 300,000, some milliseconds."""
BLOCKTIME = "1"
"""The same for Intel's and LLVM's OpenMP, in milliseconds. Their own number is 200."""


def share_the_machine() -> None:
    """Set what OpenMP reads when torch loads it, here and in processes that this one starts.

    What is set already stays. Where the process may use fewer cores than it sees (a container's share), that is the
    number of threads, also of the libraries that are loaded already.
    """
    if "OMP_WAIT_POLICY" not in os.environ:  # the others would overrule it
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
        os.environ.setdefault("KMP_BLOCKTIME", BLOCKTIME)
    allowed = cpu_count()
    if "OMP_NUM_THREADS" not in os.environ and allowed < _cores_seen():
        os.environ["OMP_NUM_THREADS"] = str(allowed)
        _limit_what_is_loaded(allowed)


def _limit_what_is_loaded(allowed: int) -> None:
    if "torch" in sys.modules:  # it counts for every Python thread, threadpoolctl for the one that calls
        torch = sys.modules["torch"]
        torch.set_num_threads(min(allowed, torch.get_num_threads()))
    above = {library["prefix"]: allowed for library in threadpool_info() if library["num_threads"] > allowed}
    threadpool_limits(above)


def _cores_seen() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
