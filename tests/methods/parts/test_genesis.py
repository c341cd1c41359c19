"""Models Genesis' damage: curves with known values, voxels that only change places, boxes that stay what they are."""

import numpy as np
import pytest
import torch

from s2dc_core.methods.parts.genesis import (
    BOXES,
    MARGIN,
    Genesis,
    box_mask,
    curved,
    damaged,
    draw_genesis,
    shuffled,
)

AT = torch.tensor([0, 0.1, 0.25, 0.5, 0.75, 0.9, 1], dtype=torch.float64)
CURVES = [
    ((0.2, 0.7, 0.6, 0.1), False, (0, 0.2325294745, 0.3659409356, 0.4484650966, 0.6056679104, 0.8044352845, 1)),
    ((0.2, 0.7, 0.6, 0.1), True, (1, 0.6925304814, 0.5027779708, 0.4044825132, 0.2948359269, 0.1496829942, 0)),
    ((0.9, 0.1, 0.1, 0.9), False, (0, 0.0152588914, 0.0609247344, 0.5, 0.9390752656, 0.9847411086, 1)),
]
"""Inner points, whether it falls, and its values, of 100,000 points joined by lines."""
NOTHING = {"shuffle": 0, "curve": 0, "paint": 0}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def volumes_of(count, side=32, channels=1):
    return torch.rand(count, channels, side, side, side, generator=seeded(7))


def curve_of(values, inner, falling):
    inner = torch.tensor([inner], dtype=torch.float64)
    return curved(values.view(1, 1, -1, 1, 1), inner, torch.tensor([falling])).flatten()


@pytest.mark.parametrize(("inner", "falling", "expected"), CURVES)
def test_curves_have_the_values_of_their_equations(inner, falling, expected):
    assert curve_of(AT, inner, falling).tolist() == pytest.approx(expected, abs=1e-6)


def test_a_curve_passes_the_point_at_half_its_way():
    assert curve_of(torch.tensor([0.425], dtype=torch.float64), (0.2, 0.7, 0.6, 0.1), False).item() == pytest.approx(
        0.425, abs=1e-6
    )


def test_curves_are_those_that_are_sorted_and_interpolated():
    """The authors': points sorted by x, and by y too unless the curve falls; each volume through its own."""
    inner, falling = torch.rand(40, 4, generator=seeded(), dtype=torch.float64), torch.arange(40) % 2 == 1
    values = torch.rand(40, 1, 4, 4, 4, generator=seeded(1), dtype=torch.float64)
    found, t = curved(values, inner, falling), np.linspace(0, 1, 100_000)
    for k in range(40):
        x, y = (
            3 * (1 - t) * t**2 * inner[k, axis].item() + 3 * (1 - t) ** 2 * t * inner[k, 2 + axis].item() + (1 - t) ** 3
            for axis in (0, 1)
        )
        expected = np.interp(values[k].numpy(), np.sort(x), y if falling[k] else np.sort(y))
        assert np.abs(found[k].numpy() - expected).max() < 1e-5


def test_curves_stay_within_0_to_1_and_rise_or_fall():
    ramp = torch.linspace(0, 1, 1000).view(1, 1, 1000, 1, 1).expand(60, -1, -1, -1, -1)
    inner, falling = torch.rand(60, 4, generator=seeded()), torch.arange(60) % 2 == 1
    inner[:4] = torch.tensor([[0, 0, 0, 0], [1, 1, 1, 1], [0, 1, 1, 0], [1, 0, 0, 1]])
    steps = curved(ramp.contiguous(), inner, falling).flatten(1)
    assert steps.min() >= 0 and steps.max() <= 1 and torch.isfinite(steps).all()
    assert (steps[0::2].diff() >= -1e-6).all() and (steps[1::2].diff() <= 1e-6).all()
    assert steps[1::2, 0].tolist() == [1] * 30 and steps[1::2, -1].tolist() == [0] * 30


