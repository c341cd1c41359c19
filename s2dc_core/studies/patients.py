"""Whom the study of another patient asks: generated bodies that nothing was trained on, and patients."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from s2dc_core.data import Scan, body_coordinates, load_scan, open_scan
from s2dc_core.evaluation.conditions import box, half, turned
from s2dc_core.evaluation.correctness import Partners, true_partners
from s2dc_core.studies.few_labels import load_groups

SCORED = tuple(range(1000, 1008))
"""Generated bodies that no encoder and no weight has seen."""

CHOOSING = (900, 901, 902)
"""Generated bodies on which the weights of place and alignment are chosen."""

CONDITIONS: dict[str, Callable[[Scan, int], Scan]] = {
    "whole": lambda scan, number: scan,
    "half": lambda scan, number: half(scan, number % 2 == 1),
    "lower": lambda scan, number: half(scan, False),
    "upper": lambda scan, number: half(scan, True),
    "box": lambda scan, number: box(scan, 0.6, number),
    "turned": lambda scan, number: turned(scan, 20.0, number),
}
"""What is shown of the patient that is asked; "half" is the upper half of every other scan, the lower of the rest."""

GENERATED = {
    "ct": ("phantom_ct", False, ("whole", "half")),
    "ct_varied": ("phantom_ct", True, ("whole", "half")),
    "ct_fields": ("phantom_ct", False, ("box", "turned")),
    "pet": ("phantom_pet", False, ("whole", "half")),
    "mr_t1": ("phantom_mr_t1", False, ("whole", "half")),
}
"""Image, whether phase and scanner vary, and conditions of each group of generated bodies."""

REAL = {
    "headneck_ct": ("headneck_ct", None, ("whole", "lower", "upper")),
    "headneck_ct_first": ("headneck_ct", 0, ("whole", "lower", "upper")),
    "headneck_ct_second": ("headneck_ct", 1, ("whole", "lower", "upper")),
    "hippocampus_mr": ("hippocampus_mr", None, ("whole", "half")),
}
"""Group of few_labels.yaml, which half of its patients (None: all) and conditions. Encoders that were trained on one
half of the patients are asked for the other one."""


@lru_cache(maxsize=48)
def opened(group: str, name: str | int, data: Path | None) -> Scan:
    """A scan of a group."""
    if group in GENERATED:
        image, varied, _ = GENERATED[group]
        return open_scan(image, seed=int(name), varied=varied)
    entry = load_groups()[REAL[group][0]]
    (ending, modality), *_ = entry["images"].items()
    files = data / f"{name}{ending}.nii.gz", data / f"{name}_seg.nii.gz"
    return load_scan(*files, modality=modality, spacing=tuple(map(float, entry["spacing"])))


def members(group: str) -> list:
    """What is scored in a group."""
    if group in GENERATED:
        return list(SCORED)
    source, half_of, _ = REAL[group]
    halves = load_groups()[source]["halves"]
    return [name for part in (halves if half_of is None else [halves[half_of]]) for name in part]


def conditions_of(group: str) -> Sequence[str]:
    """The conditions of a group."""
    return (GENERATED.get(group) or REAL[group])[2]


def partners_of(name: int, other: int, shown: Scan) -> Partners:
    """True partners in one generated body of random places of another one that its field of view shows."""
    known = _partners(name, other)
    cells = np.linalg.solve(shown.affine, np.c_[known.target_mm, np.ones(len(known.target_mm))].T)[:3].T
    inside = ((cells > -0.5) & (cells < np.array(shown.raw.shape) - 0.5)).all(1)
    return Partners(*(part[inside] for part in known))


@lru_cache(maxsize=16)
def _partners(name: int, other: int) -> Partners:
    sides = [
        (_coordinates(body), scan.affine, scan.label, scan.foreground)
        for body, scan in ((each, opened("ct", each, None)) for each in (name, other))
    ]
    return true_partners(*sides)


@lru_cache(maxsize=16)
def _coordinates(body: int) -> np.ndarray:
    return body_coordinates(body)
