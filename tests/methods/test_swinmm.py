"""SwinMM: its errors against values computed elsewhere, what is hidden, and views that are undone exactly."""

import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from s2dc_core.methods.parts.masks import masked_mean, normalised, spread
from s2dc_core.methods.swinmm import EXCHANGES, SwinMMOptions, exchange
from s2dc_core.pretraining import pretrain
from s2dc_core.pretraining.regions import draw_regions
from tests.methods.test_every_method import ENCODER, SCANS, small
from tests.methods.test_swin_unetr import WIDE

CELLS = torch.zeros(8, dtype=torch.bool).index_fill_(0, torch.tensor([0, 3, 5, 6]), True).view(1, 2, 2, 2)
HIDDEN = spread(CELLS, 2)[:, None]


def views_of(scans=WIDE, **changes):
    config = small("swinmm", **changes)
    method, regions = config.build(), draw_regions(config, scans)
    return method, regions, method.views(regions)


def test_the_errors_have_the_values_of_their_equations():
    """Cells of 2^3 of a volume of 4^3, of which 0, 3, 5 and 6 are hidden."""
    x = (torch.arange(64, dtype=torch.float64) / 63).view(1, 1, 4, 4, 4)
    assert masked_mean(normalised(x, [1, 2, 3, 4]).square(), HIDDEN).item() == pytest.approx(0.9843637300, abs=1e-10)
    k = torch.arange(64, dtype=torch.float64).view(1, 1, 4, 4, 4)
    assert masked_mean((k.sin() - k.cos()).square(), HIDDEN).item() == pytest.approx(0.8317287137, abs=1e-10)


def test_a_unit_error_weighs_one_at_every_ratio():
    """The published code hides 1 - ratio and divides by the ratio: 3, 1 and 1/3 at 1/4, 1/2 and 3/4."""
    for ratio, published in ((0.25, 3), (0.5, 1), (0.75, 1 / 3)):
        _, _, views = views_of(ratio=ratio)
        masked = views.masked.double()
        assert ((1 - masked).mean() / ratio).item() == pytest.approx(published)
        assert masked_mean(torch.ones_like(masked), views.masked).tolist() == pytest.approx([1] * 4)


@pytest.mark.parametrize(("ratio", "hidden"), [(0.25, 16), (0.3, 19), (0.5, 32), (0.75, 48)])
def test_the_hidden_share_is_exact(ratio, hidden):
    _, _, views = views_of(ratio=ratio)
    assert views.masked.flatten(1).sum(1).tolist() == [hidden * 8**3] * 4
    assert hidden == round(64 * ratio)


def test_the_target_has_mean_0_and_variance_1():
    _, _, views = views_of()
    variance, mean = torch.var_mean(views.target.double(), (1, 2, 3, 4))
    assert mean.abs().max() < 1e-5 and (variance - 1).abs().max() < 1e-3
    _, regions, views = views_of(target="voxels")
    for number, plan in enumerate(regions.plan):
        for copy in (0, 1):
            own = torch.rot90(regions.volume[number], int(plan["turns"][copy]), (2, 3))
            assert torch.equal(views.target[2 * number + copy], own)


