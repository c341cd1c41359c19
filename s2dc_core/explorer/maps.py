"""What the explorer shows, without the explorer: voxels from clicks, similarity maps from tokens, volumes as NIfTI."""

from collections.abc import Mapping, Sequence
from itertools import product
from numbers import Integral, Real
from typing import NamedTuple

import nibabel as nib
import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from s2dc_core.data import Scan, anchor_places, body_grid, structure_names
from s2dc_core.features import (
    TokenMap,
    check_affine,
    fit_pca,
    organ_grid,
    pca_map,
    similarity_heatmap,
    token_features,
)
from s2dc_core.matching import sharpe_ratio
from s2dc_core.plots import as_colours, display_window, label_colour

Levels = Sequence[int]
Point = Sequence[Real] | np.ndarray
EDGE = 1e-3
"""Voxels: a click on the very rim of the volume comes back from the browser in single precision."""


class Look(NamedTuple):
    """What an encoder makes of an anchor.

    Attributes:
        similarity: cosine of the anchor's token with every token, [X, Y, Z].
        affine: [4, 4], token index to mm.
        ratio: Sharpe ratio of these cosines.
        by_organ: mean cosine of each organ's tokens, by name; empty without labels.
    """

    similarity: Tensor
    affine: np.ndarray
    ratio: float
    by_organ: dict[str, float]


def scan_problem(scan: Scan) -> str | None:
    """Why a scan cannot be shown, and the mend; None for a good one."""
    if scan.raw.ndim != 3:
        return f"{scan.name} has {scan.raw.ndim} dimensions, not 3: choose one frame or channel of it"
    if scan.affine is None:
        return f"{scan.name} has no spatial affine: give the [4, 4] matrix that takes its voxels to mm"
    try:
        check_affine(scan.affine)
    except ValueError as error:
        return f"{scan.name} has no usable spatial affine: {error}"
    return None


def label_problem(scan: Scan) -> str | None:
    """Why the label map of a scan cannot be used, and the mend; None for a good one, or for none."""
    if scan.label is None or scan.label.shape == scan.raw.shape:
        return None
    grids = f"{tuple(scan.label.shape)} voxels, the volume {tuple(scan.raw.shape)}"
    return f"the label map of {scan.name} has {grids}: it is left out, resample it to the volume's grid"


def voxel_at(mm: Point, affine: Float[np.ndarray, "4 4"], shape: Sequence[int]) -> tuple[int, int, int]:
    """The voxel that a place lies in.

    Args:
        mm: world (x, y, z).
        affine: voxel index to world mm; oblique, anisotropic and left-handed ones too.
        shape: voxels of the volume.

    Raises:
        ValueError: for a place outside the volume, or one that is not three finite numbers.
    """
    place = np.asarray(mm, dtype=np.float64)
    if place.shape != (3,) or not np.isfinite(place).all():
        raise ValueError(f"{mm} is no place (x, y, z) in mm")
    index = (np.linalg.inv(check_affine(affine)) @ [*place, 1.0])[:3] + 0.5
    if (index < -EDGE).any() or (index > np.add(shape, EDGE)).any():
        raise ValueError(f"{words_of(place)} lies outside the volume: click inside it")
    return tuple(int(i) for i in np.clip(np.floor(index), 0, np.subtract(shape, 1)))


def place_of(voxel: Sequence[Integral] | np.ndarray, affine: Float[np.ndarray, "4 4"]) -> Float[np.ndarray, " 3"]:
    """Centre of a voxel in world mm."""
    return (affine @ [*(float(v) for v in voxel), 1.0])[:3]


def words_of(mm: Point) -> str:
    """A place as text."""
    return f"({', '.join(f'{value:.1f}' for value in mm)}) mm"


def first_anchor(scan: Scan) -> tuple[int, int, int]:
    """A fair place to begin: the deepest voxel of the largest organ, or of the body where no organ is known."""
    return anchor_places(scan._replace(label=usable_label(scan)))[0].voxel


