"""The network (paper section 3.1): a Swin encoder, projection heads, a momentum teacher and a queue.

The encoder is MONAI's SwinTransformer under the name that MONAI's SwinUNETR gives it (``swinViT``), so an exported
file fits a SwinUNETR of the same sizes parameter by parameter.
"""

import copy
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from monai.networks.nets.swin_unetr import SwinTransformer
from safetensors.torch import save
from torch import Tensor, nn

from s2dc_core.geometry import grid_of, lay_back, split_region
from s2dc_core.matching import check_choice
from s2dc_core.weights import ENCODER, read_weights, sizes_of, with_channels

LEVELS = 5
TOKEN_HEADS = ("mlp", "none")
PATCHES = f"{ENCODER}patch_embed.proj.weight"


@dataclass(frozen=True)
class EncoderConfig:
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

    def __post_init__(self):
        for name in ("depths", "heads", "sub_volume"):  # JSON and YAML give lists; a frozen value holds tuples
            value = getattr(self, name)
            if not isinstance(value, Sequence) or isinstance(value, str):
                raise ValueError(f"{name} must be a list of whole numbers, got {value!r}")
            object.__setattr__(self, name, tuple(value))
        single = {name: (getattr(self, name),) for name in ("in_channels", "embed_dim", "window", "patch")}
        for name, values in (
            single | {name: getattr(self, name) for name in ("depths", "heads", "sub_volume")}
        ).items():
            if any(not isinstance(value, int) or isinstance(value, bool) or value < 1 for value in values):
                raise ValueError(f"{name} must hold whole numbers from 1 up, got {getattr(self, name)!r}")
        if len(self.depths) != LEVELS - 1 or len(self.heads) != LEVELS - 1:
            raise ValueError(f"depths {self.depths} and heads {self.heads} must name four stages each")
        for stage, heads in enumerate(self.heads):
            if self.embed_dim * 2**stage % heads:
                raise ValueError(
                    f"stage {stage} has {self.embed_dim * 2**stage} channels, which {heads} heads cannot share"
                )
        if len(self.sub_volume) != 3 or any(side % self.patch for side in self.sub_volume):
            raise ValueError(f"sub_volume {self.sub_volume} must be three multiples of the patch, {self.patch}")

    @classmethod
    def teaching(cls, **overrides) -> "EncoderConfig":
        """A small encoder for a laptop: embedding 24, windows of 4, sub-volumes of 48^3."""
        small = {"embed_dim": 24, "heads": (2, 4, 8, 16), "window": 4, "sub_volume": (48, 48, 48)}
        return cls(**{**small, **overrides})

    def stride(self, level: int) -> tuple[int, int, int]:
        """Voxels of a token at a level along each axis: patch * 2^level.

        Raises:
            ValueError: for a level that the encoder does not have.
        """
        if level not in range(LEVELS):
            raise ValueError(f"the encoder has the token levels 0 to {LEVELS - 1}, not {level}")
        return (self.patch * 2**level,) * 3


