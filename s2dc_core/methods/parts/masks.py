"""Block masks: which cells of a sub-volume are hidden, and the error on what lies under them.

A cell is a cube of whole tokens. Ratios are shares of the cells that are **hidden**, in every method alike.
"""

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from s2dc_core.encoder import EncoderConfig
from s2dc_core.options import Rule, that

RATIO: Rule = that(lambda share: 0 < share < 1, "must lie between 0 and 1")


def cell_misfits(cell: int, encoder: EncoderConfig) -> Iterator[str]:
    """What is wrong with cells of a side: they are no whole tokens, do not fill the sub-volume, or there is but one."""
    sides = list(encoder.sub_volume)
    if cell % encoder.patch or any(side % cell for side in sides):
        yield f"cell {cell} must be a multiple of the patch, {encoder.patch}, and divide sub_volume {sides}"
    elif all(side == cell for side in sides):
        yield f"cell {cell} is all of sub_volume {sides}: nothing would be hidden, or nothing seen"


def cells_in(encoder: EncoderConfig, cell: int) -> int:
    """Cells of a sub-volume."""
    return math.prod(side // cell for side in encoder.sub_volume)


def mask_cells(
    cells: int,
    ratio: float | int,
    generator: torch.Generator | None = None,
    whole: Callable[[float], int] = math.ceil,
) -> Bool[Tensor, " cells"]:
    """Random cells to hide: `whole` of ratio * cells, but never none and never all.

    Args:
        whole: math.ceil, math.floor or round; 0.9 x 10 is 9 for all of them, whatever it is in binary.

    Raises:
        ValueError: for fewer than two cells.
    """
    if cells < 2:
        raise ValueError(f"of {cells} cells none can be hidden while another is seen")
    count = min(max(whole(round(ratio * cells, 9)), 1), cells - 1)
    masked = torch.zeros(cells, dtype=torch.bool)
    masked[torch.randperm(cells, generator=generator)[:count]] = True
    return masked


def spread(cells: Shaped[Tensor, "g _ _ _ *more"], times: int) -> Shaped[Tensor, "g _ _ _ *more"]:
    """Cells on a finer grid, a mask or whatever they hold, `times` as many along each axis."""
    for axis in (1, 2, 3):
        cells = cells.repeat_interleave(times, axis)
    return cells


def masked_mean(errors: Float[Tensor, "g c x y z"], masked: Bool[Tensor, "g 1 x y z"]) -> Float[Tensor, " g"]:
    """Mean of errors over the masked voxels of each sub-volume and all channels; what is seen does not count."""
    return (errors * masked).flatten(1).sum(1) / (masked.flatten(1).sum(1) * errors.shape[1])


def normalised(values: Float[Tensor, "*shape"], axes: Sequence[int]) -> Float[Tensor, "*shape"]:
    """(x - mean) / sqrt(var + 1e-6) over some axes, with the unbiased variance; 0 of what is constant."""
    variance, mean = torch.var_mean(values, axes, keepdim=True)
    return (values - mean) / (variance + 1e-6).sqrt()
