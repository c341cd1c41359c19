"""Several processes, each with a GPU or some cores of its own, that take a training step together (accelerate)."""

import atexit
import os
import time
import warnings
from contextlib import nullcontext

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.utils import gather_object
from torch import Tensor, nn


class Processes:
    """The processes of a run: one, or as many as accelerate's launchers or torchrun started.

    Args:
        device: None for the GPU of each process if there is one, else the CPU; several processes have theirs given.

    Raises:
        ValueError: for a device that is not the one given to one of several processes, or if the launcher's processes
            do not find each other.
    """

    def __init__(self, device: torch.device | str | None = None):
        started = int(os.environ.get("WORLD_SIZE", 1))
        if started == 1:  # accelerate, once asked, keeps a notebook from starting more
            self.count, self.index = 1, 0
            self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
            return
        # Half precision is the recipe's choice, not the launcher's. Some arms leave a part of the student without
        # gradient, which DDP would wait for. Buffers are equal anyway, and sent before every forward otherwise.
        unused = DistributedDataParallelKwargs(find_unused_parameters=True, broadcast_buffers=False)
        on_cpu = str(device) == "cpu" or not torch.cuda.is_available()
        self._accelerator = Accelerator(cpu=on_cpu, mixed_precision="no", kwargs_handlers=[unused])
        self.count, self.index = self._accelerator.num_processes, self._accelerator.process_index
        self.device = self._accelerator.device
        if self.count != started:
            raise ValueError(
                f"{started} processes were started, and this one finds {self.count}: start them by `accelerate launch` "
                "or `torchrun`, or they all write to the same folder"
            )
        atexit.register(_part)
        if device is not None and torch.device(device).type != self.device.type:
            raise ValueError(f"{started} processes were started on {self.device.type}: leave out device={device!r}")

    @property
    def is_main(self) -> bool:
        """Whether this is the one that shows progress and writes files."""
        return self.index == 0

    def share(self, module: nn.Module) -> nn.Module:
        """The module as it is to be called: its gradients are then means over the processes."""
        if self.count == 1:
            return module
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch 2.13 has a new name for broadcast_buffers
            return self._accelerator.prepare_model(module, device_placement=False)

    def gradients_stay(self, module: nn.Module):
        """A context in which backward() adds up gradients here and leaves the exchange to a later one."""
        return self._accelerator.no_sync(module) if self.count > 1 else nullcontext()

    def gather(self, values: Tensor) -> Tensor:
        """The rows of all processes, in their order; each may have another number of them."""
        if self.count == 1:
            return values
        rows = self._accelerator.gather(torch.tensor([len(values)], device=values.device)).tolist()
        padded = torch.cat([values, values.new_zeros(max(rows) - len(values), *values.shape[1:])])
        each = self._accelerator.gather(padded).split(max(rows))
        return torch.cat([part[:count] for part, count in zip(each, rows, strict=True)])

    def mean(self, values: Tensor) -> Tensor:
        """The mean over the processes, entry by entry."""
        return self._accelerator.reduce(values, "mean") if self.count > 1 else values

    def any(self, flag: bool) -> bool:
        """Whether it is true in any process; all must ask."""
        if self.count == 1:
            return flag
        return bool(self._accelerator.reduce(torch.tensor(float(flag), device=self.device), "sum") > 0)

    def union(self, entries: dict[str, str]) -> dict[str, str]:
        """The entries of all processes; all must ask."""
        if self.count == 1:
            return dict(entries)
        return {name: value for each in gather_object([entries]) for name, value in sorted(each.items())}

    def wait(self) -> None:
        """Go on when all have come this far."""
        if self.count > 1:
            self._accelerator.wait_for_everyone()


LEAVE = 0.5
"""Seconds at the end for gloo's threads to free the tensors of the last exchange."""


def _part() -> None:
    """Take leave of the other processes.

    A thread of gloo that frees a tensor while Python ends is aborted, and its process with it. The threads outlive the
    group (destroying it does not end them), and nothing says when they are done, so they are given a moment.
    """
    time.sleep(LEAVE)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
