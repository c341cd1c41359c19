"""Pre-training on scans."""

from s2dc_core.training.pretrain import PretrainResult, Pretraining, draw_views, pretrain
from s2dc_core.training.recipe import RECIPES, PretrainConfig

__all__ = ["RECIPES", "PretrainConfig", "PretrainResult", "Pretraining", "draw_views", "pretrain"]
