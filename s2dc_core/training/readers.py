"""Helper processes that read what the coming steps need."""

from collections.abc import Iterator

import torch
from torch.utils.data import DataLoader, Dataset

from s2dc_core.training.signals import outlive_the_run


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
            worker_init_fn=outlive_the_run,
            pin_memory=pinned,
            generator=torch.Generator(),  # without one of its own a loader draws from the global one
        )
    )
