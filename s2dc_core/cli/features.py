"""`s2dc features`: the token map of one scan, with its place in space, for whatever else is to be done with it."""

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from s2dc_core.cli.pretrain import refuse_counts, refuse_device
from s2dc_core.data import (
    CT_WINDOW,
    MODALITIES,
    RULES,
    Scan,
    difference_in_settings,
    load_scan,
    open_scan,
    settings_in_words,
    settings_of,
)
from s2dc_core.data.files import expand
from s2dc_core.data.intensities import kind_of
from s2dc_core.encoder import LEVELS, Encoder
from s2dc_core.evaluation.maps import SUFFIXES, check_target, cosine_error, reduce_tokens, save_tokens, share_kept
from s2dc_core.features import TokenMap, token_features
from s2dc_core.library import SHIPPED, open_weights, shipped_record
from s2dc_core.training.records import read_json

BUILT_IN = (*(f"phantom_{name}" for name in MODALITIES), "mni152")
UNITS = {"ct": "HU", "pet": "SUV", "mr": "the scanner's unit"}
USUAL_LEVELS = (1, 2, 3)


def add_to(commands: argparse._SubParsersAction) -> None:
    """Add the command."""
    parser = commands.add_parser("features", help="the token map of one scan, as safetensors or NIfTI")
    parser.set_defaults(command=_features)
    image = f"a file (NIfTI, MetaImage, NRRD), a folder of one series, or {', '.join(BUILT_IN)}"
    parser.add_argument("scan", metavar="SCAN", help=image)
    weights = f"{', '.join(SHIPPED)}, a checkpoint's folder, or a weights file, see `s2dc weights`"
    parser.add_argument("--weights", required=True, metavar="W", help=weights)
    parser.add_argument("--out", required=True, metavar="FILE", help=f"ends in {', '.join(SUFFIXES)}")
    levels = "several are joined on the first's grid; default: those of the weights' recipe, or 1 2 3"
    parser.add_argument("--levels", nargs="+", type=int, metavar="LEVEL", help=levels)
    parser.add_argument("--reduce", type=int, metavar="K", help="fewer channels that keep the cosines best")
    parser.add_argument("--modality", choices=["ct", "pet", "mr"], help="of a file, which does not say it")
    spacing = "voxels to resample to; default: as stored"
    parser.add_argument("--spacing", nargs=3, type=float, metavar="MM", help=spacing)
    parser.add_argument("--rule", choices=RULES, help="of a file's intensities; default: ours; paper: as it has them")
    window = f"of a CT file; default: {CT_WINDOW[0]:g} {CT_WINDOW[1]:g}"
    parser.add_argument("--window", nargs=2, type=float, metavar=("LOW", "HIGH"), help=window)
    unit = "brings what a file holds to HU or SUV: scale x number + offset"
    parser.add_argument("--scale", type=float, default=1.0, metavar="FACTOR", help=unit)
    parser.add_argument("--offset", type=float, default=0.0, metavar="UNITS", help="such as -1024; see --scale")
    parser.add_argument("--device", help="default: cpu", default="cpu")


def _features(options: argparse.Namespace) -> int:
    file = _refuse_early(options)
    encoder = encoder_of(options.weights)
    levels = levels_of(options.levels, options.weights)
    channels = sum(encoder.config.embed_dim * 2**level for level in levels)
    if options.reduce is not None and options.reduce > channels:
        raise ValueError(f"--reduce {options.reduce} is more than the {channels} channels of levels {_row(levels)}")
    scan = _scan(options)
    [setting] = settings_of([scan])
    sides, words = _by(scan.volume.shape[1:]), settings_in_words(setting)
    print(f"scan     {scan.name}: {words}, from {UNITS[kind_of(scan.modality)]}, {sides} voxels", flush=True)
    if otherwise := difference_in_settings(encoder.trained_on, [setting]):
        print(f"the encoder of {options.weights} was {otherwise}", file=sys.stderr)
    encoder.to(options.device)
    token_map = token_features(encoder, scan.volume, levels, affine=scan.affine, background=scan.background)
    print(f"tokens   {_in_words(token_map)}; {options.weights}, levels {_row(levels)}")
    note, basis = {"levels": levels, "weights": weights_name(options.weights), "scan": scan.name, **setting}, None
    del note["scans"]
    if options.reduce is not None:
        token_map, basis = _reduced(token_map, options.reduce, note)
        if file.suffix.lower() != ".safetensors":
            print("the basis of the reduction is kept in .safetensors only", file=sys.stderr)
    save_tokens(token_map, file, note, basis)
    print(f"written  {file}")
    return 0


