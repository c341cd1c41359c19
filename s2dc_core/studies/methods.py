"""The study of all methods: every pretext task on one encoder, from one start, on the same bodies, in equal steps.

``python -m s2dc_core.studies methods FOLDER`` trains what FOLDER does not hold yet, measures it, and writes
FOLDER/methods.json; ``--install`` puts it where `method_results` looks for it. With ``--data`` real patients are asked
too.

Each method, L_g and S2DC among them, gets its learning rate by the same small search: one training of half the steps
for each of RATES, and for LOWER where the lowest of them is the best, with a seed that is not reported; and the rate
whose encoder a linear probe reads best on bodies that nothing else looks at. That rate is then tried in all the steps,
as a method may collapse in the second half; see `rate_of`. S2DC's other choices (temperature, levels,
draws of the views) were made over many trials before; no other method had that care. Then every method is trained with
the seeds that are reported. The first seed is trained once more for as long as S2DC takes, by processor time, instead
of as many steps; how long a step of each takes is measured in turn, see `time_steps`.
"""

import shutil
from argparse import Namespace
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from statistics import mean, median
from time import process_time

from s2dc_core.downstream.config import FinetuneConfig, ViTSizes
from s2dc_core.downstream.generated import organ_lesson
from s2dc_core.evaluation.pairs import Weights
from s2dc_core.evaluation.probe import example_tokens, probe_dice
from s2dc_core.library.arms import ARMS, OTHERS, open_weights
from s2dc_core.library.methods import SECONDS
from s2dc_core.library.paper import SCRATCH, UNETR
from s2dc_core.library.results import METHODS as RESULTS
from s2dc_core.library.results import WEIGHTS, method_results
from s2dc_core.methods import METHODS
from s2dc_core.pretraining.config import PretrainConfig
from s2dc_core.pretraining.run import Pretraining
from s2dc_core.studies import another_patient, arms, lungs
from s2dc_core.studies.ablation import PROBED, TUNED, probe_scores, tuned_scores, tuning_of
from s2dc_core.studies.patients import CHOOSING
from s2dc_core.studies.study import Study, kept
from s2dc_core.training.loop import drive
from s2dc_core.training.records import read_json, versions, write_json

START = "untrained"
NAMES = (START, *ARMS, *(name for name in METHODS if name != "s2dc"), UNETR, SCRATCH)
"""The start that all share, L_g and S2DC's other arms, S2DC, the other methods, and two networks from scratch."""

RATES, SEARCHED, SEARCH_STEPS = (2e-4, 1e-3, 2e-3), 100, 200
"""Learning rates that are tried, and the seed and the steps that they are tried with."""

LOWER = 5e-5
"""Tried too where the lowest of RATES is the best."""

FOLLOWS = {"p2p": "s2dc", "p2s": "s2dc"}
"""Arms that take the learning rate of another name's search."""

LEVELS = (1, 2, 3)
"""Joined for every measure, whatever a method trains most."""

GROUPS, PATIENTS = ("ct", "ct_varied"), ("headneck_ct",)
"""Whose labels are carried, see studies.patients: generated bodies, and with a folder of scans patients."""

CARRIED_BY = ("nearest", "deformed")
"""How, of evaluation.WAYS: those that have no weight to choose, so that every method is asked alike."""

NETWORKS = {
    UNETR: {"head": "vit_unetr", "vit": ViTSizes(feature=16, hidden=288, mlp=1152, heads=18)},
    SCRATCH: {"head": "unetr", "encoder_rate": 1.0},
}
"""The paper's two rows without any pre-training, networks of their own; 16.3 and 15.5 million weights."""

LUNGS = 0.1
"""Share of the labelled lungs."""

TIMED = {"rounds": 3, "steps": 6, "first": 2}
"""Steps of a method that are timed in each round, after so many first ones that are not."""

KEPT = (SECONDS, "*_seed*.json", "*_equal_time.json", "search_*.json", "full_*.json", "probe_*.json", "patients/*.json")
"""Files of a folder that the record is made of."""

LONGEST = 4
"""An equal time takes at most so many times S2DC's steps."""


def recipe_of(name: str, seed: int, rate: float | None = None, steps: int | None = None) -> PretrainConfig:
    """A method's `teaching` recipe with another seed, learning rate or number of steps."""
    if name in (START, *ARMS):
        config = arms.recipe_of(name if name in ARMS else "s2dc", "teaching", seed)
    else:
        config = replace(PretrainConfig.from_recipe(f"teaching/{name}"), seed=seed)
    changed = {"learning_rate": rate, "steps": steps}
    return replace(config, **{field: value for field, value in changed.items() if value is not None})


