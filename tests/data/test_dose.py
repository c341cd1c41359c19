"""PET of less activity: means, spread and what is refused."""

import numpy as np
import pytest

from s2dc_core.data import dose_pair, normalise, suv_of


def test_both_doses_have_the_activitys_mean_and_poissons_spread():
    """Without smoothing, variance = activity / (counts x volume x dose)."""
    activity = np.full((40, 40, 40), 2.0)
    low, full = dose_pair(activity, (2.5, 2.5, 2.5), 50, seed=3, counts=6000, resolution=1e-3)
    per_suv = 6000 * 2.5**3 / 1000
    for scan, dose in ((low, 1 / 50), (full, 1.0)):
        sd = np.sqrt(2.0 / (per_suv * dose))
        assert scan.mean() == pytest.approx(2.0, abs=4 * sd / np.sqrt(activity.size))
        assert scan.std() == pytest.approx(sd, rel=0.02)
    assert low.std() / full.std() == pytest.approx(np.sqrt(50), rel=0.03)


def test_the_noise_of_the_two_is_independent_and_the_seeds():
    activity = np.full((24, 24, 24), 3.0)
    low, full = dose_pair(activity, (2, 2, 2), 4, seed=0)
    assert abs(np.corrcoef(low.ravel(), full.ravel())[0, 1]) < 0.05
    again, other = dose_pair(activity, (2, 2, 2), 4, seed=0)[0], dose_pair(activity, (2, 2, 2), 4, seed=1)[0]
    assert np.array_equal(low, again) and not np.array_equal(low, other)
    assert low.dtype == full.dtype == np.float32


def test_smoothing_keeps_the_mean_and_lowers_the_noise():
    activity = np.full((30, 30, 30), 2.0)
    sharp, smooth = (dose_pair(activity, (2.5, 2.5, 2.5), 50, 0, resolution=mm)[0] for mm in (1e-3, 8.0))
    assert smooth.mean() == pytest.approx(sharp.mean(), abs=0.02) and smooth.std() < 0.3 * sharp.std()


def test_no_activity_gives_no_counts():
    low, full = dose_pair(np.zeros((5, 5, 5)), (2, 2, 2), 10, 0)
    assert not low.any() and not full.any()


@pytest.mark.parametrize(("activity", "factor", "message"), [(1.0, 1, "factor of 1"), (-1.0, 5, "not be negative")])
def test_what_cannot_be_is_refused(activity, factor, message):
    with pytest.raises(ValueError, match=message):
        dose_pair(np.full((3, 3, 3), activity), (1, 1, 1), factor, 0)


def test_suv_comes_back_from_what_the_encoder_sees():
    import torch

    suv = torch.linspace(0, 25, 60).reshape(3, 4, 5)
    assert torch.allclose(suv_of(normalise(suv, "pet")), suv.clamp(max=20), atol=1e-4)