def _reduced(whole: TokenMap, components: int, note: dict[str, Any]) -> tuple[TokenMap, Tensor]:
    """The map on fewer axes and these axes; what that costs is told and noted."""
    reduced, basis = reduce_tokens(whole, components)
    kept, (mean, largest) = share_kept(reduced), cosine_error(whole, reduced)
    note |= {"reduced_from": whole.features.shape[-1], "share_kept": kept}
    off = f"cosines of a sample are off by {mean:.4f} in the mean, {largest:.4f} at most"
    print(f"reduced  to {components} channels: {kept:.4f} of the tokens' squared length kept; {off}")
    return reduced, basis


def _refuse_early(options: argparse.Namespace) -> Path:
    """What can be refused before anything is read; where the map goes."""
    file = check_target(expand(options.out))
    for source in (options.scan, options.weights):
        if file.exists() and expand(source).exists() and file.samefile(expand(source)):
            raise ValueError(f"--out {file} is what is read: give another name")
    refuse_counts(options, {"reduce": 1})
    refuse_device(options.device)
    if options.window is not None:
        low, high = options.window
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ValueError(f"--window {low:g} {high:g}: give the lower bound first, such as -175 250")
        if options.modality not in (None, "ct"):
            raise ValueError(f"--window is of a CT, the scan is {options.modality}: leave it out")
    return file


def encoder_of(weights: str) -> Encoder:
    """The encoder for one channel: one of several sees the scan in all of them."""
    encoder = open_weights(_place(weights))
    if (channels := encoder.config.in_channels) == 1:
        return encoder
    print(f"the encoder of {weights} has {channels} channels: the scan is taken for all of them", file=sys.stderr)
    return open_weights(_place(weights), in_channels=1)


def _place(weights: str) -> str | Path:
    return weights if weights in ("untrained", *SHIPPED) else expand(weights)


def levels_of(given: Sequence[int] | None, weights: str) -> list[int]:
    """The token levels, finest first."""
    levels = sorted(given or _levels_of_recipe(weights) or USUAL_LEVELS)
    if len(set(levels)) < len(levels) or not set(levels) <= set(range(LEVELS)):
        raise ValueError(f"--levels {_row(levels)}: an encoder has the levels 0 to {LEVELS - 1}, give each once")
    return levels


def _levels_of_recipe(weights: str) -> list[int] | None:
    """Those that the recipe of an arm, or the one in a checkpoint's folder, has matched; None if nobody says."""
    place = _place(weights)
    if not isinstance(place, Path):
        return shipped_record("s2dc" if place == "untrained" else place)["recipe"].get("levels")
    folder = place if place.is_dir() else place.parent
    if place.is_file() and place.name != "encoder.safetensors":
        return None
    try:
        recipe = read_json(folder / "recipe.json")
    except (OSError, ValueError):
        return None
    return recipe.get("levels") or recipe.get("options", {}).get("levels")


def _scan(options: argparse.Namespace) -> Scan:
    """The scan as it is to be encoded."""
    unit = {"scale": options.scale, "offset": options.offset}
    is_name = "/" not in options.scan and "." not in options.scan and not expand(options.scan).exists()
    if options.scan in BUILT_IN or is_name:
        if options.rule or options.window:
            raise ValueError(f"{options.scan} is prepared by the default rule: leave out --rule and --window")
        return open_scan(options.scan, modality=options.modality, spacing=options.spacing, **unit)
    if not expand(options.scan).exists():
        raise FileNotFoundError(f"there is no scan {options.scan}: give a file, a folder, or {', '.join(BUILT_IN)}")
    if options.modality is None:
        raise ValueError(f"{options.scan} does not say what it is: give --modality ct, pet or mr")
    prepared = {"rule": options.rule or "default", "window": tuple(options.window or CT_WINDOW)}
    return load_scan(options.scan, modality=options.modality, spacing=options.spacing, **prepared, **unit)


def weights_name(weights: str) -> str:
    """The weights' file name; that of a checkpoint, which is called alike in all of them, with its folder's."""
    place = _place(weights)
    if not isinstance(place, Path):
        return place
    place = place.absolute()
    return f"{place.parent.name}/{place.name}" if place.name == "encoder.safetensors" else place.name


def _in_words(token_map: TokenMap) -> str:
    *grid, channels = token_map.features.shape
    return f"{_by(grid)} of {_by(token_map.patch)} voxels, {channels} channels"


def _by(sides: Sequence[int]) -> str:
    return " x ".join(map(str, sides))


def _row(levels: Sequence[int]) -> str:
    return " ".join(map(str, levels))
