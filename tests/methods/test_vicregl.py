"""VICRegL: its terms against values computed elsewhere, what so few rows mean, and which tokens show the same place."""

import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from s2dc_core.geometry import affine_about_centre, token_centres, warp
from s2dc_core.matching import unit_length
from s2dc_core.methods.vicregl import VICRegLOptions, matched, nearest, same_places
from s2dc_core.pretraining import Pretraining, draw_views
from s2dc_core.pretraining.regions import draw_regions
from tests.methods.parts.test_spread import by_hand, wave
from tests.methods.test_every_method import ENCODER, SCANS, small

X, Y = wave(1, 0.7, 3, 3), wave(2, 0.9, 3, 3)
TOKENS = wave(0.5, 0.37, 3, 4, 3), wave(1.5, 0.53, 3, 4, 3)
CORNERS = torch.tensor([(0.0, 0.0), (0.0, 16.0), (16.0, 0.0), (16.0, 16.0)], dtype=torch.float64)
PLACES = CORNERS.expand(3, -1, -1), (1.25 * CORNERS + torch.tensor([10, 4.5])).expand(3, -1, -1)
GLOBAL = [26.5214148236, 4.8074008827, 0.4401765156]


def method_of(**options):
    return VICRegLOptions(**options).build(ENCODER)


def global_of(method, one, other):
    return [term.mean().item() for term in method.criterion([(one[:, None], other[:, None])], len(one))]


def local_of(method, by_feature, by_place):
    found = []
    for points, counts in ((TOKENS, by_feature), (PLACES, by_place)):
        pairs = torch.stack([nearest(*points), nearest(*points[::-1])])
        found.append(method.local(*TOKENS, pairs, counts, 3))
    return [sum(each).mean().item() for each in zip(*found, strict=True)]


def test_the_global_terms_have_their_values():
    found = global_of(method_of(), X, Y)
    assert found == pytest.approx(GLOBAL, abs=1e-9) and sum(found) == pytest.approx(31.7689922220, abs=1e-9)
    assert global_of(method_of(weights=(1, 0, 2)), X, Y) == pytest.approx([GLOBAL[0] / 25, 0, 2 * GLOBAL[2]])


LOCAL = {
    "all": ("place", (4,), (4,), [27.2168918582, 26.3378410409, 0.7584193357], 37.4050322252),
    "places of the code": ("place", (4,), (2, 1), [24.7575794937, 26.8498681653, 0.6734701704], 36.8969736239),
    "both of the code": ("place", (2, 1), (2, 1), [22.7713208606, 20.2821716104, 1.0984333197], 34.8647256142),
    "lightly, all": ("distance", (4,), (4,), 47.5452343466, 35.7130527532),
    "lightly": ("distance", (2, 1), (2, 1), 41.9768628571, 34.3209598808),
}


@pytest.mark.parametrize("case", LOCAL)
def test_the_local_terms_have_their_values(case):
    order, by_feature, by_place, expected, total = LOCAL[case]
    found = local_of(method_of(order=order), by_feature, by_place)
    assert (sum(found) if order == "distance" else found) == pytest.approx(expected, abs=1e-9)
    assert 0.75 * sum(GLOBAL) + 0.25 * sum(found) == pytest.approx(total, abs=1e-9)


def test_at_collapse_the_variance_alone_is_left_and_its_gradient_is_a_number():
    """25 (1 - 0.01); without what is added within the root the gradient would be NaN."""
    alike = torch.ones(4, 6, dtype=torch.float64, requires_grad=True)
    terms = method_of().criterion([(alike[:, None], alike[:, None])], 4)
    assert [term.mean().item() for term in terms] == pytest.approx([0, 24.75, 0], abs=1e-12)
    sum(terms).mean().backward()
    assert torch.isfinite(alike.grad).all()


def test_a_batch_of_one_has_no_variance():
    with pytest.raises(ValueError, match="no variance over a batch of one"):
        Pretraining(small("vicregl", batch=1), SCANS, device="cpu").step()


