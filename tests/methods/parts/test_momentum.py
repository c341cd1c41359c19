"""A teacher's momentum over a training, and what follows of the student."""

import pytest
import torch
from torch import nn

from s2dc_core.methods.parts.momentum import Teacher, momentum_at


@pytest.mark.parametrize(("step", "expected"), [(0, 0.99), (100, 0.9914644661), (200, 0.995), (400, 1.0)])
def test_the_cosine_ends_at_one(step, expected):
    assert momentum_at(step / 400, 0.99, "cosine") == pytest.approx(expected, abs=1e-10)
    assert momentum_at(step / 400, 0.99) == 0.99


@pytest.mark.parametrize(("schedule", "expected"), [("cosine", 0.8663548479), ("constant", 0.9820494467)])
def test_a_teacher_from_zero_towards_one(schedule, expected):
    """400 updates, number n with the momentum of n of 400."""
    student = nn.Linear(2, 1).double()
    nn.init.zeros_(student.weight)
    teacher = Teacher([student], 0.99, schedule)
    nn.init.ones_(student.weight)
    for step in range(400):
        teacher.follow([student], step / 400)
    assert teacher[0].weight.tolist()[0] == pytest.approx([expected] * 2, abs=1e-10)


def test_it_starts_alike_and_gets_no_gradient():
    students = [nn.Linear(2, 2), nn.BatchNorm1d(2)]
    teacher = Teacher(students)
    for mine, theirs in zip(teacher.parameters(), nn.ModuleList(students).parameters(), strict=True):
        assert torch.equal(mine, theirs) and not mine.requires_grad and mine is not theirs


@pytest.mark.parametrize("copied", [True, False])
def test_running_statistics_are_its_own_unless_copied(copied):
    student = nn.BatchNorm1d(2)
    teacher = Teacher([student], copy_buffers=copied)
    student(torch.arange(8.0).view(4, 2))
    teacher.follow([student], 1)
    assert torch.equal(teacher[0].running_mean, student.running_mean if copied else torch.zeros(2))


def test_in_evaluation_it_does_not_move():
    student = nn.Linear(2, 2)
    with pytest.raises(RuntimeError, match="call model.train"):
        Teacher([student]).eval().follow([student], 0.5)
    with pytest.raises(ValueError, match="unknown momentum schedule 'linear': choose one of constant, cosine"):
        Teacher([student], schedule="linear")
