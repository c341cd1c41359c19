"""GVSL: its terms against values computed elsewhere, what an affine is, and that all of it learns."""

from dataclasses import replace
from itertools import product
from math import pi, tanh

import numpy as np
import pytest
import torch
from monai.losses import LocalNormalizedCrossCorrelationLoss

from s2dc_core.geometry import affine_about_centre, pull, split_region, warp
from s2dc_core.methods.gvsl import PAIRS, SCALE, SHEAR, TURN, GVSLOptions, affine_of, correlation, roughness
from s2dc_core.methods.parts.damage import Range
from s2dc_core.pretraining import PretrainConfig, pretrain
from s2dc_core.pretraining.regions import RegionDraws, draw_regions, regions_of
from tests.methods.test_every_method import ENCODER, SCANS, small

PLACES = torch.stack(torch.meshgrid(*[torch.arange(6, dtype=torch.float64)] * 3, indexing="ij"))
ONE = (0.5 + 0.5 * (0.5 * PLACES[0] + 0.3 * PLACES[1] + 0.2 * PLACES[2]).sin())[None, None]
OTHER = (0.5 + 0.5 * (0.4 * PLACES[0] - 0.2 * PLACES[1] + 0.1 * PLACES[2]).cos())[None, None]
NOTHING = {"shuffle": 0, "curve": 0, "paint": 0}


@pytest.mark.parametrize(
    ("one", "other", "window", "expected"),
    [
        (ONE, OTHER, 9, 0.1728400763),
        (ONE, OTHER, 3, 0.3620650689),
        (ONE, ONE + 1, 9, 0.0738993000),
        (ONE, ONE, 3, 0.0001915290),
    ],
)
def test_correlation_has_the_values_of_its_equation(one, other, window, expected):
    """A constant added is no constant beyond the faces."""
    assert 1 - correlation(one, other, window).item() == pytest.approx(expected, abs=1e-9)


def test_a_volume_correlates_with_itself_whatever_its_scale():
    assert 1 - correlation(ONE, ONE, 9).item() == pytest.approx(1.7e-9, abs=1e-10)
    assert 1 - correlation(ONE, 2 * ONE, 9).item() == pytest.approx(4e-10, abs=1e-10)
    flat = torch.full((1, 1, 6, 6, 6), 0.7)
    assert 0 <= correlation(flat, flat * 0, 9).item() <= 1e-6


@pytest.mark.parametrize("window", [3, 9])
def test_correlation_is_monais_but_for_the_place_of_epsilon(window):
    theirs = LocalNormalizedCrossCorrelationLoss(kernel_size=window)(ONE, OTHER).item()
    assert -correlation(ONE, OTHER, window).item() == pytest.approx(theirs, abs=1e-5)


@pytest.mark.parametrize("window", [5, 9])
def test_a_flat_part_that_is_not_air_has_the_gradient_of_exact_numbers(window):
    """As in a scan of z-scores, whose air lies amid its values: variances there are 0, not rounding errors."""
    random = torch.Generator().manual_seed(0)
    one, other = torch.rand(2, 1, 1, 24, 24, 24, generator=random, dtype=torch.float64)
    one[..., :16], other[..., :18] = 0.3711, 0.4111
    found = []
    for kind in (torch.float32, torch.float64):
        given = one.to(kind).requires_grad_()
        correlation(given, other.to(kind), window).sum().backward()
        found.append(given.grad.double())
    assert (found[0] - found[1]).norm() < 1e-6 * found[1].norm()


