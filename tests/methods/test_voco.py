"""VoCo: its losses against values computed elsewhere, and what the published code gets wrong."""

import math
from dataclasses import replace

import pytest
import torch

from s2dc_core.methods.parts.contrast import cosines
from s2dc_core.methods.parts.crops import cut
from s2dc_core.methods.voco import EPSILON, VoCoOptions, bases_loss, overlap_loss
from s2dc_core.pretraining import Pretraining, draw_views, pretrain
from s2dc_core.pretraining.regions import draw_regions
from s2dc_core.views import Region
from tests.methods.test_every_method import ENCODER, SCANS, small

BASES = torch.sin(1 + 0.7 * torch.arange(20, dtype=torch.float64)).view(1, 4, 5)
CROPS = torch.cos(0.3 + 0.9 * torch.arange(10, dtype=torch.float64)).view(1, 2, 5)
SHARES = torch.tensor([[[0.4, 0.3, 0.3, 0.0], [0.0, 0.0, 0.25, 0.75]]], dtype=torch.float64)
QUARTERS = torch.full((1, 1, 4), 0.25, dtype=torch.float64)


TOLD = [
    [0.4604150564, -0.7238857687, 0.8977870784, -0.9778499995],
    [0.8353186508, -0.6515309549, 0.4064053542, -0.1198605439],
]


def test_cosines_have_their_values_under_autocast_too():
    torch.testing.assert_close(cosines(CROPS, BASES), torch.tensor([TOLD], dtype=torch.float64), atol=6e-11, rtol=0)
    with torch.autocast("cpu", torch.bfloat16):
        found = cosines(CROPS.float(), BASES.float())
    torch.testing.assert_close(found, torch.tensor([TOLD]), atol=1e-6, rtol=0)


VALUES = {
    "code": (0.7436986654, 0.2325856719),
    "first": (0.5772264932, 0.2325856719),
    "second": (0.7436986654, 0.6012447386),
}
DIVISORS = {"code": (2, 3), "first": (5, 3), "second": (2, 3)}
"""Sum of y, or how many there are; to each the code adds 1e-6."""


@pytest.mark.parametrize("form", VALUES)
def test_the_code_has_the_values_of_its_functions(form):
    found = overlap_loss(cosines(CROPS, BASES).relu(), SHARES, form)
    for value, expected, divisor in zip(found, VALUES[form], DIVISORS[form], strict=True):
        assert value.item() * divisor / (divisor + 1e-6) == pytest.approx(expected, abs=1e-9)


def test_the_paper_has_the_value_of_its_equations():
    assert sum(overlap_loss(cosines(CROPS, BASES).relu(), SHARES, "paper")).item() == pytest.approx(
        0.5862357621, abs=1e-9
    )
    assert bases_loss(BASES, "paper").item() == pytest.approx(0.8287052135, abs=1e-9)
    assert bases_loss(BASES, "code").item() == pytest.approx(0.2091066972, abs=1e-9)


def test_another_projects_copy_has_the_same_value():
    """nnssl's version of the code, in single precision; its L_reg is not squared."""
    assert sum(overlap_loss(cosines(CROPS, BASES).relu(), SHARES)).item() == pytest.approx(0.9762841665, abs=1e-6)
    one, other = torch.triu_indices(4, 4, 1)
    assert cosines(BASES, BASES)[0, one, other].relu().mean().item() == pytest.approx(0.2640059402, abs=1e-9)


@pytest.mark.parametrize("form", ["paper", "code", "first", "second"])
def test_the_loss_is_that_of_naive_loops(form):
    generator = torch.Generator().manual_seed(0)
    told, shares = torch.rand(3, 5, 6, generator=generator), torch.rand(3, 5, 6, generator=generator)
    shares = shares * (torch.rand(3, 5, 6, generator=generator) < 0.5)
    shares[..., 0] += 0.1
    shares = (shares / shares.sum(-1, keepdim=True)).double()
    told = told.double()
    for b, found in enumerate(zip(*overlap_loss(told, shares, form), strict=True)):
        pairs = list(zip(told[b].flatten().tolist(), shares[b].flatten().tolist(), strict=True))
        on = [(y if form in ("code", "second") else 1, abs(y - c)) for c, y in pairs if y > 0]
        off = [c for c, y in pairs if y == 0]
        if form == "paper":
            expected = [sum(-math.log(1 - d) for _, d in on) / 30, sum(-math.log(1 - c) for c in off) / 30]
        else:
            squares = [-math.log(1 - c + EPSILON) if form == "second" else c**2 for c in off]
            positive = sum(-w * math.log(1 - d + EPSILON) for w, d in on) / sum(w for w, _ in on)
            expected = [positive, sum(squares) / len(squares)]
        assert [value.item() for value in found] == pytest.approx(expected, abs=1e-12)


