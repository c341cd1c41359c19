"""MR in any unit: body and normalised values do not depend on zero, scale, spikes or what fills the air."""

from functools import cache

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from s2dc_core.data import load_scan, make_phantom
from s2dc_core.data.intensities import foreground, normalise

SHAPE = (48, 44, 36)
INSIDE = np.zeros(SHAPE, bool)
INSIDE[8:-8, 8:-8, 5:-5] = True


def mr():
    """A head of two tissues in the noise of air."""
    rng = np.random.default_rng(0)
    values = np.abs(rng.normal(0, 8, SHAPE))
    values[INSIDE] = 400 + 60 * rng.standard_normal(INSIDE.sum())
    values[14:24, 14:24, 10:20] += 300
    return values


def score(values):
    return (values - values[INSIDE].mean()) / values[INSIDE].std()


def spiked(values, count, spike):
    values = values.copy()
    values.reshape(-1)[np.random.default_rng(1).choice(values.size, count, replace=False)] = spike
    return values


def padded(values):
    return np.pad(values, ((60, 60), (20, 20), (0, 0)), constant_values=0)


FORMS = {
    "z-score, air 0": lambda v: np.where(INSIDE, score(v), 0),
    "z-score, air its own": lambda v: np.where(INSIDE, score(v), score(v).min()),
    "z-score of the volume": lambda v: (v - v.mean()) / v.std(),
    "offset of 2000": lambda v: v + 2000,
    "offset of -3000": lambda v: v - 3000,
    "a millionth": lambda v: v * 1e-6,
    "a million": lambda v: v * 1e6,
    "air masked to 0": lambda v: np.where(INSIDE, v, 0),
    "offset, then air masked to 0": lambda v: np.where(INSIDE, v + 2000, 0),
    "one spike": lambda v: spiked(v, 1, 1e6),
    "20 at the end of 16 bits": lambda v: spiked(v, 20, 65535),
    "20 that ran over": lambda v: spiked(v, 20, -32768),
    "spikes of half a percent": lambda v: spiked(v, int(0.005 * v.size), 1e5),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_same_body_and_values_in_any_unit(form):
    plain, other = (torch.from_numpy(np.float32(values)) for values in (mr(), FORMS[form](mr())))
    share = foreground(other, "mr")[INSIDE].float().mean()
    assert share > 0.97 and foreground(other, "mr")[~INSIDE].float().mean() < 0.03
    expected, scaled = (normalise(values, "mr")[INSIDE] for values in (plain, other))
    kept = (plain - other).abs()[INSIDE] == 0 if "spike" in form or "20 " in form else torch.ones(INSIDE.sum()).bool()
    assert float((scaled - expected)[kept].abs().max()) < 0.15


def test_a_body_of_a_twentieth_of_the_volume_is_found():
    values = torch.from_numpy(np.float32(padded(mr())))
    noise = torch.from_numpy(np.float32(np.abs(np.random.default_rng(2).normal(0, 8, values.shape))))
    inside = torch.from_numpy(np.pad(INSIDE, ((60, 60), (20, 20), (0, 0))))
    assert inside.float().mean() < 0.07
    for air in (torch.zeros_like(values), noise):
        body = foreground(torch.where(inside, values, air), "mr")
        assert body[inside].float().mean() > 0.97 and body[~inside].float().mean() < 0.01


def test_a_crop_without_air_is_all_body():
    values = torch.from_numpy(np.float32(mr()[10:38, 10:34, 7:29]))
    for form in (values, values + 2000, values * 1e-6):
        assert foreground(form, "mr").float().mean() > 0.95


def test_padding_after_a_score_of_the_volume_is_no_body():
    values = FORMS["z-score of the volume"](mr())
    wide = torch.from_numpy(np.float32(np.pad(values, 6, constant_values=0)))
    body = foreground(wide, "mr")
    inside = torch.from_numpy(np.pad(INSIDE, 6))
    assert body[inside].float().mean() > 0.97 and body[~inside].float().mean() < 0.03


@cache
def generated(modality):
    return torch.from_numpy(make_phantom(5, modality, shape=(36, 24, 36), spacing=(10.0, 10.0, 10.0)).volume)


@settings(max_examples=20, deadline=None)
@given(scale=st.floats(1e-3, 1e3), offset=st.floats(-100, 100), modality=st.sampled_from(["mr_t1", "mr_t2", "mr_t1ce"]))
def test_scale_and_offset_change_neither_body_nor_values(scale, offset, modality):
    volume = generated(modality)
    other = (scale * (volume.double() + 10 * offset)).float()
    plain, moved = (foreground(each, "mr") for each in (volume, other))
    assert (plain != moved).float().mean() < 1e-3  # a voxel on the threshold may fall to either side by rounding
    torch.testing.assert_close(normalise(other, "mr"), normalise(volume, "mr"), atol=0.02, rtol=0)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64])
def test_whole_numbers_of_any_kind_are_read(tmp_path, dtype):
    values = np.clip(mr() / 8, 0, 120).astype(dtype)
    nib.save(nib.Nifti1Image(values, np.eye(4), dtype=dtype), tmp_path / "mr.nii.gz")
    scan = load_scan(tmp_path / "mr.nii.gz", modality="mr")
    np.testing.assert_array_equal(scan.raw, values.astype(np.float32))
    assert scan.foreground[INSIDE].float().mean() > 0.97


def test_a_spike_is_said(tmp_path):
    nib.save(nib.Nifti1Image(np.float32(spiked(mr(), 3, 1e6)), np.eye(4)), tmp_path / "mr.nii.gz")
    with pytest.warns(UserWarning, match=r"mr\.nii\.gz holds 3 voxels far beyond the rest.*: they are clipped"):
        load_scan(tmp_path / "mr.nii.gz", modality="mr")


def test_the_background_of_a_crop_does_not_follow_a_spike(tmp_path):
    crop = mr()[10:38, 10:34, 7:29]
    found = []
    for values in (crop, spiked(crop, 5, -1e6)):
        nib.save(nib.Nifti1Image(np.float32(values), np.eye(4)), tmp_path / "mr.nii.gz")
        found.append(load_scan(tmp_path / "mr.nii.gz", modality="mr").background)
    assert found[1] == pytest.approx(found[0], abs=0.1)
