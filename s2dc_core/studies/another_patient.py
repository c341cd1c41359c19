"""The study behind notebook 12: labels of one patient carried to another, by frozen features and by what needs none.

``python -m s2dc_core.studies another_patient FOLDER`` takes the encoders that ``arms`` left in FOLDER/.. (or in
``--encoders``), scores them on generated bodies never seen, and writes FOLDER/another_patient.json; with ``--data``
on real scans. Nothing is trained. ``--install`` puts the record where `patient_results` looks for it.

Scans are scored as ordered neighbours: each labels the next one, and the last the first. So every patient is asked
once and answers once.
"""

from argparse import Namespace
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from statistics import mean
from time import perf_counter

import numpy as np
import torch

from s2dc_core.data import Scan, body_coordinates, load_scan, open_scan
from s2dc_core.evaluation.baselines import centroid_labels, place_map, register
from s2dc_core.evaluation.conditions import box, half, turned
from s2dc_core.evaluation.correctness import (
    Partners,
    centroids,
    dice_by_label,
    landmark_errors,
    nearest_found,
    surface_dice,
    true_partners,
)
from s2dc_core.evaluation.one_shot import carry_labels
from s2dc_core.evaluation.pairs import (
    CHANNELS,
    WAYS,
    Answers,
    Side,
    Weights,
    answers,
    encoded_by,
    nearest_with,
    patches_of,
    score_answers,
)
from s2dc_core.features import TokenMap, organ_grid
from s2dc_core.intervals import mean_interval
from s2dc_core.library.arms import ARMS, open_weights
from s2dc_core.library.results import PATIENTS
from s2dc_core.studies.arms import recipe_of
from s2dc_core.studies.few_labels import load_groups
from s2dc_core.studies.study import Study, kept
from s2dc_core.training.records import read_json, versions, write_json

SCORED = tuple(range(1000, 1008))
"""Generated bodies that no encoder and no weight has seen."""

CHOOSING = (900, 901, 902)
"""Generated bodies on which the weights of place and alignment are chosen."""

CONDITIONS = {
    "whole": lambda scan, number: scan,
    "half": lambda scan, number: half(scan, number % 2 == 1),
    "box": lambda scan, number: box(scan, 0.6, number),
    "turned": lambda scan, number: turned(scan, 20.0, number),
}
"""What is shown of the patient that is asked; of half the scans the upper half, of the others the lower one."""

GENERATED = {
    "ct": ("phantom_ct", False, ("whole", "half")),
    "ct_varied": ("phantom_ct", True, ("whole", "half")),
    "ct_fields": ("phantom_ct", False, ("box", "turned")),
    "pet": ("phantom_pet", False, ("whole", "half")),
    "mr_t1": ("phantom_mr_t1", False, ("whole", "half")),
}
"""Image, whether phase and scanner vary, and conditions of each group of generated bodies."""

REAL = {"headneck_ct": ("whole", "lower", "upper"), "hippocampus_mr": ("whole", "half")}
"""Groups of few_labels.yaml, and conditions; a scan is never asked by an encoder that was trained on it."""

CONDITIONS |= {"lower": lambda scan, number: half(scan, False), "upper": lambda scan, number: half(scan, True)}

WITHOUT = ("raw", "baselines")
"""What has no encoder: raw patches of a token's size, and place, centroids and registration."""

FINER, PLAIN_WAYS = ("raw", "s2dc", "s2dc_long"), ("nearest", "place", "aligned", "deformed")
"""What is asked for a second pass too, with its first seed alone: it takes as long as all other ways together."""

PLACE, ALIGNED = (1.0, 3.0, 10.0, 30.0, 100.0), (0.01, 0.03, 0.1, 0.3)
"""Weights that are tried."""

STARTS_MM = (0.0, -90.0, 90.0)
"""Shifts along z from which a registration starts where a scan shows less than the other."""


@lru_cache(maxsize=48)
def opened(group: str, name: str | int, data: Path | None) -> Scan:
    """A scan of a group."""
    if group in GENERATED:
        image, varied, _ = GENERATED[group]
        return open_scan(image, seed=int(name), varied=varied)
    entry = load_groups()[group]
    (ending, modality), *_ = entry["images"].items()
    files = data / f"{name}{ending}.nii.gz", data / f"{name}_seg.nii.gz"
    return load_scan(*files, modality=modality, spacing=tuple(map(float, entry["spacing"])))


def members(group: str) -> list:
    """What is scored in a group."""
    return list(SCORED) if group in GENERATED else [name for part in load_groups()[group]["halves"] for name in part]


def conditions_of(group: str) -> Sequence[str]:
    """The conditions of a group."""
    return GENERATED[group][2] if group in GENERATED else REAL[group]


