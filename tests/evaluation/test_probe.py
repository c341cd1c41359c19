"""The linear probe reads what is linear in tokens, and counts Dice in tokens."""

import numpy as np
import pytest
import torch

from s2dc_core.downstream.examples import Example
from s2dc_core.evaluation.probe import example_tokens, pooled_tokens, probe_dice
from s2dc_core.library import open_weights


def blobs(seed: int, spread: float, count: int = 200, labels: int = 3):
    generator = np.random.default_rng(seed)
    owner = generator.integers(0, labels, count)
    return 3 * np.eye(4)[owner] + spread * generator.standard_normal((count, 4)), owner


def test_what_is_far_apart_is_told_apart_and_noise_is_not():
    assert probe_dice([blobs(0, 0.1)], [blobs(1, 0.1)]) == {1: 1.0, 2: 1.0}
    noise = probe_dice([blobs(0, 100.0)], [blobs(1, 100.0)])
    assert max(noise.values()) < 0.6


def test_a_label_that_was_never_trained_on_scores_zero():
    training, scored = blobs(0, 0.1, labels=2), blobs(1, 0.1)
    found = probe_dice([training], [scored])
    assert found[2] == 0 and found[1] > 0.6  # what is label 2 is called 0 or 1
    assert list(found) == [1, 2]


def test_features_of_any_scale_count_alike():
    training, scored = blobs(0, 0.5), blobs(1, 0.5)
    scale = np.array([1, 1e3, 1e-3, 1])
    stretched = [[(features * scale, owner)] for features, owner in (training, scored)]
    assert probe_dice(*stretched) == pytest.approx(probe_dice([training], [scored]), abs=1e-9)


def test_dice_is_counted_over_all_scored_examples():
    """One vote for an organ in a body without it lowers its Dice: 2 * 4 / (5 + 4)."""
    low, high = np.zeros((4, 1)), np.ones((4, 1))
    training = [(np.concatenate([low, high]), np.repeat([0, 1], 4))]
    scored = [(high, np.full(4, 1)), (np.ones((1, 1)), np.zeros(1, dtype=int))]
    assert probe_dice(training, scored, penalty=1e-3) == {1: pytest.approx(8 / 9)}


def test_background_alone_teaches_nothing():
    with pytest.raises(ValueError, match="no training token lies in an organ"):
        probe_dice([(np.zeros((3, 2)), np.zeros(3, dtype=int))], [blobs(0, 1.0)])


def test_tokens_come_with_the_label_that_fills_them():
    truth = torch.zeros(32, 32, 32, dtype=torch.int32)
    truth[:16] = 5
    example = Example("half", (truth > 0).float()[None], truth, 0.0, np.eye(4))
    [(features, owner)] = example_tokens(open_weights("untrained"), [example], 1)
    grid = round(len(owner) ** (1 / 3))
    assert len(features) == grid**3 and (owner.reshape(grid, grid, grid)[: grid // 2] == 5).all()
    assert (owner == 5).sum() == len(owner) // 2


def test_a_case_is_the_mean_of_its_tokens_level_by_level():
    encoder = open_weights("untrained")
    image = torch.randn(1, 40, 32, 48, generator=torch.Generator().manual_seed(0))
    found = pooled_tokens(encoder, [image, -image], (1, 3), (32, 32, 32))
    small = torch.nn.functional.interpolate(image[None], size=(32, 32, 32), mode="trilinear")
    with torch.no_grad():
        maps = encoder(small)
    whole = torch.cat([maps[level][0].flatten(1).mean(1) for level in (1, 3)])
    assert found.shape == (2, len(whole)) and found[0] == pytest.approx(whole.numpy(), abs=1e-5)
    assert not np.allclose(found[0], found[1])