def test_a_shuffle_keeps_every_voxel_and_moves_it_a_window_at_most():
    """A volume of its own coordinates, in three channels that go along."""
    own = torch.stack(torch.meshgrid(*[torch.arange(32.0)] * 3, indexing="ij"))
    for seed in range(4):
        found = shuffled(own, 10_000, seed, seed + 9)
        rows = (found.flatten(1) * torch.tensor([[1024.0], [32.0], [1.0]])).sum(0)
        assert torch.equal(rows.sort().values, torch.arange(32.0**3))
        assert (found - own).abs().max() == 2  # windows of 3 at most
        assert 0.5 < (found != own).any(0).float().mean() < 0.8
    assert not torch.equal(shuffled(own, 10_000, 0, 9), shuffled(own, 10_000, 1, 9))
    assert not torch.equal(shuffled(own, 10_000, 0, 9), shuffled(own, 10_000, 0, 8))


def test_what_no_window_covers_stays():
    own = torch.arange(40.0**3).view(1, 40, 40, 40)
    found = shuffled(own, 10, 0, 1)
    assert 0 < (found != own).sum() <= 10 * 64 and torch.equal(found.flatten().sort().values, own.flatten())


def test_the_authors_shuffle_loses_voxels_where_windows_overlap():
    """Each window copied from the clean volume; 100 are enough."""
    clean, draws = torch.arange(20**3).view(20, 20, 20), np.random.default_rng(0)
    changed = clean.clone()
    for _ in range(2000):
        box = tuple(slice(a, a + 2) for a in draws.integers(0, 19, 3))
        changed[box] = torch.from_numpy(draws.permutation(clean[box].flatten().numpy())).view(2, 2, 2)
    assert len(changed.unique()) < 0.9 * clean.numel()
    found = shuffled(clean.float()[None], 2000, 0, 1)
    assert len(found.unique()) == clean.numel()


def test_boxes_are_masked_as_by_a_loop():
    boxes = torch.stack([draw_genesis(Genesis(inside=0.5), (32, 24, 28), 1, seeded(k))["boxes"][0] for k in range(12)])
    expected = torch.zeros(12, 1, 32, 24, 28, dtype=torch.bool)
    for mask, own in zip(expected, boxes.tolist(), strict=True):
        for a, b, c, x, y, z in own:
            mask[:, a : a + x, b : b + y, c : c + z] = True
    assert torch.equal(box_mask(boxes, (32, 24, 28)), expected) and expected.any() and not expected.all()


def drawn(count=600, side=32, **changes):
    return draw_genesis(Genesis(**changes), (side,) * 3, count, seeded())


def test_chances_and_boxes_are_the_authors():
    plan = drawn(1500)
    assert plan["windows"].unique().tolist() == [0, 10_000]
    assert (plan["windows"] > 0).float().mean() == pytest.approx(0.5, abs=0.03)
    assert (plan["bent"] != 0).float().mean() == pytest.approx(0.9, abs=0.02)
    assert (plan["bent"] < 0).float().mean() == pytest.approx(0.45, abs=0.03)
    assert (plan["noise"] < 0).float().mean() == pytest.approx(0.72, abs=0.03)
    assert (plan["noise"] > 0).float().mean() == pytest.approx(0.18, abs=0.02)
    corner, sides = plan["boxes"].long().split(3, -1)
    there = sides[..., 0] > 0
    assert (corner[there] >= MARGIN).all() and ((corner + sides)[there] <= 32 - MARGIN).all()
    for sign, low, high in ((1, 5, 10), (-1, 14, 19)):
        found = sides[(plan["noise"] == sign)[:, None] & there]
        assert found.unique().tolist() == list(range(low, high + 1))
    count = there.sum(1)
    assert count[plan["noise"] == 0].max() == 0 and count[plan["noise"] < 0].min() == 1 and count.max() == BOXES
    assert (count[plan["noise"] < 0] == 5).float().mean() == pytest.approx(0.95**4, abs=0.03)
    assert (count[plan["noise"] > 0] == 0).float().mean() == pytest.approx(0.05, abs=0.02)


@pytest.mark.parametrize(("side", "inside", "outside"), [(32, 0.051, 0.706), (64, 0.060, 0.665)])
def test_painted_shares_are_those_measured_of_the_authors_functions(side, inside, outside):
    for share, expected in ((1, inside), (0, outside)):
        plan = drawn(40, side, inside=share, paint=1)
        mask = box_mask(plan["boxes"], (side,) * 3).float().mean()
        assert (mask if share else 1 - mask) == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("inside", [0, 1])
