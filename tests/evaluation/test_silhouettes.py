"""Silhouettes, distances and neighbours, against loops that say what they mean and against closed forms."""

import numpy as np
import pytest
import torch
from scipy import stats

from s2dc_core.data.scans import Scan
from s2dc_core.evaluation.silhouettes import (
    cosine_by_distance,
    draw_tokens,
    labelled_tokens,
    mean_silhouette,
    nearest_tokens,
    organ_distances,
    place_in_body,
    rank_correlation,
    scan_silhouettes,
    spread_of,
)
from s2dc_core.features import organ_tokens, token_features
from s2dc_core.intervals import mean_interval
from tests.pretraining.test_pretrain import CONFIG, blobs

ENCODER = CONFIG.build().student.encoder.eval()


def random_tokens(seed=0, count=30, organs=4):
    generator = torch.Generator().manual_seed(seed)
    organ = torch.cat([torch.arange(organs), torch.randint(organs, (count - organs,), generator=generator)]) + 1
    points = torch.randint(0, 8, (count, 3), generator=generator).double().numpy() * 10.0
    return torch.randn(count, 5, generator=generator) + organ[:, None] * 0.3, organ, points


def cosine(features, i, j):
    return float(torch.dot(features[i], features[j]) / features[i].norm() / features[j].norm())


def labelled_scan(seed=0, organs=(1, 2, 3)):
    """Blobs with a slab of each organ along the first axis."""
    scan = blobs(seed)
    affine = np.array([[2.0, 0, 0, -9], [0, 3, 0, 5], [0, 0, 2.5, 1], [0, 0, 0, 1]])
    label = torch.zeros(scan.raw.shape, dtype=torch.int32)
    for slab, organ in zip(label.chunk(max(len(organs), 1)), organs, strict=False):
        slab[:] = organ
    return scan._replace(
        label=label, affine=affine, names={organ: f"organ {organ}" for organ in organs}, name=f"scan {seed}"
    )


def naive_silhouettes(features, organ):
    """Rousseeuw's definition, a token at a time."""
    distance = 1 - np.array([[cosine(features, i, j) for j in range(len(organ))] for i in range(len(organ))])
    values = {}
    for i, own in enumerate(organ.tolist()):
        mates = [j for j in range(len(organ)) if organ[j] == own and j != i]
        a = distance[i, mates].mean() if mates else 0.0
        b = min(distance[i, (organ == k).numpy()].mean() for k in organ.unique() if k != own)
        values.setdefault(own, []).append((b - a) / max(a, b) if mates else 0.0)
    return {own: float(np.mean(found)) for own, found in values.items()}


def test_scan_silhouettes_are_those_of_a_loop():
    scan = labelled_scan()
    token_map = token_features(ENCODER, scan.volume, 1, affine=scan.affine, background=scan.background)
    tokens = organ_tokens(token_map, scan.label)
    found = scan_silhouettes(ENCODER, scan, 1)
    assert found == pytest.approx(naive_silhouettes(tokens.features.double(), tokens.organ), abs=1e-6)


def test_mean_silhouette_counts_organs_alike_then_scans_alike():
    scans = [labelled_scan(0, (1, 2, 3)), labelled_scan(1, (1, 2))]
    each = [np.mean(list(scan_silhouettes(ENCODER, scan, 1).values())) for scan in scans]
    assert mean_silhouette(ENCODER, scans, 1) == pytest.approx(np.mean(each))


def test_labelled_tokens_lie_at_their_centres_in_the_world():
    scan = labelled_scan()
    tokens, points = labelled_tokens(ENCODER, scan, 1)
    assert len(points) == len(tokens.organ) == sum(tokens.kept.values())
    corner = scan.affine @ [1.5, 1.5, 1.5, 1]
    assert points[0] == pytest.approx(corner[:3]), "a token of stride 4 covers voxels 0 to 3"
    voxels = np.linalg.inv(scan.affine) @ np.c_[points, np.ones(len(points))].T
    where = tuple(np.floor(voxels[:3]).astype(int))
    assert (scan.label[where].long() == tokens.organ).all()


@pytest.mark.parametrize(
    ("scan", "message"),
    [
        (
            blobs(0)._replace(label=None, name="mine"),
            "mine has no label map: a silhouette needs a label map with 2 structures of at least 5 tokens",
        ),
        (labelled_scan(0, ()), "scan 0 has an empty label map"),
        (labelled_scan(0, (4,)), "scan 0 has one structure only"),
    ],
)
def test_a_scan_without_two_organs_is_refused(scan: Scan, message):
    for measure in (labelled_tokens, scan_silhouettes):
        with pytest.raises(ValueError, match=message):
            measure(ENCODER, scan, 1)


def test_organs_that_are_too_small_are_refused_with_their_counts():
    with pytest.raises(ValueError, match=r"scan 0 has too few tokens .*organ 1: \d+.* of at least 100000 tokens"):
        scan_silhouettes(ENCODER, labelled_scan(0, (1, 2)), 1, minimum=100000)


def test_mean_interval_is_the_interval_of_the_t_test():
    values = [0.1, 0.4, 0.2, 0.5, 0.35]
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.9)
    assert mean_interval(values, 0.9) == pytest.approx((np.mean(values), expected.low, expected.high))
    half = 12.7062 * 1 / 2  # of two values that differ by 1: t(0.975, 1) * (1 / sqrt 2) / sqrt 2
    assert mean_interval([0.0, 1.0]) == pytest.approx((0.5, 0.5 - half, 0.5 + half), abs=1e-4)
    assert mean_interval([2.0, 2.0]) == (2.0, 2.0, 2.0)


