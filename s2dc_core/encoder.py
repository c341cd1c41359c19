"""The Swin encoder (paper section 3.1).

It is MONAI's SwinTransformer under the name that MONAI's SwinUNETR gives it (``swinViT``), so an exported file fits a
SwinUNETR of the same sizes parameter by parameter.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from monai.networks.nets.swin_unetr import SwinTransformer
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from s2dc_core.geometry import grid_of
from s2dc_core.options import Options, that, whole_numbers, whole_numbers_to, within

LEVELS = 5

LEVEL_NAMES = that(
    lambda levels: 0 < len(set(levels)) == len(levels) and set(levels) <= set(range(LEVELS)),
    f"must name at least one token level of 0 to {LEVELS - 1}, each once",
)


@dataclass(frozen=True)
class EncoderConfig(Options):
    """Sizes of the Swin encoder; the defaults are the paper's.

    Attributes:
        in_channels: channels of the volume.
        embed_dim: channels at level 0; level k has embed_dim * 2^k.
        depths, heads: blocks and attention heads of the four stages.
        window: side of the attention windows, in tokens.
        patch: voxels of a level-0 token along each axis.
        use_v2: a residual convolution before each stage (SwinUNETR-V2), with instance norms.
        sub_volume: the size it is trained on; features are computed in tiles of it.
    """

    in_channels: int = 1
    embed_dim: int = 48
    depths: Sequence[int] = (2, 2, 2, 2)
    heads: Sequence[int] = (3, 6, 12, 24)
    window: int = 7
    patch: int = 2
    use_v2: bool = True
    sub_volume: Sequence[int] = (96, 96, 96)

    RULES: ClassVar = {
        "in_channels": within(1, 1024),
        "embed_dim": within(1, 4096),
        "depths": whole_numbers_to(64),
        "heads": whole_numbers_to(4096),
        "window": within(1, 24),  # a block keeps a table of window^6 entries
        "patch": within(1, 128),
        "sub_volume": whole_numbers_to(4096),
    }

    @classmethod
    def disagreements(cls, values, sound) -> Iterator[str]:
        """Four stages, whose channels their heads share; sub-volumes of whole patches."""
        depths, heads, sides = values.depths, values.heads, values.sub_volume
        if sound("depths", "heads") and {len(depths), len(heads)} != {LEVELS - 1}:
            yield f"depths {depths} and heads {heads} must name four stages each"
        for stage, number in enumerate(heads if sound("heads", "embed_dim") else ()):
            channels = values.embed_dim * 2**stage
            if channels % number:
                yield f"stage {stage} has {channels} channels, which {number} heads cannot share (embed_dim, heads)"
        if sound("sub_volume", "patch") and (len(sides) != 3 or any(side % values.patch for side in sides)):
            yield f"sub_volume {sides} must be three multiples of the patch, {values.patch}"

    @classmethod
    def teaching(cls, **overrides) -> "EncoderConfig":
        """A small encoder for a laptop: embedding 24, windows of 4, sub-volumes of 48^3."""
        small = {"embed_dim": 24, "heads": (2, 4, 8, 16), "window": 4, "sub_volume": (48, 48, 48)}
        return cls(**{**small, **overrides})

    def stride(self, level: Real) -> tuple[int, int, int]:
        """Voxels of a token at a level along each axis: patch * 2^level.

        Raises:
            ValueError: for a level that the encoder does not have.
        """
        (level,) = whole_numbers("level", [level])
        if level not in range(LEVELS):
            raise ValueError(f"the encoder has the token levels 0 to {LEVELS - 1}, not {level}")
        return (self.patch * 2**level,) * 3


class Encoder(nn.Module):
    """phi: volumes [B, C, X, Y, Z] to the five token maps of MONAI's SwinTransformer.

    Level k is [B, embed_dim * 2^k, X / s, Y / s, Z / s] with s = patch * 2^k, layer-normalised over its channels. A
    side that s does not divide is padded at its far end, and the last token is then no whole patch.

    Attributes:
        trained_on: how the scans were prepared that it was trained on, a list as data.settings_of gives it; None where
            nobody noted it. It goes into the encoder's file and comes back from it.
        at_a_time: volumes encoded at a time, keeping only their maps and computing the rest again for the gradient:
            less memory, a third more time; None for all at once.
    """

    levels = LEVELS
    trained_on: list[dict] | None = None
    at_a_time: int | None = None

    def __init__(self, config: EncoderConfig):
        super().__init__()
        self.config = config
        self.swinViT = SwinTransformer(
            in_chans=config.in_channels,
            embed_dim=config.embed_dim,
            window_size=(config.window,) * 3,
            patch_size=(config.patch,) * 3,
            depths=config.depths,
            num_heads=config.heads,
            use_v2=config.use_v2,
            use_flash_attention=True,  # MONAI takes it only where no gradient is wanted: the teacher, and features.
        )

    @classmethod
    def from_seed(cls, config: EncoderConfig, seed: int) -> "Encoder":
        """A fresh encoder; the same seed gives the same weights, and the global random state stays as it is."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(config)

    def stride(self, level: Real) -> tuple[int, int, int]:
        """Voxels of a token at a level along each axis."""
        return self.config.stride(level)

    def forward(
        self,
        volume: Float[Tensor, "b c x y z"],
        masked: Bool[Tensor, "b _ _ _"] | None = None,
        mask_token: Float[Tensor, " embed"] | None = None,
    ) -> list[Float[Tensor, "b d _ _ _"]]:
        """The token maps of levels 0 to 4.

        Args:
            masked: level-0 tokens that are replaced by the mask token between the patch embedding and the first stage.

        Raises:
            ValueError: for another number of channels, a side that is no multiple of the patch, or a volume too
                small for the instance norm of the last stage.
        """
        if volume.shape[1] != self.config.in_channels:
            raise ValueError(f"the encoder takes {self.config.in_channels} channels, the volume has {volume.shape[1]}")
        grid_of(volume.shape[2:], self.stride(0))
        last_stage = self.config.patch * 8
        if self.config.use_v2 and all(side <= last_stage for side in volume.shape[2:]):
            raise ValueError(
                f"a volume of {tuple(volume.shape[2:])} leaves one token for the last stage's instance norm: "
                f"use sub-volumes larger than {last_stage} voxels"
            )
        if self.at_a_time is None:
            return self._encode(volume, masked, mask_token)
        masks = [None] * len(volume) if masked is None else masked.split(self.at_a_time)
        parts = []
        for part, mask in zip(volume.split(self.at_a_time), masks, strict=False):
            again = torch.is_grad_enabled()
            given = (part, mask, mask_token)
            parts.append(checkpoint(self._encode, *given, use_reentrant=False) if again else self._encode(*given))
        return [torch.cat(maps) for maps in zip(*parts, strict=True)]

    def _encode(self, volume: Tensor, masked: Tensor | None, mask_token: Tensor | None) -> list[Tensor]:
        if masked is None:
            return self.swinViT(volume)

        def replace(_module: nn.Module, _inputs: tuple, tokens: Tensor) -> Tensor:
            return torch.where(masked[:, None], mask_token[:, None, None, None].to(tokens.dtype), tokens)

        hook = self.swinViT.patch_embed.register_forward_hook(replace)
        try:
            return self.swinViT(volume)
        finally:
            hook.remove()
