"""Crops of a region: on a grid, or anywhere, with the shares of one that lie in others, exact, by their corners."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from s2dc_core.geometry import grid_of


def grid_corners(shape: Sequence[int], size: Sequence[int]) -> Int[Tensor, "k 3"]:
    """First voxels of the crops of one size that tile a region, last axis fastest, as split_region lists them.

    Raises:
        ValueError: if the size does not divide the region's.
    """
    counts = grid_of(shape, size)
    return torch.cartesian_prod(*map(torch.arange, counts)) * torch.tensor(tuple(size))


def random_corners(
    shape: Sequence[int], size: Sequence[int], count: int, generator: torch.Generator | None = None
) -> Int[Tensor, "m 3"]:
    """First voxels of crops of one size anywhere within a region, uniform along each axis.

    Raises:
        ValueError: if a crop is larger than the region.
    """
    rooms = [side - length for side, length in zip(shape, size, strict=True)]
    if min(rooms) < 0:
        raise ValueError(f"a crop of {tuple(size)} voxels is larger than its region of {tuple(shape)}")
    return torch.stack([torch.randint(room + 1, (count,), generator=generator) for room in rooms], 1)


def shared_voxels(
    one: Int[Tensor, "m 3"], one_size: Int[Tensor, "*m 3"], other: Int[Tensor, "k 3"], other_size: Int[Tensor, "*k 3"]
) -> Int[Tensor, "m k"]:
    """|a_i and b_k| of boxes a and b, given by their first voxels and sizes: how many voxels lie in both."""
    first = torch.maximum(one[:, None], other)
    beyond = torch.minimum((one + one_size)[:, None], other + other_size)
    return (beyond - first).clamp(min=0).prod(-1)


def overlap_shares(crops: Int[Tensor, "m 3"], bases: Int[Tensor, "k 3"], size: Sequence[int]) -> Float[Tensor, "m k"]:
    """y_ik = |a_i and b_k| / |a_i| of crops and bases of one size, float64; a row sums to 1 where the bases tile."""
    sides = torch.tensor(tuple(size))
    return shared_voxels(crops, sides, bases, sides).double() / sides.prod()


def intersection_over_union(
    one: Int[Tensor, "m 3"], one_size: Int[Tensor, "*m 3"], other: Int[Tensor, "k 3"], other_size: Int[Tensor, "*k 3"]
) -> Float[Tensor, "m k"]:
    """|a and b| / |a or b| of boxes, in float64."""
    both = shared_voxels(one, one_size, other, other_size).double()
    return both / (one_size.prod(-1).expand(len(one))[:, None] + other_size.prod(-1) - both)


def cut(
    volume: Float[Tensor, "c x y z"], corner: Sequence[int], size: Sequence[int], to: Sequence[int] | None = None
) -> Float[Tensor, "c _ _ _"]:
    """A crop of a region, resized to `to` voxels; trilinear, its faces stay where they are.

    Raises:
        ValueError: if it reaches beyond the region.
    """
    shape = volume.shape[1:]
    if any(a < 0 or a + n > side for a, n, side in zip(corner, size, shape, strict=True)):
        raise ValueError(
            f"a crop of {tuple(size)} voxels from {tuple(corner)} reaches beyond a region of {tuple(shape)}"
        )
    crop = volume[(slice(None), *(slice(a, a + n) for a, n in zip(corner, size, strict=True)))]
    if to is None or tuple(to) == tuple(size):
        return crop
    return F.interpolate(crop[None], size=tuple(to), mode="trilinear", align_corners=False)[0]
