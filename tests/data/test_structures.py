"""What a label map allows: empty, one structure, a lesson smaller than a token, a hundred, up to the border, none."""

import numpy as np
import pytest
import torch

from s2dc_core.data import (
    Place,
    Scan,
    anchor_places,
    body_grid,
    count_structures,
    find_structure,
    mirror_of,
    structure_grid,
    structure_names,
    structure_problem,
    structure_sizes,
)

PATCH, SIDE = (4, 4, 4), 16


def scan_of(label, names=None, side=SIDE, name="mine", modality="ct"):
    """A cube of body with a rim of air, and a label map on it."""
    raw, body = torch.rand(side, side, side), torch.zeros(side, side, side, dtype=torch.bool)
    body[1:-1, 1:-1, 1:-1] = True
    return Scan(raw[None], raw, np.eye(4), (1.0,) * 3, label, names or {}, modality, 0.0, body, name)


def label_map(*boxes, side=SIDE):
    """Label n + 1 in box n, given as slices."""
    label = torch.zeros(side, side, side, dtype=torch.int32)
    for number, box in enumerate(boxes, start=1):
        label[box] = number
    return label


EMPTY, ALL = label_map(), torch.ones(SIDE, SIDE, SIDE, dtype=torch.int32)
LESION = label_map((slice(5, 7),) * 3)
ONE = label_map((slice(0, 8),) * 3)
TWO = label_map((slice(0, 8),) * 3, (slice(8, 16),) * 3)
FEW = label_map((slice(0, 4), slice(0, 4), slice(0, 8)), (slice(8, 12), slice(0, 4), slice(0, 12)))
HUNDRED = torch.arange(SIDE**3).reshape(SIDE, SIDE, SIDE).int() % 101


@pytest.mark.parametrize(
    ("label", "sizes", "told"),
    [
        (None, {}, "no label map"),
        (EMPTY, {}, "an empty label map"),
        (LESION, {1: 8}, "1 labelled structure"),
        (ALL, {1: SIDE**3}, "1 labelled structure"),
        (FEW, {2: 192, 1: 128}, "2 labelled structures"),
        (ONE * 70000, {70000: 512}, "1 labelled structure"),
    ],
    ids=["none", "empty", "lesion", "all", "few", "large number"],
)
def test_structures_are_counted_the_largest_first(label, sizes, told):
    scan = scan_of(label, {1: "liver", 2: "spleen", 3: "never there"})
    assert list(structure_sizes(scan).items()) == list(sizes.items())
    assert count_structures(scan) == told
    assert list(structure_names(scan)) == list(sizes), "a name alone makes no structure"


def test_a_hundred_structures_are_a_hundred():
    sizes = structure_sizes(scan_of(HUNDRED))
    assert len(sizes) == 100 and sum(sizes.values()) == int((HUNDRED > 0).sum())
    assert list(sizes.values()) == sorted(sizes.values(), reverse=True)


def test_names_have_spaces_and_no_two_are_alike():
    names = {1: "left_kidney", 2: "Lesion", 3: "lesion", 4: " "}
    label = label_map(*((slice(4 * k, 4 * k + 4),) * 3 for k in range(4)))
    assert structure_names(scan_of(label, names)) == {
        1: "left kidney",
        2: "Lesion (label 2)",
        3: "lesion (label 3)",
        4: "label 4",
    }


@pytest.mark.parametrize("wanted", ["left kidney", "Left_Kidney", "kidney-left", " kidney  left "])
def test_a_structure_is_found_whatever_the_order_of_its_words(wanted):
    names = {3: "right kidney", 7: "kidney left", 8: "bright spot"}
    assert find_structure(names, wanted) == 7
    assert (mirror_of(names, 7), mirror_of(names, 3)) == (3, 7)


def test_what_has_no_twin_has_none():
    names = {1: "left kidney", 2: "right kidney", 3: "liver", 4: "bright spot"}
    assert [mirror_of(names, number) for number in names] == [2, 1, None, None]
    assert find_structure(names, "kidney") is None and find_structure({}, "liver") is None


