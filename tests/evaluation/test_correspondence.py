"""The same place in another scan: matches, masks and places, each against a naive loop or an invariant."""

import math

import numpy as np
import pytest
import torch

from s2dc_core.evaluation import correspondence
from s2dc_core.evaluation.correspondence import (
    body_tokens,
    find_best,
    lifted_by,
    lifted_places,
    match_tokens,
    token_centres,
    token_sides,
)
from s2dc_core.features import token_affine
from tests.evaluation.grids import LEFT_HANDED, OBLIQUE, random_map, world


def naive_score(a, b, metric):
    if metric == "cosine":
        return float(a @ b / (a.norm() * b.norm()))
    return -float((a - b).square().mean())


def naive_matches(source, target, source_inside, target_inside, metric):
    """(target, source, score, margin, mutual) of each target token inside, by two loops."""
    keys = [cell for cell in np.ndindex(*source.features.shape[:3]) if source_inside[cell]]
    queries = [cell for cell in np.ndindex(*target.features.shape[:3]) if target_inside[cell]]
    score = np.array(
        [[naive_score(source.features[k].double(), target.features[q].double(), metric) for k in keys] for q in queries]
    )
    rows = []
    for row, query in enumerate(queries):
        best = int(score[row].argmax())
        others = np.delete(score[row], best)
        margin = score[row, best] - others.max() if len(others) else math.inf
        rows.append((query, keys[best], score[row, best], margin, int(score[:, best].argmax()) == row))
    return rows


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("masked", [False, True])
def test_matches_equal_two_naive_loops(metric, masked):
    source = random_map((3, 4, 2), seed=1, affine=OBLIQUE)
    target = random_map((2, 3, 5), seed=2, affine=LEFT_HANDED, patch=(4, 2, 2))
    draw = np.random.default_rng(0)
    inside = [torch.from_numpy(draw.random(m.features.shape[:3]) < (0.6 if masked else 2)) for m in (source, target)]
    masks = {"source_inside": inside[0], "target_inside": inside[1]} if masked else {}
    found = match_tokens(source, target, metric=metric, **masks)
    expected = naive_matches(source, target, *inside, metric)
    queries, keys, score, margin, mutual = zip(*expected, strict=True)
    assert found.target.tolist() == [np.ravel_multi_index(cell, (2, 3, 5)) for cell in queries]
    assert found.source.tolist() == [np.ravel_multi_index(cell, (3, 4, 2)) for cell in keys]
    assert found.score.tolist() == pytest.approx(score, abs=1e-5)
    assert found.margin.tolist() == pytest.approx(margin, abs=1e-5)
    assert found.mutual.tolist() == list(mutual) and 0 < sum(mutual) < len(mutual)
    np.testing.assert_allclose(found.target_mm, world(queries, target.affine))
    np.testing.assert_allclose(found.source_mm, world(keys, source.affine))


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_a_scan_with_itself_gives_itself(metric):
    tokens = random_map()
    found = match_tokens(tokens, tokens, metric=metric)
    assert torch.equal(found.source, torch.arange(60)) and torch.equal(found.target, torch.arange(60))
    assert found.mutual.all() and (found.margin > 0).all()
    np.testing.assert_array_equal(found.source_mm, found.target_mm)
    assert found.score.tolist() == pytest.approx([1.0 if metric == "cosine" else 0.0] * 60, abs=1e-5)


def test_of_equal_scores_the_first_in_grid_order_is_taken():
    """Many equal tokens, as air has: their order must not depend on how a sort happens to break ties."""
    source, target = random_map((10, 10, 10), seed=1), random_map((2, 2, 2), seed=2)
    ones = torch.nn.functional.one_hot(torch.tensor(0), 6).float()
    source.features[:] = -ones
    source.features.view(-1, 6)[[77, 400, 999]] = ones
    target.features[:] = ones
    found = match_tokens(source, target)
    assert found.source.tolist() == [77] * 8 and found.margin.tolist() == [0] * 8
    assert found.mutual.tolist() == [True] + [False] * 7, "of equal queries the first, too"
    several = find_best(target.features.view(-1, 6), source.features.view(-1, 6), 3)
    assert several.index[:, 0].tolist() == [77] * 8
    assert [sorted(row) for row in several.index.tolist()] == [[77, 400, 999]] * 8
    assert several.score.tolist() == [[1, 1, 1]] * 8


def test_the_first_of_more_equal_scores_than_are_asked_for():
    best = find_best(torch.ones(3, 1), torch.ones(3000, 1), 2)
    assert best.index[:, 0].tolist() == [0] * 3 and all(len(set(row)) == 2 for row in best.index.tolist())


def test_strips_give_the_same_and_no_larger_matrix_is_held(monkeypatch):
    source, target = random_map((5, 4, 3), seed=1), random_map((4, 3, 5), seed=2)
    whole = match_tokens(source, target)
    seen, real = [], torch.mm

    def watched(a, b, out=None):
        seen.append((len(a), b.shape[1]))
        return real(a, b, out=out)

    monkeypatch.setattr(correspondence, "QUERIES_AT_ONCE", 7)
    monkeypatch.setattr(torch, "mm", watched)
    strips = match_tokens(source, target)
    assert seen == [(7, 60)] * 8 + [(4, 60)]
    for one, other in zip(strips, whole, strict=True):
        torch.testing.assert_close(torch.as_tensor(one), torch.as_tensor(other), rtol=0, atol=1e-6)


