"""What every study is: jobs of one core each, gone on with where they stopped, and one record of what they measured."""

import argparse
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import torch
from joblib import cpu_count
from threadpoolctl import threadpool_limits

from s2dc_core.library.results import WEIGHTS
from s2dc_core.methods import METHODS
from s2dc_core.pretraining.config import PretrainConfig
from s2dc_core.training.records import kept_record


class Study(NamedTuple):
    """A study. What a job leaves in the folder, it keeps when it comes again, see `kept`.

    Attributes:
        about: what it asks, in a line.
        jobs: from the options to what is to be done, the arguments of `work`.
        work: does a job, and says which.
        collect: writes the record from what all jobs have left; the files that are installed.
        seeds: repetitions by default.
        fewest: repetitions that it needs.
        names: what may be chosen from, all by default.
        reads: whether it reads a folder of scans.
        more: further options, and how argparse takes them.
    """

    about: str
    jobs: Callable[[argparse.Namespace], Iterable[tuple]]
    work: Callable[..., str]
    collect: Callable[[argparse.Namespace], Iterable[Path]]
    seeds: int
    fewest: int = 2
    names: Sequence[str] = ()
    reads: bool = False
    more: Mapping[str, Mapping[str, Any]] = {}

    def add_to(self, parser: argparse.ArgumentParser) -> None:
        """Its options: folder, seeds, processes, whether to install, and its own."""
        parser.add_argument("folder", type=Path, help="what lies there already is kept")
        if self.reads:
            parser.add_argument("data", type=Path, help="folder of the scans")
        if self.names:
            parser.add_argument("--only", nargs="+", default=list(self.names), choices=list(self.names), metavar="NAME")
        parser.add_argument("--seeds", type=int, default=self.seeds, help="repetitions, from seed 0 on")
        parser.add_argument("--processes", type=int, default=cpu_count(), help="jobs at a time, one core each")
        parser.add_argument("--install", action="store_true", help="put the results where the notebooks look for them")
        for name, how in self.more.items():
            parser.add_argument(name, **how)

    def run(self, options: argparse.Namespace) -> None:
        """Do what is missing, collect, and install if it is asked for.

        Raises:
            ValueError: for too few seeds, a folder of scans that is not there, or what lies there of another recipe.
        """
        if options.seeds < self.fewest:
            raise ValueError(f"--seeds must be at least {self.fewest}: an interval needs so many")
        if self.reads and not options.data.is_dir():
            raise ValueError(f"there is no folder {options.data}")
        options.folder.mkdir(parents=True, exist_ok=True)
        in_processes(self.work, self.jobs(options), options.processes)
        files = list(self.collect(options))
        for file in files if options.install else ():
            shutil.copyfile(file, WEIGHTS / file.name)


def kept(file: Path, recipe: Mapping) -> dict | None:
    """The record of a job of this recipe that was done before, by an earlier version too; see records.kept_record."""
    return kept_record(file, _renewed(recipe), _renewed)


def _renewed(recipe: Any) -> Any:
    """Recipes of pre-training, wherever they lie, as they are now: with a method, and what options have since then."""
    if not isinstance(recipe, Mapping):
        return recipe
    if {"encoder", "queue", "matched_tokens"} <= set(recipe) or recipe.get("method") in METHODS:
        return PretrainConfig.from_dict(recipe).as_dict()
    return {name: _renewed(value) for name, value in recipe.items()}


def in_processes(work: Callable[..., str], jobs: Iterable[tuple], processes: int) -> None:
    """Do all jobs, so many at a time, and print what each returns, in their order."""
    with ProcessPoolExecutor(processes, initializer=_one_core) as pool:
        for done in pool.map(work, *zip(*jobs, strict=True)):
            print("done:", done, flush=True)


def _one_core() -> None:
    # Processes of several threads each would wait for each other's cores: torch's threads, and numpy's and scipy's.
    torch.set_num_threads(1)
    threadpool_limits(1)
