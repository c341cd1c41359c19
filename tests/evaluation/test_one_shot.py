"""Labels carried from one patient to another: votes, places, alignments and voxels against their definitions."""

import warnings

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from sklearn.neighbors import KNeighborsClassifier

from s2dc_core.evaluation.alignment import WEIGHT, Alignment
from s2dc_core.evaluation.one_shot import LabelScores, carry_labels, in_box, label_scores, transfer_labels
from s2dc_core.features import TokenMap, token_affine
from tests.evaluation.grids import LEFT_HANDED, OBLIQUE, random_map, world


def random_labels(grid, patch=(2, 2, 2), seed=0, organs=4):
    """Whole tokens of one label each, background among them."""
    owner = np.random.default_rng(seed).integers(0, organs, grid)
    return owner, np.kron(owner, np.ones(patch, int))


def cosine_weights(distances):
    return np.maximum(1 - distances, 1e-6)


@pytest.mark.parametrize("neighbours", [1, 3, 5])
def test_votes_equal_scikit_learns(neighbours):
    source, target = random_map((6, 5, 4), 5, seed=1), random_map((5, 5, 5), 5, seed=2)
    owner, label = random_labels((6, 5, 4))
    judge = KNeighborsClassifier(neighbours, metric="cosine", weights=cosine_weights, algorithm="brute")
    judge.fit(source.features.flatten(0, 2).numpy(), owner.ravel())
    rows = target.features.flatten(0, 2).numpy()
    found = label_scores([(source, torch.from_numpy(label))], target, neighbours=neighbours)
    assert found.labels == (0, 1, 2, 3) == tuple(judge.classes_)
    np.testing.assert_allclose(found.scores.flatten(0, 2).numpy(), judge.predict_proba(rows), atol=1e-4)
    labels = transfer_labels([(source, label)], target, neighbours=neighbours)
    np.testing.assert_array_equal(labels.flatten().numpy(), judge.predict(rows))
    assert set(labels.unique().tolist()) == {0, 1, 2, 3}


@pytest.mark.parametrize("neighbours", [1, 4])
def test_several_labelled_scans_are_one_training_set(neighbours):
    maps = [random_map((4, 3, 5), 5, seed=seed) for seed in (1, 2, 3)]
    labels = [random_labels((4, 3, 5), seed=seed)[1] for seed in (1, 2, 3)]
    together = maps[0]._replace(features=torch.cat([each.features for each in maps]))
    target = random_map((5, 5, 5), 5, seed=9)
    one = label_scores([(together, np.concatenate(labels))], target, neighbours=neighbours)
    several = label_scores(zip(maps, labels, strict=True), target, neighbours=neighbours)
    assert one.labels == several.labels
    torch.testing.assert_close(one.scores, several.scores)


def test_more_neighbours_than_tokens():
    source, target = random_map((2, 1, 1)), random_map(seed=1)
    label = np.kron(np.array([[[1]], [[2]]]), np.ones((2, 2, 2), int))
    scores = label_scores([(source, label)], target, neighbours=9).scores
    torch.testing.assert_close(scores.sum(-1), torch.ones(4, 3, 5))


def test_by_euclidean_distance_every_neighbour_counts_alike():
    source, target = random_map((6, 5, 4), 5, seed=1), random_map((5, 5, 5), 5, seed=2)
    owner, label = random_labels((6, 5, 4))
    judge = KNeighborsClassifier(3).fit(source.features.flatten(0, 2).numpy(), owner.ravel())
    found = label_scores([(source, label)], target, neighbours=3, metric="euclidean")
    shares = judge.predict_proba(target.features.flatten(0, 2).numpy())
    np.testing.assert_allclose(found.scores.flatten(0, 2).numpy(), shares, atol=1e-6)


def test_only_tokens_inside_vote_and_get_a_label():
    source, target = random_map((4, 3, 5), 5, seed=1), random_map((5, 5, 5), 5, seed=2)
    owner, label = random_labels((4, 3, 5))
    body, inside = torch.from_numpy(owner != 2), torch.ones(5, 5, 5, dtype=torch.bool)
    inside[:2] = False
    found = transfer_labels([(source, label, body)], target, inside=inside)
    assert set(found.unique().tolist()) == {0, 1, 3} and not found[:2].any()
    judge = KNeighborsClassifier(1, metric="cosine").fit(source.features[body].numpy(), owner[body.numpy()])
    np.testing.assert_array_equal(found[2:].flatten().numpy(), judge.predict(target.features[2:].flatten(0, 2)))