def test_correlation_is_the_one_of_a_loop_and_each_volume_has_its_own():
    volumes = torch.randn(2, 2, 1, 4, 5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = correlation(*volumes, 3)
    for k in range(2):
        padded, squares = [np.pad(each[k, 0].numpy(), 1) for each in volumes], []
        for x, y, z in product(range(4), range(5), range(3)):
            a, b = (each[x : x + 3, y : y + 3, z : z + 3] for each in padded)
            both, own, others = ((p - p.mean()) * (q - q.mean()) for p, q in ((a, b), (a, a), (b, b)))
            squares.append(both.sum() ** 2 / (own.sum() * others.sum() + 1e-5))
        assert found[k].item() == pytest.approx(np.mean(squares), abs=1e-12)


def test_roughness_has_the_value_of_its_equation():
    i, j, k = PLACES
    flow = torch.stack([0.1 * i, 0.04 * j**2, 0.06 * k * i])[None]
    assert roughness(flow).item() == pytest.approx(0.0143111111, abs=1e-10)
    assert roughness(torch.ones_like(flow)).item() == 0


def numbers_of(**values):
    found = torch.zeros(1, 15, dtype=torch.float64)
    for name, value in values.items():
        found[0, int(name[1:])] = value
    return found


SPACING, SHAPE = torch.tensor([[0.8, 1.5, 3.0]], dtype=torch.float64), (32, 20, 24)


def test_zeros_are_the_identity():
    assert torch.equal(affine_of(numbers_of(), SPACING, SHAPE)[0], torch.eye(4, dtype=torch.float64))


@pytest.mark.parametrize("axis", range(3))
def test_turns_scales_and_shifts_are_about_the_centre_in_mm_of_their_own_axis(axis):
    """The official code's are right for cubes alone."""
    degrees = [0.0] * 3
    degrees[axis] = TURN * tanh(0.7) * 180 / pi
    turned = affine_of(numbers_of(**{f"n{axis}": 0.7}), SPACING, SHAPE)[0]
    torch.testing.assert_close(turned, affine_about_centre(SHAPE, SPACING[0].tolist(), degrees), atol=1e-12, rtol=0)
    scaled = affine_of(numbers_of(**{f"n{3 + axis}": -0.4}), SPACING, SHAPE)[0]
    factor, centre = 1 - SCALE * tanh(0.4), (SHAPE[axis] - 1) / 2
    expected = torch.eye(4, dtype=torch.float64)
    expected[axis, axis], expected[axis, 3] = factor, centre * (1 - factor)
    torch.testing.assert_close(scaled, expected, atol=1e-12, rtol=0)
    shifted = affine_of(numbers_of(**{f"n{6 + axis}": 0.25}), SPACING, SHAPE)[0]
    expected = torch.eye(4, dtype=torch.float64)
    expected[axis, 3] = SHAPE[axis] / 8
    torch.testing.assert_close(shifted, expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("number", range(6))
def test_shears_are_row_by_row(number):
    i, j = PAIRS[number]
    sheared = affine_of(numbers_of(**{f"n{9 + number}": 0.9}), SPACING, SHAPE)[0, :3, :3]
    expected = torch.eye(3, dtype=torch.float64)
    expected[i, j] = np.tan(SHEAR * tanh(0.9)) * (SPACING[0, j] / SPACING[0, i])
    torch.testing.assert_close(sheared, expected, atol=1e-12, rtol=0)


def test_an_affine_is_the_product_of_its_parts_and_never_beyond_its_bounds():
    drawn = torch.randn(1, 15, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ones = torch.ones(1, 3, dtype=torch.float64)

    def part(first, last):
        only = torch.zeros_like(drawn)
        only[:, first:last] = drawn[:, first:last]
        return affine_of(only, ones, (8, 8, 8))[0]

    turns = part(2, 3) @ part(1, 2) @ part(0, 1)
    expected = part(6, 9) @ part(9, 15) @ part(3, 6) @ turns
    torch.testing.assert_close(affine_of(drawn, ones, (8, 8, 8))[0], expected, atol=1e-12, rtol=0)
    wild = affine_of(torch.full((1, 15), 1e6, dtype=torch.float64), ones, (8, 8, 8))
    assert wild[0, :3, :3].abs().max() < 1.8


def built(**changes):
    config = small("gvsl", **changes)
    torch.manual_seed(0)
    method = config.build().double().eval()
    return method, draw_regions(config, [s._replace(volume=s.volume.double()) for s in SCANS])


def test_damage_keeps_the_target_and_the_partner():
    method, regions = built(damage={"shuffle": 1.0, "paint": 1.0, "inside": 1.0, "windows": 100})
    views = method.views(regions)
    own, others = (Range.of(each.volume) for each in (regions, regions.partner))
    assert torch.equal(views.target.flatten(0, 1), split_region(own.to_unit(regions.volume), (32,) * 3))
    assert torch.equal(views.other.flatten(0, 1), split_region(others.to_unit(regions.partner.volume), (32,) * 3))
    assert torch.equal(views.seen[1].flatten(0, 1), split_region(regions.partner.volume, (32,) * 3))
    assert not torch.equal(views.seen[0].flatten(0, 1), regions.volume)
    method, regions = built(damage=NOTHING)
    torch.testing.assert_close(method.views(regions).seen[0].flatten(0, 1), regions.volume)


def test_its_damage_is_the_sources():
    damage = GVSLOptions().damage
    assert (damage.shuffle, damage.windows, damage.window, damage.one_size) == (0.8, 5000, 20, True)
    assert (damage.curve, damage.falling, damage.inside, damage.boxes, damage.box) == (0.9, 0, 1, 30, (10, 5))
    plans = [RegionDraws(small("gvsl"), SCANS)[k].plan for k in range(12)]
    assert all((plan["bent"] >= 0).all() and (plan["noise"] >= 0).all() for plan in plans)
    sides = torch.cat([plan["boxes"][..., 3:].flatten() for plan in plans])
    assert set(sides.tolist()) == {0, 3, 4, 5, 6}


def test_the_terms_are_the_ones_of_one_pair_after_the_other():
    method, regions = built(weights=(1.0, 2.0, 3.0))
    with torch.no_grad():
        for weight in (method.affine.weight, method.flow[-1].weight):
            weight.normal_(std=0.1)
        views = method.views(regions)
        terms, rows = method(views)
        assert rows is None
        for b in range(2):
            target, other = views.target[b], views.other[b]
            seen, beside = (method.encoder(views.seen[side, b]) for side in (0, 1))
            fine, near = (method.decoder(maps)[-1] for maps in (seen, beside))
            numbers = method.affine(method.coarse(torch.cat([beside[4], seen[4]], 1)).mean((2, 3, 4)))
            flow = method.flow(torch.cat([near, fine], 1))
            laid = pull(other, affine_of(numbers, views.spacing[b][None], (32,) * 3), flow)
            registered = 1 - correlation(laid, target, 5).item()
            restored = (method.restore(fine) - target).square().mean().item()
            smooth = sum(flow.diff(dim=axis).square().mean() for axis in (2, 3, 4)).item() / 3
            total = registered + 2 * restored + 3 * smooth
            assert [term[b].item() for term in terms] == pytest.approx([total, registered, restored, smooth], abs=1e-9)


def test_the_affine_head_and_the_coarse_maps_learn_from_the_registration():
    """In the official code the matrix is made of copied numbers, and neither has a gradient."""
    method, regions = built()
    terms, _ = method(method.views(regions))
    terms.registered.sum().backward()
    for head in (method.affine, method.coarse, method.flow, method.encoder.swinViT.layers4):
        assert any(weight.grad is not None and weight.grad.any() for weight in head.parameters())
    assert method.restore[-1].weight.grad is None, "it has no part in it"
    unused = [name for name, weight in method.named_parameters() if weight.grad is None]
    assert all(name.startswith(("restore", "encoder.")) for name in unused), unused


def test_the_gradient_leads_to_where_a_scan_was_shifted_and_turned():
    """From the identity, by the registered term alone, to a B that lies two voxels off and is turned."""
    volume = torch.nn.functional.interpolate(
        torch.randn(1, 1, 4, 4, 4, generator=torch.Generator().manual_seed(0)), size=(16,) * 3, mode="trilinear"
    )
    ones, numbers = torch.ones(1, 3, dtype=torch.float64), torch.zeros(1, 15, requires_grad=True)
    away = affine_of(numbers_of(n0=0.3, n7=0.25), ones, (16,) * 3)
    moved = warp(volume, away)
    optimiser = torch.optim.Adam([numbers], lr=0.03)
    for _ in range(40):
        loss = 1 - correlation(pull(moved, affine_of(numbers, ones, (16,) * 3)), volume, 5).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    found = numbers.detach()[0]
    assert found[7].item() == pytest.approx(0.25, abs=0.05) and found[0].item() == pytest.approx(0.3, abs=0.1)


def test_one_pair_is_enough():
    config = small("gvsl", batch=1)
    method = config.build()
    views = method.views(regions_of([RegionDraws(config, SCANS)[0]]))
    terms, _ = method(views)
    assert terms.total.shape == (1,) and torch.isfinite(terms.total).all()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"window": 4}, "window must be odd, from 3 to 99"),
        ({"weights": (1, 1)}, "weights must be 3 weights, finite, not negative and not all 0"),
        ({"flow_hidden": (8,)}, "flow_hidden must be 2 whole numbers"),
        ({"damage": {"box": (3, 6)}}, "damage.box must be parts of a side"),
        ({"encoder": {"sub_volume": (48, 48, 48)}}, "multiples of 32, a token at level 4"),
        ({"encoder": {"sub_volume": (16, 16, 16)}, "level": 3}, "must have 20 voxels a side at least"),
    ],
)
def test_what_cannot_be_is_refused(values, message):
    if "encoder" in values:
        values = {**values, "encoder": replace(ENCODER, **values["encoder"])}
    with pytest.raises(ValueError, match=message):
        small("gvsl", **values)


def test_its_recipes():
    teaching, paper = (PretrainConfig.from_recipe(f"{name}/gvsl") for name in ("teaching", "paper"))
    assert paper.options == GVSLOptions() and paper.learning_rate == 1e-4
    assert 32 // teaching.options.damage.window == 2, "windows of two voxels move some"


def test_scans_of_two_spacings_are_not_laid_over_each_other():
    other = SCANS[1]._replace(spacing=(1.0, 1.0, 2.0))
    with pytest.raises(ValueError, match=r"gvsl lays one scan over the other, .*other of \(1.0, 1.0, 2.0\): read the"):
        pretrain(small("gvsl", steps=1), [SCANS[0], other], progress=False, device="cpu")


def test_a_shuffle_that_moves_nothing_is_refused():
    with pytest.raises(ValueError, match=r"hold one voxel, and a shuffle moves nothing: take damage.window=16"):
        small("gvsl", damage={"window": 20})
    small("gvsl", damage={"window": 20, "shuffle": 0})
