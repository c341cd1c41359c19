"""What a weights file holds, read without running code, and which of its tensors are the encoder's.

Who writes which form, and how a parameter is called there:

- export_encoder, and SwinUNETR's own: safetensors, or a state dict; swinViT.layers1.0.blocks.0.mlp.linear1.weight
- MONAI's self-supervised SwinUNETR (model_swinvit.pt): {"state_dict"}; module.layers1.0.blocks.0.mlp.fc1.weight
- MONAI's ssl_pretrained_weights.pth: {"model", "optimizer"}; encoder.layers1.0.0.blocks.0.mlp.linear1.weight
- MONAI's SSLHead, SwinMM (pretrained_ckpt.pt): {"state_dict", "optimizer"}; module.swinViT.layers1..., rotation_head...
- VoCo's released heads: a state dict; swinViT.layers1..., encoder1... to encoder10..., no decoder
- VoCo, the paper's published code: {"state_dict"} or a state dict; student.swinViT.layers1..., also teacher...
- older research code: {"state_dict"}; swin_vit.layers1...
- Lightning: {"state_dict"}; model.swinViT.layers1...

The wrapping does not matter: wherever in nested mappings a patch embedding lies, there is an encoder.
"""

import os
import pickle
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from s2dc_core.pointers import stands_in

PATCHES = "patch_embed.proj.weight"
OWN_NAME = re.compile(r"(?:(.*)\.)?(absolute_pos_embed|(?:patch_embed|layers\d+c?)\..+)")
"""Where the Swin transformer's own name of a tensor starts; "c" marks the residual convolutions of v2 blocks."""

WRAPPERS = ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
"""What DDP, torch.compile and FSDP put into names, at the front or in between."""

AVERAGED = re.compile(r"teacher|momentum|shadow|averag|(?:^|[._])(?:ema|avg|swa|target)(?:[._]|$)", re.IGNORECASE)
"""Names of a network that is not trained itself but follows another one."""

OPTIMISER = re.compile("optim", re.IGNORECASE)
"""How the keys begin under which an optimiser keeps a number for each weight."""

LAYOUTS = (
    (re.compile(r"(^|\.)(student|teacher)\."), "VoCo, or the paper's published code: a student and its teacher"),
    (re.compile(r"(^|\.)swin_vit\."), "older research code (swin_vit)"),
    (re.compile(r"^state_dict\.model\.swinViT\."), "Lightning, around a SwinUNETR"),
    (re.compile(r"\.mlp\.fc1\."), "MONAI's self-supervised SwinUNETR (model_swinvit.pt)"),
    (re.compile(r"^(model\.)?encoder\.layers1\.0\.0\."), "MONAI's ssl_pretrained_weights.pth"),
)
"""Whose layout a file has, by how it calls the first weight of a block's perceptron; the first that fits."""

DERIVED = ("attn.relative_position_index", "attn_mask")
"""Tensors that follow from the window alone: files may hold them, and nobody needs them."""

DEEPEST = 10
"""Mappings within mappings that are looked into."""

AGAIN = "copy or download it again"
NEITHER = "is neither a safetensors file (as exports are) nor a state dict (as torch.save writes)"
ARCHIVES = {
    (0, b"\x1f\x8b"): "compressed by gzip",
    (257, b"ustar"): "a tar archive",
    (0, b"7z\xbc\xaf"): "a 7z archive",
    (0, b"Rar!"): "a RAR archive",
}


_Path = tuple[str, ...]


class EncoderTensors(NamedTuple):
    """The tensors of one encoder in a file.

    Attributes:
        own: under the Swin transformer's own names, such as "layers1.0.blocks.0.mlp.linear1.weight".
        others: what lies in the same mapping, under the file's names.
        taken: which encoder it is and why, where the file holds several, or a teacher alone; else "".
        names: of each of `own` the keys that lead to it in the file, joined by dots.
    """

    own: dict[str, Tensor]
    others: dict[str, Tensor]
    taken: str
    names: dict[str, str]


class _Aside:
    """Stands for what a checkpoint holds beside its tensors: nothing of it is made, nothing of it is called."""

    def __init__(self, *_):
        pass

    def __setstate__(self, _):
        pass


