"""One labelled scan and another: what each way answers, on small numbers and on two generated bodies."""

import numpy as np
import pytest
import torch

from s2dc_core.data import make_phantom, scan_from_phantom
from s2dc_core.evaluation.alignment import Alignment, align_matches
from s2dc_core.evaluation.correctness import centroids, dice_by_label, landmark_errors, nearest_found, retrieval
from s2dc_core.evaluation.correspondence import body_tokens, match_tokens, token_centres, token_sides
from s2dc_core.evaluation.deformation import AGAIN, bend
from s2dc_core.evaluation.one_shot import carry_labels, transfer_labels
from s2dc_core.evaluation.pairs import (
    WAYS,
    Side,
    Weights,
    answers,
    encoded_by,
    nearest_with,
    patches_of,
    score_answers,
)
from s2dc_core.features import organ_grid, token_features
from s2dc_core.library import open_weights
from tests.evaluation.grids import OBLIQUE, scan_of


def blocks_scan(seed=0, shape=(32, 28, 24), name="blocks"):
    """Noise above 0 with air about it, three organs of whole blocks: patches know their place."""
    draw = np.random.default_rng(seed)
    raw, label = 1 + draw.random(shape), np.zeros(shape, int)
    raw[:4], raw[:, -4:] = 0, 0
    label[4:16, :12, :12], label[16:28, 8:20, 4:16], label[8:20, 4:12, 12:24] = 1, 2, 5
    return scan_of(raw, OBLIQUE, label, name)


def shifted(scan):
    """Another scan that shows the same four voxels further on."""
    parts = {name: getattr(scan, name).roll(4, -1) for name in ("volume", "raw", "label", "foreground")}
    return scan._replace(name="shifted", **parts)


BY_PATCHES = Weights(place=1.0, aligned=0.01, metric="euclidean")


@pytest.fixture(scope="module")
def blocks():
    return Side.of(blocks_scan(), patches_of((4, 4, 4)))


@pytest.fixture(scope="module")
def moved():
    return Side.of(shifted(blocks_scan()), patches_of((4, 4, 4)))


@pytest.fixture(scope="module")
def bodies():
    """Two generated bodies through the shipped encoder."""
    encode = encoded_by(open_weights("s2dc"))
    shape, spacing = (60, 40, 60), (6.0, 6.0, 6.0)
    phantoms = [make_phantom(seed, "ct", shape, spacing) for seed in (1, 2)]
    return [Side.of(scan_from_phantom(each, f"body {k}"), encode) for k, each in enumerate(phantoms)]


@pytest.fixture(scope="module")
def found(bodies):
    return answers(*bodies)


# Sides


def test_a_side_is_a_scan_with_its_tokens(blocks):
    scan = blocks.scan
    assert blocks.tokens.patch == (4, 4, 4) and [m.patch for m in blocks.finer] == [(4, 4, 4), (2, 2, 2)]
    assert torch.equal(blocks.body, body_tokens(blocks.tokens, scan.foreground))
    assert torch.equal(blocks.owner, organ_grid(blocks.tokens, scan.label))
    assert torch.equal(blocks.tokens.features[2, 3, 1].view(4, 4, 4), scan.volume[0, 8:12, 12:16, 4:8])
    alone = Side.of(scan, lambda each: patches_of()(each)[0])
    assert alone.finer == () and torch.equal(alone.tokens.features, blocks.tokens.features)


def test_a_scan_without_labels_is_refused():
    with pytest.raises(ValueError, match="blocks has no labels: there is nothing to carry over or to score"):
        Side.of(blocks_scan()._replace(label=None), patches_of())


def test_the_maps_of_an_encoder(bodies):
    """All levels to match by, the finest alone to deform by, then with the one below; in the tile of all of them."""
    scan, encoder = bodies[0].scan, open_weights("s2dc")
    options = {"affine": scan.affine, "background": scan.background, "sub_volume": (64, 48, 64)}
    for tokens, levels in zip((bodies[0].tokens, *bodies[0].finer), ((1, 2, 3), 1, (0, 1)), strict=True):
        expected = token_features(encoder, scan.volume, levels, **options)
        torch.testing.assert_close(tokens.features, expected.features, rtol=1e-3, atol=1e-3)
        assert tokens.patch == expected.patch
        np.testing.assert_array_equal(tokens.affine, expected.affine)
    assert len(encoded_by(encoder, (0, 1))(scan)) == 2, "there is no level below the finest"


# Ways


def test_every_way_gives_a_scan_its_own_labels(blocks):
    result = answers(blocks, blocks, BY_PATCHES)
    truth = torch.where(blocks.body, blocks.owner, 0)
    for way in WAYS:
        assert torch.equal(torch.where(blocks.body, result.labels[way], 0), truth), way
    assert torch.equal(result.carried, blocks.scan.label.long())
    scores = score_answers(result, blocks, blocks)
    assert scores.inliers == scores.mutual == int(blocks.body.sum())
    assert set(scores.voxel_dice.values()) == {1} == set(scores.retrieval.values())
    assert max(scores.landmarks["deformed"].values()) < 1e-6


