"""A map of materials as a scanner sees it: mean and texture of each material, then resolution, then noise."""

import numpy as np
from scipy import ndimage

from s2dc_core.data.looks import MODALITIES, Protocol, contrast, draw_protocol, load_tissue_table
from s2dc_core.data.shapes import Number, smooth_field


def render(material: np.ndarray, modality: str, seed: int, axes: list[np.ndarray], varied: bool = False) -> np.ndarray:
    """Image [X, Y, Z] float32 of a material map: mean and texture of each material, then blur, then noise.

    The texture is the body's; the noise of a `varied` image, by another scanner, is drawn anew.
    """
    table = load_tissue_table()
    protocol = draw_protocol(modality, seed) if varied else Protocol()
    mean, texture = contrast(modality, seed, protocol)
    coarse = np.array([row.get("grain") == "coarse" for row in table["materials"].values()])
    generator = np.random.default_rng([seed, 2])
    image = mean[material]
    for step, mask in ((4.5, ~coarse), (14.0, coarse)):
        image += (texture * mask).astype(np.float32)[material] * smooth_field(generator, axes, step)
    spacing = [float(a[1] - a[0]) if len(a) > 1 else 1.0 for a in axes]
    settings = table["imaging"][modality]
    image = _blur(image, [sd * protocol.blur for sd in settings["blur"]], spacing)
    generator = np.random.default_rng([seed, 7 if varied else 3, MODALITIES.index(modality)])
    return _add_noise(image, modality, settings, protocol, generator, axes, spacing)


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


def _add_noise(image, modality, settings, protocol: Protocol, generator, axes, spacing) -> np.ndarray:
    sd, correlation = settings["noise"] * protocol.noise * protocol.scale, settings["noise_blur"] * protocol.blur

    def noise():
        """Noise of the settings' spread and correlation."""
        field = generator.standard_normal(image.shape, dtype=np.float32)
        if correlation > 0:
            field = _blur(field, [correlation] * 3, spacing)
            field /= np.float32(_noise_gain(correlation, spacing))
        return field * np.float32(sd)

    if modality == "ct":
        return np.clip(image + noise(), -1024, 3071)
    if modality == "pet":  # counts: the variance follows the activity
        return np.maximum(image + noise() * np.sqrt(np.maximum(image, 0) + 0.02), 0)
    bias = np.exp(protocol.bias * smooth_field(generator, axes, 160))
    return np.hypot(image * bias + noise(), noise())  # magnitude of a complex signal: Rician
