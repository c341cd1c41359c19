"""MetaImages, NRRD files and stacks of pictures: places and values as the files say, one error for what is wrong."""

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from s2dc_core.data import load_scan, open_scans
from s2dc_core.data.files import read_volume
from tests.data.miniature import pictures, values


@pytest.mark.parametrize("suffix", ["mha", "mhd", "nrrd"])
def test_every_voxel_of_a_metaimage_is_where_its_file_says(tmp_path, suffix):
    stored = np.random.default_rng(0).integers(-1000, 400, (7, 6, 5)).astype(np.int16)  # [z, y, x]
    image = sitk.GetImageFromArray(stored)
    turn = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])  # about the axis of the body, by a right angle
    image.SetDirection(turn.ravel())
    image.SetSpacing((1.5, 2.0, 3.0))
    image.SetOrigin((-10.0, 20.0, 30.0))
    sitk.WriteImage(image, str(tmp_path / f"a.{suffix}"))
    data, affine = read_volume(tmp_path / f"a.{suffix}")
    assert data.size == stored.size
    for cell in np.ndindex(data.shape):
        right, front, up, _ = affine @ [*cell, 1.0]
        x, y, z = image.TransformPhysicalPointToIndex((-right, -front, up))
        assert data[cell] == stored[z, y, x]


def test_a_folder_is_searched_for_metaimages_too(tmp_path):
    for k in range(2):
        image = sitk.GetImageFromArray(values(k, "ct").astype(np.int16).T)
        sitk.WriteImage(image, str(tmp_path / f"{k}.mha"))
    (tmp_path / "picture.png").write_bytes(b"no slice")
    scans, damaged = open_scans([tmp_path], "ct")
    assert [scan.name for scan in scans] == ["0.mha", "1.mha"] and not damaged


def test_slices_follow_their_numbers_and_lie_as_radiologists_look_at_them(tmp_path):
    pictures(tmp_path / "scan", 0, slices=12)
    for k in range(12):  # names that do not sort as their numbers do
        (tmp_path / "scan" / f"{k:04d}.png").rename(tmp_path / "scan" / f"im{k}.png")
    data, affine = read_volume(tmp_path / "scan")
    assert np.allclose(np.diag(affine), 1)
    for k in range(12):
        slice_ = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "scan" / f"im{k}.png")))
        # RAS+: x towards the right, which is the picture's left; y towards the front, which is its top.
        assert np.array_equal(data[..., k], slice_.T[::-1, ::-1])
    scan = load_scan(tmp_path / "scan", modality="ct", window=(0.0, 255.0), rule="paper")
    assert torch.allclose(scan.volume[0] * 255, scan.raw, atol=1e-4)


def colour(folder):
    pixels = np.random.default_rng(0).integers(0, 255, (20, 24, 3)).astype(np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(pixels, True), str(folder / "0003.png"))


def small(folder):
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((5, 5), np.uint8)), str(folder / "0003.png"))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "0003.png").write_bytes(b"x"), "0003.png cannot be read as a picture"),
        (lambda folder: (folder / "0003.png").rename(folder / "x.png"), "x.png has no number"),
        (lambda folder: (folder / "0003.png").rename(folder / "a4.png"), "a4.png has the number of another"),
        (colour, "0003.png is in colour"),
        (small, r"0003.png has \(5, 5\) pixels, the slices before it \(24, 20\)"),
    ],
)  # fmt: skip
def test_a_damaged_stack_is_named(tmp_path, damage, message):
    pictures(tmp_path / "scan", 0)
    damage(tmp_path / "scan")
    with pytest.raises(ValueError, match=message):
        read_volume(tmp_path / "scan")


def test_grey_slices_saved_as_colour_are_read(tmp_path):
    pictures(tmp_path / "scan", 0)
    plain, _ = read_volume(tmp_path / "scan")
    for file in (tmp_path / "scan").iterdir():
        grey = sitk.GetArrayFromImage(sitk.ReadImage(str(file)))
        sitk.WriteImage(sitk.GetImageFromArray(np.stack([grey] * 3, axis=-1), True), str(file))
    assert np.array_equal(read_volume(tmp_path / "scan")[0], plain)


def test_what_is_no_metaimage_is_named(tmp_path):
    (tmp_path / "a.mha").write_bytes(b"x" * 100)
    with pytest.raises(ValueError, match="a.mha cannot be read as a MetaImage or NRRD"):
        read_volume(tmp_path / "a.mha")
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((4, 5, 6, 3), np.float32), isVector=True), str(tmp_path / "b.mha"))
    with pytest.raises(ValueError, match="b.mha holds 3 numbers per voxel"):
        read_volume(tmp_path / "b.mha")
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((4, 5), np.float32)), str(tmp_path / "c.mha"))
    with pytest.raises(ValueError, match="c.mha has 2 dimensions"):
        read_volume(tmp_path / "c.mha")