def test_closed_forms():
    zero, one = torch.zeros_like(QUARTERS), torch.ones_like(QUARTERS)
    assert overlap_loss(zero, QUARTERS)[0].item() == pytest.approx(0.2876807391, abs=1e-9)
    assert overlap_loss(one, QUARTERS)[0].item() == pytest.approx(1.3862903611, abs=1e-9)
    alone = torch.tensor([[[1.0, 0, 0, 0]]], dtype=torch.float64)
    assert overlap_loss(one, alone)[1].item() == 1
    assert overlap_loss(one, alone, "second")[1].item() == pytest.approx(13.8155105580, abs=1e-9)
    assert bases_loss(torch.ones(1, 4, 5)).item() == pytest.approx(1)
    assert bases_loss(torch.eye(4)[None]).item() == 0


@pytest.mark.parametrize("form", ["paper", "code", "first", "second"])
def test_a_cosine_that_is_off_by_one_gives_numbers(form):
    """A crop equal to a base that it is not like, and like one that it shares nothing with: printed, log 0."""
    told = torch.tensor([[[0.0, 1.0]]], requires_grad=True)
    sum(overlap_loss(told, torch.tensor([[[1.0, 0.0]]]), form)).sum().backward()
    assert torch.isfinite(told.grad).all()


def test_a_crop_over_every_base_has_no_others():
    assert overlap_loss(torch.rand(1, 1, 4), QUARTERS.float())[1].item() == 0


def test_every_base_learns_that_it_differs():
    """The published code stops the gradient of the later base of each pair, so the last one has none."""
    bases = BASES.clone().requires_grad_()
    bases_loss(bases).sum().backward()
    assert (bases.grad.abs().amax(-1) > 1e-3).all()
    one, other = BASES[:, :3].clone().requires_grad_(), BASES[:, [1, 2, 0]].clone().requires_grad_()
    bases_loss(one).sum().backward()
    bases_loss(other).sum().backward()
    torch.testing.assert_close(one.grad[:, [1, 2, 0]], other.grad)


def test_bases_and_crops_are_what_the_plan_says():
    config = small("voco", flip=1.0, turn=1.0, shift_chance=1.0)
    regions = draw_regions(config, SCANS)
    views = config.build().views(regions)
    assert views.crops.shape == (2, 3 + 2, 1, 32, 32, 32) and views.shares.shape == (2, 2, 3)
    torch.testing.assert_close(views.shares.sum(-1), torch.ones(2, 2))
    plan, volume = regions.plan[1], regions.volume[1]
    assert plan["flips"].all() and (plan["turns"] % 4 > 0).all() and (plan["shifts"].abs() <= 0.1).all()
    for k in range(5):
        crop = cut(volume, plan["corners"][k].tolist(), (8, 8, 8), (32, 32, 32))
        expected = (crop + plan["shifts"][k]).flip(1, 2, 3).rot90(int(plan["turns"][k]), (1, 2))
        torch.testing.assert_close(views.crops[1, k], expected)


def test_without_augmentation_a_crop_on_a_base_is_that_base():
    """And whole numbers of voxels are not resized: bit for bit."""
    still = {"flip": 0, "turn": 0, "shift_chance": 0, "crop": None}
    config = small("voco", bases=(1, 1, 2), **still)
    scan = SCANS[0]._replace(volume=torch.rand(1, 32, 32, 64), foreground=torch.ones(32, 32, 64, dtype=torch.bool))
    regions = draw_regions(config, [scan])
    views = config.build().views(regions)
    assert torch.equal(torch.cat([views.crops[0, 0], views.crops[0, 1]], -1), scan.volume)
    at, share = int(regions.plan[0]["corners"][2, 2]), views.shares[0, 0]
    assert share.tolist() == pytest.approx([1 - at / 32, at / 32])


def test_augmentations_come_as_often_as_they_should():
    options, random = VoCoOptions(bases=(4, 4, 4)), torch.Generator().manual_seed(0)
    everywhere = torch.ones(8, 8, 8, dtype=torch.bool)
    region = Region(torch.zeros(1, 8, 8, 8), everywhere, everywhere)
    encoder = replace(ENCODER, sub_volume=(2, 2, 2))
    plans = [options.plan(encoder, region, (1.0, 1.0, 1.0), lambda _: random) for _ in range(40)]
    flips, turns, shifts = (torch.cat([plan[name] for plan in plans]) for name in ("flips", "turns", "shifts"))
    assert flips.float().mean(0).tolist() == pytest.approx([0.2] * 3, abs=0.03)
    assert (turns.bincount() / len(turns)).tolist() == pytest.approx([0.8, *[0.2 / 3] * 3], abs=0.03)
    assert (shifts != 0).float().mean() == pytest.approx(0.1, abs=0.03)


