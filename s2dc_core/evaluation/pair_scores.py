"""One labelled scan, one that is asked, and all that is measured of it: by features in every way, and without any."""

import warnings
from collections.abc import Callable, Collection, Sequence
from numbers import Real
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from s2dc_core.evaluation.baselines import TRANSFORMS, centroid_labels, place_map, register
from s2dc_core.evaluation.correctness import (
    Partners,
    centroids,
    dice_by_label,
    landmark_errors,
    nearest_found,
    partner_errors,
    surface_dice,
)
from s2dc_core.evaluation.one_shot import carry_labels, transfer_labels
from s2dc_core.evaluation.pairs import Answers, Side, Weights, answers, score_answers
from s2dc_core.evaluation.probe import fit_probe
from s2dc_core.features import organ_grid

CARRIED = ("deformed", "finer")
"""The ways that carry voxels; the last one that is asked is measured in voxels."""

TITLES = {"affine": "affine registration", "bspline": "B-spline registration"}

PENALTY = 1.0
"""Of the probe: the best of 0.01, 1 and 100 on generated bodies that are not scored."""


def carried_way(ways: Collection[str]) -> str:
    """The way that is measured in voxels; "nearest" where none carries them."""
    return next((way for way in reversed(CARRIED) if way in ways), "nearest")


def score_features(
    labelled: Side,
    target: Side,
    weights: Weights,
    ways: Collection[str],
    neighbours: int = 1,
    *,
    probe: bool = True,
    known: Partners | None = None,
) -> dict[str, Any]:
    """One pair by one kind of features, in every way, and by a linear probe that is fitted on the labelled scan.

    Where too few matches agree on an alignment, every way is the plain one, and its tokens' labels fill their voxels:
    so no pair is left out because features find nothing in it.

    Args:
        probe: whether the probe is fitted.
        known: true partners of places of the target, where there are any.

    Returns:
        {"dice", "voxel_dice", "surface_dice", "landmarks_mm": {way: {label: value}}, "retrieval": {label: share},
        "inliers", "mutual"}, and with known partners "body_mm": {way: see partner_errors}.
    """
    found = answers(labelled, target, weights, ways)
    scores = score_answers(found, labelled, target)
    votes = _by_votes(found, labelled, target, weights, neighbours) if neighbours > 1 else {}
    dice = scores.dice | {way: dice_by_label(target.owner, labels) for way, labels in votes.items()}
    if probe:
        dice["probe"] = dice_by_label(target.owner, probe_labels(labelled, target))
    record = {"dice": dice, "retrieval": scores.retrieval, "inliers": scores.inliers, "mutual": scores.mutual}
    if known is not None:
        record["body_mm"] = {way: partner_errors(known, moved) for way, moved in _moving(found).items()}
    landmarks, last = {"nearest": scores.landmarks["nearest"]}, carried_way(ways)
    if last == "nearest":
        return record | {"voxel_dice": {}, "surface_dice": {}, "landmarks_mm": landmarks}
    landmarks[last] = scores.landmarks.get("deformed", landmarks["nearest"])
    scan = target.scan
    carried = in_voxels(found.labels[last], target) if found.carried is None else found.carried
    return record | {
        "voxel_dice": {last: dice_by_label(scan.label.long(), carried)},
        "surface_dice": {last: surface_dice(scan.label.long(), carried, scan.spacing)},
        "landmarks_mm": landmarks,
    }


def _moving(found: Answers) -> dict[str, Callable]:
    """What moves places of the target to the labelled scan, by way: the plain matches, and the alignment if any."""
    if found.alignment is None:
        return {"nearest": nearest_found(found.matches)}
    by_affine = {"nearest": nearest_found(found.matches), "aligned": found.alignment._replace(bend=None)}
    return by_affine | ({} if found.carried is None else {"deformed": found.alignment})


