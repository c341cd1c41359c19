"""Pre-training on scans: recipes, runs, what they cost, and what they show while they go on."""

from s2dc_core.pretraining.config import RECIPES, PretrainConfig
from s2dc_core.pretraining.cost import dry_run, step_times
from s2dc_core.pretraining.monitor import Monitor
from s2dc_core.pretraining.pretrain import PretrainResult, pretrain
from s2dc_core.pretraining.reach import GradientReach, gradient_reach
from s2dc_core.pretraining.regions import draw_views
from s2dc_core.pretraining.run import Pretraining, bytes_of_a_batch

__all__ = [
    "RECIPES",
    "GradientReach",
    "Monitor",
    "PretrainConfig",
    "PretrainResult",
    "Pretraining",
    "bytes_of_a_batch",
    "draw_views",
    "dry_run",
    "gradient_reach",
    "pretrain",
    "step_times",
]
