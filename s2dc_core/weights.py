"""Weights files of several projects, read without running code, in the names of MONAI's SwinUNETR.

| written by | form | names of a parameter |
| --- | --- | --- |
| export_encoder, and SwinUNETR's own | safetensors, or a state dict | swinViT.layers1.0.blocks.0.mlp.linear1.weight |
| MONAI's self-supervised SwinUNETR (model_swinvit.pt) | {"state_dict"} | module.layers1.0.blocks.0.mlp.fc1.weight |
| VoCo, the paper's published code | {"state_dict"} or a state dict | student.swinViT.layers1..., also teacher... |
| older research code | {"state_dict"} | swin_vit.layers1... |
"""

import json
import pickle
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

ENCODER = "swinViT."
OWN_NAME = re.compile(r"(?:^|\.)((?:patch_embed|layers[1-4]c?)\..+)$")
"""Where the Swin transformer's own name of a parameter starts; "c" marks the residual convolutions of v2 blocks."""

TABLE = "attn.relative_position_index"
"""Follows from the window alone: files may hold it, and nobody needs it."""


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
