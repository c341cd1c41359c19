"""What is hidden: as planned, over tokens and voxels alike, and nothing of it reaches the encoder's maps."""

from dataclasses import replace

import pytest
import torch

from s2dc_core.geometry import split_region
from s2dc_core.methods.parts.hidden_cells import masks_of
from s2dc_core.pretraining.regions import draw_regions
from tests.methods.test_every_method import ENCODER, SCANS, small

HIDING = pytest.mark.parametrize("name", ["simmim", "mae3d"])


def built(name, **changes):
    config = small(name, **changes)
    torch.manual_seed(0)
    return config.build().eval(), draw_regions(config, SCANS)


@HIDING
def test_the_views_are_the_sub_volumes_and_what_was_planned(name):
    method, regions = built(name)
    views = method.views(regions)
    assert torch.equal(views.volume, split_region(regions.volume, (32, 32, 32)))
    assert torch.equal(views.masked, masks_of(regions)) and views.masked.shape == (2, 1, 64)
    for masked, plan in zip(views.masked, regions.plan, strict=True):
        assert torch.equal(masked, plan["masked"])


@pytest.mark.parametrize(("name", "ratio", "hidden"), [("simmim", 0.6, 39), ("mae3d", 0.6, 38), ("mae3d", 0.75, 48)])
def test_one_rounds_up_and_the_other_down(name, ratio, hidden):
    _, regions = built(name, ratio=ratio)
    assert masks_of(regions).sum(2).unique().tolist() == [hidden]


@HIDING
def test_a_mask_over_tokens_is_the_one_over_voxels(name):
    method, regions = built(name)
    masked = method.views(regions).masked
    voxels, tokens = method.over(masked), method.over(masked, 2)
    assert voxels.shape == (2, 32, 32, 32) and tokens.shape == (2, 16, 16, 16)
    assert torch.equal(voxels[:, ::2, ::2, ::2], tokens) and torch.equal(voxels[:, 1::2, 1::2, 1::2], tokens)
    assert torch.equal(voxels[:, ::8, ::8, ::8].flatten(1), masked[:, 0])


@HIDING
def test_no_map_sees_what_is_hidden_and_all_see_the_token(name):
    method, regions = built(name)
    views = method.views(regions)
    hidden = method.over(views.masked)[:, None]
    noise = torch.randn_like(views.volume)
    with torch.no_grad():
        maps = method.look(views)
        spoilt = method.look(views._replace(volume=torch.where(hidden, noise, views.volume)))
        seen = method.look(views._replace(volume=torch.where(hidden, views.volume, noise)))
        method.mask_token += 1
        other = method.look(views)
    for level, one in enumerate(maps):
        assert torch.equal(one, spoilt[level]), level
        assert not torch.equal(one, seen[level]) and not torch.equal(one, other[level])


@HIDING
def test_sub_volumes_that_cannot_be(name):
    with pytest.raises(ValueError, match="multiples of 32, a token of the last map"):
        small(name, encoder=replace(ENCODER, sub_volume=(48, 48, 48)))
