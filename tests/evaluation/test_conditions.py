"""Another field of view: what is cut stays where it is, and what is turned goes where the matrix says."""

import numpy as np
import pytest
import torch

from s2dc_core.evaluation.conditions import box, cut, half, turn_matrix, turned
from tests.evaluation.grids import LEFT_HANDED, OBLIQUE, scan_of, world

SHAPE = (9, 8, 7)


def marked(affine=OBLIQUE, shape=SHAPE):
    """A scan whose every voxel has a number of its own, and a label map that follows it."""
    raw = np.arange(1.0, np.prod(shape) + 1).reshape(shape)
    return scan_of(raw, affine, label=raw.astype(int) % 5)


def places(scan):
    """Where each number of a scan lies in the world."""
    cells = np.array(list(np.ndindex(*scan.raw.shape)))
    return dict(zip(scan.raw.flatten().tolist(), world(cells, scan.affine).tolist(), strict=True))


def agree(part, scan):
    """Volume, label and body show the same voxels, at the places that they had."""
    before, after = places(scan), places(part)
    assert len(after) == part.raw.numel()
    for number, place in after.items():
        assert place == pytest.approx(before[number])
    assert torch.equal(part.volume[0], part.raw) and torch.equal(part.label, part.raw.int() % 5)
    assert part.foreground.shape == part.raw.shape and part.foreground.all()


@pytest.mark.parametrize("affine", [OBLIQUE, LEFT_HANDED])
def test_what_is_cut_stays_where_it_is(affine):
    scan = marked(affine)
    part = cut(scan, (2, 0, 3), (7, 8, 4))
    assert torch.equal(part.raw, scan.raw[2:7, :, 3:4])
    agree(part, scan)
    np.testing.assert_array_equal(scan.affine, affine, "the scan itself is left alone")
    assert cut(scan._replace(label=None), (0, 0, 0), (1, 1, 1)).label is None


def test_both_halves_are_the_whole():
    scan = marked()
    upper, lower = half(scan, True), half(scan, False)
    assert upper.raw.shape[2] == 4 and lower.raw.shape[2] == 3
    assert torch.equal(torch.cat([lower.raw, upper.raw], 2), scan.raw)
    assert min(p[2] for p in places(upper).values()) > max(p[2] for p in places(lower).values())
    agree(upper, scan)
    agree(lower, scan)


def test_a_box_takes_a_share_of_each_side_at_a_place_of_its_seed():
    scan = marked()
    parts = [box(scan, 0.6, seed) for seed in range(8)]
    for part in parts:
        assert tuple(part.raw.shape) == (5, 5, 4)
        agree(part, scan)
    assert len({float(part.raw[0, 0, 0]) for part in parts}) > 4
    assert torch.equal(box(scan, 0.6, 3).raw, parts[3].raw)
    assert torch.equal(box(scan, 1).raw, scan.raw) and box(scan, 0.01).raw.shape == (1, 1, 1)


@pytest.mark.parametrize(
    ("low", "high"), [((-1, 0, 0), (3, 3, 3)), ((0, 0, 0), (3, 9, 3)), ((2, 2, 2), (2, 3, 3)), ((4, 0, 0), (3, 3, 3))]
)
def test_a_box_beyond_the_scan(low, high):
    with pytest.raises(ValueError, match=r"does not lie in \(9, 8, 7\) voxels"):
        cut(marked(), low, high)


@pytest.mark.parametrize("share", [0, -1, 1.01, float("nan")])
def test_a_share_that_is_none(share):
    with pytest.raises(ValueError, match="is not in"):
        box(marked(), share)


@pytest.mark.parametrize("affine", [np.eye(4), OBLIQUE, LEFT_HANDED])
def test_turned_by_nothing_is_the_same_to_the_last_voxel(affine):
    scan = marked(affine)
    same = turned(scan, 0)
    torch.testing.assert_close(same.volume, scan.volume)
    torch.testing.assert_close(same.raw, scan.raw)
    assert torch.equal(same.label, scan.label) and torch.equal(same.foreground, scan.foreground)
    np.testing.assert_array_equal(same.affine, scan.affine)


@pytest.mark.parametrize("seed", range(3))
def test_the_matrix_is_a_rotation_by_that_angle(seed):
    matrix = turn_matrix(marked(), 20, seed)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(matrix) == pytest.approx(1)
    assert np.degrees(np.arccos((np.trace(matrix) - 1) / 2)) == pytest.approx(20)
    np.testing.assert_array_equal(matrix, turn_matrix(marked(), 20, seed))


@pytest.mark.parametrize("affine", [OBLIQUE, LEFT_HANDED])
@pytest.mark.parametrize("seed", range(3))
def test_a_marked_ball_is_found_where_the_matrix_says(affine, seed):
    """Its centre of mass, in image, label and body; turn_matrix goes from the turned patient back."""
    shape, centre = (32, 24, 28), np.array([20, 9, 17])
    away = (np.indices(shape).T - centre) @ affine[:3, :3].T
    ball = np.linalg.norm(away, axis=-1).T < 9
    scan = scan_of(np.where(ball, 100.0, 0.0), affine, label=3 * ball)
    turn = turned(scan, 20, seed)
    middle = world([(np.array(shape) - 1) / 2], affine)[0]
    before = world([centre], affine)[0]
    expected = np.linalg.inv(turn_matrix(scan, 20, seed)) @ (before - middle) + middle
    assert np.linalg.norm(expected - before) > 2
    for values in (turn.volume[0], turn.raw, turn.label.float(), turn.foreground.float()):
        cells, weights = values.nonzero().numpy(), values[values != 0].numpy()
        found = (world(cells, affine) * weights[:, None]).sum(0) / weights.sum()
        assert np.linalg.norm(found - expected) < 0.5
    assert set(turn.label.unique().tolist()) == {0, 3} and turn.label.dtype == scan.label.dtype
    assert turn.volume.dtype == torch.float32 and turn.volume.shape == scan.volume.shape


def test_what_comes_from_beyond_the_scan_is_air():
    scan = marked()._replace(background=-7.0)
    turn = turned(scan, 90, 1)
    beyond = ~turn.foreground
    assert beyond.any() and (turn.label[beyond] == 0).all()
    assert float(turn.volume.min()) == -7 and float(turn.raw.min()) == 1
    assert turned(scan._replace(label=None), 20).label is None
