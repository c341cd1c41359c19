"""Crops: where they lie, what they share, counted voxel by voxel."""

import pytest
import torch

from s2dc_core.geometry import split_region
from s2dc_core.methods.parts.crops import (
    cubes_around,
    cut,
    filled_corners,
    filled_shares,
    grid_corners,
    intersection_over_union,
    overlap_shares,
    random_corners,
    random_cubes,
    random_pair,
    refuse_large_crops,
)


def painted(corner, size, shape):
    box = torch.zeros(tuple(shape), dtype=torch.bool)
    box[tuple(slice(a, a + n) for a, n in zip(corner, size, strict=True))] = True
    return box


def test_base_crops_are_the_sub_volumes_in_their_order():
    region, size = torch.arange(4 * 6 * 6.0).view(1, 1, 4, 6, 6), (2, 3, 2)
    corners = grid_corners((4, 6, 6), size)
    assert corners.shape == (2 * 2 * 3, 3)
    assert torch.equal(
        torch.stack([cut(region[0], corner, size) for corner in corners.tolist()]), split_region(region, size)
    )
    with pytest.raises(ValueError, match="cannot be cut into patches"):
        grid_corners((5, 6, 6), size)


def test_random_crops_reach_every_place_and_none_beyond():
    corners = random_corners((5, 4, 3), (3, 4, 1), 400, torch.Generator().manual_seed(0))
    assert corners.min(0).values.tolist() == [0, 0, 0] and corners.max(0).values.tolist() == [2, 0, 2]
    assert corners[:, 0].bincount().min() > 100 and corners[:, 2].bincount().min() > 100


def test_a_crop_larger_than_its_region_is_refused():
    with pytest.raises(ValueError, match=r"a crop of \(3, 4, 5\) voxels is larger than its region of \(4, 4, 4\)"):
        random_corners((4, 4, 4), (3, 4, 5), 2)
    for corner in ((2, 0, 0), (0, -1, 0)):
        with pytest.raises(ValueError, match="reaches beyond a region of"):
            cut(torch.zeros(1, 4, 4, 4), corner, (3, 3, 3))


SHARES = {
    ((4, 4, 1), 96, (52, 152, 0)): {
        (0, 1, 0): 0.1909722222, (0, 2, 0): 0.2673611111, (1, 1, 0): 0.2256944444, (1, 2, 0): 0.3159722222,
    },
    ((4, 4, 2), 32, (24, 56, 14)): {
        (0, 1, 0): 0.03515625, (0, 1, 1): 0.02734375, (0, 2, 0): 0.10546875, (0, 2, 1): 0.08203125,
        (1, 1, 0): 0.10546875, (1, 1, 1): 0.08203125, (1, 2, 0): 0.31640625, (1, 2, 1): 0.24609375,
    },
}  # fmt: skip
"""{(bases, side, corner of a crop): {base: its share}}."""


@pytest.mark.parametrize("case", SHARES)
def test_shares_have_the_values_of_their_corners(case):
    counts, side, corner = case
    size = (side,) * 3
    shares = overlap_shares(torch.tensor([corner]), grid_corners([side * n for n in counts], size), size)
    expected = torch.zeros(counts, dtype=torch.float64)
    for place, share in SHARES[case].items():
        expected[place] = share
    torch.testing.assert_close(shares.view(counts), expected, atol=6e-11, rtol=0)
    assert shares.sum().item() == pytest.approx(1, abs=1e-12)


def test_a_crop_equal_to_a_base_is_all_of_it():
    bases = grid_corners((8, 8, 4), (4, 4, 4))
    assert torch.equal(overlap_shares(bases, bases, (4, 4, 4)), torch.eye(4, dtype=torch.float64))


def test_shares_are_counted_voxel_by_voxel():
    shape, size = (9, 6, 4), (3, 3, 2)
    bases, crops = grid_corners(shape, size), random_corners(shape, size, 20, torch.Generator().manual_seed(1))
    found = overlap_shares(crops, bases, size)
    for crop, row in zip(crops.tolist(), found, strict=True):
        own = painted(crop, size, shape)
        counted = torch.stack([(own & painted(base, size, shape)).sum() / own.sum() for base in bases.tolist()])
        assert torch.equal(row.float(), counted)
    torch.testing.assert_close(found.sum(1), torch.ones(20, dtype=torch.float64))


def test_intersection_over_union_is_counted_voxel_by_voxel():
    one, other = random_cubes((9, 8, 7), (2, 3, 5), 60, torch.Generator().manual_seed(2)).view(2, 30, 4)
    found = intersection_over_union(one, other)
    assert 5 < (found > 0).sum() < 30
    for a, b, share in zip(one.tolist(), other.tolist(), found.tolist(), strict=True):
        a, b = (painted(cube[:3], cube[3:] * 3, (9, 8, 7)) for cube in (a, b))
        assert share == pytest.approx(float((a & b).sum() / (a | b).sum()), abs=1e-6)


