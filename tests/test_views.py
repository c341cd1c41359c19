"""Views: region, counterpart and matches belong together; padding and background take no part."""

import re

import numpy as np
import pytest
import torch

from s2dc_core.encoder import EncoderConfig
from s2dc_core.geometry import (
    ground_truth_matches,
    random_affine,
    split_region,
    token_centres,
    transform_points,
    warp,
)
from s2dc_core.views import (
    ViewConfig,
    augment_regions,
    change_intensities,
    crop_region,
    draw_changes,
    make_views,
    valid_in_both,
    valid_tokens,
)

ENCODER = EncoderConfig.teaching(sub_volume=(16, 16, 16))
PLAIN = ViewConfig(counts=(2, 2, 1), translation_mm=4.0, intensity_scale=0.0, intensity_shift=0.0, noise=0.0)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def scan(*shape, seed=0):
    return torch.rand(1, *shape, generator=seeded(seed))


def test_views_have_the_stated_shapes():
    views = make_views(scan(40, 33, 20), (1, 1, 2), ENCODER, (1, 2), PLAIN, generator=seeded())
    assert views.source.shape == views.target.shape == (1, 1, 32, 32, 16)
    assert views.positives.shape == (4, 1, 16, 16, 16) and views.H.shape == (1, 4, 4) and len(views.matches) == 2


def test_target_and_matches_come_from_one_h():
    views = make_views(scan(40, 40, 20), (1, 1, 2), ENCODER, (1,), PLAIN, generator=seeded(3))
    torch.testing.assert_close(views.target, warp(views.source, views.H))
    expected = ground_truth_matches(views.H, (8, 8, 4), (4, 4, 4))
    pairs = set(zip(*(index.tolist() for index in expected[1:]), strict=True))
    found = set(zip(*(index.tolist() for index in views.matches[0][1:]), strict=True))
    assert found and found <= pairs
    # Without padding or foreground only tokens of V' that lie mostly outside the region's image may be missing.
    lost = torch.tensor(sorted(target for _, target in pairs - found), dtype=torch.long)
    inside = warp(torch.ones_like(views.source), views.H)
    assert not valid_tokens(inside, (4, 4, 4))[0, lost].any()