def _harmless() -> list[tuple[type, str]]:
    """Names in a pickle that are passed over: numpy's numbers and arrays, options and paths."""
    modules = ("numpy.core.multiarray", "numpy._core.multiarray")  # of numpy 1 and of numpy 2
    names = [f"{module}.{name}" for module in modules for name in ("scalar", "_reconstruct")]
    names += [f"numpy.{name}" for name in ("dtype", "ndarray", "bool_", "str_", "bytes_")]
    names += sorted({f"numpy.{kind.__name__}" for kind in np.sctypeDict.values()} - set(names))
    names += [f"numpy.dtypes.{name}" for name in dir(np.dtypes) if name.endswith("DType")]
    names += [f"{module}.{kind}Path" for module in ("pathlib", "pathlib._local") for kind in ("Posix", "Windows")]
    return [(_Aside, name) for name in (*names, "argparse.Namespace", "builtins.bytes")]


def read_content(file: Path) -> tuple[object, dict[str, str]]:
    """What a file holds, tensors in nested mappings, and the texts in the header of a safetensors file.

    Only tensors are read: a pickle that would run code is refused.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: saying what it is, if it is no weights file, or damaged, or would run code.
    """
    if not file.is_file():
        raise FileNotFoundError(f"no weights file {file}")
    if instead := stands_in(file):
        raise ValueError(f"{file} {NEITHER}: it is {instead}")
    with file.open("rb") as opened:
        head = opened.read(512)
    if head[8:9] == b"{":
        return _read_safetensors(file)
    for (place, magic), archive in ARCHIVES.items():
        if head[place:].startswith(magic):
            raise ValueError(f"{file} {NEITHER}: it is {archive}, unpack it and give the file inside")
    if head.startswith(b"PK"):
        _refuse_other_archives(file)
    elif not head.startswith(b"\x80"):
        raise ValueError(f"{file} {NEITHER}: it begins with {head[:8]!r}")
    return _read_torch(file), {}


