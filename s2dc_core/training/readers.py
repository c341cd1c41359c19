"""Helper processes that read what the coming steps need."""

import math
import shutil
from collections.abc import Iterator
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Dataset

from s2dc_core.training.signals import outlive_the_run

SHARED = Path("/dev/shm")
AHEAD = 2
"""Batches that each helper process reads ahead."""


def read_ahead(draws: Dataset, numbers: Iterator[list[int]], workers: int, pinned: bool) -> Iterator[list]:
    """The entries of a data set by their numbers, batch by batch.

    Args:
        workers: helper processes; 0 reads in between.
        pinned: whether the tensors are to lie where a GPU fetches them fast.
    """
    return iter(
        DataLoader(
            draws,
            batch_sampler=numbers,
            collate_fn=list,
            num_workers=workers,
            prefetch_factor=AHEAD if workers else None,
            worker_init_fn=outlive_the_run,
            pin_memory=pinned,
            generator=torch.Generator(),  # without one of its own a loader draws from the global one
        )
    )


def refuse_small_shared_memory(batch: int, workers: int, place: Path = SHARED) -> None:
    """What helper processes read goes through shared memory, of which a container may have little: 64 MB in Docker.

    Args:
        batch: bytes of what a batch reads.

    Raises:
        ValueError: if it does not hold what they read ahead; writing there would be a bus error.
    """
    if workers <= workers_that_fit(batch, workers, place):
        return
    needed, room = AHEAD * workers * batch, shutil.disk_usage(place).total
    gigabytes = math.ceil(2 * needed / 1e9)
    raise ValueError(
        f"{workers} workers hand on up to {needed / 1e6:.0f} MB through {place}, which has {room / 1e6:.0f} MB: "
        f"give the container more (docker run --shm-size={gigabytes}g), fewer workers, or workers=0"
    )


def workers_that_fit(batch: int, workers: int, place: Path = SHARED) -> int:
    """Up to so many helper processes, as shared memory has room for what they read ahead."""
    return min(workers, int(shutil.disk_usage(place).total // (AHEAD * batch))) if place.is_dir() else workers
