"""The structures of a scan: which its label map holds, where an anchor fits, and what they are too few or small for.

A label map may be missing or empty, hold one structure or hundreds, touch the border, or hold a lesion smaller than a
token. What is asked here has an answer for each of them: none, zeros, the body, or a sentence that says what is
missing.
"""

import re
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from s2dc_core.data.scans import Scan
from s2dc_core.features import TokenMap, deepest_voxel, organ_grid

MOST_TOLD = 4


class Place(NamedTuple):
    """Where an anchor goes.

    Attributes:
        name: of the structure, or "the body".
        number: its label; None for the body.
        voxel: the one that lies deepest inside.
    """

    name: str
    number: int | None
    voxel: tuple[int, int, int]


def structure_sizes(scan: Scan) -> dict[int, int]:
    """Voxels of each structure by label, the largest first; empty without a label map, or of one of background."""
    if scan.label is None:
        return {}
    counts = torch.bincount(scan.label[scan.label > 0])
    order = counts.argsort(descending=True, stable=True)
    return {int(number): int(counts[number]) for number in order if counts[number] > 0}


def structure_names(scan: Scan) -> dict[int, str]:
    """Name of each structure by label, the largest first, with spaces; two of one name get their labels added."""
    spoken = {n: scan.names.get(n, "").replace("_", " ").strip() or f"label {n}" for n in structure_sizes(scan)}
    alike = [name.lower() for name in spoken.values()]
    return {n: f"{name} (label {n})" if alike.count(name.lower()) > 1 else name for n, name in spoken.items()}


def count_structures(scan: Scan) -> str:
    """How many structures are labelled, in words."""
    if scan.label is None:
        return "no label map"
    count = len(structure_sizes(scan))
    return f"{count} labelled structure{'s' * (count > 1)}" if count else "an empty label map"


def find_structure(names: Mapping[int, str], wanted: str) -> int | None:
    """Label of a structure, whatever the order and the gaps of its words: left_kidney, kidney left; or None."""
    words = sorted(re.split(r"[\s_-]+", wanted.lower().strip()))
    return next((n for n, name in names.items() if sorted(re.split(r"[\s_-]+", name.lower())) == words), None)


def mirror_of(names: Mapping[int, str], number: int) -> int | None:
    """Label of the structure whose name says right where this one's says left, or the other way round; or None."""
    swap, name = {"left": "right", "right": "left"}, names[number].lower()
    other = re.sub("left|right", lambda word: swap[word.group()], name)
    return find_structure(names, other) if other != name else None


def structure_grid(scan: Scan, patch: Sequence[Integral], purity: Real = 0.5) -> Int[Tensor, "x y z"]:
    """The structure that each token belongs to, see `features.organ_grid`; zeros where there is no structure."""
    tokens = _tokens_without_features(scan, patch)
    if not structure_sizes(scan):
        return torch.zeros(tokens.features.shape[:3], dtype=torch.long)
    return organ_grid(tokens, scan.label, purity)


def body_grid(scan: Scan, patch: Sequence[Integral]) -> Bool[Tensor, "x y z"]:
    """The tokens that lie in the body by half; if the scan is too small for any, those that touch it."""
    tokens, body = _tokens_without_features(scan, patch), scan.foreground.int()
    inside = organ_grid(tokens, body) > 0
    return inside if inside.any() else organ_grid(tokens, body, purity=1e-9) > 0


def _tokens_without_features(scan: Scan, patch: Sequence[Integral]) -> TokenMap:
    grid = [-(-side // p) for side, p in zip(scan.raw.shape, patch, strict=True)]
    return TokenMap(torch.empty(*grid, 0), tuple(patch), np.eye(4))


def structure_problem(
    scan: Scan, patch: Sequence[Integral], what: str, structures: int = 2, minimum: int = 5, purity: Real = 0.5
) -> str | None:
    """Why a scan has not enough structures for something, in one sentence without its full stop; None if it has.

    Args:
        patch: sides of a token in voxels.
        what: that needs them, such as "a silhouette".
        structures: how many are needed.
        minimum: tokens that each of them must have.
        purity: share of a token that a structure must fill to own it.
    """
    names = structure_names(scan)
    grid = structure_grid(scan, patch, purity)
    tokens = {name: int((grid == number).sum()) for number, name in names.items()}
    enough = sum(count >= minimum for count in tokens.values())
    if enough >= structures:
        return None
    needed = f"{structures} structure{'s' * (structures > 1)} of at least {minimum} token{'s' * (minimum > 1)}"
    if not names:
        found = "has no label map" if scan.label is None else "has an empty label map"
    elif len(names) < structures:
        found = "has one structure only" if len(names) == 1 else f"has {len(names)} structures only"
    else:
        told = ", ".join(f"{name}: {count}" for name, count in list(tokens.items())[:MOST_TOLD])
        more = f" and {len(tokens) - MOST_TOLD} more" if len(tokens) > MOST_TOLD else ""
        found = f"has too few tokens in its structures ({told}{more}; smaller voxels give more)"
    return f"{scan.name} {found}: {what} needs a label map with {needed}"


def anchor_places(scan: Scan, count: int = 1, wanted: Sequence[str] = ()) -> list[Place]:
    """A fair anchor in each of the structures that are wanted, or in the largest ones; in the body if there is none.

    Args:
        count: of the largest structures, where those that are wanted are not all there.
        wanted: names of structures.
    """
    names = structure_names(scan)
    numbers = [find_structure(names, name) for name in wanted]
    if not numbers or None in numbers:
        numbers = list(names)[:count]
    if not numbers:
        return [Place("the body", None, deepest_voxel(scan.foreground, 1, scan.spacing))]
    return [Place(names[n], n, deepest_voxel(scan.label, n, scan.spacing)) for n in numbers]
