"""Variance and covariance over a batch, of losses that tell nothing apart (VICReg: Bardes, Ponce, LeCun, ICLR 2022).

Of B rows of D features, those of all processes::

    v = mean_d max(0, 1 - sqrt(var_d + 1e-4))        c = sum_{d != d'} cov_dd'^2 / D

Both are unbiased. The covariance of B rows has rank B - 1 at most: see `covariance_floor`.
"""

import torch
from jaxtyping import Float
from torch import Tensor

EPSILON = 1e-4
"""Within the root of a variance, whose slope is infinite at 0."""


def spread(rows: Float[Tensor, "b k d"]) -> tuple[Float[Tensor, " k"], Float[Tensor, " k"]]:
    """v and c of each of K sets of B rows, two at least.

    Raises:
        ValueError: for one row.
    """
    count, features = len(rows), rows.shape[-1]
    if count < 2:
        raise ValueError(
            "there is no variance over a batch of one sub-volume: use a larger batch, or more sub-volumes of a region"
        )
    centred = (rows - rows.mean(0)).movedim(0, -2)
    variances = centred.square().sum(-2) / (count - 1)
    # |X^T X| = |X X^T|: the smaller one is made.
    with torch.autocast(rows.device.type, enabled=False):
        products = centred @ centred.mT if count < features else centred.mT @ centred
    squares = (products / (count - 1)).square().sum((-2, -1))
    small = (1 - (variances + EPSILON).sqrt()).relu().mean(-1)
    return small, (squares - variances.square().sum(-1)) / features


def covariance_floor(rows: int, features: int) -> float:
    """The least c of B rows whose D variances are 1: D / (B - 1) - 1, or 0; of variances s^2 it is s^4 times that.

    The covariance has B - 1 eigenvalues at most, whose sum is D: sum of cov_dd'^2 = |C|^2 - D >= D^2 / (B - 1) - D.
    """
    return max(features / (rows - 1) - 1, 0.0)
