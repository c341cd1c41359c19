"""A teacher that follows its student: an exponential moving average of weights, with a schedule of its momentum."""

import copy
import math
from collections.abc import Sequence

import torch
from torch import nn

from s2dc_core.options import check_choice

SCHEDULES = ("constant", "cosine")


def momentum_at(done: float | int, first: float | int, schedule: str = "constant") -> float:
    """Share of the old teacher that an update keeps: m, or 1 - (1 - m) (1 + cos(pi done)) / 2, which ends at 1.

    Args:
        done: share of the training that is done, from 0 to 1.
        first: m at its start.
        schedule: "constant" or "cosine".
    """
    check_choice("momentum schedule", schedule, SCHEDULES)
    return float(first) if schedule == "constant" else 1 - (1 - first) * (1 + math.cos(math.pi * done)) / 2


class Teacher(nn.ModuleList):
    """Copies of some networks that get no gradient and follow them.

    A network of it is called without gradient::

        with torch.no_grad():
            keys = teacher[1](teacher[0](volume))

    Args:
        students: what is copied.
        momentum, schedule: see momentum_at.
        copy_buffers: whether running statistics are the students'; else the copies keep their own.
    """

    def __init__(
        self,
        students: Sequence[nn.Module],
        momentum: float | int = 0.99,
        schedule: str = "constant",
        copy_buffers: bool = False,
    ):
        super().__init__(copy.deepcopy(student) for student in students)
        self.requires_grad_(False)
        self.first, self.schedule, self.copy_buffers = momentum, schedule, copy_buffers
        momentum_at(0, momentum, schedule)

    @torch.no_grad()
    def follow(self, students: Sequence[nn.Module], done: float | int) -> None:
        """theta* <- m theta* + (1 - m) theta, after the optimiser's step; see momentum_at for m.

        Raises:
            RuntimeError: in evaluation mode, where a teacher must not move.
        """
        if not self.training:
            raise RuntimeError("a teacher follows in training: call model.train() first")
        share = 1 - momentum_at(done, self.first, self.schedule)
        for mine, theirs in zip(self, students, strict=True):
            torch._foreach_lerp_(list(mine.parameters()), list(theirs.parameters()), share)
            for old, new in zip(mine.buffers(), theirs.buffers(), strict=True) if self.copy_buffers else ():
                old.copy_(new)
