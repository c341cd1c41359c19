"""Which patch is which after a 3D warp (paper section 3.2, equations 2 and 3).

Conventions. Voxel k of an axis has its centre at coordinate k. A token of patch (px, py, pz) at grid cell (a, b, c)
covers the voxels a*px .. a*px+px-1, so its centre is at a*px + (px-1)/2. Tokens are listed with the last grid axis
fastest. ``H`` takes homogeneous voxel coordinates of a source region V to those of its counterpart V'.

The warped image and the ground-truth matches come from the same H. Coordinates are computed in float64: a match is a
yes-or-no question, and its answer must not depend on rounding.
"""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

TOLERANCE = 1e-9
"""Width, in voxels, by which the closed intervals of equation 3 are widened against rounding."""

Grid = Sequence[int]
Reals = Sequence[float | int]


class Matches(NamedTuple):
    """The ones of the ground-truth matrix M_gt, as three index vectors sorted by batch, source, target.

    Attributes:
        batch: region of the batch, [P].
        source: token of V, [P].
        target: token of V' that shows the same place, [P].
    """

    batch: Int[Tensor, " p"]
    source: Int[Tensor, " p"]
    target: Int[Tensor, " p"]

    def per_region(self, regions: int) -> Int[Tensor, " b"]:
        """Number of matches ``|M_gt|`` of each region, [B]."""
        # Not by bincount, for whose longest a GPU would be waited for.
        return torch.zeros(regions, dtype=torch.long, device=self.batch.device).index_add_(
            0, self.batch, torch.ones_like(self.batch)
        )

    def to(self, device: torch.device | str) -> "Matches":
        """The same matches on another device."""
        return Matches(*(index.to(device) for index in self))


def grid_of(shape: Sequence[int], patch: Sequence[int]) -> tuple[int, int, int]:
    """Number of tokens along each axis of a volume whose sides are multiples of the patch.

    Raises:
        ValueError: if a side of the volume is not a multiple of the patch.
    """
    if any(side % p or side < p for side, p in zip(shape, patch, strict=True)):
        raise ValueError(
            f"a volume of {tuple(shape)} voxels cannot be cut into patches of {tuple(patch)}: "
            "crop or pad each side to a multiple of the patch"
        )
    return tuple(side // p for side, p in zip(shape, patch, strict=True))


def check_fits(shape: Sequence[int], strides: Sequence[Sequence[int]]) -> None:
    """Raises ValueError if a scan of this shape is smaller than one patch of a level."""
    for stride in strides:
        if any(side < s for side, s in zip(shape, stride, strict=True)):
            raise ValueError(
                f"a scan of {tuple(shape)} voxels is smaller than one patch of {tuple(stride)}: "
                "use a finer token level or a larger scan"
            )


def token_centres(grid: Grid, patch: Grid) -> Float[Tensor, "n 3"]:
    """Centres c_n of all tokens, [N, 3] float64 in voxels, last grid axis fastest."""
    axes = [torch.arange(g, dtype=torch.float64) * p + (p - 1) / 2 for g, p in zip(grid, patch, strict=True)]
    return torch.cartesian_prod(*axes)


def transform_points(H: Float[Tensor, "*b 4 4"], points: Float[Tensor, "n 3"]) -> Float[Tensor, "*b n 3"]:
    """H(c) for each point: [N, 3] with H [4, 4], or [B, N, 3] with H [B, 4, 4]."""
    H = H.to(points.dtype)
    return points @ H[..., :3, :3].mT + H[..., None, :3, 3]


def inverse(H: Float[Tensor, "*b 4 4"]) -> Float[Tensor, "*b 4 4"]:
    """H^-1 in float64.

    Raises:
        ValueError: if H holds NaN, is singular, or is no affine (last row not 0 0 0 1).
    """
    device, H = H.device, H.double().cpu()  # a GPU would be waited for at every check
    last_row = torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=H.dtype)
    if not torch.isfinite(H).all() or not torch.equal(H[..., 3, :], last_row.expand_as(H[..., 3, :])):
        raise ValueError(f"H must be finite affine matrices whose last row is 0 0 0 1, got\n{H}")
    determinant = torch.linalg.det(H[..., :3, :3])
    if (determinant.abs() < 1e-12).any():
        raise ValueError(f"H cannot be inverted (determinant {determinant.tolist()}): it flattens the volume")
    return torch.linalg.inv(H).to(device)


