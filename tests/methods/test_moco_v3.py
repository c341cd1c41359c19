"""MoCo v3: values computed elsewhere, and what the teacher does."""

import math
from dataclasses import replace

import pytest
import torch

from s2dc_core.methods.moco_v3 import MoCoV3Options
from s2dc_core.methods.parts.momentum import momentum_at
from s2dc_core.pretraining import Pretraining, draw_views
from tests.methods.series import series
from tests.methods.test_every_method import ENCODER, SCANS, small

Q1, Q2, K1, K2 = (series(4, 5, shift=shift) for shift in range(4))


def loss_of(queries, keys, temperature):
    """The method's loss where encoder and heads give these rows."""
    method = MoCoV3Options(temperature=temperature).build(ENCODER)
    rows = iter(queries)
    method.encoder.forward = lambda volume: [volume.new_zeros(len(volume), 2, 1, 1, 1)]
    method.projector = torch.nn.Identity()
    method.predictor.forward = lambda _rows: next(rows)
    method.keys = lambda _both: list(keys)
    blank = torch.zeros(len(queries[0]), 1, 1, 1, 1, 1)
    views = type(draw_views(small("moco_v3"), SCANS))(blank, blank)
    return method(views)[0].total.mean().item()


@pytest.mark.parametrize(("temperature", "expected"), [(0.2, 3.5087369646), (1.0, 7.1753141650)])
def test_the_loss_has_the_value_of_its_equation(temperature, expected):
    assert loss_of((Q1, Q2), (K1, K2), temperature) == pytest.approx(expected, abs=1e-9)
    assert loss_of((2 * Q1, Q2), (K1, 9 * K2), temperature) == pytest.approx(expected, abs=1e-9)
    # A query meets the key of its other view.
    assert loss_of((Q1, Q2), (K2, K1), temperature) != pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize(("rows", "expected"), [(4, 1.1090354889), (8, 1.6635532333)])
def test_collapse_leaves_chance(rows, expected):
    """4 t ln N."""
    alike = torch.ones(rows, 3, dtype=torch.float64)
    assert loss_of((alike, alike), (alike, alike), 0.2) == pytest.approx(expected, abs=1e-9)


def test_pairs_at_right_angles():
    """4 t ln(1 + (N - 1) e^(-1/t))."""
    rows = torch.eye(4, dtype=torch.float64)
    assert loss_of((rows, rows), (rows, rows), 0.2) == pytest.approx(0.0160098027, abs=1e-10)


def test_the_teacher_follows_encoder_and_projector_after_the_step():
    config = small("moco_v3", steps=4, momentum=0.9)
    run = Pretraining(config, SCANS, device="cpu")
    expected = [weight.clone() for weight in run.model.teacher.parameters()]
    for step in range(1, 5):
        run.step()
        share = 1 - momentum_at(step / 4, 0.9, "cosine")
        students = [*run.model.encoder.parameters(), *run.model.projector.parameters()]
        expected = [torch.lerp(old, new, share) for old, new in zip(expected, students, strict=True)]
        for mine, weight in zip(run.model.teacher.parameters(), expected, strict=True):
            torch.testing.assert_close(mine, weight)
    assert share == 0 and not torch.equal(students[0], expected[0])
    assert not any(weight.requires_grad or weight.grad is not None for weight in run.model.teacher.parameters())


def test_the_teachers_running_statistics_are_its_own():
    run = Pretraining(small("moco_v3", norm="batch", steps=2), SCANS, device="cpu")
    run.step()
    mine, theirs = run.model.teacher[1][1], run.model.projector[1]
    assert mine.num_batches_tracked == theirs.num_batches_tracked == 2  # both views, each by itself
    assert not torch.equal(mine.running_mean, torch.zeros(len(mine.running_mean)))
    run.step()
    assert not torch.equal(mine.running_mean, theirs.running_mean)


def test_a_frozen_patch_embedding_keeps_its_random_weights():
    run = Pretraining(small("moco_v3", frozen_patch=True, steps=2), SCANS, device="cpu")
    before = {name: value.clone() for name, value in run.encoder.state_dict().items()}
    run.step()
    after = run.encoder.state_dict()
    same = [torch.equal(before[name], after[name]) for name in before if "patch_embed" in name]
    assert same and all(same) and not torch.equal(after["swinViT.layers4.0.blocks.0.mlp.linear1.weight"],
                                                  before["swinViT.layers4.0.blocks.0.mlp.linear1.weight"])  # fmt: skip


def test_a_constant_volume_without_changes_gives_chance():
    """The first loss is that of collapse, 4 t ln N, to the last digits of float32."""
    still = {
        "rotation_deg": 0,
        "translation_mm": 0,
        "scale": (1, 1),
        "intensity_scale": 0,
        "intensity_shift": 0,
        "noise": 0,
    }
    flat = [scan._replace(volume=scan.volume * 0 + 1) for scan in SCANS]
    config = replace(small("moco_v3", views=still), batch=3)
    method = config.build()
    terms, _ = method(draw_views(config, flat))
    assert terms.total.mean().item() == pytest.approx(4 * 0.2 * math.log(3), abs=1e-5)


def test_a_batch_of_one_is_refused():
    with pytest.raises(ValueError, match="the others of its batch, and there is none"):
        Pretraining(small("moco_v3", batch=1), SCANS, device="cpu").step()
