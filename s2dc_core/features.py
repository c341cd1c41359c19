"""What a pre-trained encoder sees: token maps, similarity heatmaps, organ clusters, PCA maps (section 4.3).

A token is one cell of an encoder's feature map. A token map keeps its affine beside the tokens, so that it
can be drawn over the scan it came from at the right place in millimetres.
"""

from collections.abc import Iterable, Sequence
from itertools import product
from numbers import Integral, Real
from typing import NamedTuple

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Int, Shaped
from scipy.ndimage import distance_transform_edt
from sklearn.decomposition import PCA
from sklearn.metrics import silhouette_samples
from torch import Tensor, nn

from s2dc_core.geometry import check_fits
from s2dc_core.matching import join_levels, unit_length
from s2dc_core.options import whole_numbers

LARGEST_TILE = 160
VOXELS_AT_ONCE = 2_000_000


class TokenMap(NamedTuple):
    """The tokens of one volume at one level.

    Attributes:
        features: [X, Y, Z, C] float32, on the CPU.
        patch: stride of the level, in voxels of the volume along each axis.
        affine: [4, 4] float64, token index to millimetres.
    """

    features: Tensor
    patch: tuple[int, int, int]
    affine: np.ndarray


class OrganTokens(NamedTuple):
    """The tokens that lie in labelled organs, in grid order (last axis fastest).

    Attributes:
        features: [T, C].
        organ: label of each token, [T] int64.
        kept: number of tokens of each organ in `features`.
        dropped: number of tokens of each organ that had too few.
    """

    features: Tensor
    organ: Tensor
    kept: dict[int, int]
    dropped: dict[int, int]


def check_affine(affine: Shaped[np.ndarray, "..."] | Shaped[Tensor, "..."]) -> Float[np.ndarray, "4 4"]:
    """The affine in float64.

    Raises:
        ValueError: if it is not 4 x 4 and finite, its last row is not 0 0 0 1, or its axes do not span space.
    """
    affine = np.asarray(affine, dtype=np.float64)
    if affine.shape == (4, 4) and np.isfinite(affine).all() and np.allclose(affine[3], (0, 0, 0, 1), rtol=0, atol=1e-6):
        volume, lengths = np.linalg.det(affine[:3, :3]), np.linalg.norm(affine[:3, :3], axis=0)
        if abs(volume) > 1e-6 * lengths.prod():
            return affine
    raise ValueError(
        f"the affine cannot be inverted or does not end in 0 0 0 1, set voxel sizes and orientation anew:\n{affine}"
    )


def token_affine(affine: Float[np.ndarray, "4 4"], patch: Sequence[int]) -> Float[np.ndarray, "4 4"]:
    """A @ [diag(p), (p - 1) / 2]: voxel k has its centre at k, so token a has it at a p + (p - 1) / 2."""
    to_voxel = np.diag([*patch, 1.0])
    to_voxel[:3, 3] = (np.asarray(patch) - 1) / 2
    return affine @ to_voxel


def token_features(
    encoder: nn.Module,
    volume: Float[Tensor, "..."],  # any shape, and numbers of any kind: wrong ones get an error that says what to do
    level: Real | Sequence[Real] | np.ndarray,
    sub_volume: Sequence[Real] | np.ndarray | None = None,
    affine: Shaped[np.ndarray, "4 4"] | Shaped[Tensor, "4 4"] | None = None,
    batch_size: Real | None = None,
    background: Real | None = None,
) -> TokenMap:
    """Tokens of a whole volume, encoded in tiles and laid back side by side.

    A tile's tokens depend on that tile alone, and those at its border lack the context beyond. So tiles are large
    where they may be: an encoder without v2 blocks takes up to LARGEST_TILE voxels a side at once. One with v2 blocks
    holds instance norms, whose statistics a larger volume would change, and is read in tiles of its training size.

    Args:
        encoder: gives a list of maps [B, C_k, X/s_k, Y/s_k, Z/s_k], one per level (`model`).
        volume: [C, X, Y, Z], normalised as in training. A side that is no multiple of the tile is padded at
            its far end, and the map is cropped to ceil(side / stride) tokens.
        level: output of the encoder; its stride is patch * 2^level voxels. Several, finest first, give joined tokens
            on the grid of the first (`matching.join_levels`).
        sub_volume: size of a tile in voxels; default: as said above.
        affine: of the volume, voxel index to millimetres; default: the identity.
        batch_size: tiles encoded together; it decides memory and speed, not the result. Default: about VOXELS_AT_ONCE.
        background: value of the padding; default: the minimum of each channel.

    Raises:
        ValueError: for an unknown level, a tile that the stride does not divide, a volume that is not
            [C, X, Y, Z], is smaller than one patch or holds values that are not finite, a background that is
            not finite, less than one tile together, or an affine that cannot be inverted.
    """
    levels = [level] if np.ndim(level) == 0 else level
    return token_maps(encoder, volume, [levels], sub_volume, affine, batch_size, background)[0]