def test_the_teacher_starts_as_a_copy_and_follows_after_the_step():
    run = Pretraining(small("voco"), SCANS, device="cpu")
    (teacher,) = run.model.teacher
    pairs = list(zip(teacher.parameters(), run.model.student.parameters(), strict=True))
    assert all(torch.equal(one, other) and not one.requires_grad for one, other in pairs)
    before = [one.clone() for one, _ in pairs]
    run.step()
    moved = [0.9 * old + 0.1 * new for old, (_, new) in zip(before, pairs, strict=True)]
    for expected, (one, _) in zip(moved, pairs, strict=True):
        torch.testing.assert_close(one, expected)
    assert any(not torch.equal(one, other) for one, other in pairs)


@pytest.mark.parametrize(("updates", "kept"), [(10, 0.348678), (22, 0.098477), (44, 0.009698)])
def test_so_much_of_the_start_is_left_after_some_updates(updates, kept):
    method = small("voco").build()
    (teacher,) = method.teacher
    for weight in teacher.parameters():
        weight.fill_(1)
    for weight in method.student.parameters():
        weight.data.zero_()
    for _ in range(updates):
        method.after_step(None, 0.5)
    assert all(torch.allclose(weight, torch.tensor(kept), atol=1e-6) for weight in teacher.parameters())


def test_without_a_teacher_it_is_a_single_network():
    config = small("voco", momentum=None, form="paper", norm="layer", batch=2)
    method = config.build()
    assert method.teacher is None and not config.whole_batch
    views = draw_views(config, SCANS)
    terms, rows = method(views)
    vectors = method.student(views.crops[1])
    told = cosines(vectors[None, 3:], vectors[None, :3]).relu()
    assert rows is None
    torch.testing.assert_close(
        terms.overlapped[1] + terms.apart[1], sum(overlap_loss(told, views.shares[1:], "paper"))[0]
    )
    torch.testing.assert_close(terms.total, terms.overlapped + terms.apart + terms.bases)
    torch.testing.assert_close(terms.bases[1], bases_loss(vectors[None, :3], "paper")[0])


def test_with_layer_norm_a_region_has_its_own_value():
    config = small("voco", norm="layer", batch=2)
    method = config.build()
    terms, _ = method(draw_views(config, SCANS))
    for k in range(2):
        alone, _ = method(draw_views(replace(config, batch=1), SCANS, first=k))
        torch.testing.assert_close(torch.stack(alone)[:, 0], torch.stack(terms)[:, k], atol=1e-5, rtol=1e-5)


def test_student_and_teacher_are_told_apart():
    """l is the mean of two cosines: the student's crops with the teacher's bases, and the other way round."""
    config = small("voco", norm="layer", batch=1)
    method = config.build()
    (teacher,) = method.teacher
    for weight in teacher.parameters():
        weight += 0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    views = draw_views(config, SCANS)
    own, theirs = method.student(views.crops[0])[None], teacher(views.crops[0])[None]
    told = (cosines(own[:, 3:], theirs[:, :3]).relu() + cosines(theirs[:, 3:], own[:, :3]).relu()) / 2
    terms, _ = method(views)
    torch.testing.assert_close(terms.overlapped, overlap_loss(told, views.shares)[0])
    torch.testing.assert_close(terms.bases, bases_loss(own[:, :3]))


def test_pooled_levels_are_those_that_the_paper_joins():
    """48 + 96 + 192 + 768 channels at the paper's size, of which level 3 is left out."""
    options, config = VoCoOptions(hidden=4, out=4), replace(ENCODER, embed_dim=48, heads=(3, 6, 12, 24))
    assert options.build(config).student.head[0].in_features == 1104
    student = small("voco").build().student
    volume = torch.randn(2, 1, 32, 32, 32)
    maps = student.encoder(volume)
    joined = torch.cat([maps[level].mean((2, 3, 4)) for level in (0, 1, 2, 4)], 1)
    torch.testing.assert_close(student(volume), student.head(joined))


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="holds one base crop of"):
        pretrain(small("voco", crop=(16, 16, 16), steps=1), SCANS, progress=False, device="cpu")
    with pytest.raises(ValueError, match="must be at least two"):
        small("voco", bases=(1, 1, 1))
    with pytest.raises(ValueError, match="cannot be turned in their first two axes: turn must be 0"):
        small("voco", crop=(8, 4, 8))
    small("voco", crop=(8, 4, 8), turn=0)
    with pytest.raises(ValueError, match="unknown form 'printed': choose one of paper, code"):
        small("voco", form="printed")
    with pytest.raises(ValueError, match="flip must be from 0 to 1"):
        small("voco", flip=1.5)


def test_a_dry_run_says_how_many_crops_there_are():
    config = small("voco")
    (_, said), *_ = config.options.describe(ENCODER, draw_regions(config, SCANS))
    assert said.startswith("3 base crops and 2 random ones of a region, which overlap ")
