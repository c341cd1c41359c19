"""The study behind notebook 12: labels of one patient carried to another, by frozen features and by what needs none.

``python -m s2dc_core.studies another_patient FOLDER`` takes the encoders that ``arms`` left in FOLDER/.. (or in
``--encoders``), scores them on generated bodies never seen, and writes FOLDER/another_patient.json; with ``--data``
on real scans. Nothing is trained. ``--install`` puts the record where `patient_results` looks for it.

Scans are scored as ordered neighbours: each labels the next one, and the last the first. So every patient is asked
once and answers once.
"""

from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from s2dc_core.data import Scan
from s2dc_core.evaluation.correctness import Partners, dice_by_label
from s2dc_core.evaluation.pair_scores import TITLES, score_baselines, score_features
from s2dc_core.evaluation.pairs import CHANNELS, WAYS, Side, Weights, answers, encoded_by, nearest_with, patches_of
from s2dc_core.features import TokenMap
from s2dc_core.library.arms import open_weights
from s2dc_core.library.results import PATIENTS
from s2dc_core.studies.arms import recipe_of
from s2dc_core.studies.patients import (
    CHOOSING,
    CONDITIONS,
    GENERATED,
    REAL,
    conditions_of,
    members,
    opened,
    partners_of,
)
from s2dc_core.studies.study import Study, kept
from s2dc_core.training.records import read_json, versions, write_json

WITHOUT = ("raw", "baselines")
"""What has no encoder: raw patches of a token's size, and place, centroids and registration."""

FINER = ("raw", "s2dc")
"""What is asked for a second pass too, with its first seed alone: it takes as long as all other ways together."""

PLACE, ALIGNED = (1.0, 3.0, 10.0, 30.0, 100.0), (0.01, 0.03, 0.1, 0.3)
"""Weights that are tried."""

STARTS_MM = (0.0, -90.0, 90.0)
"""Shifts along z from which a registration starts where a scan shows less than the other."""

METHODS = {title: kind for kind, title in TITLES.items()}
"""What the record calls the registrations."""


def encoder_of(arm: str, seed: int, encoders: Path) -> torch.nn.Module:
    """A frozen encoder: the start of a seed, what `arms` or `trainings` left of it, or a file that has no seed."""
    if arm == "untrained":
        return recipe_of("s2dc", "teaching", seed).build().student.encoder.eval()
    file, single = encoders / f"{arm}_seed{seed}.safetensors", encoders / f"{arm}.safetensors"
    return open_weights(single if seed == 0 and single.exists() else file)


def encode_with(arm: str, seed: int, encoders: Path, first: Scan) -> Callable[[Scan], list[TokenMap]]:
    """What makes tokens of a scan; joined tokens are reduced to CHANNELS by a basis fitted on a first scan."""
    if arm in WITHOUT:
        return patches_of()
    levels = recipe_of("s2dc", "teaching", seed).options.levels
    return encoded_by(encoder_of(arm, seed, encoders), levels, like=first)


def choose_weights(arm: str, seed: int, encoders: Path) -> Weights:
    """The weights of place (whole scans) and of alignment (whole and half ones) with the best Dice on CHOOSING."""
    metric = "euclidean" if arm in WITHOUT else "cosine"
    scans = [opened("ct", name, None) for name in CHOOSING]
    encode = encode_with(arm, seed, encoders, scans[0])
    sides = [Side.of(scan, encode) for scan in scans]
    place, aligned = dict.fromkeys(PLACE, 0.0), dict.fromkeys(ALIGNED, 0.0)
    for number, labelled in enumerate(sides):
        scan = scans[(number + 1) % len(scans)]
        for condition in ("whole", "half"):
            target = Side.of(CONDITIONS[condition](scan, number), encode)
            if condition == "whole":
                for weight in PLACE:
                    place[weight] += _mean_dice(target, nearest_with(labelled, target, metric, weight))
            alignment = answers(labelled, target, Weights(metric=metric), ways=("aligned",)).alignment
            for weight in ALIGNED if alignment else ():
                found = nearest_with(labelled, target, metric, weight, alignment)
                aligned[weight] += _mean_dice(target, found)
    return Weights(max(place, key=place.get), max(aligned, key=aligned.get), metric)


def _mean_dice(target: Side, found: torch.Tensor) -> float:
    return mean(dice_by_label(target.owner, found).values())


def score_group(
    arm: str, seed: int, group: str, weights: Weights, encoders: Path, data: Path | None, ways: Sequence[str] = ()
) -> dict:
    """{condition: [of each pair its scores]} of one arm and seed in one group, by some ways; () for all of them."""
    names = members(group)
    encode = encode_with(arm, seed, encoders, opened(group, names[0], data))
    labelled = {name: Side.of(opened(group, name, data), encode) for name in names}
    ways = ways or [way for way in WAYS if way != "finer" or (seed == 0 and arm in FINER)]
    found: dict[str, list] = {}
    for condition in conditions_of(group):
        for number, name in enumerate(names):
            other = names[(number + 1) % len(names)]
            target = Side.of(CONDITIONS[condition](opened(group, other, data), number), encode)
            known = partners_of(name, other, target.scan) if group in GENERATED and condition != "turned" else None
            if arm == "baselines":
                scores = without_features(labelled[name], target, known, condition)
            else:
                scores = score_features(labelled[name], target, weights, ways, probe=False, known=known)
            found.setdefault(condition, []).append({"labelled": name, "target": other} | rounded(scores))
    return found


