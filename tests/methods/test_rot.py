"""Rotation prediction: the ten classes, what may tell them beside the body, and the loss against naive ones."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from s2dc_core.methods.rot import CLASSES, ROTOptions, cubes_of
from s2dc_core.pretraining import PretrainConfig, draw_views, pretrain
from s2dc_core.pretraining.regions import draw_regions
from s2dc_core.views import Region
from tests.methods.series import series
from tests.methods.test_every_method import ENCODER, SCANS, small

EIGHT = (
    "01234567", "23670145", "67452301", "45016723", "20316475",
    "32107654", "13025746", "40625173", "54761032", "15370426",
)  # fmt: skip
"""arange(8) as 2^3, turned by each class."""
ROT90 = [(0, (0, 1)), *((k, (0, 1)) for k in (1, 2, 3)), *((k, axes) for axes in ((1, 2), (0, 2)) for k in (3, 2, 1))]


def test_the_classes_are_those_of_the_source():
    cube, large = torch.arange(8).view(2, 2, 2), series(4, 4, 4)
    assert [*EIGHT] == ["".join(map(str, turn.of(cube).flatten().tolist())) for turn in CLASSES]
    assert len(set(EIGHT)) == 10
    for turn, (k, axes) in zip(CLASSES, ROT90, strict=True):
        assert np.array_equal(turn.of(large).numpy(), np.rot90(large.numpy(), k, axes))


def wide(shape=(64, 64, 64), filled=slice(16, 56)):
    """Scans whose body is a box in air."""
    body = torch.zeros(shape, dtype=torch.bool)
    body[filled, filled, filled] = True
    volumes = [F.interpolate(scan.volume[None], size=shape, mode="trilinear")[0] for scan in SCANS]
    return [scan._replace(volume=v, foreground=body) for scan, v in zip(SCANS, volumes, strict=True)]


def test_views_are_the_tiles_turned():
    config = small("rot", sub_volumes=(2, 2, 2))
    method, regions = config.build(), draw_regions(config, wide())
    views = method.views(regions)
    assert views.volume.shape == (16, 1, 32, 32, 32) and views.turns.shape == (2, 8)
    for number, (region, plan) in enumerate(zip(regions.volume, regions.plan, strict=True)):
        for part in range(8):
            a, b, c = (32 * (part >> shift & 1) for shift in (2, 1, 0))
            tile = region[:, a : a + 32, b : b + 32, c : c + 32]
            k, axes = ROT90[int(plan["turns"][part])]
            assert torch.equal(views.volume[8 * number + part], torch.rot90(tile, k, [1 + axis for axis in axes]))
            assert views.turns[number, part] == plan["turns"][part]


def test_all_classes_come_alike_often():
    everywhere, generator = torch.ones(128, 128, 64, dtype=torch.bool), torch.Generator().manual_seed(0)
    plain = Region(torch.empty(1, 128, 128, 64), everywhere, everywhere)
    drawn = [ROTOptions().plan(ENCODER, plain, (1.0,) * 3, lambda _name: generator)["turns"] for _ in range(63)]
    counts = torch.cat(drawn).bincount(minlength=10)
    assert len(counts) == 10 and counts.sum() == 2016 and counts.min() > 140 and counts.max() < 260


def test_zero_logits_have_chance_and_others_their_cross_entropy():
    method = ROTOptions().build(ENCODER)
    views = draw_views(small("rot"), SCANS)
    method.head.forward = lambda rows: rows.new_zeros(len(rows), 10, dtype=torch.float64)
    assert method(views)[0].total.tolist() == pytest.approx([math.log(10)] * 2, abs=1e-12)
    assert math.log(10) == pytest.approx(2.3025850930, abs=1e-10)
    method.head.forward = lambda rows: series(len(rows), 10)
    logits = series(2, 10)
    for region in (0, 1):
        shares = (logits[region].exp() / logits[region].exp().sum()).log()
        expected = -shares[views.turns[region, 0]].item()
        assert method(views)[0].total[region].item() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("read", ["mean", "tokens"])
def test_it_reads_the_mean_of_the_last_map_or_all_of_its_tokens(read):
    method = ROTOptions(read=read, hidden=(8,)).build(replace(ENCODER, sub_volume=(64, 64, 64))).double()
    last = series(3, 192, 2, 2, 2)
    method.encoder.forward = lambda _volume: [None] * 4 + [last]
    rows = last.flatten(2).mean(2) if read == "mean" else last.reshape(3, -1)
    assert torch.equal(method.logits(torch.empty(3, 1, 64, 64, 64)), method.head(rows))
    assert method.head[0].in_features == (192 if read == "mean" else 8 * 192)


def test_cubes_of_the_body_are_within_it_and_all_over_it():
    """40 voxels of body leave 9 places along each axis; where no cube is all body the fullest are taken."""
    config = small("rot", sub_volumes=(2, 2, 2), body=1)
    regions = draw_regions(config, wide())
    held = cubes_of(regions.body[:, None], regions.plan, (32, 32, 32))
    assert held.all() and len(torch.cat([plan["corners"] for plan in regions.plan]).unique(dim=0)) > 10
    tiles = draw_regions(small("rot", sub_volumes=(2, 2, 2)), wide())
    assert cubes_of(tiles.body[:, None], tiles.plan, (32, 32, 32)).float().mean() < 0.5
    thin = draw_regions(config, wide(filled=slice(20, 44)))
    shares = cubes_of(thin.body[:, None], thin.plan, (32, 32, 32)).float().flatten(1).mean(1)
    assert torch.allclose(shares, torch.tensor(24**3 / 32**3))


def test_cubes_of_the_body_are_cut_where_the_plan_says():
    config = small("rot", sub_volumes=(2, 2, 2), body=1)
    regions = draw_regions(config, wide())
    views = config.build().views(regions)
    for number, plan in enumerate(regions.plan):
        for part, (a, b, c) in enumerate(plan["corners"].tolist()):
            cube = regions.volume[number, :, a : a + 32, b : b + 32, c : c + 32]
            assert torch.equal(CLASSES[plan["turns"][part]].of(cube), views.volume[8 * number + part])


def test_voxels_that_are_no_cubes_are_refused():
    flat = [scan._replace(spacing=(1.0, 1.0, 3.0)) for scan in SCANS]
    with pytest.raises(ValueError, match=r"voxels of 1 x 1 x 3 mm are no cubes: .* one spacing along all axes"):
        pretrain(small("rot", steps=1), flat, progress=False, device="cpu")
    pretrain(small("rot", steps=1, anisotropy=3), flat, progress=False, device="cpu")
    rounded = [scan._replace(spacing=(1.0, 1.0004, 0.9998)) for scan in SCANS]
    pretrain(small("rot", steps=1), rounded, progress=False, device="cpu")


def test_a_dry_run_says_what_is_not_the_body():
    config = small("rot", sub_volumes=(2, 2, 2))
    ((name, said),) = config.options.describe(ENCODER, draw_regions(config, wide()))
    assert name == "cubes" and said.startswith("chance 2.303; 76% of them outside the body, of one cube up to")
    config = small("rot", sub_volumes=(2, 2, 2), body=1)
    ((_, said),) = config.options.describe(ENCODER, draw_regions(config, wide()))
    assert "0% of them outside the body, of one cube up to 0%" in said


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"encoder": replace(ENCODER, sub_volume=(32, 32, 64))}, "must have equal sides where it is turned"),
        ({"encoder": replace(ENCODER, sub_volume=(48, 48, 48))}, "must be multiples of 32, a token of the last map"),
        ({"body": 1.5}, "body must be at most 1"),
        ({"anisotropy": 0.5}, "anisotropy must be at least 1"),
        ({"read": "first"}, "choose one of mean, tokens"),
    ],
)
def test_what_cannot_be_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        small("rot", **values)


def test_its_recipes():
    teaching, paper = (PretrainConfig.from_recipe(f"{name}/rot") for name in ("teaching", "paper"))
    assert (teaching.options.body, paper.options.body) == (0.9, 0)
    assert paper.options.hidden == (2048, 1024) and paper.options.read == "tokens"
