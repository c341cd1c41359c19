"""How a generated body looks: the mean of each material in one person, and how another scanner would see it.

A person's usual look is that of `tissues.yaml`: portal venous CT, one sequence, one resolution. A `Protocol` departs
from it as hospitals do from one another; `draw_protocol` draws one per seed, for bodies made with `varied`.
"""

from functools import lru_cache
from importlib import resources
from typing import NamedTuple

import numpy as np
import yaml

from s2dc_core.data.dose import FWHM_PER_SD
from s2dc_core.data.shapes import Number

MODALITIES = ("ct", "pet", "mr_t1", "mr_t2", "mr_t1ce")
NATIVE, ARTERIAL, PORTAL, DELAYED = range(4)


@lru_cache(maxsize=1)
def load_tissue_table() -> dict:
    """The tables of `tissues.yaml`: materials, phases, sequences, imaging, relaxivity and their sources."""
    return yaml.safe_load(resources.files("s2dc_core.data").joinpath("tissues.yaml").read_text(encoding="utf-8"))


class Protocol(NamedTuple):
    """One scanner's settings; the defaults are the usual ones, factors of what `tissues.yaml` lists unless said.

    phase: CT, from 0 (native) over 1 (late arterial) and 2 (portal venous) to 3 (delayed), in between as well.
    iodine: CT, of the enhancement over native: its dose, and more of it at a low tube voltage.
    uptake: PET, a number or [materials], of the SUV. repetition, echo: MRI. flip: gradient echo, degrees, None for the
    table's. gadolinium: mr_t1ce, of the concentration. blur: of the point spread and of the noise's correlation.
    noise: of its sd. bias: MRI, sd of the logarithm of the receive field. scale: MRI, of everything.
    """

    phase: float = PORTAL
    iodine: float = 1.0
    uptake: np.ndarray | float = 1.0
    repetition: float = 1.0
    echo: float = 1.0
    flip: float | None = None
    gadolinium: float = 1.0
    blur: float = 1.0
    noise: float = 1.0
    bias: float = 0.12
    scale: float = 1.0


def draw_protocol(modality: str, seed: int) -> Protocol:
    """Another scanner and phase for each seed; factors are log-uniform. The ranges are our choice, to be wider than one
    hospital's and within what radiologists read.

    ct: phase with an equal chance to lie nearest each of the four, an eighth of all native without iodine and an eighth
    fully delayed; iodine 0.7 to 1.5 (dose, 80 to 120 kV); noise sd 5 to 25 HU; blur 0.7 to 1.8 (kernel).
    pet: uptake of each material lognormal, sd 0.25; FWHM 4 to 8 mm; noise 0.5 to 2.
    mr: repetition 0.6 to 1.7, echo 0.7 to 1.5, flip 40 to 90 degrees (without effect on a spin echo), gadolinium 0.5 to
    1.3 (dose and phase), noise 0.5 to 2.5, blur 0.7 to 1.8, bias 0.12 to 0.3, scale 0.5 to 2.
    """
    generator = np.random.default_rng([seed, 6, MODALITIES.index(modality)])
    table = load_tissue_table()
    settings = table["imaging"][modality]

    def factor(low: Number, high: Number) -> float:
        return float(np.exp(generator.uniform(np.log(low), np.log(high))))

    if modality == "ct":
        phase = float(np.clip(generator.uniform(NATIVE - 0.5, DELAYED + 0.5), NATIVE, DELAYED))
        iodine, noise = factor(0.7, 1.5), factor(5, 25) / settings["noise"]
        return Protocol(phase=phase, iodine=iodine, noise=noise, blur=factor(0.7, 1.8))
    if modality == "pet":
        uptake = np.exp(0.25 * generator.standard_normal(len(table["materials"])))
        blur = float(generator.uniform(4, 8)) / FWHM_PER_SD / settings["blur"][0]
        return Protocol(uptake=uptake, blur=float(blur), noise=factor(0.5, 2))
    return Protocol(
        repetition=factor(0.6, 1.7), echo=factor(0.7, 1.5), flip=float(generator.uniform(40, 90)),
        gadolinium=factor(0.5, 1.3), noise=factor(0.5, 2.5), blur=factor(0.7, 1.8),
        bias=float(generator.uniform(0.12, 0.3)), scale=factor(0.5, 2),
    )  # fmt: skip


def contrast(modality: str, seed: int, protocol: Protocol) -> tuple[np.ndarray, np.ndarray]:
    """Mean and texture of each material in one person, both [materials] float32."""
    rows = list(load_tissue_table()["materials"].values())
    draws = np.random.default_rng([seed, 4]).standard_normal((len(rows) + 1, 2))
    # timing, dose and build move all tissues of a person together, the rest is each tissue's own
    person = np.clip(0.75 * draws[0] + 0.66 * draws[1:], -2, 2)
    if modality.startswith("mr"):
        mean, texture = _mr_contrast(modality, person, protocol)
    else:
        values = np.array([row["hu" if modality == "ct" else "suv"] for row in rows], float)
        middle = enhanced(protocol.phase, protocol.iodine) if modality == "ct" else values[:, 0]
        mean, texture = middle + values[:, 1] * person[:, 0], values[:, 2]
        if modality == "pet":
            mean, texture = np.maximum(mean, 0.3 * middle) * protocol.uptake, texture * protocol.uptake
    return mean.astype(np.float32), texture.astype(np.float32)


def enhanced(phase: Number, iodine: Number = 1.0) -> np.ndarray:
    """Mean HU [materials] between two neighbouring phases, linear; what takes up no iodine keeps its `hu`."""
    table = load_tissue_table()
    means = {name: [row["hu"][0]] * 4 for name, row in table["materials"].items()}
    for name, (native, arterial, delayed) in table["phases"].items():
        means[name] = [native, arterial, means[name][PORTAL], delayed]
    phases = np.array(list(means.values()), float).T
    before = min(int(phase), DELAYED - 1)
    now = phases[before] + (phase - before) * (phases[before + 1] - phases[before])
    return phases[NATIVE] + iodine * (now - phases[NATIVE])


def _mr_contrast(modality: str, person: np.ndarray, protocol: Protocol) -> tuple[np.ndarray, np.ndarray]:
    table = load_tissue_table()
    rows = list(table["materials"].values())
    sequence = dict(table["sequences"][modality])
    sequence["repetition"] *= protocol.repetition
    sequence["echo"] *= protocol.echo
    if "flip" in sequence and protocol.flip is not None:
        sequence["flip"] = protocol.flip
    mr = np.array([row["mr"] for row in rows], float)
    gadolinium = np.array([row["gd"] for row in rows], float) * (modality == "mr_t1ce") * protocol.gadolinium
    signal = mr_signal(
        mr[:, 0] * (1 + 0.05 * person[:, 0]), mr[:, 1] * (1 + 0.06 * person[:, 1]), mr[:, 2],
        gadolinium, table["relaxivity"], **sequence,
    )  # fmt: skip
    echo_train = np.array([row.get("fse", 1.0) for row in rows]) if modality == "mr_t2" else 1.0
    mean = 1000 * signal * echo_train * (1.8 if modality == "mr_t2" else 1.6) * protocol.scale
    return mean, mean * mr[:, 3]


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
