"""Two views of each sub-volume: independent, of the regions alone, and made by the tools of S2DC's views."""

import pytest
import torch

from s2dc_core.geometry import split_region, warp
from s2dc_core.methods.method import Regions
from s2dc_core.methods.parts.two_views import ViewRanges, make_views, plan_views
from s2dc_core.views import Region, change_intensities, draw_changes

SIDES = (8, 8, 8)


def regions(ranges, seeds=(0, 1), shape=(16, 8, 8)):
    each, plans = [], []
    for seed in seeds:
        volume = torch.randn(1, *shape, generator=torch.Generator().manual_seed(seed))
        everywhere = torch.ones(shape, dtype=torch.bool)
        each.append(Region(volume, everywhere, everywhere, float(seed)))
        generator = torch.Generator().manual_seed(100 + seed)
        plans.append(plan_views(shape, SIDES, (1.0, 1.0, 2.0), ranges, generator))
    return Regions.of(each, plans)


def test_without_motion_and_change_both_are_the_sub_volumes():
    still = ViewRanges(rotation_deg=0, scale=(1, 1), translation_mm=0, intensity_scale=0, intensity_shift=0, noise=0)
    batch = regions(still)
    for view in make_views(batch, SIDES):
        torch.testing.assert_close(view, split_region(batch.volume, SIDES), atol=1e-5, rtol=0)


def test_each_view_is_the_warp_and_the_change_of_its_plan():
    batch = regions(ViewRanges(noise=0.2))
    views = make_views(batch, SIDES)
    assert [view.shape for view in views] == [(4, 1, 8, 8, 8)] * 2
    parts = split_region(batch.volume, SIDES)
    for number, view in enumerate(views):
        for place in range(4):
            plan, part = batch.plan[place // 2], place % 2
            warped = warp(parts[place, None], plan["H"][number, part], fill=float(place // 2))
            expected = change_intensities(
                warped, plan["changes"][number, part, None], plan["seeds"][number, part, None]
            )
            torch.testing.assert_close(view[place, None], expected, atol=1e-5, rtol=0)


def test_views_are_independent_and_a_regions_do_not_depend_on_its_batch():
    ranges = ViewRanges()
    one, other = make_views(regions(ranges), SIDES)
    plan = regions(ranges).plan[0]
    assert len(torch.unique(plan["H"].flatten(0, 1), dim=0)) == len(torch.unique(plan["seeds"])) == 4
    assert not torch.allclose(one, other)
    for seed, some in ((0, slice(0, 2)), (1, slice(2, 4))):
        alone = make_views(regions(ranges, (seed,)), SIDES)
        for whole, single in zip((one, other), alone, strict=True):
            torch.testing.assert_close(whole[some], single, atol=1e-6, rtol=0)


def test_intensities_keep_to_their_ranges():
    changes, _ = draw_changes(ViewRanges(intensity_scale=0.3, intensity_shift=0.2, noise=0.1), 500)
    assert (changes.abs().max(0).values <= torch.tensor([0.3, 0.2, 0.1])).all()
    assert (changes.abs().max(0).values > torch.tensor([0.27, 0.18, 0.09])).all() and changes[:, 2].min() >= 0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"scale": (0.0, 1.0)}, "scale must be a range of positive factors"),
        ({"noise": -1}, "noise must be finite and not negative"),
        ({"rotation_deg": 400}, "rotation_deg must be at most 360"),
    ],
)
def test_ranges_that_cannot_be_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        ViewRanges(**values)
