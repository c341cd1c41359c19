"""Rotation and contrast of two copies: values computed elsewhere, and which copy is paired with which."""

import math
from dataclasses import replace

import pytest
import torch
from monai.losses import ContrastiveLoss
from torch import nn

from s2dc_core.methods.method import Regions
from s2dc_core.methods.parts.turned_copies import TurnAndContrast, turned_copies
from s2dc_core.methods.swin_unetr import SwinUNETROptions
from s2dc_core.pretraining.regions import draw_regions
from tests.methods.test_every_method import ENCODER, SCANS, small

ONE = torch.tensor([[math.sin(4 * n + c + 1) for c in range(4)] for n in range(3)], dtype=torch.float64)
OTHER = torch.tensor([[math.cos(0.5 * (4 * n + c)) for c in range(4)] for n in range(3)], dtype=torch.float64)


def terms_of(one, other, regions=1, temperature=0.5, turns=None):
    """The terms of features as they are; logits are the first four of them, or zeros where there are no turns."""
    heads = TurnAndContrast(ENCODER, SwinUNETROptions(temperature=temperature))
    heads.contrast = nn.Identity()
    heads.rotation = nn.Linear(one.shape[1], 4, bias=False, dtype=one.dtype)
    with torch.no_grad():
        heads.rotation.weight.copy_(torch.eye(4, one.shape[1]) * (turns is not None))
    copies = torch.stack([rows.unflatten(0, (regions, -1)) for rows in (one, other)], 1).flatten(0, 2)
    if turns is None:
        turns = torch.zeros(regions, 2 * len(one) // regions, dtype=torch.long)
    with torch.no_grad():
        return heads(copies[..., None, None, None], turns)


@pytest.mark.parametrize(("temperature", "expected"), [(0.5, 2.1359584202), (0.2, 4.6429453843)])
@pytest.mark.parametrize("regions", [1, 3])
def test_the_contrast_has_the_value_of_its_equation(temperature, expected, regions):
    _, contrast = terms_of(ONE, OTHER, regions, temperature)
    assert contrast.mean().item() == pytest.approx(expected, abs=1e-10)
    assert ContrastiveLoss(temperature)(ONE, OTHER).item() == pytest.approx(expected, abs=1e-6)


def test_the_contrast_at_collapse_and_of_orthogonal_pairs():
    alike = torch.ones(8, 4, dtype=torch.float64)
    assert terms_of(alike, alike)[1].item() == pytest.approx(math.log(15), abs=1e-9) == 2.7080502011
    apart = torch.eye(2, 4, dtype=torch.float64)
    assert terms_of(apart, apart)[1].item() == pytest.approx(0.2395447662, abs=1e-10)


def test_the_rotation_at_zero_logits_is_chance():
    rotation, _ = terms_of(ONE, OTHER, 3)
    assert rotation.tolist() == pytest.approx([math.log(4)] * 3, abs=1e-6) == [1.3862943611] * 3


def test_each_copy_has_its_own_turn():
    """Naively, row by row: the first copies of a region come before its second ones."""
    generator = torch.Generator().manual_seed(0)
    one, other = torch.randn(2, 6, 4, generator=generator, dtype=torch.float64)
    turns = torch.randint(4, (2, 6), generator=generator)
    rotation, _ = terms_of(one, other, 2, turns=turns)
    for region in range(2):
        rows = [*one[3 * region : 3 * region + 3], *other[3 * region : 3 * region + 3]]
        each = zip(rows, turns[region].tolist(), strict=True)
        expected = sum(math.log(sum(math.exp(v) for v in row.tolist())) - row[turn].item() for row, turn in each) / 6
        assert rotation[region].item() == pytest.approx(expected, abs=1e-6)


def test_copies_are_turned_by_their_plan():
    volume = torch.randn(2, 1, 32, 64, 32, generator=torch.Generator().manual_seed(0))
    turns = torch.tensor([[0, 1, 2, 3], [3, 3, 1, 0]])
    body = torch.ones(2, 32, 64, 32, dtype=torch.bool)
    regions = Regions(volume, body, body, torch.zeros(2), [{"turns": each} for each in turns])
    for about, plane in (("z", (1, 2)), ("x", (2, 3)), ("y", (1, 3))):
        turned, on_device = turned_copies(regions, (32, 32, 32), about)
        assert torch.equal(on_device, turns)
        for k, copy in enumerate(turned):
            region, part = k // 4, k % 2
            own = volume[region, :, :, 32 * part : 32 * part + 32]
            assert torch.equal(copy, torch.rot90(own, int(turns[region, k % 4]), plane))


def test_a_batch_of_one_is_refused():
    with pytest.raises(
        ValueError, match="the negatives of a sub-volume are the others of its batch, and there is none"
    ):
        terms_of(ONE[:1], OTHER[:1])


def test_options_that_cannot_be():
    with pytest.raises(ValueError, match="is one token, and read=tokens takes two: read the mean"):
        small("swin_unetr", read="tokens")
    long = replace(ENCODER, sub_volume=(32, 32, 64))
    assert small("swin_unetr", encoder=long).options.about == "z"
    with pytest.raises(ValueError, match="must have equal sides where it is turned"):
        small("swin_unetr", encoder=long, about="x")
    with pytest.raises(ValueError, match="must be multiples of 32, a token at level 4"):
        small("swin_unetr", encoder=replace(ENCODER, sub_volume=(48, 48, 48)), level=4)
    with pytest.raises(ValueError, match="must be 3 weights, finite, not negative"):
        small("swin_unetr", weights=(1, 1))
    with pytest.raises(ValueError, match="unknown about 'w'"):
        small("swin_unetr", about="w")


@pytest.mark.parametrize("method", ["swin_unetr", "swinmm"])
def test_voxels_whose_stretch_tells_the_turn_are_refused(method):
    """Turns about z leave thick slices where they are, those about x do not."""
    thick = [scan._replace(spacing=(0.7, 0.7, 5.0)) for scan in SCANS]
    draw_regions(small(method, about="z"), thick)
    with pytest.raises(ValueError, match=r"voxels of 0.7 x 5 mm are no squares in the plane of the turns: "):
        draw_regions(small(method, about="x"), thick)
    draw_regions(small(method, about="x", anisotropy=8), thick)
