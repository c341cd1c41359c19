"""The study behind notebook 09: three kinds of lungs, told apart by a linear reading of frozen features and few labels.

``python -m s2dc_core.studies lungs FOLDER`` takes the encoders that ``arms`` left in FOLDER/.. (or in ``--encoders``),
reads generated bodies, and writes FOLDER/lungs.json; ``--install`` puts it where `lung_results` looks for it.

Every body becomes one vector (evaluation.pooled_tokens). A seed is one training of an arm, or one random start, and one
draw of the labels, which all arms share.
"""

from argparse import Namespace
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from torch import nn

from s2dc_core.downstream.config import FinetuneConfig
from s2dc_core.downstream.data_sets import Downstream
from s2dc_core.downstream.examples import Examples
from s2dc_core.downstream.generated import lung_lesson
from s2dc_core.evaluation.probe import fit_probe, pooled_tokens
from s2dc_core.intervals import mean_interval
from s2dc_core.library.results import LUNGS
from s2dc_core.studies.another_patient import encoder_of
from s2dc_core.studies.arms import recipe_of
from s2dc_core.studies.study import Study, kept
from s2dc_core.training.records import read_json, versions, write_json

ARMS = ("untrained", "contrast", "s2dc")
SHARES = (0.1, 0.5, 1.0)
TRAINING, SCORED = range(60), range(1000, 1060)


@lru_cache(maxsize=1)
def _lesson() -> Downstream:
    return lung_lesson(TRAINING, SCORED)


def answer(arm: str, seed: int, folder: Path, encoders: Path) -> None:
    """Read all bodies with one encoder and leave what the probes said of them in the folder; what lies there is kept.

    Raises:
        ValueError: if what lies there followed another recipe.
    """
    config, size = recipe_of(arm if arm != "untrained" else "s2dc", "teaching", seed), _size()
    asked = {"arm": arm, "pretraining": config.as_dict(), "shares": SHARES, "size": size}
    asked |= {"training": list(TRAINING), "scored": list(SCORED)}
    file = folder / f"lungs_{arm}_seed{seed}.json"
    if kept(file, asked):
        return
    labelled, said = said_of(encoder_of(arm, seed, encoders), config.options.levels, seed, SHARES)
    write_json(file, {"recipe": asked, "labelled": labelled, "said": said, "versions": versions()})


def said_of(
    encoder: nn.Module, levels: Sequence[int], seed: int, shares: Sequence[float]
) -> tuple[dict[str, int], dict[str, list[int]]]:
    """Labels that are drawn, by share, and what a probe fitted on them says of each scored body."""
    lesson, size = _lesson(), _size()
    known, unseen = (
        pooled_tokens(encoder, (each.image for each in part), levels, size) for part in (lesson.training, lesson.scored)
    )
    place = {name: number for number, name in enumerate(lesson.training.names)}
    said, labelled = {}, {}
    for share in shares:
        drawn = lesson.training.share(share, seed)
        vectors = known[[place[name] for name in drawn.names]]
        probe = fit_probe([(vectors, np.array(targets_of(drawn)))])
        said[f"{share:.2f}"], labelled[f"{share:.2f}"] = probe.predict(unseen).tolist(), len(drawn)
    return labelled, said


def targets_of(examples: Examples) -> list[int]:
    """The class of each example."""
    return [entry["target"] for entry in examples.entries]


def _size() -> list[int]:
    return list(FinetuneConfig.from_recipe("teaching").region)


def collect(arms: Sequence[str], seeds: Sequence[int], folder: Path) -> None:
    """folder/lungs.json: {"is": [of each body], "labelled": {share: bodies}, "said": {arm: [per seed {share: [..]}]}}.

    The bodies are those of SCORED, in their order.
    """
    records = {arm: [read_json(folder / f"lungs_{arm}_seed{seed}.json") for seed in seeds] for arm in arms}
    first = records[arms[0]][0]
    found = {
        "versions": versions(),
        "seeds": list(seeds),
        "size": first["recipe"]["size"],
        "labelled": first["labelled"],
        "is": [seed % 3 for seed in SCORED],
        "said": {arm: [record["said"] for record in of_arm] for arm, of_arm in records.items()},
    }
    write_json(folder / LUNGS, found)


def accuracies(record: Mapping, arm: str, share: str) -> list[float]:
    """Share of the bodies that a probe is right about, of each seed.

    Args:
        record: of `lung_results`.
    """
    truth = record["is"]
    return [
        sum(said == is_ for said, is_ in zip(found[share], truth, strict=True)) / len(truth)
        for found in record["said"][arm]
    ]


def paired_gain(
    record: Mapping, share: str, ours: str = "s2dc", other: str = "untrained"
) -> tuple[float, float, float]:
    """Accuracy of one arm minus another's, paired by seed: mean and 95 % Student-t interval over the seeds."""
    pairs = zip(accuracies(record, ours, share), accuracies(record, other, share), strict=True)
    return mean_interval([one - theirs for one, theirs in pairs])


def _work(arm: str, seed: int, folder: Path, encoders: Path) -> str:
    answer(arm, seed, folder, encoders)
    return f"{arm}, seed {seed}"


def _jobs(options: Namespace) -> list[tuple]:
    encoders = options.encoders or options.folder / ".."
    return [(arm, seed, options.folder, encoders) for seed in range(options.seeds) for arm in options.only]


def _collect(options: Namespace) -> list[Path]:
    collect(options.only, range(options.seeds), options.folder)
    return [options.folder / LUNGS]


STUDY = Study(
    "what frozen features know of three kinds of lungs",
    _jobs,
    _work,
    _collect,
    seeds=5,
    names=ARMS,
    more={"--encoders": {"type": Path, "help": "folder of the encoders that arms left; by default the one above"}},
)
