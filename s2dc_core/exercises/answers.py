"""What a check asks first of an answer: that it is of the right kind and shape, and finite."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor


@contextmanager
def explained(words: str, cause: str) -> Iterator[None]:
    """Say what is behind an error of torch that an answer ends with.

    Args:
        words: of the error's message.
        cause: to tell whoever wrote the answer.

    Raises:
        AssertionError: in place of an error whose message holds the words.
    """
    try:
        yield
    except (RuntimeError, IndexError, ValueError) as error:
        if words in str(error):
            raise AssertionError(f"{cause} ({type(error).__name__}: {error})") from None
        raise


def plain(found: Any) -> Any:
    """What torch.as_tensor reads: of a set the sorted list, of pandas the array, of tensors in a list their stack."""
    if isinstance(found, (set, frozenset)):
        return sorted(found)
    if hasattr(found, "to_numpy"):
        found = found.to_numpy()
    if isinstance(found, np.ndarray):
        return found.copy()  # torch takes no negative strides, and warns of what cannot be written
    if isinstance(found, (list, tuple)) and any(isinstance(part, (Tensor, np.ndarray)) for part in found):
        return torch.stack([torch.as_tensor(plain(part)) for part in found])
    return found


def as_tensor(found: Any, shape: Sequence[int], what: str, nan: bool = False) -> Tensor:
    """An answer as a float64 tensor without gradient.

    Args:
        found: tensor, array, nested list, set of numbers, or a table of pandas.
        shape: that it must have.
        what: it is, for the message: "a matrix".
        nan: whether NaN may be in it; None is then read as NaN.

    Raises:
        AssertionError: if it is of another kind or shape, or not finite; the message is for whoever wrote it.
    """
    wanted = f"{what} is wanted, {list(shape)}"
    if isinstance(found, (list, tuple)) and any(part is None for part in found):
        assert nan, f"{wanted}; yours holds None"
        found = [math.nan if part is None else part for part in found]
    try:
        tensor = torch.as_tensor(plain(found)).detach().double()
    except (TypeError, ValueError, RuntimeError) as error:
        raise AssertionError(
            f"{wanted}; yours is a {type(found).__name__}, which torch does not take: {error}"
        ) from None
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
