"""How right labels and places are: each measure against a naive loop, MONAI, or a case with a known answer."""

import math
import warnings

import numpy as np
import pytest
import torch
from monai.metrics import compute_dice, compute_surface_dice

from s2dc_core.data import body_coordinates, make_phantom, scan_from_phantom
from s2dc_core.evaluation.correctness import (
    Partners,
    centroids,
    dice_by_label,
    landmark_errors,
    nearest_found,
    partner_errors,
    retrieval,
    round_trip,
    side_confusion,
    surface_dice,
    true_partners,
)
from s2dc_core.evaluation.correspondence import match_tokens
from tests.evaluation.grids import LEFT_HANDED, OBLIQUE, random_map, world


def two_label_maps(seed=0, shape=(6, 5, 7)):
    """Some labels agree, 7 is only in the truth, 9 only in what was found."""
    draw = np.random.default_rng(seed)
    truth = draw.choice([0, 1, 2, 7], shape)
    found = np.where(draw.random(shape) < 0.6, truth, draw.choice([0, 1, 2, 9], shape))
    found[found == 7] = 0
    return torch.from_numpy(truth), torch.from_numpy(found)


def test_dice_equals_a_naive_loop_and_monais():
    truth, found = two_label_maps()
    expected = {}
    for label in (1, 2, 7):
        both = sum(int(a == b == label) for a, b in zip(truth.flatten(), found.flatten(), strict=True))
        expected[label] = 2 * both / (int((truth == label).sum()) + int((found == label).sum()))
    scores = dice_by_label(truth, found)
    assert scores == pytest.approx(expected) and scores[7] == 0 and 0 < scores[1] < 1
    masks = [torch.stack([each == label for label in (1, 2, 7)])[None].float() for each in (found, truth)]
    assert list(scores.values()) == pytest.approx(compute_dice(*masks)[0].tolist())


def test_retrieval_equals_a_naive_loop():
    truth, found = two_label_maps()
    expected = {label: float((found[truth == label] == label).double().mean()) for label in (1, 2, 7)}
    assert retrieval(truth, found) == pytest.approx(expected)


@pytest.mark.parametrize("score", [dice_by_label, retrieval, lambda a, b: surface_dice(a, b, (1, 1, 1))])
def test_right_wrong_and_empty_answers(score):
    truth = torch.zeros(6, 6, 6, dtype=torch.long)
    truth[1:3], truth[4:] = 3, 5
    assert score(truth, truth) == {3: 1, 5: 1}
    assert score(truth, torch.zeros_like(truth)) == {3: 0, 5: 0}
    with pytest.raises(ValueError, match="the truth holds no label"):
        score(torch.zeros_like(truth), truth)


