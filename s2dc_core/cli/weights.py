"""`s2dc weights`: what a weights file is, what of it an encoder takes, and the encoder alone as a file."""

import argparse
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from s2dc_core.cli.pretrain import refuse_counts
from s2dc_core.data import settings_in_words
from s2dc_core.data.files import expand
from s2dc_core.encoder import Encoder, EncoderConfig
from s2dc_core.library import SHIPPED, shipped_record
from s2dc_core.library.results import WEIGHTS
from s2dc_core.statedicts import find_encoder, layout_of, listed, read_content
from s2dc_core.weights import SIZES, WeightsReport, export_encoder, load_encoder

OURS = "ours, as export_encoder writes it"
FEATURE_SIZES = 12
"""MONAI's SwinUNETR takes multiples of it only."""


def add_to(commands: argparse._SubParsersAction) -> None:
    """Add the command."""
    parser = commands.add_parser("weights", help="what a weights file is and whether an encoder can be read from it")
    parser.set_defaults(command=_weights)
    file = f"weights of ours, MONAI, VoCo, the published code; a checkpoint's folder; {', '.join(SHIPPED)}"
    parser.add_argument("file", metavar="FILE", help=file)
    parser.add_argument("--export", metavar="F.safetensors", help="write the encoder alone there")
    parser.add_argument("--in-channels", type=int, metavar="N", help="of the encoder; default: the file's")


def _weights(options: argparse.Namespace) -> int:
    refuse_counts(options, {"in_channels": 1})
    file = _file_of(options.file)
    export = _refuse_export(options.export, file) if options.export is not None else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # which encoder was taken is told below
        content, header = read_content(file)
        found = find_encoder(content, file)
        encoder, report = load_encoder(file, options.in_channels)
    if options.file in SHIPPED:
        encoder.trained_on = encoder.trained_on or shipped_record(options.file).get("scans")
    lines = {
        "file": str(file),
        "layout": OURS if SIZES in header else layout_of(found),
        "taken": report.taken,
        "encoder": _sizes(encoder.config, SIZES in header),
        "parameters": f"{sum(each.numel() for each in encoder.parameters()):,}, {_dtypes(found.own)}",
        "trained on": _trained_on(encoder),
        "loading": _loading(report),
    }
    for name, said in lines.items():
        if said:
            print(f"{name:12s}{said}")
    if report.missing or report.wrong_shape:
        if export is not None:
            print(f"not exported to {export}: tensors of the encoder are missing or of another shape", file=sys.stderr)
        return 1
    if export is not None:
        export_encoder(encoder, export)
        print(f"{'exported':12s}{export}\n{into_monai(encoder.config, export)}")
    return 0


def _file_of(name: str) -> Path:
    """The file of an arm, of a checkpoint's folder, or the file itself."""
    if name in SHIPPED:
        return WEIGHTS / f"{name}.safetensors"
    file = expand(name)
    if file.is_dir():
        if not (file / "encoder.safetensors").is_file():
            raise FileNotFoundError(f"{file} is no checkpoint: there is no encoder.safetensors in it")
        return file / "encoder.safetensors"
    if not file.suffix and not file.exists():
        raise ValueError(f"there are no weights {name!r}: give one of {', '.join(SHIPPED)}, or a file")
    return file


def _refuse_export(name: str, file: Path) -> Path:
    """Where the encoder goes, which is neither another kind of file nor the one that is read."""
    export = expand(name)
    if export.suffix != ".safetensors":
        raise ValueError(f"--export {export}: the encoder is written as safetensors, give a name that ends so")
    if export.is_dir() or not export.parent.is_dir():
        raise FileNotFoundError(f"cannot write {export}: give the name of a file in a folder that exists")
    if export.exists() and file.exists() and export.samefile(file):
        raise ValueError(f"--export {export} is what is read: give another name")
    return export


def _sizes(config: EncoderConfig, noted: bool) -> str:
    """The encoder's sizes in words; a sub-volume only where the file notes it."""
    blocks = "v2 blocks (residual convolutions)" if config.use_v2 else "v1 blocks"
    channels = f"{config.in_channels} input channel{'s' * (config.in_channels > 1)}"
    sizes = f"{channels}, embedding {config.embed_dim}, depths {_row(config.depths)}, heads {_row(config.heads)}"
    tiles = f", trained on {_row(config.sub_volume)} voxels" if noted else ""
    return f"{sizes}, window {config.window}, patch {config.patch}, {blocks}{tiles}"


def _dtypes(own: Mapping[str, Tensor]) -> str:
    """In which types the file holds the encoder."""
    return ", ".join(sorted({str(each.dtype).removeprefix("torch.") for each in own.values()}))


def _trained_on(encoder: Encoder) -> str:
    entries = []
    for note in encoder.trained_on or ():
        count = f"{note['scans']} scans, " if note.get("scans") else ""
        entries.append(f"{count}{settings_in_words(note)}")
    return "; ".join(entries) or "not noted"


def _loading(report: WeightsReport) -> str:
    """How much of the file matched, and the first names of what did not."""
    kinds = {
        "missing": report.missing,
        "of another shape": report.wrong_shape,
        "in the file and not the encoder's, left unread": report.unexpected,
    }
    counts = [f"{len(report.matched)} tensors matched", *(f"{len(names)} {kind}" for kind, names in kinds.items())]
    first = [f"\n  {kind}: {listed(list(names))}" for kind, names in kinds.items() if names]
    return ", ".join(counts) + "".join(first)


def into_monai(config: EncoderConfig, file: Path) -> str:
    """The lines of code that load an exported encoder into MONAI's SwinUNETR; or why it cannot take it."""
    if config.embed_dim % FEATURE_SIZES or config.patch != 2:
        return f"MONAI's SwinUNETR takes embeddings of multiples of {FEATURE_SIZES} and a patch of 2 only"
    sizes = {
        "in_channels": config.in_channels,
        "out_channels": 2,
        "feature_size": config.embed_dim,
        "depths": tuple(config.depths),
        "num_heads": tuple(config.heads),
        "window_size": config.window,
        "use_v2": config.use_v2,
    }
    return "\n".join(
        [
            "",
            "from monai.networks.nets import SwinUNETR",
            "from s2dc_core.weights import load_into",
            "",
            f"network = SwinUNETR({', '.join(f'{name}={value!r}' for name, value in sizes.items())})",
            f"print(load_into(network, {str(file)!r}).brief())  # what is missing is the decoder",
        ]
    )


def _row(numbers) -> str:
    return " ".join(map(str, numbers))
