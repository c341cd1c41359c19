"""Token maps for others: with fewer channels that keep the cosines, and in files with their place in space.

A token map in a file is one of two kinds:

- .safetensors: `features` [X, Y, Z, C] float32 and `affine` [4, 4] float64 (token index to mm, RAS+); of a reduced map
  `basis` [channels before, C]; in the header, under s2dc_tokens, JSON with the patch and what the writer noted.
- .nii, .nii.gz: four axes, the channels last, with the tokens' affine; the same JSON is a comment of the header.
"""

import json
import os
from collections.abc import Mapping
from numbers import Real
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from s2dc_core.features import TokenMap, check_affine
from s2dc_core.matching import unit_length
from s2dc_core.options import whole_numbers

NOTE = "s2dc_tokens"
"""In the header of a safetensors file: patch, and what `save_tokens` was told, as JSON."""

SUFFIXES = (".safetensors", ".nii.gz", ".nii")


def reduce_tokens(token_map: TokenMap, components: Real) -> tuple[TokenMap, Float[Tensor, "c k"]]:
    """Tokens on the few axes that keep their cosines best, and these axes.

    The axes are the leading right singular vectors of the tokens, brought to length 1 and NOT centred: of all maps of
    that rank their projection keeps the dot products of unit tokens best, by the sum of squares. A centred PCA keeps
    distances from the mean, and without the mean cosines are others.

    Args:
        token_map: of C channels.
        components: number of axes K, 1 to C.

    Returns:
        The map with features [X, Y, Z, K], the unit tokens times the basis: a token's squared length, at most 1, is the
        share of it that is kept. And the basis [C, K] float32, orthonormal, the strongest axis first, each pointing to
        where its largest loading is positive.

    Raises:
        ValueError: for fewer components than one or more than channels, for tokens that are not finite, or for tokens
            that are all of length zero.
    """
    features, channels = token_map.features.detach().float().cpu(), token_map.features.shape[-1]
    (components,) = whole_numbers("components", [components])
    if not 1 <= components <= channels:
        raise ValueError(f"tokens of {channels} channels cannot be reduced to {components}: give 1 to {channels}")
    if not torch.isfinite(features).all():
        raise ValueError("some tokens are NaN or infinite: look at the scan and the weights that gave them")
    unit = unit_length(features).flatten(0, 2)
    gram = torch.zeros(channels, channels, dtype=torch.float64)
    for part in unit.split(2**16):  # in float64 all at once could be some GB
        gram += part.double().T @ part.double()
    if not gram.any():
        raise ValueError("all tokens are of length zero: there is no direction to keep")
    axes = torch.linalg.eigh(gram).eigenvectors.flip(1)[:, :components]
    strongest = axes.gather(0, axes.abs().argmax(0, keepdim=True))
    basis = (axes * strongest.sign()).float().contiguous()
    reduced = (unit @ basis).unflatten(0, features.shape[:3])
    return token_map._replace(features=reduced), basis


def share_kept(reduced: TokenMap) -> float:
    """Mean of the tokens' squared lengths after `reduce_tokens`, in [0, 1]; tokens of length zero are left out."""
    squared = reduced.features.double().square().sum(-1)
    return float(squared[squared > 0].mean())


def cosine_error(one: TokenMap, other: TokenMap, sample: int = 1000, seed: int = 0) -> tuple[float, float]:
    """How far the cosines of two tokens differ between two maps: mean and largest, over all pairs of a random sample.

    Args:
        one, other: of the same tokens, whatever their channels.
        sample: tokens that are drawn, or all if there are no more.

    Raises:
        ValueError: for maps on different grids.
    """
    if one.features.shape[:3] != other.features.shape[:3]:
        grids = " and ".join(str(tuple(each.features.shape[:3])) for each in (one, other))
        raise ValueError(f"maps of {grids} tokens do not hold the same tokens")
    count = one.features[..., 0].numel()
    drawn = torch.randperm(count, generator=torch.Generator().manual_seed(seed))[:sample]
    units = [unit_length(each.features.detach().flatten(0, 2)[drawn].double()) for each in (one, other)]
    cosines = [unit @ unit.T for unit in units]
    apart = (cosines[0] - cosines[1]).abs()
    return float(apart.mean()), float(apart.max())


