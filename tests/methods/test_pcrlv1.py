"""PCRLv1: its contrast against values computed elsewhere, what is mixed and restored, and what its constant is."""

import itertools
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from s2dc_core.losses import info_nce
from s2dc_core.matching import unit_length
from s2dc_core.methods.parts.contrast import mean_of_exponentials
from s2dc_core.methods.parts.two_views import make_views
from s2dc_core.methods.pcrlv1 import PCRLv1Options, codes_of, posed
from s2dc_core.pretraining import Pretraining, draw_views
from s2dc_core.pretraining.regions import draw_regions
from tests.methods.parts.test_contrast import KEY, MEMORY, QUERY
from tests.methods.test_every_method import ENCODER, SCANS, small

UNDAMAGED = {"damage": {"shuffle": 0, "curve": 0, "paint": 0}, "blur": 0}


def test_infonce_beside_it_has_its_value():
    assert info_nce(QUERY, KEY, MEMORY, 0.2).item() == pytest.approx(0.5367398384, abs=1e-9)
    method = small("pcrlv1", contrast="info_nce").build()
    rows = [unit_length(torch.randn(3, 8, generator=torch.Generator().manual_seed(k))) for k in range(3)]
    found, _ = method.contrast(*rows)
    logits = [
        torch.cat([(rows[0] * key).sum(1, keepdim=True), rows[0] @ method.queue.features.T], 1) for key in rows[1:]
    ]
    expected = [F.cross_entropy(each / 0.2, torch.zeros(3, dtype=torch.long), reduction="none") for each in logits]
    torch.testing.assert_close(found, sum(expected) / 2)


def test_the_first_batch_sets_a_constant_that_is_no_whole_number_and_stays():
    run = Pretraining(small("pcrlv1", steps=3, samples=50), SCANS, device="cpu")
    model, views = run.model, draw_views(run.config, SCANS)
    assert model.constant.isnan() and torch.isfinite(model(views)[0].total).all() and model.constant.isnan()
    with torch.no_grad():
        rows = model(views)[1]
        query = model.project(model.projector, model.encoder(views.seen[0]))
    expected = 50 * mean_of_exponentials(query, rows[:, :-1], model.queue.negatives(), 0.2).mean()
    run.step()
    first = model.constant.item()
    assert first == pytest.approx(expected.item(), rel=1e-5) and abs(first - round(first)) > 1e-3
    assert model.constant.is_floating_point()
    run.step()
    assert model.constant.item() == first and "constant" in model.state_dict()


def test_the_queue_starts_at_random_and_takes_the_teachers_rows_alone():
    run = Pretraining(small("pcrlv1", steps=2), SCANS, device="cpu")
    before = run.model.queue.features.clone()
    torch.testing.assert_close(before.norm(dim=1), torch.ones(32))
    assert (before @ before.T).fill_diagonal_(0).abs().max() < 0.999
    views = draw_views(run.config, SCANS)
    with torch.no_grad():
        encoder, projector = run.model.teacher
        keys = unit_length(projector(encoder(views.seen[1])[-1].flatten(2).mean(-1)))
    run.step()
    after = run.model.queue.features
    torch.testing.assert_close(after[:2], keys, atol=1e-5, rtol=0)
    assert torch.equal(after[2:], before[2:])


def test_a_pose_is_a_turn_and_then_flips_and_has_its_own_code():
    volume = torch.arange(27.0).view(1, 1, 3, 3, 3)
    codes = set()
    for flips, turn in itertools.product(itertools.product((False, True), repeat=3), range(4)):
        given = torch.tensor([flips]), torch.tensor([turn])
        axes = [2 + axis for axis, flipped in enumerate(flips) if flipped]
        assert torch.equal(posed(volume, *given), volume.rot90(turn, (2, 3)).flip(axes))
        (code,) = codes_of(*given).tolist()
        assert code == [*map(float, flips), *(float(turn == k) for k in range(4))]
        codes.add(tuple(code))
    assert len(codes) == 32


def clean_of(config):
    """The region's views from 0 to 1, its plan and the method's views of it."""
    method, regions = config.build(), draw_regions(config, SCANS)
    low, high = (ends[:, None, None, None, None] for ends in regions.volume.flatten(1).aminmax(dim=1))
    unit = [((each - low) / (high - low)).clamp(0, 1) for each in make_views(regions, ENCODER.sub_volume)]
    return unit, (low, high), regions.plan, method.views(regions)


@pytest.mark.parametrize("damage", [{}, UNDAMAGED])
def test_what_is_wanted_is_clean_whatever_is_seen(damage):
    """One share mixes the maps and their target; without damage the clean views are seen, on the region's own scale."""
    (one, other), (low, high), plans, views = clean_of(small("pcrlv1", **damage))
    for number, plan in enumerate(plans):
        a = plan["share"][0].item()
        assert 0.5 <= a == views.share[number, 0].item() <= 1
        clean = one[number], other[number], a * one[number] + (1 - a) * other[number]
        for which, volume in enumerate(clean):
            turned = volume.rot90(int(plan["turns"][which, 0]), (1, 2))
            expected = turned.flip([1 + axis for axis in range(3) if plan["flips"][which, 0, axis]])
            torch.testing.assert_close(views.wanted[which, number], expected, atol=1e-6, rtol=0)
    assert views.wanted.min() >= 0 and views.wanted.max() <= 1
    seen = (views.seen - low) / (high - low)
    off = (seen - torch.stack([one, other])).abs().flatten(2).amax(2)
    assert (off < 1e-5).all() if damage else (off > 1e-2).any()