def test_a_scan_gets_its_own_labels_back():
    tokens = random_map()
    owner, label = random_labels((4, 3, 5))
    for how in ({}, {"neighbours": 1, "place": 5}, {"align": True}):
        assert torch.equal(transfer_labels([(tokens, label)], tokens, **how), torch.from_numpy(owner))


# With places


def naive_box(cells, affine):
    places = world(cells, affine)
    low, high = places.min(0), places.max(0)
    return [[(x - a) / (b - a) for x, a, b in zip(place, low, high, strict=True)] for place in places]


def test_the_place_in_the_box_is_taken_off_the_score():
    source, target = random_map((4, 3, 5), 5, seed=1), random_map((3, 4, 4), 5, seed=2, affine=LEFT_HANDED)
    owner, label = random_labels((4, 3, 5))
    body = torch.rand(4, 3, 5, generator=torch.Generator().manual_seed(0)) < 0.8
    keys, queries = [tuple(cell) for cell in body.nonzero().tolist()], list(np.ndindex(3, 4, 4))
    boxes = naive_box(queries, target.affine), naive_box(keys, source.affine)
    expected = np.zeros((3, 4, 4), int)
    for query, here in zip(queries, boxes[0], strict=True):
        scores = []
        for key, there in zip(keys, boxes[1], strict=True):
            a, b = source.features[key].double(), target.features[query].double()
            square = sum((x - y) ** 2 for x, y in zip(here, there, strict=True))
            scores.append(float(a @ b / a.norm() / b.norm()) - 1.5 * square)
        expected[query] = owner[keys[int(np.argmax(scores))]]
    found = transfer_labels([(source, label, body)], target, place=1.5)
    np.testing.assert_array_equal(found.numpy(), expected)
    assert (expected != transfer_labels([(source, label, body)], target).numpy()).any()


def test_places_in_a_box():
    points = np.array([[2.0, 5, 1], [4, 5, -1], [3, 5, 0]])
    np.testing.assert_allclose(in_box(points), [[0, 0, 1], [1, 0, 0], [0.5, 0, 0.5]])


