"""Decoders: from the maps of the encoder back to voxels, of any sub-volume that the encoder takes."""

import math
from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from s2dc_core.encoder import LEVELS, EncoderConfig


def plain_decoder(encoder: EncoderConfig, level: int = LEVELS - 1) -> nn.Sequential:
    """Transposed convolutions alone, from the map of a level [G, embed * 2^level, ..] to voxels [G, C, X, Y, Z].

    Channels are halved where sides are doubled. It is a linear map of the token to the voxels that it covers, and of
    lower rank than one layer of all of them would be; it costs next to nothing beside the encoder.
    """
    widths = [encoder.embed_dim * 2**each for each in reversed(range(level + 1))]
    steps = [nn.ConvTranspose3d(one, other, 2, stride=2) for one, other in zip(widths, widths[1:], strict=False)]
    last = nn.ConvTranspose3d(widths[-1], encoder.in_channels, encoder.patch, stride=encoder.patch)
    return nn.Sequential(*steps, last)


def conv_block(inputs: int, outputs: int) -> nn.Sequential:
    """A convolution of 3 x 3 x 3, GroupNorm and LeakyReLU."""
    norm = nn.GroupNorm(math.gcd(8, outputs), outputs)
    return nn.Sequential(nn.Conv3d(inputs, outputs, 3, padding=1), norm, nn.LeakyReLU(0.01))


class Decoder(nn.Module):
    """Steps of convolution, GroupNorm, LeakyReLU and trilinear up-sampling, from the map of a level to voxels.

    GroupNorm, since the last map of a sub-volume of 32^3 is one token, which an instance norm cannot take. With skips
    every step but the first also reads the encoder's map of its grid; the volume itself is never read, so that what
    was hidden from the encoder stays hidden.

    Args:
        encoder: sizes.
        level: of the map that it starts from.
        skips: whether it reads the finer maps too.

    Attributes:
        channels: of the map that each step makes, from coarse to fine.
    """

    def __init__(self, encoder: EncoderConfig, level: int = LEVELS - 1, skips: bool = False):
        super().__init__()
        self.level, self.skips = level, skips
        inputs = [encoder.embed_dim * 2**each for each in range(level, -1, -1)]
        self.channels = [max(width // 2, 1) for width in inputs]
        self.factors = [2] * level + [encoder.patch]
        if skips:
            inputs = [width * (2 if step else 1) for step, width in enumerate(inputs)]
        self.steps = nn.ModuleList(conv_block(one, other) for one, other in zip(inputs, self.channels, strict=True))

    def forward(
        self, maps: Sequence[Float[Tensor, "g _ _ _ _"]], steps: int | None = None
    ) -> list[Float[Tensor, "g _ _ _ _"]]:
        """What each step makes, from coarse to fine; the last has the grid of the voxels.

        Args:
            maps: the encoder's, level 0 first.
            steps: how many are taken; None for all.
        """
        made, decoded = maps[self.level], []
        for number, (step, factor) in enumerate(zip(self.steps[:steps], self.factors[:steps], strict=True)):
            if self.skips and number:
                made = torch.cat([made, maps[self.level - number]], 1)
            made = step(made)
            if factor > 1:
                made = F.interpolate(made, scale_factor=factor, mode="trilinear")
            decoded.append(made)
        return decoded


class VoxelDecoder(Decoder):
    """A Decoder whose last map a 1 x 1 x 1 convolution turns to the channels of the volume."""

    def __init__(self, encoder: EncoderConfig, level: int = LEVELS - 1, skips: bool = False):
        super().__init__(encoder, level, skips)
        self.last = nn.Conv3d(self.channels[-1], encoder.in_channels, 1)

    def forward(self, maps: Sequence[Float[Tensor, "g _ _ _ _"]]) -> Float[Tensor, "g c x y z"]:
        """Voxels."""
        return self.last(super().forward(maps)[-1])


class PlainDecoder(nn.Module):
    """A plain_decoder that takes its map from those of all levels."""

    def __init__(self, encoder: EncoderConfig, level: int = LEVELS - 1):
        super().__init__()
        self.level, self.steps = level, plain_decoder(encoder, level)

    def forward(self, maps: Sequence[Float[Tensor, "g _ _ _ _"]]) -> Float[Tensor, "g c x y z"]:
        """Voxels."""
        return self.steps(maps[self.level])


DECODERS = {"transposed": PlainDecoder, "convolutions": VoxelDecoder, "skips": partial(VoxelDecoder, skips=True)}
"""By the name that a recipe gives."""
