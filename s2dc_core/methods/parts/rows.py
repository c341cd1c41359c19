"""The rows of all processes, with their gradient: for losses whose negatives are the whole batch.

Let process r have the rows z_r and the loss L_r, which looks at the rows of all. The gradient of z_r is that of the sum
of all L_s, and the mean over processes, which DDP takes of the weights' gradients, makes it that of mean_s L_s: the one
that a single process with all the rows has.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, distributed, nn
from torch.nn import functional as F

from s2dc_core.model import SumOverProcesses


class Rows(NamedTuple):
    """Rows of all processes, in the processes' order.

    Attributes:
        all: the rows.
        first: place of this process's first one.
    """

    all: Float[Tensor, "m ..."]
    first: int = 0


class RowsOfAll(nn.Module):
    """Rows of all processes in training; in evaluation, which one process may do alone, they are its own.

    It is a module so that a run can ask, before the exchange, whether another process has failed (Processes.meet_in).
    """

    def forward(self, rows: Float[Tensor, "n ..."]) -> Rows:
        """Every process calls it, with rows of one shape and any number of them."""
        if not (self.training and distributed.is_available() and distributed.is_initialized()):
            return Rows(rows)
        counts = rows.new_zeros(distributed.get_world_size(), dtype=torch.long)
        counts[distributed.get_rank()] = len(rows)
        distributed.all_reduce(counts)
        *before, total = [0, *counts.cumsum(0).tolist()]
        first = before[distributed.get_rank()]
        # Each row is a sum in which one process alone has a part: exact, and the sum's gradient is the one wanted.
        ends = (0, 0) * (rows.dim() - 1) + (first, total - first - len(rows))
        return Rows(SumOverProcesses.apply(F.pad(rows, ends)), first)
