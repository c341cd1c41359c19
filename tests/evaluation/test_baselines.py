"""What needs no encoder: patches, places and centroids against naive loops, registration of moved generated bodies."""

import itertools

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from s2dc_core.data import make_phantom, scan_from_phantom
from s2dc_core.evaluation.baselines import centroid_labels, patch_map, place_map, register
from s2dc_core.evaluation.conditions import cut, half
from s2dc_core.evaluation.correctness import dice_by_label
from s2dc_core.evaluation.correspondence import match_tokens, token_centres
from s2dc_core.evaluation.one_shot import carry_labels
from s2dc_core.features import token_affine
from tests.evaluation.grids import LEFT_HANDED, OBLIQUE, random_map, world


@pytest.mark.parametrize("background", [None, -3])
def test_patches_equal_a_naive_loop(background):
    volume = torch.randn(2, 7, 6, 5, generator=torch.Generator().manual_seed(0))
    tokens = patch_map(volume, (2, 3, 4), OBLIQUE, background)
    fill = float(volume.min()) if background is None else background
    assert tokens.features.shape == (4, 2, 2, 48) and tokens.patch == (2, 3, 4)
    np.testing.assert_allclose(tokens.affine, token_affine(OBLIQUE, (2, 3, 4)))
    for a, b, c in np.ndindex(4, 2, 2):
        expected = []
        for n, i, j, k in np.ndindex(2, 2, 3, 4):
            x, y, z = 2 * a + i, 3 * b + j, 4 * c + k
            expected.append(float(volume[n, x, y, z]) if x < 7 and y < 6 and z < 5 else fill)
        assert tokens.features[a, b, c].tolist() == pytest.approx(expected)
    np.testing.assert_array_equal(patch_map(volume, (1, 1, 1)).affine, np.eye(4))


