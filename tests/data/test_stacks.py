"""MetaImages, NRRD files and stacks of pictures: places and values as the files say, one error for what is wrong."""

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch

from s2dc_core.data import load_scan, open_scans
from s2dc_core.data.files import read_volume
from tests.data.miniature import pictures, values

POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 45123456\n"
PAGE = "<!DOCTYPE html><html><head><title>Sign in</title></head></html>"


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
    assert [scan.name for scan in scans] == ["0", "1"] and not damaged


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
        (lambda folder: (folder / "0003.png").write_bytes(b"\0x"), "0003.png cannot be read as a picture"),
        (lambda folder: (folder / "0003.png").write_text(POINTER), "0003.png is a Git LFS pointer"),
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
    (tmp_path / "a.mha").write_bytes(b"\0x" * 100)
    with pytest.raises(ValueError, match="a.mha cannot be read as a MetaImage or NRRD"):
        read_volume(tmp_path / "a.mha")
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((4, 5, 6, 3), np.float32), isVector=True), str(tmp_path / "b.mha"))
    with pytest.raises(ValueError, match="b.mha holds 3 numbers per voxel"):
        read_volume(tmp_path / "b.mha")
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((4, 5), np.float32)), str(tmp_path / "c.mha"))
    with pytest.raises(ValueError, match="c.mha has 2 dimensions"):
        read_volume(tmp_path / "c.mha")


POSE = [0.6, -0.8, 0, 0.8, 0.6, 0, 0, 0, 1]  # turned about the body's axis


def volume(direction=POSE):
    image = sitk.GetImageFromArray(np.random.default_rng(0).random((6, 5, 4)).astype(np.float32))
    image.SetSpacing((0.8, 1.2, 5.0))
    image.SetOrigin((-100.0, 50.0, 7.0))
    image.SetDirection(direction)
    return image


def with_leading_axis(image):
    """The volume as 1 x X x Y x Z."""
    more = sitk.GetImageFromArray(sitk.GetArrayFromImage(image)[..., None], isVector=False)
    more.SetSpacing((1.0, *image.GetSpacing()))
    more.SetOrigin((0.0, *image.GetOrigin()))
    direction = np.eye(4)
    direction[1:, 1:] = np.reshape(image.GetDirection(), (3, 3))
    more.SetDirection(direction.ravel())
    return more


ONE_FRAME = {
    "4D": lambda image: sitk.JoinSeries([image], 0.0, 1.0),
    "4D, a later time": lambda image: sitk.JoinSeries([image], 40.0, 2.5),
    "leading": with_leading_axis,
    "a vector of one number": lambda image: sitk.Compose([image]),
}


@pytest.mark.parametrize("form", ONE_FRAME)
@pytest.mark.parametrize("kind", ["mha", "mhd", "nrrd"])
@pytest.mark.parametrize("direction", [POSE, [1, 0, 0, 0, 1, 0, 0, 0, -1]], ids=["turned", "left-handed"])
def test_a_volume_of_one_frame_keeps_its_place(tmp_path, kind, form, direction):
    image = volume(direction)
    sitk.WriteImage(image, str(tmp_path / f"three.{kind}"))
    sitk.WriteImage(ONE_FRAME[form](image), str(tmp_path / f"more.{kind}"))
    data, affine = read_volume(tmp_path / f"three.{kind}")
    more, more_affine = read_volume(tmp_path / f"more.{kind}")
    assert np.array_equal(more, data)
    assert np.allclose(more_affine, affine, atol=1e-4)


@pytest.mark.parametrize("shape", [(2, 6, 5, 4), (2, 1, 6, 5, 4)])
def test_several_frames_are_refused(tmp_path, shape):
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros(shape, np.float32), isVector=False), str(tmp_path / "a.mha"))
    with pytest.raises(ValueError, match=r"a.mha has [45] dimensions .*, a scan has three"):
        read_volume(tmp_path / "a.mha")


def test_a_further_axis_that_runs_aslant_is_refused(tmp_path):
    image = sitk.JoinSeries([volume()], 0.0, 1.0)
    direction = np.eye(4)
    direction[2:, 2:] = [[0.8, -0.6], [0.6, 0.8]]
    image.SetDirection(direction.ravel())
    sitk.WriteImage(image, str(tmp_path / "a.nrrd"))
    with pytest.raises(ValueError, match="a.nrrd has a further axis that runs aslant"):
        read_volume(tmp_path / "a.nrrd")


def named(folder, names):
    """Pictures under these names, of values 0, 1, 2 and so on in this order."""
    folder.mkdir()
    for k, name in enumerate(names):
        sitk.WriteImage(sitk.GetImageFromArray(np.full((5, 4), k, np.uint8)), str(folder / f"{name}.png"))
    return folder


@pytest.mark.parametrize(
    ("numbers", "missing"),
    [
        ([*range(7), *range(10, 20)], "slices 0 to 19 without 7, 8, 9: add"),
        ([1, 2, 4, 5, 7], "slices 1 to 7 without 3, 6: add"),
        ([0, 2, 4, 8], "slices 0 to 8 without 6: add"),
        ([1, 2, 20], "without 3, 4, 5, 6, 7 and 12 more: add"),
    ],
)
def test_slices_that_are_missing_are_named(tmp_path, numbers, missing):
    with pytest.raises(ValueError, match=missing):
        read_volume(named(tmp_path / "scan", [f"{number:03d}" for number in numbers]))


@pytest.mark.parametrize(
    "names",
    [
        [str(k) for k in range(9, 12)],
        [f"slice_{k}_of_12" for k in range(1, 13)],
        [f"IM-0001-{k:04d}" for k in range(8, 20)],
        [f"case7_z{k}" for k in range(12)],
    ],
)
def test_slices_follow_the_number_that_tells_them_apart(tmp_path, names):
    data, _ = read_volume(named(tmp_path / "scan", names))
    assert data[0, 0].tolist() == list(range(len(names)))


def test_numbers_that_lie_apart_are_said(tmp_path):
    with pytest.warns(UserWarning, match="numbers of the slices lie 5 apart"):
        data, _ = read_volume(named(tmp_path / "scan", ["000", "005", "010"]))
    assert data[0, 0].tolist() == [0, 1, 2]


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii", "a.mha", "a.nrrd", "a.mgz", "a.img"])
@pytest.mark.parametrize(
    ("text", "said"), [(POINTER, "a Git LFS pointer"), (PAGE, "a web page"), ("", "an empty file")]
)
def test_what_lies_where_a_scan_should_be_is_said(tmp_path, name, text, said):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=f"{name} is {said}"):
        read_volume(tmp_path / name)


@pytest.mark.parametrize(("header", "data"), [("a.mhd", "a.raw"), ("a.nhdr", "a.raw.gz"), ("a.img", "a.hdr")])
def test_a_pointer_in_place_of_one_of_two_files_is_said(tmp_path, header, data):
    if header == "a.img":
        nib.save(nib.Nifti1Pair(np.zeros((4, 5, 6), np.float32), np.eye(4)), tmp_path / header)
    else:
        sitk.WriteImage(volume(), str(tmp_path / header), useCompression=data.endswith("gz"))
    assert (tmp_path / data).exists()
    (tmp_path / data).write_text(POINTER)
    with pytest.raises(ValueError, match=f"{data} is a Git LFS pointer"):
        read_volume(tmp_path / header)
