"""The study of few labels on real scans: encoders that were trained on generated bodies, on patients by patient.

``python -m s2dc_core.studies few_labels FOLDER DATA`` learns from half of each group's patients and scores the others
(few_labels.yaml), and writes FOLDER/few_labels.json. The scans stay where they are.

Two questions, each for several numbers of labelled patients. Of frozen tokens: the Dice of a linear probe, for every
arm of the paper's table 7. Of fine-tuned networks, from scratch and from S2DC: Dice, or for a translation PSNR, NMSE
and SSIM. A seed draws the labelled patients, alike for all arms. The unit is a patient: what is compared is each
patient's mean over the seeds.
"""

from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from importlib import resources
from pathlib import Path
from statistics import mean

import numpy as np
import torch
import yaml

from s2dc_core.data import load_scan
from s2dc_core.downstream.config import FinetuneConfig
from s2dc_core.downstream.data_sets import Downstream
from s2dc_core.downstream.examples import Example, Examples
from s2dc_core.downstream.finetune import finetune
from s2dc_core.downstream.image_to_image import ImageToImage
from s2dc_core.downstream.segmentation import Segmentation
from s2dc_core.evaluation.probe import example_tokens, fit_probe, token_dice
from s2dc_core.intervals import mean_interval
from s2dc_core.library.arms import ARMS, open_weights, shipped_record
from s2dc_core.library.results import FEW_LABELS
from s2dc_core.pretraining.config import PretrainConfig
from s2dc_core.studies.study import Study, kept
from s2dc_core.training.records import read_json, versions, write_json

PROBED, TUNED = ("untrained", *ARMS), ("scratch", "s2dc")


