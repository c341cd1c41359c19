"""`s2dc pretrain`: pre-training on scans of your own or on a data set by its manifest."""

import argparse
import os
import sys
from pathlib import Path
from typing import NamedTuple

import torch
from joblib import cpu_count

from s2dc_core.cli.assignments import add_assignments, take_assignments
from s2dc_core.cli.data import pretraining_cases, roots_of
from s2dc_core.data import CT_WINDOW, RULES, facts_of, load_manifest, members_of, open_scans, problem_table
from s2dc_core.pretraining import RECIPES, Monitor, PretrainConfig, bytes_of_a_batch, dry_run, pretrain
from s2dc_core.training import find_run, reserve_folder
from s2dc_core.training.readers import workers_that_fit


def add_to(commands: argparse._SubParsersAction) -> None:
    """Add the command."""
    train = commands.add_parser("pretrain", help="pre-train an encoder on your scans, or on a data set by its manifest")
    train.set_defaults(command=_pretrain)
    train.add_argument("--config", default="teaching", help=f"a recipe: {', '.join(RECIPES)}, or a YAML file")
    train.add_argument(
        "--scans", nargs="+", action="extend", default=[], metavar="PLACE", help="files, DICOM series, folders of them"
    )
    train.add_argument("--modality", choices=["ct", "pet", "mr"], help="of all the scans")
    train.add_argument("--manifest", metavar="NAME", help="instead: a data set or collection, see `s2dc data list`")
    train.add_argument(
        "--root", nargs="+", action="extend", default=[], metavar="DIR", help="of a manifest: where its files are"
    )
    train.add_argument("--exclude-overlaps", action="store_true", help="leave out what two data sets both hold")
    spacing = "voxels to resample to; default: the manifest's, or as stored"
    train.add_argument("--spacing", nargs=3, type=float, metavar="MM", help=spacing)
    rule = "of the intensities; default: the manifest's, or ours; paper: as it has them"
    train.add_argument("--rule", choices=RULES, help=rule)
    unit = "brings what files hold to HU or SUV: scale x number + offset"
    train.add_argument("--scale", type=float, metavar="FACTOR", help=unit)
    train.add_argument("--offset", type=float, metavar="UNITS", help="such as -1024; see --scale")
    train.add_argument("--folder", help="where checkpoints go")
    train.add_argument("--resume", action="store_true", help="go on with the run in the folder, or start it")
    add_run_options(train)
    train.add_argument("--most-damaged", type=int, default=0, metavar="N", help="unusable scans to set apart and go on")
    train.add_argument(
        "--skip", nargs="+", action="extend", default=[], metavar="PATTERN", help="names in folders that are no images"
    )
    train.add_argument("--cache", metavar="FOLDER", help="keep prepared scans there, not in memory")
    ahead = "processes that read ahead (with --cache); default: none on a CPU, on a GPU up to 8 of the cores"
    train.add_argument("--workers", type=int, metavar="N", help=ahead)
    train.add_argument("--pictures-every", type=int, default=500, metavar="STEPS", help="for TensorBoard; 0 for none")
    train.add_argument("--device", help="default: the GPU if there is one")
    train.add_argument("--dry-run", action="store_true", help="take a few steps, report what the run will cost, stop")
    add_assignments(train, "steps=2000 views.counts=[2,2,1]")


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add what a run keeps and shows; see `run_options`."""
    parser.add_argument("--save-every", type=int, default=100, metavar="STEPS", help="between two checkpoints")
    parser.add_argument("--keep", type=int, default=3, metavar="N", help="the last checkpoints stay; default: 3")
    for_good = "a checkpoint of each so many steps stays for good"
    parser.add_argument("--keep-every", type=int, metavar="STEPS", help=for_good)
    lines = "between two lines where no bar is shown; 0 for none; default: 10"
    parser.add_argument("--log-every", type=int, default=10, metavar="STEPS", help=lines)


def run_options(options: argparse.Namespace) -> dict[str, int | bool | None]:
    """What `pretrain` and `finetune` take of `add_run_options`.

    Raises:
        ValueError: for a number that cannot be.
    """
    refuse_counts(options, {"save_every": 1, "keep": 1, "keep_every": 1, "log_every": 0})
    names = ("save_every", "keep", "keep_every", "log_every")
    return {"progress": sys.stderr.isatty(), **{name: getattr(options, name) for name in names}}


class _Source(NamedTuple):
    """What is read: places and what `open_scans` takes with them, and what is to be said of it."""

    places: list[str | Path]
    modality: str
    spacing: list[float] | None
    rule: str
    window: tuple[float, float]
    damaged: dict[str, str]
    remarks: list[str]
    scale: float = 1.0
    offset: float = 0.0


def _source(options: argparse.Namespace, places: list[str | Path]) -> _Source:
    if bool(options.manifest) == bool(places):
        raise ValueError("give either --scans and --modality, or --manifest and --root")
    if not options.manifest:
        if options.modality is None:
            raise ValueError("scans do not say what they are: give --modality ct, pet or mr")
        rule = options.rule or "default"
        return _Source(places, options.modality, options.spacing, rule, CT_WINDOW, {}, [], *_unit(options))
    manifest = load_manifest(options.manifest)
    if options.modality not in (None, manifest.modality):
        raise ValueError(f"{manifest.name} is {manifest.modality}, not {options.modality}: leave out --modality")
    found = pretraining_cases(manifest, roots_of(manifest, options.root), options.exclude_overlaps)
    if len(found.problems) > options.most_damaged:
        allowed = f"{len(found.problems)} cases of {manifest.name} cannot be used, {options.most_damaged} may be"
        raise ValueError(f"{allowed}\n{problem_table(found.problems)}")
    cases = [case for member in members_of(manifest) for case in found.cases[member.name]]
    files = [path for case in cases for path in case.images.values()]
    damaged = {f"{each.dataset} {each.case}": f"{each.dataset} {each.case}: {each.message}" for each in found.problems}
    spacing = options.spacing or manifest.preprocessing["spacing"]
    unit, rule = _unit(options, manifest.scale, manifest.offset), options.rule or manifest.rule
    return _Source(files, manifest.modality, spacing, rule, manifest.window, damaged, found.remarks, *unit)


def _unit(options: argparse.Namespace, scale: float = 1.0, offset: float = 0.0) -> tuple[float, float]:
    """Scale and offset, where they are not given those of a manifest."""
    return scale if options.scale is None else options.scale, offset if options.offset is None else options.offset


def _pretrain(options: argparse.Namespace) -> int:
    config = PretrainConfig.from_recipe(options.config, take_assignments(options, PretrainConfig))
    goes_on = _refuse_early(options, config)
    source = _source(options, options.scans)
    if goes_on:
        source = _without_absent(source, options.most_damaged)
    is_main = int(os.environ.get("RANK", 0)) == 0
    for remark in [*source.remarks, *map("set apart: {}".format, source.damaged.values())] if is_main else ():
        print(remark, file=sys.stderr)
    said: list[str] = []
    scans, damaged = open_scans(
        source.places,
        source.modality,
        source.spacing,
        options.most_damaged - len(source.damaged),
        options.skip,
        check=lambda scan: config.options.check_scan(scan.shape, config.encoder),
        keep_raw=False,
        progress=is_main and sys.stderr.isatty(),
        cache=options.cache,
        rule=source.rule,
        window=source.window,
        say=said.append,
        scale=source.scale,
        offset=source.offset,
    )
    for sentence in said if is_main else ():
        print(sentence, file=sys.stdout if options.dry_run else sys.stderr)  # part of the report
    for reason in damaged.values() if is_main else ():
        print(f"set apart: {reason}", file=sys.stderr)
    damaged = {**source.damaged, **damaged}
    if options.dry_run:
        print(f"{'scans':20s}{len(scans)}, and {len(damaged)} set apart")
        print(dry_run(config, scans, device=options.device))
        return 0
    folder = Path(options.folder)
    pretrain(
        config,
        scans,
        folder=folder,
        resume=options.resume,
        device=options.device,
        on_step=Monitor(folder / "tensorboard", options.pictures_every),
        workers=_workers(options, bytes_of_a_batch(config, facts_of(scans))),
        quarantine=damaged,
        most_damaged=options.most_damaged,
        note={"command": options.line, "manifest": options.manifest},
        **run_options(options),
    )
    return 0


def _workers(options: argparse.Namespace, batch: int) -> int:
    """Processes that read ahead: unless asked for, on a GPU with a cache what the main process leaves of the cores, as
    far as shared memory has room for batches of so many bytes.
    """
    if options.workers is not None:
        return options.workers
    on_gpu = torch.device(options.device or ("cuda" if torch.cuda.is_available() else "cpu")).type == "cuda"
    cores = cpu_count() // int(os.environ.get("WORLD_SIZE", 1))
    return workers_that_fit(batch, max(min(cores - 1, 8), 0)) if on_gpu and options.cache else 0


def _without_absent(source: _Source, most_damaged: int) -> _Source:
    """What a run goes on with when places have gone since it started, which then count as damaged."""
    absent = {str(place): f"{place} does not exist" for place in source.places if not Path(place).expanduser().exists()}
    damaged = {**source.damaged, **absent}
    if len(damaged) > most_damaged:
        listed = "".join(f"\n  {reason}" for reason in damaged.values())
        raise ValueError(f"{len(damaged)} scans cannot be used, {most_damaged} may be{listed}")
    return source._replace(places=[place for place in source.places if str(place) not in absent], damaged=damaged)


def _refuse_early(options: argparse.Namespace, config: PretrainConfig) -> bool:
    """What would stop the run after an hour of reading scans stops it now; whether one goes on."""
    run_options(options)
    refuse_counts(options, {"workers": 0, "pictures_every": 0, "most_damaged": 0})
    refuse_device(options.device)
    if options.dry_run and int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise ValueError("a dry run is for one process: start it without a launcher")
    config.build()
    if not (options.folder or options.dry_run):
        raise ValueError("a run needs --folder for its checkpoints (or --dry-run)")
    if options.dry_run:
        return False
    goes_on = find_run(Path(options.folder), config, options.resume) is not None
    if int(os.environ.get("RANK", 0)) == 0:
        reserve_folder(Path(options.folder))
    return goes_on


def refuse_counts(options: argparse.Namespace, least: dict[str, int]) -> None:
    """Raise a ValueError for an option below its least value."""
    for name, bound in least.items():
        if getattr(options, name) is not None and getattr(options, name) < bound:
            raise ValueError(f"--{name.replace('_', '-')} must be at least {bound}, got {getattr(options, name)}")


def refuse_device(device: str | None) -> None:
    """Raise a ValueError for a device that is not there."""
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # a build of torch without CUDA asserts
        raise ValueError(f"there is no device {device!r} here: give cpu, cuda or cuda:1") from error
