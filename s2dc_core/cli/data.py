"""`s2dc data`: list, show, fetch, check, preview and export data sets by their manifests."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from s2dc_core.data import (
    Case,
    Manifest,
    Problem,
    check,
    decathlon,
    describe,
    exclude_overlaps,
    fetch,
    find_cases,
    images_alone,
    load_all,
    load_manifest,
    members_of,
    overlaps_of,
    preview,
    require_cases,
    table,
)

NAME = "a manifest's name, or a .json file of your own"
ROOT = "folder that holds it; of a collection, a folder with one per member, or NAME=DIR for each"


def add_to(commands: argparse._SubParsersAction) -> None:
    """Add the command and its own commands."""
    group = commands.add_parser("data", help="the paper's data sets: list, show, fetch, check, preview, export")
    actions = group.add_subparsers(required=True, metavar="ACTION")

    def action(name: str, command, about: str) -> argparse.ArgumentParser:
        parser = actions.add_parser(name, help=about)
        parser.set_defaults(command=command)
        return parser

    listed = action("list", _list, "one line per data set")
    listed.add_argument("--markdown", action="store_true", help="the table of data_manifests/README.md")
    show = action("show", _show, "all that a manifest says")
    show.add_argument("name", metavar="NAME", help=NAME)
    get = action("fetch", _fetch, "download what is public, make what is generated")
    get.add_argument("name", metavar="NAME", help=NAME)
    get.add_argument("--root", required=True, metavar="DIR", help="where it goes")
    test = action("check", _check, "read every file and list what is wrong; exit code 1 if anything is")
    test.add_argument("--json", metavar="FILE", help="write the report there as JSON")
    workers = "cases read at a time; default: one per processor, 4 at most"
    test.add_argument("--workers", type=int, metavar="N", help=workers)
    look = action("preview", _preview, "a contact sheet with labels, as PNG")
    look.add_argument("--out", metavar="FILE", help="default: NAME.png")
    look.add_argument("--count", type=int, default=8, metavar="N", help="cases on it")
    export = action("export", _export, "the list of files as a Decathlon dataset.json, for peers' code")
    export.add_argument("--out", metavar="FILE", help="default: dataset.json in the root")
    for parser in (test, look, export):
        parser.add_argument("name", metavar="NAME", help=NAME)
        parser.add_argument("--root", nargs="+", action="extend", required=True, metavar="DIR", help=ROOT)


def _list(options: argparse.Namespace) -> int:
    print(table(load_all().values(), options.markdown))
    return 0


def _show(options: argparse.Namespace) -> int:
    manifest = load_manifest(options.name)
    print(describe(manifest))
    print(_overlaps(manifest), end="")
    return 0


def _overlaps(manifest: Manifest) -> str:
    """A line for each that is known."""
    return "".join(f"known overlap: {overlap}\n" for overlap in overlaps_of(manifest))


def _fetch(options: argparse.Namespace) -> int:
    added = fetch(load_manifest(options.name), options.root, progress=sys.stderr.isatty())
    print("\n".join(f"added {place}" for place in added) or f"{options.name} is in {options.root} already")
    return 0


def _check(options: argparse.Namespace) -> int:
    if options.workers is not None and options.workers < 1:
        raise ValueError(f"--workers must be at least 1, got {options.workers}")
    manifest = load_manifest(options.name)
    report = check(roots_of(manifest, options.root), options.workers, sys.stderr.isatty())
    report.overlaps = list(dict.fromkeys([*overlaps_of(manifest), *report.overlaps]))
    print(report)
    if options.json:
        Path(options.json).write_text(json.dumps(report.as_dict(), indent=1) + "\n", encoding="utf-8")
    return 1 if report.problems else 0


def _preview(options: argparse.Namespace) -> int:
    if options.count < 1:
        raise ValueError(f"--count must be at least 1, got {options.count}")
    manifest, root = _single(options)
    file = Path(options.out or f"{manifest.name}.png")
    cases, problems = find_cases(manifest, root)
    preview(manifest, cases, options.count).savefig(file)
    if problems:
        print(f"{len(problems)} problems with the files: `s2dc data check` lists them", file=sys.stderr)
    print(_overlaps(manifest), end="", file=sys.stderr)
    print(f"written {file}")
    return 0


def _export(options: argparse.Namespace) -> int:
    manifest, root = _single(options)
    file = Path(options.out) if options.out else root / "dataset.json"
    if file.exists():
        raise ValueError(f"{file} exists: give --out another name")
    listed = decathlon(manifest, require_cases(manifest, root), file.absolute().parent)
    print(_overlaps(manifest), end="", file=sys.stderr)
    file.write_text(json.dumps(listed, indent=1) + "\n", encoding="utf-8")
    print(f"written {file}")
    return 0


def _single(options: argparse.Namespace) -> tuple[Manifest, Path]:
    manifest = load_manifest(options.name)
    if manifest.members:
        raise ValueError(f"{manifest.name} is a collection: give one of its members {', '.join(manifest.members)}")
    ((member, root), *others) = roots_of(manifest, options.root)
    if others:
        raise ValueError(f"--root names {others[0][0].name}, and only {manifest.name} is asked for")
    return member, root


def roots_of(manifest: Manifest, places: Sequence[str]) -> list[tuple[Manifest, Path]]:
    """The data sets and their folders that `--root` names: of the manifest, or of its members, and others beside them.

    Raises:
        ValueError: for two folders without a name, or a member without a folder.
    """
    named = dict(place.split("=", 1) for place in places if "=" in place and not Path(place).exists())
    plain = [place for place in places if "=" not in place or Path(place).exists()]
    if len(plain) > 1:
        raise ValueError(f"--root takes one folder without a name, got {', '.join(plain)}: write NAME=DIR")
    found = []
    for member in members_of(manifest):
        if member.name in named:
            found.append((member, _folder(named.pop(member.name))))
        elif plain:
            found.append((member, _folder(plain[0]) / (member.name if manifest.members else "")))
        else:
            raise ValueError(f"--root names no folder for {member.name}: add {member.name}=DIR")
    return found + [(load_manifest(name), _folder(place)) for name, place in named.items()]


def _folder(place: str) -> Path:
    return Path(os.path.expanduser(place))


class PretrainingCases(NamedTuple):
    """What pre-training may read, {data set: cases}; what is wrong with others; what is to be said of overlaps."""

    cases: dict[str, list[Case]]
    problems: list[Problem]
    remarks: list[str]


def pretraining_cases(
    manifest: Manifest, datasets: Sequence[tuple[Manifest, Path]], without_overlaps: bool = False
) -> PretrainingCases:
    """The cases of a data set, or of a collection's members, in the sections that pre-training may read.

    Args:
        datasets: those of the manifest first; with `without_overlaps` further ones, whose cases are kept apart.

    Raises:
        ValueError: for further data sets without `without_overlaps`, and as find_cases.
    """
    count = len(members_of(manifest))
    if datasets[count:] and not without_overlaps:
        names = ", ".join(each.name for each, _ in datasets[count:])
        raise ValueError(f"{names} is not trained on: give --exclude-overlaps to leave out what it holds too")
    cases, all_cases, problems = {}, {}, []
    for k, (member, root) in enumerate(datasets):
        all_cases[member.name], found = find_cases(images_alone(member), root)
        if k < count:
            problems += found
            allowed = member.pretraining_sections
            cases[member.name] = [case for case in all_cases[member.name] if case.section in allowed]
    remarks = [f"known overlap: {overlap}" for overlap in overlaps_of(manifest)]
    if without_overlaps:
        others = [member for member, _ in datasets if member.name != manifest.name]
        cases, said = exclude_overlaps(cases, all_cases, manifest, *others)
        remarks += said
    return PretrainingCases(cases, problems, remarks)
