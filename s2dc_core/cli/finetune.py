"""`s2dc finetune`: a downstream task of a data set by its manifest, from scratch or from pre-trained weights."""

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path

from s2dc_core.cli.assignments import add_assignments, take_assignments
from s2dc_core.cli.data import roots_of
from s2dc_core.cli.pretrain import add_run_options, refuse_counts, refuse_device, run_options
from s2dc_core.data import RULES, load_manifest, overlaps_of, require_cases
from s2dc_core.downstream import FINETUNE_RECIPES, FinetuneConfig, downstream_of, finetune
from s2dc_core.training import find_run, reserve_folder


def add_to(commands: argparse._SubParsersAction) -> None:
    """Add the command; its exit code is 1 if more cases than --most-damaged says could not be scored."""
    parser = commands.add_parser("finetune", help="learn a downstream task of a data set and score it")
    parser.set_defaults(command=_finetune)
    parser.add_argument("--config", default="teaching", help=f"a recipe: {', '.join(FINETUNE_RECIPES)}, or a YAML file")
    parser.add_argument("--manifest", required=True, metavar="NAME", help="a data set, see `s2dc data list`")
    parser.add_argument("--root", nargs="+", action="extend", required=True, metavar="DIR", help="where its files are")
    weights = "an arm of the course, a file or a checkpoint; default: from scratch"
    parser.add_argument("--weights", metavar="FILE", help=weights)
    parser.add_argument("--task", help="of a data set that has several")
    parser.add_argument(
        "--inputs", nargs="+", action="extend", metavar="IMAGE", help="default: all that are not to be predicted"
    )
    parser.add_argument("--target", metavar="IMAGE", help="to be predicted, such as t2w")
    rule = "of the inputs' intensities; default: the manifest's; default and paper: as pre-training had them"
    parser.add_argument("--rule", choices=("manifest", *RULES), default="manifest", help=rule)
    labels = "share of the training cases, drawn per class with the recipe's seed"
    parser.add_argument("--labels", type=float, default=1.0, metavar="SHARE", help=labels)
    parser.add_argument("--folder", required=True, help="where checkpoints, run.json, log.jsonl and scores.json go")
    parser.add_argument("--resume", action="store_true", help="go on with the run in the folder, or start it")
    add_run_options(parser)
    parser.add_argument("--most-damaged", type=int, default=0, metavar="N", help="unusable cases to set apart")
    parser.add_argument("--workers", type=int, default=0, metavar="N", help="processes that read ahead")
    parser.add_argument("--read-anew", action="store_true", help="do not keep cases in memory")
    parser.add_argument("--device", help="default: the GPU if there is one")
    add_assignments(parser, "steps=2000 region=[96,96,96]")


def _finetune(options: argparse.Namespace) -> int:
    config = FinetuneConfig.from_recipe(options.config, take_assignments(options, FinetuneConfig))
    shown_and_kept = run_options(options)
    refuse_counts(options, {"workers": 0, "most_damaged": 0})
    refuse_device(options.device)
    manifest = load_manifest(options.manifest)
    ((manifest, root), *others) = roots_of(manifest, options.root)
    if manifest.members or others:
        raise ValueError(f"fine-tuning takes one data set: --manifest {manifest.name} and one --root")
    weights = config.weights if options.weights is None else options.weights
    config = replace(config, weights=weights, region=config.region or manifest.preprocessing.get("region"))
    find_run(Path(options.folder), config, options.resume)
    if int(os.environ.get("RANK", 0)) == 0:
        reserve_folder(Path(options.folder))
    cases = require_cases(manifest, root)
    images = (options.inputs, options.target)
    downstream = downstream_of(manifest, cases, options.task, *images, options.rule, not options.read_anew)
    downstream = downstream._replace(training=downstream.training.share(options.labels, config.seed))
    is_main = int(os.environ.get("RANK", 0)) == 0
    for overlap in overlaps_of(manifest) if is_main and weights else ():
        print(f"known overlap, if the weights have seen it: {overlap}", file=sys.stderr)
    result = finetune(
        config,
        downstream,
        folder=options.folder,
        resume=options.resume,
        device=options.device,
        workers=options.workers,
        most_damaged=options.most_damaged,
        note={"command": options.line, "manifest": options.manifest},
        **shown_and_kept,
    )
    failed = result.scores.failed
    if is_main:
        print(f"{len(result.scores.cases)} cases scored, each in {options.folder}/scores.json; means:")
        for name, value in result.scores.mean.items():
            print(f"{name:30s}{value:.4f}")
        print(result.scores.interval())
        for reason in failed.values():
            print(f"not scored: {reason}")
    return 0 if len(failed) <= options.most_damaged else 1
