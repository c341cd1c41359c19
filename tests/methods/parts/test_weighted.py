"""Weights of terms: as many as there are, one of them above 0, and what they add up to."""

import math

import pytest
import torch

from s2dc_core.methods.parts.weighted import total_of, weights_of


def test_the_total_is_the_weighted_sum():
    terms = torch.tensor([[1.0, 2.0], [3.0, 5.0], [7.0, 11.0]]).unbind()
    assert total_of((1, 0.5, 0), terms).tolist() == [2.5, 4.5]
    with pytest.raises(ValueError, match="zip"):
        total_of((1, 2), terms)


@pytest.mark.parametrize("given", [(1,), (1, 2, 3), (0, 0), (-1, 1), (math.inf, 1), (math.nan, 1)])
def test_weights_that_cannot_be(given):
    assert weights_of(2)("weights", given).startswith("weights must be 2 weights, finite, not negative and not all 0")


def test_weights_that_can_be():
    assert weights_of(2)("weights", (0, 0.5)) == ""