def test_every_way_finds_what_was_moved(blocks, moved):
    result = answers(blocks, moved, BY_PATCHES)
    shift = OBLIQUE[:3, :3] @ (0, 0, -4)
    np.testing.assert_allclose(result.alignment(np.zeros((1, 3)))[0], shift, atol=0.3)
    inside = moved.body.clone()
    inside[..., 0] = False  # what came in at the other end
    for way in ("nearest", "aligned", "deformed"):
        assert (result.labels[way] == moved.owner)[inside].double().mean() > 0.97, way


def test_nearest_with_is_transfer_labels(blocks, moved):
    """Two ways to say the same: an alignment, or the place in the box."""
    matches = match_tokens(
        blocks.tokens, moved.tokens, source_inside=blocks.body, target_inside=moved.body, metric="euclidean"
    )
    alignment = align_matches(matches, token_sides(blocks.tokens))
    labelled, options = [(blocks.tokens, blocks.scan.label, blocks.body)], {"inside": moved.body}
    aligned = transfer_labels(labelled, moved.tokens, align=True, weight=0.02, metric="euclidean", **options)
    assert torch.equal(nearest_with(blocks, moved, "euclidean", 0.02, alignment), aligned)
    place = transfer_labels(labelled, moved.tokens, place=3, **options)
    assert torch.equal(nearest_with(blocks, moved, "cosine", 3), place)


def test_where_the_world_begins_does_not_matter(blocks, moved):
    away = np.eye(4)
    away[:3, 3] = 900, -700, -2500
    far = [
        side._replace(
            scan=side.scan._replace(affine=away @ side.scan.affine),
            tokens=side.tokens._replace(affine=away @ side.tokens.affine),
            finer=tuple(m._replace(affine=away @ m.affine) for m in side.finer),
        )
        for side in (blocks, moved)
    ]
    near, other = answers(blocks, moved, BY_PATCHES), answers(*far, BY_PATCHES)
    for way in WAYS:
        assert torch.equal(near.labels[way], other.labels[way]), way


def test_distances_are_exact_far_from_where_the_world_begins(blocks):
    """Tokens that all look alike and carry a number each: the nearest by place is found, 2500 mm away as well."""
    alike = blocks._replace(
        tokens=blocks.tokens._replace(features=torch.ones_like(blocks.tokens.features)),
        owner=torch.arange(blocks.owner.numel()).view_as(blocks.owner),
    )
    affine = np.eye(4)
    affine[:3] += 0.05 * np.random.default_rng(0).standard_normal((3, 4))
    away = np.eye(4)
    away[:3, 3] = 900, -700, -2500
    far = alike._replace(tokens=alike.tokens._replace(affine=away @ alike.tokens.affine))
    centres, inside = token_centres(alike.tokens), alike.body.flatten().numpy()
    distances = np.linalg.norm((centres @ affine[:3, :3].T + affine[:3, 3])[:, None] - centres[inside], axis=2)
    nearest = np.where(inside, np.flatnonzero(inside)[distances.argmin(1)], 0)
    for side, moved_by in ((alike, affine), (far, away @ affine @ np.linalg.inv(away))):
        found = nearest_with(side, side, "cosine", 0.03, Alignment(moved_by, np.zeros(0, bool), 0.0))
        np.testing.assert_array_equal(found.flatten().numpy(), nearest)


def test_only_the_ways_asked_for_are_answered(blocks, moved):
    whole = answers(blocks, moved, BY_PATCHES)
    for ways in ((), ("place",), ("aligned",), ("deformed",), ("finer",), ("place", "deformed", "finer")):
        part = answers(blocks, moved, BY_PATCHES, ways)
        assert set(part.labels) == {"nearest", *ways}
        for way, labels in part.labels.items():
            assert torch.equal(labels, whole.labels[way]), (ways, way)
        assert (part.carried is None) == (not {"deformed", "finer"} & set(ways))
    assert answers(blocks, moved, BY_PATCHES, ("place",)).alignment is None


def test_with_one_map_there_is_no_finer_way(blocks, moved):
    one, other = (side._replace(finer=()) for side in (blocks, moved))
    result = answers(one, other, BY_PATCHES)
    assert set(result.labels) == set(WAYS) - {"finer"}
    assert torch.equal(result.labels["deformed"], answers(blocks, moved, BY_PATCHES).labels["deformed"])


def test_without_an_alignment_all_ways_are_the_plain_one(blocks, monkeypatch):
    monkeypatch.setattr("s2dc_core.evaluation.pairs.align_matches", lambda *args, **options: None)
    result = answers(blocks, blocks, BY_PATCHES)
    assert set(result.labels) == set(WAYS) and result.alignment is None and result.carried is None
    for way in ("aligned", "deformed", "finer"):
        assert torch.equal(result.labels[way], result.labels["nearest"])
    scores = score_answers(result, blocks, blocks)
    assert scores.voxel_dice == {} and set(scores.landmarks) == {"nearest"} and scores.inliers == 0


