"""Fine-tuning for segmentation, classification, reconstruction and translation, and the scores of it."""

from s2dc_core.downstream.classification import Classification
from s2dc_core.downstream.config import FINETUNE_RECIPES, FinetuneConfig, ViTSizes
from s2dc_core.downstream.data_sets import Downstream, downstream_of
from s2dc_core.downstream.examples import Example, Examples, examples_of
from s2dc_core.downstream.finetune import FinetuneResult, Finetuning, build_network, finetune
from s2dc_core.downstream.generated import contrast_lesson, dose_lesson, lung_lesson, organ_lesson
from s2dc_core.downstream.image_to_image import ImageToImage
from s2dc_core.downstream.scores import class_scores, nmse, psnr, ssim
from s2dc_core.downstream.scoring import Scores, evaluate
from s2dc_core.downstream.segmentation import Segmentation

__all__ = [
    "FINETUNE_RECIPES",
    "Classification",
    "Downstream",
    "Example",
    "Examples",
    "FinetuneConfig",
    "FinetuneResult",
    "Finetuning",
    "ImageToImage",
    "Scores",
    "Segmentation",
    "ViTSizes",
    "build_network",
    "class_scores",
    "contrast_lesson",
    "dose_lesson",
    "downstream_of",
    "evaluate",
    "examples_of",
    "finetune",
    "lung_lesson",
    "nmse",
    "organ_lesson",
    "psnr",
    "ssim",
]