@pytest.mark.parametrize("values", [[], [0.3]])
def test_an_interval_of_one_value_is_refused(values):
    with pytest.raises(ValueError, match=f"needs two values, got {len(values)}"):
        mean_interval(values)


def test_organ_distances_are_means_over_pairs():
    features, organ, _ = random_tokens()
    labels, matrix = organ_distances(features, organ)
    assert labels == [1, 2, 3, 4] and matrix == pytest.approx(matrix.T)
    for k, one in enumerate(labels):
        for m, other in enumerate(labels):
            pairs = [(i, j) for i in range(30) for j in range(30) if organ[i] == one and organ[j] == other and i != j]
            assert matrix[k, m] == pytest.approx(1 - np.mean([cosine(features, *pair) for pair in pairs]), abs=1e-6)


def test_organ_distances_of_one_token_and_of_a_token_of_length_zero():
    _, matrix = organ_distances(torch.tensor([[1.0, 0], [0, 1], [0, 0]]), torch.tensor([1, 2, 2]))
    assert np.isnan(matrix[0, 0]) and matrix[0, 1] == pytest.approx(1) and matrix[1, 1] == pytest.approx(1)


@pytest.mark.parametrize("chunk", [1, 7, 1024])
def test_nearest_tokens_are_those_of_a_loop(chunk):
    features, _, _ = random_tokens(1)
    nearest = nearest_tokens(features, chunk)
    for i in range(30):
        others = [j for j in range(30) if j != i]
        assert nearest[i] == max(others, key=lambda j: cosine(features, i, j))


@pytest.mark.parametrize("chunk", [3, 512])
def test_cosine_by_distance_is_that_of_a_loop(chunk):
    features, organ, points = random_tokens(2)
    edges, minimum = [5, 25, 45, 60, 1000, 2000], 3
    same, different = cosine_by_distance(features, organ, points, edges, minimum, chunk)
    for k in range(len(edges) - 1):
        means = []
        for one in organ.unique():
            kinds = ([], [])
            for i in (organ == one).nonzero()[:, 0].tolist():
                for j in range(30):
                    if i != j and edges[k] <= np.linalg.norm(points[i] - points[j]) < edges[k + 1]:
                        kinds[int(organ[j] != one)].append(cosine(features, i, j))
            if min(map(len, kinds)) >= minimum:
                means.append([np.mean(kind) for kind in kinds])
        expected = np.mean(means, axis=0) if means else (np.nan, np.nan)
        assert (same[k], different[k]) == pytest.approx(expected, abs=1e-6, nan_ok=True)
    assert np.isnan(same[-1]) and not np.isnan(same[:3]).any(), "the trial has bins with and without pairs"


def test_a_rank_correlation_is_scipys_or_none():
    one, other = [1.0, 5.0, 2.0, 8.0, 3.0], [2.0, 9.0, 1.0, 7.0, np.nan]
    expected = stats.spearmanr(one[:4], other[:4])
    assert rank_correlation(one, other) == pytest.approx((expected.statistic, expected.pvalue))
    for few in (([1.0, 2, 3], [3.0, 2, 1]), ([], []), ([1.0] * 5, other), (one, [4.0] * 5)):
        assert np.isnan(rank_correlation(*few)).all()


def test_spread_is_within_between_and_to_the_nearest():
    features, organ, _ = random_tokens(organs=3)
    _, matrix = organ_distances(features, organ)
    found = spread_of(features, organ)
    assert found.within == pytest.approx(np.mean([matrix[k, k] for k in range(3)]))
    assert found.between == pytest.approx(np.mean([matrix[0, 1], matrix[0, 2], matrix[1, 2]]))
    nearest = [min(matrix[k, j] for j in range(3) if j != k) for k in range(3)]
    assert found.nearest == pytest.approx(np.mean(nearest))


def test_spread_leaves_out_an_organ_of_one_token_within():
    features, organ = torch.tensor([[1.0, 0], [0, 1], [1, 1]]), torch.tensor([1, 1, 2])
    assert spread_of(features, organ).within == pytest.approx(1)


def test_a_draw_keeps_all_of_small_organs_and_thins_large_ones():
    organ = torch.tensor([1] * 50 + [2] * 3 + [3] * 20)
    index, cap = draw_tokens(organ, 33, seed=0)
    assert cap == 15 and np.array_equal(index, np.sort(index)) and len(set(index)) == len(index) == 33
    assert [(organ[index] == label).sum() for label in (1, 2, 3)] == [15, 3, 15]
    assert np.array_equal(index, draw_tokens(organ, 33, seed=0)[0])
    assert len(draw_tokens(organ, 1000, seed=0)[0]) == 73
    assert draw_tokens(organ, 1, seed=0)[1] == 2


def test_places_are_counted_along_the_box_of_the_body():
    scan = labelled_scan()
    scan = scan._replace(foreground=torch.zeros_like(scan.label, dtype=torch.bool))
    scan.foreground[1:4, 2, 3:6] = True
    ends = np.array([[1, 2, 3, 1], [3, 2, 5, 1], [2, 2, 4, 1]]) @ scan.affine.T
    assert place_in_body(scan, ends[:, :3]) == pytest.approx(np.array([[0, 0, 0], [1, 0, 1], [0.5, 0, 0.5]]))
