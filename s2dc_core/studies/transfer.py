"""The study behind notebooks 08 to 10: does pre-training help to segment, classify, reconstruct and translate?

``python -m s2dc_core.studies transfer FOLDER`` fine-tunes what FOLDER does not hold yet, on generated bodies, and
writes FOLDER/transfer.json; ``--install`` puts it where `transfer_results` looks for it.
"""

import math
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from s2dc_core.downstream.config import FinetuneConfig
from s2dc_core.downstream.data_sets import Downstream
from s2dc_core.downstream.finetune import finetune
from s2dc_core.downstream.generated import contrast_lesson, dose_lesson, lung_lesson, organ_lesson
from s2dc_core.downstream.scores import mean_of
from s2dc_core.intervals import mean_interval
from s2dc_core.library.arms import shipped_record
from s2dc_core.library.results import TRANSFER, transfer_results
from s2dc_core.studies.study import Study, kept
from s2dc_core.training.records import read_json, versions, write_json

BOTH = ("scratch", "s2dc")
ARMS = ("scratch", "contrast", "p2p", "p2s", "s2dc")


class Question(NamedTuple):
    """One line of a table: a task, how much of its labels, which starts.

    Attributes:
        lesson: makes the task with its bodies.
        shares: of the training bodies that are labelled.
        recipe: what differs from the teaching recipe.
        starts: where the encoder's weights come from; "scratch", or an arm of the course.
    """

    lesson: Callable[[], Downstream]
    shares: Sequence[float]
    recipe: dict
    starts: Sequence[str] = BOTH


SCORED = range(1000, 1008)
POOLED = {"batch": 4, "steps": 60, "levels": (1, 2, 3, 4), "encoder_rate": 0.1}
UNETR = {"head": "unetr", "learning_rate": 6e-3, "steps": 150}
IMAGES = {**UNETR, "steps": 60}

QUESTIONS = {
    "organs": Question(lambda: organ_lesson(range(12), SCORED), (1 / 12, 3 / 12, 6 / 12, 1.0), {}),
    "organs, arms": Question(lambda: organ_lesson(range(12), SCORED), (3 / 12,), {}, ARMS),
    "organs, SwinUNETR": Question(lambda: organ_lesson(range(12), SCORED), (3 / 12,), UNETR),
    "lungs": Question(lambda: lung_lesson(range(60), range(1000, 1060)), (0.1, 0.5, 1.0), POOLED),
    "dose": Question(lambda: dose_lesson(range(6), SCORED), (1.0,), IMAGES),
    "T1 to T2": Question(lambda: contrast_lesson(range(6), SCORED), (1.0,), IMAGES),
    "T1 to T1ce": Question(lambda: contrast_lesson(range(6), SCORED, target="mr_t1ce"), (1.0,), IMAGES),
}


def recipe_for(question: Question, start: str, seed: int) -> FinetuneConfig:
    """The recipe of one training; between starts only the weights differ, and how fast the encoder leaves them."""
    config = replace(FinetuneConfig.from_recipe("teaching"), **question.recipe, seed=seed)
    return replace(config, encoder_rate=1.0) if start == "scratch" else replace(config, weights=start)


def answer(name: str, share: float, start: str, seed: int, folder: Path) -> None:
    """Train once and leave the scores of every body in the folder; what lies there is kept.

    Raises:
        ValueError: if what lies there followed another recipe.
    """
    question = QUESTIONS[name]
    config = recipe_for(question, start, seed)
    file = _file(name, share, start, seed, folder)
    asked = (
        config.as_dict() if start == "scratch" else {**config.as_dict(), "pretraining": shipped_record(start)["recipe"]}
    )
    if kept(file, asked):
        return
    lesson = _lesson(name)
    labelled = lesson.training.share(share, seed)
    result = finetune(config, lesson._replace(training=labelled), progress=False)
    cases = {
        case: {key: round(value, 5) for key, value in found.items()} for case, found in result.scores.cases.items()
    }
    loss = [round(value, 4) for value in result.history[::10]]
    record = {"recipe": asked, "labelled": labelled.names, "scores": cases, "loss_every_10": loss}
    write_json(file, {**record, "versions": versions()})


