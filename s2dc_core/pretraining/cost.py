"""What a pre-training will hold, reach and cost, measured before it starts."""

import resource
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from s2dc_core.data import Scan, Scans
from s2dc_core.pretraining.config import PretrainConfig
from s2dc_core.pretraining.reach import STAGES, gradient_reach
from s2dc_core.pretraining.regions import draw_regions
from s2dc_core.pretraining.run import Pretraining


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
    parts = step_times(config, scans, steps, device)  # first, while nothing else takes memory
    cost = _cost(config, scans[0], parts, device)
    lines = [*_network(config), *_regions(config, scans), *cost, *_reach(_small(config, scans[0]), scans[0])]
    return "\n".join(f"{name:20s}{text}" for name, text in lines)


def _network(config: PretrainConfig) -> list[tuple[str, str]]:
    method = config.build()
    encoder = sum(weight.numel() for weight in method.encoder.parameters())
    whole = sum(weight.numel() for weight in method.parameters())
    trained = sum(weight.numel() for weight in method.parameters() if weight.requires_grad)
    teacher = f"; a teacher without gradient has {(whole - trained) / 1e6:.2f} more" if whole > trained else ""
    said = f"{encoder / 1e6:.2f} million weights, {trained / 1e6:.2f} with what is trained beside it{teacher}"
    return [("method", config.method), ("encoder", said)]


def _regions(config: PretrainConfig, scans: Scans) -> list[tuple[str, str]]:
    regions = draw_regions(config, scans)
    shape = " x ".join(map(str, regions.volume.shape[2:]))
    one = "region" if config.batch == 1 else "regions"
    parts = config.batch * config.options.parts(regions.volume.shape[2:], config.encoder)
    drawn = f"{config.batch} {one} of {shape} voxels, {parts} {config.options.PARTS}"
    return [("a step looks at", drawn), *config.options.describe(config.encoder, regions)]


def _small(config: PretrainConfig, scan: Scan) -> PretrainConfig:
    """The recipe with as few regions a batch as the method can learn from."""
    options = config.options
    return replace(config, batch=-(-options.least_parts // options.parts(scan.volume.shape[1:], config.encoder)))


def _reach(config: PretrainConfig, scan: Scan) -> list[tuple[str, str]]:
    reach = gradient_reach(config, scan)
    lines = []
    for term in reach.norms:
        stages = [stage for stage in STAGES if reach.norms[term][stage] > 0]
        lines.append((term, f"trains {reach.share(term):.1%} of the encoder: {', '.join(stages) or 'nothing'}"))
    return lines


def _cost(config: PretrainConfig, scan: Scan, parts: dict[str, float], device: torch.device) -> list[tuple[str, str]]:
    step = sum(parts.values())
    if device.type == "cuda":
        memory = f"{torch.cuda.max_memory_allocated(device) / 1e9:.2f} GB on {torch.cuda.get_device_name(device)}"
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9
        memory = f"{peak:.2f} GB, the whole process at its peak, the scans included"
    seen = config.batch * config.accumulate * config.options.parts(scan.volume.shape[1:], config.encoder) / step
    shares = ", ".join(f"{part} {seconds / step:.0%}" for part, seconds in parts.items())
    return [
        ("time of a step", f"{step:.3g} s on {device} ({shares}), {seen:.3g} {config.options.PARTS} a second"),
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
    draws = run.draws()
    for k in range(repeats + 1):
        numbers = range(k * config.batch, (k + 1) * config.batch)
        batch = _timed(run, seconds, "reading", lambda numbers=numbers: [draws[number] for number in numbers])
        views = _timed(run, seconds, "views", lambda batch=batch: run.prepare(batch))
        _timed(run, seconds, "forward", lambda views=views: run.forward(views))
        _timed(run, seconds, "step", run.step)
    medians = {part: float(np.median(values[1:])) for part, values in seconds.items()}
    for part in ("reading", "views", "forward"):  # of one batch
        medians[part] *= config.accumulate
    rest = medians.pop("step") - sum(medians.values())
    return {**medians, "backward, optimiser": max(rest, 0.0)}


def _timed(run: Pretraining, seconds: dict, part: str, work: Callable):
    started = time.perf_counter()
    done = work()
    if run.device.type == "cuda":
        torch.cuda.synchronize(run.device)
    seconds.setdefault(part, []).append(time.perf_counter() - started)
    return done