def test_exchanges_mirror_and_undo_themselves():
    volumes = torch.randn(4, 2, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    second = torch.tensor([True, False, True, False])[:, None, None, None, None]
    swapped = exchange(volumes, second)
    assert torch.equal(exchange(swapped, second), volumes)
    for k in range(4):
        assert torch.equal(swapped[k], volumes[k].transpose(1, 3 if k % 2 == 0 else 2))
        assert not torch.equal(swapped[k], volumes[k])
    assert [turn.handed for turn in EXCHANGES] == [-1, -1]


def test_what_is_hidden_has_the_value_of_air_and_the_rest_is_untouched():
    scans = [scan._replace(volume=scan.volume - 5, background=-7.5) for scan in WIDE]
    _, _, views = views_of(scans, target="voxels")
    own, exchanged = views.seen.chunk(2)
    assert torch.equal(own, torch.where(views.masked, torch.tensor(-7.5), views.target))
    assert torch.equal(exchange(exchanged, views.second), own)
    kinds = torch.stack([s for _ in range(8) for s in views_of(scans, seed=_)[2].second.flatten()])
    assert kinds.any() and not kinds.all()


def test_copies_have_masks_and_turns_of_their_own():
    _, _, views = views_of(batch=8)
    masks = views.masked.unflatten(0, (8, 2))
    assert all(not torch.equal(one, other) for one, other in masks)
    assert len(views.turns[:, 0].unique()) > 1 and not torch.equal(views.turns[:, 0], views.turns[:, 1])


def test_what_is_hidden_is_not_seen():
    """Whatever was there, the views and what is made of them are the same; but not where nothing is hidden."""
    method, regions, views = views_of(target="voxels")
    method.eval()
    masked = views.masked
    with torch.no_grad():
        for where, same in ((masked, True), (~masked, False)):
            changed = regions.volume.clone()
            for number, plan in enumerate(regions.plan):
                both = [
                    torch.rot90(where[2 * number + copy, 0], -int(plan["turns"][copy]), (1, 2)).unsqueeze(0)
                    for copy in (0, 1)
                ]
                changed[number] += 100 * (both[0] & both[1])
            other = method.views(regions._replace(volume=changed))
            assert not torch.equal(changed, regions.volume) and torch.equal(other.seen, views.seen) == same
            made = [method.decoder(method.encoder(each.seen)) for each in (views, other)]
            assert torch.equal(*made) == same


def test_its_terms_are_naive_ones():
    weights = (0.5, 1, 2, 3)
    method, _, views = views_of(sub_volumes=(1, 2, 1), weights=weights)
    method.eval()
    with torch.no_grad():
        terms, rows = method(views)
        maps = method.encoder(views.seen)
        mean, made = maps[-1].mean((2, 3, 4)), method.decoder(maps)
        logits, features = method.heads.rotation(mean[:8]), F.normalize(method.heads.contrast(mean[:8]), dim=-1)
    assert rows is None
    similar = (features @ features.T / 0.5).fill_diagonal_(-torch.inf)
    back = [made[8 + k].transpose(1, 3 if views.second[k] else 2) for k in range(8)]

    def hidden_error(one, other, k):
        mask = views.masked[k]
        return ((one - other).square() * mask).mean() / mask.float().mean()

    for region in (0, 1):
        own = range(4 * region, 4 * region + 4)
        each = {
            "rotation": [F.cross_entropy(logits[k], views.turns.flatten()[k]) for k in own],
            "contrast": [similar[k].logsumexp(0) - similar[k, k + 2 if k % 4 < 2 else k - 2] for k in own],
            "reconstruction": [
                hidden_error(made[k], views.target[k], k) + hidden_error(back[k], views.target[k], k) for k in own
            ],
            "agreement": [hidden_error(back[k], made[k], k) for k in own[:2]],
        }
        means = {name: torch.stack(values).mean() for name, values in each.items()}
        for name, value in means.items():
            torch.testing.assert_close(getattr(terms, name)[region], value)
        total = sum(weight * value for weight, value in zip(weights, means.values(), strict=True))
        torch.testing.assert_close(terms.total[region], total)


def test_what_is_made_of_visible_voxels_does_not_count():
    method, _, views = views_of()

    class Moved(torch.nn.Module):
        def __init__(self, decoder, where):
            super().__init__()
            self.decoder, self.where = decoder, where

        def forward(self, maps):
            return self.decoder(maps) + 5 * self.where

    decoder = method.decoder
    with torch.no_grad():
        before = torch.stack(method(views)[0])
        for where, same in ((~views.masked, True), (views.masked, False)):
            both = torch.cat([where.float(), exchange(where.float(), views.second)])
            method.decoder = Moved(decoder, both)
            after = torch.stack(method(views)[0])
            assert torch.allclose(after, before, atol=1e-5) == same


def test_all_passes_have_gradient_and_the_last_two_have_no_part_in_the_heads():
    method, _, views = views_of()
    seen = views.seen.clone().requires_grad_()
    terms, _ = method(views._replace(seen=seen))
    for term in (terms.rotation, terms.contrast):
        (gradient,) = torch.autograd.grad(term.sum(), seen, retain_graph=True)
        assert gradient[:4].flatten(1).any(1).all() and not gradient[4:].any()
    (gradient,) = torch.autograd.grad(terms.reconstruction.sum(), seen, retain_graph=True)
    assert gradient.flatten(1).any(1).all()
    (gradient,) = torch.autograd.grad(terms.agreement.sum(), seen)
    assert gradient.flatten(1).any(1).tolist() == [True, False] * 4


def test_a_flat_volume_gives_numbers():
    assert not normalised(torch.full((1, 1, 4, 4, 4), 3.0), [1, 2, 3, 4]).any()
    flat = [scan._replace(volume=scan.volume * 0 + 3) for scan in SCANS]
    method, _, views = views_of(flat)
    assert torch.isfinite(torch.stack(method(views)[0])).all()


def test_a_batch_of_one_is_refused():
    with pytest.raises(ValueError, match="needs at least 2; batch=1 holds 1"):
        pretrain(small("swinmm", batch=1), SCANS, progress=False, device="cpu")
    assert SwinMMOptions().whole_batch


def test_options_that_cannot_be():
    with pytest.raises(ValueError, match="cell 12 must be a multiple of the patch, 2, and divide sub_volume"):
        small("swinmm", cell=12)
    with pytest.raises(ValueError, match="nothing would be hidden, or nothing seen"):
        small("swinmm", cell=32)
    with pytest.raises(ValueError, match="must have equal sides where it is turned"):
        small("swinmm", about="z", encoder=replace(ENCODER, sub_volume=(32, 32, 64)))
    with pytest.raises(ValueError, match="ratio must lie between 0 and 1"):
        small("swinmm", ratio=1)
    with pytest.raises(ValueError, match="must be 4 weights"):
        small("swinmm", weights=(1, 1, math.nan, 1))
