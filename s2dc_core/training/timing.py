"""Where a training step spends its time."""

import time
from collections.abc import Callable, Sequence

import numpy as np
import torch

from s2dc_core.data import Scan
from s2dc_core.training.pretrain import Pretraining, draw_views
from s2dc_core.training.recipe import PretrainConfig


def step_times(
    config: PretrainConfig, scans: Sequence[Scan], repeats: int = 3, device: torch.device | str | None = None
) -> dict[str, float]:
    """Seconds of the parts of a step, medians over some repeats after a first one that is not counted.

    Raises:
        ValueError: for less than one repeat, and as Pretraining.
    """
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1, got {repeats}")
    run, seconds = Pretraining(config, scans, device), {}
    for _ in range(repeats + 1):
        views = _timed(run, seconds, "views", lambda: draw_views(config, run.scans, run.generator).to(run.device))
        _timed(run, seconds, "teacher", lambda seen=views: _teach(run, seen))
        _timed(run, seconds, "step", run.step)
    medians = {part: float(np.median(values[1:])) for part, values in seconds.items()}
    rest = medians.pop("step") - sum(medians.values())
    return {**medians, "student, losses, optimiser": max(rest, 0.0)}


@torch.no_grad()
def _teach(run: Pretraining, views) -> None:
    run.model.teach(views.target)
    run.model.teacher.embed(views.positives)


def _timed(run: Pretraining, seconds: dict, part: str, work: Callable):
    started = time.perf_counter()
    done = work()
    if run.device.type == "cuda":
        torch.cuda.synchronize(run.device)
    seconds.setdefault(part, []).append(time.perf_counter() - started)
    return done
