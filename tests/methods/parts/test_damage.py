"""Damage: nothing changes but what a box covers, a box holds what it should, and never NaN."""

import math

import pytest
import torch

from s2dc_core.methods.parts.damage import (
    Range,
    cover,
    draw_boxes,
    draw_noise_and_swaps,
    noise_and_swaps,
    noise_of,
    put,
    voxels_at,
)


def boxes_of(*rows):
    return torch.tensor(rows, dtype=torch.int16).view(-1, 7)


def random_boxes(volumes, share=0.3, seed=0, side=32):
    generator = torch.Generator().manual_seed(seed)
    drawn = [draw_boxes((side,) * 3, share, (0.05, 0.25), generator) for _ in range(volumes)]
    return torch.cat([torch.cat([torch.full((len(b), 1), k, dtype=torch.int16), b], 1) for k, b in enumerate(drawn)])


def volumes_of(count=3, channels=2, shape=(8, 9, 10)):
    return torch.randn(count, channels, *shape, generator=torch.Generator().manual_seed(5))


def test_boxes_are_put_as_a_loop_puts_them():
    volumes = volumes_of()
    boxes = boxes_of(
        (0, 0, 0, 0, 3, 4, 5),
        (0, 2, 2, 2, 4, 4, 4),
        (2, 5, 0, 7, 3, 9, 3),
        (0, 1, 1, 1, 2, 2, 2),
        (1, 7, 8, 9, 1, 1, 1),
    )
    covered = cover(boxes, volumes)
    assert len(covered.box) == sum(math.prod(row[4:]) for row in boxes.tolist())
    values = torch.arange(2.0 * len(covered.box)).view(-1, 2)
    expected, used = volumes.clone(), 0
    for number, a, b, c, x, y, z in boxes.tolist():
        part = values[used : used + x * y * z]
        expected[number, :, a : a + x, b : b + y, c : c + z] = part.T.view(2, x, y, z)
        used += x * y * z
    before = volumes.clone()
    assert torch.equal(put(volumes, covered, values), expected) and torch.equal(volumes, before)
    assert torch.equal(put(volumes, covered, voxels_at(volumes, covered.place)), volumes)


def test_no_box_changes_nothing():
    volumes = volumes_of()
    covered = cover(boxes_of(), volumes)
    noise = noise_of(boxes_of(), covered, [1], [0], 2)
    assert noise.shape == (0, 2) and torch.equal(put(volumes, covered, noise), volumes)
    assert len(draw_boxes((32, 32, 32), 0, (0.05, 0.25))) == 0


@pytest.mark.parametrize(("side", "least", "most"), [(32, 2, 7), (48, 2, 11), (96, 4, 23)])
def test_boxes_have_the_sides_that_they_may_have_and_lie_inside(side, least, most):
    drawn = torch.cat([draw_boxes((side,) * 3, 0.3, (0.05, 0.25), torch.Generator().manual_seed(k)) for k in range(20)])
    corner, size = drawn.long().split(3, 1)
    assert set(size.unique().tolist()) == set(range(least, most + 1))
    assert corner.min() == 0 and (corner + size).max() == side


def test_boxes_are_set_until_the_share_is_reached():
    for seed in range(20):
        share = 0.015 * (1 + seed)
        voxels = draw_boxes((32,) * 3, share, (0.05, 0.25), torch.Generator().manual_seed(seed)).long()[:, 3:].prod(1)
        assert voxels.sum() >= share * 32**3 > voxels[:-1].sum()


def test_the_changed_share_is_the_one_measured_of_the_published_damage():
    """0.13 of the voxels where up to 0.3 U(0, 1) of them are set."""
    changed = []
    for seed in range(60):
        share = 0.3 * float(torch.rand((), generator=torch.Generator().manual_seed(seed)))
        boxes = random_boxes(1, share, seed)
        changed.append(float(cover(boxes, torch.zeros(1, 1, 32, 32, 32)).counts.sum()) / 32**3)
    assert 0.11 < sum(changed) / 60 < 0.15


def test_the_noise_of_each_box_fills_zero_to_one():
    boxes = random_boxes(4)
    covered = cover(boxes, torch.zeros(4, 2, 32, 32, 32))
    noise = noise_of(boxes, covered, [7, 8], [len(boxes) - 5, 5], 2)
    assert torch.isfinite(noise).all()
    for k in range(len(boxes)):
        own = noise[covered.box == k]
        assert own.min() == 0 and own.max() == 1


def test_the_noise_is_the_regions_own():
    """It follows from its seed, whatever else is in the batch."""
    boxes = random_boxes(2)
    first = int((boxes[:, 0] == 0).sum())
    both = noise_of(boxes, cover(boxes, torch.zeros(2, 1, 32, 32, 32)), [7, 8], [first, len(boxes) - first], 1)
    own = boxes[first:].clone()
    own[:, 0] = 0
    alone = noise_of(own, cover(own, torch.zeros(1, 1, 32, 32, 32)), [8], [len(own)], 1)
    assert torch.equal(both[-len(alone) :], alone)