def test_a_match_may_cross_from_one_sub_volume_into_another():
    views = make_views(scan(32, 32, 16), (1, 1, 1), ENCODER, (1,), PLAIN, generator=seeded(1))
    centres = token_centres((8, 8, 4), (4, 4, 4))
    home = [(centres[index] // 16).long() for index in views.matches[0][1:]]
    assert (home[0] != home[1]).any()


def test_matched_patches_show_the_same_tissue():
    """On a smooth volume, matched patches have nearly the same mean; shuffled ones do not."""
    axes = torch.meshgrid(*[torch.linspace(0, 3, s) for s in (32, 32, 16)], indexing="ij")
    smooth = (torch.sin(axes[0]) + torch.cos(2 * axes[1]) + axes[2])[None]
    views = make_views(smooth, (1, 1, 1), ENCODER, (1,), PLAIN, generator=seeded(5))
    means = [torch.nn.functional.avg_pool3d(v, 4).flatten() for v in (views.source, views.target)]
    whole = torch.nn.functional.avg_pool3d(warp(torch.ones_like(views.source), views.H), 4).flatten() > 0.999
    _, source, target = views.matches[0]
    source, target = source[whole[target]], target[whole[target]]
    matched = (means[0][source] - means[1][target]).abs().mean()
    shuffled = (means[0][source] - means[1][target[torch.randperm(len(target), generator=seeded())]]).abs().mean()
    assert matched < 0.25 * shuffled


def test_the_region_is_clipped_to_whole_sub_volumes_and_short_axes_are_padded():
    region = crop_region(scan(50, 20, 9), (16, 16, 16), (4, 4, 1), background=-2.0, generator=seeded())
    assert region.volume.shape == (1, 48, 16, 16)
    assert region.volume[..., 9:].eq(-2).all() and region.volume[..., :9].ge(0).all()
    assert not region.inside[..., 9:].any() and region.inside[..., :9].all()


def test_the_region_is_a_copy_of_the_scan_at_some_place():
    volume = torch.arange(20 * 18 * 17, dtype=torch.float32).reshape(1, 20, 18, 17)
    starts = set()
    for seed in range(20):
        region = crop_region(volume, (16, 16, 16), (1, 1, 1), generator=seeded(seed)).volume
        x, rest = divmod(int(region[0, 0, 0, 0]), 18 * 17)
        y, z = divmod(rest, 17)
        assert torch.equal(region, volume[:, x : x + 16, y : y + 16, z : z + 16])
        starts.add((x, y, z))
    assert len(starts) > 5


def test_a_foreground_that_holds_nothing_is_all_of_the_scan():
    nothing = torch.zeros(20, 18, 9, dtype=torch.bool)
    for seed in range(3):
        empty, none = (
            crop_region(scan(20, 18, 9), (16, 16, 16), (1, 1, 1), foreground=mask, generator=seeded(seed))
            for mask in (nothing, None)
        )
        for one, other in zip(empty[:3], none[:3], strict=True):
            assert torch.equal(one, other)
        assert torch.equal(empty.body, empty.inside) and empty.body.sum() == 16 * 16 * 9
    views = [
        make_views(scan(20, 18, 16), (1, 1, 1), ENCODER, (1,), PLAIN, foreground=mask, generator=seeded())
        for mask in (torch.zeros(20, 18, 16, dtype=torch.bool), None)
    ]
    for one, other in zip(*(each.matches[0] for each in views), strict=True):
        assert len(one) and torch.equal(one, other)


def test_views_of_a_scan_that_requires_a_gradient_send_it_back():
    volume = scan(16, 16, 16).requires_grad_()
    near = ViewConfig(counts=(1, 1, 1), translation_mm=4.0)
    views, plain = (
        make_views(each, (1, 1, 1), ENCODER, (1,), near, generator=seeded()) for each in (volume, volume.detach())
    )
    for name in ("source", "target", "positives"):
        assert torch.equal(getattr(views, name).detach(), getattr(plain, name))
        (gradient,) = torch.autograd.grad(getattr(views, name).sum(), volume, retain_graph=True)
        assert torch.isfinite(gradient).all() and gradient.abs().sum() > 0


def test_padded_tokens_take_no_part_in_matches():
    still = ViewConfig(counts=(1, 1, 1), rotation_deg=0, scale=(1.0, 1.0), translation_mm=0)
    views = make_views(scan(16, 16, 9), (1, 1, 1), ENCODER, (1,), still, generator=seeded())
    depth = views.matches[0].source % 4
    # Nine of sixteen slices are scan: token layers 0 and 1 are, layer 2 is to a quarter, layer 3 is not.
    assert set(depth.tolist()) == {0, 1} and len(depth) == 32


@pytest.mark.parametrize("match_background", [False, True])
def test_background_is_matched_only_on_request(match_background):
    foreground = torch.zeros(16, 16, 16, dtype=torch.bool)
    foreground[:8] = True
    still = ViewConfig(
        counts=(1, 1, 1), rotation_deg=0, scale=(1.0, 1.0), translation_mm=0, match_background=match_background
    )
    views = make_views(scan(16, 16, 16), (1, 1, 1), ENCODER, (1,), still, foreground=foreground, generator=seeded())
    assert len(views.matches[0].source) == (64 if match_background else 32)


def moved_views(seed, **options):
    """Real motion of a short scan on anisotropic voxels, half of it body, in air of value -2."""
    body = torch.zeros(24, 30, 9, dtype=torch.bool)
    body[:, 11:20] = True
    config = ViewConfig(counts=(1, 1, 1), translation_mm=6.0, intensity_shift=0.0, noise=0.0, **options)
    volume = torch.where(body, 1 + scan(24, 30, 9), -2.0)
    views = make_views(volume, (1, 2, 3), ENCODER, (1,), config, -2.0, foreground=body, generator=seeded(seed))
    return views, config


@pytest.mark.parametrize("seed", range(6))
def test_under_motion_no_match_lies_mostly_in_air_or_padding(seed):
    """Seen in the images themselves: air and padding are -2 here, the body is above 1."""
    views, _ = moved_views(seed, rotation_deg=25.0, intensity_scale=0.0)
    for volume, index in ((views.source, views.matches[0].source), (views.target, views.matches[0].target)):
        mean = torch.nn.functional.avg_pool3d(volume, 4).flatten()[index]
        assert len(index) and mean.min() > -0.501  # at least half of a patch is body: 1 / 2 - 2 / 2


@pytest.mark.parametrize("seed", range(4))
def test_h_turns_rigidly_in_millimetres_and_scales_as_asked(seed):
    views, config = moved_views(seed, rotation_deg=40.0, scale=(1.1, 1.3))
    spacing = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    points = torch.rand(12, 3, dtype=torch.float64) * 16
    ratio = torch.pdist(transform_points(views.H[0], points) * spacing) / torch.pdist(points * spacing)
    assert ratio.max() - ratio.min() < 1e-9 and 1.1 <= ratio.mean() <= 1.3
    turned = views.H[0, :3, :3] / ratio.mean()
    assert not torch.allclose(turned, torch.eye(3, dtype=torch.float64), atol=1e-3)


def test_what_comes_in_from_outside_is_background():
    config = ViewConfig(counts=(1, 1, 1), translation_mm=6.0, intensity_scale=0.0, intensity_shift=0.0, noise=0.0)
    views = make_views(torch.ones(1, 16, 16, 16), (1, 1, 1), ENCODER, (1,), config, -2.0, generator=seeded(1))
    outside = warp(torch.ones_like(views.source), views.H) == 0
    assert outside.any() and views.target[outside].eq(-2).all()
    assert views.positives.min() == -2


def test_every_positive_has_a_motion_of_its_own():
    ramp = torch.arange(16.0).reshape(1, 16, 1, 1).expand(1, 16, 16, 16).repeat(1, 2, 1, 1)
    config = ViewConfig(counts=(2, 1, 1), intensity_scale=0.0, intensity_shift=0.0, noise=0.0)
    views = make_views(ramp, (1, 1, 1), ENCODER, (1,), config, generator=seeded())
    assert torch.equal(*views.source[0, 0].split(16)) and not torch.allclose(*views.positives)


def test_regions_are_drawn_from_the_body():
    body = torch.zeros(60, 60, 60, dtype=torch.bool)
    body[40:48, 40:48, 5:50] = True
    for seed in range(20):
        region = crop_region(scan(60, 60, 60), (16, 16, 16), (1, 1, 1), foreground=body, generator=seeded(seed))
        assert region.body.sum() == 8 * 8 * 16


def test_positives_are_the_sub_volumes_under_small_affines():
    still = ViewConfig(
        counts=(2, 1, 1), positive_rotation_deg=0, positive_scale=(1.0, 1.0), positive_translation_mm=0,
        intensity_scale=0.0, intensity_shift=0.0, noise=0.0,
    )  # fmt: skip
    views = make_views(scan(32, 16, 16), (1, 1, 1), ENCODER, (1,), still, generator=seeded())
    torch.testing.assert_close(views.positives, split_region(views.source, (16, 16, 16)))
    moved = make_views(scan(32, 16, 16), (1, 1, 1), ENCODER, (1,), generator=seeded())
    assert (moved.positives - split_region(moved.source, (16, 16, 16))).abs().mean() > 0.05


def test_intensities_change_in_the_target_only_and_the_generator_repeats_them():
    config = ViewConfig(counts=(1, 1, 1))
    first, again, other = (
        make_views(scan(16, 16, 16), (1, 1, 1), ENCODER, (1,), config, generator=seeded(s)) for s in (7, 7, 8)
    )
    assert type(first.target) is torch.Tensor and type(first.positives) is torch.Tensor
    assert torch.equal(first.source[0], scan(16, 16, 16))
    assert torch.equal(first.target, again.target) and torch.equal(first.positives, again.positives)
    assert torch.equal(first.H, again.H) and not torch.equal(first.H, other.H)
    assert not torch.allclose(first.target, warp(first.source, first.H))


def test_the_mask_is_told_in_cells_as_in_voxels():
    """Half of a patch of 16, told in cells of 2, may differ only where the voxels themselves say close to half."""
    mask = torch.zeros(1, 1, 64, 64, 32)
    mask[..., 5:50, 9:41, 3:30] = 1
    H = random_affine((64, 64, 32), (1, 1, 2), 30, (0.9, 1.2), 10, seeded(4))[None]
    ((source, target),) = valid_in_both(mask, H, [(16, 16, 16)])
    exact = torch.nn.functional.avg_pool3d(warp(mask, H), 16).flatten(1)
    assert torch.equal(source, valid_tokens(mask, (16, 16, 16))) and 0 < source.float().mean() < 1
    clear = (exact - 0.5).abs() > 0.02
    assert clear.float().mean() > 0.8 and torch.equal(target[clear], (exact > 0.5)[clear])
    (_, fine), (_, coarse) = valid_in_both(mask, H, [(4, 4, 4), (16, 16, 16)])
    assert torch.equal(fine, valid_tokens(warp(mask, H), (4, 4, 4)))
    assert torch.equal(coarse, valid_tokens(warp(mask, H), (16, 16, 16)))


def test_cells_of_the_mask_divide_odd_patches():
    """A patch of 28 has no eighth in whole voxels: cells of 2 divide it, cells of 3 would not."""
    mask = (torch.rand(1, 1, 56, 56, 28, generator=seeded()) < 0.5).float()
    ((source, target),) = valid_in_both(mask, torch.eye(4, dtype=torch.float64)[None], [(28, 28, 28)])
    assert torch.equal(source, valid_tokens(mask, (28, 28, 28))) and torch.equal(source, target)


def test_intensities_change_by_gain_offset_and_noise():
    """Of a volume of ones the mean is 1 + gain + offset, and the spread that of the noise, each within its range."""
    config = ViewConfig(intensity_scale=0.2, intensity_shift=0.1, noise=0.5)
    changed = change_intensities(torch.ones(200, 1, 12, 12, 12), *draw_changes(config, 200, seeded()))
    shift, spread = changed.mean((1, 2, 3, 4)) - 1, changed.std((1, 2, 3, 4))
    assert shift.abs().max() < 0.3 + 0.05 and shift.std() > 0.1 and 0.4 < spread.max() < 0.53 and spread.min() < 0.1
    assert spread.mean() == pytest.approx(0.25, abs=0.05)
    plain = ViewConfig(intensity_scale=0.2, intensity_shift=0.1, noise=0.0)
    pair = torch.tensor([1.0, 3.0]).reshape(1, 1, 2, 1, 1)
    doubled = change_intensities(pair, *draw_changes(plain, 1, seeded())).flatten()
    gain = float(doubled[1] - doubled[0]) / 2
    assert 0.8 < gain < 1.2 and abs(float(doubled[0]) - gain) < 0.1


def test_a_batch_of_regions_is_each_of_them_alone():
    regions = [crop_region(scan(40, 40, 20, seed=s), (16, 16, 16), (2, 2, 1), -s, generator=seeded(s)) for s in (1, 2)]
    spacings, config = [(1, 1, 2), (2, 1, 1)], ViewConfig(counts=(2, 2, 1), translation_mm=4.0)

    def draw(some):
        picked = ([regions[k] for k in some], [spacings[k] for k in some])
        return augment_regions(*picked, ENCODER, (1, 2), config, [seeded(10 + k) for k in some])

    batch, single = draw([0, 1]), [draw([0]), draw([1])]
    assert batch.source.shape[0] == batch.H.shape[0] == 2 and batch.positives.shape[0] == 8
    for name in ("source", "target", "positives", "H"):
        assert torch.equal(getattr(batch, name), torch.cat([getattr(view, name) for view in single])), name
    for level, matches in enumerate(batch.matches):
        for index, view in enumerate(single):
            here = matches.batch == index
            assert here.any() and torch.equal(matches.source[here], view.matches[level].source)
            assert torch.equal(matches.target[here], view.matches[level].target)


@pytest.mark.parametrize("mask", [torch.ones(30, 30, 30, dtype=torch.bool), torch.ones(16, 16, 16)])
def test_a_foreground_on_another_grid_is_named(mask):
    with pytest.raises(ValueError, match=r"must be a bool mask on the scan's grid of \(16, 16, 16\)"):
        make_views(scan(16, 16, 16), (1, 1, 1), ENCODER, (1,), PLAIN, foreground=mask)


@pytest.mark.parametrize("counts", [(2.0, 1, 1), (True, 1, 1)])
def test_counts_are_whole_numbers(counts):
    """Set past the types that the tests check when a config is made."""
    config = ViewConfig()
    object.__setattr__(config, "counts", np.array([2, 1, 1]))
    config.__post_init__()
    assert config.counts == (2, 1, 1) and {type(count) for count in config.counts} == {int}
    object.__setattr__(config, "counts", counts)
    with pytest.raises(ValueError, match=re.escape(f"counts must be a list of whole numbers, got {list(counts)}")):
        config.__post_init__()


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="counts must be 3 whole numbers from 1"):
        ViewConfig(counts=(0, 1, 1))
    with pytest.raises(ValueError, match="positive_scale must be a range"):
        ViewConfig(positive_scale=(1.2, 0.9))
    with pytest.raises(ValueError, match="at least one token level"):
        make_views(scan(16, 16, 16), (1, 1, 1), ENCODER, (), PLAIN)
    with pytest.raises(ValueError, match=r"\(16, 16, 3\) voxels is smaller than one patch of \(4, 4, 4\)"):
        make_views(scan(16, 16, 3), (1, 1, 1), ENCODER, (1,), PLAIN)
    with pytest.raises(ValueError, match=r"\(16, 16, 16\).*\(32, 32, 32\)"):
        make_views(scan(32, 32, 32), (1, 1, 1), ENCODER, (4,), PLAIN)
    regions = [crop_region(scan(16 * n, 16, 16), (16, 16, 16), (2, 2, 1)) for n in (1, 2)]
    with pytest.raises(ValueError, match="regions of one shape"):
        augment_regions(regions, [(1, 1, 1)] * 2, ENCODER, (1,), PLAIN)
