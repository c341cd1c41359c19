"""The four downstream tasks on generated bodies, for a laptop: what notebooks 08 to 11 learn from and are scored on.

Seeds 0 to 99 train and from 1000 on they score, as in pre-training, so nothing that scores was ever seen.
"""

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import torch

from s2dc_core.data import ORGANS, Scan, dose_pair, normalise, open_scan, suv_of
from s2dc_core.downstream.classification import Classification
from s2dc_core.downstream.data_sets import Downstream
from s2dc_core.downstream.examples import Example, Examples
from s2dc_core.downstream.image_to_image import ImageToImage
from s2dc_core.downstream.segmentation import Segmentation

SHAPE, SPACING = (96, 64, 96), (3.75, 3.75, 3.75)
"""Voxels, and mm: a whole trunk that a laptop can learn from."""

LUNG_WINDOW = (-1000.0, 250.0)
"""HU; in the window of the organs a diffuse opacity is as black as air."""

CHEST = 0.4
"""Where the upper part of a body that is looked at begins, as a share of its height."""

LUNGS = {0: "normal", 1: "focal", 2: "diffuse"}
SUV_CEILING = 20.0
"""Largest SUV that the encoder tells apart, and the data range of the scores."""


def organ_lesson(
    training: Sequence[int],
    scored: Sequence[int],
    image: str = "phantom_ct",
    labels: Mapping[int, str] = ORGANS,
    **grid,
) -> Downstream:
    """The 13 organs of generated bodies.

    Args:
        training, scored: seeds of the bodies.
        image: "phantom_ct", "phantom_pet", "phantom_mr_t1" ...
        labels: organs to be told apart; the others are background.
        grid: shape and spacing.
    """

    def read(entry: Mapping[str, Any]) -> Example:
        scan = _body(image, entry["seed"], **grid)
        truth = torch.where(torch.isin(scan.label, torch.tensor(list(labels))), scan.label, 0)
        return Example(entry["name"], scan.volume, truth, scan.background, scan.affine)

    return Downstream(Segmentation(labels), *(Examples(_entries(seeds), read) for seeds in (training, scored)))


def lung_lesson(training: Sequence[int], scored: Sequence[int], **grid) -> Downstream:
    """Normal lungs, a focal and a diffuse opacity, in CT; the class of a body follows from its seed modulo 3."""

    def read(entry: Mapping[str, Any]) -> Example:
        findings = ((), ("focal_lung",), ("diffuse_lung",))[entry["target"]]
        scan = _body("phantom_ct", entry["seed"], findings=findings, **grid)
        first = int(CHEST * scan.raw.shape[2])
        affine = scan.affine.copy()
        affine[:3, 3] += affine[:3, 2] * first
        image = normalise(scan.raw[..., first:], "ct", window=LUNG_WINDOW)
        return Example(entry["name"], image[None], entry["target"], scan.background, affine)

    sections = ([{**entry, "target": entry["seed"] % 3} for entry in _entries(seeds)] for seeds in (training, scored))
    return Downstream(Classification(LUNGS), *(Examples(entries, read) for entries in sections))


def dose_lesson(training: Sequence[int], scored: Sequence[int], factor: Real = 50, **grid) -> Downstream:
    """PET of a share of the dose to PET of the full dose, learnt as the encoder sees PET and scored in SUV up to 20."""

    def read(entry: Mapping[str, Any]) -> Example:
        pet = _body("phantom_pet", entry["seed"], **grid)
        pair = dose_pair(pet.raw.numpy(), pet.spacing, factor, entry["seed"])
        low, full = (normalise(torch.from_numpy(dose), "pet") for dose in pair)
        return Example(entry["name"], low[None], full, pet.background, pet.affine)

    task = ImageToImage(residual=True, data_range=SUV_CEILING, units=suv_of)
    return Downstream(task, *(Examples(_entries(seeds), read) for seeds in (training, scored)))


def contrast_lesson(
    training: Sequence[int], scored: Sequence[int], source: str = "mr_t1", target: str = "mr_t2", **grid
) -> Downstream:
    """One MR contrast of a body to another one; both z-scored over the body, which alone is scored."""

    def read(entry: Mapping[str, Any]) -> Example:
        first, other = (_body(f"phantom_{kind}", entry["seed"], **grid) for kind in (source, target))
        return Example(entry["name"], first.volume, other.volume[0], first.background, first.affine)

    return Downstream(ImageToImage(), *(Examples(_entries(seeds), read) for seeds in (training, scored)))


def _entries(seeds: Sequence[int]) -> list[dict[str, Any]]:
    return [{"name": f"body {seed}", "seed": seed} for seed in seeds]


def _body(image: str, seed: int, shape: Sequence[int] = SHAPE, spacing: Sequence[Real] = SPACING, findings=()) -> Scan:
    return open_scan(image, seed=seed, shape=shape, spacing=spacing, findings=findings)
