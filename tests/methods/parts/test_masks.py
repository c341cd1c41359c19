"""Masks: as many cells as the ratio says, spread over what they cover."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from s2dc_core.methods.parts.masks import cell_misfits, cells_in, mask_cells, masked_mean, normalised, spread
from tests.methods.test_every_method import ENCODER


@pytest.mark.parametrize(
    ("cells", "ratio", "up", "down", "nearest"),
    [(216, 0.6, 130, 129, 130), (64, 0.6, 39, 38, 38), (216, 0.75, 162, 162, 162), (25, 0.28, 7, 7, 7)],
)
def test_the_masked_share_is_exact(cells, ratio, up, down, nearest):
    for whole, expected in ((math.ceil, up), (math.floor, down), (round, nearest)):
        assert mask_cells(cells, ratio, whole=whole).sum() == expected


def test_a_share_that_binary_misses_is_still_exact():
    """MAE's int(10 (1 - 0.9)) keeps none of ten; SimMIM's ceil(0.28 x 25) would be eight."""
    assert int(10 * (1 - 0.9)) == 0 and math.ceil(0.28 * 25) == 8
    assert (~mask_cells(10, 0.9, whole=math.floor)).sum() == 1
    assert mask_cells(25, 0.28).sum() == 7


@pytest.mark.parametrize("ratio", [1e-6, 0.001, 0.999, 1 - 1e-12])
def test_never_none_and_never_all(ratio):
    for whole in (math.floor, math.ceil, round):
        assert 1 <= mask_cells(8, ratio, whole=whole).sum() <= 7


def test_the_generator_alone_decides():
    one, other = (mask_cells(64, 0.5, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(one, other) and not torch.equal(one, mask_cells(64, 0.5, torch.Generator().manual_seed(4)))


def test_every_cell_is_masked_as_often():
    generator = torch.Generator().manual_seed(0)
    often = sum(mask_cells(8, 0.5, generator).double() for _ in range(2000)) / 2000
    assert (often - 0.5).abs().max() < 0.05


def test_spread_is_a_kronecker_product():
    cells = torch.rand(2, 2, 3, 4, generator=torch.Generator().manual_seed(0)) < 0.5
    expected = np.stack([np.kron(each, np.ones((3, 3, 3))) for each in cells.numpy().astype(int)])
    assert np.array_equal(spread(cells, 3).numpy(), expected.astype(bool))


def test_the_masked_mean_is_the_one_of_a_loop():
    generator = torch.Generator().manual_seed(0)
    errors = torch.rand(2, 3, 2, 2, 2, generator=generator, dtype=torch.float64)
    masked = torch.zeros(2, 1, 2, 2, 2, dtype=torch.bool)
    masked[0, 0, 0, 1, 1] = masked[1, 0, 1] = True
    for k in range(2):
        expected = np.mean([errors[(k, c, *place)] for c in range(3) for place in masked[k, 0].nonzero().tolist()])
        assert masked_mean(errors, masked)[k].item() == pytest.approx(expected, abs=1e-12)


def test_a_unit_error_weighs_one_at_every_ratio():
    for ratio in (0.25, 0.5, 0.75):
        masked = spread(mask_cells(64, ratio).view(1, 4, 4, 4), 2)[:, None]
        assert masked_mean(torch.ones(1, 1, 8, 8, 8, dtype=torch.float64), masked).item() == pytest.approx(1, abs=1e-12)


def test_cells_that_cannot_be():
    assert list(cell_misfits(8, ENCODER)) == [] and cells_in(ENCODER, 8) == 64
    for cell in (3, 12, 64):
        assert "must be a multiple of the patch, 2, and divide" in "".join(cell_misfits(cell, ENCODER))
    assert "nothing would be hidden, or nothing seen" in "".join(cell_misfits(32, ENCODER))
    assert list(cell_misfits(32, replace(ENCODER, sub_volume=(32, 32, 64)))) == []
    with pytest.raises(ValueError, match="of 1 cells none can be hidden"):
        mask_cells(1, 0.5)


def test_normalised_is_the_unbiased_one_of_numpy():
    values = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 5 + 2
    for axes in ((2,), (1, 2), (0, 1, 2)):
        x = values.numpy()
        expected = (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, ddof=1, keepdims=True) + 1e-6)
        assert normalised(values, list(axes)).numpy() == pytest.approx(expected, abs=1e-12)
    assert not normalised(torch.full((2, 3), 7.0), [1]).any()


def test_what_cells_hold_is_spread_too():
    tokens = torch.arange(2 * 8 * 3).view(2, 2, 2, 2, 3)
    spread_out = spread(tokens, 2)
    assert spread_out.shape == (2, 4, 4, 4, 3)
    for a, b, c in np.ndindex(4, 4, 4):
        assert torch.equal(spread_out[:, a, b, c], tokens[:, a // 2, b // 2, c // 2])
