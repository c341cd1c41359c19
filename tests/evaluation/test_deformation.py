"""A smooth deformation by block matching: what it recovers, and its parts against naive loops."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, map_coordinates

from s2dc_core.evaluation import deformation
from s2dc_core.evaluation.alignment import Alignment
from s2dc_core.evaluation.correspondence import token_centres
from s2dc_core.evaluation.deformation import AGAIN, DOUBT, averaged, bend, blocks, nearby_best
from s2dc_core.features import TokenMap
from tests.evaluation.grids import OBLIQUE, random_map

GRID = (14, 12, 13)
IDENTITY = Alignment(np.eye(4), np.zeros(0, bool), 0.0)


def smooth_features(seed=0, channels=24):
    """Random fields that change over one or two tokens."""
    noise = np.random.default_rng(seed).standard_normal((channels, *GRID))
    return np.stack([gaussian_filter(each, 1.0) for each in noise])


def warped(affine, amount=2.5, seed=1):
    """A map, the same map seen through a smooth displacement, and where each token's partner lies in mm."""
    fields = smooth_features()
    source = TokenMap(torch.from_numpy(fields).movedim(0, -1).float(), (1, 1, 1), affine)
    draw = np.random.default_rng(seed).standard_normal((3, *GRID))
    moves = np.stack([gaussian_filter(each, 4.0) for each in draw])
    moves *= amount / np.abs(moves).max()
    cells = np.indices(GRID) + moves
    seen = np.stack([map_coordinates(each, cells, order=1, mode="nearest") for each in fields])
    target = source._replace(features=torch.from_numpy(seen).movedim(0, -1).float())
    return source, target, cells.reshape(3, -1).T @ affine[:3, :3].T + affine[:3, 3]


@pytest.mark.parametrize("affine", [np.diag([4.0, 4, 4, 1]), OBLIQUE])
def test_a_known_smooth_displacement_is_recovered(affine):
    source, target, partners = warped(affine)
    places, side = token_centres(target), float(np.mean(np.linalg.norm(affine[:3, :3], axis=0)))

    def error(moved):
        return np.linalg.norm(moved(places) - partners, axis=1).mean() / side

    found = bend(source, target, IDENTITY)
    assert error(IDENTITY) > 1, "there is something to find"
    assert error(found) < 0.4 * error(IDENTITY)
    assert found.bend.shape == (*GRID, 3)
    np.testing.assert_array_equal(found.grid, target.affine)
    np.testing.assert_array_equal(found.affine, np.eye(4))
    again = bend(source, target, found, rounds=AGAIN)
    assert error(again) < 1.05 * error(found), "a second pass goes on from the first"


def test_without_rounds_a_deformation_stays_as_it_is():
    source, target, _ = warped(OBLIQUE)
    field = np.random.default_rng(0).standard_normal((*GRID, 3))
    affine = np.eye(4)
    affine[:3] += np.random.default_rng(1).standard_normal((3, 4)) / 20
    start = Alignment(affine, np.zeros(0, bool), 0.0, field, target.affine)
    same = bend(source, target, start, rounds=())
    np.testing.assert_allclose(same.bend, field, atol=1e-9)
    np.testing.assert_array_equal(same.affine, affine)


def test_a_scan_on_itself_is_not_bent():
    tokens = random_map((8, 7, 6), channels=16)
    once = bend(tokens, tokens, IDENTITY)
    np.testing.assert_allclose(once.bend, 0, atol=1e-9)
    np.testing.assert_allclose(bend(tokens, tokens, once, rounds=AGAIN).bend, 0, atol=1e-9)


def test_what_an_affine_already_does_is_not_bent():
    """The target lies elsewhere in the world; the affine knows it."""
    tokens = random_map((8, 7, 6), channels=16)
    affine = np.eye(4)
    affine[:3, 3] = 50, -30, -1500
    moved = tokens._replace(affine=np.linalg.inv(affine) @ tokens.affine)
    found = bend(tokens, moved, Alignment(affine, np.zeros(0, bool), 0.0))
    np.testing.assert_allclose(found.bend, 0, atol=1e-9)


def test_one_round_averages_the_moves_of_those_that_agree_in_both_directions():
    source, target = random_map((6, 5, 4), 8, seed=1), random_map((5, 6, 4), 8, seed=2)
    start = Alignment(np.eye(4), np.zeros(0, bool), 0.0)
    side, rows = np.mean([4, 6, 5]), list(np.ndindex(5, 6, 4))
    here, there = token_centres(target), token_centres(source)
    unit = [torch.nn.functional.normalize(m.features.view(-1, 8), dim=1) for m in (target, source)]
    one, _, other = naive_nearby(*unit, here / side, there / side, 0.05, deformation.REACH)
    agree = [q for q in range(len(rows)) if one[q] >= 0 and other[one[q]] == q]
    assert 5 < len(agree) < len(rows) - 5, "not all agree"
    expected = averaged((5, 6, 4), np.array(agree), there[one[agree]] - here[agree], 1.5)
    found = bend(source, target, start, rounds=((1.5, 0.05),))
    np.testing.assert_allclose(found.bend, expected, atol=1e-9)