class Encoder(nn.Module):
    """phi: volumes [B, C, X, Y, Z] to the five token maps of MONAI's SwinTransformer.

    Level k is [B, embed_dim * 2^k, X / s, Y / s, Z / s] with s = patch * 2^k, layer-normalised over its channels. A
    side that s does not divide is padded at its far end, and the last token is then no whole patch.
    """

    levels = LEVELS

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

    def stride(self, level: int) -> tuple[int, int, int]:
        """Voxels of a token at a level along each axis."""
        return self.config.stride(level)

    def forward(self, volume: Float[Tensor, "b c x y z"]) -> list[Float[Tensor, "b d _ _ _"]]:
        """The token maps of levels 0 to 4.

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
        return self.swinViT(volume)


class ProjectionHead(nn.Sequential):
    """A three-layer perceptron on the last axis, ReLU between; "layer" or "batch" normalisation over the features."""

    def __init__(self, channels: int, hidden: int, out: int, norm: str = "layer"):
        check_choice("head norm", norm, ("layer", "batch"))

        def block(inputs: int) -> list[nn.Module]:
            middle = nn.LayerNorm(hidden) if norm == "layer" else nn.BatchNorm1d(hidden, affine=False)
            return [nn.Linear(inputs, hidden), middle, nn.ReLU()]

        super().__init__(*block(channels), *block(hidden), nn.Linear(hidden, out))

    def forward(self, features: Float[Tensor, "*shape c"]) -> Float[Tensor, "*shape d"]:
        """Project each feature vector; leading axes are one batch."""
        return super().forward(features.flatten(0, -2)).unflatten(0, features.shape[:-1])


def join_levels(maps: Sequence[Float[Tensor, "b _ _ _ _"]]) -> Float[Tensor, "b x y z c"]:
    """One token for each cell of the finest map, holding the cells of all levels that it lies in.

    Each level counts alike: every vector is brought to length 1 / sqrt(levels), so a joined token has length 1 and the
    cosine of two of them is the mean of the levels' cosines. The fine levels give it detail, the coarse ones context.

    Args:
        maps: [B, X_k, Y_k, Z_k, C_k], finest first; each grid divides the first.

    Raises:
        ValueError: if a grid does not divide the first.
    """
    grid = maps[0].shape[1:4]
    joined = []
    for cells in maps:
        vectors = F.normalize(cells, dim=-1) / len(maps) ** 0.5
        for axis, times in enumerate(grid_of(grid, cells.shape[1:4]), start=1):
            vectors = vectors.repeat_interleave(times, axis)
        joined.append(vectors)
    return torch.cat(joined, -1)


class BranchOutput(NamedTuple):
    """What student and teacher make of a region.

    Attributes:
        tokens: per chosen level, or one entry if they are joined, unit-length tokens of the whole region, [B, N, D],
            last grid axis fastest.
        pooled: projected mean of each sub-volume's last map, [B * sub-volumes, D], of any length.
    """

    tokens: list[Float[Tensor, "b n d"]]
    pooled: Float[Tensor, "g d"]


class Branch(nn.Module):
    """An encoder with a token head per level and one for whole sub-volumes."""

    def __init__(
        self,
        encoder: Encoder,
        levels: Sequence[int],
        hidden: int,
        out: int,
        norm: str,
        token_head: str = "mlp",
        joined: bool = False,
    ):
        super().__init__()
        check_choice("token_head", token_head, TOKEN_HEADS)
        if joined and list(levels) != sorted(set(levels)):
            raise ValueError(f"levels to be joined go from fine to coarse, such as 1, 2, 3; got {tuple(levels)}")
        self.encoder, self.levels, self.joined = encoder, tuple(levels), joined
        channels = encoder.config.embed_dim
        for level in self.levels:
            grid_of(encoder.config.sub_volume, encoder.stride(level))
        self.token_heads = nn.ModuleList(
            nn.Identity() if token_head == "none" else ProjectionHead(channels * 2**k, hidden, out, norm)
            for k in self.levels
        )
        self.pooled_head = ProjectionHead(channels * 2 ** (LEVELS - 1), hidden, out, norm)

    def forward(self, region: Float[Tensor, "b c x y z"]) -> BranchOutput:
        """Encode the sub-volumes of each region and lay their tokens back into the region's grid."""
        sub_volume = self.encoder.config.sub_volume
        counts = grid_of(region.shape[2:], sub_volume)
        maps = self.encoder(split_region(region, sub_volume))
        tokens = []
        for level, head in zip(self.levels, self.token_heads, strict=True):
            laid_back = lay_back(maps[level], counts).movedim(1, -1)
            tokens.append(F.normalize(head(laid_back), dim=-1))
        if self.joined:
            tokens = [join_levels(tokens)]
        return BranchOutput([cells.flatten(1, 3) for cells in tokens], self.pool(maps))

    def pool(self, maps: list[Tensor]) -> Float[Tensor, "g d"]:
        """The projected mean of the last map."""
        return self.pooled_head(maps[-1].flatten(2).mean(-1))

    def embed(self, sub_volumes: Float[Tensor, "g c x y z"]) -> Float[Tensor, "g d"]:
        """Pooled features of single sub-volumes, without tokens."""
        return self.pool(self.encoder(sub_volumes))