def usable_label(scan: Scan) -> Int[Tensor, "x y z"] | None:
    """The label map, if there is one on the volume's grid that holds any organ."""
    return scan.label if scan.label is not None and not label_problem(scan) and (scan.label > 0).any() else None


def level_of(token_map: TokenMap, widths: Sequence[int], level: int | None) -> TokenMap:
    """One level of joined tokens, on the same grid; None for all of them read together.

    Args:
        token_map: of several levels, see `features.token_features`.
        widths: channels of each level.
        level: its place among the levels, 0 for the finest.

    Raises:
        ValueError: for tokens of other widths, such as reduced ones.
    """
    if level is None or len(widths) == 1:
        return token_map
    if (channels := token_map.features.shape[-1]) != sum(widths):
        raise ValueError(f"tokens of {channels} channels, not {sum(widths)}: no single level can be cut out of them")
    return token_map._replace(features=token_map.features.split(list(widths), dim=-1)[level])


class TokenMaps:
    """Token maps of scans by encoders. Each is made once, when it is first asked for.

    Args:
        scans: name to scan.
        encoders: title to encoder.
        levels: of the encoders, read together, finest first.
        known: name of a scan to title of an encoder to the token map of these levels, where there is one already.
    """

    def __init__(
        self,
        scans: Mapping[str, Scan],
        encoders: Mapping[str, nn.Module],
        levels: Levels,
        known: Mapping[str, Mapping[str, TokenMap]] | None = None,
    ):
        self.scans, self.encoders, self.levels = scans, encoders, tuple(levels)
        self._organs: dict[tuple, Tensor | None] = {}
        self._names: dict[str, dict[int, str]] = {}
        self._maps = {(scan, title, None): m for scan, of_scan in (known or {}).items() for title, m in of_scan.items()}

    def has(self, scan: str, title: str) -> bool:
        """Whether the tokens are there, or have to be made: seconds."""
        return (scan, title, None) in self._maps

    def names(self, scan: str) -> dict[int, str]:
        """Names of the organs in the label map of a scan, by label; empty if it has none that can be used."""
        if scan not in self._names:
            one = self.scans[scan]
            self._names[scan] = structure_names(one._replace(label=usable_label(one)))
        return self._names[scan]

    def organ_at(self, scan: str, voxel: Sequence[Integral]) -> str | None:
        """Name of the organ that a voxel lies in, or None."""
        label = usable_label(self.scans[scan])
        return None if label is None else self.names(scan).get(int(label[tuple(voxel)]))

    def of(self, scan: str, title: str, level: int | None = None) -> TokenMap:
        """Tokens of one level of the encoder, or of all levels joined; single levels are cut out of the joined ones.

        Raises:
            ValueError: for a level that is not among the joined ones.
        """
        if level is not None and level not in self.levels:
            raise ValueError(f"level {level} is none of the levels read: {self.levels}")
        if (scan, title, None) not in self._maps:
            one, encoder = self.scans[scan], self.encoders[title]
            how = {"affine": one.affine, "background": one.background}
            self._maps[scan, title, None] = token_features(encoder, one.volume, self.levels, **how)
        if (scan, title, level) not in self._maps:
            widths = [self.encoders[title].config.embed_dim * 2**one for one in self.levels]
            cut = level_of(self._maps[scan, title, None], widths, self.levels.index(level))
            self._maps[scan, title, level] = cut
        return self._maps[scan, title, level]

    def look(self, scan: str, title: str, level: int | None, voxel: Sequence[Integral]) -> Look:
        """What an encoder makes of a voxel of a scan, see `look`."""
        token_map, one = self.of(scan, title, level), self.scans[scan]
        key = scan, token_map.patch
        if key not in self._organs:
            label = usable_label(one)
            self._organs[key] = None if label is None else organ_grid(token_map, label)
        return look(token_map, voxel, self._organs[key], self.names(scan))


