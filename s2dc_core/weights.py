"""An encoder's weights in and out: files of several projects, read without running code.

Parameters go by their names in MONAI's SwinUNETR.

Who writes which form, and how a parameter is called there:

- export_encoder, and SwinUNETR's own: safetensors, or a state dict; swinViT.layers1.0.blocks.0.mlp.linear1.weight
- MONAI's self-supervised SwinUNETR (model_swinvit.pt): {"state_dict"}; module.layers1.0.blocks.0.mlp.fc1.weight
- VoCo, the paper's published code: {"state_dict"} or a state dict; student.swinViT.layers1..., also teacher...
- older research code: {"state_dict"}; swin_vit.layers1...
"""

import json
import os
import pickle
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from s2dc_core.encoder import Encoder, EncoderConfig

ENCODER = "swinViT."
PATCHES = f"{ENCODER}patch_embed.proj.weight"
OWN_NAME = re.compile(r"(?:^|\.)((?:patch_embed|layers[1-4]c?)\..+)$")
"""Where the Swin transformer's own name of a parameter starts; "c" marks the residual convolutions of v2 blocks."""

TABLE = "attn.relative_position_index"
"""Follows from the window alone: files may hold it, and nobody needs it."""


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

    Reads what export_encoder writes, and the files in the table above: MONAI's SwinUNETR and its self-supervised
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


def read_weights(file: str | Path) -> tuple[dict[str, Tensor], dict | None]:
    """The tensors of a weights file, the student's encoder renamed as in SwinUNETR, and the configuration it names.

    A file with a teacher keeps the teacher's tensors under their own names. Only tensors are read: a pickle that
    would run code is refused.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no weights file, would run code, or holds two encoders of which neither is a teacher.
    """
    if not Path(file).is_file():
        raise FileNotFoundError(f"no weights file {file}")
    try:
        tensors, described = _read_safetensors(file)
    except SafetensorError as error:
        tensors, described = _read_state_dict(file, error), None
    return _renamed(tensors, file), described


def sizes_of(weights: Mapping[str, Tensor]) -> dict:
    """What EncoderConfig needs and the shapes of an encoder's tensors tell; all but the sub-volume.

    Raises:
        ValueError: naming the tensor that is not there.
    """
    for name in ("patch_embed.proj.weight", "layers1.0.blocks.0.attn.relative_position_bias_table"):
        if ENCODER + name not in weights:
            raise ValueError(f"holds no Swin encoder: there is no {name}")
    embed_dim, in_channels, patch = weights[f"{ENCODER}patch_embed.proj.weight"].shape[:3]
    tables = [f"{ENCODER}layers{k}.0.blocks.0.attn.relative_position_bias_table" for k in range(1, 5)]
    blocks = [re.compile(rf"{ENCODER}layers{k}\.0\.blocks\.(\d+)\.") for k in range(1, 5)]
    depths = [len({found[1] for name in weights if (found := block.match(name))}) for block in blocks]
    return {
        "in_channels": in_channels,
        "embed_dim": embed_dim,
        "depths": depths,
        "heads": [weights[name].shape[1] if name in weights else 0 for name in tables],
        "window": (round(len(weights[tables[0]]) ** (1 / 3)) + 1) // 2,
        "patch": patch,
        "use_v2": any(name.startswith(f"{ENCODER}layers1c.") for name in weights),
    }


def with_channels(weight: Tensor, channels: int) -> Tensor:
    """A patch embedding [D, C, ...] for another number of channels, which answers alike if all channels are alike."""
    if weight.shape[1] == channels:
        return weight
    return weight.sum(1, keepdim=True).expand(-1, channels, *weight.shape[2:]) / channels


def _read_safetensors(file: str | Path) -> tuple[dict[str, Tensor], dict | None]:
    with safe_open(file, framework="pt") as archive:
        described = (archive.metadata() or {}).get("s2dc_encoder")
        tensors = {name: archive.get_tensor(name) for name in archive.keys()}  # noqa: SIM118
    if described is None:
        return tensors, None
    try:
        sizes = json.loads(described)
    except ValueError as error:
        raise ValueError(f"{file} describes no encoder: {error}") from error
    if not isinstance(sizes, dict):
        raise ValueError(f"{file} describes no encoder: {described}")
    return tensors, sizes


def _read_state_dict(file: str | Path, no_safetensors: Exception) -> dict[str, Tensor]:
    with open(file, "rb") as opened:
        written_by_torch = opened.read(2) in (b"PK", b"\x80\x02")
    try:
        found = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle may raise anything
        if written_by_torch and isinstance(error, pickle.UnpicklingError):
            raise ValueError(
                f"{file} holds more than tensors, and reading it could run its code. If you trust it, save its "
                "state dict once with torch.save, or as safetensors"
            ) from error
        raise ValueError(f"{file} is neither a safetensors file ({no_safetensors}) nor a state dict") from error
    for key in ("state_dict", "model", "net"):
        found = found[key] if isinstance(found, Mapping) and isinstance(found.get(key), Mapping) else found
    if not isinstance(found, Mapping):
        raise ValueError(f"{file} holds a {type(found).__name__}, not a state dict")
    return {str(name): value for name, value in found.items() if isinstance(value, Tensor)}


def _renamed(tensors: Mapping[str, Tensor], file: str | Path) -> dict[str, Tensor]:
    origin: dict[str, str] = {}
    for name in tensors:
        own = None if "teacher" in name else OWN_NAME.search(name)
        if name.endswith(TABLE) and own:
            continue
        new = ENCODER + own[1].replace(".mlp.fc", ".mlp.linear") if own else name
        if new in origin:
            raise ValueError(f"{file} holds two encoders, {origin[new]} and {name}: save the one that you want")
        origin[new] = name
    return {new: tensors[name] for new, name in origin.items()}