def ground_truth_matches(
    H: Float[Tensor, "*b 4 4"],
    grid: Grid,
    patch: Grid,
    valid_source: Bool[Tensor, "*b n"] | None = None,
    valid_target: Bool[Tensor, "*b n"] | None = None,
) -> Matches:
    """Equations 2 and 3: (i, j) matches if H(c_i) lies in the box of j and H^-1(c_j) in the box of i.

    The boxes are closed, as printed, so a shift by half a patch gives two matches per token and shifted axis.
    A point lies in at most two boxes along an axis, so eight cells per token are looked at: O(N), not O(N^2).

    Args:
        H: source to target voxel coordinates, [4, 4] or [B, 4, 4].
        grid: tokens along each axis, the same for V and V'.
        patch: voxels of a token along each axis (W, H, D in the paper).
        valid_source: tokens of V that may match, [N] or [B, N]; None for all.
        valid_target: tokens of V' that may match, [N] or [B, N]; None for all.

    Raises:
        ValueError: if H cannot be inverted.
    """
    H = H.double().reshape(-1, 4, 4)
    centres = token_centres(grid, patch).to(H.device)
    size = torch.tensor(patch, dtype=torch.float64, device=H.device)
    cells = torch.tensor(grid, device=H.device)
    half_box = size / 2 + TOLERANCE
    mapped = transform_points(H, centres)
    # The slack only lets rounding keep a candidate; the test below decides with the stated tolerance.
    first_cell = torch.ceil((mapped - (size - 1) / 2) / size - 0.5 - 1e-6).long()

    found = []
    for offset in itertools.product((0, 1), repeat=3):
        cell = first_cell + torch.tensor(offset, device=H.device)
        batch, source = ((cell >= 0) & (cell < cells)).all(-1).nonzero(as_tuple=True)
        cell = cell[batch, source]
        target = (cell[:, 0] * grid[1] + cell[:, 1]) * grid[2] + cell[:, 2]
        near = ((mapped[batch, source] - centres[target]).abs() <= half_box).all(-1)
        found.append(torch.stack([batch, source, target])[:, near])
    batch, source, target = torch.cat(found, dim=1)

    back = inverse(H)[batch]
    returned = torch.einsum("pij,pj->pi", back[:, :3, :3], centres[target]) + back[:, :3, 3]
    keep = ((returned - centres[source]).abs() <= half_box).all(-1)
    for valid, index in ((valid_source, source), (valid_target, target)):
        if valid is not None:
            keep &= valid.to(H.device).expand(len(H), len(centres))[batch, index]
    tokens = len(centres)
    order = torch.argsort((batch[keep] * tokens + source[keep]) * tokens + target[keep])
    return Matches(batch[keep][order], source[keep][order], target[keep][order])


def warp(
    volume: Shaped[Tensor, "b c x y z"],
    H: Float[Tensor, "*b 4 4"],
    mode: str = "trilinear",
    fill: float | int | Tensor = 0.0,
) -> Shaped[Tensor, "b c x y z"]:
    """The counterpart V': out(H p) = volume(p), that is out(q) = volume(H^-1 q), on the same voxel grid.

    Args:
        volume: [B, C, X, Y, Z]; of any type in mode "nearest". Half precision is interpolated in float32.
        H: source to target voxel coordinates, [4, 4] or [B, 4, 4]; best on the CPU, where it is inverted.
        mode: "trilinear" for images, "nearest" for label maps (halves round up).
        fill: value where H^-1 q lies outside the volume, or one for each volume, [B]. Between the outermost voxel
            centres and one voxel beyond them a trilinear result blends into the fill.

    Raises:
        ValueError: for an unknown mode, whole numbers in mode "trilinear", or an H that cannot be inverted.
    """
    if mode not in ("trilinear", "nearest"):
        raise ValueError(f"unknown mode {mode!r}: warp knows 'trilinear' and 'nearest'")
    back = inverse(H).expand(len(volume), 4, 4)
    fill = torch.as_tensor(fill, device=volume.device).reshape(-1, 1, 1, 1, 1)
    if mode == "nearest":
        return _warp_nearest(volume, back.to(volume.device), fill)
    if not volume.is_floating_point():
        raise ValueError(f"a volume of {volume.dtype} cannot be interpolated: use mode='nearest' for labels")
    return pull(volume, back, fill=fill)


