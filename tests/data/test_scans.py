"""Scans: any NIfTI comes out RAS+, normalised and with its labels; bad files get one clear error each."""

import gzip
import json
import os
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from s2dc_core.data.intensities import foreground, normalise
from s2dc_core.data.phantoms import MODALITIES, ORGANS, make_phantom
from s2dc_core.data.scans import (
    load_mni152,
    load_scan,
    open_scan,
    scan_from_phantom,
)

AFFINE = np.array([[0.0, -2, 0, 40], [1.5, 0, 0, -20], [0, 0, 3, 7], [0, 0, 0, 1]])


def body(shape=(20, 24, 16)):
    """A CT of a box of water in air with a bright corner, and its label map."""
    generator = np.random.default_rng(0)
    volume = np.full(shape, -1000.0)
    volume[3:-3, 3:-3, 2:-2] = 40 + 10 * generator.standard_normal(volume[3:-3, 3:-3, 2:-2].shape)
    volume[4:8, 4:9, 3:6] = 700
    label = np.zeros(shape, np.int16)
    label[4:8, 4:9, 3:6], label[12:15, 12:15, 8:10] = 3, 12
    return volume, label


def save(path, data, affine=AFFINE):
    nib.save(nib.Nifti1Image(np.asarray(data), affine), path)
    return path


@pytest.fixture
def files(tmp_path):
    volume, label = body()
    return save(tmp_path / "ct.nii.gz", volume.astype(np.float32)), save(tmp_path / "label.nii", label)


# What comes out


def test_scan_is_ras_and_keeps_every_voxel_in_its_place(files):
    volume, label = body()
    scan = load_scan(*files, labels={3: "bone", "20": "never seen"})
    assert nib.aff2axcodes(scan.affine) == ("R", "A", "S")
    assert scan.spacing == pytest.approx((2, 1.5, 3))
    assert scan.volume.shape == (1, 24, 20, 16) and scan.volume.dtype == torch.float32
    assert scan.affine.dtype == np.float64
    for voxel in [(0, 0, 0), (5, 6, 4), (13, 12, 9), (19, 2, 15)]:
        there = np.round(np.linalg.inv(scan.affine) @ AFFINE @ [*voxel, 1]).astype(int)[:3]
        assert float(scan.raw[tuple(there)]) == pytest.approx(volume[voxel], rel=1e-6)
        assert int(scan.label[tuple(there)]) == label[voxel]
    assert scan.names == {3: "bone", 12: "label 12", 20: "never seen"}
    assert (scan.name, scan.modality, scan.background) == ("ct", "ct", -2.0)
    assert scan.label.dtype == torch.int32


def test_image_and_label_stored_in_other_axes(tmp_path, files):
    turned = nib.load(files[1]).as_reoriented(nib.orientations.axcodes2ornt(("L", "S", "A")))
    nib.save(turned, tmp_path / "turned.nii")
    turned = nib.load(tmp_path / "turned.nii")
    assert turned.shape != nib.load(files[1]).shape
    assert torch.equal(load_scan(files[0], tmp_path / "turned.nii").label, load_scan(*files).label)


def test_resampling_keeps_places(files):
    scan = load_scan(*files, spacing=(1, 1, 1.5))
    assert scan.spacing == pytest.approx((1, 1, 1.5))
    assert scan.label.shape == scan.raw.shape == scan.foreground.shape
    for name, marked in (("label", scan.label == 3), ("image", scan.raw > 500)):
        centre = scan.affine @ [*torch.argwhere(marked).double().mean(dim=0).tolist(), 1]
        expected = AFFINE @ [5.5, 6, 4, 1]
        np.testing.assert_allclose(centre[:3], expected[:3], atol=0.4, err_msg=name)
    assert set(scan.label.unique().tolist()) == {0, 3, 12}, "labels are not blended"


def test_a_fourth_dimension_of_one_is_dropped(tmp_path):
    volume, _ = body()
    scan = load_scan(save(tmp_path / "one.nii.gz", volume[..., None].astype(np.float32)))
    assert scan.raw.shape == (24, 20, 16)
    assert scan.label is None and scan.names == {}


def test_slope_in_the_header_is_applied(tmp_path):
    volume, _ = body()
    image = nib.Nifti1Image(np.zeros(volume.shape), AFFINE)
    image.header.set_data_dtype(np.int16)
    image = nib.Nifti1Image(volume, AFFINE, image.header)
    nib.save(image, tmp_path / "slope.nii")
    assert float(load_scan(tmp_path / "slope.nii").raw.max()) == pytest.approx(700, abs=0.1)


