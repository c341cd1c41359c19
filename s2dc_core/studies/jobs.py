"""Studies of many trainings: one core each, gone on with where they stopped, their options alike."""

import argparse
import shutil
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch
from joblib import cpu_count
from threadpoolctl import threadpool_limits

from s2dc_core.library.results import WEIGHTS


def in_processes(work: Callable[..., str], jobs: Iterable[tuple], processes: int) -> None:
    """Do all jobs, so many at a time, and print what each returns, in their order."""
    with ProcessPoolExecutor(processes, initializer=_one_core) as pool:
        for done in pool.map(work, *zip(*jobs, strict=True)):
            print("done:", done, flush=True)


def _one_core() -> None:
    # Processes of several threads each would wait for each other's cores: torch's threads, and numpy's and scipy's.
    torch.set_num_threads(1)
    threadpool_limits(1)


def study_options(
    arguments: Sequence[str] | None, about: str, choice: str, names: Sequence[str], seeds: int
) -> argparse.Namespace:
    """Folder, names of what is to be studied, seeds, processes and whether to install; the folder is made.

    Args:
        about: what the study is.
        choice: the option's name for what is chosen from, such as "rows".
        names: that there are, all by default.
        seeds: repetitions by default.
    """
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("folder", type=Path)
    parser.add_argument(f"--{choice}", dest="names", nargs="+", default=list(names), choices=list(names))
    parser.add_argument("--seeds", type=int, default=seeds, help="repetitions, from seed 0 on; 2 at least")
    parser.add_argument("--processes", type=int, default=cpu_count(), help="trainings at a time, one core each")
    parser.add_argument("--install", action="store_true", help="put the results where the notebooks look for them")
    options = parser.parse_args(arguments)
    if options.seeds < 2:
        parser.error("an interval needs two seeds at least")
    options.folder.mkdir(parents=True, exist_ok=True)
    return options


def install(file: Path) -> None:
    """Put a study's results where the notebooks look for them."""
    shutil.copyfile(file, WEIGHTS / file.name)