def look(
    token_map: TokenMap, voxel: Sequence[Integral], organs: Int[Tensor, "x y z"] | None, names: Mapping[int, str]
) -> Look:
    """Similarity map of a voxel's token, the Sharpe ratio of its values, and their mean by organ.

    Args:
        token_map: of the volume.
        voxel: of the volume.
        organs: the organ of each token (`features.organ_grid`), or None.
        names: of the organs.

    Raises:
        IndexError: for a voxel outside the token map.
    """
    similarity = similarity_heatmap(token_map, voxel)
    numbers = [] if organs is None else organs[organs > 0].unique().tolist()
    means = {str(names.get(n, f"label {n}")): float(similarity[organs == n].mean()) for n in numbers}
    return Look(similarity, token_map.affine, float(sharpe_ratio(similarity.flatten())), means)


def as_nifti(values: Shaped[np.ndarray, "..."] | Shaped[Tensor, "..."], affine: np.ndarray) -> nib.Nifti1Image:
    """A volume [X, Y, Z] or, in colour, [X, Y, Z, 3 or 4] of uint8 as NIfTI, its affine in sform and qform."""
    values = np.asarray(values)
    if values.ndim == 4:
        fields = np.dtype([(name, "u1") for name in "RGBA"[: values.shape[-1]]])
        values = np.ascontiguousarray(values, dtype=np.uint8).view(fields)[..., 0]
    image = nib.Nifti1Image(values, check_affine(affine))
    image.header.set_xyzt_units("mm")
    return image


def anatomy(scan: Scan) -> nib.Nifti1Image:
    """The scan for the eye: 8 bits over the window of its modality, or its 0.5 to 99.5 percentiles; axes to RAS+."""
    raw = scan.raw.numpy()
    low, high = display_window(scan.modality) or np.nanpercentile(raw[::2, ::2, ::2], (0.5, 99.5))
    grey = np.clip((raw - low) / max(high - low, 1e-9), 0, 1) * 255
    return nib.as_closest_canonical(as_nifti(np.nan_to_num(grey).astype(np.uint8), scan.affine))


def crosshair_at(voxel: Sequence[Integral], scan: Scan) -> list[float]:
    """The place of a voxel as fractions of the volume's three extents, along the axes of `anatomy`."""
    turn = nib.orientations.io_orientation(scan.affine)
    fraction = np.zeros(3)
    for (axis, sign), index, side in zip(turn, voxel, scan.raw.shape, strict=True):
        fraction[int(axis)] = (index + 0.5) / side if sign > 0 else 1 - (index + 0.5) / side
    return fraction.tolist()


def pca_colours(token_map: TokenMap, scan: Scan) -> Shaped[np.ndarray, "x y z 4"]:
    """Three principal components of the body's tokens as colours of 8 bits, clear outside the body (fig. 6)."""
    body = body_grid(scan, token_map.patch)
    fitted = fit_pca(token_map._replace(features=token_map.features[body][:, None, None]))
    colours, _ = as_colours(pca_map(token_map, 3, fitted), body)
    return (torch.cat([colours, body[..., None].float()], -1) * 255).byte().numpy()


def label_colours(label: Int[Tensor, "x y z"], outline: bool = False) -> Shaped[np.ndarray, "x y z 4"]:
    """Labels in their colours (`plots.label_colour`) of 8 bits, or their outer layer of voxels alone; else clear."""
    numbers = np.asarray(label)
    shown = numbers > 0
    if outline:
        beyond = np.pad(numbers, 1)  # background, so that what the volume's border cuts has an outline there
        inner = shown.copy()
        for axis, step in product(np.flatnonzero(np.greater(numbers.shape, 1)), (0, 2)):
            place = [slice(1, -1)] * 3
            place[axis] = slice(step, step + numbers.shape[axis])
            inner &= beyond[tuple(place)] == numbers
        shown &= ~inner
    table = np.zeros((int(numbers.max()) + 1, 4), dtype=np.uint8)
    for number in np.unique(numbers[shown]):
        table[number] = *bytes.fromhex(label_colour(int(number))[1:]), 255
    return table[np.where(shown, numbers, 0)]
