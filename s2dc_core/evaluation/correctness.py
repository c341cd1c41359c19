"""How right carried labels and found places are: Dice, surface distance, retrieval, landmarks, round trips."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from monai.metrics import compute_surface_dice
from scipy.spatial import cKDTree
from sklearn.metrics import f1_score, recall_score
from torch import Tensor

from s2dc_core.evaluation.correspondence import TokenMatches

Moved = Callable[[np.ndarray], np.ndarray]
"""From places of the target in mm, [N, 3], to places of the source."""


def dice_by_label(truth: Int[Tensor, "*shape"], found: Int[Tensor, "*shape"]) -> dict[int, float]:
    """Dice, ``2 |P and T| / (|P| + |T|)``, of each label that the truth has, 0 for one that was not found.

    Raises:
        ValueError: if the truth holds no label.
    """
    return _by_label(f1_score, truth, found)


def retrieval(truth: Int[Tensor, "*shape"], found: Int[Tensor, "*shape"]) -> dict[int, float]:
    """Of each label the share of its tokens whose nearest token of the other scan lies in the same organ.

    Args:
        truth, found: label of each token, and of the token that it found.
    """
    return _by_label(recall_score, truth, found)


def _by_label(score: Callable, truth: Tensor, found: Tensor) -> dict[int, float]:
    truth, found = truth.flatten().numpy(), found.flatten().numpy()
    labels = np.unique(truth[truth > 0])
    if not len(labels):
        raise ValueError("the truth holds no label: there is nothing to score")
    values = score(truth, found, labels=labels, average=None, zero_division=0)
    return dict(zip(labels.tolist(), map(float, values), strict=True))


def surface_dice(
    truth: Int[Tensor, "x y z"], found: Int[Tensor, "x y z"], spacing: Sequence[Real], tolerance_mm: Real = 5.0
) -> dict[int, float]:
    """Normalised surface distance (MONAI's): share of both surfaces that lie within the tolerance of each other.

    Of each label that the truth has, on voxels; 0 for a label that was not found.
    """
    labels = [int(label) for label in truth.unique() if label > 0]
    if not labels:
        raise ValueError("the truth holds no label: there is nothing to score")
    how = {"include_background": True, "spacing": tuple(map(float, spacing))}
    values = {}
    for label in labels:  # one at a time: masks of all labels together can be tens of GB
        masks = [(each == label)[None, None].float() for each in (found, truth)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # MONAI 1.6 calls itself by a name that it has given up
            warnings.filterwarnings("ignore", "the prediction of class")  # a label that was not found, which counts 0
            values[label] = float(compute_surface_dice(*masks, [float(tolerance_mm)], **how)[0, 0].nan_to_num(0))
    return values


def nearest_found(matches: TokenMatches) -> Moved:
    """Plain matches as a map of places: each place goes where the nearest target token's match lies."""
    tree = cKDTree(matches.target_mm)
    return lambda points: matches.source_mm[tree.query(points)[1]]


def centroids(label: Int[Tensor, "x y z"], affine: Float[np.ndarray, "4 4"]) -> dict[int, np.ndarray]:
    """Of each label the mean place of its voxels, in mm."""
    cells = label.nonzero().numpy()
    owner = label.numpy()[tuple(cells.T)]
    places = cells @ affine[:3, :3].T + affine[:3, 3]
    return {int(organ): places[owner == organ].mean(0) for organ in np.unique(owner)}


def landmark_errors(
    target: Mapping[int, np.ndarray], source: Mapping[int, np.ndarray], moved: Moved
) -> dict[int, float]:
    """Of each organ that both scans hold: how far from its centroid in the source that of the target is found, mm."""
    common = sorted(set(target) & set(source))
    if not common:
        return {}
    found = moved(np.array([target[organ] for organ in common]))
    return {organ: float(np.linalg.norm(place - source[organ])) for organ, place in zip(common, found, strict=True)}


class RoundTrip(NamedTuple):
    """There and back again.

    Attributes:
        mutual: share of the target tokens that come back to themselves.
        median_mm: median distance between where a token starts and where it comes back to.
    """

    mutual: float
    median_mm: float


def round_trip(forward: TokenMatches, backward: TokenMatches) -> RoundTrip:
    """From each target token to its match in the source, and from there back.

    Args:
        forward: match_tokens(source, target).
        backward: match_tokens(target, source), with the same masks.
    """
    row = {int(token): number for number, token in enumerate(backward.target)}
    back = np.array([row[int(token)] for token in forward.source])
    away = np.linalg.norm(backward.source_mm[back] - forward.target_mm, axis=1)
    home = (backward.source[torch.from_numpy(back)] == forward.target).double().mean()
    return RoundTrip(float(home), float(np.median(away)))


class Partners(NamedTuple):
    """Places of one generated body and of another that are the same place of the frame; N pairs.

    Attributes:
        target_mm, source_mm: [N, 3] in mm.
        same_label: [N] bool, whether both carry one label: organs vary one by one beside the frame.
    """

    target_mm: np.ndarray
    source_mm: np.ndarray
    same_label: np.ndarray


def true_partners(
    source: tuple[Float[np.ndarray, "3 x y z"], Float[np.ndarray, "4 4"], Tensor, Tensor],
    target: tuple[Float[np.ndarray, "3 i j k"], Float[np.ndarray, "4 4"], Tensor, Tensor],
    count: int = 2000,
    seed: int = 0,
    within_mm: Real = 3.0,
) -> Partners:
    """True partners of random voxels of a generated body in another one, to the voxel.

    Args:
        source, target: of each its reference coordinates (data.body_coordinates), affine, label and body, on one grid.
        count: voxels of the target's body that are drawn; those whose partner the source does not show are left out.
        within_mm: how near, in the reference, a partner must lie.
    """
    (there, there_affine, there_label, there_body), (here, here_affine, here_label, here_body) = source, target
    cells = there_body.nonzero().numpy()
    tree = cKDTree(there[:, *cells.T].T)
    asked = here_body.nonzero().numpy()
    asked = asked[np.random.default_rng(seed).choice(len(asked), min(count, len(asked)), replace=False)]
    away, nearest = tree.query(here[:, *asked.T].T)
    asked, partner = asked[away <= within_mm], cells[nearest[away <= within_mm]]
    same = here_label.numpy()[tuple(asked.T)] == there_label.numpy()[tuple(partner.T)]
    return Partners(_in_mm(asked, here_affine), _in_mm(partner, there_affine), same)


def _in_mm(cells: np.ndarray, affine: np.ndarray) -> np.ndarray:
    return cells @ affine[:3, :3].T + affine[:3, 3]


def partner_errors(known: Partners, moved: Callable[[np.ndarray], np.ndarray]) -> dict[str, float]:
    """How far places are moved from their true partners: {"mean", "median", "same label, mean"} in mm.

    Args:
        moved: takes places of the target [N, 3] in mm to those of the source.
    """
    away = np.linalg.norm(moved(known.target_mm) - known.source_mm, axis=1)
    same = away[known.same_label]
    return {
        "mean": float(away.mean()),
        "median": float(np.median(away)),
        "same label, mean": float(same.mean()) if len(same) else float("nan"),
    }


def side_confusion(truth: Int[Tensor, "*shape"], found: Int[Tensor, "*shape"], pair: tuple[int, int]) -> float:
    """Of the tokens of a right and a left organ that were given to one of the two: the share given to the wrong side.

    NaN where none was given to either.
    """
    wrong = sum(int(((truth == pair[k]) & (found == pair[1 - k])).sum()) for k in (0, 1))
    right = sum(int(((truth == organ) & (found == organ)).sum()) for organ in pair)
    return wrong / (wrong + right) if wrong + right else float("nan")
