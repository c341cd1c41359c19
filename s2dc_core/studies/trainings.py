"""Other trainings of S2DC than the shipped one: longer, on other bodies, with other intensities, on patients.

``python -m s2dc_core.studies trainings FOLDER`` leaves FOLDER/NAME_seedN.safetensors with its record, one that lies
there is kept; with ``--data`` also those on real scans. ``another_patient --arms NAME ...`` scores them. The long one
leaves what it was after 400, 800, ... steps too, and its checkpoints in FOLDER/long, from which it goes on; silhouettes
and a linear probe of all these become FOLDER/training_length.json.
"""

import shutil
from argparse import Namespace
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter

from s2dc_core.data import Scan, load_scan, open_scan
from s2dc_core.library.arms import LONG, open_weights
from s2dc_core.library.results import LENGTH
from s2dc_core.pretraining.config import PretrainConfig
from s2dc_core.pretraining.pretrain import Pretraining, pretrain
from s2dc_core.studies.ablation import PROBED, probe_scores
from s2dc_core.studies.arms import TRAINING_BODIES, TRAINING_IMAGES, export_half, mean_over, measure, recipe_of
from s2dc_core.studies.few_labels import load_groups
from s2dc_core.studies.study import Study, kept
from s2dc_core.training.records import read_json, versions, write_json

PATIENTS = "headneck_ct"


@dataclass(frozen=True)
class Training:
    """How one differs from that of the shipped weights.

    Attributes:
        steps: of the optimiser.
        bodies: numbers of the generated bodies.
        varied: whether their phase and scanner vary.
        views: fields of the views.
        half: which half of the patients it is trained on instead of bodies; None for bodies.
        marks: steps at which the encoder is kept on the way.
    """

    steps: int = 400
    bodies: tuple[int, ...] = TRAINING_BODIES
    varied: bool = False
    views: Mapping[str, float] = field(default_factory=dict)
    half: int | None = None
    marks: tuple[int, ...] = ()

    def recipe(self, seed: int) -> PretrainConfig:
        """Its recipe; two trainings of one recipe may differ in their scans."""
        plain = recipe_of("s2dc", "teaching", seed)
        return replace(plain, steps=self.steps, views=replace(plain.options.views, **self.views))

    def scans(self, data: Path | None) -> list[Scan]:
        """What it is trained on."""
        if self.half is None:
            return [
                open_scan(image, seed=body, varied=self.varied) for body in self.bodies for image in TRAINING_IMAGES
            ]
        group = load_groups()[PATIENTS]
        spacing = tuple(map(float, group["spacing"]))
        return [
            load_scan(data / f"{name}.nii.gz", modality="ct", spacing=spacing) for name in group["halves"][self.half]
        ]

    def described(self) -> dict:
        """What decides the scans."""
        patients = None if self.half is None else load_groups()[PATIENTS]["halves"][self.half]
        return {"bodies": None if patients else self.bodies, "varied": self.varied, "patients": patients}


TRAININGS = {
    "long": Training(steps=6000, bodies=tuple(range(24)), marks=(400, 800, 1600, 3200)),
    "varied": Training(varied=True),
    "intensity": Training(views={"intensity_scale": 0.3, "intensity_shift": 0.3}),
    "patients_first": Training(steps=1600, half=0),
    "patients_second": Training(steps=1600, half=1),
}


def train(name: str, seed: int, folder: Path, data: Path | None) -> None:
    """One of TRAININGS; see the head of this file.

    Raises:
        ValueError: if what lies there followed another recipe or was trained on something else.
    """
    training, file = TRAININGS[name], folder / f"{name}_seed{seed}.json"
    config = training.recipe(seed)
    asked = {"pretraining": config.as_dict(), **training.described()}
    if kept(file, asked):
        return

    def keep(run: Pretraining) -> None:
        step = len(run.history)
        if step in training.marks:
            export_half(run.model.student.encoder, folder / f"{name}_at_{step:05d}.safetensors")

    start = perf_counter()
    checkpoints = folder / name if training.marks else None
    going_on = checkpoints is not None and checkpoints.exists()
    result = pretrain(config, training.scans(data), folder=checkpoints, save_every=200, resume=going_on, on_step=keep)
    export_half(result.model.student.encoder, file.with_suffix(".safetensors"))
    losses = [[round(value, 4) for value in terms] for terms in result.history[::20]]
    seconds = round(perf_counter() - start)
    write_json(file, {"recipe": asked, "losses_every_20": losses, "seconds": seconds, "versions": versions()})


