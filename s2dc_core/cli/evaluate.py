"""`s2dc evaluate`: encoders compared on labelled scans without training them, beside what needs no encoder."""

import argparse
import os
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

from s2dc_core.cli.data import roots_of
from s2dc_core.cli.features import USUAL_LEVELS, encoder_of, levels_of, weights_name
from s2dc_core.cli.pretrain import refuse_counts
from s2dc_core.data import (
    Scan,
    difference_in_settings,
    load_manifest,
    load_scan,
    pair_with_labels,
    require_cases,
    settings_in_words,
    settings_of,
)
from s2dc_core.data.files import expand
from s2dc_core.encoder import Encoder
from s2dc_core.evaluation import WAYS, Report, evaluate
from s2dc_core.library import SHIPPED
from s2dc_core.plots import plot_evaluation
from s2dc_core.training.durable import write_durably
from s2dc_core.training.records import versions, write_json

RECORD, FIGURE = "evaluation.json", "evaluation.png"


def add_to(commands: argparse._SubParsersAction) -> None:
    """Add the command."""
    parser = commands.add_parser("evaluate", help="compare encoders on labelled scans, without training them")
    parser.set_defaults(command=_evaluate)
    weights = f"{', '.join(SHIPPED)}, a checkpoint's folder, or a weights file; the first is compared with all rows"
    parser.add_argument("--weights", nargs="+", action="extend", required=True, metavar="W", help=weights)
    scans = "two or more files, or folders that are searched"
    parser.add_argument("--scans", nargs="+", action="extend", default=[], metavar="PLACE", help=scans)
    labels = "called as their scans; default: among the scans, such as NAME_seg.nii.gz"
    parser.add_argument("--labels", nargs="+", action="extend", default=[], metavar="PLACE", help=labels)
    parser.add_argument("--modality", choices=["ct", "pet", "mr"], help="of all the scans")
    parser.add_argument("--manifest", metavar="NAME", help="instead of scans: a data set, see `s2dc data list`")
    parser.add_argument("--root", nargs="+", action="extend", default=[], metavar="DIR", help="where its files are")
    spacing = "voxels to resample to; default: the manifest's, or as stored"
    parser.add_argument("--spacing", nargs=3, type=float, metavar="MM", help=spacing)
    levels = "token levels, which are joined; default: 1 2 3"
    parser.add_argument("--levels", nargs="+", type=int, metavar="LEVEL", help=levels)
    parser.add_argument("--half", action="store_true", help="ask for the upper or lower half of each scan, too")
    votes = "tokens that vote on a label; default: 1"
    parser.add_argument("--neighbours", type=int, default=1, metavar="K", help=votes)
    parser.add_argument("--finer", action="store_true", help="go on with the deformation on a finer grid; slow")
    slow = "leave out the registration of the images, which is the slowest of all on small scans"
    parser.add_argument("--no-registration", action="store_true", help=slow)
    parser.add_argument("--out", required=True, metavar="FOLDER", help=f"where {RECORD} and {FIGURE} go")


def _evaluate(options: argparse.Namespace) -> int:
    refuse_counts(options, {"neighbours": 1})
    folder, levels = _check_folder(options.out), levels_of(options.levels or USUAL_LEVELS, options.weights[0])
    _refuse_places(options)
    encoders = _encoders(options.weights)
    scans = list(_scans(options))
    _tell_settings(scans, encoders)
    registration = not options.no_registration
    if registration and len(scans) > 1:
        pairs = len(scans) * (1 + options.half)
        slow = f"{pairs} pairs are registered twice each, which can take minutes a pair; --no-registration leaves it"
        print(f"{slow} out", file=sys.stderr)
    report = evaluate(
        encoders,
        scans,
        levels,
        ways=[way for way in WAYS if way != "finer" or options.finer],
        half=options.half,
        neighbours=options.neighbours,
        registration=registration,
        progress=sys.stderr.isatty(),
        say=lambda sentence: print(sentence, file=sys.stderr, flush=True),
    )
    files = {
        name: {"file": given, "trained_on": encoders[name].trained_on}
        for name, given in zip(encoders, options.weights, strict=True)
    }
    _write(folder, report, {"command": options.line, "weights": files, "versions": versions()})
    print(f"{report.table()}\n\nwritten  {folder / RECORD}, {folder / FIGURE}")
    return 0