def train(config: PretrainConfig, file: Path) -> None:
    """Train by a recipe and leave the encoder, in float16, and its record; what lies there is kept.

    Raises:
        ValueError: if what lies there followed another recipe.
    """
    record = file.with_suffix(".json")
    if not (kept(record, config.as_dict()) and file.exists()):
        run = Pretraining(config, _scans())
        before = process_time()
        drive(run, progress=False)
        seconds = round((process_time() - before) / config.steps, 4)
        arms.export_half(run.encoder, file)
        losses = [[round(value, 4) for value in terms] for terms in run.history[::20]]
        found = {"seconds_a_step": seconds, "losses_every_20": losses, "versions": versions()}
        write_json(record, {"recipe": config.as_dict(), **found})


@lru_cache(maxsize=1)
def _scans() -> list:
    return arms.training_scans()


def searched(name: str, folder: Path) -> dict[float, float]:
    """{learning rate: Dice of a linear probe on CHOOSING}, trained and measured unless it was.

    Raises:
        ValueError: if what lies there followed another recipe.
    """
    found = {rate: _probed("search", name, rate, folder) for rate in RATES}
    if max(found, key=found.get) == min(RATES):
        found[LOWER] = _probed("search", name, LOWER, folder)
    return found


def rate_of(name: str, folder: Path) -> float:
    """The learning rate of the best probe of the search, as far as longer training does not spoil it.

    From the best on, rates are tried in full until the probe reads no less than after half the steps; of those that
    were tried, the best in full is taken.
    """
    name = FOLLOWS.get(name, name)
    found, whole = searched(name, folder), {}
    for rate in sorted(found, key=found.get, reverse=True):
        whole[rate] = _probed("full", name, rate, folder)
        if whole[rate] >= found[rate]:
            break
    return max(whole, key=whole.get)


def _probed(how: str, name: str, rate: float, folder: Path) -> float:
    config = recipe_of(name, SEARCHED, rate, SEARCH_STEPS if how == "search" else None)
    file = _tried(how, name, rate, folder).with_suffix(".safetensors")
    record, asked = file.with_name(f"probe_{file.stem}.json"), {"pretraining": config.as_dict(), "levels": LEVELS}
    if not kept(record, asked):
        train(config, file)
        encoder, lesson = open_weights(file), _choosing()
        known, scored = (example_tokens(encoder, part, LEVELS) for part in (lesson.training, lesson.scored))
        write_json(record, {"recipe": asked, "dice": round(mean(probe_dice(known, scored).values()), 5)})
    return read_json(record)["dice"]


def _tried(how: str, name: str, rate: float, folder: Path) -> Path:
    return folder / f"{how}_{name}_{rate:g}.json"


@lru_cache(maxsize=1)
def _choosing():
    return organ_lesson(range(TUNED), CHOOSING)


def trained(name: str, seed: int, file: Path) -> None:
    """Leave the encoder of a method and seed, unless it lies there; the start of a seed is written as a file too."""
    if name != START:
        train(recipe_of(name, seed, rate_of(name, file.parent)), file)
    elif not file.exists():
        arms.export_half(another_patient.encoder_of(START, seed, file.parent), file)


def measure_frozen(file: Path, config: PretrainConfig) -> None:
    """Silhouettes and linear probes of an encoder's frozen tokens, beside its file; what lies there is kept.

    Raises:
        ValueError: if what lies there followed another recipe.
    """
    record, asked = measured(file, "frozen"), {"pretraining": config.as_dict(), "levels": LEVELS, "probed": PROBED}
    if not kept(record, asked):
        encoder = open_weights(file)
        silhouettes, probe = arms.measure(encoder, LEVELS), probe_scores(encoder, LEVELS, config.seed)
        write_json(record, {"recipe": asked, "silhouettes": silhouettes, "probe": probe})


def measure_lungs(file: Path, config: PretrainConfig) -> None:
    """Of which bodies a linear layer on frozen tokens says the right lungs, beside the file; what lies there is kept.

    Raises:
        ValueError: if what lies there followed another recipe.
    """
    record, asked = measured(file, "lungs"), {"pretraining": config.as_dict(), "levels": LEVELS, "share": LUNGS}
    if not kept(record, asked):
        _, said = lungs.said_of(open_weights(file), LEVELS, config.seed, (LUNGS,))
        (said,) = said.values()
        right = {str(body): int(one == body % 3) for one, body in zip(said, lungs.SCORED, strict=True)}
        write_json(record, {"recipe": asked, "right": right})


