"""Pre-training on scans, the weights that come with the course, and what they are measured by."""

from s2dc_core.training.classification import Classification
from s2dc_core.training.downstream import Downstream, downstream_of
from s2dc_core.training.draws import draw_views
from s2dc_core.training.dryrun import dry_run
from s2dc_core.training.durable import DiskFull
from s2dc_core.training.engine import Run, UnreadableScans
from s2dc_core.training.examples import Example, Examples, examples_of
from s2dc_core.training.finetune import FinetuneResult, Finetuning, build_network, finetune
from s2dc_core.training.image_to_image import ImageToImage
from s2dc_core.training.lock import reserve_folder
from s2dc_core.training.measure import mean_interval, mean_silhouette, scan_silhouettes
from s2dc_core.training.monitor import Monitor
from s2dc_core.training.pretrain import PretrainResult, pretrain
from s2dc_core.training.processes import StoppedElsewhere
from s2dc_core.training.reach import GradientReach, gradient_reach
from s2dc_core.training.recipe import FINETUNE_RECIPES, RECIPES, FinetuneConfig, PretrainConfig
from s2dc_core.training.resuming import find_run
from s2dc_core.training.run import Pretraining
from s2dc_core.training.scoring import Scores, evaluate
from s2dc_core.training.segmentation import Segmentation
from s2dc_core.training.shipped import (
    ARMS,
    TITLES,
    ablation_results,
    few_label_results,
    open_snapshot,
    open_weights,
    real_results,
    shipped_record,
    snapshot_steps,
    study_results,
    transfer_results,
)
from s2dc_core.training.timing import peak_memory, step_times

__all__ = [
    "Classification",
    "DiskFull",
    "Downstream",
    "build_network",
    "downstream_of",
    "Example",
    "Examples",
    "FINETUNE_RECIPES",
    "FinetuneConfig",
    "FinetuneResult",
    "Finetuning",
    "ImageToImage",
    "Scores",
    "Segmentation",
    "evaluate",
    "examples_of",
    "finetune",
    "ARMS",
    "RECIPES",
    "GradientReach",
    "Monitor",
    "TITLES",
    "PretrainConfig",
    "PretrainResult",
    "Pretraining",
    "Run",
    "StoppedElsewhere",
    "UnreadableScans",
    "draw_views",
    "dry_run",
    "find_run",
    "gradient_reach",
    "mean_interval",
    "mean_silhouette",
    "open_snapshot",
    "open_weights",
    "peak_memory",
    "pretrain",
    "real_results",
    "reserve_folder",
    "scan_silhouettes",
    "shipped_record",
    "snapshot_steps",
    "step_times",
    "study_results",
    "ablation_results",
    "few_label_results",
    "transfer_results",
]