def token_maps(
    encoder: nn.Module,
    volume: Float[Tensor, "..."],
    groups: Sequence[Sequence[Real] | np.ndarray],
    sub_volume: Sequence[Real] | np.ndarray | None = None,
    affine: Shaped[np.ndarray, "4 4"] | Shaped[Tensor, "4 4"] | None = None,
    batch_size: Real | None = None,
    background: Real | None = None,
) -> list[TokenMap]:
    """Several token maps of a volume for one pass through the encoder, in tiles that all their levels divide.

    Args:
        groups: of each map its levels, finest first, as token_features takes them.

    The rest, and what is raised, as for token_features.
    """
    groups = [whole_numbers("level", levels) for levels in groups]
    strides, tile = _strides_and_tile(encoder, groups, sub_volume, volume.shape[1:])
    for stride in strides:
        _check_volume(volume, stride)
    batch_size = max(1, VOXELS_AT_ONCE // int(np.prod(tile))) if batch_size is None else batch_size
    (batch_size,) = whole_numbers("batch_size", [batch_size])
    if batch_size < 1:
        raise ValueError(f"batch_size {batch_size}: at least one tile is encoded at a time, give 1 or more")
    if background is not None and not np.isfinite(background):
        raise ValueError(f"background {background} is not finite: give the normalised value of air")
    padded = _pad_to_tiles(volume, tile, background)
    corners = list(product(*map(range, (0, 0, 0), padded.shape[1:], tile)))
    tokens: list = [None] * len(groups)
    for start in range(0, len(corners), batch_size):
        batch = corners[start : start + batch_size]
        found = _encode(encoder, torch.stack([padded[(..., *_box(c, tile))] for c in batch]), groups)
        for number, (maps, stride) in enumerate(zip(found, strides, strict=True)):
            if tokens[number] is None:  # the number of channels is known only now
                tokens[number] = torch.empty(*np.floor_divide(padded.shape[1:], stride).tolist(), maps.shape[-1])
            for corner, piece in zip(batch, maps, strict=True):
                tokens[number][_box(np.floor_divide(corner, stride), piece.shape[:3])] = piece
    affine = np.eye(4) if affine is None else check_affine(affine)
    return [
        TokenMap(_cropped(each, volume.shape[1:], stride), stride, token_affine(affine, stride))
        for each, stride in zip(tokens, strides, strict=True)
    ]


def _cropped(tokens: Tensor, shape: Sequence[int], stride: Sequence[int]) -> Tensor:
    return tokens[_box((0, 0, 0), [-(-side // s) for side, s in zip(shape, stride, strict=True)])].contiguous()


def _strides_and_tile(
    encoder: nn.Module, groups: Sequence[Sequence[int]], sub_volume: Sequence[Real] | np.ndarray | None, shape: Sequence
) -> tuple[list[tuple], tuple]:
    for levels in groups:
        if not levels or list(levels) != sorted(set(levels)):
            raise ValueError(f"give one level, or several from fine to coarse, such as (1, 2, 3); got {tuple(levels)}")
    every = sorted({level for levels in groups for level in levels})
    strides = {level: encoder.stride(level) for level in every}
    if sub_volume is None and not getattr(encoder.config, "use_v2", True) and len(shape) == 3 and all(shape):
        # As many tiles along an axis as needed, of equal size, so that little is padded.
        parts = [-(-side // LARGEST_TILE) for side in shape]
        coarsest = strides[every[-1]]
        sub_volume = [-(-side // (n * s)) * s for side, n, s in zip(shape, parts, coarsest, strict=True)]
    tile = whole_numbers("sub_volume", encoder.config.sub_volume if sub_volume is None else sub_volume)
    for level, stride in strides.items():
        if len(tile) != 3 or any(t < s or t % s for t, s in zip(tile, stride, strict=True)):
            raise ValueError(f"sub_volume {tile} is not made of whole tokens: level {level} has stride {stride}")
    return [strides[levels[0]] for levels in groups], tile


def _check_volume(volume: Tensor, patch: Sequence[int]) -> None:
    if volume.ndim != 4 or 0 in volume.shape:
        raise ValueError(f"a volume is [C, X, Y, Z], got {tuple(volume.shape)}: is the channel axis missing?")
    check_fits(volume.shape[1:], [patch])
    if count := int((~torch.isfinite(volume)).sum()):
        raise ValueError(f"{count} voxels of the volume are NaN or infinite: put its background value there")


def _pad_to_tiles(volume: Tensor, tile: Sequence[int], background: Real | None) -> Tensor:
    """Pad the far end of each axis up to the next multiple of the tile."""
    sides = [-(-side // t) * t for side, t in zip(volume.shape[1:], tile, strict=True)]
    fill = volume.amin(dim=(1, 2, 3)) if background is None else volume.new_full((len(volume),), background)
    padded = fill[:, None, None, None].expand(-1, *sides).clone()
    padded[(..., *_box((0, 0, 0), volume.shape[1:]))] = volume
    return padded


def _box(corner: Iterable, size: Iterable) -> tuple[slice, ...]:
    return tuple(slice(int(c), int(c) + int(s)) for c, s in zip(corner, size, strict=True))


def _encode(encoder: nn.Module, tiles: Tensor, groups: Sequence[Sequence[int]]) -> list[Tensor]:
    """The maps of a batch of tiles, each of one level or of several joined: [B, x, y, z, C] float32 on the CPU."""
    weight = next(encoder.parameters(), tiles)
    flags = [(part, part.training) for part in encoder.modules()]
    encoder.eval()
    try:
        with torch.inference_mode():
            maps = encoder(tiles.to(weight.device, weight.dtype))
            every = {level: maps[level].float().cpu().movedim(1, -1) for levels in groups for level in levels}
            chosen = [[every[level] for level in levels] for levels in groups]
            return [each[0] if len(each) == 1 else join_levels(each) for each in chosen]
    finally:
        # Part by part: some may be frozen in evaluation mode on purpose, and train() would wake them.
        for part, training in flags:
            part.training = training


def similarity_heatmap(token_map: TokenMap, voxel: Sequence[Integral] | np.ndarray) -> Float[Tensor, "x y z"]:
    """Cosine of the token that contains a voxel of the volume with every token, in [-1, 1] (fig. 1B).

    A token of length zero has cosine 0 with all. Raises IndexError if the voxel lies outside the token map.
    """
    covered = [g * p for g, p in zip(token_map.features.shape[:3], token_map.patch, strict=True)]
    if len(voxel) != 3 or any(not 0 <= v < side for v, side in zip(voxel, covered, strict=True)):
        ranges = ", ".join(f"0..{side - 1}" for side in covered)
        raise IndexError(f"voxel {tuple(voxel)} lies outside the token map, which covers voxels ({ranges})")
    unit = unit_length(token_map.features)
    anchor = unit[tuple(int(v) // p for v, p in zip(voxel, token_map.patch, strict=True))]
    return (unit @ anchor).clamp(-1, 1)


def organ_grid(
    token_map: TokenMap, label: Shaped[np.ndarray, "..."] | Shaped[Tensor, "..."], purity: Real = 0.5
) -> Int[Tensor, "x y z"]:
    """The organ that each token belongs to: the one that fills most of its voxels, at least the share `purity`, or 0.

    Of two organs with equal shares the lower label gets the token. Voxels of a token beyond the volume's border count
    as background.

    Args:
        token_map: of a volume.
        label: [X, Y, Z] whole numbers on the volume's grid, 0 for background.
        purity: in (0, 1].

    Raises:
        ValueError: for a label map on another grid, with negative or fractional values, or without any organ.
    """
    if not 0 < purity <= 1:
        raise ValueError(f"purity {purity} is not a share in (0, 1]")
    label, grid, patch = np.asarray(label), tuple(token_map.features.shape[:3]), token_map.patch
    if label.ndim != 3 or any(-(-s // p) != g for s, p, g in zip(label.shape, patch, grid, strict=True)):
        expected = f"{grid} tokens of {patch} voxels, the grid of the encoded volume"
        raise ValueError(f"a label map of {label.shape} voxels does not lie on {expected}")
    if not (np.isfinite(label) & (label >= 0) & (label == np.round(label))).all():
        raise ValueError("labels must be whole numbers from 0 (background) up")
    values = np.union1d(label, 0)
    if len(values) == 1:
        raise ValueError("the label map holds background only: there is no organ to take tokens from")

    border = [(0, g * p - s) for g, p, s in zip(grid, patch, label.shape, strict=True)]
    place, owner = np.searchsorted(values, np.pad(label, border)), np.empty(grid, dtype=np.int64)
    for part, owners in zip(np.split(place, grid[0]), owner, strict=True):  # all at once could be some GB of counts
        cells = rearrange(part, "x (b y) (c z) -> (b c) (x y z)", y=patch[1], z=patch[2])
        keys = cells + len(values) * np.arange(len(cells))[:, None]
        filled = np.bincount(keys.ravel(), minlength=len(values) * len(cells)).reshape(len(cells), -1)[:, 1:]
        # argmax takes the first of the largest, which is the lower label.
        owners.flat = np.where(filled.max(1) >= purity * np.prod(patch), values[1 + filled.argmax(1)], 0)
    return torch.from_numpy(owner)


def organ_tokens(
    token_map: TokenMap,
    label: Shaped[np.ndarray, "..."] | Shaped[Tensor, "..."],
    purity: Real = 0.5,
    minimum: Integral = 5,
) -> OrganTokens:
    """The tokens of the organs that have at least `minimum`; the others, or those with none, are in `dropped`.

    Args and errors as for `organ_grid`.
    """
    owner = organ_grid(token_map, label, purity)
    organs = np.unique(np.asarray(label)[np.asarray(label) > 0]).astype(int).tolist()
    counts = {organ: int((owner == organ).sum()) for organ in organs}
    kept = {organ: count for organ, count in counts.items() if count >= minimum}
    dropped = {organ: count for organ, count in counts.items() if count < minimum}
    chosen = torch.isin(owner, torch.tensor(list(kept), dtype=torch.long))
    return OrganTokens(token_map.features[chosen], owner[chosen], kept, dropped)


def deepest_voxel(
    label: Shaped[np.ndarray, "x y z"] | Shaped[Tensor, "x y z"], organ: Integral, spacing: Sequence[Real] = (1, 1, 1)
) -> tuple[int, int, int]:
    """The voxel of an organ that lies furthest, in mm, from its surface: a fair place for an anchor.

    Raises:
        ValueError: if no voxel carries the label.
    """
    mask = np.asarray(label) == organ
    if not mask.any():
        raise ValueError(f"no voxel carries the label {organ}: there are {np.unique(np.asarray(label)).tolist()}")
    depth = distance_transform_edt(np.pad(mask, 1), sampling=spacing)[1:-1, 1:-1, 1:-1]
    return tuple(int(i) for i in np.unravel_index(depth.argmax(), mask.shape))


def inside_outside(
    similarity: Float[Tensor, "x y z"], organs: Int[Tensor, "x y z"], organ: Integral
) -> tuple[float, float]:
    """Mean of a similarity heatmap over the tokens of an organ, and over those of all other organs; NaN without any.

    Args:
        similarity: of similarity_heatmap.
        organs: of organ_grid.
        organ: label of the anchor's organ.
    """
    inside, outside = similarity[organs == organ], similarity[(organs != organ) & (organs > 0)]
    return float(inside.mean()), float(outside.mean())


def structure_means(
    similarity: Float[Tensor, "x y z"], structures: Int[Tensor, "x y z"], minimum: int = 1
) -> dict[int, float]:
    """Mean of a similarity heatmap over the tokens of each structure by its label, the most similar one first.

    The first that is not the anchor's own is its rival: what a reader of the heatmap may take for it.

    Args:
        similarity: of similarity_heatmap.
        structures: of organ_grid; 0 belongs to none.
        minimum: tokens that a structure must have.
    """
    held = {int(label): similarity[structures == label] for label in structures.unique() if label > 0}
    means = {label: float(values.mean()) for label, values in held.items() if len(values) >= minimum}
    return dict(sorted(means.items(), key=lambda entry: -entry[1]))


def organ_silhouettes(features: Float[Tensor, "t c"], organ: Int[Tensor, " t"]) -> dict[int, float]:
    """Mean cosine silhouette of each organ's tokens, in [-1, 1] (Rousseeuw 1987; fig. 5).

    For a token, a is its mean cosine distance to the others of its organ and b that to the nearest other
    organ: (b - a) / max(a, b); 0 for the only token of an organ. Measured on the features themselves:
    distances in a t-SNE depend on its perplexity and seed.

    Raises:
        ValueError: for fewer than two organs, or if no organ has two tokens.
    """
    labels, counts = np.unique(organ.cpu().numpy(), return_counts=True)
    if len(labels) < 2 or counts.max() < 2:
        raise ValueError(f"a silhouette needs two organs, one of two tokens: got labels {labels.tolist()}")
    samples = silhouette_samples(features.detach().double().cpu().numpy(), organ.cpu().numpy(), metric="cosine")
    return {int(label): float(samples[organ.cpu().numpy() == label].mean()) for label in labels}


def structure_silhouette(features: Float[Tensor, "t c"], organ: Int[Tensor, " t"]) -> float:
    """Mean over organs of `organ_silhouettes`: an adrenal gland counts as much as the liver."""
    return float(np.mean(list(organ_silhouettes(features, organ).values())))


def fit_pca(token_maps: TokenMap | Iterable[TokenMap], components: Real = 3) -> PCA:
    """Principal axes of the tokens of one map, or of several taken together (figs. 6-7).

    Deterministic: no random solver, and each axis points to where its largest loading is positive. Raises
    ValueError for one token, which varies along no axis, for more components than tokens or channels, or for maps with
    different numbers of channels.
    """
    maps = [token_maps] if isinstance(token_maps, TokenMap) else list(token_maps)
    widths = sorted({token_map.features.shape[-1] for token_map in maps})
    if len(widths) != 1:
        raise ValueError(f"PCA needs token maps with one number of channels, got {widths}")
    tokens = np.concatenate([_token_rows(token_map) for token_map in maps])
    (components,) = whole_numbers("components", [components], 1)
    if len(tokens) < 2:
        raise ValueError(f"PCA needs two tokens at least, got {len(tokens)}: take a finer level or a larger volume")
    if components > min(tokens.shape):
        raise ValueError(f"no {components} components in {len(tokens)} tokens of {widths[0]} channels")
    fitted = PCA(components, svd_solver="covariance_eigh").fit(tokens)
    strongest = np.abs(fitted.components_).argmax(axis=1)
    fitted.components_ *= np.sign(fitted.components_[np.arange(components), strongest])[:, None]
    return fitted


def pca_map(token_map: TokenMap, components: Real = 3, fitted: PCA | None = None) -> Float[Tensor, "x y z k"]:
    """The tokens on their first principal axes, in units of the features.

    Give maps that are to be compared one `fitted` (from `fit_pca`): with a basis each, colours would flip
    between two steps of one training. Raises ValueError if it has too few components or other channels.
    """
    fitted = fitted or fit_pca(token_map, components)
    axes, channels = fitted.components_.shape
    if components > axes or token_map.features.shape[-1] != channels:
        wanted = f"{components} components of {token_map.features.shape[-1]} channels"
        raise ValueError(f"a PCA of {axes} components of {channels} channels cannot give {wanted}")
    projected = fitted.transform(_token_rows(token_map))[:, :components]
    return torch.from_numpy(projected).float().unflatten(0, token_map.features.shape[:3])


def _token_rows(token_map: TokenMap) -> Float[np.ndarray, "t c"]:
    return token_map.features.detach().flatten(0, 2).double().cpu().numpy()
