"""Models Genesis: what it is shown, what it is to make of it, and on which scale."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from s2dc_core.methods.models_genesis import ModelsGenesisOptions, draw_flips
from s2dc_core.methods.parts.genesis import box_mask
from s2dc_core.pretraining import PretrainConfig, draw_views
from s2dc_core.pretraining.regions import draw_regions
from tests.methods.test_every_method import ENCODER, SCANS, small

WIDE = [
    scan._replace(
        volume=F.interpolate(scan.volume[None], size=(64, 64, 64), mode="trilinear")[0],
        foreground=torch.ones(64, 64, 64, dtype=torch.bool),
    )
    for scan in SCANS
]
NOTHING = {"shuffle": 0, "curve": 0, "paint": 0}


def views_of(scans=WIDE, **changes):
    config = small("models_genesis", **{"sub_volumes": (2, 2, 1), **changes})
    method, regions = config.build(), draw_regions(config, scans)
    return method, regions, method.views(regions)


def unit(volume, region):
    return (volume - region.min()) / (region.max() - region.min())


def test_the_target_is_the_region_from_0_to_1_flipped():
    _, regions, views = views_of()
    assert views.target.min() == 0 and views.target.max() == 1 and views.target.shape == (2, 4, 1, 32, 32, 32)
    flipped = 0
    for number, (region, plan) in enumerate(zip(regions.volume, regions.plan, strict=True)):
        for part in range(4):
            a, b = 32 * (part >> 1), 32 * (part & 1)
            own = unit(region[:, a : a + 32, b : b + 32], region)
            axes = [1 + axis for axis in range(3) if plan["flips"][part, axis]]
            flipped += len(axes)
            assert torch.equal(views.target[number, part], own.flip(axes))
    assert flipped


def test_without_damage_it_is_shown_what_it_is_to_make():
    _, regions, views = views_of(damage=NOTHING)
    for number, region in enumerate(regions.volume):
        torch.testing.assert_close(unit(views.damaged[number], region), views.target[number], atol=1e-6, rtol=0)


def test_what_lies_in_the_boxes_of_out_painting_is_the_target():
    _, regions, views = views_of(damage={"shuffle": 0, "curve": 0, "paint": 1, "inside": 0})
    for number, (region, plan) in enumerate(zip(regions.volume, regions.plan, strict=True)):
        left = box_mask(plan["boxes"], (32, 32, 32))
        seen = unit(views.damaged[number], region)
        torch.testing.assert_close(seen[left], views.target[number][left], atol=1e-6, rtol=0)
        assert seen.min() >= -1e-6 and seen.max() <= 1 + 1e-6
        assert (seen[~left] - views.target[number][~left]).abs().mean() > 0.1


@pytest.mark.parametrize(("scale", "shift"), [(3, -5), (100, -1000), (0.01, 3)])
def test_the_damage_is_the_same_on_every_scale(scale, shift):
    """Where z-scores are taken for intensities of 0 to 1, as elsewhere, all below 0 becomes one value."""
    moved = [scan._replace(volume=scan.volume * scale + shift) for scan in WIDE]
    _, _, views = views_of()
    _, _, others = views_of(moved)
    torch.testing.assert_close(others.target, views.target, atol=1e-3, rtol=0)
    far = ((others.damaged - shift) / scale - views.damaged).abs()
    assert far.quantile(0.999) < 1e-3
    negative = views.damaged[views.damaged < 0]
    assert len(negative.unique()) > 0.7 * len(negative) > 1000


def test_zero_logits_have_the_spread_of_the_target_about_a_half():
    method, _, views = views_of()
    method.decoder.forward = lambda maps: torch.zeros(8, 1, 32, 32, 32)
    terms, rows = method(views)
    torch.testing.assert_close(terms.total, (views.target - 0.5).square().flatten(1).mean(1))
    assert rows is None and terms.total.shape == (2,)


def test_its_loss_is_a_naive_one():
    method, _, views = views_of(sub_volumes=(1, 2, 1))
    with torch.no_grad():
        terms, _ = method(views)
        for region in (0, 1):
            errors = []
            for part in (0, 1):
                made = method.decoder(method.encoder(views.damaged[region, part : part + 1]))[0]
                errors.append((1 / (1 + (-made).exp()) - views.target[region, part]) ** 2)
            torch.testing.assert_close(terms.total[region], torch.stack(errors).mean(), atol=1e-6, rtol=1e-5)


def test_flips_reach_all_axes_alike_and_turn_something():
    """The published ones: a third is one of the channels, none of the last axis."""
    flips = draw_flips(0.4, 100_000, torch.Generator().manual_seed(1)).float()
    assert flips.mean(0).max() - flips.mean(0).min() < 0.01
    # One flip 0.24, two 0.096, of which a third is none, three 0.064, after which one or three axes are flipped.
    assert (flips.sum(1) == 0).float().mean() == pytest.approx(0.6 + 0.096 / 3, abs=0.005)
    assert (flips.sum(1) == 3).float().mean() == pytest.approx(0.064 * 6 / 27, abs=0.002)
    assert not draw_flips(0, 50).any()


@pytest.mark.parametrize(
    ("level", "decoder", "reached"), [(4, "skips", True), (3, "skips", False), (4, "transposed", True)]
)
def test_stage_four_learns_where_the_decoder_starts_at_it(level, decoder, reached):
    method, _, views = views_of(level=level, decoder=decoder, sub_volumes=(1, 1, 1))
    method(views)[0].total.sum().backward()
    stage = method.encoder.swinViT.layers4.parameters()
    assert any(weight.grad is not None and bool(weight.grad.any()) for weight in stage) == reached


def test_the_decoder_sees_maps_and_never_the_volume():
    method, _, views = views_of(sub_volumes=(1, 1, 1))
    maps = method.encoder(torch.randn(2, 1, 32, 32, 32))
    method.encoder.forward = lambda _volume: maps
    with torch.no_grad():
        one, other = (method(views._replace(damaged=views.damaged * factor))[0].total for factor in (1, 0))
    assert torch.equal(one, other)


def test_a_constant_region_stays_what_it_is():
    """It is 0 between its extremes, and noise between them is its value."""
    flat = [scan._replace(volume=scan.volume * 0 - 7) for scan in WIDE]
    views = draw_views(small("models_genesis"), flat)
    assert not views.target.any() and bool((views.damaged == -7).all())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"encoder": replace(ENCODER, sub_volume=(16, 16, 16)), "level": 3}, "must have 20 voxels a side at least"),
        ({"encoder": replace(ENCODER, sub_volume=(48, 48, 48))}, "must be multiples of 32, a token at level 4"),
        ({"flip": 1.5}, "flip must be at most 1"),
        ({"decoder": "unet"}, "choose one of transposed, convolutions, skips"),
        ({"damage": {"shufle": 0.1}}, "has no field 'shufle': did you mean shuffle"),
    ],
)
def test_what_cannot_be_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        small("models_genesis", **values)


def test_its_recipes():
    teaching, paper = (PretrainConfig.from_recipe(f"{name}/models_genesis").options for name in ("teaching", "paper"))
    assert teaching.damage == paper.damage == ModelsGenesisOptions().damage
    assert teaching.decoder == paper.decoder == "skips"
