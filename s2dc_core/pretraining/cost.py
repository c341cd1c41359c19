"""What a pre-training will hold, reach and cost, measured before it starts."""

import math
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from s2dc_core.data import Scan, Scans
from s2dc_core.pretraining.config import PretrainConfig
from s2dc_core.pretraining.reach import STAGES, TERMS, gradient_reach
from s2dc_core.pretraining.regions import draw_views
from s2dc_core.pretraining.run import Pretraining
from s2dc_core.training.run import autocast
from s2dc_core.views import Views


def dry_run(config: PretrainConfig, scans: Scans, steps: int = 3, device: torch.device | str | None = None) -> str:
    """A report on a run that is not started: its network, what each loss trains, a step's time and memory, an estimate.

    Takes a few steps on the given scans and throws them away; nothing is written.

    Args:
        steps: measured, after a first one that is not counted.

    Raises:
        ValueError: as Pretraining, or for less than one step, see step_times.
        FloatingPointError: if the first losses are not finite.
    """
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    cost = _cost(config, step_times(config, scans, steps, device), device)  # first, while nothing else takes memory
    views = draw_views(config, scans)
    lines = [*_network(config), *_regions(config, views), *cost, *_reach(replace(config, batch=1), scans[0])]
    return "\n".join(f"{name:20s}{text}" for name, text in lines)


def _network(config: PretrainConfig) -> list[tuple[str, str]]:
    student = config.build().student
    encoder, heads = (sum(weight.numel() for weight in part.parameters()) for part in (student.encoder, student))
    return [("encoder", f"{encoder / 1e6:.2f} million weights, {heads / 1e6:.2f} with its heads; the teacher as many")]


def _regions(config: PretrainConfig, views: Views) -> list[tuple[str, str]]:
    region = views.source.shape[2:]
    shape = " x ".join(map(str, region))
    regions = "region" if config.batch == 1 else "regions"
    drawn = f"{regions} of {shape} voxels, warped once; {len(views.positives)} sub-volumes for L_g"
    lines = [("views of a step", f"{config.batch} {drawn}")]
    together = f"joined with levels {config.levels[1:]}, " if config.joined and len(config.levels) > 1 else ""
    for level, matches in zip(config.matched_levels, views.matches, strict=True):
        stride = config.encoder.stride(level)
        tokens = math.prod(side // s for side, s in zip(region, stride, strict=True))
        seen = f"{len(matches.source)} matches in the batch drawn here"
        lines.append((f"level {level}", f"{tokens} tokens of {stride[0]} voxels a region, {together}{seen}"))
    return lines


def _reach(config: PretrainConfig, scan: Scan) -> list[tuple[str, str]]:
    reach = gradient_reach(config, scan)
    lines = []
    for term in TERMS:
        stages = [stage for stage in STAGES if reach.norms[term][stage] > 0]
        lines.append((term, f"trains {reach.share(term):.1%} of the encoder: {', '.join(stages) or 'nothing'}"))
    return lines


def _cost(config: PretrainConfig, parts: dict[str, float], device: torch.device) -> list[tuple[str, str]]:
    step = sum(parts.values())
    if device.type == "cuda":
        memory = f"{torch.cuda.max_memory_allocated(device) / 1e9:.2f} GB on {torch.cuda.get_device_name(device)}"
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9
        memory = f"{peak:.2f} GB, the whole process at its peak, the scans included"
    crops = config.batch * config.accumulate * math.prod(config.views.counts) / step
    shares = ", ".join(f"{part} {seconds / step:.0%}" for part, seconds in parts.items())
    return [
        ("time of a step", f"{step:.3g} s on {device} ({shares}), {crops:.3g} sub-volumes a second"),
        ("memory", memory),
        ("the whole run", f"{_duration(step * config.steps)} for {config.steps:,} steps"),
    ]


def _duration(seconds: float) -> str:
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} seconds"


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
