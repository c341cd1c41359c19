"""Jigsaw clustering: values computed elsewhere, montages and their inverse, and patches that show what they say."""

import math
from dataclasses import replace

import pytest
import torch

from s2dc_core.geometry import split_region
from s2dc_core.methods.jigsaw import BASE, JigsawOptions, Montages, draw_boxes
from s2dc_core.methods.parts.contrast import supervised_contrast
from s2dc_core.pretraining import PretrainConfig, Pretraining, draw_views, pretrain
from s2dc_core.pretraining.regions import draw_regions
from tests.methods.series import series
from tests.methods.test_every_method import ENCODER, SCANS, small

ROWS, SOURCE = series(16, 4), torch.arange(16) % 2
MIXED = (5 * torch.arange(16) + 3) % 16
STILL = {"intensity_scale": 0, "intensity_shift": 0, "noise": 0}


def seeded():
    return torch.Generator().manual_seed(0)


def test_the_code_multiplies_it():
    """By T / 0.07; the paper's two terms are one to one."""
    found = supervised_contrast(ROWS, SOURCE, 0.3).mean().item() * 0.3 / BASE
    assert found == pytest.approx(16.7156355797, abs=1e-9)
    terms = {form: first_terms(form=form) for form in ("paper", "code")}
    assert terms["code"].clustering.mean() / terms["paper"].clustering.mean() == pytest.approx(0.3 / 0.07, abs=1e-5)
    for each in terms.values():
        torch.testing.assert_close(each.total, each.clustering + each.location)
    assert torch.equal(terms["code"].location, terms["paper"].location)
    assert JigsawOptions().form == "paper"


def first_terms(scans=SCANS, **options):
    config = small("jigsaw", **options)
    with torch.no_grad():
        return config.build()(draw_views(config, scans))[0]


def test_the_location_has_the_value_of_its_equation():
    """Through the method: its linear layer gives these logits, and each patch lay at its number div 2."""
    logits, place = series(16, 8, shift=2), torch.arange(16) // 2
    for order in (torch.arange(16), MIXED):
        method = JigsawOptions().build(ENCODER)
        method.encoder.forward = lambda volume: [torch.zeros(len(volume), 96, 2, 2, 2)] * 5
        method.locate.forward = lambda _cells, order=order: logits[order]
        views = Montages(torch.zeros(2, 1, 1, 4, 4, 4), SOURCE[order], place[order])
        terms, _ = method(views)
        assert terms.location.mean().item() == pytest.approx(2.2131498795, abs=1e-9)
        # Zeros are a collapse: ln(n M - 1).
        assert terms.clustering.mean().item() == pytest.approx(math.log(15), abs=1e-6)
    assert terms.total.shape == (2,)


def views_of(keys=None, scans=SCANS, **options):
    """The montages of a batch, and its regions."""
    config = small("jigsaw", **options)
    regions = draw_regions(config, scans)
    if keys is not None:
        for number, plan in enumerate(regions.plan):
            plan["keys"] = keys[number].double()
    return config.build().views(regions), regions