def load_groups() -> dict[str, dict]:
    """Which patients there are, and their source (few_labels.yaml)."""
    text = resources.files("s2dc_core.studies").joinpath("few_labels.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text)


def patients(group: Mapping, names: Sequence[str], data: Path) -> Examples:
    """Some patients of a group: their images as channels, and the label map or the image to be predicted."""
    spacing = tuple(map(float, group["spacing"]))

    def read(entry: Mapping[str, str]) -> Example:
        name, images = entry["name"], {**group["images"], **group.get("target", {})}
        label = None if "target" in group else data / f"{name}_seg.nii.gz"
        scans = [load_scan(data / f"{name}{end}.nii.gz", label, None, kind, spacing) for end, kind in images.items()]
        shown = torch.cat([scan.volume for scan in scans[: len(group["images"])]])
        truth = scans[0].label if label else scans[-1].volume[0]
        return Example(name, shown, truth, scans[0].background, scans[0].affine)

    return Examples([{"name": name} for name in names], read)


@lru_cache(maxsize=4)
def _half(name: str, half: int, data: Path) -> Examples:
    group = load_groups()[name]
    return patients(group, group["halves"][half], data)


def probe(name: str, arm: str, seeds: Sequence[int], data: Path) -> dict[str, dict[str, list[dict[str, float]]]]:
    """Dice of a linear probe of frozen tokens: {labelled: {patient: [per seed {label: Dice}]}}.

    A patient without a token in a label has no Dice of it. Each channel is encoded by itself, and its tokens joined.
    """
    group, found = load_groups()[name], {}
    levels = PretrainConfig.from_dict(shipped_record("s2dc")["recipe"]).options.levels
    encoder = open_weights(arm)
    halves = [_half(name, half, data) for half in (0, 1)]
    tokens = [dict(zip(half.names, _channel_tokens(encoder, half, levels), strict=True)) for half in halves]
    for known, unseen in ((0, 1), (1, 0)):
        for count in group["labelled"]:
            for seed in seeds:
                chosen = halves[known].share(count / len(halves[known]), seed).names
                fitted = fit_probe([tokens[known][each] for each in chosen])
                for patient, part in tokens[unseen].items():
                    dice = {str(label): round(float(value), 5) for label, value in token_dice(fitted, [part]).items()}
                    found.setdefault(str(count), {}).setdefault(patient, []).append(dice)
    return found


def _channel_tokens(encoder: torch.nn.Module, examples: Examples, levels: Sequence[int]) -> list[tuple]:
    found = []
    for example in examples:
        single = [example._replace(image=channel[None]) for channel in example.image]
        parts = example_tokens(encoder, single, levels)
        found.append((np.concatenate([features for features, _ in parts], axis=1), parts[0][1]))
    return found


def recipe_for(name: str, start: str, seed: int) -> FinetuneConfig:
    """The recipe of a fine-tuning on a group, from scratch or from an arm."""
    group = load_groups()[name]
    own = {"head": "unetr", "learning_rate": 6e-3, "steps": 60} if "target" in group else {}
    config = replace(FinetuneConfig.from_recipe("teaching"), region=tuple(group["region"]), pad=True, seed=seed, **own)
    return replace(config, encoder_rate=1.0) if start == "scratch" else replace(config, weights=start)


def tune(name: str, start: str, seed: int, data: Path) -> dict[str, dict[str, dict[str, float]]]:
    """Scores of fine-tuned networks: {labelled: {patient: {score: number}}}."""
    group, found = load_groups()[name], {}
    task = ImageToImage() if "target" in group else Segmentation(group["labels"])
    config = recipe_for(name, start, seed)
    halves = [_half(name, half, data) for half in (0, 1)]
    for known, unseen in ((0, 1), (1, 0)):
        for count in (group["labelled"][0], group["labelled"][-1]):
            labelled = halves[known].share(count / len(halves[known]), seed)
            scores = finetune(config, Downstream(task, labelled, halves[unseen]), progress=False).scores.cases
            rounded = {case: {key: round(value, 5) for key, value in each.items()} for case, each in scores.items()}
            found.setdefault(str(count), {}).update(rounded)
    return found


def answer(how: str, name: str, arm: str, seeds: Sequence[int], folder: Path, data: Path) -> str:
    """Measure one arm on one group, unless the folder holds it, and say which.

    Raises:
        ValueError: if what lies there followed another recipe: other seeds, patients, weights or fine-tuning.
    """
    file = folder / f"{how}_{name}_{arm}_seed{seeds[0]}.json"
    read = {key: value for key, value in load_groups()[name].items() if key != "source"}
    trained = None if arm == "scratch" else shipped_record(arm if arm in ARMS else "s2dc")["recipe"]
    tuned = recipe_for(name, arm, seeds[0]).as_dict() if how == "tuned" else None
    asked = {"seeds": list(seeds), "group": read, "pretraining": trained, "finetuning": tuned}
    if not kept(file, asked):
        found = probe(name, arm, seeds, data) if how == "probe" else tune(name, arm, seeds[0], data)
        write_json(file, {"recipe": asked, "scores": found, "versions": versions()})
    return f"{how}, {name}, {arm}, seeds {', '.join(map(str, seeds))}"


def collect(names: Sequence[str], probed: Sequence[int], tuned: Sequence[int], folder: Path) -> None:
    """folder/few_labels.json: {group: {..., "probe" | "tuned": {labelled: {arm: {patient: [per seed scores]}}}}}."""
    groups = {}
    for name in names:
        group = load_groups()[name]
        entry = groups.setdefault(name, {**group, "labels": {str(k): v for k, v in group.get("labels", {}).items()}})
        for arm in PROBED if "labels" in group else ():
            record = read_json(folder / f"probe_{name}_{arm}_seed{probed[0]}.json")
            for count, found in record["scores"].items():
                entry.setdefault("probe", {}).setdefault(count, {})[arm] = found
        for start in TUNED:
            records = [read_json(folder / f"tuned_{name}_{start}_seed{seed}.json")["scores"] for seed in tuned]
            for count in records[0]:
                cases = {case: [record[count][case] for record in records] for case in records[0][count]}
                entry.setdefault("tuned", {}).setdefault(count, {})[start] = cases
    write_json(folder / FEW_LABELS, {"versions": versions(), "groups": groups})


def per_patient(scores: Mapping[str, Sequence[Mapping[str, float]]], key: str | None = None) -> dict[str, float]:
    """One number a patient, the mean over its seeds: of one score, or of the mean over the labels it has."""
    each = {
        patient: [found[key] if key else mean(found.values()) for found in runs if found]
        for patient, runs in scores.items()
    }
    return {patient: mean(values) for patient, values in each.items() if values}


def paired(scores: Mapping[str, Mapping], arm: str, other: str, key: str | None = None) -> tuple[float, float, float]:
    """An arm minus another one, paired by patient: mean and 95 % Student-t interval over the patients."""
    ours, theirs = per_patient(scores[arm], key), per_patient(scores[other], key)
    return mean_interval([ours[patient] - theirs[patient] for patient in ours if patient in theirs])


def by_seed(scores: Mapping[str, Mapping], arm: str, other: str, key: str) -> list[float]:
    """An arm minus another one, the mean over the patients, of each seed by itself: what `paired` averages over."""
    common = [patient for patient in scores[arm] if patient in scores[other]]
    runs = zip(*(zip(scores[arm][patient], scores[other][patient], strict=True) for patient in common), strict=True)
    return [mean(ours[key] - theirs[key] for ours, theirs in run) for run in runs]


def lead_over(group: Mapping, arm: str = "s2dc") -> dict[str, dict[tuple[str, int], tuple[float, float, float]]]:
    """One arm minus every other, with the fewest and with the most labelled patients, paired by patient.

    Args:
        group: of the results, one that has labels.
        arm: what is compared with the others; above 0 it is ahead.

    Returns:
        {"probe" | "tuned": {(other arm, labelled patients): (mean, low, high)}} of Dice, 95 % intervals as paired.
    """
    found = {}
    for how, key in (("probe", None), ("tuned", "Dice")):
        counts = sorted(map(int, group[how]))
        for count in (counts[0], counts[-1]):
            scores = group[how][str(count)]
            others = {(other, count): paired(scores, arm, other, key) for other in scores if other != arm}
            found.setdefault(how, {}).update(others)
    return found


def _jobs(options: Namespace) -> list[tuple]:
    draws, seeds, rest = range(options.draws), range(options.seeds), (options.folder, options.data)
    labelled = [name for name in options.only if "labels" in load_groups()[name]]
    jobs = [("probe", name, arm, list(draws), *rest) for name in labelled for arm in PROBED]
    return jobs + [("tuned", name, each, [seed], *rest) for seed in seeds for name in options.only for each in TUNED]


def _collect(options: Namespace) -> list[Path]:
    collect(options.only, range(options.draws), range(options.seeds), options.folder)
    return [options.folder / FEW_LABELS]


STUDY = Study(
    "few labels on real scans, scored on patients never labelled",
    _jobs,
    answer,
    _collect,
    seeds=2,
    fewest=1,
    names=tuple(load_groups()),
    reads=True,
    more={"--draws": {"type": int, "default": 3, "help": "seeds that draw labelled patients for the probe"}},
)
