"""Every number of the downstream tables against another implementation, a plain loop and a closed form."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from skimage.metrics import normalized_root_mse, peak_signal_noise_ratio, structural_similarity
from sklearn.metrics import accuracy_score, f1_score

from s2dc_core.downstream.scores import class_scores, mean_of, nmse, psnr, ssim
from s2dc_core.intervals import accuracy_interval


def images(seed, shape=(18, 15, 13)):
    generator = torch.Generator().manual_seed(seed)
    target = torch.rand(shape, generator=generator) * 3 - 1
    return target + 0.4 * torch.randn(shape, generator=generator), target


def masks(seed, classes=4, shape=(9, 8, 7)):
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand((classes, *shape), generator=generator) < 0.3 for _ in range(2)]


@pytest.mark.parametrize("seed", range(5))
def test_dice_is_the_f1_score_of_scikit_learn_and_that_of_a_loop(seed):
    prediction, truth = masks(seed)
    names = ["a", "b", "c", "d"]
    found = class_scores(prediction, truth, names).dice
    for name, said, is_ in zip(names, prediction, truth, strict=True):
        both = sum(bool(p and t) for p, t in zip(said.flatten(), is_.flatten(), strict=True))
        assert found[name] == pytest.approx(2 * both / (int(said.sum()) + int(is_.sum())), abs=1e-6)
        assert found[name] == pytest.approx(f1_score(is_.flatten(), said.flatten()), abs=1e-6)


def test_a_class_that_the_case_lacks_has_no_dice_and_is_told_if_it_was_invented():
    truth = torch.zeros(3, 4, 4, 4, dtype=torch.bool)
    prediction = truth.clone()
    truth[0, :2] = prediction[0, 1:3] = True
    prediction[1, 0, 0, 0] = True
    found = class_scores(prediction, truth, ["liver", "lesion", "cyst"])
    assert found.dice["liver"] == pytest.approx(0.5)
    assert math.isnan(found.dice["lesion"]) and math.isnan(found.dice["cyst"])
    assert found.invented == {"liver": False, "lesion": True, "cyst": False}


def test_dice_of_a_class_that_was_not_found_is_0():
    truth = torch.ones(1, 3, 3, 3, dtype=torch.bool)
    assert class_scores(~truth, truth, ["a"]).dice["a"] == 0


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("masked", [False, True])
def test_psnr_and_nmse_are_those_of_scikit_image(seed, masked):
    prediction, target = images(seed)
    mask = target > 0 if masked else None
    inside = (lambda volume: volume[mask].double().numpy()) if masked else (lambda volume: volume.double().numpy())
    theirs = peak_signal_noise_ratio(inside(target), inside(prediction), data_range=2.5)
    assert psnr(prediction, target, 2.5, mask) == pytest.approx(theirs, rel=1e-6)
    theirs = normalized_root_mse(inside(target), inside(prediction), normalization="euclidean") ** 2
    assert nmse(prediction, target, mask) == pytest.approx(theirs, rel=1e-6)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("masked", [False, True])
def test_ssim_is_that_of_scikit_image(seed, masked):
    prediction, target = images(seed)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 3.0, "full": True}
    mean, everywhere = structural_similarity(target.double().numpy(), prediction.double().numpy(), **options)
    mask = target > 0.3 if masked else None
    if masked:
        whole = tuple(slice(5, -5) for _ in range(3))
        mean = everywhere[whole][mask[whole].numpy()].mean()
    assert ssim(prediction, target, 3.0, mask) == pytest.approx(mean, abs=1e-5)


def test_what_is_known_beforehand():
    _, target = images(0)
    assert psnr(target, target, 1.0) == math.inf and nmse(target, target) == 0
    assert ssim(target, target, 1.0) == pytest.approx(1)
    assert psnr(target + 0.1, target, 1.0) == pytest.approx(20, abs=1e-4)
    assert nmse(torch.zeros_like(target), target) == pytest.approx(1)


@pytest.mark.parametrize(
    ("score", "message"),
    [
        (lambda: ssim(torch.zeros(20, 20, 8), torch.zeros(20, 20, 8), 1.0), "needs 11 voxels"),
        (lambda: nmse(torch.ones(3, 3, 3), torch.zeros(3, 3, 3)), "0 everywhere"),
        (lambda: psnr(torch.ones(2, 2, 2), torch.ones(2, 2, 2), 1.0, torch.zeros(2, 2, 2).bool()), "no voxel"),
    ],
)
def test_what_cannot_be_scored_is_named(score, message):
    with pytest.raises(ValueError, match=message):
        score()


@pytest.mark.parametrize(("correct", "cases"), [(0, 7), (3, 10), (49, 50), (50, 50)])
def test_accuracy_and_its_wilson_interval(correct, cases):
    share, low, high = accuracy_interval(correct, cases)
    said = np.arange(cases) < correct
    assert share == accuracy_score(np.ones(cases), said)
    z = stats.norm.ppf(0.975)
    middle, half = share + z**2 / (2 * cases), z * math.sqrt(share * (1 - share) / cases + z**2 / (4 * cases**2))
    assert (low, high) == pytest.approx(((middle - half) / (1 + z**2 / cases), (middle + half) / (1 + z**2 / cases)))


def test_a_mean_is_over_the_cases_that_have_the_number():
    found = mean_of([{"a": 1.0, "b": 0.5}, {"a": 0.0}, {"a": math.nan, "c": math.nan}])
    assert found["a"] == 0.5 and found["b"] == 0.5 and math.isnan(found["c"])