def test_tokens_of_structures_and_body():
    assert structure_grid(scan_of(EMPTY), PATCH).tolist() == structure_grid(scan_of(None), PATCH).tolist()
    assert not structure_grid(scan_of(EMPTY), PATCH).any() and structure_grid(scan_of(EMPTY), PATCH).shape == (4, 4, 4)
    assert not structure_grid(scan_of(LESION), PATCH).any(), "smaller than half a token"
    assert (structure_grid(scan_of(ALL), PATCH) == 1).all(), "up to the border"
    assert (structure_grid(scan_of(TWO), PATCH) == 2).sum() == 8
    corner = torch.zeros(4, 4, 4, dtype=torch.bool)
    corner[::3, ::3, ::3] = True
    assert torch.equal(~body_grid(scan_of(None), PATCH), corner), "27 of 64 voxels are less than half"


def test_a_scan_without_a_whole_token_of_body_has_those_that_touch_it():
    small = scan_of(None, side=5)
    small.foreground[:] = False
    small.foreground[2, 2, 2] = True
    grid = body_grid(small, PATCH)
    assert grid.shape == (2, 2, 2) and grid.sum() == 1 and grid[0, 0, 0]


@pytest.mark.parametrize(
    ("label", "structures", "minimum", "says"),
    [
        (None, 2, 5, "mine has no label map: a silhouette needs a label map with 2 structures of at least 5 tokens"),
        (
            EMPTY,
            1,
            1,
            "mine has an empty label map: a silhouette needs a label map with 1 structure of at least 1 token",
        ),
        (ONE, 2, 5, "mine has one structure only: a silhouette needs"),
        (TWO, 3, 5, "mine has 2 structures only: a silhouette needs a label map with 3 structures"),
        (
            LESION,
            1,
            1,
            "mine has too few tokens in its structures (label 1: 0; smaller voxels give more): a silhouette",
        ),
        (FEW, 2, 3, "(label 2: 3, label 1: 2; smaller voxels give more)"),
        (HUNDRED, 2, 5, "and 96 more; smaller voxels"),
        (ONE, 1, 8, None),
        (TWO, 2, 8, None),
        (FEW, 2, 2, None),
        (ALL, 1, 64, None),
    ],
)
def test_what_is_missing_is_said_in_one_sentence(label, structures, minimum, says):
    problem = structure_problem(scan_of(label), PATCH, "a silhouette", structures, minimum)
    assert problem is None if says is None else says in problem and ". " not in problem


def test_a_scan_whose_sides_are_no_multiple_of_a_token():
    scan = scan_of(torch.ones(5, 5, 5, dtype=torch.int32), side=5)
    assert structure_grid(scan, PATCH).sum() == 1 and structure_problem(scan, PATCH, "this", 1, 1) is None


def test_anchors_lie_deep_in_what_is_wanted_or_largest_or_in_the_body():
    names = {1: "liver", 2: "spleen"}
    assert anchor_places(scan_of(FEW, names)) == [Place("spleen", 2, anchor_places(scan_of(FEW, names))[0].voxel)]
    places = anchor_places(scan_of(TWO, names), 3)
    assert [(place.name, place.number) for place in places] == [("liver", 1), ("spleen", 2)], "as many as there are"
    assert all(TWO[place.voxel] == place.number for place in places)
    assert [p.name for p in anchor_places(scan_of(TWO, names), 1, ["spleen"])] == ["spleen"]
    assert [p.name for p in anchor_places(scan_of(TWO, names), 1, ["spleen", "pancreas"])] == ["liver"], (
        "one is missing"
    )
    for label in (None, EMPTY):
        (place,) = anchor_places(scan_of(label), 3, ["liver"])
        assert place[:2] == ("the body", None) and scan_of(label).foreground[place.voxel]
    assert anchor_places(scan_of(LESION))[0].voxel in {(x, y, z) for x in (5, 6) for y in (5, 6) for z in (5, 6)}