@pytest.mark.parametrize("side", [32, 48, 96])
def test_no_noise_is_nan(side):
    """The published code has boxes of one voxel at 32^3, which it divides by an extent of 0: 20 % of its volumes."""
    boxes = random_boxes(8 if side < 96 else 1, seed=side, side=side)
    volumes = torch.zeros(int(boxes[-1, 0]) + 1, 1, side, side, side)
    covered = cover(boxes, volumes)
    noise = noise_of(boxes, covered, [side], [len(boxes)], 1)
    assert boxes[:, 4:].min() >= 2 and torch.isfinite(put(volumes, covered, noise)).all()


def test_even_a_box_of_one_voxel_gives_a_number():
    boxes = boxes_of((0, 1, 1, 1, 1, 1, 1))
    covered = cover(boxes, torch.zeros(1, 1, 4, 4, 4))
    assert noise_of(boxes, covered, [0], [1], 1).tolist() == [[0]]


def test_a_box_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"boxes of \[2, 2, 2\] voxels do not fit in a volume of \[1, 8, 8\]"):
        draw_boxes((1, 8, 8), 0.1, (0.05, 0.25))


def test_intensities_go_to_0_1_and_come_back():
    volume = torch.cat([volumes_of(2) * 3 - 5, torch.full((1, 2, 8, 9, 10), -4.0)])
    span = Range.of(volume)
    unit = span.to_unit(volume)
    assert unit[:2].flatten(1).amin(1).tolist() == [0, 0] and unit[:2].flatten(1).amax(1).tolist() == [1, 1]
    assert not unit[2].any()
    torch.testing.assert_close(span.from_unit(unit), volume)
    assert torch.equal(span.from_unit(torch.rand_like(volume))[2], volume[2])


def plans_of(regions, copies, share=0.3):
    generator = torch.Generator().manual_seed(11)
    return [draw_noise_and_swaps((32,) * 3, copies, share, (0.05, 0.25), generator) for _ in range(regions)]


def test_copies_are_damaged_within_their_region():
    """Copies of one value each: with noise of no extent, a voxel has that of a copy of its region."""
    values = torch.arange(6.0)
    copies = values.view(6, 1, 1, 1, 1).expand(6, 1, 32, 32, 32).contiguous()
    span = Range(torch.tensor([-1.0, -2.0]).view(2, 1, 1, 1, 1), torch.zeros(2, 1, 1, 1, 1))
    damaged = noise_and_swaps(copies, span, plans_of(2, 3))
    seen = [set(each.unique().tolist()) for each in damaged]
    assert all(each <= {-1, 0, 1, 2} for each in seen[:3]) and all(each <= {-2, 3, 4, 5} for each in seen[3:])
    assert set.union(*seen) == {-1, -2, 0, 1, 2, 3, 4, 5}
    assert torch.equal(copies[:, 0, 0, 0, 0], values)


def test_boxes_of_others_lie_over_noise_and_hold_clean_voxels():
    """At the place of the plan, whatever the noise did there; with two channels."""
    copies = torch.randn(2, 2, 32, 32, 32, generator=torch.Generator().manual_seed(0))
    plan = plans_of(1, 2)[0]
    damaged = noise_and_swaps(copies, Range(*torch.tensor([[9.0], [1.0]]).view(2, 1, 1, 1, 1, 1)), [plan])
    for (copy, a, b, c, x, y, z), partner in zip(plan["swaps"].tolist(), plan["partner"].tolist(), strict=True):
        box = (slice(None), slice(a, a + x), slice(b, b + y), slice(c, c + z))
        assert partner == 1 - copy and torch.equal(damaged[copy][box], copies[partner][box])
    noise = damaged[(damaged != copies) & (damaged != copies.flip(0))]
    assert noise.min() >= 9 and noise.max() <= 10 and noise.std() > 0.1


def test_what_a_region_becomes_does_not_depend_on_the_others():
    copies = torch.randn(6, 1, 32, 32, 32, generator=torch.Generator().manual_seed(0))
    plans, span = plans_of(3, 2), Range(*torch.tensor([[0.0, 1, 2], [1.0, 2, 3]]).view(2, 3, 1, 1, 1, 1))
    together = noise_and_swaps(copies, span, plans)
    for k in range(3):
        alone = noise_and_swaps(copies[2 * k : 2 * k + 2], Range(*(each[k : k + 1] for each in span)), [plans[k]])
        assert torch.equal(alone, together[2 * k : 2 * k + 2])


def test_each_copy_has_a_share_of_its_own_up_to_the_largest():
    plan = plans_of(1, 60)[0]
    for name in ("noise", "swaps"):
        copy, voxels = plan[name][:, 0].long(), plan[name].long()[:, 4:].prod(1)
        shares = torch.zeros(60).index_add_(0, copy, voxels.float()) / 32**3
        assert shares.max() < 0.3 + 7**3 / 32**3 and shares.mean() == pytest.approx(0.15, abs=0.03)
        assert shares.min() < 0.03 and shares.std() > 0.06
    assert plan["noise"].dtype == torch.int16 and (plan["partner"] != plan["swaps"][:, 0]).all()


def test_the_range_of_a_region_is_that_of_all_that_is_made_of_it():
    volumes = volumes_of(2, 1, (4, 4, 4))
    each, whole = Range.of(volumes).for_each(3), Range.of(volumes)
    for number in range(6):
        assert each.low[number] == whole.low[number // 3] and each.span[number] == whole.span[number // 3]