def test_what_is_not_painted_stays_bit_for_bit_and_noise_is_uniform(inside):
    volumes = volumes_of(8, channels=2) * 0.01
    plan = drawn(8, shuffle=0, curve=0, paint=1, inside=inside)
    found, boxes = damaged(volumes, plan), box_mask(plan["boxes"], (32,) * 3)
    free = (boxes if inside == 0 else ~boxes).expand_as(volumes)
    assert torch.equal(found[free], volumes[free])
    noise = found[~free]
    assert noise.min() >= 0 and noise.max() <= 1 and noise.mean() == pytest.approx(0.5, abs=0.01)
    assert noise.std() == pytest.approx(12**-0.5, abs=0.01) and len(noise.unique()) > 0.9 * len(noise)


def test_without_chances_nothing_is_damaged_and_the_input_is_never_written_to():
    volumes = volumes_of(4)
    assert torch.equal(damaged(volumes, drawn(4, **NOTHING)), volumes)
    before = volumes.clone()
    assert not torch.equal(damaged(volumes, drawn(4)), volumes) and torch.equal(volumes, before)


def test_one_draw_gives_one_damage_whatever_else_is_in_the_batch():
    volumes, plan = volumes_of(6), drawn(6)
    together = damaged(volumes, plan)
    assert torch.equal(together, damaged(volumes, plan))
    for k in range(6):
        alone = damaged(volumes[k : k + 1], {name: value[k : k + 1] for name, value in plan.items()})
        torch.testing.assert_close(alone[0], together[k], atol=1e-6, rtol=0)


def test_a_volume_that_is_too_small_is_refused():
    with pytest.raises(ValueError, match=r"a volume of \(16, 32, 32\) voxels is too small to be damaged: 20 a side"):
        draw_genesis(Genesis(), (16, 32, 32), 1)
    for config in (Genesis(shuffle=0), Genesis(inside=1), Genesis(inside=0)):
        assert torch.isfinite(damaged(volumes_of(8, 20), draw_genesis(config, (20,) * 3, 8, seeded()))).all()


def test_options_that_cannot_be():
    with pytest.raises(ValueError, match="shuffle must be at most 1"):
        Genesis(shuffle=2)
    with pytest.raises(ValueError, match="windows must be at least 1"):
        Genesis(windows=0)


def test_another_methods_damage_is_drawn_as_its_options_say():
    """Smaller windows and boxes, more boxes, and no curve that falls."""
    config = Genesis(shuffle=1.0, windows=500, window=16, falling=0.0, paint=1.0, inside=1.0, boxes=30, box=(10, 5))
    plan = draw_genesis(config, (40, 40, 40), 200, seeded())
    assert (plan["bent"] >= 0).all() and (plan["bent"] > 0).float().mean() == pytest.approx(0.9, abs=0.07)
    assert (plan["noise"] == 1).all() and plan["boxes"].shape == (200, 30, 6)
    corner, sides = plan["boxes"].long().split(3, -1)
    assert set(sides.unique().tolist()) == {0, 4, 5, 6, 7, 8}
    assert ((corner + sides)[sides > 0] <= 37).all() and (corner[sides > 0] >= 3).all()
    own = torch.stack(torch.meshgrid(*[torch.arange(40.0)] * 3, indexing="ij"))
    assert (shuffled(own, 500, 0, 9, 16) - own).abs().max() == 1  # windows of 2 at most
    assert torch.equal(shuffled(own, 500, 0, 9, 40), own)


@pytest.mark.parametrize("box", [(3, 6), (6,), (6, 1)])
def test_boxes_that_cannot_be(box):
    with pytest.raises(ValueError, match="box must be parts of a side"):
        Genesis(box=box)


def test_windows_of_one_size_move_more():
    """A sixteenth of 32 voxels is two: drawn from one voxel on, one window in eight has two along every axis."""
    own, moved = torch.arange(32.0**3).view(1, 32, 32, 32), {}
    for part in (16, -16):
        moved[part] = float((shuffled(own, 5000, 0, 9, part) != own).float().mean())
    assert moved[16] < 0.35 < 0.55 < moved[-16]
    plan = draw_genesis(Genesis(window=16, one_size=True), (32, 32, 32), 2)
    assert plan["window"].tolist() == [-16, -16]
