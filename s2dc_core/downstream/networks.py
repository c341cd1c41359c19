"""Networks for the downstream tasks, with the encoder from scratch or from any file that load_encoder accepts."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Float
from monai.networks.nets import UNETR, SwinUNETR
from torch import Tensor, nn

from s2dc_core.downstream.config import ViTSizes
from s2dc_core.encoder import Encoder, EncoderConfig
from s2dc_core.library.arms import open_weights

SCRATCH = ""
"""The name of no weights: the encoder starts from random numbers."""


class TokenNetwork(nn.Module):
    """The encoder, and one linear layer on the token maps of some of its levels."""

    def __init__(self, config: EncoderConfig, outputs: int, levels: Sequence[int]):
        super().__init__()
        self.encoder, self.levels = Encoder(config), tuple(levels)
        self.linear = nn.Linear(sum(config.embed_dim * 2**level for level in self.levels), outputs)

    @property
    def swinViT(self) -> nn.Module:
        """The Swin transformer, under its name in MONAI's SwinUNETR."""
        return self.encoder.swinViT


class Classifier(TokenNetwork):
    """Each level averaged over the volume, the levels joined, a linear layer."""

    def forward(self, volume: Float[Tensor, "b c x y z"]) -> Float[Tensor, "b k"]:
        """A score for each class."""
        maps = self.encoder(volume)
        return self.linear(torch.cat([maps[level].mean((2, 3, 4)) for level in self.levels], dim=1))


class LinearDecoder(TokenNetwork):
    """The levels joined on the grid of the finest, a linear layer for each token, answers interpolated to voxels.

    What it can tell apart is in the tokens, so it measures them, and it needs fewer steps than a decoder of its own.
    """

    def forward(self, volume: Float[Tensor, "b c x y z"]) -> Float[Tensor, "b k x y z"]:
        """A score for each class at each voxel."""
        maps = self.encoder(volume)
        chosen = [maps[level] for level in self.levels]
        grid = max((each.shape[2:] for each in chosen), key=math.prod)
        joined = torch.cat([_resized(each, grid) for each in chosen], dim=1)
        return _resized(self.linear(joined.movedim(1, -1)).movedim(-1, 1), volume.shape[2:])


def _resized(volume: Float[Tensor, "b c _ _ _"], shape: Sequence[int]) -> Float[Tensor, "b c _ _ _"]:
    return nn.functional.interpolate(volume, size=tuple(shape), mode="trilinear", align_corners=False)


def swin_unetr(config: EncoderConfig, outputs: int) -> SwinUNETR:
    """MONAI's SwinUNETR around an encoder of these sizes."""
    return SwinUNETR(
        in_channels=config.in_channels,
        out_channels=outputs,
        patch_size=config.patch,
        depths=config.depths,
        num_heads=config.heads,
        window_size=config.window,
        feature_size=config.embed_dim,
        use_v2=config.use_v2,
    )


def vit_unetr(sizes: ViTSizes, region: Sequence[int], channels: int, outputs: int) -> UNETR:
    """MONAI's UNETR (Hatamizadeh et al., WACV 2022), for volumes of the region's size and no other.

    Its skips are read after blocks 4, 7 and 10; the paper says 3, 6 and 9.
    """
    return UNETR(
        in_channels=channels,
        out_channels=outputs,
        img_size=tuple(region),
        feature_size=sizes.feature,
        hidden_size=sizes.hidden,
        mlp_dim=sizes.mlp,
        num_heads=sizes.heads,
    )


def encoder_part(network: nn.Module) -> nn.Module:
    """The part of a task's network that encodes: a Swin transformer, or the transformer of a UNETR."""
    return network.vit if isinstance(network, UNETR) else network.swinViT


def encoder_for(
    weights: str | Path, sizes: EncoderConfig | None, channels: int
) -> tuple[EncoderConfig, Encoder | None]:
    """Sizes of the encoder, and the trained one if there are weights.

    Args:
        weights: SCRATCH; or what `open_weights` takes: an arm of the course, a file, a checkpoint's folder.
        sizes: that it must have; None for those of the weights, or from scratch the course's.
        channels: of the input; the weights are spread over them.

    Raises:
        ValueError: as open_weights; and for weights of other sizes, naming both.
        FileNotFoundError: if there is no such file.
    """
    if str(weights) == SCRATCH:
        return replace(sizes or EncoderConfig.teaching(use_v2=False), in_channels=channels), None
    encoder = open_weights(weights, channels)
    found = encoder.config
    aside = {"in_channels": channels, "sub_volume": found.sub_volume}
    if sizes and replace(sizes, **aside) != found:
        differing = {
            name: f"{theirs} there, {getattr(sizes, name)} here"
            for name, theirs in vars(found).items()
            if name not in aside and theirs != getattr(sizes, name)
        }
        listed = "; ".join(f"{name}: {text}" for name, text in differing.items())
        raise ValueError(f"{weights} holds an encoder of other sizes ({listed}): leave out encoder to take the file's")
    return found, encoder


def start_from(network: nn.Module, encoder: Encoder | None) -> None:
    """Copy a trained encoder into a network that has one of the same sizes under the name swinViT."""
    if encoder is not None:
        network.swinViT.load_state_dict(encoder.swinViT.state_dict())
