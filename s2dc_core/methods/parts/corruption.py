"""Blur, noise, gamma and exchanged cells: damage to all of a volume, of which something is left everywhere."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from s2dc_core.methods.parts.damage import Range

BLUR_REACH = 3
"""Voxels to either side that a blurred one sees."""


def draw_corruption(
    blur: float | int, gamma: float | int, noise: float | int, shape: Sequence[int], generator: torch.Generator
) -> Float[Tensor, "*shape 3"]:
    """The damage of `corrupted` for some volumes: deviations up to the largest, exponents from e^-gamma to e^gamma."""
    first, second, third = torch.rand(3, *shape, generator=generator)
    return torch.stack((first * blur, ((2 * second - 1) * gamma).exp(), third * noise), -1)


def draw_swaps(cells: int, share: float | int, count: int, generator: torch.Generator) -> Int[Tensor, "count 2 k"]:
    """Pairs of cells that each of some volumes exchanges, so many that they are a share of its cells; int32."""
    taken = int(share * cells / 2)
    drawn = [torch.randperm(cells, generator=generator)[: 2 * taken].view(2, -1) for _ in range(count)]
    return torch.stack(drawn).int()


def corrupted(
    volumes: Float[Tensor, "n c x y z"], span: Range, damage: Float[Tensor, "n 3"], seeds: Int[Tensor, " n"]
) -> Float[Tensor, "n c x y z"]:
    """Blur, then noise, then gamma, sign(v) |v|^g, of intensities as shares of a range; by `damage`.

    Args:
        damage: standard deviation of the blur in voxels, exponent, standard deviation of the noise in ranges.
        seeds: of the noise, on the CPU.
    """
    blur, exponent, noise = damage.unbind(1)
    unit = blurred(span.to_unit(volumes), blur)
    unit = unit + noise[:, None, None, None, None] * noise_like(unit, seeds)
    return span.from_unit(unit.sign() * unit.abs() ** exponent[:, None, None, None, None])


def noise_like(volumes: Float[Tensor, "n c x y z"], seeds: Int[Tensor, " n"]) -> Float[Tensor, "n c x y z"]:
    """N(0, 1) for every voxel, each volume's from its seed, on its device."""
    noise = torch.empty_like(volumes)
    for single, seed in zip(noise, seeds.tolist(), strict=True):
        single.normal_(generator=torch.Generator(volumes.device).manual_seed(seed))
    return noise


def blurred(volumes: Float[Tensor, "n c x y z"], deviation: Float[Tensor, " n"]) -> Float[Tensor, "n c x y z"]:
    """Each volume through a Gaussian of its own standard deviation in voxels, cut off, edges repeated; 0 for none."""
    count, channels = volumes.shape[:2]
    reach = torch.arange(-BLUR_REACH, BLUR_REACH + 1, device=volumes.device, dtype=volumes.dtype)
    weights = torch.softmax(-((reach / deviation.clamp(min=1e-3)[:, None]) ** 2) / 2, 1)
    weights = weights[:, None].expand(-1, channels, -1).flatten(0, 1)
    flat = volumes.flatten(0, 1)[None]
    for axis in range(3):
        kernel = weights.view(-1, 1, *(2 * BLUR_REACH + 1 if other == axis else 1 for other in range(3)))
        ends = [BLUR_REACH * (other == axis) for other in (2, 2, 1, 1, 0, 0)]
        flat = F.conv3d(F.pad(flat, ends, mode="replicate"), kernel, groups=count * channels)
    return flat.view_as(volumes)


def swap_cells(
    volumes: Float[Tensor, "n c x y z"], swaps: Int[Tensor, "n 2 k"], cell: int
) -> Float[Tensor, "n c x y z"]:
    """Volumes with the cells of some pairs exchanged; cells are counted last axis fastest, the pairs lie on the CPU."""
    grid = {name: side // cell for name, side in zip("xyz", volumes.shape[2:], strict=True)}
    swaps = swaps.long()
    order = torch.arange(math.prod(grid.values())).repeat(len(volumes), 1)
    order.scatter_(1, swaps.flatten(1), swaps.flip(1).flatten(1))
    cells = rearrange(volumes, "n c (x a) (y b) (z d) -> n (x y z) (c a b d)", **grid)
    order = order.to(volumes.device, non_blocking=True)[..., None].expand_as(cells)
    parts = {"c": volumes.shape[1], "a": cell, "b": cell, "x": grid["x"], "y": grid["y"]}
    return rearrange(cells.gather(1, order), "n (x y z) (c a b d) -> n c (x a) (y b) (z d)", **parts)