class StudentTeacher(nn.Module):
    """The student phi and its teacher phi*, an exponential moving average that gets no gradient (MoCo).

    Args:
        config: sizes of both encoders.
        levels: token levels of the structure losses, a head each.
        hidden, out: sizes of the heads; the published code has 2048 and 512.
        norm: of the heads, "layer" (default) or "batch".
        momentum: share of the old teacher that an update keeps, in [0, 1].
        token_head: "mlp" compares tokens behind a ProjectionHead, "none" as the encoder gives them: the losses then
            shape the cosines that heatmaps and silhouettes read.
        joined: whether the tokens of the levels are one token per cell of the finest, see join_levels.
    """

    def __init__(
        self,
        config: EncoderConfig,
        levels: Sequence[int] = (2,),
        hidden: int = 2048,
        out: int = 512,
        norm: str = "layer",
        momentum: float | int = 0.999,
        token_head: str = "mlp",
        joined: bool = False,
    ):
        super().__init__()
        if not 0 <= momentum <= 1:
            raise ValueError(f"momentum must lie in [0, 1], got {momentum}")
        self.momentum = momentum
        self.student = Branch(Encoder(config), levels, hidden, out, norm, token_head, joined)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)

    @torch.no_grad()
    def update_teacher(self) -> None:
        """phi* <- momentum phi* + (1 - momentum) phi; call it after the optimiser's step. Buffers are copied.

        Raises:
            RuntimeError: in evaluation mode, where the teacher must not move.
        """
        if not self.training:
            raise RuntimeError("update_teacher() belongs to training: call model.train() first")
        for old, new in zip(self.teacher.parameters(), self.student.parameters(), strict=True):
            old.lerp_(new, 1 - self.momentum)
        for old, new in zip(self.teacher.buffers(), self.student.buffers(), strict=True):
            old.copy_(new)

    @torch.no_grad()
    def teach(self, region: Float[Tensor, "b c x y z"]) -> BranchOutput:
        """The teacher's output, without gradient."""
        return self.teacher(region)


class FeatureQueue(nn.Module):
    """The dictionary of equation 1: the last ``size`` teacher features, any number of them added at a time."""

    def __init__(self, size: int, channels: int):
        super().__init__()
        if size < 0:
            raise ValueError(f"the queue's size must not be negative, got {size}")
        self.register_buffer("features", torch.zeros(size, channels))
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def add(self, features: Float[Tensor, "k d"]) -> None:
        """Append features, [K, D]; the oldest leave."""
        size = len(self.features)
        kept = features[max(len(features) - size, 0) :]
        if len(kept):
            first = int(self.seen) + len(features) - len(kept)
            slots = (torch.arange(len(kept), device=kept.device) + first) % size
            self.features[slots] = kept.to(self.features.dtype)
        self.seen += len(features)

    def negatives(self) -> Float[Tensor, "k d"]:
        """The features held so far, [K, D] with K <= size; a copy, so that a later add() does not change it."""
        return self.features[: min(int(self.seen), len(self.features))].clone()


@dataclass(frozen=True)
class WeightsReport:
    """What became of each tensor of a weights file; names as in the encoder."""

    matched: Sequence[str]
    missing: Sequence[str]
    unexpected: Sequence[str]
    wrong_shape: Sequence[str]

    def __str__(self) -> str:
        left = {kind: names for kind, names in self._kinds() if kind != "matched"}
        return "\n".join([self._counts(), *(f"  {kind}: {name}" for kind, names in left.items() for name in names)])

    def brief(self) -> str:
        """The counts, and the first names of each kind that did not match."""
        first = [
            f"{kind}: {', '.join(names[:3])}{', ...' * (len(names) > 3)}" for kind, names in self._kinds() if names
        ]
        return "; ".join([self._counts(), *(part for part in first if not part.startswith("matched"))])

    def _counts(self) -> str:
        return ", ".join(f"{len(names)} {kind}" for kind, names in self._kinds())

    def _kinds(self) -> list[tuple[str, Sequence[str]]]:
        return [(kind.replace("_", " "), names) for kind, names in vars(self).items()]


