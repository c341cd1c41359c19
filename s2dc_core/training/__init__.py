"""Pre-training on scans."""

from s2dc_core.training.pretrain import PretrainConfig, PretrainResult, draw_views, pretrain

__all__ = ["PretrainConfig", "PretrainResult", "draw_views", "pretrain"]
