"""Units are judged by the body: what contradicts them is refused with its mend, the right opens, the odd is said."""

import os
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from s2dc_core.data import load_scan, make_phantom, open_scan, open_scans

SHAPE = (44, 40, 28)
REAL = pytest.mark.skipif("S2DC_DATA" not in os.environ, reason="S2DC_DATA names no folder with real scans")


def ct(noise=12):
    """A trunk in HU: noisy air, a rim of fat, soft tissue, a lung, a bone."""
    hu = np.full(SHAPE, -1000.0)
    hu[5:-5, 5:-5], hu[8:-8, 8:-8] = -100, 45
    hu[10:18, 10:26, 4:20], hu[30:34, 16:22] = -850, 500
    return hu + np.random.default_rng(0).normal(0, noise, SHAPE)


def quiet():
    """The same without noise: fat, muscle and air each of one value, on the end slices too."""
    hu = ct(0)
    hu[10:18, 10:26, 4:20] += np.linspace(-60, 60, 8)[:, None, None] + np.linspace(-40, 40, 16)
    hu[30:34, 16:22] += np.linspace(-200, 300, 28)
    return hu


def outside_circle():
    x, y = np.meshgrid(*(np.linspace(-1, 1, side) for side in SHAPE[:2]), indexing="ij")
    return np.broadcast_to((x**2 + y**2 > 1)[..., None], SHAPE)


def save(path, values, side=2.0):
    nib.save(nib.Nifti1Image(np.asarray(values, np.float32), np.diag([side, side, side, 1])), path)
    return path


def refused(tmp_path, values, modality, match, **options):
    with pytest.raises(ValueError, match=match):
        load_scan(save(tmp_path / "scan.nii.gz", values), modality=modality, **options)


