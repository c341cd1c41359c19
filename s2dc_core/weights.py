"""An encoder's weights in and out: files of several projects, see statedicts, read without running code.

Parameters go by their names in MONAI's SwinUNETR.
"""

import json
import os
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from s2dc_core.encoder import Encoder, EncoderConfig
from s2dc_core.statedicts import find_encoder, listed, read_content

ENCODER = "swinViT."
PATCHES = f"{ENCODER}patch_embed.proj.weight"
SIZES, TRAINED_ON = "s2dc_encoder", "s2dc_trained_on"
"""In the header of a file of ours: EncoderConfig, and how the scans were prepared, both as JSON."""


@dataclass(frozen=True)
class WeightsReport:
    """What became of each tensor of a weights file; names as in the encoder.

    Attributes:
        taken: of several encoders in the file which one, and why; or a teacher alone; else "".
    """

    matched: Sequence[str]
    missing: Sequence[str]
    unexpected: Sequence[str]
    wrong_shape: Sequence[str]
    taken: str = ""

    def __str__(self) -> str:
        left = {kind: names for kind, names in self._kinds() if kind != "matched"}
        taken = [f"  taken: {self.taken}"] if self.taken else []
        names = [f"  {kind}: {name}" for kind, names in left.items() for name in names]
        return "\n".join([self._counts(), *taken, *names])

    def brief(self) -> str:
        """The counts, and the first names of each kind that did not match."""
        first = [
            f"{kind}: {', '.join(names[:3])}{', ...' * (len(names) > 3)}" for kind, names in self._kinds() if names
        ]
        return "; ".join([self._counts(), *(part for part in first if not part.startswith("matched"))])

    def _counts(self) -> str:
        return ", ".join(f"{len(names)} {kind}" for kind, names in self._kinds())

    def _kinds(self) -> list[tuple[str, Sequence[str]]]:
        return [(kind.replace("_", " "), names) for kind, names in vars(self).items() if kind != "taken"]


def export_encoder(encoder: Encoder, file: str | Path, dtype: torch.dtype | None = None) -> None:
    """Write the encoder's parameters and its configuration as safetensors; a file of that name is replaced whole.

    What it was trained on (`trained_on`) goes along, if that is known. The attention's index tables, which follow from
    the window alone, are left out.

    Args:
        dtype: torch.float16 halves the file; None keeps that of the parameters.

    Raises:
        FileNotFoundError: if the folder does not exist, or the name is that of a folder.
    """
    file = Path(file)
    if file.is_dir() or not file.parent.is_dir():
        raise FileNotFoundError(f"cannot write {file}: give the name of a file in a folder that exists")
    weights = {name: value.detach().to(dtype or value.dtype).contiguous() for name, value in encoder.named_parameters()}
    header = {SIZES: json.dumps(asdict(encoder.config))}
    if encoder.trained_on is not None:
        header[TRAINED_ON] = json.dumps(encoder.trained_on, allow_nan=False)
    beside = file.with_name(file.name + ".part")
    try:
        # Not save_file, which lets nobody but its owner read the file, whatever the folder's rules are.
        beside.write_bytes(save(weights, metadata=header))
        os.replace(beside, file)
    finally:
        beside.unlink(missing_ok=True)


def load_encoder(file: str | Path, in_channels: int | None = None) -> tuple[Encoder, WeightsReport]:
    """Build the encoder that a weights file holds, and say what of it matched.

    Reads what export_encoder writes, and the files in the table of statedicts: MONAI's SwinUNETR and its
    self-supervised weights, VoCo's, the published code's; with v1 and v2 blocks, wrapped in whatever way. Sizes come
    from the file, or from its tensors' shapes; the sub-volume is then the paper's, 96^3. What the file says of the
    scans that it was trained on is in the encoder's `trained_on`.

    Args:
        in_channels: of the encoder; None for those of the file. The patch embedding is spread over them, or summed, so
            that an image repeated in all channels gives the same features.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no weights file, would run code, holds no valid configuration and no Swin encoder, two
            encoders of which none follows the other, a tensor of the encoder that nobody would read, or one that is
            not finite, or if none of its tensors fits.

    Warns:
        UserWarning: if it holds a student and a teacher, or averaged weights, saying which were taken.
    """
    weights, header, taken = _read(file)
    try:
        sizes = _noted(header, SIZES, dict, file)
        config = EncoderConfig(**(sizes_of(weights) if sizes is None else sizes))
        config = replace(config, in_channels=config.in_channels if in_channels is None else in_channels)
    except (TypeError, ValueError, IndexError) as error:
        raise ValueError(f"{file} describes no encoder: {error}") from error
    with torch.random.fork_rng(devices=[]):  # loading weights must not move anyone's random draws
        encoder = Encoder(config)
    encoder.trained_on = _noted(header, TRAINED_ON, list, file)
    return encoder, _copy_into(encoder, weights, file, taken)