def _by_votes(found: Answers, labelled: Side, target: Side, weights: Weights, neighbours: int) -> dict[str, Tensor]:
    """The token ways with several tokens that vote."""
    reference = [(labelled.tokens, labelled.scan.label, labelled.body)]
    how = {"neighbours": neighbours, "inside": target.body, "metric": weights.metric}
    options = {"nearest": {}, "place": {"place": weights.place}}
    options["aligned"] = {"align": True, "weight": weights.aligned} if found.alignment else {}
    asked = [way for way in options if way in found.labels]
    return {way: transfer_labels(reference, target.tokens, **how, **options[way]) for way in asked}


def probe_labels(labelled: Side, target: Side) -> Int[Tensor, "x y z"]:
    """The label of every token of the target by a linear probe fitted on the labelled scan's; both in the body.

    A labelled scan whose tokens are all of one label teaches that label.
    """
    features, owner = (values[labelled.body].numpy() for values in (labelled.tokens.features, labelled.owner))
    laid = torch.zeros_like(target.owner)
    if len(np.unique(owner)) < 2:
        laid[target.body] = int(owner[0])
        return laid
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a step limit is part of how the probe is defined
        probe = fit_probe([(features, owner)], PENALTY)
    laid[target.body] = torch.from_numpy(probe.predict(target.tokens.features[target.body].numpy())).to(laid.dtype)
    return laid


def in_voxels(labels: Int[Tensor, "x y z"], target: Side) -> Int[Tensor, "i j k"]:
    """Every voxel with the label of its token."""
    for axis, side in enumerate(target.tokens.patch):
        labels = labels.repeat_interleave(side, axis)
    return labels[tuple(slice(side) for side in target.scan.raw.shape)]


def score_baselines(
    labelled: Side, target: Side, starts_mm: Sequence[Real] | None = (0,), known: Partners | None = None
) -> dict[str, dict[str, dict]]:
    """One pair by what needs no features: {"place alone", "centroids", and of both registrations: as score_features}.

    A registration that finds no overlap carries nothing: its Dice is 0.

    Args:
        starts_mm: see register; None leaves registration out.
        known: see score_features; of registrations alone.
    """
    place = [side._replace(tokens=place_map(side.tokens, side.body)) for side in (labelled, target)]
    by_place = answers(*place, Weights(metric="euclidean"), ways=())
    of = [centroids(side.scan.label, side.scan.affine) for side in (target, labelled)]
    centred = centroid_labels(labelled.tokens, labelled.scan.label, labelled.body, target.tokens, target.body)
    records = {
        "place alone": {
            "dice": {"place": dice_by_label(target.owner, by_place.labels["nearest"])},
            "landmarks_mm": {"place": landmark_errors(*of, nearest_found(by_place.matches))},
        },
        "centroids": {"dice": {"place": dice_by_label(target.owner, centred)}},
    }
    for kind in TRANSFORMS if starts_mm is not None else ():
        moved = _moved(labelled, target, kind, starts_mm)
        records[TITLES[kind]] = _registered(labelled, target, moved, of)
        if known is not None and moved is not None:
            records[TITLES[kind]]["body_mm"] = {"registered": partner_errors(known, moved)}
    return records


def _registered(labelled: Side, target: Side, moved: Callable | None, of: Sequence) -> dict[str, Any]:
    scan = target.scan
    truth, carried, tokens, landmarks = scan.label.long(), torch.zeros_like(scan.label.long()), target.owner * 0, {}
    if moved is not None:
        carried = carry_labels(labelled.scan.label, labelled.scan.affine, scan.raw.shape, scan.affine, moved)
        tokens = organ_grid(target.tokens, carried) if carried.any() else tokens
        landmarks = landmark_errors(*of, moved)
    return {
        "dice": {"registered": dice_by_label(target.owner, tokens)},
        "voxel_dice": {"registered": dice_by_label(truth, carried)},
        "surface_dice": {"registered": surface_dice(truth, carried, scan.spacing)},
        "landmarks_mm": {"registered": landmarks},
    }


def _moved(labelled: Side, target: Side, kind: str, starts_mm: Sequence[Real]) -> Callable | None:
    try:
        return register(labelled.scan, target.scan, kind, starts_mm)
    except RuntimeError:  # SimpleITK's, for images that do not overlap
        return None
