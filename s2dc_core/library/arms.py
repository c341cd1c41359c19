"""The weights that come with the course: table 7's arms, their start, moments of S2DC, a long training, four methods.

`python -m s2dc_core.studies arms` makes all of them again, `trainings --only long` the long one and `methods` those of
other methods; beside each file lies a JSON record with its recipe, seed, versions and silhouettes.
"""

from pathlib import Path

from s2dc_core.encoder import Encoder, EncoderConfig
from s2dc_core.library.results import WEIGHTS, read_result
from s2dc_core.options import make
from s2dc_core.weights import load_encoder

ARMS = {
    "contrast": {"patch_to_patch_weight": 0.0, "patch_to_structure_weight": 0.0},
    "p2p": {"patch_to_structure_weight": 0.0},
    "p2s": {"patch_to_patch_weight": 0.0},
    "s2dc": {},
}
"""The arms of table 7 and what of the loss each leaves out; L_g is in all of them."""

LONG = "s2dc-long"
"""S2DC again, trained on twice the bodies for 6,000 steps instead of 400: an hour and a half on one thread."""

OTHERS = {"swin_unetr": "Swin-UNETR", "swinmm": "SwinMM", "pcrlv2": "PCRLv2", "voco": "VoCo"}
"""The methods of the paper's figures 5 and 6, and how it calls them, as the study of all methods trained them."""

SHIPPED = (*ARMS, LONG, *OTHERS)
"""Names that `open_weights` and `shipped_record` take."""

RATES = {"contrast": 0.1}
"""Learning rates as a share of the recipe's. At the full rate L_g alone does not learn: over the last 40 of 400 steps
of `teaching`, seed 0, its loss is 3.7; at a quarter 2.2, at a tenth 1.8, the lowest tried, at a twentieth 1.9."""

TITLES = {
    "untrained": "untrained",
    "scratch": "from scratch",
    "contrast": "$L_g$",
    "p2p": "$L_g + L_{p2p}$",
    "p2s": "$L_g + L_{p2s}$",
    "s2dc": "S2DC (all three)",
    LONG: "S2DC, 6,000 steps",
    **OTHERS,
}


def open_weights(name: str | Path = "s2dc", in_channels: int | None = None) -> Encoder:
    """An encoder in evaluation mode.

    Args:
        name: one of SHIPPED; "untrained" for the weights that all arms start from; or the file of an encoder of your
            own (what `export_encoder` writes, or the encoder.safetensors of a checkpoint, or the checkpoint's folder).
        in_channels: of the encoder; None for those of the file, see load_encoder.

    Raises:
        ValueError: for an unknown name, or a file some of whose tensors do not fit; the message says which.
        FileNotFoundError: if there is no such file.
    """
    if str(name) == "untrained":
        if in_channels not in (None, 1):
            raise ValueError(f"the untrained encoder has one channel, not {in_channels}: take scratch")
        recipe = shipped_record("s2dc")["recipe"]
        return Encoder.from_seed(make(EncoderConfig, recipe["encoder"]), recipe["seed"]).eval()
    if str(name) in SHIPPED:
        encoder = _open(WEIGHTS / f"{name}.safetensors", in_channels)
        encoder.trained_on = encoder.trained_on or shipped_record(str(name)).get("scans")
        return encoder
    file = Path(name)
    if file.is_dir():
        file = file / "encoder.safetensors"
    if not file.suffix and not file.exists():
        known = ", ".join(("untrained", *SHIPPED))
        raise ValueError(f"there are no weights {str(name)!r}: give one of {known}, or the file of an encoder")
    return _open(file, in_channels)


def snapshot_steps() -> list[int]:
    """The steps of the S2DC arm at which a snapshot was kept, from 0 (the start) to its end."""
    return list(shipped_record("s2dc")["snapshots"])


def open_snapshot(step: int) -> Encoder:
    """The S2DC arm's encoder after so many steps.

    Raises:
        ValueError: if no snapshot of that step was kept.
    """
    steps = snapshot_steps()
    if step not in steps:
        raise ValueError(f"no snapshot of step {step}: there are {', '.join(map(str, steps))}")
    if step == 0:
        return open_weights("untrained")
    return open_weights("s2dc") if step == steps[-1] else _open(WEIGHTS / f"s2dc_step_{step:04d}.safetensors")


def shipped_record(name: str) -> dict:
    """Recipe, seed, versions, steps and measured silhouettes of shipped weights.

    Raises:
        ValueError: for an unknown name.
    """
    if name not in SHIPPED:
        raise ValueError(f"there are no shipped weights {name!r}: give one of {', '.join(SHIPPED)}")
    return read_result(f"{name}.json")


def _open(file: Path, in_channels: int | None = None) -> Encoder:
    encoder, report = load_encoder(file, in_channels)
    if report.missing or report.wrong_shape:  # what else a file holds (heads, a teacher) is no concern of the encoder
        raise ValueError(f"{file} does not fit the encoder it describes: {report.brief()}")
    return encoder.eval()
