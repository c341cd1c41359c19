"""The study behind the shipped weights: every arm of table 7, several seeds, measured on bodies never seen.

``python -m s2dc_core.studies arms FOLDER`` trains what FOLDER does not hold yet, measures, and writes the weights,
their records and study.json into FOLDER/weights; ``--install`` puts these where the library looks for them.
"""

import json
import shutil
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import torch

from s2dc_core.data import Scan, open_scan
from s2dc_core.encoder import Encoder
from s2dc_core.evaluation.silhouettes import scan_silhouettes
from s2dc_core.intervals import mean_interval
from s2dc_core.library.arms import ARMS, RATES, open_weights
from s2dc_core.pretraining.config import PretrainConfig
from s2dc_core.pretraining.pretrain import Pretraining, pretrain
from s2dc_core.studies.study import Study, kept
from s2dc_core.training.records import read_json, versions, write_json
from s2dc_core.weights import export_encoder

TRAINING_IMAGES = ("phantom_ct", "phantom_ct", "phantom_pet", "phantom_mr_t1")
"""Each body is seen by each of these; CT twice, because its organs are the hardest to tell apart."""

MEASURED_IMAGES = ("phantom_ct", "phantom_pet", "phantom_mr_t1")
TRAINING_BODIES = tuple(range(12))
UNSEEN_BODIES = tuple(range(1000, 1005))
SNAPSHOTS = (0, 20, 60, 150)


def recipe_of(arm: str, recipe: str, seed: int) -> PretrainConfig:
    """The recipe of one run: loss weights and learning rate differ between arms, only the seed between repetitions."""
    plain = PretrainConfig.from_recipe(recipe)
    rate, loss = plain.learning_rate * RATES.get(arm, 1.0), {**plain.options.loss_options, **ARMS[arm]}
    return replace(plain, seed=seed, learning_rate=rate, loss_options=loss)


def training_scans(bodies: Sequence[int] = TRAINING_BODIES) -> list[Scan]:
    """The generated scans that every arm is trained on."""
    return [open_scan(image, seed=seed) for seed in bodies for image in TRAINING_IMAGES]


def train_arm(arm: str, recipe: str, seed: int, folder: Path) -> None:
    """Train one arm with one seed and leave its encoder and record in the folder; one that lies there is kept.

    Snapshots of the S2DC arm's first seed are written on the way.

    Raises:
        ValueError: if what lies there followed another recipe.
    """
    name = f"{arm}_seed{seed}"
    config = recipe_of(arm, recipe, seed)
    if kept(folder / f"{name}.json", config.as_dict()):
        return
    snapshots = SNAPSHOTS[1:] if (arm, seed) == ("s2dc", 0) else ()

    def keep(run: Pretraining) -> None:
        """Write the moments that figure 7 is drawn from; step 0 follows from the seed."""
        if len(run.history) in snapshots:
            export_half(run.model.student.encoder, folder / f"s2dc_step_{len(run.history):04d}.safetensors")

    result = pretrain(config, training_scans(), on_step=keep)
    export_half(result.model.student.encoder, folder / f"{name}.safetensors")
    record = {
        "arm": arm,
        "recipe": config.as_dict(),
        "seed": seed,
        "steps": config.steps,
        "trained_on": {"images": TRAINING_IMAGES, "bodies": TRAINING_BODIES},
        "scans": result.model.student.encoder.trained_on,
        "versions": versions(),
        "losses": [[round(value, 4) for value in terms] for terms in result.history],
    }
    write_json(folder / f"{name}.json", record)


def export_half(encoder: Encoder, file: Path) -> None:
    """Write an encoder in float16, which halves the file."""
    export_encoder(encoder, file, torch.float16)


def measure_arm(arm: str, recipe: str, seed: int, folder: Path) -> None:
    """Measure an encoder as it is shipped, in float16, and leave the silhouettes in the folder, unless they lie there.

    The arm "untrained" is the start that all arms of a seed share.

    Raises:
        ValueError: if what lies there followed another recipe.
    """
    file = folder / f"measured_{arm}_seed{seed}.json"
    config = recipe_of(arm if arm in ARMS else "s2dc", recipe, seed)
    asked = {"pretraining": config.as_dict(), "images": MEASURED_IMAGES, "bodies": UNSEEN_BODIES}
    if kept(file, asked):
        return
    encoder = (
        config.build().student.encoder if arm == "untrained" else open_weights(folder / f"{arm}_seed{seed}.safetensors")
    )
    write_json(file, {"recipe": asked, "silhouettes": measure(encoder, config.options.levels)})


