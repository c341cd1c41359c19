"""What a pre-training will hold, reach and cost, measured before it starts."""

import math
import resource
import sys
from dataclasses import replace

import torch

from s2dc_core.data import Scan, Scans
from s2dc_core.training.draws import draw_views
from s2dc_core.training.reach import STAGES, TERMS, gradient_reach
from s2dc_core.training.recipe import PretrainConfig
from s2dc_core.training.timing import step_times
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