def test_a_path_may_start_at_the_home_folder(tmp_path, files, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "names.json").write_text('{"3": "bone"}')
    scan = open_scan("~/ct.nii.gz", "~/label.nii", "~/names.json", modality="ct")
    assert (scan.name, scan.names) == ("ct", {3: "bone", 12: "label 12"})
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "~draft.nii", body()[0])
    assert load_scan("~draft.nii").name == "~draft"


@pytest.mark.parametrize(("unit", "in_mm"), [("meter", 1000), ("mm", 1), ("micron", 1e-3), ("unknown", 1)])
def test_the_unit_in_the_header_counts(tmp_path, files, unit, in_mm):
    """The same places in another unit: a scan in metres and its label map in millimetres fit."""
    image = nib.Nifti1Image(body()[0], np.diag([1 / in_mm] * 3 + [1]) @ AFFINE)
    image.header.set_xyzt_units(unit, "sec")
    nib.save(image, tmp_path / "unit.nii")
    scan = load_scan(tmp_path / "unit.nii", files[1])
    assert scan.spacing == pytest.approx((2, 1.5, 3))
    np.testing.assert_allclose(scan.affine, load_scan(*files).affine, rtol=1e-5)


def qform_moved_by(path, millimetres):
    """A CT whose qform lies some mm from its sform (axis-aligned, so that a quaternion can say it)."""
    image = nib.Nifti1Image(body()[0], AFFINE)
    moved = AFFINE.copy()
    moved[0, 3] += millimetres
    image.set_sform(AFFINE, code=1)
    image.set_qform(moved, code=1)
    nib.save(image, path)
    return path


