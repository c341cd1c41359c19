"""The study behind notebook 11: the arms of table 7, and each choice that the paper leaves open, one at a time.

``python -m s2dc_core.studies ablation FOLDER`` pre-trains what FOLDER does not hold yet, measures it, and writes
FOLDER/ablation.json; ``--install`` puts it where `ablation_results` looks for it.

A row differs from the default, the `teaching` recipe, in one thing. All rows of a seed start from the same weights and
see the same regions. Each is measured on unseen bodies: before any label by silhouettes; frozen, by the Dice of a
linear probe after 1, 3 and 12 labelled bodies; fine-tuned, by the Dice of a linear decoder after 3. A seed's labelled
bodies are the same for all rows.
"""

from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from pathlib import Path
from statistics import mean

import torch
from jaxtyping import Float
from torch import Tensor, nn

from s2dc_core.downstream.config import FinetuneConfig
from s2dc_core.downstream.data_sets import Downstream
from s2dc_core.downstream.finetune import finetune
from s2dc_core.downstream.generated import organ_lesson
from s2dc_core.encoder import EncoderConfig
from s2dc_core.evaluation.probe import example_tokens, probe_dice
from s2dc_core.geometry import grid_of, ground_truth_matches
from s2dc_core.intervals import mean_interval
from s2dc_core.library.arms import ARMS, RATES, open_weights
from s2dc_core.library.results import ABLATION
from s2dc_core.methods import S2DCOptions
from s2dc_core.pretraining.config import PretrainConfig
from s2dc_core.pretraining.run import Pretraining
from s2dc_core.studies.arms import export_half, measure, training_scans
from s2dc_core.studies.study import Study, kept
from s2dc_core.training.loop import drive
from s2dc_core.training.records import read_json, versions, write_json
from s2dc_core.views import Region, valid_in_both

DEFAULT, UNTRAINED = "S2DC", "untrained"

BODIES = 12
"""Labelled bodies there are to learn from, seeds 0 to 11; 1000 to 1007 score."""

PROBED, TUNED = (1, 3, 12), 3
"""How many of them a linear probe of frozen tokens learns from, and how many fine-tuning does."""


class PublishedMatches(S2DCOptions):
    """S2DC on the published code's list of matches, which does not belong to the warp.

    The warp is that of the default, so only the list differs; with its large motions about 30 % of the pairs are wrong.
    """

    def plan_views(
        self, encoder: EncoderConfig, region: Region, spacing: Sequence[float], generator: torch.Generator
    ) -> dict[str, Tensor]:
        """As the default's, with the matches that the published matrix gives, level by level."""
        plan = super().plan_views(encoder, region, spacing, generator)
        inside, H, shape = region.body[None, None].float(), plan["H"][None], region.volume.shape[1:]
        strides = [encoder.stride(level) for level in self.matched_levels]
        for level, patch, valid in zip(self.matched_levels, strides, valid_in_both(inside, H, strides), strict=True):
            listed = ground_truth_matches(published_matrix(H, shape), grid_of(shape, patch), patch, *valid)
            plan[f"matches_{level}"] = torch.stack([listed.source, listed.target])
        return plan


def published_matrix(H: Float[Tensor, "b 4 4"], shape: Sequence[int]) -> Float[Tensor, "b 4 4"]:
    """The matrix by which the published code lists matches, for a warp whose true matrix is H.

    In coordinates about the centre the true motion is y = L x + b. The code warps by x = L^-1 (y) + t with t = -L^-1 b,
    and lists by y = L x - t: rotation and scale are inverted, the translation is not turned with them.
    """
    centre = (torch.tensor(shape, dtype=H.dtype, device=H.device) - 1) / 2
    linear, moved = H[:, :3, :3], H[:, :3, 3]
    about_centre = moved + (linear @ centre) - centre
    slipped = torch.linalg.solve(linear, about_centre)
    wrong = H.clone()
    wrong[:, :3, 3] = slipped - (linear @ centre) + centre
    return wrong


@dataclass(frozen=True)
class Row:
    """A row of the table: what is asked, and how it differs from the default.

    Attributes:
        group: the choice that it belongs to.
        loss: fields of the loss.
        views: fields of the views.
        fields: of the recipe itself.
        options: of S2DC; None for the start that all rows of a seed share.
    """

    group: str
    loss: Mapping[str, object] = field(default_factory=dict)
    views: Mapping[str, object] = field(default_factory=dict)
    fields: Mapping[str, object] = field(default_factory=dict)
    options: type[S2DCOptions] | None = S2DCOptions