def pull(
    volume: Float[Tensor, "b c x y z"],
    back: Float[Tensor, "b 4 4"],
    shift: Float[Tensor, "b 3 x y z"] | None = None,
    fill: float | int | Tensor = 0.0,
) -> Float[Tensor, "b c x y z"]:
    """out(q) = volume(G (q + u(q))) on the same voxel grid: what warp does with G = H^-1 and no u.

    Nothing is inverted, so that nothing is waited for where G is made on a GPU; it has a gradient for G and u.

    Args:
        back: G, output to input voxel coordinates.
        shift: u, in voxels; None for 0.
        fill: see warp.
    """
    working = volume if volume.dtype == torch.float64 else volume.float()
    if isinstance(fill, Tensor):
        fill = fill.reshape(-1, 1, 1, 1, 1).to(working.dtype)
    # grid_sample wants -1 and 1 at the volume's faces, half a voxel beyond the outer centres, and the last axis first.
    rows = [2 * back[:, axis] / side for axis, side in enumerate(volume.shape[2:])]
    for row, side in zip(rows, volume.shape[2:], strict=True):
        row[:, 3] += 1 / side - 1
    matrix = torch.stack(rows[::-1], 1).to(volume.device, non_blocking=True)
    return _sample(working - fill, matrix, shift).add_(fill).to(volume.dtype)


def _warp_nearest(volume: Tensor, back: Tensor, fill: Tensor) -> Tensor:
    at = _map_grid(back[:, :3], volume.shape[2:], torch.float64)
    sides = torch.tensor(volume.shape[2:], device=volume.device)
    index = torch.floor(at + 0.5 + TOLERANCE).long()
    inside = ((index >= 0) & (index < sides)).all(-1)
    index = index.clamp(min=0).minimum(sides - 1)
    flat = (index[..., 0] * sides[1] + index[..., 1]) * sides[2] + index[..., 2]
    values = volume.flatten(2).gather(2, flat.flatten(1)[:, None].expand(-1, volume.shape[1], -1))
    return torch.where(inside[:, None], values.view_as(volume), fill.to(volume.dtype))


def _map_grid(matrix: Float[Tensor, "b 3 4"], shape: Sequence[int], dtype: torch.dtype) -> Float[Tensor, "b x y z 3"]:
    """matrix (q, 1) for every voxel q of a grid; one plane per coordinate in memory, which is what vectorises."""
    x, y, z = (torch.arange(side, dtype=torch.float64, device=matrix.device) for side in shape)
    column = matrix[..., None, None, None]
    start = column[:, :, 0] * x[:, None, None] + column[:, :, 1] * y[:, None] + column[:, :, 3]
    return (start.to(dtype) + (column[:, :, 2] * z).to(dtype)).movedim(1, -1)


def _sample(
    volume: Float[Tensor, "b c x y z"], matrix: Float[Tensor, "b 3 4"], shift: Float[Tensor, "b 3 x y z"] | None
) -> Float[Tensor, "b c x y z"]:
    places = _map_grid(matrix, volume.shape[2:], volume.dtype)
    if shift is not None:
        turned = matrix[:, :, :3, None, None, None].to(volume.dtype) * shift[:, None].to(volume.dtype)
        places = places + turned.sum(2).movedim(1, -1)
    if shift is not None or volume.device.type != "cpu" or len(volume) != 1 or volume.requires_grad:
        return F.grid_sample(volume, places, align_corners=False)
    # A CPU's grid_sample gives a thread to each volume of a batch: one volume alone is sampled as a batch of slabs. Its
    # gradient would be held once for each slab.
    slabs = math.gcd(volume.shape[2], torch.get_num_threads())
    out = F.grid_sample(volume.expand(slabs, -1, -1, -1, -1), places[0].unflatten(0, (slabs, -1)), align_corners=False)
    return out.movedim(0, 1).flatten(1, 2)[None]