def by_hand(method, views):
    """Contrast and restorations, sub-volume by sub-volume, with what has no gradient detached."""
    encoder, projector = method.teacher
    queue, t, found = method.queue.features, method.options.temperature, []
    project = lambda head, maps: unit_length(head(maps[-1].flatten(2).mean(-1)))  # noqa: E731
    for n, a in enumerate(views.share.flatten().tolist()):
        mine, theirs = method.encoder(views.seen[0, n][None]), [m.detach() for m in encoder(views.seen[1, n][None])]
        mixed = [a * one + (1 - a) * other for one, other in zip(mine, theirs, strict=True)]
        query = project(method.projector, mine)
        keys = project(projector, theirs).detach(), project(method.projector, mixed).detach()
        errors = []
        for k, maps in enumerate((mine, theirs, mixed)):
            made = method.decoder(maps, views.codes[k, n][None])
            errors.append((made[0] - views.wanted[k, n]).square().mean())
        found.append(torch.stack([sum(info_nce(query, key, queue, t) for key in keys) / 2, sum(errors) / 3]))
    return torch.stack(found, 1)


def test_loss_and_gradient_are_those_of_loops():
    method, views = small("pcrlv1", contrast="info_nce", batch=3).build(), draw_views(small("pcrlv1", batch=3), SCANS)
    terms, _ = method(views)
    expected = by_hand(method, views)
    torch.testing.assert_close(torch.stack(terms[1:]), expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(terms.total, terms.contrast + terms.restored)
    weights = [weight for weight in method.parameters() if weight.requires_grad]
    one, other = (torch.autograd.grad(loss, weights) for loss in (terms.total.sum(), expected.sum()))
    for mine, theirs in zip(one, other, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=1e-3)
    assert not any(weight.requires_grad for weight in method.teacher.parameters())


def test_at_a_share_of_one_the_mixture_is_the_student():
    config = small("pcrlv1", contrast="info_nce")
    method, views = config.build(), draw_views(config, SCANS)
    views = views._replace(
        share=torch.ones_like(views.share), wanted=views.wanted[[0, 1, 0]], codes=views.codes[[0, 1, 0]]
    )
    terms, rows = method(views)
    query = method.project(method.projector, method.encoder(views.seen[0]))
    own, theirs = (info_nce(query, k, method.queue.features, 0.2, "none") for k in (query, rows[:, :-1]))
    torch.testing.assert_close(terms.contrast, (own + theirs) / 2)
    made = method.decoder(method.encoder(views.seen[0]), views.codes[0])
    first = (made - views.wanted[0]).square().flatten(1).mean(1)
    second = 3 * terms.restored - 2 * first
    made = method.decoder(method.teacher[0](views.seen[1]), views.codes[1])
    torch.testing.assert_close(second, (made - views.wanted[1]).square().flatten(1).mean(1), atol=1e-5, rtol=1e-4)


def test_every_restoration_is_told_its_pose():
    """The published code leaves the attention out where volumes are mixed."""
    config = small("pcrlv1")
    method, views = config.build(), draw_views(config, SCANS)
    before = method(views)[0].restored
    for which in range(3):
        codes = views.codes.clone()
        codes[which, :, 0] = 1 - codes[which, :, 0]
        assert (method(views._replace(codes=codes))[0].restored - before).abs().min() > 1e-8
    maps = method.encoder(views.seen[0])
    half = method.decoder(maps, views.codes[0])
    method.decoder.attention[-1].weight.data.zero_()
    method.decoder.attention[-1].bias.data.fill_(1e3)  # every channel as it is
    whole = method.decoder(maps, views.codes[0])
    assert not torch.allclose(half, whole) and torch.equal(whole, method.decoder(maps, views.codes[1]))


def test_zero_logits_restore_a_half():
    config = small("pcrlv1")
    method, views = config.build(), draw_views(config, SCANS)
    method.decoder.last.weight.data.zero_()
    method.decoder.last.bias.data.zero_()
    expected = (views.wanted - 0.5).square().flatten(2).mean(2).mean(0)
    torch.testing.assert_close(method(views)[0].restored, expected)


def test_the_teacher_follows():
    run = Pretraining(small("pcrlv1", momentum=0.9, steps=2, learning_rate=1e-3), SCANS, device="cpu")
    before = [weight.clone() for weight in run.model.teacher.parameters()]
    run.step()
    students = [*run.model.encoder.parameters(), *run.model.projector.parameters()]
    for old, new, student in zip(before, run.model.teacher.parameters(), students, strict=True):
        torch.testing.assert_close(new, 0.9 * old + 0.1 * student)
    assert not torch.equal(before[0], students[0])


def test_with_infonce_a_region_has_its_own_value():
    config = small("pcrlv1", contrast="info_nce")
    assert not config.whole_batch and small("pcrlv1").whole_batch
    method = config.build()
    together, _ = method(draw_views(config, SCANS))
    for k in range(2):
        alone, _ = method(draw_views(replace(config, batch=1), SCANS, first=k))
        torch.testing.assert_close(alone.total[0], together.total[k], atol=1e-5, rtol=1e-5)


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="must have 20 voxels a side at least"):
        small("pcrlv1", encoder=replace(ENCODER, sub_volume=(16, 16, 16)))
    with pytest.raises(ValueError, match="must have equal sides where it is turned"):
        small("pcrlv1", encoder=replace(ENCODER, sub_volume=(32, 48, 32)))
    with pytest.raises(ValueError, match="must be multiples of 32, a token at level 4"):
        small("pcrlv1", level=4, encoder=replace(ENCODER, sub_volume=(48, 48, 48)))
    with pytest.raises(ValueError, match="unknown contrast 'infonce': choose one of nce, info_nce"):
        PCRLv1Options(contrast="infonce")