def test_sform_and_qform_that_disagree(tmp_path, files):
    with pytest.warns(UserWarning, match=r"two\.nii: sform and qform .* 0\.13 voxels apart; the sform is used"):
        scan = load_scan(qform_moved_by(tmp_path / "two.nii", 0.2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_allclose(scan.affine, load_scan(*files).affine)
        load_scan(qform_moved_by(tmp_path / "near.nii", 0.1))
        content = bytearray(qform_moved_by(tmp_path / "none.nii", 9).read_bytes())
        content[256:268] = np.ones(3, "<f4").tobytes()  # quatern_b, c and d: longer than 1, no rotation
        (tmp_path / "none.nii").write_bytes(content)
        np.testing.assert_allclose(load_scan(tmp_path / "none.nii").affine, scan.affine)


@pytest.mark.parametrize("nested", [False, True])
def test_label_names_from_json(tmp_path, files, nested):
    names = {"0": "background", "3": "bone"}
    (tmp_path / "names.json").write_text(json.dumps({"labels": names, "name": "x"} if nested else names))
    assert load_scan(*files, labels=tmp_path / "names.json").names == {3: "bone", 12: "label 12"}


# Intensities


def test_normalise_ct_is_the_window():
    values = torch.tensor([-3024.0, -175, -68.75, 37.5, 250, 3071]).view(6, 1, 1)
    assert normalise(values, "ct").flatten().tolist() == [-2, -2, -1, 0, 2, 2]


def test_the_papers_rule_is_a_window_for_ct_and_a_score_over_all_for_the_others(tmp_path):
    values = torch.tensor([-1000.0, -175.0, 37.5, 250.0, 3000.0]).reshape(5, 1, 1)
    assert normalise(values, "ct", rule="paper").flatten().tolist() == [0, 0, 0.5, 1, 1]
    for modality in ("pet", "mr"):
        score = normalise(values.abs(), modality, rule="paper")
        assert float(score.mean()) == pytest.approx(0, abs=1e-6) and float(score.std()) == pytest.approx(1)
    with pytest.raises(ValueError, match="unknown rule 'mine': choose one of default, paper"):
        normalise(values, "ct", rule="mine")
    phantom = make_phantom(0, "ct", shape=(24, 16, 24), spacing=(12.0, 12.0, 12.0))
    nib.save(nib.Nifti1Image(phantom.volume, phantom.affine), tmp_path / "body.nii.gz")
    scan = load_scan(tmp_path / "body.nii.gz", rule="paper")
    assert scan.background == 0 and scan.volume.min() == 0 and scan.volume.max() == 1


def test_normalise_pet_is_a_fixed_rising_scale():
    values = torch.tensor([-0.1, 0, 1, 2.5, 20, 66]).view(6, 1, 1)
    scaled = normalise(values, "pet").flatten()
    expected = [
        4 * share - 2 for share in (0, 0, np.arcsinh(1) / np.arcsinh(20), np.arcsinh(2.5) / np.arcsinh(20), 1, 1)
    ]
    np.testing.assert_allclose(scaled, expected, rtol=1e-6)


@pytest.mark.parametrize("modality", ["mr", "mr_t1", "mr_t1ce", "mr_flair"])
def test_normalise_mr_is_a_score_over_the_foreground(modality):
    generator = torch.Generator().manual_seed(0)
    volume, mask = torch.zeros(12, 12, 12), torch.zeros(12, 12, 12, dtype=torch.bool)
    mask[3:9, 3:9, 3:9] = True
    volume[mask] = 300 + 40 * torch.randn(216, generator=generator)
    inside = volume[mask]
    expected = ((volume - inside.mean()) / inside.std()).clamp(-5, 5)
    torch.testing.assert_close(normalise(volume, modality, mask), expected)
    torch.testing.assert_close(normalise(3 * volume, modality), normalise(volume, modality))
    torch.testing.assert_close(normalise(volume, modality, mask), normalise(volume, modality), atol=0.1, rtol=0)


@pytest.mark.parametrize("modality", ["xray", "CT", "mri", "ct_low", "", None])
def test_unknown_modality(modality, files):
    if modality is not None:
        with pytest.raises(ValueError, match='"ct", "pet", "mr"'):
            normalise(torch.zeros(2, 2, 2), modality)
    with pytest.raises(ValueError, match=f'modality {modality!r} is not known: use "ct", "pet", "mr"'):
        load_scan(files[0], modality=modality)


def test_foreground_holds_the_lungs_and_not_the_table():
    volume = torch.full((40, 40, 10), -1000.0)
    volume[8:32, 10:34] = 30
    volume[12:18, 14:28], volume[22:28, 14:28] = -850, -850
    volume[4:36, 4:5] = 200
    mask = foreground(volume, "ct")
    expected = torch.zeros_like(mask)
    expected[8:32, 10:34] = True
    assert (mask == expected).float().mean() > 0.98
    assert mask[12:28, 14:28].all(), "lungs are body"
    assert not mask[:, :6].any(), "the table is not"


def test_foreground_opens_away_what_is_thin():
    """A table under the body and noise around it hang together with it: only their thinness tells them apart."""
    body, near = (torch.zeros(40, 40, 12, dtype=torch.bool) for _ in range(2))
    body[12:28, 10:30], near[10:30, 8:32] = True, True
    noise = torch.rand(body.shape, generator=torch.Generator().manual_seed(0)) < 0.2
    table = torch.zeros_like(body)
    table[2:38, 9] = True
    for thin in (noise, table):
        mask = foreground(torch.where(body | thin, 40.0, -1000.0), "ct")
        assert mask[body].float().mean() > 0.98
        assert not mask[~near].any()


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("slices", [1, 2])
def test_foreground_of_a_few_slices(axis, slices):
    shape = [30, 30, 30]
    shape[axis] = slices
    expected = torch.zeros(shape, dtype=torch.bool)
    expected[tuple(slice(None) if side == slices else slice(8, 22) for side in shape)] = True
    mask = foreground(torch.where(expected, 40.0, -1000.0), "ct")
    assert (mask == expected).float().mean() > 0.98


def test_foreground_keeps_two_legs_and_a_volume_without_body():
    volume = torch.zeros(40, 20, 12)
    volume[4:16, 4:16], volume[24:36, 4:16], volume[20, 2] = 300, 250, 280
    mask = foreground(volume, "mr")
    assert mask[10, 10].all() and mask[30, 10].all() and not mask[20].any()
    assert foreground(torch.full((4, 4, 4), -1000.0), "ct").all()


# Shipped and generated scans


def test_mni152():
    scan = load_mni152()
    assert scan.raw.shape == (99, 117, 95)
    assert scan.spacing == (2, 2, 2) and nib.aff2axcodes(scan.affine) == ("R", "A", "S")
    assert scan.names == {1: "grey matter", 2: "white matter"}
    grey, white = (float(scan.volume[0][scan.label == label].mean()) for label in (1, 2))
    assert scan.background < grey < white, "on T1"
    assert scan.foreground[scan.label > 0].float().mean() > 0.99
    assert float(scan.volume[0][scan.foreground].mean()) == pytest.approx(0, abs=0.01)
    litres = (scan.label > 0).sum() * 8e-6
    assert 1.0 < litres < 2.2


def test_tissue_shares_of_mni152_never_exceed_one():
    """So that no voxel has more than half of both, as `load_mni152` says."""
    from nilearn import datasets

    maps = datasets.load_mni152_gm_template(resolution=2), datasets.load_mni152_wm_template(resolution=2)
    assert sum(image.get_fdata() for image in maps).max() < 1 + 1e-6


@pytest.mark.parametrize("modality", MODALITIES)
def test_phantoms(modality):
    options = {"shape": (72, 48, 72), "spacing": (5, 5, 5)}
    scan = open_scan(f"phantom_{modality}", seed=3, **options)
    phantom = make_phantom(3, modality, **options)
    np.testing.assert_array_equal(scan.raw, phantom.volume)
    np.testing.assert_array_equal(scan.label, phantom.label)
    np.testing.assert_array_equal(scan.affine, phantom.affine)
    assert (scan.names, scan.modality, scan.spacing) == (dict(ORGANS), modality, (5, 5, 5))
    assert scan.foreground[scan.label > 0].float().mean() > 0.97
    low, high = (-5, 5) if modality.startswith("mr") else (-2, 2)
    assert low <= scan.volume.min() and scan.volume.max() <= high
    outside = scan.volume[0][~scan.foreground]
    assert float((outside - scan.background).abs().median()) < 0.15
    assert scan_from_phantom(phantom).name == "phantom"


def test_open_scan_chooses(files):
    assert open_scan(str(files[0]), label=str(files[1]), labels="", modality="ct").names[3] == "label 3"
    assert open_scan("mni152", label="", modality="mr", spacing=(4, 4, 4)).spacing == (4, 4, 4)
    small = {"shape": (36, 24, 36), "spacing": (10, 10, 10)}
    assert open_scan("", seed=2, **small).modality == "ct"
    assert open_scan(seed=2, **small).name == "phantom_ct, seed 2"
    varied = open_scan(seed=2, varied=True, **small)
    assert varied.name == "phantom_ct, seed 2, varied"
    np.testing.assert_array_equal(varied.raw, make_phantom(2, varied=True, **small).volume)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image": "phantom_us"}, "phantom_ct, phantom_pet, .*mni152 or a NIfTI"),
        ({"image": "brain.nii.gz"}, "give modality="),
        ({"image": "mni152", "label": "x.nii"}, "its own labels"),
        ({"image": "phantom_ct", "modality": "pet"}, "its own labels and modality"),
        ({"image": "mni152", "spacing": (1, 1, 2)}, "equal whole voxel sides"),
        ({"image": "phantom_ct", "seed": -1}, "seed"),
        ({"image": "mni152", "shape": (8, 8, 8)}, "mni152 is no phantom: leave out shape, findings and varied"),
        (
            {"image": "mni152", "findings": ("liver_lesion",)},
            "mni152 is no phantom: leave out shape, findings and varied",
        ),
        ({"image": "mni152", "varied": True}, "mni152 is no phantom: leave out shape, findings and varied"),
        ({"image": "x.nii", "modality": "ct", "shape": (8, 8, 8)}, r"x\.nii is no phantom: leave out"),
        ({"image": "x.nii", "modality": "ct", "findings": ("liver_lesion",)}, r"x\.nii is no phantom: leave out"),
    ],
)
def test_bad_input_to_open_scan(options, message):
    with pytest.raises(ValueError, match=message):
        open_scan(**options)


