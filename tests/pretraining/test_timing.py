"""Parts of a step that add up to a step, and the memory that a computation holds."""

import time

import pytest
import torch

from s2dc_core.pretraining import Pretraining, step_times
from s2dc_core.training.memory import peak_memory
from tests.pretraining.test_pretrain import CONFIG, blobs


def test_the_parts_add_up_to_the_step(monkeypatch):
    monkeypatch.setattr(Pretraining, "step", lambda run: time.sleep(0.5))
    found = step_times(CONFIG, [blobs()], repeats=1)
    assert set(found) == {"reading", "views", "forward", "backward, optimiser"}
    assert all(value > 0 for value in found.values())
    assert sum(found.values()) == pytest.approx(0.5, rel=0.5)


def test_no_repeat_is_no_measurement():
    with pytest.raises(ValueError, match="repeats must be at least 1, got 0"):
        step_times(CONFIG, [blobs()], repeats=0)


def test_peak_memory_counts_what_is_held_at_one_time():
    """Two of three vectors of 1000 float32 live at once; views and work in place add nothing, what stays is counted."""
    there = torch.ones(1000)
    kept = []

    def work():
        first = there + 1
        second = first.exp()
        del first
        third = second.view(10, 100).mul_(2).sum(0)
        kept.append(third)

    assert peak_memory(work) == 2 * 4000
    assert peak_memory(lambda: kept.append(torch.zeros(500))) == 2000
    assert peak_memory(lambda: there.mul_(2).view(-1)) == 0


def test_peak_memory_sees_the_backward_pass():
    weight = torch.ones(1000, requires_grad=True)
    forward = peak_memory(lambda: weight.exp().sum())
    assert forward == 4000 + 4
    assert peak_memory(lambda: weight.exp().sum().backward()) >= 2 * 4000
