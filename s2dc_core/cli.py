"""The command `s2dc`: pre-training from a terminal or a batch script."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from s2dc_core.data import NO_IMAGES, RULES, open_scans
from s2dc_core.training import RECIPES, Monitor, PretrainConfig, StoppedElsewhere, dry_run, find_run, pretrain
from s2dc_core.views import check_fits


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; what the user got wrong is one line on stderr and exit code 2."""
    options = _parser().parse_args(arguments)
    try:
        return options.command(options)
    except (ValueError, FloatingPointError, OSError, StoppedElsewhere) as error:
        print(f"s2dc: {error}".replace("resume=True", "--resume"), file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="s2dc", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    train = commands.add_parser("pretrain", help="pre-train an encoder on NIfTI files and DICOM series")
    train.set_defaults(command=_pretrain)
    train.add_argument("--config", default="teaching", help=f"a recipe: {', '.join(RECIPES)}, or a YAML file")
    train.add_argument(
        "--scans", nargs="+", required=True, metavar="PLACE", help="files, DICOM series, folders of them"
    )
    train.add_argument("--modality", required=True, choices=["ct", "pet", "mr"], help="of all the scans")
    train.add_argument("--spacing", nargs=3, type=float, metavar="MM", help="voxels to resample to; default: as stored")
    train.add_argument("--rule", default="default", choices=RULES, help="of the intensities; paper: as it has them")
    train.add_argument("--folder", help="where checkpoints go")
    train.add_argument("--resume", action="store_true", help="go on with the run in the folder, or start it")
    train.add_argument("--save-every", type=int, default=100, metavar="STEPS")
    train.add_argument("--most-damaged", type=int, default=0, metavar="N", help="unusable scans to set apart and go on")
    train.add_argument("--skip", nargs="+", default=[], metavar="PATTERN", help="names in folders that are no images")
    train.add_argument("--cache", metavar="FOLDER", help="keep prepared scans there, not in memory")
    train.add_argument("--workers", type=int, default=0, metavar="N", help="processes that read ahead (with --cache)")
    train.add_argument("--pictures-every", type=int, default=500, metavar="STEPS", help="for TensorBoard; 0 for none")
    train.add_argument("--device", help="default: the GPU if there is one")
    train.add_argument("--dry-run", action="store_true", help="take a few steps, report what the run will cost, stop")
    train.add_argument("assignments", nargs="*", metavar="field=value", help="such as steps=2000 views.counts=[2,2,1]")
    return parser


def _pretrain(options: argparse.Namespace) -> int:
    # What follows --scans is taken for a place, an assignment too.
    assignments = [place for place in options.scans if "=" in place and not Path(place).exists()]
    places = [place for place in options.scans if place not in assignments]
    config = PretrainConfig.from_recipe(options.config, [*assignments, *options.assignments])
    _refuse_early(options, config)
    is_main = int(os.environ.get("RANK", 0)) == 0
    scans, damaged = open_scans(
        places,
        options.modality,
        options.spacing,
        options.most_damaged,
        (*NO_IMAGES, *options.skip),
        check=lambda scan: check_fits(scan.shape, [config.encoder.stride(k) for k in config.levels]),
        keep_raw=False,
        progress=is_main and sys.stderr.isatty(),
        cache=options.cache,
        rule=options.rule,
    )
    for reason in damaged.values() if is_main else ():
        print(f"set apart: {reason}", file=sys.stderr)
    if options.dry_run:
        print(f"{'scans':20s}{len(scans)}, and {len(damaged)} set apart")
        print(dry_run(config, scans, device=options.device))
        return 0
    folder = Path(options.folder)
    pretrain(
        config,
        scans,
        progress=sys.stderr.isatty(),
        folder=folder,
        save_every=options.save_every,
        resume=options.resume,
        device=options.device,
        on_step=Monitor(folder / "tensorboard", options.pictures_every),
        workers=options.workers,
        quarantine=damaged,
        most_damaged=options.most_damaged,
    )
    return 0


def _refuse_early(options: argparse.Namespace, config: PretrainConfig) -> None:
    """What would stop the run after an hour of reading scans stops it now."""
    for name, least in (("save_every", 1), ("workers", 0), ("pictures_every", 0), ("most_damaged", 0)):
        if getattr(options, name) < least:
            raise ValueError(f"--{name.replace('_', '-')} must be at least {least}, got {getattr(options, name)}")
    try:
        torch.empty(1, device=options.device)
    except (RuntimeError, AssertionError) as error:  # a build of torch without CUDA asserts
        raise ValueError(f"there is no device {options.device!r} here: give cpu, cuda or cuda:1") from error
    if options.dry_run and int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise ValueError("a dry run is for one process: start it without a launcher")
    config.build()
    if not (options.folder or options.dry_run):
        raise ValueError("a run needs --folder for its checkpoints (or --dry-run)")
    if not options.dry_run:
        find_run(Path(options.folder), config, options.resume)


if __name__ == "__main__":
    sys.exit(main())
