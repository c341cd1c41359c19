"""The study on real scans: encoders trained on phantoms alone, and on such scans without their labels.

It takes the encoders that `arms` left in FOLDER, trains the same arms on the scans in DATA by patient, measures both,
and writes FOLDER/weights/real.json. The scans stay where they are.
"""

from argparse import Namespace
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path

import torch
import yaml

from s2dc_core.data import Scan, load_scan
from s2dc_core.evaluation.silhouettes import scan_silhouettes
from s2dc_core.library.arms import open_weights
from s2dc_core.pretraining.pretrain import pretrain
from s2dc_core.studies.arms import export_half, recipe_of, rounded
from s2dc_core.studies.study import Study, kept
from s2dc_core.training.records import read_json, versions, write_json


def load_groups() -> dict[str, dict]:
    """Which scans are trained on and measured, with their sources (real_scans.yaml)."""
    text = resources.files("s2dc_core.studies").joinpath("real_scans.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text)


def open_real(folder: Path, name: str, group: dict, labelled: bool) -> Scan:
    """A scan of a group on its grid."""
    label = folder / f"{name}_seg.nii.gz" if labelled else None
    return load_scan(
        folder / f"{name}.nii.gz", label, modality=group["modality"], spacing=tuple(map(float, group["spacing"]))
    )


def measure_scans(
    encoder: torch.nn.Module, levels: Sequence[int], scans: Mapping[str, Scan]
) -> dict[str, dict[str, float]]:
    """Silhouettes of some scans, {scan: {organ: silhouette}}."""
    return {name: rounded(scan_silhouettes(encoder, scan, levels)) for name, scan in scans.items()}


def train_on_real(arm: str, recipe: str, seed: int, name: str, split: int, folder: Path, data: Path) -> None:
    """Train an arm on one split of a group and leave encoder and silhouettes in the folder; what lies there is kept.

    Raises:
        ValueError: if what lies there followed another recipe.
    """
    record = folder / f"{name}_{split}_{arm}_seed{seed}.json"
    group = load_groups()[name]
    parts = group["splits"][split]
    config = recipe_of(arm, recipe, seed)
    read = {"modality": group.get("modality"), "spacing": group["spacing"]}
    asked = {"pretraining": config.as_dict(), **read, "trained": parts["trained"], "measured": parts["measured"]}
    if kept(record, asked):
        return
    scans = [open_real(data, scan, group, False) for scan in parts["trained"]]
    encoder = pretrain(config, scans).model.student.encoder
    export_half(encoder, record.with_suffix(".safetensors"))
    measured = {scan: open_real(data, scan, group, True) for scan in parts["measured"]}
    write_json(record, {"recipe": asked, "silhouettes": measure_scans(encoder, config.options.levels, measured)})


def collect_real(
    arms: Sequence[str], recipe: str, phantom_seeds: Sequence[int], seeds: Sequence[int], folder: Path, data: Path
) -> None:
    """folder/weights/real.json: {group: {"phantoms" | "scans": {arm: [per seed {scan: {organ: silhouette}}]}}}.

    Raises:
        ValueError: if an encoder of the study followed another recipe.
    """
    levels = recipe_of("s2dc", recipe, 0).options.levels
    trained = {"phantoms": list(phantom_seeds), "scans": list(seeds)}
    study = {"recipe": recipe, "seeds": trained, "levels": list(levels), "versions": versions(), "groups": {}}
    for name, group in load_groups().items():
        scans = {scan: open_real(data, scan, group, True) for split in group["splits"] for scan in split["measured"]}
        starts = [recipe_of("s2dc", recipe, seed).build().student.encoder for seed in phantom_seeds]
        on_phantoms = {"untrained": [measure_scans(start, levels, scans) for start in starts]}
        for arm in arms:
            encoders = [_of_study(arm, recipe, seed, folder) for seed in phantom_seeds]
            on_phantoms[arm] = [measure_scans(encoder, levels, scans) for encoder in encoders]
        on_scans = {arm: [_gather(name, group, arm, seed, folder) for seed in seeds] for arm in arms}
        study["groups"][name] = {**group, "phantoms": on_phantoms, "scans": on_scans}
    write_json(folder / "weights" / "real.json", study)


def _of_study(arm: str, recipe: str, seed: int, folder: Path) -> torch.nn.Module:
    """An encoder that the study left in the folder, of this recipe."""
    kept(folder / f"{arm}_seed{seed}.json", recipe_of(arm, recipe, seed).as_dict())
    return open_weights(folder / f"{arm}_seed{seed}.safetensors")


def _gather(name: str, group: dict, arm: str, seed: int, folder: Path) -> dict:
    """Silhouettes of all splits that were trained; a group may be left for another day."""
    records = [folder / f"{name}_{split}_{arm}_seed{seed}.json" for split in range(len(group["splits"]))]
    return {scan: found for file in records if file.exists() for scan, found in read_json(file)["silhouettes"].items()}


def _work(*job) -> str:
    train_on_real(*job)
    return f"{job[0]}, seed {job[2]}, {job[3]} split {job[4]}"


def _jobs(options: Namespace) -> list[tuple]:
    return [
        (arm, options.recipe, seed, name, split, options.folder, options.data)
        for seed in range(options.seeds)
        for name in options.only
        for split in range(len(load_groups()[name]["splits"]))
        for arm in options.arms
    ]


def _collect(options: Namespace) -> list[Path]:
    seeds = range(options.phantom_seeds), range(options.seeds)
    collect_real(options.arms, options.recipe, *seeds, options.folder, options.data)
    return [options.folder / "weights" / "real.json"]


STUDY = Study(
    "real scans: encoders trained on phantoms alone, and on such scans",
    _jobs,
    _work,
    _collect,
    seeds=1,
    fewest=0,
    names=tuple(load_groups()),
    reads=True,
    more={
        "--recipe": {"default": "teaching"},
        "--phantom-seeds": {"type": int, "default": 5, "help": "encoders of `arms` to measure, per arm"},
        "--arms": {"nargs": "+", "default": ["contrast", "s2dc"]},
    },
)
