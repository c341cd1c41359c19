"""The four tasks on generated bodies: small, repeatable, and each what it says."""

import pytest
import torch

from s2dc_core.data import open_scan
from s2dc_core.downstream import Classification, ImageToImage, Segmentation
from s2dc_core.downstream.generated import contrast_lesson, dose_lesson, lung_lesson, organ_lesson

GRID = {"shape": (48, 32, 48), "spacing": (7.5, 7.5, 7.5)}


def test_organs_are_those_of_the_body():
    lesson = organ_lesson([0], [1000], labels={6: "liver", 1: "spleen"}, **GRID)
    example, scan = lesson.training[0], open_scan("phantom_ct", seed=0, **GRID)
    assert isinstance(lesson.task, Segmentation) and lesson.task.scored == ["spleen", "liver"]
    assert torch.equal(example.truth == 6, scan.label == 6) and set(example.truth.unique().tolist()) == {0, 1, 6}
    assert torch.equal(example.image, scan.volume) and example.background == scan.background
    lesson.task.refuse_training(lesson.training)


def test_lungs_differ_by_their_class_alone():
    lesson = lung_lesson(range(6), [1000], **GRID)
    assert isinstance(lesson.task, Classification) and [e.truth for e in lesson.training] == [0, 1, 2, 0, 1, 2]
    assert [entry["target"] for entry in lesson.training.share(0.5, 0).entries].count(1) == 1
    for seed, example in enumerate(lesson.training):
        healthy = open_scan("phantom_ct", seed=seed, **GRID).raw[..., 19:]
        filled = (healthy < -750) & (example.image[0] > -0.8)  # which is -625 HU in the window for lungs
        assert bool(filled.float().mean() > 0.001) == (example.truth > 0)
        assert example.image.shape == (1, 48, 32, 29)


def test_a_low_dose_is_noisier_and_the_full_one_is_what_is_learnt():
    lesson = dose_lesson([0], [1000], factor=50, **GRID)
    example, task = lesson.training[0], lesson.task
    assert isinstance(task, ImageToImage) and task.residual and task.data_range == 20
    clean = open_scan("phantom_pet", seed=0, **GRID).raw
    off = [float((task.units(image) - clean)[clean > 1].std()) for image in (example.image[0], example.truth)]
    assert off[0] > 1.2 * off[1]


@pytest.mark.parametrize("target", ["mr_t2", "mr_t1ce"])
def test_a_translation_has_two_contrasts_of_one_body(target):
    lesson = contrast_lesson([0], [1000], target=target, **GRID)
    example = lesson.training[0]
    assert torch.equal(example.image, open_scan("phantom_mr_t1", seed=0, **GRID).volume)
    assert torch.equal(example.truth, open_scan(f"phantom_{target}", seed=0, **GRID).volume[0])
    assert not torch.equal(example.image[0], example.truth)
