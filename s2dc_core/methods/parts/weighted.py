"""Losses of several terms: their weights, and the weighted sum."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from s2dc_core.options import Rule, that


def weights_of(terms: int) -> Rule:
    """The rule for so many weights of terms."""
    return that(
        lambda given: len(given) == terms and all(0 <= each <= 1e6 for each in given) and any(given),
        f"must be {terms} weights, finite, not negative and not all 0",
    )


def total_of(weights: Sequence[float | int], terms: Sequence[Float[Tensor, " b"]]) -> Float[Tensor, " b"]:
    """The weighted sum of terms."""
    return sum(weight * term for weight, term in zip(weights, terms, strict=True))
