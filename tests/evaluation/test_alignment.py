"""A robust affine between two patients: what it finds among wrong matches, and what it refuses."""

import numpy as np
import pytest
import torch

from s2dc_core.evaluation.alignment import (
    FEWEST,
    RESIDUAL,
    SCALES,
    Alignment,
    align,
    align_matches,
    believable,
    refit,
    robust_affine,
)
from s2dc_core.evaluation.correspondence import TokenMatches, match_tokens, token_sides
from tests.evaluation.grids import OBLIQUE, random_map

SIDE = 8.0
"""Of a token, mm."""


def true_affine(seed=0, stretch=(1.1, 0.9, 1.05), degrees=12.0):
    """A turn, a stretch and a shift as they are found between two people."""
    draw = np.random.default_rng(seed)
    axis = draw.standard_normal(3)
    x, y, z = axis / np.linalg.norm(axis)
    cross, angle = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]), np.radians(degrees)
    affine = np.eye(4)
    affine[:3, :3] = (np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross) @ np.diag(stretch)
    affine[:3, 3] = draw.uniform(-40, 40, 3)
    return affine


def matches_of(target_mm, source_mm, mutual=None):
    count = len(target_mm)
    mutual = torch.ones(count, dtype=torch.bool) if mutual is None else torch.as_tensor(mutual)
    index = torch.arange(count)
    return TokenMatches(index, index, torch.ones(count), torch.ones(count), mutual, target_mm, source_mm)


def made(seed, count=400, wrong=0.6, noise=1.0, affine=None):
    """Matches of which a share goes to random places, and which of them are right."""
    draw = np.random.default_rng(seed)
    affine = true_affine(seed) if affine is None else affine
    target = draw.uniform(-120, 120, (count, 3))
    source = target @ affine[:3, :3].T + affine[:3, 3] + draw.normal(0, noise * SIDE / 3**0.5, (count, 3))
    right = draw.random(count) >= wrong
    source[~right] = draw.uniform(-140, 140, (int((~right).sum()), 3))
    return matches_of(target, source), right, affine


def corners(reach=120):
    return np.array(list(np.ndindex(5, 5, 5))) / 4 * 2 * reach - reach


@pytest.mark.parametrize("seed", range(4))
def test_a_known_affine_is_found_among_matches_of_which_most_are_wrong(seed):
    matches, right, affine = made(seed)
    found = align_matches(matches, SIDE, seed=seed)
    places = corners()
    error = np.linalg.norm(found(places) - (places @ affine[:3, :3].T + affine[:3, 3]), axis=1)
    assert error.mean() < SIDE / 2
    assert found.inliers[right].mean() > 0.95 and right[found.inliers].mean() > 0.9
    missed = np.linalg.norm(found(matches.target_mm) - matches.source_mm, axis=1)
    np.testing.assert_array_equal(found.inliers, missed <= RESIDUAL * SIDE)
    assert found.error == pytest.approx(np.sqrt((missed[found.inliers] ** 2).mean()))
    assert found.bend is None and found.grid is None


def test_exact_matches_give_the_exact_affine():
    matches, right, affine = made(0, wrong=0, noise=0)
    found = align_matches(matches, (SIDE, SIDE, SIDE), tries=50)
    np.testing.assert_allclose(found.affine, affine, atol=1e-8)
    assert found.inliers.all() and found.error < 1e-8


def test_the_same_seed_gives_the_same_affine():
    matches, *_ = made(1)
    first, second = (align_matches(matches, SIDE, seed=3, tries=500) for _ in range(2))
    np.testing.assert_array_equal(first.affine, second.affine)
    np.testing.assert_array_equal(first.inliers, second.inliers)


def test_where_the_world_begins_does_not_matter():
    """A scanner's table may lie at -1500 mm."""
    matches, _, affine = made(2)
    away = np.array([300.0, -500, -1500])
    moved = matches._replace(target_mm=matches.target_mm + away, source_mm=matches.source_mm - away)
    near, far = (align_matches(each, SIDE, tries=500) for each in (matches, moved))
    np.testing.assert_allclose(far(corners() + away), near(corners()) - away, atol=1e-6)


def test_only_mutual_matches_decide():
    matches, right, affine = made(0, wrong=0.5)
    found = align_matches(matches._replace(mutual=torch.from_numpy(right)), SIDE, tries=200)
    assert not found.inliers[~right].any()
    few = matches._replace(mutual=torch.arange(len(right)) < FEWEST - 1)
    assert align_matches(few, SIDE, tries=200) is None
    assert align_matches(few, SIDE, mutual=False) is not None


