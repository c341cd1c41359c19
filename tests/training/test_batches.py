"""Regions a step: kept by any product of batch, accumulate and processes; else the numbers that fit are named."""

from dataclasses import replace
from pathlib import Path

import pytest

from s2dc_core.training.batches import Origin, refuse_other_steps
from tests.pretraining.test_pretrain import CONFIG

FOUR = replace(CONFIG, batch=4)
BATCH_NORM = replace(CONFIG, batch=2, accumulate=2, norm="batch")


@pytest.mark.parametrize(("batch", "accumulate", "processes"), [(4, 1, 2), (8, 1, 1), (2, 4, 1), (1, 2, 4), (1, 1, 8)])
def test_the_same_regions_come_by_any_product(batch, accumulate, processes):
    origin = Origin(Path("run"), FOUR, 8)
    refuse_other_steps(origin, replace(FOUR, batch=batch, accumulate=accumulate), processes)


@pytest.mark.parametrize(
    ("batch", "processes", "message"),
    [
        (
            4,
            1,
            "a step of the run in run takes 8 regions, not batch=4 x accumulate=1 x 1 process: give batch=1 "
            "accumulate=8, batch=2 accumulate=4, batch=4 accumulate=2 or batch=8 accumulate=1",
        ),
        (4, 4, "not batch=4 x accumulate=1 x 4 processes: give batch=1 accumulate=2 or batch=2 accumulate=1"),
        (4, 3, "not batch=4 x accumulate=1 x 3 processes: start 1, 2, 4 or 8 processes"),
    ],
)
def test_other_numbers_are_refused_with_those_that_fit(batch, processes, message):
    with pytest.raises(ValueError) as refused:
        refuse_other_steps(Origin(Path("run"), FOUR, 8), replace(FOUR, batch=batch), processes)
    assert message in str(refused.value)


def test_batch_norm_heads_keep_their_batch():
    """Two processes took two batches of 2 + 2 regions each; a batch of 8 would be normalised as another one."""
    origin = Origin(Path("run"), BATCH_NORM, 8)
    refuse_other_steps(origin, replace(BATCH_NORM, batch=4), 1)
    refuse_other_steps(origin, replace(BATCH_NORM, batch=1), 4)
    with pytest.raises(ValueError, match="8 regions, 4 of them in a batch .* give batch=4 accumulate=2"):
        refuse_other_steps(origin, replace(BATCH_NORM, batch=8, accumulate=1), 1)
    with pytest.raises(ValueError, match="start 1, 2 or 4 processes"):
        refuse_other_steps(origin, replace(BATCH_NORM, batch=1, accumulate=1), 8)


def test_a_run_of_before_keeps_its_batch_and_accumulate():
    origin = Origin(Path("run"), FOUR, None)
    refuse_other_steps(origin, FOUR, 2)
    with pytest.raises(ValueError, match="give batch=4 accumulate=1, as before"):
        refuse_other_steps(origin, replace(FOUR, batch=2, accumulate=2), 2)