def export_encoder(encoder: Encoder, file: str | Path, dtype: torch.dtype | None = None) -> None:
    """Write the encoder's parameters and its configuration as safetensors; a file of that name is replaced whole.

    The attention's index tables, which follow from the window alone, are left out.

    Args:
        dtype: torch.float16 halves the file; None keeps that of the parameters.

    Raises:
        FileNotFoundError: if the folder does not exist, or the name is that of a folder.
    """
    file = Path(file)
    if file.is_dir() or not file.parent.is_dir():
        raise FileNotFoundError(f"cannot write {file}: give the name of a file in a folder that exists")
    weights = {name: value.detach().to(dtype or value.dtype).contiguous() for name, value in encoder.named_parameters()}
    beside = file.with_name(file.name + ".part")
    try:
        # Not save_file, which lets nobody but its owner read the file, whatever the folder's rules are.
        beside.write_bytes(save(weights, metadata={"s2dc_encoder": json.dumps(asdict(encoder.config))}))
        os.replace(beside, file)
    finally:
        beside.unlink(missing_ok=True)


def load_encoder(file: str | Path, in_channels: int | None = None) -> tuple[Encoder, WeightsReport]:
    """Build the encoder that a weights file holds, and say what of it matched.

    Reads what export_encoder writes, and the files that weights.py names: MONAI's SwinUNETR and its self-supervised
    weights, VoCo's, the published code's; with v1 and v2 blocks. Sizes come from the file, or from its tensors' shapes;
    the sub-volume is then the paper's, 96^3.

    Args:
        in_channels: of the encoder; None for those of the file. The patch embedding is spread over them, or summed, so
            that an image repeated in all channels gives the same features.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no weights file, would run code, holds no valid configuration and no Swin encoder, or a
            tensor that is not finite, or if none of its tensors fits.
    """
    weights, described = read_weights(file)
    try:
        config = EncoderConfig(**(sizes_of(weights) if described is None else described))
        config = replace(config, in_channels=config.in_channels if in_channels is None else in_channels)
    except (TypeError, ValueError, IndexError) as error:
        raise ValueError(f"{file} describes no encoder: {error}") from error
    with torch.random.fork_rng(devices=[]):  # loading weights must not move anyone's random draws
        encoder = Encoder(config)
    return encoder, _copy_into(encoder, weights, file)


def load_into(network: nn.Module, file: str | Path) -> WeightsReport:
    """Copy a file's weights into a network that holds an encoder under the name swinViT, such as MONAI's SwinUNETR.

    Tensors that do not fit are left alone and named; the patch embedding fits any number of input channels.

    Raises:
        FileNotFoundError, ValueError: as load_encoder; nothing is copied then.
    """
    return _copy_into(network, read_weights(file)[0], file)


def _copy_into(network: nn.Module, weights: dict[str, Tensor], file: str | Path) -> WeightsReport:
    own = dict(network.named_parameters())
    if PATCHES in own and PATCHES in weights and own[PATCHES].ndim == weights[PATCHES].ndim > 1:
        weights[PATCHES] = with_channels(weights[PATCHES], own[PATCHES].shape[1])
    fits = {name for name in own if name in weights and weights[name].shape == own[name].shape}
    report = WeightsReport(
        matched=sorted(fits),
        missing=sorted(set(own) - set(weights)),
        unexpected=sorted(set(weights) - set(own)),
        wrong_shape=sorted(set(own) & set(weights) - fits),
    )
    if not fits:
        raise ValueError(f"nothing in {file} fits: {report.brief()}")
    if PATCHES in report.wrong_shape:
        theirs, ours = tuple(weights[PATCHES].shape), tuple(own[PATCHES].shape)
        raise ValueError(
            f"{file} holds another encoder: its patch embedding is {theirs}, the network's is {ours} ({report.brief()})"
        )
    for name in sorted(fits):
        if not weights[name].is_floating_point() or not torch.isfinite(weights[name]).all():
            raise ValueError(f"{name} in {file} is no finite floating-point tensor: the file is damaged")
    with torch.no_grad():
        for name in fits:
            own[name].copy_(weights[name])
    return report
