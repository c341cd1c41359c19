"""A click between two scans against a loop over all tokens, places in mm, and the alignment's term."""

from itertools import product

import numpy as np
import pytest
import torch

from s2dc_core.evaluation.correspondence import match_tokens
from s2dc_core.explorer.maps import place_of
from s2dc_core.explorer.match import Pair, aligned, match_at, side_of
from s2dc_core.features import TokenMap, token_affine

turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
AFFINES = {
    "straight": np.diag([2.0, 2, 2, 1]),
    "oblique": np.block([[turn @ np.diag([0.8, 1.5, 4.0]), np.array([[3.0], [-7], [11]])], [np.zeros(3), 1]]),
    "left-handed": np.diag([-1.0, 2, 3, 1]),
}
PATCH = (2, 3, 4)


def side(seed, shape=(9, 8, 13), affine=AFFINES["straight"], body=None):
    """Random tokens of a volume whose sides are no multiples of the patch; about two of three tokens in the body."""
    generator = torch.Generator().manual_seed(seed)
    grid = [-(-length // p) for length, p in zip(shape, PATCH, strict=True)]
    features = torch.randn(*grid, 5, generator=generator)
    if body is None:
        cells = torch.rand(grid, generator=generator) < 0.67
        for axis, p in enumerate(PATCH):
            cells = cells.repeat_interleave(p, axis)
        body = cells[tuple(map(slice, shape))]
    return side_of(TokenMap(features, PATCH, token_affine(affine, PATCH)), body)


def cells_of(one):
    """Indices of the tokens in the body, in grid order."""
    inside = one.inside.reshape(one.tokens.features.shape[:3])
    return [cell for cell in product(*map(range, inside.shape)) if inside[cell]]


def naive_score(a, asks, b, answers, weight):
    """Cosine of two tokens less the weight times their squared distance in the pair's frame, written out."""
    x, y = a.tokens.features[asks].double(), b.tokens.features[answers].double()
    cosine = float(x @ y / (x.norm() * y.norm()))
    if a.places is None:
        return cosine
    places = [
        one.places.reshape(*one.tokens.features.shape[:3], 3)[cell].double() for one, cell in ((a, asks), (b, answers))
    ]
    return cosine - weight * float(((places[0] - places[1]) ** 2).sum())


def ranked(a, asks, b, weight):
    return sorted(((naive_score(a, asks, b, cell, weight), cell) for cell in cells_of(b)), reverse=True)


def agree(a, b, weight):
    """Every click in the body of a finds in b what the loop finds."""
    mutual = set()
    for cell in cells_of(a):
        voxel = tuple(c * p for c, p in zip(cell, PATCH, strict=True))
        found = match_at(voxel, a, b, weight)
        (best, wanted), (second, _) = ranked(a, cell, b, weight)[:2]
        assert tuple(v // p for v, p in zip(found.voxel, PATCH, strict=True)) == wanted and found.clicked == voxel
        assert found.margin == pytest.approx(best - second, abs=1e-5)
        plain = a._replace(places=None)
        assert found.cosine == pytest.approx(naive_score(plain, cell, b, wanted, 0), abs=1e-5)
        assert found.mutual == (ranked(b, wanted, a, weight)[0][1] == cell)
        for place in product(*map(range, found.similarity.shape)):
            assert float(found.similarity[place]) == pytest.approx(naive_score(plain, cell, b, place, 0), abs=1e-5)
        mutual.add(found.mutual)
    assert mutual == {True, False}, "both kinds are to be seen"


@pytest.mark.parametrize("seed", range(2))
def test_a_match_is_what_a_loop_over_the_tokens_of_the_body_finds(seed):
    agree(side(seed), side(seed + 10, (7, 11, 9)), 0.0)


@pytest.mark.parametrize("weight", [0.03, 0.4])
def test_the_alignment_takes_the_squared_distance_off_the_cosine(weight):
    a, b = side(0), side(10, (7, 11, 9))
    draw = torch.Generator().manual_seed(1)
    a, b = (one._replace(places=2 * torch.randn(len(one.unit), 3, generator=draw)) for one in (a, b))
    agree(a, b, weight)
    agree(b, a, weight)


def test_all_clicks_together_are_the_matches_of_the_two_scans():
    a, b = side(3), side(4)
    grids = [one.inside.reshape(one.tokens.features.shape[:3]) for one in (a, b)]
    wanted = match_tokens(b.tokens, a.tokens, source_inside=grids[1], target_inside=grids[0])
    for number, cell in enumerate(cells_of(a)):
        found = match_at([c * p for c, p in zip(cell, PATCH, strict=True)], a, b)
        assert np.allclose(found.mm, wanted.source_mm[number]) and found.mutual == bool(wanted.mutual[number])
        assert found.margin == pytest.approx(float(wanted.margin[number]), abs=1e-5)


@pytest.mark.parametrize("theirs", AFFINES)
@pytest.mark.parametrize("ours", AFFINES)
def test_what_is_found_lies_there_in_mm(ours, theirs):
    """One token of b is a token of a: its voxels are around the place that is told, whatever the two grids."""
    a, b = side(0, affine=AFFINES[ours]), side(1, affine=AFFINES[theirs])
    asks, answers = cells_of(a)[3], cells_of(b)[-4]
    b.tokens.features[answers] = 3 * a.tokens.features[asks]
    b = side_of(b.tokens, torch.ones(9, 8, 13))
    found = match_at([c * p for c, p in zip(asks, PATCH, strict=True)], a, b)
    corners = [place_of([c * p + e for c, p, e in zip(answers, PATCH, end, strict=True)], AFFINES[theirs])
               for end in product(*((0, p - 1) for p in PATCH))]  # fmt: skip
    assert found.cosine == pytest.approx(1) and np.allclose(found.mm, np.mean(corners, 0))
    half = np.abs(AFFINES[theirs][:3, :3]).sum(1) / 2
    assert (np.abs(place_of(found.voxel, AFFINES[theirs]) - found.mm) <= half + 1e-9).all()


def test_a_scan_finds_its_own_token_again_and_the_voxel_found_leads_back():
    a = side(5)
    for cell in cells_of(a):
        found = match_at([c * p + p - 1 for c, p in zip(cell, PATCH, strict=True)], a, a)
        assert tuple(v // p for v, p in zip(found.voxel, PATCH, strict=True)) == cell and found.mutual
        assert found.cosine == pytest.approx(1) and match_at(found.voxel, a, a).voxel == found.voxel


def test_the_voxel_found_lies_in_the_volume_even_where_its_token_ends_beyond():
    """Of the last token along each axis half lies in the volume: 9 = 4 * 2 + 1, 8 = 2 * 3 + 2, 14 = 3 * 4 + 2."""
    shape = (9, 8, 14)
    body = torch.zeros(shape)
    body[8:, 6:] = 1
    target = side(0, shape, body=torch.ones(shape))
    target = target._replace(inside=torch.arange(len(target.inside)) == len(target.inside) - 1)
    found = match_at((0, 0, 0), side(1, body=torch.ones(9, 8, 13)), target)
    assert all(v < length for v, length in zip(found.voxel, shape, strict=True)) and found.margin == np.inf


def smooth_pair(shift):
    """Two volumes of one body, the second moved by whole tokens: features are waves of the place in the body."""
    grid, sides = (10, 10, 10), []
    waves = torch.from_numpy(np.random.default_rng(0).normal(size=(3, 24)) * 0.5)
    for moved in (0, shift):
        cells = torch.stack(torch.meshgrid(*map(torch.arange, grid), indexing="ij"), -1).double() + moved
        features = torch.cat([torch.sin(cells @ waves), torch.cos(cells @ waves)], -1).float()
        tokens = TokenMap(features, (2, 2, 2), token_affine(np.diag([3.0, 3, 3, 1]), (2, 2, 2)))
        sides.append(side_of(tokens, torch.ones(20, 20, 20)))
    return Pair(*sides)


def test_two_scans_are_aligned_by_their_own_matches():
    pair = aligned(smooth_pair(2))
    assert pair.alignment is not None and 300 < pair.alignment.inliers.sum() <= pair.mutual
    # In the common frame a token of the left lies two tokens along each axis from where it is in the left scan.
    assert torch.allclose(pair.left.places - pair.right.places, torch.full((3,), -2.0), atol=1e-3)
    for source, target, step in ((pair.left, pair.right, -2), (pair.right, pair.left, 2)):
        found = match_at((10, 9, 8), source, target)
        assert [v // 2 for v in found.voxel] == [5 + step, 4 + step, 4 + step] and found.mutual


def test_where_no_alignment_is_found_the_pair_stays_as_it_was():
    pair = Pair(side(0), side(1))
    assert aligned(pair) is pair


def test_what_cannot_be_matched_is_told():
    a, b = side(0), side(1)
    air = next(c for c in product(range(4), range(2), range(3)) if c not in cells_of(a))
    with pytest.raises(ValueError, match="lies in air: click in the body"):
        match_at([c * p for c, p in zip(air, PATCH, strict=True)], a, b)
    with pytest.raises(IndexError, match="outside the token map of"):
        match_at((100, 0, 0), a, b)
    with pytest.raises(IndexError, match="outside the token map of"):
        match_at((-1, 0, 0), a, b)
    narrow = b.tokens._replace(features=b.tokens.features[..., :3])
    with pytest.raises(ValueError, match="tokens of 3 and 5 channels cannot be compared"):
        match_at((0, 0, 0), a, side_of(narrow, torch.ones(9, 8, 13)))
    with pytest.raises(ValueError, match="no token lies in the body"):
        side_of(a.tokens, torch.zeros(9, 8, 13))