def test_a_seed_does_no_harm_to_other_images(files):
    assert torch.equal(open_scan(str(files[0]), modality="ct", seed=3).raw, load_scan(files[0]).raw)


# Bad files


def test_missing_file_and_folders(tmp_path, files):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.nii\.gz does not exist"):
        load_scan(tmp_path / "nowhere.nii.gz")
    with pytest.raises(FileNotFoundError, match=r"one of its 2 images, such as ct\.nii\.gz"):
        load_scan(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"empty is a folder: it holds no \.nii"):
        load_scan(tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match="label"):
        load_scan(files[0], tmp_path / "nolabel.nii")


def test_what_is_no_nifti(tmp_path, files):
    (tmp_path / "text.nii").write_text("not an image")
    (tmp_path / "text.nii.gz").write_text("not even compressed")
    with gzip.open(tmp_path / "compressed.nii.gz", "wb") as file:
        file.write(b"no header" * 100)
    (tmp_path / "short.nii.gz").write_bytes(files[0].read_bytes()[:3000])
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\r\n")
    save(tmp_path / "colour.nii", np.zeros((4, 4, 4), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")]))
    written = {"text.nii": "not an image", "text.nii.gz": "not even compressed", "compressed.nii.gz": "no header"}
    for name, text in written.items():
        with pytest.raises(ValueError, match=f'{name} is plain text, not the file: "{text}'):
            load_scan(tmp_path / name)
    for name in ("short.nii.gz", "picture.png", "colour.nii"):
        with pytest.raises(ValueError, match=f"{name} cannot be read as a NIfTI"):
            load_scan(tmp_path / name)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((20, 24), "2 dimensions .* three: give a whole volume"),
        ((8, 8, 8, 3), r"4 dimensions .*: save one of its volumes, image\.slicer\[\.\.\., 0\]"),
        ((1, 8, 8, 8), "4 dimensions .*: squeeze the axes of length one, reorder"),
        ((8, 8, 1, 8), "4 dimensions .*: squeeze the axes of length one, reorder"),
        ((8, 8, 8, 2, 3), "5 dimensions .*: squeeze the axes of length one, reorder"),
        ((8, 8, 8, 1, 3), "5 dimensions .*: squeeze the axes of length one, reorder"),
    ],
)
def test_wrong_number_of_dimensions(tmp_path, shape, message):
    file = save(tmp_path / "shape.nii", np.random.default_rng(0).random(shape, dtype=np.float32))
    with pytest.raises(ValueError, match=rf"shape\.nii has {message}"):
        load_scan(file)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_voxels_that_are_not_finite(tmp_path, value):
    volume, _ = body()
    volume[0, :3, 0] = value
    with pytest.raises(ValueError, match=r"nan\.nii holds 3 voxels that are NaN or infinite: replace"):
        load_scan(save(tmp_path / "nan.nii", volume.astype(np.float32)))


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_affine_that_cannot_be_inverted(tmp_path, value):
    content = bytearray(save(tmp_path / "flat.nii", body()[0].astype(np.float32)).read_bytes())
    content[296:312] = np.full(4, value, "<f4").tobytes()  # srow_y, where nibabel would refuse to write it
    (tmp_path / "flat.nii").write_bytes(content)
    with pytest.raises(ValueError, match=r"flat\.nii: the affine cannot be inverted"):
        load_scan(tmp_path / "flat.nii")