def test_patches_find_themselves_by_squared_differences():
    volume = torch.randn(1, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    whole, moved = patch_map(volume, (2, 2, 2)), patch_map(volume.roll(2, 1), (2, 2, 2))
    cells = torch.arange(64).view(4, 4, 4)
    assert torch.equal(match_tokens(whole, moved, metric="euclidean").source, cells.roll(1, 0).flatten())


def test_places_are_relative_to_the_box_of_the_body():
    tokens = random_map((4, 3, 5))
    inside = torch.zeros(4, 3, 5, dtype=torch.bool)
    inside[1:, :2, 2:4] = True
    places = place_map(tokens, inside)
    mm = world(inside.nonzero().numpy(), tokens.affine)
    expected = (mm - mm.min(0)) / (mm.max(0) - mm.min(0))
    np.testing.assert_allclose(places.features[inside].numpy(), expected, atol=1e-6)
    assert not places.features[~inside].any()
    whole = place_map(tokens).features.view(-1, 3)
    assert whole.min() == 0 and whole.max() == 1
    np.testing.assert_array_equal(places.affine, tokens.affine)


def test_places_match_the_same_place_of_a_larger_body():
    small, large = (place_map(random_map((4, 3, 5), affine=a)) for a in (np.eye(4), np.diag([-2.0, 3, 1, 1])))
    found = match_tokens(small, large, metric="euclidean").source.view(4, 3, 5)
    assert torch.equal(found, torch.arange(60).view(4, 3, 5).flip(0)), "the first axis points the other way"


# Centroids


def test_two_balls_are_found_by_their_centroids():
    """Each label's ball has its own volume, so a label map of two balls is given back but for their surfaces."""
    grid, patch = (16, 14, 15), (2, 2, 2)
    tokens = random_map(grid, 2, affine=LEFT_HANDED, patch=patch)
    mm = token_centres(tokens).reshape(*grid, 3)
    owner = np.zeros(grid, int)
    for organ, centre, radius in ((2, (4, 6, 5), 14), (5, (11, 8, 10), 17)):
        owner[np.linalg.norm(mm - mm[centre], axis=-1) < radius] = organ
    label = np.kron(owner, np.ones(patch, int))
    found = centroid_labels(tokens, label, None, tokens)
    assert min(dice_by_label(torch.from_numpy(owner), found).values()) > 0.93
    assert set(found.unique().tolist()) == {0, 2, 5}


def test_centroids_equal_a_naive_loop():
    source, target = random_map((5, 4, 6), seed=1), random_map((4, 5, 5), seed=2, affine=LEFT_HANDED)
    owner = np.random.default_rng(0).choice([0, 0, 1, 3], (5, 4, 6))
    owner[:2] = 0
    body, inside = (torch.rand(m.features.shape[:3], generator=torch.Generator().manual_seed(k)) < 0.9
                    for k, m in enumerate((source, target)))  # fmt: skip
    found = centroid_labels(source, np.kron(owner, np.ones((2, 2, 2), int)), body, target, inside)
    mm, asked = world(body.nonzero().numpy(), source.affine), world(inside.nonzero().numpy(), target.affine)
    sides, kept = np.ptp(mm, axis=0), owner[body.numpy()]
    centres = {organ: (mm[kept == organ] - mm.min(0)).mean(0) for organ in (1, 3)}
    radii = {
        o: (np.sum(kept == o) * abs(np.linalg.det(source.affine[:3, :3])) * 3 / 4 / np.pi) ** (1 / 3) for o in (1, 3)
    }
    expected = []
    for place in (asked - asked.min(0)) / np.ptp(asked, axis=0) * sides:
        depth, organ = min((np.linalg.norm(place - centres[o]) / radii[o], o) for o in (1, 3))
        expected.append(organ if depth < 1 else 0)
    np.testing.assert_array_equal(found[inside].numpy(), expected)
    assert not found[~inside].any() and set(expected) == {0, 1, 3}


def test_organs_too_small_for_a_token_have_no_ball():
    tokens = random_map()
    label = np.zeros((8, 6, 10), int)
    label[1, 1, 1] = 3
    assert not centroid_labels(tokens, label, None, tokens).any()


# Registration

SHAPE, SIDE = (60, 40, 60), 6.0
SHIFT = np.array([12.0, -7, 20])


@pytest.fixture(scope="module")
def scan():
    return scan_from_phantom(make_phantom(1, "ct", SHAPE, (SIDE,) * 3))


def flipped(scan):
    """The same scan with its first axis stored from right to left."""
    affine = scan.affine @ np.diag([-1.0, 1, 1, 1])
    affine[:3, 3] = scan.affine[:3, :3] @ [scan.raw.shape[0] - 1, 0, 0] + scan.affine[:3, 3]
    parts = {name: getattr(scan, name).flip(-3) for name in ("volume", "raw", "label", "foreground")}
    return scan._replace(affine=affine, **parts)


def turned_world(scan, degrees=30):
    """A scan whose patient and grid are turned together, about x and then about z."""
    angle = np.deg2rad(degrees)
    about = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    x, z = np.eye(4), np.eye(4)
    x[1:3, 1:3] = z[:2, :2] = about
    return scan._replace(affine=z @ x @ scan.affine)


def body_places(scan):
    return scan.foreground.nonzero().numpy()[::7] @ scan.affine[:3, :3].T + scan.affine[:3, 3]


@pytest.mark.parametrize("flips", list(itertools.product((False, True), repeat=2)))
def test_a_known_shift_is_found(scan, flips):
    """Two fields of view of one patient who was moved, either of them on a left-handed grid."""
    source = cut(scan, (0, 0, 0), np.subtract(SHAPE, (3, 2, 4)).tolist())
    target = cut(scan, (2, 3, 4), list(SHAPE))
    affine = target.affine.copy()
    affine[:3, 3] += SHIFT
    target = target._replace(affine=affine)
    source, target = (flipped(each) if flip else each for each, flip in zip((source, target), flips, strict=True))
    found = register(source, target)
    places = body_places(target)
    assert np.linalg.norm(found(places) - (places - SHIFT), axis=1).mean() < 2
    np.testing.assert_array_equal(found.affine, np.eye(4))
    np.testing.assert_array_equal(found.grid, target.affine)
    carried = carry_labels(source.label, source.affine, target.raw.shape, target.affine, found)
    scores = dice_by_label(target.label.long(), carried)
    assert np.mean(list(scores.values())) > 0.9


def test_turned_grids_have_their_places_in_the_world(scan):
    """Directions of the grid that are no axes of the world: the displacement must be the world's."""
    target = turned_world(scan)
    source = cut(target, (3, 2, 0), list(SHAPE))
    affine = source.affine.copy()
    affine[:3, 3] += SHIFT
    found = register(source._replace(affine=affine), target)
    places = body_places(target)
    assert np.linalg.norm(found(places) - (places + SHIFT), axis=1).mean() < 2


def test_several_starts_find_where_half_a_scan_lies(scan):
    upper = half(scan, True)
    places = body_places(upper)
    errors = []
    for starts in ((0,), (-90, 0, 90)):
        found = register(scan, upper, starts_mm=starts)
        errors.append(np.linalg.norm(found(places) - places, axis=1).mean())
    assert errors[1] < 2 < errors[0]


def test_a_spline_takes_what_an_affine_leaves(scan):
    """A body bent along waves of 240 mm by up to 12."""
    scan = cut(scan, (4, 2, 10), (56, 38, 50))
    cells = np.indices(scan.raw.shape).astype(float)
    moves = 2 * np.sin(2 * np.pi * cells[[1, 2, 0]] / 40)
    volume = map_coordinates(scan.volume[0].numpy(), cells + moves, order=1, mode="nearest").astype(np.float32)
    target = scan._replace(volume=torch.from_numpy(volume)[None])
    inside = scan.foreground.numpy()
    places, partners = (
        each[:, inside].T @ scan.affine[:3, :3].T + scan.affine[:3, 3] for each in (cells, cells + moves)
    )
    affine, spline = (
        np.linalg.norm(register(scan, target, kind)(places) - partners, axis=1).mean() for kind in ("affine", "bspline")
    )
    assert spline < 0.75 * affine


def test_bad_input_to_register(scan):
    with pytest.raises(ValueError, match="kind 'rigid': give affine or bspline"):
        register(scan, scan, "rigid")
    with pytest.raises(RuntimeError, match=r"phantom and phantom cannot be registered from any start of \(5000,\) mm"):
        register(scan, scan, starts_mm=(5000,))
    assert register(scan, scan, starts_mm=(5000, 0)).bend.shape == (*SHAPE, 3), "a start without overlap is left out"