def test_labels_that_are_carried_out_of_the_scan(blocks, monkeypatch):
    away = np.eye(4)
    away[:3, 3] = 1e4
    far = Alignment(away, np.zeros(0, bool), 0.0)
    monkeypatch.setattr("s2dc_core.evaluation.pairs.align_matches", lambda *args, **options: far)
    result = answers(blocks, blocks, BY_PATCHES)
    assert not result.carried.any() and not result.labels["finer"].any()


def test_scans_without_a_common_label(blocks):
    label = torch.where(blocks.scan.label > 0, 9, 0).int()
    other = Side.of(blocks.scan._replace(label=label, name="another"), patches_of())
    result = answers(blocks, other, BY_PATCHES, ways=())
    with pytest.raises(ValueError, match="blocks and another share no label that fills a token"):
        score_answers(result, blocks, other)


def test_the_answers_are_made_of_their_parts(blocks, moved):
    """Matches, alignment, two deformations and the labels that they carry, put together by hand."""
    labelled, target, metric = blocks, moved, BY_PATCHES.metric
    found = answers(labelled, target, BY_PATCHES)
    masks = {"source_inside": labelled.body, "target_inside": target.body}
    matches = match_tokens(labelled.tokens, target.tokens, metric=metric, **masks)
    plain = torch.zeros(target.owner.shape, dtype=torch.long)
    plain.view(-1)[matches.target] = labelled.owner.flatten()[matches.source]
    assert torch.equal(found.labels["nearest"], plain)
    alignment = align_matches(matches, token_sides(labelled.tokens))
    np.testing.assert_array_equal(alignment.inliers, found.alignment.inliers)
    for maps, how in zip(zip(labelled.finer, target.finer, strict=True), ({}, {"rounds": AGAIN}), strict=True):
        masks = [body_tokens(m, side.scan.foreground) for m, side in zip(maps, (labelled, target), strict=True)]
        alignment = bend(*maps, alignment, source_inside=masks[0], target_inside=masks[1], metric=metric, **how)
    np.testing.assert_allclose(alignment.bend, found.alignment.bend, atol=1e-6)
    scan = target.scan
    carried = carry_labels(labelled.scan.label, labelled.scan.affine, scan.raw.shape, scan.affine, alignment)
    assert torch.equal(found.carried, carried)
    assert torch.equal(found.labels["finer"], organ_grid(target.tokens, carried))


# Two bodies


def test_two_bodies_have_every_answer(bodies, found):
    labelled, target = bodies
    assert set(found.labels) == set(WAYS)
    for labels in found.labels.values():
        assert labels.shape == target.owner.shape and labels.dtype == torch.int64
        assert set(labels.unique().tolist()) <= {0, *labelled.scan.label.unique().tolist()}
    assert found.carried.shape == target.scan.label.shape
    assert len(found.matches.target) == int(target.body.sum()) == len(found.alignment.inliers)
    for way in ("nearest", "place", "aligned"):
        assert not found.labels[way][~target.body].any(), way


def test_scores_are_those_of_the_answers(bodies, found):
    labelled, target = bodies
    scores = score_answers(found, labelled, target)
    assert scores.dice == {way: dice_by_label(target.owner, labels) for way, labels in found.labels.items()}
    assert scores.voxel_dice == dice_by_label(target.scan.label.long(), found.carried)
    assert scores.retrieval == retrieval(target.owner, found.labels["nearest"])
    here, there = (centroids(side.scan.label, side.scan.affine) for side in (target, labelled))
    assert scores.landmarks == {
        "nearest": landmark_errors(here, there, nearest_found(found.matches)),
        "deformed": landmark_errors(here, there, found.alignment),
    }
    assert 0 < scores.inliers == int(found.alignment.inliers.sum()) <= scores.mutual < len(found.matches.target)
    means = {way: np.mean(list(each.values())) for way, each in scores.dice.items()}
    assert means["finer"] > means["nearest"] > 0.2
    errors = {way: np.mean(list(each.values())) for way, each in scores.landmarks.items()}
    assert errors["deformed"] < 0.6 * errors["nearest"]


def test_the_targets_own_labels_are_not_looked_at(blocks, moved):
    shuffle = np.random.default_rng(0).permutation
    spoilt = moved._replace(
        scan=moved.scan._replace(label=torch.from_numpy(shuffle(moved.scan.label.flatten())).view_as(moved.scan.label)),
        owner=torch.from_numpy(shuffle(moved.owner.flatten())).view_as(moved.owner),
    )
    one, other = answers(blocks, moved, BY_PATCHES), answers(blocks, spoilt, BY_PATCHES)
    for way in WAYS:
        assert torch.equal(one.labels[way], other.labels[way])
    assert torch.equal(one.carried, other.carried)