def check_target(file: str | Path) -> Path:
    """Where a token map may be written.

    Raises:
        ValueError: for a name that ends otherwise than SUFFIXES.
        FileNotFoundError: if the folder does not exist, or the name is that of a folder.
    """
    file = Path(file)
    if not file.name.lower().endswith(SUFFIXES):
        raise ValueError(f"cannot write {file}: token maps are files that end in {', '.join(SUFFIXES)}")
    if file.is_dir() or not file.parent.is_dir():
        raise FileNotFoundError(f"cannot write {file}: give the name of a file in a folder that exists")
    return file


def save_tokens(
    token_map: TokenMap,
    file: str | Path,
    note: Mapping[str, Any] | None = None,
    basis: Float[Tensor, "c k"] | None = None,
) -> None:
    """Write a token map, by the name's suffix as safetensors or NIfTI; a file of that name is replaced whole.

    Args:
        token_map: features [X, Y, Z, C], kept as float32, and their affine in mm. NIfTI keeps the affine in float32, as
            its sform, and as its qform too unless the axes are sheared.
        file: ends as one of SUFFIXES, in a folder that exists.
        note: plain values to keep with it: weights, levels, how the scan was prepared.
        basis: of `reduce_tokens`; NIfTI has no place for it.

    Raises:
        ValueError: for another suffix, an affine that cannot be inverted, or a note that JSON cannot hold.
        FileNotFoundError: for a folder that does not exist.
    """
    file = check_target(file)
    features = token_map.features.detach().float().cpu().contiguous()
    affine = check_affine(token_map.affine)
    try:
        said = json.dumps({"patch": list(map(int, token_map.patch)), **(note or {})}, allow_nan=False)
    except TypeError as error:
        raise ValueError(f"the note of {file} is not made of plain values: {error}") from error
    ending = next(end for end in SUFFIXES if file.name.lower().endswith(end))
    beside = file.with_name(f".{file.name}.part{ending}")  # nibabel goes by the suffix
    try:
        if ending == ".safetensors":
            tensors = {"features": features, "affine": torch.from_numpy(affine.copy())}
            tensors |= {} if basis is None else {"basis": basis.detach().float().cpu().contiguous()}
            # Not save_file, which lets nobody but its owner read the file, whatever the folder's rules are.
            beside.write_bytes(save(tensors, metadata={NOTE: said}))
        else:
            nib.save(_as_nifti(features, affine, said), beside)
        os.replace(beside, file)
    finally:
        beside.unlink(missing_ok=True)


def load_tokens(file: str | Path) -> TokenMap:
    """A token map that `save_tokens` wrote as safetensors; of a reduced one the reduced features.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: naming the file, if it is damaged or holds no token map.
    """
    file = Path(file)
    if not file.is_file():
        raise FileNotFoundError(f"there is no token map {file}")
    try:
        with safe_open(file, framework="pt") as archive:
            header = archive.metadata() or {}
            found = {name: archive.get_tensor(name) for name in archive.keys()}  # noqa: SIM118
        features, affine = found["features"], check_affine(found["affine"])
        patch = tuple(map(int, json.loads(header[NOTE])["patch"]))
    except SafetensorError as error:
        raise ValueError(f"{file} is no safetensors file, or a damaged one ({error})") from error
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{file} holds no token map as save_tokens writes it ({error})") from error
    if features.ndim != 4 or len(patch) != 3:
        raise ValueError(f"{file} holds no token map: features {tuple(features.shape)}, patch {patch}")
    return TokenMap(features.float(), patch, affine)


def _as_nifti(features: Float[Tensor, "x y z c"], affine: Float[np.ndarray, "4 4"], said: str) -> nib.Nifti1Image:
    image = nib.Nifti1Image(features.numpy(), affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1, strip_shears=True)
    reach = max(features.shape[:3]) * np.abs(affine[:3, :3]).max()
    if not np.allclose(image.get_qform(), affine, rtol=0, atol=1e-5 * max(reach, np.abs(affine[:3, 3]).max())):
        image.set_qform(None, code=0)  # a rotation and voxel sizes cannot say what a sheared grid is
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", said.encode()))
    return image