def without_features(labelled: Side, target: Side, known: Partners | None, condition: str) -> dict[str, dict]:
    """One pair by place, centroids and registration, as score_features gives it, with each of them as a way."""
    starts = (0.0,) if condition in ("whole", "turned") else STARTS_MM
    record: dict[str, dict] = {}
    for method, measured in score_baselines(labelled, target, starts, known).items():
        for measure, by_way in measured.items():
            (value,) = by_way.values()
            record.setdefault(measure, {})[METHODS.get(method, method)] = value
    return record


def asked_of(arm: str, seed: int, group: str) -> dict[str, Any]:
    """What a record of one arm and seed in one group answers."""
    bodies = {"members": members(group), "conditions": list(conditions_of(group))}
    return {"arm": arm, "seed": seed, "group": group, **bodies, "channels": CHANNELS}


def rounded(scores: Any, digits: int = 4) -> Any:
    """Scores as the record holds them: names are texts, and mm have two digits."""
    if isinstance(scores, Mapping):
        return {str(name): rounded(value, 2 if str(name).endswith("_mm") else digits) for name, value in scores.items()}
    return round(scores, digits) if isinstance(scores, float) else scores


def answer(arm: str, seed: int, group: str, folder: Path, encoders: Path, data: Path | None) -> None:
    """Score one arm and seed in one group and leave the record in the folder; what lies there is kept.

    Raises:
        ValueError: if what lies there was asked otherwise.
    """
    file, asked = folder / f"{group}_{arm}_seed{seed}.json", asked_of(arm, seed, group)
    if kept(file, asked):
        return
    chosen_file = folder / f"weights_{arm}.json"
    if arm != "baselines" and not chosen_file.exists():
        write_json(chosen_file, choose_weights(arm, 0, encoders)._asdict())
    weights = Weights() if arm == "baselines" else Weights(**read_json(chosen_file))
    scores = score_group(arm, seed, group, weights, encoders, data)
    write_json(file, {"recipe": asked, "weights": weights._asdict(), "scores": scores, "versions": versions()})


def collect(folder: Path) -> None:
    """folder/another_patient.json: {"weights": {arm: ...}, "groups": {group: {arm: [per seed {condition: [pair]}]}}}.

    Left out are landmarks where organs may be cut, whose centroids are other places.
    """
    groups: dict[str, dict] = {}
    for group in (*GENERATED, *REAL):
        for file in sorted(folder.glob(f"{group}_*_seed*.json")):
            record = read_json(file)
            if record["recipe"]["group"] == group:
                runs = groups.setdefault(group, {}).setdefault(record["recipe"]["arm"], [])
                runs.append({name: [_kept(pair, name) for pair in pairs] for name, pairs in record["scores"].items()})
    weights = {file.stem.removeprefix("weights_"): read_json(file) for file in sorted(folder.glob("weights_*.json"))}
    record = {"versions": versions(), "channels": CHANNELS, "chosen_on": CHOOSING, "weights": weights, "groups": groups}
    write_json(folder / PATIENTS, record)


def _kept(pair: Mapping, condition: str) -> dict:
    return {name: value for name, value in pair.items() if condition == "whole" or name != "landmarks_mm"}


def _work(arm: str, seed: int, group: str, folder: Path, encoders: Path, data: Path | None) -> str:
    answer(arm, seed, group, folder, encoders, data)
    return f"{group}, {arm}, seed {seed}"


def _jobs(options: Namespace) -> list[tuple]:
    encoders = options.encoders or options.folder.parent
    groups = [group for group in options.only if group in GENERATED or options.data]
    return [
        (arm, seed, group, options.folder, encoders, options.data)
        for group in groups
        for seed in range(options.seeds)
        for arm in options.arms
        if seed == 0 or arm not in WITHOUT
    ]


def _collect(options: Namespace) -> list[Path]:
    collect(options.folder)
    return [options.folder / PATIENTS]


STUDY = Study(
    "labels of one patient carried to another, by frozen features and by what needs none",
    _jobs,
    _work,
    _collect,
    seeds=5,
    fewest=1,
    names=(*GENERATED, *REAL),
    more={
        "--arms": {"nargs": "+", "default": [*WITHOUT, "untrained", "contrast", "s2dc"]},
        "--encoders": {"type": Path, "help": "folder of the encoders that `arms` left; default: that above FOLDER"},
        "--data": {"type": Path, "help": "folder of the real scans"},
    },
)
