"""Generated bodies: one anatomy from a seed, seen by CT, PET or MRI.

`anatomy` and `organs` say where everything is, `tissues.yaml` and `looks` what it looks like, `imaging` makes an image
of it; this file puts them together, with findings if wanted. Bodies are for teaching and tests; they are drawn from
rules, not learnt from patients, and no clinical conclusion can be drawn from them.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from s2dc_core.data import anatomy
from s2dc_core.data.anatomy import ORGANS, TISSUES
from s2dc_core.data.imaging import render
from s2dc_core.data.looks import MODALITIES, load_tissue_table, mr_signal
from s2dc_core.data.organs import draw_organs
from s2dc_core.data.shapes import Number, smooth_field

_LABELS = {name: label for label, name in TISSUES.items()}
FINDINGS = ("focal_lung", "diffuse_lung", "liver_lesion", "hot_lesion")

__all__ = [
    "FINDINGS",
    "MODALITIES",
    "ORGANS",
    "TISSUES",
    "Phantom",
    "body_coordinates",
    "load_tissue_table",
    "make_phantom",
    "mr_signal",
    "render",
]


class Phantom(NamedTuple):
    """A generated scan and what is true about it, all on one grid [X, Y, Z], axes to the right, front and top (RAS+).

    volume float32: HU (-1024..3071) for CT, SUV (>= 0) for PET, arbitrary units (>= 0, about 0..1000) for MRI, half
    to twice that if varied.
    label uint8: 0 or an organ of ORGANS (the 13 of BTCV, in its order). tissue uint8: a key of TISSUES.
    finding uint8: 0, or 1.. for the findings asked for, in their order. affine [4, 4] float64: voxel -> mm.
    """

    volume: np.ndarray
    label: np.ndarray
    tissue: np.ndarray
    finding: np.ndarray
    affine: np.ndarray
    modality: str


def make_phantom(
    seed: int,
    modality: str = "ct",
    shape: Sequence[int] = (144, 96, 144),
    spacing: Sequence[Number] = (2.5, 2.5, 2.5),
    findings: Sequence[str] = (),
    varied: bool = False,
) -> Phantom:
    """One body, from the heart to the iliac crest, as one modality sees it.

    The same arguments give the same arrays bit for bit. The body depends on the seed alone: another modality has the
    same label and tissue maps, another shape or spacing (mm) shows the same body about the same centre, other
    findings the same image outside them. The default field of view, 360 x 240 x 360 mm, holds a whole trunk.

    varied: the same body by another scanner and in another phase, drawn per seed and modality: contrast phase,
    sequence, uptake, resolution and noise, in the ranges of `looks.draw_protocol`. In CT the inferior vena cava then
    has its own blood, which contrast reaches later than the aorta's. Without it bodies are as `tissues.yaml` says.

    Raises ValueError for a seed below 0, an unknown modality or finding, or a shape or spacing that is not three
    positive numbers.
    """
    seed, shape, spacing, findings = _checked(seed, modality, shape, spacing, findings)
    tissue, material = _anatomy_maps(seed, shape, spacing)
    tissue, material = tissue.copy(), material.copy()
    if varied and modality == "ct":
        names = _material_ids()
        cava = tissue == _LABELS["inferior_vena_cava"]
        material[cava & (material == names["blood"])] = names["venous_blood"]
    axes = _axes(shape, spacing)
    finding = np.zeros(shape, np.uint8)
    for number, name in enumerate(findings, start=1):
        where = _find_place(name, seed, tissue, axes) & (finding == 0)
        finding[where] = number
        material[where] = _material_ids()[_FINDING_MATERIAL[name]]
    volume = render(material, modality, seed, axes, varied)
    label = np.where(tissue <= max(ORGANS), tissue, 0).astype(np.uint8)
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = [axis[0] for axis in axes]
    return Phantom(volume, label, tissue, finding, affine, modality)


def body_coordinates(
    seed: int, shape: Sequence[int] = (144, 96, 144), spacing: Sequence[Number] = (2.5, 2.5, 2.5)
) -> np.ndarray:
    """Reference coordinates [3, X, Y, Z] float32 of every voxel of a generated body; arguments as for `make_phantom`.

    Millimetres to the right, front and top in the one standing adult from which all bodies are warped (see `anatomy`;
    z = 0 in the twelfth thoracic vertebra): voxels of two bodies with equal coordinates are partners. They are the
    frame's partners (wall, spine, ribs): organs also move, turn and grow one by one, by some millimetres.
    """
    seed, shape, spacing, _ = _checked(seed, "ct", shape, spacing, ())
    return np.stack(anatomy.warped_coordinates(anatomy.Subject.draw(seed), _axes(shape, spacing)))


def _checked(seed, modality, shape, spacing, findings):
    if isinstance(seed, bool) or int(seed) != seed or seed < 0:
        raise ValueError(f"seed must be a whole number from 0 on, not {seed!r}")
    if modality not in MODALITIES:
        raise ValueError(f"unknown modality {modality!r}; choose one of {', '.join(MODALITIES)}")
    findings = (findings,) if isinstance(findings, str) else tuple(findings)
    for name in findings:
        if name not in FINDINGS:
            raise ValueError(f"unknown finding {name!r}; choose from {', '.join(FINDINGS)}")
    for what, value, kind in (("shape", shape, int), ("spacing", spacing, float)):
        try:
            numbers = [float(v) for v in value]
        except (TypeError, ValueError):
            numbers = []
        good = len(numbers) == 3 and all(np.isfinite(v) and v > 0 and kind(v) == v for v in numbers)
        if not good:
            unit = "positive whole numbers (voxels)" if kind is int else "positive numbers (mm)"
            raise ValueError(f"{what} must be three {unit}, not {value!r}")
    return int(seed), tuple(int(s) for s in shape), tuple(float(s) for s in spacing), findings


def _axes(shape, spacing) -> list[np.ndarray]:
    return [(np.arange(n) - (n - 1) / 2) * step for n, step in zip(shape, spacing, strict=True)]


@lru_cache(maxsize=1)
def _material_ids() -> dict[str, int]:
    return {name: index for index, name in enumerate(load_tissue_table()["materials"])}


@lru_cache(maxsize=4)
def _anatomy_maps(seed: int, shape: tuple, spacing: tuple) -> tuple[np.ndarray, np.ndarray]:
    subject = anatomy.Subject.draw(seed)
    axes = _axes(shape, spacing)
    body = anatomy.Body(anatomy.warped_coordinates(subject, axes), _LABELS, _material_ids())
    erector = anatomy.frame_fields(body, subject)
    anatomy.draw_wall(body, subject, erector)
    anatomy.draw_spine(body)
    anatomy.draw_ribs(body)
    anatomy.draw_chest(body, subject)
    draw_organs(body, subject, axes)
    return body.tissue, body.material


_FINDING_MATERIAL = {
    "focal_lung": "opacity_focal", "diffuse_lung": "opacity_diffuse", "liver_lesion": "liver_lesion",
    "hot_lesion": "hot_lesion",
}  # fmt: skip
_FINDING_HOSTS = {
    "focal_lung": ("right_lung", "left_lung"), "diffuse_lung": ("right_lung", "left_lung"), "liver_lesion": ("liver",),
    "hot_lesion": ("liver", "vertebrae", "right_lung", "left_lung", "visceral_fat"),
}  # fmt: skip


def _find_place(name: str, seed: int, tissue: np.ndarray, axes) -> np.ndarray:
    """Voxels [X, Y, Z] of a finding inside its host tissue; empty where the field of view shows no host."""
    generator = np.random.default_rng([seed, 5, FINDINGS.index(name)])
    labels = [label for label, tissue_name in TISSUES.items() if tissue_name in _FINDING_HOSTS[name]]
    ragged = smooth_field(generator, axes, 16)
    host = np.isin(tissue, labels)
    if name == "diffuse_lung":  # patches in both lungs, denser towards the back and the base
        weight = np.add.outer(-axes[1] / 70, -(axes[2] - 110) / 110)[None]
        return host & (ragged + weight.astype(np.float32) > 0.35)
    present = [label for label in labels if (tissue == label).any()]
    if not present:
        return np.zeros(tissue.shape, bool)
    if name == "hot_lesion":
        host = tissue == present[generator.integers(len(present))]
    spacing = [float(a[1] - a[0]) if len(a) > 1 else 1.0 for a in axes]
    depth = ndimage.distance_transform_edt(host, sampling=spacing)
    low, high = {"focal_lung": (14, 26), "liver_lesion": (9, 19), "hot_lesion": (8, 13)}[name]
    radius = generator.uniform(low, high)
    deep = np.argwhere(depth >= min(0.6 * radius, 0.8 * depth.max()))
    centre = deep[generator.integers(len(deep))]
    offsets = [(a - a[c]).astype(np.float32) / np.float32(f) for a, c, f in
               zip(axes, centre, generator.uniform(0.85, 1.15, 3), strict=True)]  # fmt: skip
    distance = np.sqrt(sum(o**2 for o in np.meshgrid(*offsets, indexing="ij", sparse=True)))
    return host & (distance + 0.15 * radius * ragged < radius)