def measure_tuned(file: Path, config: PretrainConfig) -> None:
    """Dice after fine-tuning with few labels, beside its file; what lies there is kept.

    Raises:
        ValueError: if what lies there followed another recipe.
    """
    record, tuning = measured(file, "tuned"), tuning_of(file, config.seed)
    asked = {"pretraining": config.as_dict(), "finetuning": {**tuning.as_dict(), "weights": file.name}}
    if not kept(record, asked):
        write_json(record, {"recipe": asked, "dice": tuned_scores(tuning)})


def measure_network(name: str, seed: int, folder: Path) -> None:
    """Dice after fine-tuning one of NETWORKS from random weights; what lies there is kept.

    Raises:
        ValueError: if what lies there followed another recipe.
    """
    record = measured(folder / f"{name}_seed{seed}.safetensors", "tuned")
    tuning = replace(FinetuneConfig.from_recipe("teaching"), seed=seed, **NETWORKS[name])
    if not kept(record, {"finetuning": tuning.as_dict()}):
        write_json(record, {"recipe": {"finetuning": tuning.as_dict()}, "dice": tuned_scores(tuning)})


MEASURES = {"frozen": measure_frozen, "tuned": measure_tuned, "lungs": measure_lungs}
"""What is measured of an encoder's file, and where beside it that lies."""


def measured(file: Path, how: str) -> Path:
    """Where one of MEASURES of an encoder's file lies."""
    return file.with_name(f"{how}_{file.stem}.json")


def answer(name: str, seed: int, folder: Path, data: Path | None) -> None:
    """Train a method with a seed, measure it, and carry labels from body to body with it; what lies there is kept.

    Raises:
        ValueError: if what lies there followed another recipe.
    """
    file, carried = folder / f"{name}_seed{seed}.safetensors", folder / "patients"
    groups = (*GROUPS, *(PATIENTS if data else ()))
    of_pairs = [carried / f"{group}_{name}_seed{seed}.json" for group in groups]
    if not all(record.exists() for record in (*(measured(file, how) for how in MEASURES), *of_pairs)):
        trained(name, seed, file)
    config = recipe_of(name, seed) if name == START else recipe_of(name, seed, rate_of(name, folder))
    for measure in MEASURES.values():
        measure(file, config)
    for group, record in zip(groups, of_pairs, strict=True):
        carry(name, seed, group, record, data)


def carry(name: str, seed: int, group: str, record: Path, data: Path | None) -> None:
    """Carry labels between the bodies of a group by the encoder in record/../.., and leave the scores; see `answer`."""
    asked = {**another_patient.asked_of(name, seed, group), "ways": CARRIED_BY}
    if not kept(record, asked):
        record.parent.mkdir(exist_ok=True)
        scores = another_patient.score_group(name, seed, group, Weights(), record.parent.parent, data, CARRIED_BY)
        write_json(record, {"recipe": asked, "scores": scores})


def time_steps(folder: Path) -> None:
    """Leave the seconds of a step of every method, on one thread: medians of rounds in which all come in turn.

    What lies there is kept.

    Raises:
        ValueError: if what lies there followed other recipes.
    """
    recipes = {name: recipe_of(name, SEARCHED) for name in NAMES if name not in (START, *NETWORKS)}
    asked = {"timed": TIMED, "pretraining": {name: config.as_dict() for name, config in recipes.items()}}
    if not kept(folder / SECONDS, asked):
        found = {name: [] for name in recipes}
        for _ in range(TIMED["rounds"]):
            for name, config in recipes.items():
                found[name] += _step_seconds(config)
        seconds = {name: round(median(each), 4) for name, each in found.items()}
        write_json(folder / SECONDS, {"recipe": asked, "seconds_a_step": seconds, "versions": versions()})


def _step_seconds(config: PretrainConfig) -> list[float]:
    run, ends = Pretraining(config, _scans()), []
    for _ in range(TIMED["first"] + TIMED["steps"]):
        run.step()
        ends.append(process_time())
    return [end - start for start, end in pairwise(ends[TIMED["first"] - 1 :])]