def _read_safetensors(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(file, framework="pt") as archive:
            return {name: archive.get_tensor(name) for name in archive.keys()}, archive.metadata() or {}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{file} is a safetensors file that was cut short or damaged ({error}): {AGAIN}") from error


def _refuse_other_archives(file: Path) -> None:
    """A ValueError for a zip archive that torch.save did not write, or not to its end."""
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile as error:
        raise ValueError(f"{file} was cut short or damaged ({error}): {AGAIN}") from error
    inside = {name.partition("/")[2] for name in names}
    if "constants.pkl" in inside:
        raise ValueError(f"{file} is a TorchScript program: save its state dict, torch.jit.load(...).state_dict()")
    if "data.pkl" not in inside:
        there = f"such as {names[0]}" if names else "it is empty"
        raise ValueError(f"{file} {NEITHER}: it is a zip archive of {len(names)} files, {there}: unpack it first")


def _read_torch(file: Path) -> object:
    try:
        with torch.serialization.safe_globals(_harmless()):
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle may raise anything
        if isinstance(error, pickle.UnpicklingError) and (code := re.search(r"GLOBAL (\S+)", str(error))):
            raise ValueError(
                f"{file} holds more than tensors, {code[1]}, and reading it could run its code. If you trust it, save "
                "its state dict once with torch.save, or as safetensors"
            ) from error
        reason = str(error).rpartition("WeightsUnpickler error: ")[2].strip().split("\n")[0] or type(error).__name__
        raise ValueError(f"{file} was cut short or damaged, or torch.save did not write it ({reason})") from error


def find_encoder(content: object, file: Path) -> EncoderTensors:
    """The tensors of the encoder in what a file holds; of a student and its teacher the student's.

    Raises:
        ValueError: naming what there is, if there are no tensors, or several encoders of which none follows another.
    """
    tensors = dict(_tensors_in(content))
    if not tensors:
        keys = f" with the keys {listed(list(map(str, content)))}" if content and isinstance(content, Mapping) else ""
        raise ValueError(f"{file} holds a {type(content).__name__}{keys}, not a state dict: there is no tensor in it")
    encoders: dict[str, dict[str, _Path]] = {}
    for path, tensor in tensors.items():
        words = [word for word in ".".join(path).split(".") if word not in WRAPPERS]
        found = None if any(OPTIMISER.match(key) for key in path) else OWN_NAME.fullmatch(".".join(words))
        if not found or found[2].endswith(DERIVED):
            continue
        own = re.sub(r"^(layers\d+)\.0\.0\.", r"\1.0.", found[2]).replace(".mlp.fc", ".mlp.linear")
        known = encoders.setdefault(found[1] or "", {}).setdefault(own, path)
        if not _alike(tensors[known], tensor):
            raise _several(file, [known, path])
    whole = {name: held for name, held in encoders.items() if PATCHES in held}
    chosen, taken = _choose(whole or encoders, tensors, file)
    paths = encoders.get(chosen, {})
    inside = set(paths.values())
    home = os.path.commonprefix([path[:-1] for path in inside or tensors])
    left = [path for path in tensors if path[: len(home)] == tuple(home) and path not in inside]
    others = {".".join(path[len(home) :]): tensors[path] for path in left if not path[-1].endswith(DERIVED)}
    names = {own: ".".join(path) for own, path in paths.items()}
    return EncoderTensors({own: tensors[path] for own, path in paths.items()}, others, taken, names)


def layout_of(found: EncoderTensors) -> str:
    """Whose layout the names of an encoder in a file are, in words; what wraps them does not matter.

    Names tell no more than the table above: VoCo's and the published code's are the same.
    """
    mlp = next((name for own, name in found.names.items() if ".mlp.linear1." in own), "")
    words = [word for word in mlp.split(".") if word not in WRAPPERS]
    name = ".".join(words)
    for pattern, whose in LAYOUTS:
        if pattern.search(name):
            return whose
    if re.match(r"((state_dict|model)\.)?swinViT\.", name):
        beside = [other.removeprefix("module.") for other in found.others]
        if any(other.startswith("rotation_head") for other in beside):
            return "MONAI's SSLHead, which SwinMM has too: an encoder with heads for its pretext"
        decoder = any(other.startswith("decoder") for other in beside)
        if not decoder and any(other.startswith("encoder10.") for other in beside):
            return "MONAI's SwinUNETR without its decoder, as VoCo's released heads are"
        return f"MONAI's SwinUNETR, {'with its decoder' if decoder else 'its encoder alone'}"
    return f"names of MONAI's Swin transformer, such as {mlp}"


def listed(names: Sequence[str], most: int = 4) -> str:
    """The first of some names, and how many there are."""
    return f"{', '.join(names[:most])}, ... ({len(names)} in all)" if len(names) > most else ", ".join(names)


def _tensors_in(content: object, path: _Path = ()) -> Iterator[tuple[_Path, Tensor]]:
    """Each tensor with the keys that lead to it."""
    if isinstance(content, Tensor):
        yield path, content
    elif isinstance(content, Mapping | list | tuple) and len(path) < DEEPEST:
        for key, value in content.items() if isinstance(content, Mapping) else enumerate(content):
            yield from _tensors_in(value, (*path, str(key)))


def _choose(encoders: Mapping[str, dict[str, _Path]], tensors: Mapping[_Path, Tensor], file: Path) -> tuple[str, str]:
    """The name of the encoder that is taken, and why it is, if there is anything to say of it."""
    if not encoders:
        return "", ""
    trained = [name for name in encoders if not AVERAGED.search(name)]
    first, *more = trained or encoders
    paths = encoders[first]
    different = [held for held in map(encoders.get, more) if not _saved_twice(paths, held, tensors)]
    if different:
        raise _several(file, [next(iter(held.values())) for held in (paths, *different)])
    following = [name for name in encoders if name not in trained]
    if trained and following:
        return first, f"{first or 'the one without a name'}, which is trained; {', '.join(following)} follows it"
    return first, "" if trained else f"{first}, there is no other"


def _saved_twice(one: dict[str, _Path], other: dict[str, _Path], tensors: Mapping[_Path, Tensor]) -> bool:
    """Whether two encoders are one, kept under two keys."""
    apart = all(one[own][:-1] != other[own][:-1] for own in one.keys() & other.keys())
    return apart and one.keys() == other.keys() and all(_alike(tensors[one[own]], tensors[other[own]]) for own in one)


def _alike(one: Tensor, other: Tensor) -> bool:
    return one is other or (one.shape == other.shape and one.dtype == other.dtype and torch.equal(one, other))


def _several(file: Path, paths: Sequence[_Path]) -> ValueError:
    count = "two" if len(paths) == 2 else len(paths)
    *names, last = (".".join(path) for path in paths)
    return ValueError(f"{file} holds {count} encoders, {', '.join(names)} and {last}: save the one that you want")
