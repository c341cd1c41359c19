"""The numbers of tables 1 and 3 to 6, case by case: Dice, accuracy with its interval, PSNR, NMSE, SSIM (MONAI's)."""

import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from monai.metrics import PSNRMetric, compute_dice
from monai.metrics.regression import compute_ssim_and_cs
from torch import Tensor

SSIM_WINDOW, SSIM_SIGMA = 11, 1.5


class ClassScores(NamedTuple):
    """Overlap of the classes of one case.

    Attributes:
        dice: 0..1 for each class that the case has, NaN for one that it lacks.
        invented: of the classes that the case lacks, whether any voxel was given to it; False for the others.
    """

    dice: dict[str, float]
    invented: dict[str, bool]


def class_scores(
    prediction: Bool[Tensor, "k x y z"], truth: Bool[Tensor, "k x y z"], names: Sequence[str]
) -> ClassScores:
    """Dice ``2 |P and T| / (|P| + |T|)`` of each class.

    A class that a case lacks has no Dice: it is left out of every mean, and what was invented of it is told apart.
    """
    dice = compute_dice(prediction[None].float(), truth[None].float(), include_background=True, ignore_empty=True)[0]
    there, said = truth.flatten(1).any(1), prediction.flatten(1).any(1)
    return ClassScores(
        {name: float(value) for name, value in zip(names, dice, strict=True)},
        {name: bool(value) for name, value in zip(names, said & ~there, strict=True)},
    )


def psnr(
    prediction: Float[Tensor, "x y z"],
    target: Float[Tensor, "x y z"],
    data_range: Real,
    mask: Bool[Tensor, "x y z"] | None = None,
) -> float:
    """Peak signal-to-noise ratio in dB: 10 log10(range^2 / mean squared error), over the mask; inf for no error."""
    prediction, target = (_inside(volume, mask)[None, None] for volume in (prediction, target))
    return float(PSNRMetric(max_val=float(data_range))(prediction, target))


def nmse(
    prediction: Float[Tensor, "x y z"], target: Float[Tensor, "x y z"], mask: Bool[Tensor, "x y z"] | None = None
) -> float:
    """Squared error over the target's squares, both summed over the mask; 1 for a prediction of zeros.

    It depends on where the target's zero lies, so a z-score and raw intensities give different numbers.

    Raises:
        ValueError: for a target of zeros.
    """
    prediction, target = (_inside(volume, mask).double() for volume in (prediction, target))
    energy = target.square().sum()
    if energy == 0:
        raise ValueError("the target is 0 everywhere: NMSE has nothing to be relative to")
    return float((prediction - target).square().sum() / energy)


def ssim(
    prediction: Float[Tensor, "x y z"],
    target: Float[Tensor, "x y z"],
    data_range: Real,
    mask: Bool[Tensor, "x y z"] | None = None,
) -> float:
    """Structural similarity (Wang et al. 2004): Gaussian window of 11 voxels and sigma 1.5, mean over whole windows.

    With a mask, over the windows whose centre is in it.

    Raises:
        ValueError: for a volume smaller than the window.
    """
    if min(target.shape) < SSIM_WINDOW:
        raise ValueError(f"SSIM needs {SSIM_WINDOW} voxels a side, the volume has {tuple(target.shape)}")
    similarity, _ = compute_ssim_and_cs(
        prediction[None, None],
        target[None, None],
        spatial_dims=3,
        kernel_size=[SSIM_WINDOW] * 3,
        kernel_sigma=[SSIM_SIGMA] * 3,
        data_range=float(data_range),
    )
    edge = SSIM_WINDOW // 2
    centres = None if mask is None else mask[edge:-edge, edge:-edge, edge:-edge]
    return float(_inside(similarity[0, 0], centres).mean())


def _inside(volume: Tensor, mask: Tensor | None) -> Tensor:
    if mask is None:
        return volume.reshape(-1)
    if not mask.any():
        raise ValueError("the mask holds no voxel: there is nothing to score")
    return volume[mask]


def mean_of(values: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Mean of each entry over the cases that have a number for it; NaN where none has."""
    names = dict.fromkeys(name for case in values for name in case)
    columns = {name: np.array([case.get(name, math.nan) for case in values], dtype=float) for name in names}
    return {name: float(np.nanmean(row)) if not np.isnan(row).all() else math.nan for name, row in columns.items()}