ROWS = {
    DEFAULT: Row("default"),
    UNTRAINED: Row("start", options=None),
    "L_g": Row("losses", ARMS["contrast"], fields={"rate": RATES["contrast"]}),
    "L_g + L_p2p": Row("losses", ARMS["p2p"]),
    "L_g + L_p2s": Row("losses", ARMS["p2s"]),
    "temperature 1": Row("temperature", {"temperature": 1.0}),
    "temperature 0.1": Row("temperature", {"temperature": 0.1}),
    "published matches": Row("matches", options=PublishedMatches),
    "in plane": Row("matches", views={"in_plane": True}),
    "background matched": Row("matches", views={"match_background": True}),
    "Sinkhorn": Row("assignment", {"assignment": "sinkhorn"}),
    "variance": Row("weights of L_p2s", {"dispersion": "variance"}),
    "gradient through the weights": Row("weights of L_p2s", {"detach_ratio": False}),
    "divided by N x N": Row("weights of L_p2s", {"normaliser": "printed"}),
    "level 1": Row("token level", fields={"levels": (1,)}),
    "level 2": Row("token level", fields={"levels": (2,)}),
    "level 3": Row("token level", fields={"levels": (3,)}),
    "level 4": Row("token level", fields={"levels": (4,)}),
    "levels 1 to 3, each by itself": Row("token level", fields={"joined": False}),
}


def recipe_of(name: str, seed: int, recipe: str = "teaching") -> PretrainConfig:
    """The recipe of a row: the default's but for what the row is about, and the seed."""
    row, plain = ROWS[name], PretrainConfig.from_recipe(recipe)
    rate = plain.learning_rate * row.fields.get("rate", 1.0)
    own = {key: value for key, value in row.fields.items() if key != "rate"}
    options = plain.options
    views, loss = replace(options.views, **row.views), {**options.loss_options, **row.loss}
    changed = replace(plain, seed=seed, learning_rate=rate, views=views, loss_options=loss, **own)
    kind, chosen = row.options or S2DCOptions, changed.options
    return replace(changed, options=kind(**{each.name: getattr(chosen, each.name) for each in fields(chosen)}))


def file_of(name: str, seed: int, folder: Path) -> Path:
    """Where the encoder of a row and seed lies."""
    return folder / f"{name}_seed{seed}.safetensors".replace(" ", "_").replace(",", "")


def pretrain_row(name: str, seed: int, folder: Path, recipe: str = "teaching") -> Path:
    """Pre-train a row and leave its encoder in the folder; one that lies there is kept.

    Raises:
        ValueError: if what lies there followed another recipe.
    """
    config, file = recipe_of(name, seed, recipe), file_of(name, seed, folder)
    record = file.with_suffix(".json")
    if kept(record, config.as_dict()):
        return file
    if ROWS[name].options is None:
        export_half(config.build().student.encoder, file)
        write_json(record, {"recipe": config.as_dict(), "steps": 0, "versions": versions()})
        return file
    run = Pretraining(config, _scans())
    drive(run, progress=False)
    export_half(run.encoder, file)
    losses = [[round(value, 4) for value in terms] for terms in run.history[::20]]
    write_json(record, {"recipe": config.as_dict(), "losses_every_20": losses, "versions": versions()})
    return file


def measure_row(name: str, seed: int, folder: Path, recipe: str = "teaching") -> None:
    """Pre-train a row, unless it was, and leave what its frozen tokens know, and its few-label Dice, in the folder.

    Raises:
        ValueError: if what lies there followed another recipe.
    """
    file = pretrain_row(name, seed, folder, recipe)
    levels = PretrainConfig.from_recipe(recipe).options.levels  # every row is read at the default's levels
    frozen, tuned = measured(file, "frozen"), measured(file, "tuned")
    trained = recipe_of(name, seed, recipe).as_dict()
    asked = {"pretraining": trained, "levels": levels, "probed": PROBED, "bodies": BODIES}
    if not kept(frozen, asked):
        encoder, found = open_weights(file), {"recipe": asked}
        write_json(
            frozen, {**found, "silhouettes": measure(encoder, levels), "probe": probe_scores(encoder, levels, seed)}
        )
    config = tuning_of(file, seed)
    asked = {"pretraining": trained, "finetuning": {**config.as_dict(), "weights": file.name}, "labelled": TUNED}
    if not kept(tuned, asked):
        write_json(tuned, {"recipe": asked, "dice": tuned_scores(config)})


def tuning_of(file: Path, seed: int) -> FinetuneConfig:
    """The fine-tuning that an encoder's file is measured by."""
    return replace(FinetuneConfig.from_recipe("teaching"), weights=str(file), seed=seed)


def tuned_scores(config: FinetuneConfig) -> dict[str, dict[str, float]]:
    """Dice after fine-tuning with TUNED bodies, {scored body: {organ: Dice}}; a seed's bodies are the same for all."""
    lesson = _lesson()
    lesson = lesson._replace(training=lesson.training.share(TUNED / BODIES, config.seed))
    return {case: _rounded(found) for case, found in finetune(config, lesson, progress=False).scores.cases.items()}