@pytest.mark.parametrize("sides", [(32, 32, 32), (64, 32, 96)])
def test_in_order_and_without_reach_montages_are_the_sub_volumes(sides):
    """No axis is taken for another one."""
    keys, wide = torch.arange(16).view(2, 1, 8), (sides[0] // 8, sides[1] // 8, sides[2] // 8)
    scans = [
        scan._replace(volume=scan.volume.repeat(1, *wide), foreground=scan.foreground.repeat(wide)) for scan in SCANS
    ]
    views, regions = views_of(keys, scans, reach=0, intensities=STILL, encoder=replace(ENCODER, sub_volume=sides))
    assert views.volume.shape[3:] == sides
    assert torch.equal(views.volume[:, 0], regions.volume)
    assert views.source.tolist() == [0] * 8 + [1] * 8 and views.place.tolist() == [*range(8)] * 2


def test_a_montage_and_its_inverse_are_the_patches():
    """Every patch of the batch comes once, at the place that its source and its place say."""
    views, regions = views_of(reach=0, intensities=STILL)
    assert sorted(zip(views.source.tolist(), views.place.tolist(), strict=True)) == [
        (source, place) for source in range(2) for place in range(8)
    ]
    assert set(views.source[:8].tolist()) == {0, 1}  # a montage mixes sub-volumes
    patches = split_region(regions.volume, (16, 16, 16)).view(2, 8, 1, 16, 16, 16)
    laid = split_region(views.volume[:, 0], (16, 16, 16))
    assert torch.equal(laid, patches[views.source, views.place])


def test_a_patch_shows_its_own_part_and_what_lies_around_it():
    """On a volume of its own first coordinate, a patch that reaches 10 voxels further runs over 26."""
    ramp = torch.arange(24.0)[:, None, None].expand(1, 24, 24, 24).contiguous()
    keys = torch.arange(16).view(2, 1, 8)
    scans = [scan._replace(volume=ramp) for scan in SCANS]
    views, _ = views_of(keys, scans, intensities=STILL)
    first = views.volume[0, 0, 0, :16, 0, 0]
    expected = (torch.arange(16) + 0.5) * 26 / 16 - 0.5
    assert torch.allclose(first[:14], expected[:14], atol=1e-4)  # the scan ends at 24, and air begins


@pytest.mark.parametrize("crop", [(1.0, 1.0), (0.2, 1.0), (0.01, 0.01)])
@pytest.mark.parametrize("reach", [0, 0.3, 1])
def test_boxes_stay_in_reach_and_in_the_sub_volume(reach, crop):
    boxes = draw_boxes((32, 32, 16), 2, reach, crop, 20, seeded())
    assert boxes.shape == (20, 8, 2, 3)
    first, sides = boxes.unbind(2)
    ends, full = first + sides, torch.tensor([32, 32, 16])
    assert (first >= 0).all() and (ends <= full).all() and (sides >= 1).all()
    middle = full // 2
    far = [(reach * full).round()[axis] for axis in range(3)]
    for patch in range(8):
        for axis, late in enumerate((patch >> 2 & 1, patch >> 1 & 1, patch & 1)):
            if late:
                assert (first[:, patch, axis] >= max(middle[axis] - far[axis], 0) - 1).all()
            else:
                assert (ends[:, patch, axis] <= middle[axis] + far[axis] + 1).all()
    if reach == 0.3:
        share = sides.double().prod(-1) / (26 * 26 * 13)
        assert share.min() > crop[0] * 0.7 - 0.01 and share.max() <= crop[1] * 1.3
        assert crop != (1.0, 1.0) or bool((share == 1).all())


def test_a_batch_of_one_is_refused():
    config = small("jigsaw", batch=1)
    with pytest.raises(
        ValueError, match="jigsaw sets the sub-volumes of a batch against each other and needs at least 2"
    ):
        pretrain(config, SCANS, progress=False, device="cpu")
    with pytest.raises(ValueError, match="the others of its batch, and there is none"):
        Pretraining(config, SCANS, device="cpu").step()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"level": 4}, "must be multiples of 64: 2 cuts of whole tokens at level 4"),
        ({"cuts": 3}, "must be multiples of 48: 3 cuts of whole tokens at level 3"),
        ({"cuts": 1}, "cuts must be at least 2"),
        ({"reach": -0.1}, "reach must be at least 0"),
        ({"crop": (0, 1)}, "crop must be a range within 0 to 1"),
        ({"crop": (0.5, 1.5)}, "crop must be a range within 0 to 1"),
        ({"form": "codes"}, "unknown options.form 'codes'|unknown form 'codes'"),
    ],
)
def test_what_cannot_be_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        small("jigsaw", **values)


def test_its_recipes():
    teaching, paper = (PretrainConfig.from_recipe(f"{name}/jigsaw") for name in ("teaching", "paper"))
    assert (teaching.options.form, paper.options.form) == ("paper", "code")
    assert paper.options.crop == (0.2, 1.0) and teaching.options.temperature == paper.options.temperature == 0.3
