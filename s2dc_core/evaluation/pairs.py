"""One labelled scan and one without labels: what each way of carrying the labels over finds, and how right it is."""

from collections.abc import Callable, Collection, Iterator, Sequence
from numbers import Real
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor, nn

from s2dc_core.data import Scan
from s2dc_core.evaluation.alignment import WEIGHT, Alignment, align_matches
from s2dc_core.evaluation.baselines import patch_map
from s2dc_core.evaluation.correctness import (
    centroids,
    dice_by_label,
    landmark_errors,
    nearest_found,
    retrieval,
)
from s2dc_core.evaluation.correspondence import (
    TokenMatches,
    body_tokens,
    chosen,
    find_best,
    lifted,
    lifted_places,
    match_tokens,
    token_centres,
    token_sides,
)
from s2dc_core.evaluation.deformation import AGAIN, ROUNDS, bend
from s2dc_core.evaluation.maps import reduce_tokens
from s2dc_core.evaluation.one_shot import carry_labels, in_box
from s2dc_core.features import TokenMap, organ_grid, token_maps
from s2dc_core.matching import unit_length

WAYS = {
    "nearest": "the label of the nearest token",
    "place": "nearest, with the place in the body's box",
    "aligned": "nearest, after an affine by their own mutual matches",
    "deformed": "carried by that affine and a smooth deformation",
    "finer": "the deformation gone on with on a finer grid",
}


CHANNELS = 64
"""Channels that joined tokens are brought to for speed. Of the shipped encoders' 336 they keep 99 % of the squared
length, and cosines within 0.002 on average."""


class Side(NamedTuple):
    """A labelled scan, its tokens, those that lie in the body, and the label of each, [X, Y, Z].

    Attributes:
        finer: the maps by which it is deformed, one after the other; none for the tokens themselves.
    """

    scan: Scan
    tokens: TokenMap
    body: Tensor
    owner: Tensor
    finer: tuple[TokenMap, ...] = ()

    @classmethod
    def of(cls, scan: Scan, encode: Callable[[Scan], TokenMap | Sequence[TokenMap]]) -> "Side":
        """A scan through an encoder, or whatever makes tokens of it.

        Args:
            encode: gives its token map, or several: the first is matched, the others deform.

        Raises:
            ValueError: for a scan without labels, or without a token in the body.
        """
        if scan.label is None:
            raise ValueError(f"{scan.name} has no labels: there is nothing to carry over or to score")
        maps = encode(scan)
        tokens, *finer = [maps] if isinstance(maps, TokenMap) else maps
        body = body_tokens(tokens, scan.foreground)
        if not body.any():
            raise ValueError(f"{scan.name} shows no token of a body: there is nothing to match")
        return cls(scan, tokens, body, organ_grid(tokens, scan.label), tuple(finer))


def encoded_by(
    encoder: nn.Module, levels: Sequence[Real] = (1, 2, 3), like: Scan | None = None, channels: int = CHANNELS
) -> Callable[[Scan], list[TokenMap]]:
    """What Side.of takes of an encoder: levels joined to match by, then its finest, then that with the one below.

    The coarse levels know where in the body a token lies; the fine ones, which know less of it, say more exactly where
    an edge lies, once the rest is known.

    Args:
        like: a scan whose tokens show which channels matter: joined tokens are then brought to fewer of them, which
            keeps their cosines (see maps.reduce_tokens) and makes matching faster; None for all.
        channels: that stay.
    """
    fine = levels[0]
    groups = [list(levels), [fine], *([[fine - 1, fine]] if fine else [])]

    def encode(scan: Scan) -> list[TokenMap]:
        return token_maps(encoder, scan.volume, groups, affine=scan.affine, background=scan.background)

    if like is None:
        return encode
    first = encode(like)[0]
    if first.features.shape[-1] <= channels:
        return encode
    _, basis = reduce_tokens(first, channels)

    def reduced(scan: Scan) -> list[TokenMap]:
        joined, *finer = encode(scan)
        return [joined._replace(features=unit_length(joined.features) @ basis), *finer]

    return reduced


