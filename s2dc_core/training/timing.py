"""Where a training step spends its time, and how much memory a computation holds."""

import time
import weakref
from collections.abc import Callable

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from s2dc_core.data import Scans
from s2dc_core.training.draws import draw_views
from s2dc_core.training.engine import autocast
from s2dc_core.training.recipe import PretrainConfig
from s2dc_core.training.run import Pretraining


def step_times(
    config: PretrainConfig, scans: Scans, repeats: int = 3, device: torch.device | str | None = None
) -> dict[str, float]:
    """Seconds of the parts of a step, medians over some repeats after a first one that is not counted.

    Raises:
        ValueError: for less than one repeat, and as Pretraining.
    """
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1, got {repeats}")
    run, seconds = Pretraining(config, scans, device), {}
    for k in range(repeats + 1):
        first = k * config.batch
        views = _timed(run, seconds, "views", lambda first=first: draw_views(config, scans, first, run.device))
        _timed(run, seconds, "teacher", lambda seen=views: _teach(run, seen))
        _timed(run, seconds, "step", run.step)
    medians = {part: float(np.median(values[1:])) for part, values in seconds.items()}
    for part in ("views", "teacher"):  # of one batch
        medians[part] *= config.accumulate
    rest = medians.pop("step") - sum(medians.values())
    return {**medians, "student, losses, optimiser": max(rest, 0.0)}


@torch.no_grad()
def _teach(run: Pretraining, views) -> None:
    with autocast(run.config, run.device):
        run.model.teach(views.target)
        run.model.teacher.embed(views.positives)


def _timed(run: Pretraining, seconds: dict, part: str, work: Callable):
    started = time.perf_counter()
    done = work()
    if run.device.type == "cuda":
        torch.cuda.synchronize(run.device)
    seconds.setdefault(part, []).append(time.perf_counter() - started)
    return done


def peak_memory(work: Callable[[], object]) -> int:
    """Most bytes that tensors made by the work held at one time, forward and backward; what was there is not counted.

    Counted from the tensors that operations return, so it does not depend on the machine; scratch space inside an
    operation is not seen.
    """
    with _HeldMemory() as memory:
        work()
    return memory.peak


class _HeldMemory(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.held = self.peak = 0
        self.known = weakref.WeakSet()

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        given = {tensor.untyped_storage()._cdata for tensor in tree_leaves((args, kwargs)) if _is_tensor(tensor)}
        out = operation(*args, **(kwargs or {}))
        for tensor in filter(_is_tensor, tree_leaves(out)):
            storage = tensor.untyped_storage()
            if storage not in self.known and storage._cdata not in given:
                self.known.add(storage)
                self._change(storage.nbytes())
                weakref.finalize(storage, self._change, -storage.nbytes())
        return out

    def _change(self, size: int) -> None:
        self.held += size
        self.peak = max(self.peak, self.held)


def _is_tensor(value: object) -> bool:
    return isinstance(value, torch.Tensor)
