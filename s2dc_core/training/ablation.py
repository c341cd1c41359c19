"""The study behind notebook 11: the arms of table 7, and each choice that the paper leaves open, one at a time.

``python -m s2dc_core.training.ablation FOLDER`` pre-trains what FOLDER does not hold yet, measures it, and writes
FOLDER/ablation.json; ``--install`` puts it where `ablation_results` looks for it.

A row differs from the default, the `teaching` recipe, in one thing. All rows of a seed start from the same weights and
see the same regions; each is measured by silhouettes on unseen bodies before any label, and by the Dice of a linear
decoder that three labelled bodies, the same for all, have fine-tuned.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from s2dc_core.geometry import grid_of, ground_truth_matches
from s2dc_core.losses import LossTerms
from s2dc_core.training.draws import RegionDraw, views_of
from s2dc_core.training.finetune import finetune
from s2dc_core.training.jobs import in_processes, install, study_options
from s2dc_core.training.lessons import organ_lesson
from s2dc_core.training.loop import drive
from s2dc_core.training.recipe import FinetuneConfig, PretrainConfig
from s2dc_core.training.records import read_json, versions, write_json
from s2dc_core.training.run import Pretraining
from s2dc_core.training.shipped import ABLATION, ARMS, RATES, open_weights
from s2dc_core.training.study import export_half, measure, training_scans
from s2dc_core.views import valid_in_both

DEFAULT = "S2DC"


class PublishedMatches(Pretraining):
    """Pre-training on the published code's list of matches, which does not belong to the warp: about a fifth is wrong.

    The warp is that of the default, so only the list differs.
    """

    def losses(self, draws: Sequence[RegionDraw]) -> tuple[LossTerms, Tensor]:
        """The terms of a batch, with the matches that the published matrix gives."""
        views = views_of(self.config, draws, self.device)
        inside = torch.stack([draw.region.body for draw in draws])[:, None].to(views.source)
        strides = [self.config.encoder.stride(level) for level in self.config.matched_levels]
        shape = views.source.shape[2:]
        slipped = published_matrix(views.H, shape)
        valid = zip(strides, valid_in_both(inside.to(self.device), views.H, strides), strict=True)
        matches = [ground_truth_matches(slipped, grid_of(shape, patch), patch, *both) for patch, both in valid]
        return self.compute(views._replace(matches=matches), [draw.number for draw in draws])


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
        run: what takes its steps.
    """

    group: str
    loss: Mapping[str, object] = field(default_factory=dict)
    views: Mapping[str, object] = field(default_factory=dict)
    fields: Mapping[str, object] = field(default_factory=dict)
    run: type[Pretraining] = Pretraining


ROWS = {
    DEFAULT: Row("default"),
    "L_g": Row("losses", ARMS["contrast"], fields={"rate": RATES["contrast"]}),
    "L_g + L_p2p": Row("losses", ARMS["p2p"]),
    "L_g + L_p2s": Row("losses", ARMS["p2s"]),
    "temperature 1": Row("temperature", {"temperature": 1.0}),
    "temperature 0.1": Row("temperature", {"temperature": 0.1}),
    "published matches": Row("matches", run=PublishedMatches),
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
    views, loss = replace(plain.views, **row.views), {**plain.loss_options, **row.loss}
    return replace(plain, seed=seed, learning_rate=rate, views=views, loss_options=loss, **own)


def pretrain_row(name: str, seed: int, folder: Path, recipe: str = "teaching") -> Path:
    """Pre-train a row and leave its encoder in the folder; one that lies there is kept.

    Raises:
        ValueError: if what lies there followed another recipe.
    """
    config = recipe_of(name, seed, recipe)
    file = folder / f"{name}_seed{seed}.safetensors".replace(" ", "_").replace(",", "")
    record = file.with_suffix(".json")
    if record.exists():
        if read_json(record)["recipe"] != config.as_dict():
            raise ValueError(f"{record} followed another recipe: give a new folder")
        return file
    run = ROWS[name].run(config, _scans())
    drive(run, progress=False)
    export_half(run.encoder, file)
    losses = [[round(value, 4) for value in terms] for terms in run.history[::20]]
    write_json(record, {"recipe": config.as_dict(), "losses_every_20": losses, "versions": versions()})
    return file


def measure_row(name: str, seed: int, folder: Path, recipe: str = "teaching") -> None:
    """Pre-train a row, unless it was, and leave its silhouettes and its few-label scores in the folder."""
    file = pretrain_row(name, seed, folder, recipe)
    target = file.with_name(f"measured_{file.stem}.json")
    if target.exists():
        return
    levels = PretrainConfig.from_recipe(recipe).levels  # every row is read at the default's levels
    silhouettes = measure(open_weights(file), levels)
    config = replace(FinetuneConfig.from_recipe("teaching"), weights=str(file), seed=seed)
    result = finetune(config, _lesson(seed), progress=False)
    dice = {case: {key: round(value, 5) for key, value in found.items()} for case, found in result.scores.cases.items()}
    write_json(target, {"silhouettes": silhouettes, "dice": dice})


@lru_cache(maxsize=1)
def _scans() -> list:
    return training_scans()


@lru_cache(maxsize=1)
def _lesson(seed: int):
    lesson = organ_lesson(range(12), range(1000, 1008))
    return lesson._replace(training=lesson.training.share(3 / 12, seed))


def collect(seeds: Sequence[int], folder: Path, recipe: str = "teaching") -> None:
    """folder/ablation.json: {row: {"group", "recipe", "seeds", "silhouettes": [per seed], "dice": [per seed]}}."""
    rows = {}
    for name, row in ROWS.items():
        stem = f"{name}_seed{{}}".replace(" ", "_").replace(",", "")
        files = {seed: folder / f"measured_{stem.format(seed)}.json" for seed in seeds}
        found = {seed: read_json(file) for seed, file in files.items() if file.exists()}
        if not found:
            continue
        rows[name] = {
            "group": row.group,
            "recipe": recipe_of(name, 0, recipe).as_dict(),
            "seeds": list(found),
            **{key: [record[key] for record in found.values()] for key in ("silhouettes", "dice")},
        }
    write_json(folder / ABLATION, {"versions": versions(), "default": DEFAULT, "rows": rows})


def _work(name: str, seed: int, folder: Path) -> str:
    measure_row(name, seed, folder)
    return f"{name}, seed {seed}"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command: train and measure what is missing, in as many processes as asked for, then collect."""
    options = study_options(arguments, __doc__.splitlines()[0], "rows", list(ROWS), seeds=3)
    seeds = range(options.seeds)
    jobs = [(name, seed, options.folder) for seed in seeds for name in options.names]
    in_processes(_work, jobs, options.processes)
    collect(seeds, options.folder)
    if options.install:
        install(options.folder / ABLATION)
    return 0


if __name__ == "__main__":
    sys.exit(main())