@pytest.mark.parametrize("tolerance", [1.0, 2.0, 5])
def test_surface_dice_is_monais_for_each_label(tolerance):
    draw = np.random.default_rng(0)
    truth, found = torch.zeros(2, 14, 12, 10, dtype=torch.long)
    truth[2:8, 3:9, 2:8], truth[9:13, 2:6, 3:7] = 1, 4
    found[3:8, 3:10, 2:7], found[9:12, 3:6, 3:9] = 1, 4
    found[torch.from_numpy(draw.random(found.shape) < 0.02)] = 4
    spacing = (1.5, 1.0, 2.5)
    values = surface_dice(truth, found, spacing, tolerance)
    for label, value in values.items():
        masks = [(each == label)[None, None].float() for each in (found, truth)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            alone = compute_surface_dice(*masks, [float(tolerance)], include_background=True, spacing=spacing)
        assert value == pytest.approx(float(alone))
    assert min(values.values()) > 0 and (tolerance == 5 or max(values.values()) < 1)


@pytest.mark.parametrize("axis", range(3))
def test_surface_dice_of_a_shifted_cube_in_closed_form(axis):
    """Of a cube of 6 voxels, 152 lie on its surface. Moved by one, both cubes share what lies in both surfaces; with
    the tolerance of that voxel's side all are near."""
    truth = torch.zeros(12, 12, 12, dtype=torch.long)
    truth[3:9, 3:9, 3:9] = 1
    found, spacing = truth.roll(1, axis), [2.0, 2.0, 2.0]
    spacing[axis] = 3.0
    common = 4 * 20  # the four side walls overlap in five layers, less what is a lid of one of the two
    surface = 6**3 - 4**3
    rim = 20  # the lid of each lies in a layer of the other whose rim is wall
    assert surface_dice(truth, found, spacing, 0.5) == {1: pytest.approx((common + rim) / surface)}
    assert surface_dice(truth, found, spacing, 3.0) == {1: pytest.approx(1)}


def test_no_warning_of_monai_comes_through():
    truth = torch.zeros(6, 6, 6, dtype=torch.long)
    truth[2:4, 2:4, 2:4] = 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        surface_dice(truth, truth, (1, 1, 1))
        surface_dice(truth, torch.zeros_like(truth), (1, 1, 1))


# Places


@pytest.mark.parametrize("affine", [OBLIQUE, LEFT_HANDED])
def test_centroids_equal_a_naive_loop(affine):
    label = torch.from_numpy(np.random.default_rng(0).choice([0, 2, 5], (4, 5, 3)))
    found = centroids(label, affine)
    assert set(found) == {2, 5}
    for organ, place in found.items():
        np.testing.assert_allclose(place, world((label == organ).nonzero().numpy(), affine).mean(0))
    assert centroids(torch.zeros(2, 2, 2, dtype=torch.long), affine) == {}


def test_landmark_errors_are_distances_of_the_common_centroids():
    target = {1: np.array([0.0, 0, 0]), 2: np.array([10.0, 0, 0]), 3: np.zeros(3)}
    source = {2: np.array([13.0, 4, 0]), 1: np.array([0, 0, 1.0]), 9: np.zeros(3)}
    assert landmark_errors(target, source, lambda points: points) == {1: 1, 2: 5}
    assert landmark_errors(target, source, lambda points: points + (3, 4, 0)) == pytest.approx({1: 26**0.5, 2: 0})
    assert landmark_errors({1: np.zeros(3)}, {2: np.zeros(3)}, lambda points: points) == {}


def test_plain_matches_move_a_place_as_the_nearest_token():
    source, target = random_map((4, 3, 5), seed=1), random_map((3, 4, 2), seed=2, affine=LEFT_HANDED)
    matches = match_tokens(source, target)
    moved = nearest_found(matches)
    np.testing.assert_array_equal(moved(matches.target_mm), matches.source_mm)
    points = np.random.default_rng(0).uniform(-30, 40, (20, 3))
    for point, place in zip(points, moved(points), strict=True):
        nearest = min(range(24), key=lambda k: np.linalg.norm(matches.target_mm[k] - point))
        np.testing.assert_array_equal(place, matches.source_mm[nearest])


@pytest.mark.parametrize("masked", [False, True])
def test_a_round_trip_equals_a_naive_loop(masked):
    source, target = random_map((3, 3, 3), seed=1), random_map((4, 4, 5), seed=2, affine=LEFT_HANDED)
    generator = torch.Generator().manual_seed(0)
    inside, outside = (torch.rand(m.features.shape[:3], generator=generator) < 0.7 for m in (source, target))
    there = {"source_inside": inside, "target_inside": outside} if masked else {}
    back = {"source_inside": outside, "target_inside": inside} if masked else {}
    forward, backward = match_tokens(source, target, **there), match_tokens(target, source, **back)
    trip = round_trip(forward, backward)
    home, away = [], []
    for token, partner, place in zip(forward.target, forward.source, forward.target_mm, strict=True):
        row = backward.target.tolist().index(int(partner))
        home.append(int(backward.source[row]) == int(token))
        away.append(np.linalg.norm(backward.source_mm[row] - place))
    assert trip.mutual == pytest.approx(np.mean(home)) == pytest.approx(float(forward.mutual.double().mean()))
    assert trip.median_mm == pytest.approx(np.median(away)) and trip.median_mm > 0
    same = match_tokens(source, source)
    assert round_trip(same, same) == (1, 0)


def test_sides_confused():
    truth = torch.tensor([2, 2, 2, 3, 3, 3, 0, 5])
    found = torch.tensor([2, 3, 0, 3, 3, 2, 2, 3])
    assert side_confusion(truth, found, (2, 3)) == 2 / 5 == side_confusion(truth, found, (3, 2))
    assert side_confusion(truth, truth, (2, 3)) == 0
    assert side_confusion(truth, torch.tensor([3, 3, 3, 2, 2, 2, 0, 0]), (2, 3)) == 1
    assert math.isnan(side_confusion(truth, torch.zeros_like(truth), (2, 3)))


# True partners of generated bodies

SMALL = {"shape": (36, 24, 36), "spacing": (10.0, 10.0, 10.0)}


def body(seed):
    scan = scan_from_phantom(make_phantom(seed, "ct", **SMALL))
    return body_coordinates(seed, **SMALL), scan.affine, scan.label, scan.foreground


def test_a_body_is_its_own_partner():
    one = body(1)
    known = true_partners(one, one, count=300)
    assert len(known.target_mm) == 300 and known.same_label.all()
    np.testing.assert_array_equal(known.source_mm, known.target_mm)
    again = true_partners(one, one, count=300)
    np.testing.assert_array_equal(again.target_mm, known.target_mm)
    assert len(true_partners(one, one, count=10**9).target_mm) == int(one[3].sum())


def test_partners_of_two_bodies_have_the_same_reference_coordinates():
    there, here = body(1), body(2)
    known = true_partners(there, here, count=400, within_mm=6.0)
    ends = []
    for (coordinates, affine, label, inside), places in ((there, known.source_mm), (here, known.target_mm)):
        cells = np.round((places - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T).astype(int)
        np.testing.assert_allclose(world(cells, affine), places, atol=1e-6)
        assert inside.numpy()[tuple(cells.T)].all()
        ends.append((coordinates[:, *cells.T].T, label.numpy()[tuple(cells.T)]))
    assert len(places) > 200 and (np.linalg.norm(ends[0][0] - ends[1][0], axis=1) <= 6.0).all()
    np.testing.assert_array_equal(known.same_label, ends[0][1] == ends[1][1])
    assert 0.7 < known.same_label.mean() < 1
    moved = np.linalg.norm(known.source_mm - known.target_mm, axis=1)
    assert np.median(moved) > 5, "two bodies differ"
    nearest = np.linalg.norm(there[0][:, *there[3].nonzero().numpy().T].T - ends[1][0][0], axis=1).min()
    assert np.linalg.norm(ends[0][0][0] - ends[1][0][0]) == pytest.approx(nearest, abs=1e-3)
    assert len(true_partners(there, here, count=400, within_mm=1.0).target_mm) < len(places)


def test_errors_from_true_partners_over_all_places_and_over_those_of_one_label():
    target, moved = np.zeros((3, 3)), np.array([[3.0, 4.0, 0.0], [0.0, 0.0, 1.0], [0.0, 2.0, 0.0]])
    known = Partners(target, target, np.array([True, False, True]))
    assert partner_errors(known, lambda places: places + moved) == {
        "mean": pytest.approx(8 / 3),
        "median": 2.0,
        "same label, mean": 3.5,
    }
    assert np.isnan(partner_errors(known._replace(same_label=np.zeros(3, bool)), lambda p: p)["same label, mean"])
