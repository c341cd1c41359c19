"""Parts of a step: they are all there, and they add up to a step."""

import time

import pytest

from s2dc_core.training import Pretraining
from s2dc_core.training.timing import step_times
from tests.training.test_pretrain import CONFIG, blobs


def test_the_parts_add_up_to_the_step(monkeypatch):
    monkeypatch.setattr(Pretraining, "step", lambda run: time.sleep(0.5))
    found = step_times(CONFIG, [blobs()], repeats=1)
    assert set(found) == {"views", "teacher", "student, losses, optimiser"}
    assert all(value > 0 for value in found.values())
    assert sum(found.values()) == pytest.approx(0.5, rel=0.5)


def test_no_repeat_is_no_measurement():
    with pytest.raises(ValueError, match="repeats must be at least 1, got 0"):
        step_times(CONFIG, [blobs()], repeats=0)