def _write(folder: Path, report: Report, note: dict[str, Any]) -> None:
    """The figure and then the record, each whole or not at all: where there is a record there is all of it."""
    picture, count = BytesIO(), len(report.settings["scans"])
    prepared = "; ".join(map(settings_in_words, report.settings["prepared"]))
    title = f"labels carried from scan to scan, nothing trained: {count} scans\n{prepared}"
    plot_evaluation(report.dice(), title).savefig(picture, format="png")
    folder.mkdir(parents=True, exist_ok=True)
    write_durably(folder / FIGURE, picture.getvalue())
    write_json(folder / RECORD, note | report.record())


def _check_folder(out: str) -> Path:
    """The folder, which is made when there is something to write; a ValueError if it cannot be."""
    folder = expand(out)
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not there.is_dir():
        raise ValueError(f"--out {out}: {there} is a file, give a folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ValueError(f"--out {out}: nothing can be written in {there}, give another folder")
    return folder


def _refuse_places(options: argparse.Namespace) -> None:
    if bool(options.manifest) == bool(options.scans) or (options.manifest and options.labels):
        raise ValueError("give either --scans, --labels and --modality, or --manifest and --root")
    if options.manifest and not options.root:
        raise ValueError(f"--manifest {options.manifest} needs --root, the folder of its files")
    if options.scans and options.root:
        raise ValueError("--root is of a --manifest: leave it out")
    if options.scans and options.modality is None:
        raise ValueError("scans do not say what they are: give --modality ct, pet or mr")


def _encoders(weights: list[str]) -> dict[str, Encoder]:
    """By their files' names; where two are called alike, by what was given."""
    short = [weights_name(each) for each in weights]
    names = [given if short.count(name) > 1 else name for given, name in zip(weights, short, strict=True)]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"--weights {', '.join(twice)} is given twice: give each once")
    return {name: encoder_of(given) for name, given in zip(names, weights, strict=True)}


def _scans(options: argparse.Namespace) -> Iterator[Scan]:
    if options.manifest:
        yield from _scans_of_manifest(options)
        return
    pairs, left_out = pair_with_labels(options.scans, options.labels or None)
    if left_out:
        print(left_out, file=sys.stderr)
    for scan, label in pairs:
        yield load_scan(scan, label, modality=options.modality, spacing=options.spacing)


def _scans_of_manifest(options: argparse.Namespace) -> Iterator[Scan]:
    manifest = load_manifest(options.manifest)
    ((manifest, root), *others) = roots_of(manifest, options.root)
    if manifest.members or others:
        raise ValueError(f"encoders are compared on one data set: --manifest {manifest.name} and one --root")
    if options.modality not in (None, manifest.modality):
        raise ValueError(f"{manifest.name} is {manifest.modality}, not {options.modality}: leave out --modality")
    cases = [case for case in require_cases(manifest, root) if case.label is not None]
    if not cases:
        raise ValueError(f"no case of {manifest.name} in {root} has a label map: there is nothing to score")
    image, *more = manifest.input_names
    if more:
        print(f"of the images of a case the first, {image}, is taken; not {', '.join(more)}", file=sys.stderr)
    spacing = options.spacing or manifest.preprocessing["spacing"]
    how = {"modality": manifest.kind_of(image), "rule": manifest.rule, **manifest.unit_of(image)}
    for case in cases:
        scan = load_scan(case.images[image], case.label, manifest.label_names, spacing=spacing, **how)
        yield scan._replace(name=case.name)


def _tell_settings(scans: list[Scan], encoders: dict[str, Encoder]) -> None:
    """On stderr what the reader of the numbers should know of how the scans were prepared."""
    settings = settings_of(scans)
    sizes = sorted({tuple(round(side, 2) for side in scan.spacing) for scan in scans})
    if len(sizes) > 1:
        ends = " to ".join(" x ".join(f"{side:g}" for side in size) for size in (sizes[0], sizes[-1]))
        print(f"the scans have {len(sizes)} voxel sizes, {ends} mm: --spacing brings them to one", file=sys.stderr)
    for name, encoder in encoders.items():
        if otherwise := difference_in_settings(encoder.trained_on, settings):
            print(f"the encoder of {name} was {otherwise}", file=sys.stderr)