def affine_about_centre(
    shape: Sequence[int],
    spacing: Reals,
    rotation_deg: Reals = (0.0, 0.0, 0.0),
    scale: float | int = 1.0,
    translation_mm: Reals = (0.0, 0.0, 0.0),
) -> Float[Tensor, "4 4"]:
    """H = S^-1 (T R Z) S about the region's centre, [4, 4] float64, with S = diag(spacing).

    Working in millimetres keeps the motion rigid (up to Z) when voxels are not cubes; a rotation matrix applied to
    the indices of 0.7 x 0.7 x 5 mm voxels would shear the patient.

    Args:
        shape: voxels of the region.
        spacing: millimetres per voxel along each axis.
        rotation_deg: rotation vector; its direction is the axis, its length the angle in degrees (R).
        scale: one factor for the three axes (Z); above 1 the counterpart shows things larger.
        translation_mm: shift in millimetres, applied last (T).

    Raises:
        ValueError: if a spacing or the scale is not positive.
    """
    if any(not s > 0 for s in spacing) or not scale > 0:
        raise ValueError(f"spacing {tuple(spacing)} and scale {scale} must be positive")
    x, y, z = (math.radians(angle) for angle in rotation_deg)
    generator = torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=torch.float64)
    S = torch.tensor(spacing, dtype=torch.float64)
    centre = (torch.tensor(shape, dtype=torch.float64) - 1) / 2
    H = torch.eye(4, dtype=torch.float64)
    H[:3, :3] = scale * torch.linalg.matrix_exp(generator) * S / S[:, None]
    H[:3, 3] = torch.tensor(translation_mm, dtype=torch.float64) / S + centre - H[:3, :3] @ centre
    return H


def random_affine(
    shape: Sequence[int],
    spacing: Reals,
    rotation_deg: float | int,
    scale: Reals,
    translation_mm: float | int,
    generator: torch.Generator | None = None,
    in_plane: bool = False,
) -> Float[Tensor, "4 4"]:
    """A random H about the region's centre: rotation about any axis, one scale, translation; see affine_about_centre.

    The axis is uniform on the sphere, the angle uniform in +-rotation_deg, the scale uniform in the given interval
    and each component of the translation uniform in +-translation_mm. In plane, as in the published recipe, the axis is
    the last one and nothing moves along it.
    """
    axis = F.normalize(torch.randn(3, generator=generator, dtype=torch.float64), dim=0)
    axis = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64) if in_plane else axis
    angle, where, *shift = torch.rand(5, generator=generator, dtype=torch.float64).tolist()
    low, high = scale
    return affine_about_centre(
        shape,
        spacing,
        rotation_deg=(axis * (2 * angle - 1) * rotation_deg).tolist(),
        scale=low + (high - low) * where,
        translation_mm=[(2 * s - 1) * translation_mm * (k < 2 or not in_plane) for k, s in enumerate(shift)],
    )


def split_region(region: Float[Tensor, "b c x y z"], sub_volume: Grid) -> Float[Tensor, "bg c sx sy sz"]:
    """Cut regions [B, C, X, Y, Z] into their non-overlapping sub-volumes [B*G, C, sx, sy, sz], last axis fastest.

    Raises:
        ValueError: if a side of the region is not a multiple of the sub-volume.
    """
    grid_of(region.shape[2:], sub_volume)
    sx, sy, sz = sub_volume
    return rearrange(region, "b c (gx sx) (gy sy) (gz sz) -> (b gx gy gz) c sx sy sz", sx=sx, sy=sy, sz=sz)


def lay_back(maps: Float[Tensor, "bg c x y z"], counts: Grid) -> Float[Tensor, "b c gx gy gz"]:
    """Inverse of split_region for token maps: [B*G, C, x, y, z] to [B, C, gx*x, gy*y, gz*z].

    Args:
        maps: token maps of the sub-volumes in the order of split_region.
        counts: sub-volumes of a region along each axis.
    """
    gx, gy, gz = counts
    return rearrange(maps, "(b gx gy gz) c x y z -> b c (gx x) (gy y) (gz z)", gx=gx, gy=gy, gz=gz)
