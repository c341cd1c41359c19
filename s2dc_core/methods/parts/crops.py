"""Crops of a region: on a grid, or anywhere, with the shares of one that lie in others, exact, by their corners; or
where the region's body fills them."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Shaped
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


def random_cubes(
    shape: Sequence[int], sides: Sequence[int], count: int, generator: torch.Generator | None = None
) -> Int[Tensor, "m 4"]:
    """First voxels and side of cubes anywhere within a region, whose side is one of some; uniform in each.

    Raises:
        ValueError: if one is larger than the region.
    """
    if max(sides) > min(shape):
        raise ValueError(f"a crop of {max(sides)}^3 voxels is larger than its region of {tuple(shape)}")
    side = torch.tensor(tuple(sides))[torch.randint(len(sides), (count,), generator=generator)]
    rooms = torch.tensor(tuple(shape)) - side[:, None] + 1
    corners = (torch.rand(count, 3, generator=generator, dtype=torch.float64) * rooms).long()
    return torch.cat([corners, side[:, None]], 1)


def random_pair(
    shape: Sequence[int], sides: Sequence[int], overlap: float | int, generator: torch.Generator | None = None
) -> Int[Tensor, "2 4"]:
    """Two cubes as of random_cubes, whose intersection is more than a share of their union: others are drawn again.

    Raises:
        ValueError: if a cube is larger than the region, or if hardly any two overlap so much.
    """
    for _ in range(100):
        one, other = random_cubes(shape, sides, 2048, generator).view(2, 1024, 4)
        (enough,) = (intersection_over_union(one, other) > overlap).nonzero(as_tuple=True)
        if len(enough):
            return torch.stack([one[enough[0]], other[enough[0]]])
    raise ValueError(f"no two crops of {list(sides)}^3 voxels overlap by {overlap} in a region of {tuple(shape)}")


def refuse_large_crops(name: str, sides: Sequence[int], region: Sequence[int], scan: Sequence[int]) -> None:
    """Raise a ValueError if a cube of one of the sides, a recipe's `name`, is larger than the region of a scan."""
    if max(sides) > min(region):
        raise ValueError(
            f"a crop of {max(sides)}^3 voxels ({name}) is larger than a region of {tuple(region)}, all that a scan of "
            f"{tuple(scan)} voxels holds"
        )


def intersection_over_union(one: Int[Tensor, "m 4"], other: Int[Tensor, "m 4"]) -> Float[Tensor, " m"]:
    """|a and b| / |a or b| of pairs of cubes, each its first voxel and its side; in float64."""
    first = torch.maximum(one[:, :3], other[:, :3])
    beyond = torch.minimum(one[:, :3] + one[:, 3:], other[:, :3] + other[:, 3:])
    both = (beyond - first).clamp(min=0).prod(-1).double()
    return both / (one[:, 3] ** 3 + other[:, 3] ** 3 - both)


def cubes_around(
    cubes: Int[Tensor, "n 4"],
    margin: int,
    shape: Sequence[int],
    sides: Sequence[int],
    count: int,
    generator: torch.Generator | None = None,
) -> Int[Tensor, "m 4"]:
    """Random cubes within the bounding box of some, widened by a margin as far as the region reaches.

    Raises:
        ValueError: if one is larger than that box.
    """
    first = (cubes[:, :3].amin(0) - margin).clamp(min=0)
    beyond = torch.minimum((cubes[:, :3] + cubes[:, 3:]).amax(0) + margin, torch.tensor(tuple(shape)))
    found = random_cubes((beyond - first).tolist(), sides, count, generator)
    found[:, :3] += first
    return found


def overlap_shares(crops: Int[Tensor, "m 3"], bases: Int[Tensor, "k 3"], size: Sequence[int]) -> Float[Tensor, "m k"]:
    """y_ik = |a_i and b_k| / |a_i| of crops and bases of one size, float64; a row sums to 1 where the bases tile."""
    sides = torch.tensor(tuple(size))
    first, beyond = torch.maximum(crops[:, None], bases), torch.minimum(crops[:, None], bases) + sides
    return (beyond - first).clamp(min=0).prod(-1).double() / sides.prod()


def filled_shares(mask: Bool[Tensor, "x y z"], size: Sequence[int]) -> Float[Tensor, "_ _ _"]:
    """Share of a mask in the crop of one size from every corner that it may have; float64.

    Raises:
        ValueError: if a crop is larger than the mask.
    """
    if any(side < length for side, length in zip(mask.shape, size, strict=True)):
        raise ValueError(f"a crop of {tuple(size)} voxels is larger than its region of {tuple(mask.shape)}")
    sums = F.pad(mask.int(), (1, 0) * 3)
    for axis, length in enumerate(size):
        sums = sums.cumsum(axis, dtype=torch.int32)
        sums = sums.narrow(axis, length, sums.shape[axis] - length) - sums.narrow(axis, 0, sums.shape[axis] - length)
    return sums.double() / math.prod(size)


def filled_corners(
    mask: Bool[Tensor, "x y z"],
    size: Sequence[int],
    least: float | int,
    count: int,
    generator: torch.Generator | None = None,
) -> Int[Tensor, "m 3"]:
    """First voxels of random crops of one size that a mask fills to a share at least; where it fills none to that, of
    those that it fills most.

    Raises:
        ValueError: if a crop is larger than the mask.
    """
    shares = filled_shares(mask, size)
    corners = (shares >= min(least, float(shares.max()))).nonzero()
    return corners[torch.randint(len(corners), (count,), generator=generator)]


def cut(
    volume: Shaped[Tensor, "c x y z"], corner: Sequence[int], size: Sequence[int], to: Sequence[int] | None = None
) -> Shaped[Tensor, "c _ _ _"]:
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