def kept_encoders(name: str, folder: Path) -> dict[int, Path]:
    """The files of seed 0 by the steps that they were trained for."""
    training = TRAININGS[name]
    return {step: folder / f"{name}_at_{step:05d}.safetensors" for step in training.marks} | {
        training.steps: folder / f"{name}_seed0.safetensors"
    }


def measure_kept(name: str, folder: Path) -> None:
    """Silhouettes and a linear probe, as the ablation has them, of what the first seed was on the way."""
    levels = TRAININGS[name].recipe(0).options.levels
    for step, file in kept_encoders(name, folder).items():
        record, asked = (
            file.with_name(f"measured_{file.stem}.json"),
            {"training": name, "steps": step, "probed": PROBED},
        )
        if not kept(record, asked):
            encoder = open_weights(file)
            found = {"silhouettes": measure(encoder, levels), "probe": probe_scores(encoder, levels, 0)}
            write_json(record, {"recipe": asked, **found, "versions": versions()})


def _work(name: str, seed: int, folder: Path, data: Path | None) -> str:
    train(name, seed, folder, data)
    if seed == 0 and TRAININGS[name].marks:
        measure_kept(name, folder)
    return f"{name}, seed {seed}"


def _jobs(options: Namespace) -> Iterable[tuple]:
    names = [name for name in options.only if options.data or TRAININGS[name].half is None]
    return [(name, seed, options.folder, options.data) for seed in range(options.seeds) for name in names]


def ship(name: str, folder: Path) -> list[Path]:
    """folder/s2dc-long.safetensors and its record, from a training's first seed, in the form that `arms` gives."""
    file, shipped = folder / f"{name}_seed0.safetensors", folder / f"{LONG}.safetensors"
    measured = read_json(file.with_name(f"measured_{file.stem}.json"))["silhouettes"]
    record = read_json(file.with_suffix(".json"))
    recipe = record.pop("recipe")
    kept_record = {
        "arm": "s2dc",
        "recipe": recipe["pretraining"],
        "seed": 0,
        "steps": TRAININGS[name].steps,
        "trained_on": {"images": TRAINING_IMAGES, "bodies": recipe["bodies"]},
        "scans": open_weights(file).trained_on,
        "silhouette": {image: round(mean_over(bodies), 5) for image, bodies in measured.items()},
        **record,
    }
    shutil.copyfile(file, shipped)
    write_json(shipped.with_suffix(".json"), kept_record)
    return [shipped, shipped.with_suffix(".json")]


def _collect(options: Namespace) -> list[Path]:
    encoders = kept_encoders("long", options.folder)
    files = {step: file.with_name(f"measured_{file.stem}.json") for step, file in encoders.items()}
    if not all(file.exists() for file in files.values()):
        return []
    found = {str(step): read_json(file) for step, file in files.items()}
    steps = {step: {key: record[key] for key in ("silhouettes", "probe")} for step, record in found.items()}
    write_json(options.folder / LENGTH, {"versions": versions(), "steps": steps})
    return [options.folder / LENGTH, *ship("long", options.folder)]


STUDY = Study(
    "other trainings of S2DC: longer, on other bodies, with other intensities, on patients",
    _jobs,
    _work,
    _collect,
    seeds=1,
    fewest=1,
    names=tuple(TRAININGS),
    more={"--data": {"type": Path, "help": "folder of the real scans"}},
)