@pytest.mark.parametrize("count", [1, 3, 100])
def test_the_best_equal_a_sort(count):
    queries, keys = random_map(seed=1).features.view(-1, 6), random_map((3, 3, 3), seed=2).features.view(-1, 6)
    best, score = find_best(queries, keys, count, both_ways=True), queries @ keys.T
    torch.testing.assert_close(best.score, score.sort(descending=True).values[:, : min(count, 27)])
    torch.testing.assert_close(score.gather(1, best.index), best.score)
    assert torch.equal(best.back, score.argmax(0))


def test_one_token_has_no_second():
    found = match_tokens(random_map((1, 1, 1)), random_map((2, 1, 1), seed=1))
    assert found.margin.tolist() == [math.inf] * 2 and found.source.tolist() == [0, 0]
    assert int(found.mutual.sum()) == 1


def test_features_of_length_zero_score_zero():
    tokens = random_map((2, 1, 1))
    tokens.features[0] = 0
    assert match_tokens(random_map(seed=1), tokens).score[0] == 0


def test_features_that_require_a_gradient_are_matched_alike():
    source, target = random_map(seed=1), random_map(seed=2)
    leaf = source._replace(features=source.features.clone().requires_grad_())
    assert torch.equal(match_tokens(leaf, target).source, match_tokens(source, target).source)


def test_bad_input_to_match_tokens():
    tokens = random_map()
    with pytest.raises(ValueError, match="6 and 5 channels cannot be compared: encode both scans with one encoder"):
        match_tokens(tokens, random_map(channels=5))
    with pytest.raises(ValueError, match="metric 'manhattan': give cosine or euclidean"):
        match_tokens(tokens, tokens, metric="manhattan")
    for side in ("source_inside", "target_inside"):
        with pytest.raises(ValueError, match=r"mask of \(4, 3, 4\) tokens does not lie on the token grid \(4, 3, 5\)"):
            match_tokens(tokens, tokens, **{side: torch.ones(4, 3, 4, dtype=torch.bool)})
        with pytest.raises(ValueError, match="no token takes part: the mask is empty"):
            match_tokens(tokens, tokens, **{side: torch.zeros(4, 3, 5, dtype=torch.bool)})


def test_lifted_features_and_places_give_their_score_as_a_dot_product():
    a, b = random_map(seed=1).features.view(-1, 6), random_map((2, 2, 2), seed=2).features.view(-1, 6)
    for metric in ("cosine", "euclidean"):
        lift = lifted_by(metric)
        expected = [[naive_score(x.double(), y.double(), metric) for y in b] for x in a]
        torch.testing.assert_close(lift(a, True) @ lift(b, False).T, torch.tensor(expected), rtol=0, atol=1e-5)
    here, there = np.random.default_rng(0).random((5, 3)), np.random.default_rng(1).random((4, 3))
    expected = [[-2.5 * ((x - y) ** 2).sum() for y in there] for x in here]
    found = lifted_places(here, 2.5, True) @ lifted_places(there, 2.5, False).T
    torch.testing.assert_close(found, torch.tensor(expected).float(), rtol=0, atol=1e-5)


# Masks and places


@pytest.mark.parametrize(("share", "filled"), [(0.25, 0.3), (0.5, 0.6), (1.0, 0.95)])
def test_body_tokens_equal_a_naive_loop(share, filled):
    """The last token of each axis hangs over the border: what lies beyond counts as outside."""
    tokens = random_map((4, 3, 5), patch=(2, 3, 2))
    body = torch.rand(7, 8, 9, generator=torch.Generator().manual_seed(0)) < filled
    inside = body_tokens(tokens, body, share)
    for a, b, c in np.ndindex(4, 3, 5):
        cell = body[2 * a : 2 * a + 2, 3 * b : 3 * b + 3, 2 * c : 2 * c + 2]
        assert bool(inside[a, b, c]) == (int(cell.sum()) / 12 >= share)
    assert 0 < int(inside.sum()) < 60


def test_border_tokens_of_a_full_body():
    tokens = random_map((2, 1, 1), patch=(4, 4, 4))
    assert body_tokens(tokens, torch.ones(6, 4, 4)).tolist() == [[[True]], [[True]]], "just half"
    assert body_tokens(tokens, torch.ones(5, 4, 4)).tolist() == [[[True]], [[False]]]


def test_bad_input_to_body_tokens():
    for share in (0, -0.5, 1.1, math.nan):
        with pytest.raises(ValueError, match="is not in"):
            body_tokens(random_map(), torch.ones(8, 6, 10), share)
    for shape in ((9, 6, 10), (6, 6, 10)):
        with pytest.raises(ValueError, match=r"does not lie under \(4, 3, 5\) tokens of \(2, 2, 2\) voxels"):
            body_tokens(random_map(), torch.ones(*shape))


@pytest.mark.parametrize("affine", [OBLIQUE, LEFT_HANDED])
def test_token_centres_are_the_mean_places_of_their_voxels(affine):
    tokens = random_map((2, 3, 2), affine=affine, patch=(2, 4, 3))
    expected = [
        world([[2 * a + i, 4 * b + j, 3 * c + k] for i, j, k in np.ndindex(2, 4, 3)], affine).mean(0)
        for a, b, c in np.ndindex(2, 3, 2)
    ]
    np.testing.assert_allclose(token_centres(tokens), expected)
    np.testing.assert_allclose(token_sides(tokens), [4, 12, 7.5])
    np.testing.assert_allclose(tokens.affine, token_affine(affine, (2, 4, 3)))