def ambiguous(shape=(12, 10, 8), shift=(2, 1, 0), seed=0):
    """A scan and its shifted copy: half of the tokens are unlike all others, the other half nearly alike."""
    draw = np.random.default_rng(seed)
    features = draw.standard_normal((*shape, 12))
    common = draw.random(shape) < 0.5
    features[common] = features[0, 0, 0] + 0.3 * draw.standard_normal((int(common.sum()), 12))
    owner = np.zeros(shape, int)
    owner[: shape[0] // 2], owner[shape[0] // 2 :, : shape[1] // 2] = 1, 2
    copy = np.roll(features, shift, (0, 1, 2)) + 0.25 * draw.standard_normal(features.shape)
    source, target = (
        TokenMap(torch.from_numpy(each).float(), (2, 2, 2), token_affine(OBLIQUE, (2, 2, 2)))
        for each in (features, copy)
    )
    inside = torch.zeros(shape, dtype=torch.bool)
    inside[shift[0] :, shift[1] :, shift[2] :] = True
    return source, target, owner, np.kron(owner, np.ones((2, 2, 2), int)), inside


def test_an_alignment_settles_what_features_leave_open():
    source, target, owner, label, inside = ambiguous()
    truth = np.roll(owner, (2, 1, 0), (0, 1, 2))
    plain, aligned = (
        (transfer_labels([(source, label)], target, align=align, inside=inside).numpy() == truth)[inside].mean()
        for align in (False, True)
    )
    assert plain < 0.9 and aligned > 0.97


@pytest.mark.parametrize("how", [{"align": True}, {"place": 10}])
def test_where_the_world_begins_does_not_matter(how):
    """A scanner's table may lie at -1500 mm: distances must keep their precision beside cosines."""
    source, target, _, label, inside = ambiguous()
    away = np.eye(4)
    away[:3, 3] = 700, -900, -2500
    moved = [each._replace(affine=away @ each.affine) for each in (source, target)]
    near = label_scores([(source, label)], target, inside=inside, neighbours=3, **how)
    far = label_scores([(moved[0], label)], moved[1], inside=inside, neighbours=3, **how)
    torch.testing.assert_close(far.scores, near.scores, rtol=0, atol=1e-5)


def test_a_weight_of_zero_is_the_plain_answer():
    source, target, _, label, inside = ambiguous()
    plain = transfer_labels([(source, label)], target, inside=inside)
    assert torch.equal(transfer_labels([(source, label)], target, inside=inside, align=True, weight=0), plain)
    assert torch.equal(transfer_labels([(source, label)], target, inside=inside, place=0), plain)
    assert WEIGHT > 0


def test_too_few_matches_are_warned_of_and_the_plain_answer_is_given():
    source, target = random_map((2, 2, 2), seed=1), random_map((2, 2, 2), seed=2)
    label = random_labels((2, 2, 2))[1]
    with pytest.warns(UserWarning, match="labelled scan 0 is used without an alignment: of . mutual matches"):
        found = transfer_labels([(source, label)], target, align=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(found, transfer_labels([(source, label)], target))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"neighbours": 0}, "neighbours must hold whole numbers from 1 up"),
        ({"place": 1, "align": True}, "give place or align, not both"),
        ({"place": -1}, "place -1 and weight 0.01 must not be negative"),
        ({"weight": -0.5, "align": True}, "weight -0.5 must not be negative"),
        ({"metric": "none"}, "metric 'none'"),
        ({"inside": torch.zeros(4, 3, 5, dtype=torch.bool)}, "mask is empty"),
        ({"inside": torch.ones(4, 3, 4, dtype=torch.bool)}, "does not lie on the token grid"),
    ],
)
def test_bad_options(how, message):
    with pytest.raises(ValueError, match=message):
        transfer_labels([(random_map(), random_labels((4, 3, 5))[1])], random_map(seed=1), **how)


def test_bad_labelled_scans():
    tokens, label = random_map(), random_labels((4, 3, 5))[1]
    with pytest.raises(ValueError, match="no labelled scan: give at least one"):
        transfer_labels([], tokens)
    with pytest.raises(ValueError, match="background only"):
        transfer_labels([(tokens, np.zeros_like(label))], tokens)
    with pytest.raises(ValueError, match="does not lie on"):
        transfer_labels([(tokens, label[:-2])], tokens)
    with pytest.raises(ValueError, match="5 and 6 channels"):
        transfer_labels([(tokens, label), (random_map(channels=5), label)], tokens)
    with pytest.raises(ValueError, match="does not lie on the token grid"):
        transfer_labels([(tokens, label, torch.ones(1, 1, 1, dtype=torch.bool))], tokens)


# Voxels


def test_constant_shares_stay_constant_on_voxels():
    scores = torch.tensor([0.2, 0.5, 0.3]).expand(3, 2, 4, 3)
    found = LabelScores(scores, (0, 4, 7))
    assert found.voxels((2, 4, 3), (5, 8, 11)).shape == (5, 8, 11)
    assert (found.voxels((2, 4, 3), (5, 8, 11)) == 4).all() and (found.tokens() == 4).all()


def test_voxels_take_the_label_of_the_linearly_interpolated_shares():
    """By hand: voxel v of a token map of patch p lies at (v + 1/2) / p - 1/2 between the tokens' centres."""
    draw = np.random.default_rng(0)
    shares = draw.dirichlet(np.ones(3), (3, 2, 4))
    patch, shape, labels = (2, 4, 3), (5, 8, 11), (0, 4, 7)
    found = LabelScores(torch.from_numpy(shares).float(), labels).voxels(patch, shape)
    for voxel in np.ndindex(*shape):
        mixed = np.zeros(3)
        ends = []
        for v, p, n in zip(voxel, patch, (3, 2, 4), strict=True):
            place = min(max((v + 0.5) / p - 0.5, 0), n - 1)
            low = min(int(place), n - 2)
            ends.append(((low, 1 - (place - low)), (low + 1, place - low)))
        for (a, i), (b, j), (c, k) in ((x, y, z) for x in ends[0] for y in ends[1] for z in ends[2]):
            mixed += i * j * k * shares[a, b, c]
        if np.diff(np.sort(mixed))[-1] > 1e-5:
            assert int(found[voxel]) == labels[int(mixed.argmax())], voxel


