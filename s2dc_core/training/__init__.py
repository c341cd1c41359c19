"""Pre-training on scans."""

from s2dc_core.training.pretrain import PretrainConfig, PretrainResult, pretrain

__all__ = ["PretrainConfig", "PretrainResult", "pretrain"]
