"""Labels of one or several patients carried to another one, without training: token by token, or by an alignment."""

import warnings
from collections.abc import Callable, Iterable, Sequence
from numbers import Integral, Real
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from scipy.ndimage import map_coordinates
from torch import Tensor

from s2dc_core.evaluation.alignment import FEWEST, WEIGHT, Alignment, align_matches
from s2dc_core.evaluation.correspondence import (
    check_comparable,
    chosen,
    find_best,
    lifted,
    lifted_places,
    match_tokens,
    token_centres,
    token_sides,
)
from s2dc_core.features import TokenMap, organ_grid
from s2dc_core.options import whole_numbers


class Reference(NamedTuple):
    """A labelled scan.

    Attributes:
        tokens: its token map.
        label: [X, Y, Z] of its voxels, 0 for background.
        body: [A, B, C] bool, the tokens that take part, see body_tokens; None for all.
    """

    tokens: TokenMap
    label: Shaped[Tensor, "..."] | Shaped[np.ndarray, "..."]
    body: Tensor | None = None


class LabelScores(NamedTuple):
    """How much speaks for each label at each token.

    Attributes:
        scores: [X, Y, Z, L], shares that sum to 1.
        labels: the L labels, 0 for background first.
    """

    scores: Tensor
    labels: tuple[int, ...]

    def tokens(self) -> Int[Tensor, "x y z"]:
        """The label of every token; of equal shares the lower one."""
        return torch.tensor(self.labels)[self.scores.argmax(-1)]

    def voxels(self, patch: Sequence[int], shape: Sequence[int]) -> Int[Tensor, "i j k"]:
        """The label of every voxel: the scores are interpolated between the tokens' centres, not the labels.

        Args:
            patch: of the token map.
            shape: of the volume.

        Raises:
            ValueError: for a shape that the tokens do not cover just.
        """
        grid = tuple(self.scores.shape[:3])
        if any(-(-side // p) != g for side, p, g in zip(shape, patch, grid, strict=True)):
            raise ValueError(f"{tuple(shape)} voxels do not lie under {grid} tokens of {tuple(patch)} voxels")
        spread = torch.nn.functional.interpolate(
            self.scores.movedim(-1, 0)[None], scale_factor=tuple(map(float, patch)), mode="trilinear"
        )
        inside = spread[(0, slice(None), *(slice(side) for side in shape))]
        return torch.tensor(self.labels)[inside.argmax(0)]


def transfer_labels(
    labelled: Iterable[Sequence],
    target: TokenMap,
    *,
    neighbours: Integral = 1,
    align: bool = False,
    place: Real | None = None,
    inside: Bool[Tensor, "x y z"] | None = None,
    metric: str = "cosine",
    weight: Real = WEIGHT,
) -> Int[Tensor, "x y z"]:
    """The label of every token of a scan without labels: that of the most similar token of the labelled scans.

    Args:
        labelled: one or several (TokenMap, label) or (TokenMap, label, body), see Reference. Background takes part: a
            token that looks like none of the organs gets 0.
        target: made with the same encoder and levels.
        neighbours: tokens that vote, each with its cosine (with metric "euclidean" alike).
        align: bring each labelled scan over the target by their own mutual matches first, and take `weight` times the
            squared distance in tokens off the score.
        place: what the squared distance of two places, each relative to its body's box (0 to 1 along each axis), takes
            off the score; None for nothing. The box is that of the tokens that take part.
        inside: tokens of the target that take part; the others get 0.
        metric, weight: see match_tokens and alignment.WEIGHT.

    Raises:
        ValueError: without a labelled scan, for a label map on another grid or without organs, fewer than one
            neighbour, a negative place or weight, both place and align, and as match_tokens.

    Warns:
        UserWarning: where too few matches agree for an alignment; that scan is then used as without one.
    """
    return label_scores(
        labelled,
        target,
        neighbours=neighbours,
        align=align,
        place=place,
        inside=inside,
        metric=metric,
        weight=weight,
    ).tokens()


def label_scores(
    labelled: Iterable[Sequence],
    target: TokenMap,
    *,
    neighbours: Integral = 1,
    align: bool = False,
    place: Real | None = None,
    inside: Bool[Tensor, "x y z"] | None = None,
    metric: str = "cosine",
    weight: Real = WEIGHT,
) -> LabelScores:
    """What transfer_labels decides by: the share of the votes that each label has; see there."""
    references = [Reference(*entry) for entry in labelled]
    (neighbours,) = whole_numbers("neighbours", [neighbours], 1)
    if not references:
        raise ValueError("no labelled scan: give at least one (token map, label)")
    if align and place is not None:
        raise ValueError("give place or align, not both: an alignment says where things are")
    if min(weight, place or 0) < 0:
        raise ValueError(f"place {place} and weight {weight} must not be negative")
    queries, index = chosen(target, inside)
    votes = []
    for number, reference in enumerate(references):
        alignment = _aligned(reference, target, inside, metric, number) if align else None
        votes.append(_votes(reference, target, (queries, index), neighbours, metric, place, alignment, weight))
    score, share, owner = (torch.cat(parts, 1) for parts in zip(*votes, strict=True))
    best = score.topk(min(neighbours, score.shape[1])).indices
    share, owner = share.gather(1, best), owner.gather(1, best)
    labels = tuple(sorted({0, *owner.unique().tolist()}))
    counted = torch.zeros(len(index), len(labels)).scatter_add_(
        1, torch.searchsorted(torch.tensor(labels), owner), share
    )
    grid = target.features.shape[:3]
    scores = torch.zeros(int(np.prod(grid)), len(labels))
    scores[:, 0] = 1
    scores[index] = counted / counted.sum(1, keepdim=True)
    return LabelScores(scores.unflatten(0, grid), labels)


def _votes(
    reference: Reference,
    target: TokenMap,
    asked: tuple[Tensor, Tensor],
    neighbours: int,
    metric: str,
    place: Real | None,
    alignment: Alignment | None,
    weight: Real,
) -> tuple[Tensor, Tensor, Tensor]:
    """Of one labelled scan, for each asking token [Q, K]: score, weight of the vote, and label."""
    check_comparable(reference.tokens, target, metric)
    owner = organ_grid(reference.tokens, reference.label).flatten()
    keys, of_keys = chosen(reference.tokens, reference.body)
    plain = asks, lies = lifted(asked[0], keys, metric)
    if alignment is not None or place is not None:
        there = token_centres(reference.tokens)[of_keys.numpy()]
        here = token_centres(target)[asked[1].numpy()]
        if alignment is not None:
            side, strength = float(np.mean(token_sides(reference.tokens))), weight
            middle = there.mean(0)  # squares of large numbers would lose their precision
            here, there = (alignment(here) - middle) / side, (there - middle) / side
        else:
            here, there, strength = in_box(here), in_box(there), place
        asks = torch.cat([asks, lifted_places(here, strength, True).to(asks.device)], 1)
        lies = torch.cat([lies, lifted_places(there, strength, False).to(lies.device)], 1)
    best = find_best(asks, lies, neighbours)
    if metric == "cosine" and neighbours > 1:
        share = torch.stack([(plain[0] * plain[1][column]).sum(1) for column in best.index.T], 1).clamp(min=1e-6)
    else:
        share = torch.ones_like(best.score)
    return best.score.cpu(), share.cpu(), owner[of_keys[best.index.cpu()]]


def _aligned(
    reference: Reference, target: TokenMap, inside: Tensor | None, metric: str, number: int
) -> Alignment | None:
    found = match_tokens(reference.tokens, target, source_inside=reference.body, target_inside=inside, metric=metric)
    alignment = align_matches(found, token_sides(reference.tokens))
    if alignment is None:
        warnings.warn(
            f"labelled scan {number} is used without an alignment: of {int(found.mutual.sum())} mutual matches fewer "
            f"than {FEWEST} agree on one, or all lie in one plane",
            stacklevel=4,
        )
    return alignment


def in_box(points: Float[np.ndarray, "m 3"]) -> Float[np.ndarray, "m 3"]:
    """Places relative to the box that holds them all, from 0 to 1 along each axis."""
    low, size = points.min(0), np.ptp(points, axis=0)
    return (points - low) / np.where(size > 0, size, 1)


def carry_labels(
    label: Shaped[Tensor, "..."] | Shaped[np.ndarray, "..."],
    source_affine: Float[np.ndarray, "4 4"],
    shape: Sequence[int],
    affine: Float[np.ndarray, "4 4"],
    moved: Callable[[np.ndarray], np.ndarray],
) -> Int[Tensor, "x y z"]:
    """A label map laid over another scan: each of its voxels gets the label of the source voxel it belongs to.

    Args:
        label, source_affine: of the labelled scan.
        shape, affine: of the other scan's voxels.
        moved: target mm [N, 3] to source mm [N, 3], such as an Alignment; beyond the source lies background.
    """
    label, to_source = np.asarray(label), np.linalg.inv(source_affine)
    carried = np.zeros(shape, dtype=label.dtype)
    cells = np.stack(np.meshgrid(*map(np.arange, shape[1:]), indexing="ij"), -1).reshape(-1, 2)
    for x, plane in enumerate(carried):
        voxels = np.concatenate([np.full((len(cells), 1), x), cells], 1)
        source = moved(voxels @ affine[:3, :3].T + affine[:3, 3]) @ to_source[:3, :3].T + to_source[:3, 3]
        plane.flat = map_coordinates(label, source.T, order=0, mode="grid-constant", cval=0)
    return torch.from_numpy(carried.astype(np.int64))