def test_matches_are_those_of_loops():
    own, other = wave(0.1, 0.9, 2, 6, 3), wave(0.7, 1.3, 2, 5, 3)
    found = nearest(own, other)
    for b in range(2):
        best = [min((math.dist(p, q), j) for j, q in enumerate(other[b].tolist())) for p in own[b].tolist()]
        order = sorted(range(6), key=lambda i: best[i])
        assert found[b].tolist() == [order, [best[i][1] for i in order]]
    mine, theirs = matched(own, other, found, 3, "place")
    for b in range(2):
        first = sorted(zip(*found[b, :, :3].tolist(), strict=True))
        assert torch.equal(mine[b], own[b, [i for i, _ in first]])
        assert torch.equal(theirs[b], other[b, [j for _, j in first]])
    assert torch.equal(matched(own, other, found, 3, "distance")[0][1], own[1, found[1, 0, :3]])


def cells_of(pairs):
    """Matches as a table of partners."""
    return dict(zip(*pairs.tolist(), strict=True))


@pytest.mark.parametrize("flipped", [(0,), (0, 1), (0, 1, 2)])
def test_a_mirrored_or_turned_view_has_a_mirrored_or_turned_grid(flipped):
    """The published code leaves such grids as they are."""
    H = torch.eye(4, dtype=torch.float64).repeat(2, 1, 1, 1)
    for axis in flipped:
        H[1, 0, axis, axis], H[1, 0, axis, 3] = -1, 31
    cells = torch.arange(64).view(4, 4, 4)
    expected = dict(zip(cells.flatten().tolist(), cells.flip(flipped).flatten().tolist(), strict=True))
    found = same_places(H, ENCODER, 2, (1, 1, 1))[:, 0]
    assert cells_of(found[0]) == cells_of(found[1]) == expected


def test_matched_tokens_show_the_same_place_and_air_comes_last():
    """On a volume that carries its own coordinates, in views by random affines."""
    config = small("vicregl", batch=4, views={"rotation_deg": 40, "scale": (0.9, 1.3), "translation_mm": 6})
    sides, spacing = (32, 32, 32), (1.0, 1.5, 3.0)
    voxels = torch.stack(torch.meshgrid(*map(torch.arange, sides), indexing="ij")).float()
    marked = torch.cat([voxels, torch.ones(1, *sides)]).expand(2, -1, -1, -1, -1)
    for plan in draw_regions(config, SCANS).plan:
        places = same_places(plan["H"], ENCODER, 2, spacing)[:, 0].long()
        seen = F.avg_pool3d(warp(marked, plan["H"][:, 0]), 8).flatten(2).mT
        whole, mm = seen[..., 3] > 0.9999, seen[..., :3] * torch.tensor(spacing)
        for (first, second), (own, other) in zip(places, ((0, 1), (1, 0)), strict=True):
            kept = whole[own, first] & whole[other, second]
            assert kept.sum() > 10 and kept[:20].float().mean() > kept.float().mean()
            found = (mm[own, first] - mm[other, second]).norm(dim=1)[kept]
            best = torch.cdist(mm[own, first[kept]], mm[other, whole[other]]).min(1).values
            torch.testing.assert_close(found, best, atol=2e-3, rtol=0)


def test_places_are_compared_in_mm_and_what_shows_air_is_last():
    H = torch.eye(4, dtype=torch.float64).repeat(2, 1, 1, 1)
    H[1, 0] = affine_about_centre((32,) * 3, (1, 1, 4), (0, 35, 0), 1.0, (5, 0, 9))
    centres, mm = token_centres((4, 4, 4), (8, 8, 8)), torch.tensor([1.0, 1, 4], dtype=torch.float64)
    back = torch.linalg.inv(H[1, 0])
    seen = centres @ back[:3, :3].T + back[:3, 3]
    found = same_places(H, ENCODER, 2, (1, 1, 4))[:, 0]
    for own, other, pairs in ((centres, seen, found[0]), (seen, centres, found[1])):
        distances = torch.cdist(own * mm, other * mm)
        assert cells_of(pairs) == dict(enumerate(distances.argmin(1).tolist()))
        outside = ((own < -0.5) | (own > 31.5)).any(1)[pairs[0].long()]
        inside = int((~outside).sum())
        assert not outside[:inside].any() and outside[inside:].all()
    assert inside < 64 and cells_of(same_places(H, ENCODER, 2, (1, 1, 1))[0, 0]) != cells_of(found[0])