def encoder_of(arm: str, seed: int, encoders: Path) -> torch.nn.Module:
    """A frozen encoder: the start of a seed, what an arm of the study became, or a file of the folder."""
    if arm == "untrained":
        return recipe_of("s2dc", "teaching", seed).build().student.encoder.eval()
    return open_weights(encoders / (f"{arm}_seed{seed}.safetensors" if arm in ARMS else f"{arm}.safetensors"))


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


def score_group(arm: str, seed: int, group: str, weights: Weights, encoders: Path, data: Path | None) -> dict:
    """{condition: [of each pair its scores]} of one arm and seed in one group."""
    names = members(group)
    encode = encode_with(arm, seed, encoders, opened(group, names[0], data))
    labelled = {name: Side.of(opened(group, name, data), encode) for name in names}
    found: dict[str, list] = {}
    for condition in conditions_of(group):
        for number, name in enumerate(names):
            other = names[(number + 1) % len(names)]
            target = Side.of(CONDITIONS[condition](opened(group, other, data), number), encode)
            pair = {"labelled": name, "target": other}
            known = partners_of(name, other, target) if group in GENERATED and condition != "turned" else None
            if arm == "baselines":
                scores = score_baselines(labelled[name], target, known, condition)
            else:
                scores = score_features(
                    labelled[name], target, weights, known, WAYS if seed == 0 and arm in FINER else PLAIN_WAYS
                )
            found.setdefault(condition, []).append(pair | scores)
    return found


def score_features(
    labelled: Side, target: Side, weights: Weights, known: Partners | None, ways: Collection[str]
) -> dict:
    """One pair by the features of an encoder, or of raw patches, in every way."""
    start = perf_counter()
    found = answers(labelled, target, weights, ways)
    seconds = perf_counter() - start
    scores = score_answers(found, labelled, target)
    record = {
        "dice": {way: _rounded(values) for way, values in scores.dice.items()},
        "voxel_dice": _rounded(scores.voxel_dice),
        "surface_dice": _rounded(_surface(target, found)),
        "retrieval": _rounded(scores.retrieval),
        "landmarks_mm": {way: _rounded(values, 1) for way, values in scores.landmarks.items()},
        "inliers": scores.inliers,
        "mutual": scores.mutual,
        "seconds": round(seconds, 2),
    }
    if known is not None:
        ways = {"nearest": nearest_found(found.matches)}
        if found.alignment is not None:
            ways |= {"aligned": found.alignment._replace(bend=None), "deformed": found.alignment}
        record["body_mm"] = {way: body_errors(known, moved) for way, moved in ways.items()}
    return record


def score_baselines(labelled: Side, target: Side, known: Partners | None, condition: str) -> dict:
    """One pair by what needs no features: place, centroids, registration."""
    place = [side._replace(tokens=place_map(side.tokens, side.body)) for side in (labelled, target)]
    labels = {
        "place alone": answers(*place, Weights(metric="euclidean"), ways=()).labels["nearest"],
        "centroids": centroid_labels(labelled.tokens, labelled.scan.label, labelled.body, target.tokens, target.body),
    }
    record = {"voxel_dice": {}, "surface_dice": {}, "landmarks_mm": {}, "body_mm": {}, "seconds": {}}
    places = [centroids(side.scan.label, side.scan.affine) for side in (target, labelled)]
    starts = (0.0,) if condition in ("whole", "turned") else STARTS_MM
    for kind in ("affine", "bspline"):
        start = perf_counter()
        moved = register(labelled.scan, target.scan, kind, starts)
        record["seconds"][kind] = round(perf_counter() - start, 2)
        scan = target.scan
        carried = carry_labels(labelled.scan.label, labelled.scan.affine, scan.raw.shape, scan.affine, moved)
        labels[kind] = organ_grid(target.tokens, carried) if carried.any() else target.owner * 0
        record["voxel_dice"][kind] = _rounded(dice_by_label(scan.label.long(), carried))
        record["surface_dice"][kind] = _rounded(surface_dice(scan.label.long(), carried, scan.spacing))
        record["landmarks_mm"][kind] = _rounded(landmark_errors(*places, moved), 1)
        if known is not None:
            record["body_mm"][kind] = body_errors(known, moved)
    return record | {"dice": {way: _rounded(dice_by_label(target.owner, found)) for way, found in labels.items()}}


def _surface(target: Side, found: Answers) -> dict[int, float]:
    if found.carried is None:
        return {}
    return surface_dice(target.scan.label.long(), found.carried, target.scan.spacing)


@lru_cache(maxsize=16)
def _coordinates(body: int) -> np.ndarray:
    return body_coordinates(body)


