"""Several processes, each with a GPU or some cores of its own, that take a training step together (accelerate)."""

import atexit
import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TypeVar

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.utils import gather_object
from torch import Tensor, nn

Result = TypeVar("Result")


def started_processes() -> int:
    """How many a launcher started; 1 without one."""
    return int(os.environ.get("WORLD_SIZE", 1))


class StoppedElsewhere(RuntimeError):
    """Another process met an error; its message says which."""

    def __init__(self, message: str = "another process met an error, and its message says which"):
        super().__init__(message)


class Processes:
    """The processes of a run: one, or as many as accelerate's launchers or torchrun started.

    Args:
        device: None for the GPU of each process if there is one, else the CPU; several processes have theirs given.

    Attributes:
        count, index: how many there are, and which this one is.
        left: whether this one exchanges nothing any more, see left_after_errors.

    Raises:
        ValueError: for a device that is not the one given to one of several processes, or if the launcher's processes
            do not find each other.
    """

    def __init__(self, device: torch.device | str | None = None):
        started = started_processes()
        self.left = False
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
    def _alone(self) -> bool:
        return self.count == 1 or self.left

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

    def together(self, work: Callable[[], Result]) -> Result:
        """What the work returns, unless it fails in any process: the others would wait for that one for ever.

        All processes call it. Work that exchanges numbers itself does so in modules of `meet_in`.

        Raises:
            StoppedElsewhere: if it failed in another process.
        """
        problem = None
        try:
            done = work()
        except StoppedElsewhere:  # in a module of `meet_in`: that all have asked there
            raise
        except Exception as error:
            problem = error
        try:
            failed = self.any(problem is not None)
        except RuntimeError as gone:
            raise problem or gone from None
        if failed:
            raise problem or StoppedElsewhere
        return done

    def meet_in(self, *modules: nn.Module) -> None:
        """Modules whose forward passes exchange numbers: there it is noticed if another process has failed before."""

        def meet(module: nn.Module, _inputs: tuple) -> None:
            if module.training and self.any(False):
                raise StoppedElsewhere

        for module in modules if self.count > 1 else ():
            module.register_forward_pre_hook(meet)

    @contextmanager
    def left_after_errors(self) -> Iterator[None]:
        """For exchanges that nothing can be agreed on in, such as a backward pass: who fails there leaves the others.

        They meet an error of their own once it has ended, or their time to wait for it has; and leave likewise.
        """
        try:
            yield
        except Exception:
            self.left = True
            raise

    def gather(self, values: Tensor) -> Tensor:
        """The rows of all processes, in their order; each may have another number of them."""
        if self._alone:
            return values
        rows = self._exchange(lambda: self._accelerator.gather(torch.tensor([len(values)], device=values.device)))
        counts = rows.tolist()
        padded = torch.cat([values, values.new_zeros(max(counts) - len(values), *values.shape[1:])])
        each = self._exchange(lambda: self._accelerator.gather(padded)).split(max(counts))
        return torch.cat([part[:count] for part, count in zip(each, counts, strict=True)])

    def mean(self, values: Tensor) -> Tensor:
        """The mean over the processes, entry by entry."""
        return values if self._alone else self._exchange(lambda: self._accelerator.reduce(values, "mean"))

    def any(self, flag: bool) -> bool:
        """Whether it is true in any process; all must ask."""
        return self.largest(int(flag)) > 0

    def largest(self, number: int) -> int:
        """The largest of the processes' numbers; all must ask."""
        if self._alone:
            return number
        asked = torch.tensor([number], device=self.device)
        return int(self._exchange(lambda: self._accelerator.gather(asked)).max())

    def union(self, entries: dict[str, str]) -> dict[str, str]:
        """The entries of all processes; all must ask."""
        if self._alone:
            return dict(entries)
        each = self._exchange(lambda: gather_object([entries]))
        return {name: value for own in each for name, value in sorted(own.items())}

    def _exchange(self, work: Callable[[], Result]) -> Result:
        with self.left_after_errors():
            return work()


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