def silent(tmp_path, values, modality, side=2.0, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return load_scan(save(tmp_path / "scan.nii.gz", values, side), modality=modality, **options)


UNDERSHOOT = np.random.default_rng(1).random(SHAPE) < 1e-3
Z = (ct() - ct().mean()) / ct().std()


@pytest.mark.parametrize(
    ("values", "match"),
    [
        (ct() + 1024, r"HU \+ 1024 .*subtract 1024 \(offset=-1024\)"),
        (np.where(UNDERSHOOT, -3, ct() + 1024), r"offset=-1024\)"),
        (np.where(outside_circle(), -2000, ct()) + 1024, r"offset=-1024\)"),
        (np.where(outside_circle(), -3024, ct()) + 1024, r"offset=-1024\)"),
        (ct() + 1024 + np.random.default_rng(2).normal(0, 40, SHAPE), r"offset=-1024\)"),
        (quiet() + 1024, r"offset=-1024\)"),
        (quiet() + 32768, r"offset=-32768\)"),
        (ct() + 32768, r"HU \+ 32768: .*\(offset=-32768\)"),
        (ct() / 1000, r"HU / 1000: .*\(scale=1000\)"),
        (ct().clip(-1000, 1000) / 1000, r"HU / 1000: .*\(scale=1000\)"),
        ((ct().clip(-175, 250) + 175) / 425, r"0\.\.1: .*scale=425, offset=-175"),
        (((ct().clip(-160, 240) + 160) / 400 * 255).round(), r"grey values 0\.\.255: "),
        (Z, "z-score"),
        (np.abs(np.random.default_rng(3).normal(0, 8, SHAPE)) + 400 * (ct() > -500), "it looks like an MR"),
    ],
)
def test_what_is_no_hu_is_refused_with_its_mend(tmp_path, values, match):
    refused(tmp_path, values, "ct", f"no HU: .*{match}")


@pytest.mark.parametrize("stored", [ct() + 1000, np.where(ct() < -500, -1000, ct()) + 1000 + 0 * ct()])
def test_hu_plus_1000_is_refused(tmp_path, stored):
    refused(tmp_path, stored, "ct", r"HU \+ 10(00|24 \(or \+ 1000\)): ")


def body():
    return ct() > -500


@pytest.mark.parametrize(
    "values",
    [
        ct(),
        quiet(),
        *(np.where(body(), ct(), air) for air in (0, -1000, -1024, -2000)),
        *(np.where(outside_circle(), air, ct()) for air in (-2000, -2048, -3024)),
        ct().clip(-1000, 1000),
        ct().clip(-160, 240),
        ct() + np.random.default_rng(4).normal(0, 80, SHAPE),
        np.where(UNDERSHOOT, 30000, ct()),
        ct() + 110 * (ct() > 20),
        ct()[10:18, 10:26, 4:20],
        ct()[6:20, 6:20],
    ],
)
def test_hu_open_whatever_is_around_the_body(tmp_path, values):
    scan = silent(tmp_path, values, "ct")
    np.testing.assert_allclose(scan.raw, np.float32(values), rtol=1e-6)


@pytest.mark.parametrize(
    "values",
    [
        np.random.default_rng(5).normal(700, 220, SHAPE),
        40 + np.abs(np.random.default_rng(5).normal(0, 9, SHAPE)),
        np.where(ct() > 300, np.random.default_rng(6).normal(1000, 300, SHAPE), 35 + 0.4 * np.abs(ct() % 20)),
    ],
    ids=["bone", "an organ", "brain and skull"],
)
def test_a_crop_without_air_and_fat_opens_and_is_named(tmp_path, values):
    with pytest.warns(UserWarning, match=r"scan\.nii\.gz holds neither air nor fat: taken for HU as it is"):
        load_scan(save(tmp_path / "scan.nii.gz", np.abs(values)), modality="ct")


def test_hu_given_as_mr_or_pet_are_refused_and_an_mr_below_0_is_not(tmp_path):
    for modality in ("mr", "pet"):
        refused(tmp_path, ct(), modality, 'which are HU: give modality="ct"')
    for mr in (Z * 300 - 2000, Z * 300):
        silent(tmp_path, np.where(body(), mr, mr.min()), "mr")


def pet(scale=1.0, noise=0.02):
    """A trunk in SUV: 0.8, a liver of 2.5, a bladder of 120."""
    rng = np.random.default_rng(0)
    suv = rng.normal(0, noise, SHAPE)
    suv[8:-8, 8:-8] = 0.8 + 0.15 * rng.standard_normal(suv[8:-8, 8:-8].shape)
    suv[10:20, 10:22, 10:20], suv[20:23, 20:23, 2:5] = 2.5, 120
    return scale * suv


@pytest.mark.parametrize("scale", [5000, 1000, 250])
def test_a_pet_in_activity_or_counts_is_refused(tmp_path, scale):
    refused(tmp_path, np.abs(pet(scale)), "pet", r"no SUV: .*divide Bq/ml .*\(scale=0\.001\)")


def test_a_whole_body_in_kilobecquerel_is_more_than_its_dose(tmp_path):
    with pytest.raises(ValueError, match=r"12 litres of body with a mean of .*which is about 1 in SUV: .*kBq/ml"):
        load_scan(save(tmp_path / "whole.nii.gz", pet(4), side=8.5), modality="pet")
    silent(tmp_path, pet(), "pet", side=8.5)


def test_a_scaled_pet_is_refused(tmp_path):
    refused(tmp_path, np.abs(pet()) / np.abs(pet()).max() * (np.abs(pet()) > 0.1), "pet", r"scaled to 0\.\.1")
    refused(tmp_path, (pet() - pet().mean()) / pet().std() - 0.3, "pet", "air lies at")


def test_suv_open_with_bladder_negative_noise_and_low_uptake(tmp_path):
    for values in (pet(), pet(noise=0.3), pet(0.1), pet()[10:30, 10:30], np.abs(pet())):
        silent(tmp_path, values, "pet")
    with pytest.warns(UserWarning, match="has its middle at SUV 1.*as a brain or a hot organ has: taken for SUV"):
        load_scan(save(tmp_path / "brain.nii.gz", 5 + np.random.default_rng(0).random(SHAPE) * 10), modality="pet")


@pytest.mark.parametrize("modality", ["ct", "pet"])
def test_generated_bodies_open_in_silence(tmp_path, modality):
    volume = make_phantom(7, modality, shape=(72, 48, 72), spacing=(5.0, 5.0, 5.0)).volume
    silent(tmp_path, volume, modality, side=5.0)


def test_scale_and_offset_bring_a_file_to_its_unit(tmp_path):
    plain = silent(tmp_path, ct(), "ct")
    for stored, options in ((ct() + 1024, {"offset": -1024}), ((ct() + 1000) / 1400, {"scale": 1400, "offset": -1000})):
        scan = silent(tmp_path, stored, "ct", **options)
        np.testing.assert_allclose(scan.raw, plain.raw, atol=1e-3)
        np.testing.assert_allclose(scan.volume, plain.volume, atol=1e-4)
    file = save(tmp_path / "scan.nii.gz", ct() + 1024)
    np.testing.assert_allclose(open_scan(file, modality="ct", offset=-1024).raw, plain.raw, atol=1e-3)
    for options in ({"scale": 0}, {"offset": np.nan}):
        with pytest.raises(ValueError, match="must be finite numbers, and scale not 0"):
            load_scan(file, modality="ct", **options)
    with pytest.raises(ValueError, match="leave out scale and offset"):
        open_scan("phantom_ct", offset=-1024)


def test_a_cached_scan_belongs_to_its_scale_and_offset(tmp_path):
    file, cache = save(tmp_path / "scan.nii.gz", ct() + 1024), tmp_path / "cache"
    for offset in (-1024, -1020, -1024):
        scans, _ = open_scans([file], "ct", cache=cache, offset=offset)
        np.testing.assert_allclose(scans[0].volume[0], load_scan(file, offset=offset).volume[0], atol=1e-6)
    assert len(list(cache.glob("*.safetensors"))) == 2


def test_what_is_odd_is_said_once_by_name_for_many_scans(tmp_path):
    for k in range(8):
        save(tmp_path / f"{k}.nii.gz", 40 + np.abs(np.random.default_rng(k).normal(0, 9, SHAPE)))
    for cache in (None, tmp_path / "cache", tmp_path / "cache"):  # the second time it is read from there
        said = []
        open_scans([tmp_path], "ct", say=said.append, cache=cache)
        (text,) = said
        assert f"{tmp_path / '0.nii.gz'} holds neither air nor fat" in text and "more like these" in text


@REAL
def test_real_scans_open_in_their_own_unit_and_shifted_ones_do_not(tmp_path):
    folder = Path(os.environ["S2DC_DATA"])
    for name in ("ct_headneck_a", "ct_spine_a", "sarcoma_b_ct"):
        hu = nib.load(folder / f"{name}.nii.gz").get_fdata()
        silent(tmp_path, hu, "ct")
        refused(tmp_path, hu + 1024, "ct", r"HU \+ 1024")
    for name in ("sarcoma_a_pet", "sarcoma_b_pet", "sarcoma_e_pet"):
        load_scan(folder / f"{name}.nii.gz", modality="pet")