def test_too_few_matches_are_refused():
    matches, *_ = made(0, wrong=0, noise=0)
    cut = matches_of(matches.target_mm[: FEWEST - 1], matches.source_mm[: FEWEST - 1])
    assert align_matches(cut, SIDE) is None
    enough = matches_of(matches.target_mm[:FEWEST], matches.source_mm[:FEWEST])
    assert align_matches(enough, SIDE).inliers.all()
    nothing = matches_of(np.zeros((0, 3)), np.zeros((0, 3)))
    assert align_matches(nothing, SIDE) is None


def test_matches_in_a_plane_determine_nothing():
    flat = made(0, wrong=0, noise=0)[0].target_mm * (1, 1, 0)
    assert align_matches(matches_of(flat, flat), SIDE, tries=200) is None


@pytest.mark.parametrize("stretch", [(-1, 1, 1), (1.05 * SCALES[1], 1, 1), (1, 1, 0.95 * SCALES[0])])
def test_mirror_images_and_stretches_beyond_belief_are_refused(stretch):
    affine = np.diag([*stretch, 1.0])
    matches, *_ = made(0, wrong=0, noise=0, affine=affine)
    assert align_matches(matches, SIDE, tries=500) is None
    assert not believable(affine[None, :3, :3])[0]


def test_what_is_believable():
    turned = true_affine(3, stretch=(0.7, 1.5, 1.0))[:3, :3]
    maps = np.stack([np.eye(3), turned, -np.eye(3), np.diag([1, 1, 1.7]), np.diag([0.5, 1, 1]), np.diag([-1, -1, 1])])
    assert believable(maps).tolist() == [True, True, False, False, False, True]
    assert believable(np.zeros((0, 3, 3))).shape == (0,)


def test_refit_is_least_squares_on_the_inliers():
    matches, right, affine = made(0, noise=0.2)
    found = refit(affine[:3], matches.target_mm, matches.source_mm, RESIDUAL * SIDE)
    missed = np.linalg.norm(matches.target_mm @ found[:, :3].T + found[:, 3] - matches.source_mm, axis=1)
    used = missed <= RESIDUAL * SIDE
    ends = np.c_[matches.target_mm, np.ones(len(used))][used]
    np.testing.assert_allclose(ends.T @ (ends @ found.T - matches.source_mm[used]), 0, atol=1e-4)  # normal equations
    far = affine[:3] + np.array([[0, 0, 0, 1e4]] * 3)
    assert refit(far, matches.target_mm, matches.source_mm, RESIDUAL * SIDE) is None


def test_random_matches_have_no_good_affine():
    draw = np.random.default_rng(0)
    points, partners = draw.uniform(-120, 120, (2, 60, 3))
    found = robust_affine(points, partners, 0.5 * SIDE, 200, np.random.default_rng(0))
    assert found is None


def test_align_is_matching_and_then_aligning():
    source = random_map((6, 6, 6), channels=32)
    target = source._replace(features=source.features.roll(1, 0))
    inside = torch.ones(6, 6, 6, dtype=torch.bool)
    inside[0] = False
    found = align(source, target, target_inside=inside)
    shift = -source.affine[:3, 0]
    np.testing.assert_allclose(found(np.zeros((1, 3))), shift[None], atol=1e-6)
    direct = align_matches(match_tokens(source, target, target_inside=inside), token_sides(source))
    np.testing.assert_array_equal(found.affine, direct.affine)


def test_the_bend_is_interpolated_on_its_grid_and_goes_on_beyond_it():
    draw = np.random.default_rng(0)
    field, affine = draw.standard_normal((3, 4, 2, 3)), true_affine()
    moved = Alignment(affine, np.zeros(0, bool), 0.0, field, OBLIQUE)
    for cell in ((0, 0, 0), (2, 3, 1), (1, 2, 0)):
        place = (OBLIQUE @ [*cell, 1])[None, :3]
        np.testing.assert_allclose(moved(place), moved._replace(bend=None)(place) + field[cell], atol=1e-9)
    place = (OBLIQUE @ [1.25, 2, 0.5, 1])[None, :3]
    between = sum(w * field[1 + i, 2, k] for i, k, w in ((0, 0, 0.375), (0, 1, 0.375), (1, 0, 0.125), (1, 1, 0.125)))
    np.testing.assert_allclose(moved(place), moved._replace(bend=None)(place) + between, atol=1e-9)
    beyond = (OBLIQUE @ [-5, 9, 1, 1])[None, :3]
    np.testing.assert_allclose(moved(beyond), moved._replace(bend=None)(beyond) + field[0, 3, 1], atol=1e-9)
