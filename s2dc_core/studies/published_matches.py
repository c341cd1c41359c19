"""How many of the published code's matches are wrong, counted over random motions; nothing is trained.

``python -m s2dc_core.studies published_matches FOLDER`` counts, in seconds, and writes FOLDER/published_matches.json;
``--install`` puts it where `match_results` looks for it. The published code warps with one matrix and lists its matches
with another, see `ablation.published_matrix`.
"""

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from s2dc_core.geometry import affine_about_centre, ground_truth_matches, inverse, random_affine
from s2dc_core.library.results import MATCHES
from s2dc_core.pretraining.config import PretrainConfig
from s2dc_core.studies.ablation import published_matrix
from s2dc_core.studies.study import Study, kept
from s2dc_core.training.records import read_json, versions, write_json

SETTINGS: dict[str, dict[str, Any]] = {
    "published": {"shape": [384, 384, 32], "patch": [32, 32, 32], "draws": 600},
    "lessons": {"shape": [96, 96, 96], "patch": [8, 8, 8], "draws": 200, "spacing": [3.75, 3.75, 3.75]},
}
"""Regions, patches and number of motions. Published: one layer of 12 x 12 tokens (its motions stay in the plane, and it
lists the same pairs for each layer) under its own ranges. Lessons: the region of notebook 11 under the motions of the
`teaching` recipe, in three dimensions."""


def published_motions(draws: int, generator: torch.Generator) -> Float[Tensor, "b 4 4"]:
    """H of the published ranges: whole degrees within 30 in plane, scale 0.9 to 1.2, whole shifts within 24 voxels.

    Its warp reads output voxel y at x = A y + t, so H is the inverse of that.
    """
    angles = torch.randint(-30, 31, (draws,), generator=generator).tolist()
    scales = (0.9 + 0.3 * torch.rand(draws, generator=generator)).tolist()
    shifts = torch.randint(-24, 25, (draws, 2), generator=generator).double()
    shape = SETTINGS["published"]["shape"]
    reads = torch.stack(
        [affine_about_centre(shape, (1, 1, 1), (0, 0, a), s) for a, s in zip(angles, scales, strict=True)]
    )
    reads[:, :2, 3] += shifts
    return inverse(reads)


def lesson_motions(draws: int, generator: torch.Generator) -> Float[Tensor, "b 4 4"]:
    """H as the `teaching` recipe draws it."""
    setting, views = SETTINGS["lessons"], PretrainConfig.from_recipe("teaching").options.views
    ranges = (views.rotation_deg, views.scale, views.translation_mm)
    motions = (random_affine(setting["shape"], setting["spacing"], *ranges, generator) for _ in range(draws))
    return torch.stack(list(motions))


MOTIONS = {"published": published_motions, "lessons": lesson_motions}


def count_wrong(H: Float[Tensor, "b 4 4"], shape: list[int], patch: list[int]) -> tuple[list[int], list[int]]:
    """Of each motion the pairs that the published matrix lists and equations 2 and 3 do not, and all that it lists."""
    grid = tuple(side // p for side, p in zip(shape, patch, strict=True))
    tokens = int(np.prod(grid))
    right, listed = (ground_truth_matches(matrix, grid, tuple(patch)) for matrix in (H, published_matrix(H, shape)))
    known, named = ((found.batch * tokens + found.source) * tokens + found.target for found in (right, listed))
    wrong = torch.bincount(listed.batch[~torch.isin(named, known)], minlength=len(H))
    return wrong.tolist(), torch.bincount(listed.batch, minlength=len(H)).tolist()


def answer(name: str, folder: Path) -> str:
    """Count one setting and leave the record in the folder; what lies there is kept.

    Raises:
        ValueError: if what lies there was counted in another setting.
    """
    file = folder / f"{name}.json"
    asked = {**SETTINGS[name], "seed": 0}
    if not kept(file, asked):
        H = MOTIONS[name](asked["draws"], torch.Generator().manual_seed(asked["seed"]))
        wrong, listed = count_wrong(H, asked["shape"], asked["patch"])
        write_json(file, {"recipe": asked, "wrong": wrong, "listed": listed})
    return name


def wrong_share(counted: Mapping) -> tuple[float, float, float]:
    """Share of the listed pairs that is wrong, and its 95 % bootstrap interval over the motions.

    Args:
        counted: one setting of `match_results`.
    """
    wrong, listed = np.array(counted["wrong"]), np.array(counted["listed"])
    again = np.random.default_rng(0).integers(len(wrong), size=(2000, len(wrong)))
    low, high = np.quantile(wrong[again].sum(1) / listed[again].sum(1), (0.025, 0.975))
    return float(wrong.sum() / listed.sum()), float(low), float(high)


def _jobs(options: Namespace) -> list[tuple]:
    return [(name, options.folder) for name in options.only]


def _collect(options: Namespace) -> list[Path]:
    found = {name: read_json(options.folder / f"{name}.json") for name in options.only}
    write_json(options.folder / MATCHES, {"versions": versions(), "settings": found})
    return [options.folder / MATCHES]


STUDY = Study(
    "how many of the published code's matches are wrong",
    _jobs,
    answer,
    _collect,
    seeds=1,
    fewest=1,
    names=tuple(MOTIONS),
)
