"""In which order a training reads its scans, and random numbers that follow from the seed and a number alone.

A run counts the regions that it takes, from 0. Nothing else decides a draw, so a run goes on from that count alone, and
is the same run whether its regions pass through one process, through several, or in smaller batches one after another.
"""

import zlib
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TypeVar

import numpy as np
import torch

Read = TypeVar("Read")

STREAMS = {"order": 0, "crop": 1, "views": 2, "tokens": 3, "cases": 4}
"""What random numbers are for, each with a stream of its own; another purpose's number follows from its name."""


def first_readable(
    seed: int, number: int, names: Sequence[object], read: Callable[[int], Read]
) -> tuple[Read, dict[str, str]]:
    """What is read of the scan whose turn it is, or else of the next that can be read, in the order of the files.

    Every scan has its turn once before any has it again, in an order that the seed gives.

    Args:
        number: of the draw in the run.
        names: of all scans.
        read: from the place of a scan.

    Returns:
        it, and {scan: what is wrong with it} of those that were tried before.

    Raises:
        ValueError: if none can be read.
    """
    epoch, place = divmod(number, len(names))
    first, unreadable = _order(seed, epoch, len(names))[place], {}
    for index in (*range(first, len(names)), *range(first)):
        try:
            return read(index), unreadable
        except (OSError, ValueError) as error:
            unreadable[str(names[index])] = str(error)
    raise ValueError(f"no scan can be read any more: {'; '.join(unreadable.values())}")


@lru_cache(maxsize=2)
def _order(seed: int, epoch: int, scans: int) -> list[int]:
    return torch.randperm(scans, generator=random_numbers(seed, "order", epoch)).tolist()


def random_numbers(seed: int, purpose: str, number: int) -> torch.Generator:
    """A generator of its own for each seed, purpose and number."""
    stream = STREAMS[purpose] if purpose in STREAMS else zlib.crc32(purpose.encode()) + len(STREAMS)
    state = np.random.SeedSequence([seed, stream, number]).generate_state(2)
    return torch.Generator().manual_seed(int(state[0]) << 31 | int(state[1]) >> 1)
