"""What a check asks first of an answer: its kind and shape, in whatever dress it comes."""

import numpy as np
import pandas as pd
import pytest
import torch

from s2dc_core import exercises


def test_an_answer_is_brought_to_a_tensor_or_a_number_once_it_is_one():
    grown = torch.ones(2, requires_grad=True)
    assert exercises.as_tensor(grown, (2,), "a vector").dtype == torch.float64
    assert exercises.as_tensor([1, 2], (2,), "a vector").tolist() == [1, 2]
    assert exercises.as_tensor([1, float("nan")], (2,), "a vector", nan=True).isnan().tolist() == [False, True]
    assert exercises.as_number(grown.sum(), "a sum") == 2


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (None, r"a vector is wanted, \[2\]; yours is a NoneType"),
        (torch.ones(2, 1), r"yours has the shape \[2, 1\]"),
        ([1, float("nan")], "holds NaN"),
        ([1, float("inf")], "holds infinity"),
    ],
)
def test_what_is_no_such_tensor_is_told(found, says):
    with pytest.raises(AssertionError, match=says):
        exercises.as_tensor(found, (2,), "a vector")


def test_an_answer_of_two_parts_is_one_or_is_told():
    assert exercises.as_pair((1, "b"), "parts") == (1, "b")
    for wrong in (None, 3, (1, 2, 3)):
        with pytest.raises(AssertionError, match="two numbers are wanted"):
            exercises.as_pair(wrong, "numbers are wanted")


@pytest.mark.parametrize(("found", "says"), [(None, "a NoneType"), ([1, 2], "a list"), (float("inf"), "yours is inf")])
def test_what_is_no_number_is_told(found, says):
    with pytest.raises(AssertionError, match=says):
        exercises.as_number(found, "a Dice")


@pytest.mark.parametrize(
    "given",
    [
        {3, 1},
        (torch.tensor(1), torch.tensor(3.0)),
        [np.float32(1), 3],
        np.array([3, 1])[::-1],
        pd.Series([1, 3], index=["a", "b"]),
    ],
    ids=["set", "tensors", "list", "turned", "pandas"],
)
def test_a_tensor_may_come_in_any_dress(given):
    assert exercises.as_tensor(given, (2,), "a vector").tolist() == [1, 3]


def test_none_in_a_list_is_nan_where_there_may_be_one():
    assert exercises.as_tensor([1, None], (2,), "a vector", nan=True).isnan().tolist() == [False, True]
    with pytest.raises(AssertionError, match="yours holds None"):
        exercises.as_tensor([1, None], (2,), "a vector")


def test_an_error_of_torch_is_explained_where_its_cause_is_known():
    with (
        pytest.raises(AssertionError, match="lies across .*must match the size"),
        exercises.explained("match", "lies across"),
    ):
        torch.ones(2, 3) + torch.ones(3, 2)
    with pytest.raises(RuntimeError, match="must match the size"), exercises.explained("dtype", "lies across"):
        torch.ones(2, 3) + torch.ones(3, 2)
