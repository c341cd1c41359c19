"""Blur, noise, gamma and exchanged cells, against other implementations."""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from s2dc_core.methods.parts.corruption import (
    BLUR_REACH,
    blurred,
    corrupted,
    draw_corruption,
    draw_swaps,
    noise_like,
    swap_cells,
)
from s2dc_core.methods.parts.damage import Range


def volumes(count=3, channels=2, side=8):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, channels, side, side, side, generator=generator, dtype=torch.float64)


def test_a_blur_is_scipys():
    given = volumes()
    found = blurred(given, torch.tensor([0.0, 0.7, 1.6], dtype=torch.float64))
    torch.testing.assert_close(found[0], given[0])
    for one, made, deviation in zip(given[1:], found[1:], (0.7, 1.6), strict=True):
        theirs = [gaussian_filter(channel, deviation, mode="nearest", radius=BLUR_REACH) for channel in one.numpy()]
        torch.testing.assert_close(made, torch.from_numpy(np.stack(theirs)))


def test_gamma_sees_the_range_as_0_to_1():
    """As skimage's adjust_gamma of what was mapped there, for intensities below 0 too."""
    given = volumes() * 3 - 1
    span, exponent = Range.of(given), torch.tensor([0.5, 1.0, 1.3], dtype=torch.float64)
    damage = torch.stack([torch.zeros(3, dtype=torch.float64), exponent, torch.zeros(3, dtype=torch.float64)], 1)
    found = corrupted(given, span, damage, torch.arange(3))
    for one, made, power in zip(given, found, exponent.tolist(), strict=True):
        low, high = one.min(), one.max()
        torch.testing.assert_close(made, ((one - low) / (high - low)) ** power * (high - low) + low)


def test_noise_has_the_deviation_asked_and_is_the_seeds():
    given = torch.zeros(2, 1, 16, 16, 16)
    span = Range(torch.zeros(2, 1, 1, 1, 1), torch.full((2, 1, 1, 1, 1), 4.0))
    damage = torch.tensor([[0.0, 1.0, 0.25], [0.0, 1.0, 0.05]])
    found = corrupted(given, span, damage, torch.tensor([7, 7]))
    assert found[0].std().item() == pytest.approx(1, rel=0.05)
    torch.testing.assert_close(found[0], 5 * found[1])
    assert not torch.equal(*(noise_like(given[:1], torch.tensor([seed])) for seed in (7, 8)))


def test_a_constant_volume_stays_finite():
    given = torch.full((1, 1, 4, 4, 4), 3.0)
    found = corrupted(given, Range.of(given), torch.tensor([[1.0, 0.7, 0.2]]), torch.tensor([1]))
    assert torch.equal(found, given)


def test_cells_are_exchanged_and_nothing_else_changes():
    given = volumes(2, 2, 6)
    swaps = torch.tensor([[[0, 5], [26, 13]], [[3, 4], [4 + 1, 3 + 3]]], dtype=torch.int16)
    found, expected = swap_cells(given, swaps, 2), given.clone()
    for number, pairs in enumerate(swaps.long().permute(0, 2, 1).tolist()):
        for one, other in pairs:
            places = []
            for cell in (one, other):
                corner = (2 * (cell // 9), 2 * (cell // 3 % 3), 2 * (cell % 3))
                places.append((number, slice(None), *(slice(a, a + 2) for a in corner)))
            expected[places[0]], expected[places[1]] = given[places[1]], given[places[0]]
    assert torch.equal(found, expected)
    assert torch.equal(swap_cells(found, swaps, 2), given)
    assert torch.equal(swap_cells(given, swaps[..., :0], 2), given)


def test_damage_is_drawn_within_its_bounds():
    damage = draw_corruption(2.0, 0.3, 0.25, (40, 50), torch.Generator().manual_seed(0))
    blur, exponent, noise = damage.flatten(0, 1).T
    assert damage.shape == (40, 50, 3) and 0 <= blur.min() < 0.02 and 1.98 < blur.max() <= 2
    assert math.exp(-0.3) <= exponent.min() < 0.75 and 1.34 < exponent.max() <= math.exp(0.3)
    assert 0 <= noise.min() < 0.01 and 0.24 < noise.max() <= 0.25


def test_so_many_cells_change_places():
    swaps = draw_swaps(64, 0.2, 5, torch.Generator().manual_seed(0))
    assert swaps.shape == (5, 2, 6) and swaps.min() >= 0 and swaps.max() < 64
    assert all(len(each.unique()) == 12 for each in swaps) and draw_swaps(64, 0.0, 2, torch.Generator()).numel() == 0
