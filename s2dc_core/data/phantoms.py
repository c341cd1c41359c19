"""Generated bodies: one anatomy from a seed, seen by CT, PET or MRI.

`anatomy` and `organs` say where everything is, `tissues.yaml` what it looks like, this file makes an image of it:
contrast, texture, resolution, noise, and findings if wanted. Bodies are for teaching and tests; they are drawn from
rules, not learnt from patients, and no clinical conclusion can be drawn from them.
"""

from collections.abc import Sequence
from functools import lru_cache
from importlib import resources
from typing import NamedTuple

import numpy as np
import yaml
from scipy import ndimage

from s2dc_core.data import anatomy
from s2dc_core.data.anatomy import ORGANS, TISSUES
from s2dc_core.data.organs import draw_organs
from s2dc_core.data.shapes import Number, smooth_field

MODALITIES = ("ct", "pet", "mr_t1", "mr_t2", "mr_t1ce")
FINDINGS = ("focal_lung", "diffuse_lung", "liver_lesion", "hot_lesion")

__all__ = ["FINDINGS", "MODALITIES", "ORGANS", "TISSUES", "Phantom", "load_tissue_table", "make_phantom"]


class Phantom(NamedTuple):
    """A generated scan and what is true about it, all on one grid [X, Y, Z], axes to the right, front and top (RAS+).

    volume float32: HU (-1024..3071) for CT, SUV (>= 0) for PET, arbitrary units (>= 0, about 0..1000) for MRI.
    label uint8: 0 or an organ of ORGANS (the 13 of BTCV, in its order). tissue uint8: a key of TISSUES.
    finding uint8: 0, or 1.. for the findings asked for, in their order. affine [4, 4] float64: voxel -> mm.
    """

    volume: np.ndarray
    label: np.ndarray
    tissue: np.ndarray
    finding: np.ndarray
    affine: np.ndarray
    modality: str


@lru_cache(maxsize=1)
def load_tissue_table() -> dict:
    """The tables of `tissues.yaml`: materials, sequences, imaging, relaxivity and their sources."""
    return yaml.safe_load(resources.files("s2dc_core.data").joinpath("tissues.yaml").read_text(encoding="utf-8"))


def make_phantom(
    seed: int,
    modality: str = "ct",
    shape: Sequence[int] = (144, 96, 144),
    spacing: Sequence[Number] = (2.5, 2.5, 2.5),
    findings: Sequence[str] = (),
) -> Phantom:
    """One body, from the heart to the iliac crest, as one modality sees it.

    The same arguments give the same arrays bit for bit. The body depends on the seed alone: another modality has the
    same label and tissue maps, another shape or spacing (mm) shows the same body about the same centre, other
    findings the same image outside them. The default field of view, 360 x 240 x 360 mm, holds a whole trunk.

    Raises ValueError for a seed below 0, an unknown modality or finding, or a shape or spacing that is not three
    positive numbers.
    """
    seed, shape, spacing, findings = _checked(seed, modality, shape, spacing, findings)
    tissue, material = _anatomy_maps(seed, shape, spacing)
    tissue, material = tissue.copy(), material.copy()
    axes = _axes(shape, spacing)
    finding = np.zeros(shape, np.uint8)
    for number, name in enumerate(findings, start=1):
        where = _find_place(name, seed, tissue, axes) & (finding == 0)
        finding[where] = number
        material[where] = _material_ids()[_FINDING_MATERIAL[name]]
    volume = render(material, modality, seed, axes)
    label = np.where(tissue <= max(ORGANS), tissue, 0).astype(np.uint8)
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = [axis[0] for axis in axes]
    return Phantom(volume, label, tissue, finding, affine, modality)


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
    names = {name: label for label, name in TISSUES.items()}
    body = anatomy.Body(anatomy.warped_coordinates(subject, axes), names, _material_ids())
    erector = anatomy.frame_fields(body, subject)
    anatomy.draw_wall(body, subject, erector)
    anatomy.draw_spine(body)
    anatomy.draw_ribs(body)
    anatomy.draw_chest(body, subject)
    draw_organs(body, subject, axes)
    return body.tissue, body.material


def render(material: np.ndarray, modality: str, seed: int, axes: list[np.ndarray]) -> np.ndarray:
    """Image [X, Y, Z] float32 of a material map: mean and texture of each material, then blur, then noise."""
    table = load_tissue_table()
    mean, texture = _contrast(modality, seed)
    coarse = np.array([row.get("grain") == "coarse" for row in table["materials"].values()])
    generator = np.random.default_rng([seed, 2])
    image = mean[material]
    for step, mask in ((4.5, ~coarse), (14.0, coarse)):
        image += (texture * mask).astype(np.float32)[material] * smooth_field(generator, axes, step)
    spacing = [float(a[1] - a[0]) if len(a) > 1 else 1.0 for a in axes]
    settings = table["imaging"][modality]
    image = _blur(image, settings["blur"], spacing)
    generator = np.random.default_rng([seed, 3, MODALITIES.index(modality)])
    return _add_noise(image, modality, settings, generator, axes, spacing)


