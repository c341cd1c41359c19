"""Small token maps and scans on grids that are turned, mirrored and of unequal spacing."""

from collections.abc import Sequence

import numpy as np
import torch

from s2dc_core.data import Scan
from s2dc_core.features import TokenMap, token_affine

ANGLE = np.deg2rad(30)
OBLIQUE = np.array(  # left-handed: the first axis is mirrored; turned about the third
    [
        [-2 * np.cos(ANGLE), -3 * np.sin(ANGLE), 0, 40],
        [-2 * np.sin(ANGLE), 3 * np.cos(ANGLE), 0, -25],
        [0, 0, 2.5, 7],
        [0, 0, 0, 1],
    ]
)
LEFT_HANDED = np.array([[-2.0, 0, 0, 30], [0, 3, 0, -25], [0, 0, 2.5, 7], [0, 0, 0, 1]])


def random_map(
    grid: Sequence[int] = (4, 3, 5),
    channels: int = 6,
    seed: int = 0,
    affine: np.ndarray = OBLIQUE,
    patch: Sequence[int] = (2, 2, 2),
) -> TokenMap:
    features = torch.randn(*grid, channels, generator=torch.Generator().manual_seed(seed))
    return TokenMap(features, tuple(patch), token_affine(affine, patch))


def world(cells: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Grid indices [N, 3] in mm, one at a time."""
    return np.array([(affine @ [*cell, 1])[:3] for cell in cells])


def scan_of(
    raw: np.ndarray, affine: np.ndarray = OBLIQUE, label: np.ndarray | None = None, name: str = "small"
) -> Scan:
    """Numbers as a scan; all above 0 is body."""
    raw = torch.as_tensor(np.ascontiguousarray(raw, dtype=np.float32))
    return Scan(
        volume=raw[None].clone(),
        raw=raw,
        affine=affine,
        spacing=tuple(np.linalg.norm(affine[:3, :3], axis=0).tolist()),
        label=None if label is None else torch.as_tensor(np.ascontiguousarray(label, dtype=np.int32)),
        names={},
        modality="ct",
        background=0.0,
        foreground=raw > 0,
        name=name,
    )