def test_cubes_reach_every_place_and_none_beyond():
    cubes = random_cubes((6, 5, 4), (2, 4), 1000, torch.Generator().manual_seed(0))
    for side in (2, 4):
        own = cubes[cubes[:, 3] == side]
        assert 400 < len(own) < 600 and own[:, :3].amin(0).tolist() == [0, 0, 0]
        assert own[:, :3].amax(0).tolist() == [6 - side, 5 - side, 4 - side]
        assert own[:, 0].bincount().min() > 60
    with pytest.raises(ValueError, match=r"a crop of 5\^3 voxels is larger than its region of \(6, 5, 4\)"):
        random_cubes((6, 5, 4), (2, 5), 3)


@pytest.mark.parametrize("overlap", [0.0, 0.3, 0.7])
def test_two_crops_overlap_by_more_than_asked(overlap):
    generator = torch.Generator().manual_seed(0)
    pairs = torch.stack([random_pair((16, 16, 16), (6, 8), overlap, generator) for _ in range(200)])
    shares = intersection_over_union(pairs[:, 0], pairs[:, 1])
    assert shares.min() > overlap and len(shares.unique()) > 2
    assert pairs[..., 3].unique().tolist() == [6, 8] and (pairs[..., :3] + pairs[..., 3:] <= 16).all()


def test_crops_that_cannot_overlap_so_much_are_refused():
    with pytest.raises(ValueError, match=r"no two crops of \[2\]\^3 voxels overlap by 1.0"):
        random_pair((8, 8, 8), (2,), 1.0)


def test_cubes_around_some_lie_in_their_box():
    pair, generator = torch.tensor([[4, 5, 6, 4], [6, 5, 4, 3]]), torch.Generator().manual_seed(0)
    found = cubes_around(pair, 2, (10, 10, 20), (1, 2), 2000, generator)
    beyond = found[:, :3] + found[:, 3:]
    assert found[:, :3].amin(0).tolist() == [2, 3, 2] and beyond.amax(0).tolist() == [10, 10, 12]
    with pytest.raises(ValueError, match="a crop of 9"):
        cubes_around(pair, 2, (10, 10, 20), (9,), 1, generator)


def test_a_resized_crop_shows_the_same_place():
    """A ramp stays a ramp, between the outermost centres."""
    ramp = torch.arange(12.0, dtype=torch.float64)[:, None, None].expand(12, 12, 12)[None]
    crop = cut(ramp, (3, 0, 0), (4, 4, 4), (8, 8, 8))
    assert crop.shape == (1, 8, 8, 8)
    expected = 3 + (torch.arange(8.0, dtype=torch.float64) + 0.5) / 2 - 0.5
    torch.testing.assert_close(crop[0, 1:-1, 0, 0], expected[1:-1])
    assert cut(ramp, (3, 0, 0), (4, 4, 4), (4, 4, 4)).shape == (1, 4, 4, 4)


def test_crops_larger_than_a_region_are_named():
    refuse_large_crops("sides", (8, 16), (16, 16, 32), (20, 18, 40))
    with pytest.raises(ValueError, match=r"a crop of 17\^3 voxels \(sides\) is larger than a region of \(16, 16, 32\)"):
        refuse_large_crops("sides", (8, 17), (16, 16, 32), (20, 18, 40))


def test_shares_of_a_mask_are_those_counted_and_corners_are_where_they_suffice():
    mask = torch.rand(9, 6, 7, generator=torch.Generator().manual_seed(0)) < 0.7
    size = (4, 6, 3)
    shares = filled_shares(mask, size)
    assert shares.shape == (6, 1, 5)
    for a, b, c in torch.cartesian_prod(*map(torch.arange, shares.shape)).tolist():
        assert shares[a, b, c].item() == pytest.approx(mask[a : a + 4, b : b + 6, c : c + 3].double().mean().item())
    least = float(shares.median())
    corners = filled_corners(mask, size, least, 400, torch.Generator().manual_seed(0))
    assert {tuple(corner) for corner in corners.tolist()} == {
        tuple(each.tolist()) for each in (shares >= least).nonzero()
    }
    fullest = filled_corners(mask, size, 1, 50, torch.Generator().manual_seed(0))
    assert all(shares[tuple(corner)] == shares.max() < 1 for corner in fullest.tolist())
    assert len(filled_corners(torch.zeros_like(mask), size, 0.5, 9)) == 9
    with pytest.raises(ValueError, match="is larger than its region"):
        filled_shares(mask, (4, 7, 3))
