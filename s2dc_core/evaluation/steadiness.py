"""What becomes of features when a scan is moved or mirrored: nothing in it changed, only where the grid lies."""

from collections.abc import Sequence
from numbers import Integral

import torch
from torch import Tensor, nn

from s2dc_core.data import Scan, body_grid
from s2dc_core.features import token_features


def steadiness(
    encoder: nn.Module, scan: Scan, levels: Sequence[Integral], voxels: Sequence[Integral]
) -> dict[str, float]:
    """Mean cosine of each token of a body with itself after the scan was moved along x, or mirrored left to right.

    Args:
        levels: of the tokens, finest first.
        voxels: by how many the scan is moved; multiples of the finest level's stride, so that its tokens hold the same
            voxels. If it is a multiple of every level's stride, all of them do.

    Returns:
        "8 voxels" and so on to a cosine, and "mirrored"; both ends are padded with background.

    Raises:
        ValueError: for a move that is no multiple of the finest level's stride.
    """
    stride, far = encoder.stride(levels[0])[0], encoder.stride(levels[-1])[0]
    if wrong := [step for step in voxels if step % stride]:
        raise ValueError(f"moved by {wrong} voxels tokens of {stride} hold other ones: give multiples of {stride}")

    def encode(volume: Tensor) -> Tensor:
        return token_features(encoder, volume, levels, background=scan.background).features

    def padded(low: int, high: int) -> Tensor:
        return torch.nn.functional.pad(scan.volume, (0, 0, 0, 0, low, high), value=float(scan.background))

    inside = body_grid(scan, encoder.stride(levels[0]))
    before = encode(scan.volume)[inside]
    after = {f"{step} voxels": encode(padded(step, 0))[step // stride :] for step in voxels}
    whole = padded(0, -scan.volume.shape[1] % far)  # its far end lies on the grid of all levels, too
    after["mirrored"] = encode(whole.flip(1)).flip(0)
    cosine = torch.nn.functional.cosine_similarity
    return {name: float(cosine(before, at[: len(inside)][inside], dim=1).mean()) for name, at in after.items()}