def load_into(network: nn.Module, file: str | Path) -> WeightsReport:
    """Copy a file's weights into a network that holds an encoder under the name swinViT, such as MONAI's SwinUNETR.

    What the file holds beside the encoder, and tensors of another shape, are left alone and named; the patch embedding
    fits any number of input channels.

    Raises:
        FileNotFoundError, ValueError: as load_encoder; nothing is copied then.
    """
    weights, _, taken = _read(file)
    return _copy_into(network, weights, file, taken)


def _copy_into(network: nn.Module, weights: dict[str, Tensor], file: str | Path, taken: str) -> WeightsReport:
    own = dict(network.named_parameters())
    if PATCHES in own and PATCHES in weights and own[PATCHES].ndim == weights[PATCHES].ndim > 1:
        weights[PATCHES] = with_channels(weights[PATCHES], own[PATCHES].shape[1])
    fits = {name for name in own if name in weights and weights[name].shape == own[name].shape}
    report = WeightsReport(
        matched=sorted(fits),
        missing=sorted(set(own) - set(weights)),
        unexpected=sorted(set(weights) - set(own)),
        wrong_shape=sorted(set(own) & set(weights) - fits),
        taken=taken,
    )
    if not fits:
        raise ValueError(f"nothing in {file} fits: {report.brief()}")
    if PATCHES in report.wrong_shape:
        theirs, ours = tuple(weights[PATCHES].shape), tuple(own[PATCHES].shape)
        raise ValueError(
            f"{file} holds another encoder: its patch embedding is {theirs}, the network's is {ours} ({report.brief()})"
        )
    if unread := [name for name in report.unexpected if name.startswith(ENCODER)]:
        raise ValueError(
            f"{file} holds another encoder: the network has no place for {listed(unread)}, and without them it would "
            "not compute what was trained"
        )
    for name in sorted(fits):
        if not weights[name].is_floating_point() or not torch.isfinite(weights[name]).all():
            raise ValueError(f"{name} in {file} is no finite floating-point tensor: the file is damaged")
    with torch.no_grad():
        for name in fits:
            own[name].copy_(weights[name])
    return report


def read_weights(file: str | Path) -> tuple[dict[str, Tensor], dict | None]:
    """The tensors of a weights file, the encoder's renamed as in SwinUNETR, and the configuration it names.

    Of a student and its teacher the student is the encoder, and the teacher's tensors keep their own names. Only
    tensors are read: a pickle that would run code is refused.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no weights file, would run code, or holds two encoders of which neither is a teacher.
    """
    weights, header, _ = _read(file)
    return weights, _noted(header, SIZES, dict, file)


def _read(file: str | Path) -> tuple[dict[str, Tensor], dict[str, str], str]:
    """Tensors as read_weights, the header's texts, and which encoder was taken, see WeightsReport."""
    content, header = read_content(Path(file))
    found = find_encoder(content, Path(file))
    if found.taken:
        warnings.warn(f"{file}: its encoder is taken from {found.taken}", stacklevel=3)
    named = {ENCODER + own: tensor for own, tensor in found.own.items()}
    return {**found.others, **named}, header, found.taken


def _noted(header: Mapping[str, str], key: str, kind: type, file: str | Path) -> Any:
    """What the header of a file says under a key; None if it says nothing."""
    if key not in header:
        return None
    try:
        value = json.loads(header[key])
    except ValueError as error:
        raise ValueError(f"{file} describes no encoder: {error}") from error
    if not isinstance(value, kind):
        raise ValueError(f"{file} describes no encoder: {header[key]}")
    return value


def sizes_of(weights: Mapping[str, Tensor]) -> dict:
    """What EncoderConfig needs and the shapes of an encoder's tensors tell; all but the sub-volume.

    Raises:
        ValueError: naming the tensor that is not there.
    """
    for name in ("patch_embed.proj.weight", "layers1.0.blocks.0.attn.relative_position_bias_table"):
        if ENCODER + name not in weights:
            raise ValueError(f"holds no Swin encoder: there is no {name} among its tensors {listed(list(weights))}")
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