def test_only_tokens_inside_take_part():
    """Wrong features outside of the masks change nothing."""
    source, target, _ = warped(np.diag([4.0, 4, 4, 1]))
    inside = torch.zeros(GRID, dtype=torch.bool)
    inside[2:-2, 2:-2, 2:-2] = True
    masks = {"source_inside": inside, "target_inside": inside}
    other = random_map(GRID, 24, seed=9).features
    spoilt = [m._replace(features=torch.where(inside[..., None], m.features, other)) for m in (source, target)]
    rounds = ((2.0, 0.03), (1.0, 0.1))
    found = bend(source, target, IDENTITY, rounds=rounds, **masks)
    np.testing.assert_array_equal(bend(*spoilt, IDENTITY, rounds=rounds, **masks).bend, found.bend)


def test_bad_input_to_bend():
    tokens = random_map()
    with pytest.raises(ValueError, match="6 and 5 channels"):
        bend(tokens, random_map(channels=5), IDENTITY)
    with pytest.raises(ValueError, match="metric 'none'"):
        bend(tokens, tokens, IDENTITY, metric="none")
    with pytest.raises(ValueError, match="mask is empty"):
        bend(tokens, tokens, IDENTITY, source_inside=torch.zeros(4, 3, 5, dtype=torch.bool))


# Block matching


def naive_nearby(queries, keys, expected, places, weight, reach):
    score = np.full((len(queries), len(keys)), -np.inf)
    for q, k in np.ndindex(*score.shape):
        square = ((expected[q] - places[k]) ** 2).sum()
        if square <= reach**2:
            score[q, k] = float(queries[q].double() @ keys[k].double()) - weight * square
    one = np.where(np.isfinite(score.max(1)), score.argmax(1), -1)
    other = np.where(np.isfinite(score.max(0)), score.argmax(0), -1)
    return one, score.max(1), other


@pytest.mark.parametrize("block", [1, 2, 6])
@pytest.mark.parametrize(("weight", "reach"), [(0.05, 2.3), (0.5, 1.2), (0, 3)])
@pytest.mark.parametrize("away", [0, 400])
def test_the_best_within_reach_equals_a_naive_loop(monkeypatch, block, weight, reach, away):
    """Some keys lie out of everyone's reach, some queries have no key; the world may begin far away."""
    monkeypatch.setattr(deformation, "BLOCK", block)
    draw = np.random.default_rng(block)
    queries, keys = (torch.from_numpy(draw.standard_normal((n, 5))).float() for n in (60, 70))
    cells = np.array(list(np.ndindex(4, 5, 3)))
    expected = cells + draw.uniform(-0.7, 0.7, (60, 3)) + away
    expected[5] += 50
    places = draw.uniform(-2, 6, (70, 3)) + away
    places[[3, 9]] -= 30
    found = nearby_best(queries, keys, expected, places, cells, weight, reach)
    index, score, back = naive_nearby(queries, keys, expected, places, weight, reach)
    np.testing.assert_array_equal(found.index, index)
    np.testing.assert_array_equal(found.back, back)
    np.testing.assert_allclose(found.score, score, atol=1e-4)
    assert found.index[5] == -1 and found.back[3] == -1 and found.back[9] == -1


def test_a_key_at_the_reach_still_counts():
    one = torch.ones(1, 1)
    for distance, index in ((2.0, 0), (2.01, -1)):
        found = nearby_best(one, one, np.zeros((1, 3)), np.array([[distance, 0, 0]]), np.zeros((1, 3), int), 0.1, 2.0)
        assert found.index.tolist() == [index] and found.back.tolist() == [index]


def test_every_query_is_in_one_block_with_all_the_keys_it_reaches():
    draw = np.random.default_rng(0)
    cells = np.array(list(np.ndindex(13, 7, 8)))
    expected, places = cells + draw.normal(0, 1, cells.shape), draw.uniform(-3, 14, (300, 3))
    seen = []
    for rows, columns in blocks(expected, places, cells, 4.0):
        assert len(np.unique(cells[rows] // deformation.BLOCK, axis=0)) == 1
        near = np.linalg.norm(expected[rows, None] - places, axis=2).min(0) <= 4
        assert set(np.flatnonzero(near)) <= set(columns.tolist())
        seen += rows.tolist()
    assert sorted(seen) == list(range(len(cells)))


# Averages


@pytest.mark.parametrize("width", [0.8, 1.5])
def test_averages_equal_a_naive_gaussian(width):
    """Weights of scipy's Gaussian, cut off at four widths and of sum 1 along each axis; no move weighs DOUBT."""
    grid, draw = (6, 5, 4), np.random.default_rng(0)
    here, moves = draw.choice(120, 20, replace=False), draw.standard_normal((20, 3))
    field = averaged(grid, here, moves, width)
    radius = int(4 * width + 0.5)
    kernel = np.exp(-(np.arange(-radius, radius + 1) ** 2) / (2 * width**2))
    kernel = dict(zip(range(-radius, radius + 1), kernel / kernel.sum(), strict=True))
    for cell in np.ndindex(*grid):
        total, weights = np.zeros(3), DOUBT
        for flat, move in zip(here, moves, strict=True):
            steps = np.subtract(np.unravel_index(flat, grid), cell)
            weight = np.prod([kernel.get(int(step), 0.0) for step in steps])
            total, weights = total + weight * move, weights + weight
        np.testing.assert_allclose(field[cell], total / weights, atol=1e-9)


def test_where_nothing_agrees_nothing_moves():
    assert not averaged((3, 4, 5), np.zeros(0, int), np.zeros((0, 3)), 1.0).any()
    dense = averaged((9, 9, 9), np.arange(729), np.tile([1.0, -2, 3], (729, 1)), 0.5)
    np.testing.assert_allclose(dense[4, 4, 4], np.array([1, -2, 3]) / (1 + DOUBT), atol=1e-6)
