"""What a check asks first of an answer: that it is of the right kind and shape, and finite."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def as_tensor(found: Any, shape: Sequence[int], what: str, nan: bool = False) -> Tensor:
    """An answer as a float64 tensor without gradient.

    Args:
        found: tensor, array or nested list.
        shape: that it must have.
        what: it is, for the message: "a matrix".
        nan: whether NaN may be in it.

    Raises:
        AssertionError: if it is of another kind or shape, or not finite; the message is for whoever wrote it.
    """
    wanted = f"{what} is wanted, {list(shape)}"
    try:
        tensor = torch.as_tensor(found).detach().double()
    except (TypeError, ValueError, RuntimeError):
        raise AssertionError(f"{wanted}; yours is a {type(found).__name__}") from None
    assert tensor.shape == tuple(shape), f"{wanted}; yours has the shape {list(tensor.shape)}"
    assert nan or not tensor.isnan().any(), "your answer holds NaN"
    assert not tensor.isinf().any(), "your answer holds infinity"
    return tensor


def as_pair(found: Any, what: str) -> tuple[Any, Any]:
    """The two parts of an answer.

    Args:
        found: anything of two parts.
        what: they are, for the message: "numbers are wanted: low and high".

    Raises:
        AssertionError: if it has not two parts.
    """
    try:
        first, second = found
    except (TypeError, ValueError):
        raise AssertionError(f"two {what}") from None
    return first, second


def as_number(found: Any, what: str) -> float:
    """An answer as a float.

    Args:
        found: a number, or a tensor or array of one.
        what: it is, for the message: "a Dice".

    Raises:
        AssertionError: if it is no number or not finite.
    """
    try:
        value = float(found.detach() if isinstance(found, Tensor) else found)
    except (TypeError, ValueError, RuntimeError):
        raise AssertionError(f"{what} is wanted; yours is a {type(found).__name__}") from None
    assert math.isfinite(value), f"{what} is wanted; yours is {value}"
    return value