@pytest.mark.parametrize("shape", [(7, 8, 11), (5, 8, 9), (4, 8, 11)])
def test_voxels_that_the_tokens_do_not_cover_just(shape):
    scores = LabelScores(torch.full((3, 2, 4, 1), 1.0), (0,))
    with pytest.raises(ValueError, match=r"voxels do not lie under \(3, 2, 4\) tokens of \(2, 4, 3\) voxels"):
        scores.voxels((2, 4, 3), shape)


def test_the_centre_of_a_token_keeps_its_label():
    owner, _ = random_labels((4, 3, 5), organs=3)
    scores = torch.nn.functional.one_hot(torch.from_numpy(owner)).float()
    voxels = LabelScores(scores, (0, 1, 2)).voxels((3, 3, 3), (12, 9, 15))
    np.testing.assert_array_equal(voxels[1::3, 1::3, 1::3].numpy(), owner)


def test_of_equal_shares_the_lower_label_is_taken():
    assert LabelScores(torch.full((1, 1, 1, 3), 1 / 3), (0, 2, 5)).tokens().tolist() == [[[0]]]
    assert LabelScores(torch.tensor([[[[0.2, 0.4, 0.4]]]]), (0, 2, 5)).tokens().tolist() == [[[2]]]


# Carried labels


def identity(points):
    return points


@pytest.mark.parametrize("affine", [np.eye(4), OBLIQUE, LEFT_HANDED])
def test_the_identity_gives_the_label_back(affine):
    """To the last voxel of the border, whatever rounding the affine brings."""
    label = np.random.default_rng(0).integers(1, 9, (7, 6, 5))
    for given in (label, torch.from_numpy(label).to(torch.int32)):
        carried = carry_labels(given, affine, label.shape, affine, identity)
        np.testing.assert_array_equal(carried.numpy(), label)
        assert carried.dtype == torch.int64


def test_a_shift_by_whole_voxels():
    label = np.random.default_rng(0).integers(1, 9, (7, 6, 5))
    shift = OBLIQUE[:3, :3] @ (2, -1, 0)
    carried = carry_labels(label, OBLIQUE, label.shape, OBLIQUE, lambda points: points + shift).numpy()
    np.testing.assert_array_equal(carried[:5, 1:], label[2:, :5])
    assert not carried[5:].any() and not carried[:, 0].any(), "beyond the source lies background"


def test_carried_labels_equal_a_naive_loop():
    label = np.random.default_rng(0).integers(1, 9, (7, 6, 5)).astype(np.uint8)
    other = np.array([[2.3, 0.2, 0, -33], [-0.1, 1.9, 0.4, -30], [0.3, 0, 3.1, 1], [0, 0, 0, 1]])
    turn = np.eye(4)
    turn[:3] += 0.05 * np.random.default_rng(1).standard_normal((3, 4))
    moved = Alignment(turn, np.zeros(0, bool), 0.0)
    carried = carry_labels(label, OBLIQUE, (34, 12, 6), other, moved).numpy()
    inside = 0
    for voxel in np.ndindex(34, 12, 6):
        place = np.linalg.inv(OBLIQUE) @ turn @ other @ [*voxel, 1]
        cell = np.round(place[:3]).astype(int)
        within = ((cell >= 0) & (cell < label.shape)).all()
        assert carried[voxel] == (label[tuple(cell)] if within else 0), voxel
        inside += within
    assert 50 < inside < carried.size - 50


def test_smooth_bodies_keep_their_size_on_another_spacing():
    field = gaussian_filter(np.random.default_rng(0).standard_normal((20, 20, 20)), 3)
    label = (field > 0).astype(int)
    affine = np.diag([0.5, 0.5, 0.5, 1])
    affine[:3, 3] = -0.25
    fine = carry_labels(label, np.eye(4), (40, 40, 40), affine, identity)
    np.testing.assert_array_equal(fine.numpy(), np.kron(label, np.ones((2, 2, 2), int)))