def test_label_on_another_grid(tmp_path, files):
    _, label = body()
    with pytest.raises(ValueError, match=r"small\.nii is on another grid than .*ct\.nii\.gz"):
        load_scan(files[0], save(tmp_path / "small.nii", label[1:]))
    moved = AFFINE + np.array([[0, 0, 0, 1.0]] + 3 * [[0, 0, 0, 0]])
    with pytest.raises(ValueError, match=r"moved\.nii is on another grid than .*1 mm away"):
        load_scan(files[0], save(tmp_path / "moved.nii", label, moved))
    rounding = AFFINE + 1e-5
    rounding[3] = AFFINE[3]
    load_scan(files[0], save(tmp_path / "rounding.nii", label, rounding))


def test_label_on_the_same_grid_up_to_a_tenth_of_a_voxel(tmp_path, files):
    near, far = AFFINE.copy(), AFFINE.copy()
    near[2, 3] += 0.14  # of 1.5 mm, the smallest side
    far[2, 3] += 0.16
    load_scan(files[0], save(tmp_path / "near.nii", body()[1], near))
    with pytest.raises(ValueError, match=r"far\.nii is on another grid than .*0\.16 mm away"):
        load_scan(files[0], save(tmp_path / "far.nii", body()[1], far))


@pytest.mark.parametrize("wrong", [0.5, -1.0])
def test_label_values_that_are_no_labels(tmp_path, files, wrong):
    label = body()[1].astype(np.float32)
    label[2, 2, 2] = wrong
    with pytest.raises(ValueError, match=r"wrong\.nii holds values that are no labels"):
        load_scan(files[0], save(tmp_path / "wrong.nii", label))


@pytest.mark.parametrize(
    ("value", "dtype"), [(3e9, np.float64), (2**24 + 1, np.int32), (2**24, np.int32), (3 * 10**9, np.uint32)]
)
def test_labels_too_large_to_be_told_apart(tmp_path, files, value, dtype):
    label = body()[1].astype(dtype)
    label[2, 2, 2] = value
    with pytest.raises(ValueError, match=r"large\.nii holds the label \d+: renumber the labels to less than 16777216"):
        load_scan(files[0], save(tmp_path / "large.nii", label))
    label[2, 2, 2] = 2**24 - 1
    assert 2**24 - 1 in load_scan(files[0], save(tmp_path / "largest.nii", label)).names


