"""A scan's labels are found by its name, and nothing is guessed where two could be meant."""

import pytest

from s2dc_core.data import pair_with_labels


def lay(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


def named(root, pairs):
    return [tuple(file.relative_to(root).as_posix() for file in pair) for pair in pairs]


@pytest.mark.parametrize("ending", ["_seg", "-label", ".mask", "_SEG"])
def test_labels_lie_beside_their_scans(tmp_path, ending):
    root = lay(tmp_path, "b.nii.gz", f"b{ending}.nii.gz", "a_1.nii", f"a_1{ending}.nii.gz", f"unused{ending}.nii")
    right = [("a_1.nii", f"a_1{ending}.nii.gz"), ("b.nii.gz", f"b{ending}.nii.gz")]
    assert named(root, pair_with_labels([root])[0]) == right
    given = [file for file in sorted(root.iterdir()) if "unused" not in file.name]
    assert named(root, pair_with_labels(given)[0]) == right


def test_labels_lie_in_a_folder_of_their_own(tmp_path):
    root = lay(tmp_path, "images/a.nii.gz", "images/b.mha", "labels/b.nii.gz", "labels/a_seg.nii.gz", "labels/c.nii")
    right = [("images/a.nii.gz", "labels/a_seg.nii.gz"), ("images/b.mha", "labels/b.nii.gz")]
    assert named(root, pair_with_labels([root / "images"], [root / "labels"])[0]) == right
    assert named(root, pair_with_labels([root / "images" / "b.mha"], [root / "labels"])[0]) == right[1:]
    assert named(root, pair_with_labels([root], [root / "labels"])[0]) == right  # the labels lie below the scans


def test_what_is_left_out_is_told(tmp_path):
    lay(tmp_path, "a.nii", "a_seg.nii", "b.zip")
    assert "b.zip" in pair_with_labels([tmp_path])[1]


@pytest.mark.parametrize(
    ("names", "labels", "message"),
    [
        (["a.nii", "b.nii", "b_seg.nii"], None, r"no labels for 1 of 2 scans \(a\): a label map is called as its scan"),
        (["a.nii", "a_seg.nii", "a_label.nii"], None, "two label maps could be those of a"),
        (["x/a.nii", "y/a.nii", "x/a_seg.nii"], None, "two scans could be those of a"),
        (["a_seg.nii"], None, "there is no scan in"),
        (["a.nii", "l/b.nii"], "l", "no labels for 1 of 1 scans"),
    ],
)
def test_what_cannot_be_paired_is_one_sentence(tmp_path, names, labels, message):
    lay(tmp_path, *names)
    with pytest.raises(ValueError, match=message):
        pair_with_labels([tmp_path], labels and [tmp_path / labels])


def test_a_place_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file or folder"):
        pair_with_labels([tmp_path / "scans"])