def naive(pairs):
    """The three terms of VICReg with weights, match after match."""
    difference = sum((x - y).square().mean() for x, y in pairs) / len(pairs)
    both = sum(
        by_hand(side[:, rank]) / side.shape[1] for pair in pairs for side in pair for rank in range(side.shape[1])
    )
    return torch.cat([25 * difference[None], both / (2 * len(pairs)) * torch.tensor([25, 1])])


@pytest.mark.parametrize("counts", [{"place_matches": (20,)}, {"place_matches": (5, 2), "feature_matches": (3,)}])
def test_the_loss_is_that_of_naive_loops(counts):
    """Features and places both count, in all three terms."""
    config = small("vicregl", batch=3, **counts)
    method, views = config.build().double(), draw_views(config, SCANS)
    views = views._replace(pairs=type(views.pairs)(*(view.double() for view in views.pairs)))
    terms, rows = method(views)
    maps = method.encoder(views.pairs.together())
    one, other = method.expander(maps[-1].flatten(2).mean(-1)).chunk(2)
    tokens = method.local_expander(maps[2].flatten(2).mT).chunk(2)
    by_place, by_feature = [], []
    for a, b in ((0, 1), (1, 0)):
        distances = (tokens[a][:, :, None] - tokens[b][:, None]).norm(dim=-1)
        for k in config.options.feature_matches or (64,):
            chosen = [sorted(sorted(range(64), key=lambda i, d=d: d[i].min())[:k]) for d in distances]
            pairs = [
                (t[c], u[d[c].argmin(1)]) for t, u, d, c in zip(tokens[a], tokens[b], distances, chosen, strict=True)
            ]
            by_feature.append(tuple(map(torch.stack, zip(*pairs, strict=True))))
        for k in config.options.place_matches:
            chosen = [sorted(zip(*pairs[:, :k].tolist(), strict=True)) for pairs in views.places[a]]
            pairs = [tuple(map(list, zip(*c, strict=True))) for c in chosen]
            sides = [(t[i], u[j]) for t, u, (i, j) in zip(tokens[a], tokens[b], pairs, strict=True)]
            by_place.append(tuple(map(torch.stack, zip(*sides, strict=True))))
    expected = 0.75 * naive([(one[:, None], other[:, None])]) + 0.25 * (naive(by_feature) + naive(by_place))
    torch.testing.assert_close(torch.stack(terms[1:]).mean(1), expected)
    torch.testing.assert_close(terms.total, sum(terms[1:]))
    assert rows is None


def test_distances_choose_but_have_no_gradient_of_their_own():
    rows = wave(0.2, 0.8, 2, 5, 3).requires_grad_()
    assert not nearest(rows, rows.detach()).requires_grad
    far = unit_length(rows.detach())
    assert torch.equal(nearest(far, far)[0, 0].sort().values, nearest(far, far)[0, 1].sort().values)


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match=r"place_matches \[65\] must not exceed 64, the tokens at level 2"):
        small("vicregl", place_matches=(65,))
    with pytest.raises(ValueError, match=r"feature_matches \[4, 9\] must not exceed 8"):
        small("vicregl", level=3, place_matches=(4,), feature_matches=(4, 9))
    with pytest.raises(ValueError, match="must be multiples of 32, a token at level 4"):
        small("vicregl", level=4, place_matches=(1,), encoder=replace(ENCODER, sub_volume=(48, 48, 48)))
    with pytest.raises(ValueError, match="weights must be 3 weights"):
        VICRegLOptions(weights=(0, 0, 0))


def test_a_dry_run_says_what_its_rows_allow():
    config = small("vicregl", batch=8, out=256)
    (_, said), *_ = config.options.describe(ENCODER, draw_regions(config, SCANS))
    assert said == "8 rows of 256 features: with deviations of 1 the covariance term is 35.6 at least"