def _file(name: str, share: float, start: str, seed: int, folder: Path) -> Path:
    return folder / f"{name.split(', arms')[0]}_{share:.2f}_{start}_seed{seed}.json".replace(" ", "_")


@lru_cache(maxsize=2)
def _lesson(name: str) -> Downstream:
    return QUESTIONS[name].lesson()


def jobs_of(names: Sequence[str], seeds: Sequence[int], folder: Path) -> list[tuple]:
    """What is to be trained for some questions, seed by seed, so that an interrupted study has whole seeds."""
    return [
        (name, share, start, seed, folder)
        for name in names
        for seed in seeds
        for share in QUESTIONS[name].shares
        for start in QUESTIONS[name].starts
    ]


def collect(names: Sequence[str], seeds: Sequence[int], folder: Path) -> None:
    """folder/transfer.json: {question: {"recipe", "labelled": {share: cases}, "scores": {share: {start: [per seed]}}}}.

    A question counts with the seeds that all its trainings have; one without any is left out.
    """
    questions = {}
    for name in names:
        asked = QUESTIONS[name]
        whole = [
            seed
            for seed in seeds
            if all(_file(name, share, start, seed, folder).exists() for share in asked.shares for start in asked.starts)
        ]
        if not whole:
            continue
        found = {
            f"{share:.2f}": {
                start: [read_json(_file(name, share, start, seed, folder)) for seed in whole] for start in asked.starts
            }
            for share in asked.shares
        }
        questions[name] = {
            "seeds": whole,
            "recipe": recipe_for(asked, "scratch", whole[0]).as_dict(),
            "labelled": {share: len(runs[asked.starts[0]][0]["labelled"]) for share, runs in found.items()},
            "scores": {
                share: {start: [record["scores"] for record in records] for start, records in runs.items()}
                for share, runs in found.items()
            },
        }
    write_json(folder / TRANSFER, {"versions": versions(), "questions": questions})


def keep_answers(file: Path) -> None:
    """Add to a study's results the installed answers to questions that it did not ask."""
    study, known = read_json(file), transfer_results()
    kept = {
        name: {"versions": known["versions"], **found}
        for name, found in known["questions"].items()
        if name not in study["questions"]
    }
    write_json(file, {**study, "questions": {**kept, **study["questions"]}})


def per_seed(runs: Sequence[dict[str, dict[str, float]]], score: str) -> list[float]:
    """Mean of a score over the cases that have it, one number for every training.

    Args:
        runs: {case: {score: number}} of each training.
    """
    return [mean_of(list(cases.values())).get(score, math.nan) for cases in runs]


def paired_gains(runs: dict[str, Sequence], score: str) -> dict[str, tuple[float, float, float]]:
    """S2DC minus each other start, paired by seed: mean and 95 % Student-t interval over the seeds.

    Args:
        runs: start to its trainings, as per_seed takes them.
    """
    ours = per_seed(runs["s2dc"], score)
    others = {start: per_seed(found, score) for start, found in runs.items() if start != "s2dc"}
    return {
        start: mean_interval([one - other for one, other in zip(ours, theirs, strict=True)])
        for start, theirs in others.items()
    }


def _work(name: str, share: float, start: str, seed: int, folder: Path) -> str:
    answer(name, share, start, seed, folder)
    return f"{name}, {share:.0%} of the labels, {start}, seed {seed}"


def _jobs(options: Namespace) -> list[tuple]:
    return jobs_of(options.only, range(options.seeds), options.folder)


def _collect(options: Namespace) -> list[Path]:
    collect(list(QUESTIONS), range(options.seeds), options.folder)
    if options.install:
        keep_answers(options.folder / TRANSFER)
    return [options.folder / TRANSFER]


STUDY = Study(
    "what pre-training gives downstream, on generated bodies", _jobs, _work, _collect, seeds=5, names=tuple(QUESTIONS)
)
