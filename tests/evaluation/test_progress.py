"""Cohesion, half-way steps and explained shares, against loops that say what they mean and against closed forms."""

import numpy as np
import pytest
import torch

from s2dc_core.evaluation.progress import cohesion, followed_by_colours, half_way, organ_progress, share_between
from s2dc_core.features import OrganTokens, TokenMap, organ_silhouettes, organ_tokens, token_affine
from tests.evaluation.test_silhouettes import cosine, labelled_scan, random_tokens

PATCH = (4, 4, 4)


def map_of(scan, channels=8, seed=0):
    grid = [-(-side // p) for side, p in zip(scan.raw.shape, PATCH, strict=True)]
    features = torch.randn(*grid, channels, generator=torch.Generator().manual_seed(seed))
    return TokenMap(features, PATCH, token_affine(scan.affine, PATCH))


def test_cohesion_is_that_of_a_loop():
    features, organ, _ = random_tokens(organs=3)
    kept = {label: int((organ == label).sum()) for label in (1, 2, 3)}
    found = cohesion(OrganTokens(features, organ, kept, {}))
    rows = {label: (organ == label).nonzero()[:, 0].tolist() for label in kept}
    for label, own in rows.items():
        within = np.mean([cosine(features, i, j) for i in own for j in own if i != j])
        others = [np.mean([cosine(features, i, j) for i in own for j in rows[k]]) for k in rows if k != label]
        assert found[label] == pytest.approx(within - np.mean(others), abs=1e-5)


def test_the_half_way_step_is_the_first_crossing():
    assert half_way([0, 10, 30, 50], [0.0, 0.2, 0.6, 0.8]) == 20
    assert half_way([0, 10, 20, 30, 40], [0.0, 0.3, 0.1, 0.3, 0.4]) == pytest.approx(10 * 2 / 3), "it falls back, later"
    assert np.isnan(half_way([0, 10], [0.5, 0.51])) and np.isnan(half_way([0, 10], [0.5, 0.1]))
    assert np.isnan(half_way([0, 10], [np.nan, 0.1]))


def test_the_share_between_groups_is_that_of_the_sums_of_squares():
    values, groups = torch.tensor([[0.0], [2], [4], [6]]), torch.tensor([1, 1, 2, 2])
    assert share_between(values, groups) == pytest.approx(16 / 20)
    assert share_between(values, torch.arange(4)) == 1
    assert share_between(values, torch.ones(4).long()) == pytest.approx(0, abs=1e-6)
    assert share_between(torch.ones(4, 3), groups) == 0


def test_progress_has_a_row_for_each_organ_and_step():
    scan = labelled_scan()
    maps = {0: map_of(scan, seed=0), 20: map_of(scan, seed=1)}
    rows = organ_progress(scan, maps)
    found = organ_tokens(maps[20], scan.label)
    assert [row["step"] for row in rows] == [0] * len(found.kept) + [20] * len(found.kept)
    late = rows[len(found.kept) :]
    assert [row["cohesion"] for row in late] == list(cohesion(found).values())
    assert [row["silhouette"] for row in late] == list(organ_silhouettes(found.features, found.organ).values())
    voxel = np.prod(scan.spacing) / 1000
    assert late[0]["volume"] == pytest.approx(int((scan.label == next(iter(found.kept))).sum()) * voxel)


def test_features_that_are_the_brightness_follow_it():
    scan = labelled_scan()
    scan = scan._replace(
        foreground=torch.ones_like(scan.foreground), label=1 + (torch.rand(scan.label.shape) * 0).int()
    )
    scan.label[: scan.label.shape[0] // 2] = 2
    bright = torch.nn.functional.avg_pool3d(scan.volume, PATCH, ceil_mode=True, count_include_pad=False)[0]
    token_map = map_of(scan)
    features = torch.stack([bright, torch.zeros_like(bright), torch.zeros_like(bright), torch.zeros_like(bright)], -1)
    found = followed_by_colours(scan, token_map._replace(features=features))
    organ = torch.where(torch.arange(len(bright)) < len(bright) / 2, 2, 1)[:, None, None].expand(bright.shape)
    ranks = bright.flatten().argsort().argsort() * 2 // bright.numel()
    assert found["brightness"] == pytest.approx(share_between(bright.flatten()[:, None], ranks), abs=1e-4)
    assert found["organ"] == pytest.approx(share_between(bright.flatten()[:, None], organ.flatten()), abs=1e-4)
    assert followed_by_colours(scan._replace(label=torch.ones_like(scan.label)), token_map) == {}
