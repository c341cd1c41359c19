"""What needs no encoder and must be beaten: raw patches, place alone, organ centroids, registration of the images."""

from collections.abc import Sequence
from numbers import Real

import numpy as np
import SimpleITK as sitk
import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from s2dc_core.data import Scan
from s2dc_core.evaluation.alignment import Alignment
from s2dc_core.evaluation.correspondence import chosen, token_centres
from s2dc_core.evaluation.one_shot import in_box
from s2dc_core.features import TokenMap, organ_grid, token_affine

TRANSFORMS = ("affine", "bspline")

MESH_MM = 60.0
"""Distance of the control points of the B-spline, mm."""


def patch_map(
    volume: Float[Tensor, "c x y z"],
    patch: Sequence[int],
    affine: Float[np.ndarray, "4 4"] | None = None,
    background: Real | None = None,
) -> TokenMap:
    """The voxels of each patch as its features: tokens without an encoder, to be compared by metric "euclidean".

    Args:
        volume: normalised, as an encoder gets it.
        patch: sides of a token in voxels; a side that it does not divide is padded at its far end.
        affine: of the volume; default: the identity.
        background: value of the padding; default: the minimum.
    """
    grid = [-(-side // p) for side, p in zip(volume.shape[1:], patch, strict=True)]
    missing = [g * p - side for g, p, side in zip(grid, patch, volume.shape[1:], strict=True)]
    fill = float(volume.min() if background is None else background)
    padded = torch.nn.functional.pad(volume, [end for gap in missing[::-1] for end in (0, gap)], value=fill)
    sides = dict(zip(("i", "j", "k"), patch, strict=True))
    features = rearrange(padded, "n (a i) (b j) (c k) -> a b c (n i j k)", **sides).contiguous().float()
    return TokenMap(features, tuple(patch), token_affine(np.eye(4) if affine is None else affine, patch))


def place_map(tokens: TokenMap, inside: Bool[Tensor, "x y z"] | None = None) -> TokenMap:
    """Each token's place in the body's box as its only features, for metric "euclidean"; see one_shot.in_box."""
    _, index = chosen(tokens, inside)
    features = torch.zeros(*tokens.features.shape[:3], 3)
    features.view(-1, 3)[index] = torch.from_numpy(in_box(token_centres(tokens)[index.numpy()])).float()
    return tokens._replace(features=features)


def centroid_labels(
    tokens: TokenMap,
    label: Shaped[Tensor, "..."] | Shaped[np.ndarray, "..."],
    body: Bool[Tensor, "x y z"] | None,
    target: TokenMap,
    inside: Bool[Tensor, "a b c"] | None = None,
) -> Int[Tensor, "a b c"]:
    """Labels from the organs' centroids alone: a token belongs to the organ in whose ball it lies.

    An organ's ball is about its centroid in the body's box, as large as the organ; of several balls the one counts in
    which the token lies deepest, as a share of the radius.
    """
    _, index = chosen(tokens, body)
    sides = np.ptp(token_centres(tokens)[index.numpy()], axis=0)
    owner = organ_grid(tokens, label).flatten()[index].numpy()
    places = in_box(token_centres(tokens)[index.numpy()]) * sides
    organs = np.unique(owner[owner > 0])
    cell = abs(np.linalg.det(tokens.affine[:3, :3]))
    radii = [(3 * cell * (owner == organ).sum() / (4 * np.pi)) ** (1 / 3) for organ in organs]
    _, asked = chosen(target, inside)
    found = torch.zeros(int(np.prod(target.features.shape[:3])), dtype=torch.long)
    if not len(organs):  # none fills a token of the body
        return found.unflatten(0, target.features.shape[:3])
    here = in_box(token_centres(target)[asked.numpy()]) * sides
    deep = np.stack(
        [
            np.linalg.norm(here - places[owner == organ].mean(0), axis=1) / r
            for organ, r in zip(organs, radii, strict=True)
        ]
    )
    found[asked] = torch.from_numpy(np.where(deep.min(0) < 1, organs[deep.argmin(0)], 0))
    return found.unflatten(0, target.features.shape[:3])


def register(
    source: Scan, target: Scan, kind: str = "affine", starts_mm: Sequence[Real] = (0,), seed: int = 1
) -> Alignment:
    """The images registered by mutual information (Mattes), on every fourth and then every second voxel.

    Args:
        source, target: labelled and unlabelled scan; the target stays where it is.
        kind: "affine", or "bspline" for an affine and then control points MESH_MM apart.
        starts_mm: shifts along z, about laying the centres of both volumes over each other, that the affine is started
            from; the best metric wins. A careful user tries several where one scan shows half of the other.
        seed: of the voxels that are sampled.

    Returns:
        What takes target mm to source mm: an affine of 1 and the displacement of each target voxel.

    Raises:
        ValueError: for another kind, or a scan of fewer than four voxels along a side.
        RuntimeError: of SimpleITK, if no start overlaps.
    """
    if kind not in TRANSFORMS:
        raise ValueError(f"kind {kind!r}: give {' or '.join(TRANSFORMS)}")
    for scan in (source, target):
        if min(scan.raw.shape) < 4:
            raise ValueError(f"{scan.name} has {min(scan.raw.shape)} voxels along a side: a registration needs four")
    fixed, moving = _image(target), _image(source)
    found, reason = [], None
    for start in starts_mm:
        first = sitk.CenteredTransformInitializer(
            fixed, moving, sitk.AffineTransform(3), sitk.CenteredTransformInitializerFilter.GEOMETRY
        )
        affine = sitk.AffineTransform(first)
        affine.SetTranslation((np.array(affine.GetTranslation()) + (0, 0, float(start))).tolist())
        method = _method(seed)
        method.SetOptimizerAsRegularStepGradientDescent(2.0, 1e-3, 150, 0.6)
        method.SetOptimizerScalesFromPhysicalShift()
        method.SetInitialTransform(affine, inPlace=True)
        try:
            method.Execute(fixed, moving)
        except RuntimeError as error:
            reason = error  # as a rule this start leaves no overlap
            continue
        found.append((method.GetMetricValue(), affine))
    if not found:
        said = f"{source.name} and {target.name} cannot be registered from any start of {tuple(starts_mm)} mm"
        raise RuntimeError(said) from reason
    _, affine = min(found, key=lambda each: each[0])
    if kind == "affine":
        return _as_alignment(affine, target)
    mesh = [max(1, round(n * s / MESH_MM)) for n, s in zip(fixed.GetSize(), fixed.GetSpacing(), strict=True)]
    spline = sitk.BSplineTransformInitializer(fixed, mesh)
    method = _method(seed)
    method.SetOptimizerAsLBFGSB(numberOfIterations=30)
    method.SetMovingInitialTransform(affine)
    method.SetInitialTransform(spline, inPlace=True)
    method.Execute(fixed, moving)
    return _as_alignment(sitk.CompositeTransform([affine, spline]), target)


def _as_alignment(transform: sitk.Transform, target: Scan) -> Alignment:
    field = sitk.TransformToDisplacementField(transform, sitk.sitkVectorFloat64, *_grid(target))
    bend = sitk.GetArrayFromImage(field).transpose(2, 1, 0, 3) * (-1, -1, 1)
    return Alignment(np.eye(4), np.zeros(0, bool), float("nan"), bend, target.affine)


def starts_along(source: Scan, target: Scan) -> tuple[float, float, float]:
    """Shifts along z from which a careful user starts a registration, mm: none, a quarter of the height each way."""
    height = max(scan.raw.shape[2] * scan.spacing[2] for scan in (source, target))
    return 0.0, -height / 4, height / 4


def _method(seed: int) -> sitk.ImageRegistrationMethod:
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(32)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(0.1, seed)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetShrinkFactorsPerLevel([4, 2])
    method.SetSmoothingSigmasPerLevel([2, 1])
    return method


def _image(scan: Scan) -> sitk.Image:
    """The normalised volume as SimpleITK has it, in LPS."""
    image = sitk.GetImageFromArray(scan.volume[0].numpy().transpose(2, 1, 0))
    _, origin, spacing, direction = _grid(scan)
    image.SetOrigin(origin)
    image.SetSpacing(spacing)
    image.SetDirection(direction)
    return image


def _grid(scan: Scan) -> tuple[list, list, list, list]:
    """Size, origin, spacing and direction of a scan's grid, in LPS."""
    to_lps = np.diag([-1.0, -1.0, 1.0])
    sides = np.linalg.norm(scan.affine[:3, :3], axis=0)
    direction = (to_lps @ (scan.affine[:3, :3] / sides)).ravel().tolist()
    return list(scan.raw.shape), (to_lps @ scan.affine[:3, 3]).tolist(), sides.tolist(), direction