def answer_in_equal_time(name: str, folder: Path) -> None:
    """The first seed again, in as many steps as take S2DC's time; only its frozen tokens are measured."""
    ours, own = (read_json(folder / SECONDS)["seconds_a_step"][each] for each in ("s2dc", name))
    usual, file = recipe_of(name, 0).steps, folder / f"{name}_equal_time.safetensors"
    config = recipe_of(name, 0, rate_of(name, folder), min(max(round(usual * ours / own), 1), LONGEST * usual))
    if not measured(file, "frozen").exists():
        train(config, file)
    measure_frozen(file, config)


def collect(folder: Path) -> None:
    """folder/methods.json: {"versions", "levels", "records": {file in the folder: what it holds}}, all that is done."""
    files = [file for pattern in KEPT for file in sorted(folder.glob(pattern))]
    records = {file.relative_to(folder).as_posix(): _short(read_json(file)) for file in files}
    write_json(folder / RESULTS, {"versions": versions(), "levels": LEVELS, "records": records})


def ship(name: str, folder: Path) -> list[Path]:
    """folder/shipped/NAME.safetensors and its record, of a method's first seed, in the form that `arms` gives."""
    file, shipped = folder / f"{name}_seed0.safetensors", folder / "shipped" / f"{name}.safetensors"
    record, found = read_json(file.with_suffix(".json")), read_json(measured(file, "frozen"))
    shipped.parent.mkdir(exist_ok=True)
    shutil.copyfile(file, shipped)
    kept_record = {
        "arm": name,
        "recipe": record["recipe"],
        "seed": 0,
        "steps": record["recipe"]["steps"],
        "trained_on": {"images": arms.TRAINING_IMAGES, "bodies": arms.TRAINING_BODIES},
        "scans": open_weights(file).trained_on,
        "silhouette": {image: round(arms.mean_over(bodies), 5) for image, bodies in found["silhouettes"].items()},
        "seconds_a_step": record["seconds_a_step"],
        "versions": record["versions"],
    }
    write_json(shipped.with_suffix(".json"), kept_record)
    return [shipped, shipped.with_suffix(".json")]


def restore(folder: Path) -> None:
    """Put the installed record's files into a folder that lacks them, so that a study goes on from there."""
    for name, record in method_results()["records"].items() if (WEIGHTS / RESULTS).exists() else ():
        if not (folder / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            write_json(folder / name, record)


def _short(record: Mapping) -> dict:
    """A record without what only one run is for: every 20th loss, and measures of pairs that no table shows."""
    found = {key: value for key, value in record.items() if key not in ("losses_every_20", "versions")}
    if "scores" in found:
        shown = ("labelled", "target", "dice", "retrieval")
        scores = found["scores"].items()
        found["scores"] = {name: [{key: pair[key] for key in shown} for pair in pairs] for name, pairs in scores}
    return found


def _work(what: str, name: str, seed: int, folder: Path, data: Path | None) -> str:
    if what == "search":
        return f"{name}, searched: {searched(name, folder)}, taken: {rate_of(name, folder):g}"
    if what == "seconds":
        time_steps(folder)
        return "seconds of a step of every method"
    if what == "equal time":
        answer_in_equal_time(name, folder)
        return f"{name}, in equal time"
    if name in NETWORKS:
        measure_network(name, seed, folder)
        return f"{name}, seed {seed}"
    answer(name, seed, folder, data)
    return f"{name}, seed {seed}"


def _jobs(options: Namespace) -> Iterator[tuple]:
    names = sorted(options.only, key=NAMES.index)
    taught = [name for name in names if name not in (START, *NETWORKS)]
    if options.go_on:
        restore(options.folder)
    yield "seconds", "", 0, options.folder, None
    searches = dict.fromkeys(FOLLOWS.get(name, name) for name in taught)
    yield from (("search", name, SEARCHED, options.folder, None) for name in searches)
    for seed in range(options.seeds):
        yield from (("answer", name, seed, options.folder, options.data) for name in names)
    yield from (("equal time", name, 0, options.folder, None) for name in taught if name != "s2dc")


def _collect(options: Namespace) -> list[Path]:
    collect(options.folder)
    trained_here = [name for name in OTHERS if (options.folder / f"{name}_seed0.safetensors").exists()]
    return [options.folder / RESULTS, *(file for name in trained_here for file in ship(name, options.folder))]


STUDY = Study(
    "every pretext task on one encoder: what its features know, with equal steps and in equal time",
    _jobs,
    _work,
    _collect,
    seeds=3,
    fewest=1,
    names=NAMES,
    more={
        "--data": {"type": Path, "help": "folder of the real scans"},
        "--go-on": {"action": "store_true", "help": "from the installed record, where FOLDER lacks what it holds"},
    },
)