def measure(encoder: torch.nn.Module, levels: Sequence[int]) -> dict:
    """Silhouettes on the unseen bodies, {image: {body: {organ: silhouette}}}."""
    return {
        image: {str(body): rounded(scan_silhouettes(encoder, _unseen(image, body), levels)) for body in UNSEEN_BODIES}
        for image in MEASURED_IMAGES
    }


@lru_cache
def _unseen(image: str, body: int) -> Scan:
    return open_scan(image, seed=body)


def collect(folder: Path, recipe: str, seeds: Sequence[int]) -> None:
    """From all runs: folder/weights with each arm's first seed, its record, the snapshots, and study.json."""
    target = folder / "weights"
    target.mkdir(exist_ok=True)
    runs = {arm: [read_json(folder / f"{arm}_seed{seed}.json") for seed in seeds] for arm in ARMS}
    levels = PretrainConfig.from_dict(runs["s2dc"][0]["recipe"]).options.levels
    silhouettes = {
        arm: [read_json(folder / f"measured_{arm}_seed{seed}.json")["silhouettes"] for seed in seeds]
        for arm in ("untrained", *ARMS)
    }
    for arm in ARMS:
        first = runs[arm][0]
        file = target / f"{arm}.safetensors"
        shutil.copyfile(folder / f"{arm}_seed{seeds[0]}.safetensors", file)
        record = {name: value for name, value in first.items() if name != "losses"}
        record["silhouette"] = {image: round(mean_over(bodies), 5) for image, bodies in silhouettes[arm][0].items()}
        if arm == "s2dc":
            record["snapshots"] = [*SNAPSHOTS, first["steps"]]
            for step in SNAPSHOTS[1:]:
                shutil.copyfile(
                    folder / f"s2dc_step_{step:04d}.safetensors", target / f"s2dc_step_{step:04d}.safetensors"
                )
        record["losses_every_10"] = first["losses"][::10]
        write_json(target / f"{arm}.json", record)
    study = {
        "recipe": recipe,
        "seeds": list(seeds),
        "unseen_bodies": UNSEEN_BODIES,
        "levels": list(levels),
        "versions": versions(),
        "silhouettes": silhouettes,
        "differences": {image: differences(silhouettes, image) for image in MEASURED_IMAGES},
    }
    write_json(target / "study.json", study)


def differences(silhouettes: dict, image: str) -> dict[str, dict[str, float]]:
    """S2DC minus each other arm, paired by seed: mean and 95 % Student-t interval over the seeds."""
    per_seed = {arm: [mean_over(run[image]) for run in runs] for arm, runs in silhouettes.items()}
    found = {}
    for arm, values in per_seed.items():
        if arm != "s2dc":
            paired = [ours - theirs for ours, theirs in zip(per_seed["s2dc"], values, strict=True)]
            mean, low, high = mean_interval(paired)
            found[f"s2dc - {arm}"] = {"mean": round(mean, 4), "low": round(low, 4), "high": round(high, 4)}
    return found


def mean_over(bodies: dict) -> float:
    """Mean over organs, then over bodies, as evaluation.mean_silhouette takes it."""
    return sum(sum(organs.values()) / len(organs) for organs in bodies.values()) / len(bodies)


def rounded(values: dict[int, float]) -> dict[str, float]:
    """Organ silhouettes as the records hold them."""
    return {str(organ): round(value, 5) for organ, value in values.items()}


def _work(arm: str, recipe: str, seed: int, folder: Path) -> str:
    if arm in ARMS:
        train_arm(arm, recipe, seed, folder)
    measure_arm(arm, recipe, seed, folder)
    return f"{arm}, seed {seed}"


def _jobs(options: Namespace) -> list[tuple]:
    arms = ("untrained", *ARMS)
    return [(arm, options.recipe, seed, options.folder) for seed in range(options.seeds) for arm in arms]


def _collect(options: Namespace) -> list[Path]:
    collect(options.folder, options.recipe, range(options.seeds))
    print(json.dumps(read_json(options.folder / "weights" / "study.json")["differences"], indent=1))
    return sorted((options.folder / "weights").iterdir())


STUDY = Study(
    "the shipped weights: every arm of table 7, measured on bodies never seen",
    _jobs,
    _work,
    _collect,
    seeds=5,
    more={"--recipe": {"default": "teaching"}},
)