def patches_of(sides: Sequence[int] = (4, 4, 4)) -> Callable[[Scan], list[TokenMap]]:
    """What Side.of takes of raw patches: those of a token's size, the same to deform by, then of half the sides."""

    def encode(scan: Scan) -> list[TokenMap]:
        sizes = [tuple(sides), tuple(max(1, side // 2) for side in sides)]
        coarse, fine = (patch_map(scan.volume, size, scan.affine, scan.background) for size in sizes)
        return [coarse, coarse, fine]

    return encode


class Weights(NamedTuple):
    """What a squared distance takes off the score: in the body's box, and in tokens after an alignment.

    Attributes:
        place, aligned: by default those that the study chose for the shipped encoder, and for random weights, on
            generated bodies that are not scored.
        metric: "cosine" or "euclidean", see match_tokens.
    """

    place: float = 3.0
    aligned: float = WEIGHT
    metric: str = "cosine"


class Answers(NamedTuple):
    """What was found for a target.

    Attributes:
        labels: of each way the label of every token, [X, Y, Z].
        matches: the plain matches.
        alignment: with its last deformation; None where too few matches agree, and all ways are then the plain one.
        carried: [I, J, K], the label of every voxel by the last deformation; None without one.
    """

    labels: dict[str, Tensor]
    matches: TokenMatches
    alignment: Alignment | None
    carried: Tensor | None


PLAIN = Weights()


def answers(
    labelled: Side, target: Side, weights: Weights = PLAIN, ways: Collection[str] = tuple(WAYS), seed: int = 0
) -> Answers:
    """What each of WAYS finds for a target; the target's own labels are not looked at.

    Args:
        labelled, target: through the same encoder.
        weights: see Weights.
        ways: those that are asked for; "nearest" is always there, "finer" only where there are two maps to deform by.
        seed: of the alignment's draws.
    """
    masks = {"source_inside": labelled.body, "target_inside": target.body, "metric": weights.metric}
    matches = match_tokens(labelled.tokens, target.tokens, **masks)
    plain = _laid(target, matches.target, labelled.owner.flatten()[matches.source])
    labels = {"nearest": plain}
    if "place" in ways:
        labels["place"] = nearest_with(labelled, target, weights.metric, weights.place)
    several = len(labelled.finer) > 1
    others = [way for way in ways if way not in ("nearest", "place") and (several or way != "finer")]
    if not others:
        return Answers(labels, matches, None, None)
    alignment = align_matches(matches, token_sides(labelled.tokens), seed=seed)
    if alignment is None:
        return Answers(labels | dict.fromkeys(others, plain), matches, None, None)
    if "aligned" in ways:
        labels["aligned"] = nearest_with(labelled, target, weights.metric, weights.aligned, alignment)
    carried = None
    for way, bent in _bends(labelled, target, alignment, weights.metric, ways):
        alignment, scan = bent, target.scan
        carried = carry_labels(labelled.scan.label, labelled.scan.affine, scan.raw.shape, scan.affine, bent)
        labels[way] = organ_grid(target.tokens, carried) if carried.any() else torch.zeros_like(plain)
    return Answers(labels, matches, alignment, carried)


def _bends(
    labelled: Side, target: Side, alignment: Alignment, metric: str, ways: Collection[str]
) -> Iterator[tuple[str, Alignment]]:
    """The alignment deformed by the first of the finer maps, and then by the second."""
    maps = list(zip(labelled.finer or (labelled.tokens,), target.finer or (target.tokens,), strict=True))
    for way, rounds, (there, here) in zip(("deformed", "finer"), (ROUNDS, AGAIN), maps, strict=False):
        if way not in ways and "finer" not in ways:  # the finer one goes on from the other
            continue
        masks = {
            "source_inside": body_tokens(there, labelled.scan.foreground),
            "target_inside": body_tokens(here, target.scan.foreground),
        }
        alignment = bend(there, here, alignment, metric=metric, rounds=rounds, **masks)
        if way in ways:
            yield way, alignment


def nearest_with(
    labelled: Side, target: Side, metric: str, weight: Real, alignment: Alignment | None = None
) -> Int[Tensor, "x y z"]:
    """The label of the nearest token, with the distance of two places in the score.

    Args:
        weight: of the squared distance, in tokens after the alignment, or in the boxes of both bodies without one.
    """
    (keys, of_keys), (queries, of_queries) = (chosen(side.tokens, side.body) for side in (labelled, target))
    here, there = token_centres(target.tokens)[of_queries.numpy()], token_centres(labelled.tokens)[of_keys.numpy()]
    if alignment is None:
        here, there = in_box(here), in_box(there)
    else:
        side = float(np.mean(token_sides(labelled.tokens)))
        middle = there.mean(0)  # squares of large numbers would lose their precision
        here, there = (alignment(here) - middle) / side, (there - middle) / side
    asks, lies = lifted(queries, keys, metric)
    asks, lies = _beside(asks, lifted_places(here, weight, True)), _beside(lies, lifted_places(there, weight, False))
    return _laid(target, of_queries, labelled.owner.flatten()[of_keys[find_best(asks, lies, 1).index[:, 0]]])


def _beside(features: Tensor, places: Tensor) -> Tensor:
    return torch.cat([features, places.to(features.device)], 1)


def _laid(target: Side, index: Tensor, labels: Tensor) -> Int[Tensor, "x y z"]:
    laid = labels.new_zeros(target.owner.numel())
    laid[index] = labels
    return laid.view_as(target.owner)


class PairScores(NamedTuple):
    """How right the answers are.

    Attributes:
        dice: {way: {label: Dice in tokens}}.
        voxel_dice: {label: Dice in voxels} of the labels that the last deformation carried; empty without one.
        retrieval: {label: share} of plain matches.
        landmarks: {way: {label: mm}} of "nearest" and, with an alignment, of the last deformation, as "deformed".
        inliers, mutual: matches that the alignment rests on, and those it was sought in.
    """

    dice: dict[str, dict[int, float]]
    voxel_dice: dict[int, float]
    retrieval: dict[int, float]
    landmarks: dict[str, dict[int, float]]
    inliers: int
    mutual: int


def score_answers(found: Answers, labelled: Side, target: Side) -> PairScores:
    """The answers compared with the target's own labels.

    Raises:
        ValueError: if the two scans share no label.
    """
    common = set(labelled.owner.unique().tolist()) & set(target.owner.unique().tolist()) - {0}
    if not common:
        raise ValueError(f"{labelled.scan.name} and {target.scan.name} share no label that fills a token")
    of = [centroids(side.scan.label, side.scan.affine) for side in (target, labelled)]
    ways = {"nearest": nearest_found(found.matches)} | ({"deformed": found.alignment} if found.alignment else {})
    return PairScores(
        dice={way: dice_by_label(target.owner, labels) for way, labels in found.labels.items()},
        voxel_dice={} if found.carried is None else dice_by_label(target.scan.label.long(), found.carried),
        retrieval=retrieval(target.owner, found.labels["nearest"]),
        landmarks={way: landmark_errors(*of, moved) for way, moved in ways.items()},
        inliers=int(found.alignment.inliers.sum()) if found.alignment else 0,
        mutual=int(found.matches.mutual.sum()),
    )