@lru_cache(maxsize=16)
def _partners(name: int, other: int) -> Partners:
    sides = [
        (_coordinates(body), scan.affine, scan.label, scan.foreground)
        for body, scan in ((each, opened("ct", each, None)) for each in (name, other))
    ]
    return true_partners(*sides)


def partners_of(name: int, other: int, target: Side) -> Partners:
    """True partners of random places of the target's body that its field of view shows."""
    known, scan = _partners(name, other), target.scan
    cells = np.linalg.solve(scan.affine, np.c_[known.target_mm, np.ones(len(known.target_mm))].T)[:3].T
    shown = ((cells > -0.5) & (cells < np.array(scan.raw.shape) - 0.5)).all(1)
    return Partners(*(part[shown] for part in known))


def body_errors(known: Partners, moved: Callable) -> dict[str, float]:
    """Mean and median distance in mm from the true partners, over all places and over those of equal label alone."""
    away = np.linalg.norm(moved(known.target_mm) - known.source_mm, axis=1)
    same = away[known.same_label]
    return {
        "mean": round(float(away.mean()), 2),
        "median": round(float(np.median(away)), 2),
        "same label, mean": round(float(same.mean()), 2),
    }


def _rounded(values: Mapping[int, float], digits: int = 4) -> dict[str, float]:
    return {str(label): round(value, digits) for label, value in values.items()}


def answer(arm: str, seed: int, group: str, folder: Path, encoders: Path, data: Path | None) -> None:
    """Score one arm and seed in one group and leave the record in the folder; what lies there is kept.

    Raises:
        ValueError: if what lies there was asked otherwise.
    """
    file = folder / f"{group}_{arm}_seed{seed}.json"
    asked = {
        "arm": arm,
        "seed": seed,
        "group": group,
        "members": members(group),
        "conditions": list(conditions_of(group)),
        "channels": CHANNELS,
    }
    if kept(file, asked):
        return
    chosen_file = folder / f"weights_{arm}.json"
    if arm != "baselines" and not chosen_file.exists():
        write_json(chosen_file, choose_weights(arm, 0, encoders)._asdict())
    weights = Weights() if arm == "baselines" else Weights(**read_json(chosen_file))
    scores = score_group(arm, seed, group, weights, encoders, data)
    write_json(file, {"recipe": asked, "weights": weights._asdict(), "scores": scores, "versions": versions()})


def pair_dice(scores: Mapping, condition: str, way: str) -> list[float]:
    """Of each pair the mean over organs of Dice in tokens."""
    return [mean(pair["dice"][way].values()) for pair in scores[condition]]


def summary(record: Mapping, group: str, condition: str) -> dict[str, dict[str, tuple[float, float, float]]]:
    """{arm: {way: mean Dice in tokens over organs, seeds and pairs, and its 95 % Student-t interval over pairs}}.

    Args:
        record: of `patient_results`; an arm or a way that was not asked in the condition is left out.
    """
    found: dict[str, dict] = {}
    for arm, scored in record["groups"].get(group, {}).items():
        runs = [scores for scores in scored if condition in scores]
        for way in runs[0][condition][0]["dice"] if runs else ():
            of_way = [pair_dice(scores, condition, way) for scores in runs if way in scores[condition][0]["dice"]]
            found.setdefault(arm, {})[way] = mean_interval(np.mean(of_way, axis=0).tolist())
    return found


def compare(
    ours: Sequence[Mapping], theirs: Sequence[Mapping], condition: str, way: str, their_way: str | None = None
) -> dict[str, tuple[float, float, float]]:
    """One arm minus another in mean Dice: mean and 95 % Student-t intervals over pairs of patients, and over seeds.

    Args:
        ours, theirs: scores of each seed; what has no seeds is compared with each seed of the other.
        condition, way, their_way: what is compared; their_way is ours by default.
    """
    one = np.array([pair_dice(scores, condition, way) for scores in ours])
    other = np.array([pair_dice(scores, condition, their_way or way) for scores in theirs])
    gains = one - (other if len(other) == len(one) else other.mean(0, keepdims=True))
    found = {"over pairs": mean_interval(gains.mean(0).tolist())}
    if len(gains) > 1:
        found["over seeds"] = mean_interval(gains.mean(1).tolist())
    return found


def collect(folder: Path) -> None:
    """folder/another_patient.json: {"weights": {arm: ...}, "groups": {group: {arm: [per seed {condition: [pair]}]}}}.

    Left out are seconds, which jobs side by side lengthen (see benchmarks/patients.py), and landmarks where organs may
    be cut, whose centroids are other places.
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
    dropped = {"seconds"} if condition == "whole" else {"seconds", "landmarks_mm"}
    return {name: value for name, value in pair.items() if name not in dropped}


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
