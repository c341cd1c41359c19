"""Swin-UNETR's pretext: what is damaged and what is not, never NaN, and its terms against naive ones."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from s2dc_core.methods.parts.damage import Range
from s2dc_core.methods.swin_unetr import SwinUNETROptions
from s2dc_core.pretraining import pretrain
from s2dc_core.pretraining.regions import draw_regions
from s2dc_core.views import Region
from tests.methods.test_every_method import ENCODER, SCANS, small

BODY = torch.ones(64, 64, 64, dtype=torch.bool)
WIDE = [
    scan._replace(volume=F.interpolate(scan.volume[None], size=BODY.shape, mode="trilinear")[0], foreground=BODY)
    for scan in SCANS
]
"""Scans of several sub-volumes."""
PLAIN = Region(torch.empty(1, 32, 32, 32), *(BODY[:32, :32, :32],) * 2)


def views_of(**changes):
    config = small("swin_unetr", **changes)
    method, regions = config.build(), draw_regions(config, WIDE)
    return method, regions, method.views(regions)


def damaged_by_loops(turned, regions, noise):
    """Box by box, as the paper tells it; the noise of a box is whatever the views have there."""
    damaged, copies = turned.clone(), len(turned) // len(regions.plan)
    for number, plan in enumerate(regions.plan):
        for copy, a, b, c, x, y, z in plan["noise"].tolist():
            box = (number * copies + copy, slice(None), slice(a, a + x), slice(b, b + y), slice(c, c + z))
            damaged[box] = noise[box]
        for (copy, a, b, c, x, y, z), partner in zip(plan["swaps"].tolist(), plan["partner"].tolist(), strict=True):
            box = (slice(None), slice(a, a + x), slice(b, b + y), slice(c, c + z))
            damaged[number * copies + copy][box] = turned[number * copies + partner][box]
    return damaged


@pytest.mark.parametrize("counts", [(1, 1, 1), (1, 2, 1)])
def test_the_views_are_those_of_a_loop(counts):
    _, regions, views = views_of(sub_volumes=counts)
    assert torch.equal(views.damaged, damaged_by_loops(views.turned, regions, noise=views.damaged))
    assert not torch.equal(views.damaged, views.turned)


def test_what_no_box_covers_is_the_target():
    _, regions, views = views_of()
    free = torch.ones_like(views.turned, dtype=torch.bool)
    for number, plan in enumerate(regions.plan):
        for copy, a, b, c, x, y, z in torch.cat([plan["noise"], plan["swaps"]]).tolist():
            free[2 * number + copy, :, a : a + x, b : b + y, c : c + z] = False
    assert 0.3 < free.float().mean() < 1 and torch.equal(views.damaged[free], views.turned[free])


def test_the_target_is_the_region_turned_and_nothing_else():
    """Quarter turns keep every intensity; both copies are of one sub-volume."""
    _, regions, views = views_of()
    for number, plan in enumerate(regions.plan):
        for copy in (0, 1):
            own = torch.rot90(regions.volume[number], int(plan["turns"][copy]), (1, 2))
            assert torch.equal(views.turned[2 * number + copy], own)


def test_a_box_of_another_copy_is_never_its_own():
    _, regions, _ = views_of(sub_volumes=(1, 2, 1))
    for plan in regions.plan:
        assert len(plan["swaps"]) and (plan["partner"] != plan["swaps"][:, 0]).all()
        assert set(plan["partner"].tolist()) == set(range(4))


def test_noise_lies_in_the_range_of_its_region():
    """Whatever the scale of the scan, which a noise of 0 to 1 would miss."""
    for scale, shift in ((1, 0), (100, -1000), (0.01, 3)):
        scans = [scan._replace(volume=scan.volume * scale + shift) for scan in WIDE]
        config = small("swin_unetr")
        regions = draw_regions(config, scans)
        views = config.build().views(regions)
        low, span = (bound.flatten() for bound in Range.of(regions.volume))
        for number in (0, 1):
            own = views.damaged[2 * number : 2 * number + 2]
            changed = own[own != views.turned[2 * number : 2 * number + 2]]
            assert changed.min() >= low[number] - 1e-4 * span[number]
            assert changed.max() <= low[number] + 1.0001 * span[number]
            assert changed.std() > 0.1 * span[number]


def test_never_nan_where_the_published_damage_is_in_a_fifth():
    """Its boxes have 1 to 7 voxels a side at 32^3, and a box of one is 0 / 0."""
    one = torch.randn(1)
    assert ((one - one.min()) / (one.max() - one.min())).isnan().all()
    method, regions, _ = views_of(batch=8)
    draws = torch.Generator().manual_seed(0)
    volumes = 0
    for _ in range(15):
        plans = [method.options.plan(ENCODER, PLAIN, (1.0, 1.0, 1.0), lambda _name: draws) for _ in range(8)]
        views = method.views(regions._replace(plan=plans))
        assert torch.isfinite(views.damaged).all()
        assert all(plan["noise"][:, 4:].min() >= 2 for plan in plans)
        volumes += len(views.damaged)
    assert volumes == 240


def test_the_changed_share_is_the_one_measured_of_the_published_damage():
    """0.13 of the voxels after the noise and 0.26 after both."""
    method, regions, _ = views_of(batch=8)
    noise = torch.rand(8, 1, 32, 32, 32, generator=torch.Generator().manual_seed(0))
    draws, changed = torch.Generator().manual_seed(1), []
    for _ in range(10):
        plans = [method.options.plan(ENCODER, PLAIN, (1.0, 1.0, 1.0), lambda _name: draws) for _ in range(8)]
        plans = [{**plan, "turns": torch.tensor([0, 1])} for plan in plans]  # turned alike, a box would change nothing
        views = method.views(regions._replace(volume=noise, plan=plans))
        changed.append((views.damaged != views.turned).float().mean())
    assert torch.stack(changed).mean() == pytest.approx(0.26, abs=0.03)


def test_without_a_share_nothing_is_damaged():
    _, _, views = views_of(share=0)
    assert torch.equal(views.damaged, views.turned)


def test_a_regions_input_does_not_depend_on_its_batch():
    config = small("swin_unetr", batch=3)
    method = config.build()
    views = method.views(draw_regions(config, WIDE))
    for k in range(3):
        alone = method.views(draw_regions(replace(config, batch=1), WIDE, first=k))
        assert torch.equal(alone.damaged, views.damaged[2 * k : 2 * k + 2])


def test_its_terms_are_naive_ones():
    method, _, views = views_of(sub_volumes=(1, 2, 1), weights=(1, 0.5, 3))
    method.eval()
    with torch.no_grad():
        terms, rows = method(views)
        maps = method.encoder(views.damaged)
        mean = maps[-1].mean((2, 3, 4))
        logits, features = method.heads.rotation(mean), F.normalize(method.heads.contrast(mean), dim=-1)
        made = method.decoder(maps)
    assert rows is None and made.shape == views.turned.shape
    partner = {k: k + 2 if k % 4 < 2 else k - 2 for k in range(8)}
    similar = (features @ features.T / 0.5).fill_diagonal_(-torch.inf)
    for region in (0, 1):
        own = range(4 * region, 4 * region + 4)
        each = {
            "rotation": [F.cross_entropy(logits[k], views.turns.flatten()[k]) for k in own],
            "contrast": [similar[k].logsumexp(0) - similar[k, partner[k]] for k in own],
            "reconstruction": [(made[k] - views.turned[k]).abs().mean() for k in own],
        }
        means = {name: torch.stack(values).mean() for name, values in each.items()}
        for name, value in means.items():
            torch.testing.assert_close(getattr(terms, name)[region], value)
        total = means["rotation"] + 0.5 * means["contrast"] + 3 * means["reconstruction"]
        torch.testing.assert_close(terms.total[region], total)


def test_whether_stage_four_paints_is_where_the_decoder_starts():
    for level, reached in ((3, False), (4, True)):
        for decoder in ("transposed", "convolutions"):
            method, _, views = views_of(level=level, decoder=decoder)
            terms, _ = method(views)
            terms.reconstruction.sum().backward()
            stage = method.encoder.swinViT.layers4.parameters()
            assert any(weight.grad is not None and weight.grad.any() for weight in stage) == reached


def test_it_reads_tokens_where_there_are_two():
    """The first for the turn and the second for the contrast, as published."""
    method, _, views = views_of(encoder=replace(ENCODER, sub_volume=(64, 64, 64)), batch=1, sub_volumes=(1, 1, 1))
    torch.manual_seed(0)
    reads = type(method)(method.encoder.config, replace(method.options, read="tokens")).heads
    last = torch.randn(4, 192, 2, 2, 2, generator=torch.Generator().manual_seed(0))
    turns = torch.zeros(1, 4, dtype=torch.long)
    with torch.no_grad():
        before = reads(last, turns)
        other = last.clone()
        other[:, :, 0, 0, 0] += 1
        assert (reads(other, turns)[0] != before[0]).all() and torch.equal(reads(other, turns)[1], before[1])
        other = last.clone()
        other[:, :, 0, 0, 1] *= torch.arange(1, 5).view(4, 1) - 2.5
        assert torch.equal(reads(other, turns)[0], before[0]) and (reads(other, turns)[1] != before[1]).all()
        other = last.clone()
        other[:, :, 1] += 1
        assert torch.equal(torch.stack(reads(other, turns)), torch.stack(before))
    assert views.damaged.shape[2:] == (64, 64, 64)


def test_a_batch_of_one_is_refused():
    with pytest.raises(ValueError, match="needs at least 2; batch=1 holds 1"):
        pretrain(small("swin_unetr", batch=1), SCANS, progress=False, device="cpu")
    assert SwinUNETROptions().whole_batch


def test_options_that_cannot_be():
    for sides in ((0.3, 0.1), (0.1,), (0.1, 1.5)):
        with pytest.raises(ValueError, match="must be two shares"):
            small("swin_unetr", sides=sides)
    with pytest.raises(ValueError, match="share must be at most 1"):
        small("swin_unetr", share=1.1)