def test_names_that_cannot_be_read(tmp_path, files):
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "list.json").write_text('["spleen"]')
    with pytest.raises(FileNotFoundError, match=r"names\.json does not exist"):
        load_scan(*files, labels=tmp_path / "names.json")
    with pytest.raises(ValueError, match=r"broken\.json cannot be read as JSON"):
        load_scan(*files, labels=str(tmp_path / "broken.json"))
    for labels in (tmp_path / "list.json", {"spleen": 1}, {1.5: "spleen"}, {1: None}, {"labels": {"1": 2}}):
        with pytest.raises(ValueError, match="{number: name}"):
            load_scan(*files, labels=labels)
    with pytest.raises(ValueError, match="without a label map"):
        load_scan(files[0], labels={1: "spleen"})


def test_intensities_that_cannot_be_of_the_modality(tmp_path, files):
    shifted = save(tmp_path / "shifted.nii", (body()[0] + 1024).astype(np.float32))
    with pytest.raises(
        ValueError,
        match=r"shifted\.nii holds 24 to 1724, no HU: .*HU \+ 1024 \(or \+ 1000\): subtract 1024 \(offset=-1024\)",
    ):
        load_scan(shifted)
    for modality in ("pet", "mr"):
        with pytest.raises(ValueError, match='which are HU: give modality="ct"'):
            load_scan(files[0], modality=modality)
    counts = save(tmp_path / "counts.nii", (8 * body()[0] + 8000).astype(np.float32))
    with pytest.raises(ValueError, match=r"counts\.nii holds 0 to 13600, no SUV: .*divide Bq/ml"):
        load_scan(counts, modality="pet")
    load_scan(shifted, modality="mr")
    with pytest.raises(ValueError, match="the value 7 everywhere"):
        load_scan(save(tmp_path / "constant.nii", np.full((8, 8, 8), 7.0)), modality="mr")


@pytest.mark.parametrize(
    "spacing", [(1, 1), (1, 0, 1), (1, -1, 1), (1, 1, float("nan")), (1, 1, float("inf")), 2.0, ("2", "2", "2"), "222"]
)
def test_bad_spacing(files, spacing):
    with pytest.raises(ValueError, match="three lengths in mm"):
        load_scan(files[0], spacing=spacing)
    for image, modality in ((str(files[0]), "ct"), ("mni152", None), ("phantom_ct", None)):
        with pytest.raises(ValueError, match="three lengths in mm"):
            open_scan(image, modality=modality, spacing=spacing)


# Real scans


@pytest.mark.skipif("S2DC_DATA" not in os.environ, reason="S2DC_DATA names no folder with real scans")
@pytest.mark.parametrize(
    ("name", "modality", "labelled"),
    [
        ("ct_abdomen_a", "ct", True),
        ("ct_chest_a", "ct", False),
        ("pet_wholebody_a", "pet", True),
        ("brain_t1_a", "mr_t1", True),
        ("mr_abdomen_a", "mr", True),
    ],
)
def test_real_scans(name, modality, labelled):
    folder = Path(os.environ["S2DC_DATA"])
    label = folder / f"{name}_seg.nii.gz" if labelled else None
    scan = load_scan(folder / f"{name}.nii.gz", label, modality=modality)
    assert torch.isfinite(scan.volume).all()
    assert 0.2 < scan.foreground.float().mean() < 0.9
    assert 0.05 < float(scan.volume[0][scan.foreground].std()) < 1.5
    if labelled:
        assert scan.foreground[scan.label > 0].float().mean() > 0.97
        assert set(scan.names) == set(scan.label.unique().tolist()) - {0}


@pytest.mark.skipif("S2DC_DATA" not in os.environ, reason="S2DC_DATA names no folder with real scans")
def test_the_lungs_of_a_real_chest_are_body():
    scan = load_scan(Path(os.environ["S2DC_DATA"]) / "ct_chest_a.nii.gz")
    middle = tuple(slice(side // 4, 3 * side // 4) for side in scan.raw.shape)
    lung = scan.raw[middle] < -700
    assert lung.float().mean() > 0.2
    assert scan.foreground[middle][lung].float().mean() > 0.95