def _contrast(modality: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and texture of each material in one person, both [materials] float32."""
    table = load_tissue_table()
    rows = list(table["materials"].values())
    draws = np.random.default_rng([seed, 4]).standard_normal((len(rows) + 1, 2))
    # timing, dose and build move all tissues of a person together, the rest is each tissue's own
    person = np.clip(0.75 * draws[0] + 0.66 * draws[1:], -2, 2)
    if modality in ("ct", "pet"):
        values = np.array([row["hu" if modality == "ct" else "suv"] for row in rows], float)
        mean = values[:, 0] + values[:, 1] * person[:, 0]
        texture = values[:, 2]
        if modality == "pet":
            mean = np.maximum(mean, 0.3 * values[:, 0])
    else:
        mr = np.array([row["mr"] for row in rows], float)
        signal = mr_signal(
            mr[:, 0] * (1 + 0.05 * person[:, 0]), mr[:, 1] * (1 + 0.06 * person[:, 1]), mr[:, 2],
            np.array([row["gd"] for row in rows], float) * (modality == "mr_t1ce"),
            table["relaxivity"], **table["sequences"][modality],
        )  # fmt: skip
        echo_train = np.array([row.get("fse", 1.0) for row in rows]) if modality == "mr_t2" else 1.0
        mean = 1000 * signal * echo_train * (1.8 if modality == "mr_t2" else 1.6)
        texture = mean * mr[:, 3]
    return mean.astype(np.float32), texture.astype(np.float32)


def mr_signal(t1, t2, density, gadolinium, relaxivity: Number, kind: str, repetition: Number, echo: Number, flip=90.0):
    """Steady-state signal for T1, T2 (ms), proton density (0..1) and gadolinium (mmol/l); arrays of one shape.

    gradient_echo, spoiled: density sin(a) (1 - E1) / (1 - cos(a) E1) exp(-TE / T2), E1 = exp(-TR / T1) (Haase et al.,
    J Magn Reson 67 (1986) 258-266; T2 stands in for T2*). spin_echo: density (1 - E1) exp(-TE / T2). Gadolinium adds
    `relaxivity` (per mmol/l and s) x concentration to 1 / T1, and leaves T2 (small at these concentrations).
    """
    rate = 1 / np.asarray(t1, float) + relaxivity * np.asarray(gadolinium, float) / 1000
    recovery = np.exp(-repetition * rate)
    decay = np.exp(-echo / np.asarray(t2, float))
    if kind == "spin_echo":
        return density * (1 - recovery) * decay
    angle = np.radians(flip)
    return density * np.sin(angle) * (1 - recovery) / (1 - np.cos(angle) * recovery) * decay


def _blur(image: np.ndarray, sd_mm: list, spacing: list) -> np.ndarray:
    for axis, (sd, step) in enumerate(zip(sd_mm, spacing, strict=True)):
        if sd > 0:
            image = ndimage.gaussian_filter1d(image, sd / step, axis=axis, mode="nearest", truncate=3.0)
    return image


def _noise_gain(sd_mm: Number, spacing: list) -> float:
    """Factor by which a blur shrinks the standard deviation of white noise."""
    impulse = np.zeros(129)
    impulse[64] = 1
    kernels = [ndimage.gaussian_filter1d(impulse, sd_mm / step, truncate=3.0) for step in spacing]
    return float(np.prod([np.sqrt((kernel**2).sum()) for kernel in kernels]))


def _add_noise(image, modality, settings, generator, axes, spacing) -> np.ndarray:
    def noise():
        field = generator.standard_normal(image.shape, dtype=np.float32)
        if settings["noise_blur"] > 0:
            field = _blur(field, [settings["noise_blur"]] * 3, spacing)
            field /= np.float32(_noise_gain(settings["noise_blur"], spacing))
        return field * np.float32(settings["noise"])

    if modality == "ct":
        return np.clip(image + noise(), -1024, 3071)
    if modality == "pet":  # counts: the variance follows the activity
        return np.maximum(image + noise() * np.sqrt(np.maximum(image, 0) + 0.02), 0)
    bias = np.exp(0.12 * smooth_field(generator, axes, 160))
    return np.hypot(image * bias + noise(), noise())  # magnitude of a complex signal: Rician


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