def measured(file: Path, how: str) -> Path:
    """Where the measurements, "frozen" or "tuned", of an encoder's file lie."""
    return file.with_name(f"{how}_{file.stem}.json")


def probe_scores(encoder: nn.Module, levels: Sequence[int], seed: int) -> dict[str, dict[str, float]]:
    """Dice of a linear probe after so many bodies, {bodies: {organ: Dice}}; fewer are part of more."""
    lesson = _lesson()
    scored = example_tokens(encoder, lesson.scored, levels)
    known = dict(zip(lesson.training.names, example_tokens(encoder, lesson.training, levels), strict=True))
    chosen = {bodies: lesson.training.share(bodies / BODIES, seed).names for bodies in PROBED}
    dice = {bodies: probe_dice([known[name] for name in names], scored) for bodies, names in chosen.items()}
    return {str(bodies): _rounded(found) for bodies, found in dice.items()}


def _rounded(values: Mapping) -> dict[str, float]:
    return {str(key): round(float(value), 5) for key, value in values.items()}


@lru_cache(maxsize=1)
def _scans() -> list:
    return training_scans()


@lru_cache(maxsize=1)
def _lesson() -> Downstream:
    return organ_lesson(range(BODIES), range(1000, 1008))


def collect(seeds: Sequence[int], folder: Path, recipe: str = "teaching") -> None:
    """folder/ablation.json: {row: {"group", "recipe", "seeds", and per seed "silhouettes", "probe", "dice"}}.

    A seed enters once its frozen half is measured; its "dice" is null until it was fine-tuned.
    """
    rows = {}
    for name, row in ROWS.items():
        files = {seed: file_of(name, seed, folder) for seed in seeds}
        found = {seed: read_json(part) for seed, file in files.items() if (part := measured(file, "frozen")).exists()}
        tuned = {seed: measured(files[seed], "tuned") for seed in found}
        if found:
            rows[name] = {
                "group": row.group,
                "recipe": recipe_of(name, 0, recipe).as_dict(),
                "seeds": list(found),
                **{key: [record[key] for record in found.values()] for key in ("silhouettes", "probe")},
                "dice": [read_json(part)["dice"] if part.exists() else None for part in tuned.values()],
            }
    write_json(folder / ABLATION, {"versions": versions(), "default": DEFAULT, "rows": rows})


def scores_of(results: Mapping) -> dict[str, dict[str, dict[int, float]]]:
    """{measure: {row: {seed: score}}} of what `ablation_results` returns; each a mean over organs, then bodies.

    The measures are "silhouette" (its mean over CT, PET and MR), "probe, 1 labelled" and so on, and "fine-tuned".
    """
    scores: dict[str, dict[str, dict[int, float]]] = {}
    for name, row in results["rows"].items():
        for place, seed in enumerate(row["seeds"]):
            images = row["silhouettes"][place].values()
            found = {"silhouette": mean(mean(mean(organs.values()) for organs in image.values()) for image in images)}
            for bodies, organs in row["probe"][place].items():
                found[f"probe, {bodies} labelled"] = mean(organs.values())
            if row["dice"][place]:
                found["fine-tuned"] = mean(case["Dice"] for case in row["dice"][place].values())
            for what, score in found.items():
                scores.setdefault(what, {}).setdefault(name, {})[seed] = score
    return scores


def differences_from(scores: Mapping[str, Mapping[int, float]], other: str = DEFAULT) -> dict[str, tuple]:
    """Each row minus another one, paired by seed: {row: (mean, low, high)}, 95 % Student-t intervals over the seeds.

    A row that shares fewer than two seeds with the other has no interval and is left out.

    Args:
        scores: {row: {seed: score}}, one measure of `scores_of`.
    """
    base = scores[other]
    pairs = {
        name: [score - base[seed] for seed, score in found.items() if seed in base] for name, found in scores.items()
    }
    return {name: mean_interval(values) for name, values in pairs.items() if name != other and len(values) > 1}


def lead_over(scores: Mapping[str, Mapping[int, float]], ours: str = DEFAULT) -> dict[str, tuple]:
    """One row minus each other one, as `differences_from` pairs them: above 0 it is ahead."""
    return {name: (-mean, -high, -low) for name, (mean, low, high) in differences_from(scores, ours).items()}


def _work(name: str, seed: int, folder: Path) -> str:
    measure_row(name, seed, folder)
    return f"{name}, seed {seed}"


def _jobs(options: Namespace) -> list[tuple]:
    return [(name, seed, options.folder) for seed in range(options.seeds) for name in options.only]


def _collect(options: Namespace) -> list[Path]:
    collect(range(options.seeds), options.folder)
    return [options.folder / ABLATION]


STUDY = Study("which choice of the method does what", _jobs, _work, _collect, seeds=3, names=tuple(ROWS))
