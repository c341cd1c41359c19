"""MAE3D: its losses against values computed elsewhere, what may not leak, and what the decoder reads."""

import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch

from s2dc_core.encoder import EncoderConfig
from s2dc_core.methods.mae3d import ERRORS, TARGETS, MAE3DOptions, masked_error, split_cells
from s2dc_core.methods.parts.masks import normalised, spread
from s2dc_core.pretraining import PretrainConfig, draw_views
from tests.methods.test_every_method import ENCODER, SCANS, small
from tests.methods.test_simmim import series

HIDDEN = torch.zeros(1, 8, dtype=torch.bool).index_fill_(1, torch.tensor([0, 3, 5]), True)


def sides(channels=1):
    return (split_cells(series(1, channels, 4, 4, 4, shift=shift), 2) for shift in (0, 0.5))


@pytest.mark.parametrize(
    ("target", "error", "expected"),
    [
        ("voxels", "absolute", 0.3426789859),
        ("voxels", "squared", 0.1371733433),
        ("normalised", "squared", 0.2459644386),
    ],
)
def test_the_losses_have_the_values_of_their_equations(target, error, expected):
    """Cells of 2^3 of a volume of 4^3, of which 0, 3 and 5 are hidden."""
    cells, made = sides()
    assert masked_error(cells, made, HIDDEN, target, error).item() == pytest.approx(expected, abs=1e-10)


def test_the_variance_of_a_cell_is_the_unbiased_one():
    """The biased one would give 0.2924877469; predicting 0 costs (v - 1) / v of v voxels, but for the 1e-6."""
    cells, made = sides()
    biased = (cells - cells.mean(-1, keepdim=True)) / (cells.var(-1, correction=0, keepdim=True) + 1e-6).sqrt()
    other = ((made - biased).square().mean(-1) * HIDDEN).sum() / 3
    assert other.item() == pytest.approx(0.2924877469, abs=1e-10)
    nothing = masked_error(cells, torch.zeros_like(cells), HIDDEN, "normalised", "squared").item()
    assert nothing == pytest.approx(0.8749978062, abs=1e-10) == pytest.approx(7 / 8, abs=1e-5)


def test_normalised_cells_have_mean_0_and_variance_1():
    cells = normalised(next(sides()), [-1])
    torch.testing.assert_close(cells.mean(-1), torch.zeros_like(cells[..., 0]), atol=1e-12, rtol=0)
    torch.testing.assert_close(cells.var(-1), torch.ones_like(cells[..., 0]), atol=1e-4, rtol=0)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("error", ERRORS)
def test_the_loss_is_the_one_of_a_loop(target, error):
    cells, made = (torch.from_numpy(np.random.default_rng(seed).normal(size=(2, 8, 5))) for seed in (0, 1))
    masked = torch.zeros(2, 8, dtype=torch.bool)
    masked[0, [1, 6]] = masked[1, [0, 2, 3]] = True
    for k, hidden in enumerate(([1, 6], [0, 2, 3])):
        errors = []
        for i in hidden:
            cell, own = cells[k, i].numpy(), made[k, i].numpy()
            if target == "normalised":
                cell = (cell - cell.mean()) / math.sqrt(cell.var(ddof=1) + 1e-6)
            errors.append(np.abs(own - cell).mean() if error == "absolute" else ((own - cell) ** 2).mean())
        assert masked_error(cells, made, masked, target, error)[k].item() == pytest.approx(np.mean(errors), abs=1e-12)


def test_two_channels_do_not_count_twice():
    """A code that divides by a mask of one channel grows with the channels."""
    one, other = (torch.full((1, channels, 4, 4, 4), 1.0) for channels in (1, 2))
    losses = [masked_error(split_cells(each, 2), torch.zeros(1, 8, 8 * each.shape[1]), HIDDEN) for each in (one, other)]
    assert losses[0].item() == losses[1].item() == 1


def test_cells_are_listed_as_the_tokens_of_their_level():
    volume = torch.arange(32**3).view(1, 1, 32, 32, 32)
    cells = split_cells(volume.float(), 8)
    assert torch.equal(cells[0, 1 * 16 + 2 * 4 + 3].view(8, 8, 8), volume[0, 0, 8:16, 16:24, 24:32].float())


def method_and_views(**changes):
    torch.manual_seed(0)
    config = small("mae3d", batch=1, **changes)
    method = config.build().double().eval()
    return method, draw_views(config, [s._replace(volume=s.volume.double()) for s in SCANS])


@pytest.mark.parametrize("cell", [4, 8, 16])
def test_what_is_hidden_is_not_seen_and_what_is_seen_does_not_count(cell):
    method, views = method_and_views(cell=cell)
    cells = views.masked.flatten(0, 1).unflatten(1, [32 // cell] * 3)
    voxels = spread(cells, cell)[:, None]
    noise = torch.randn_like(views.volume)
    made = method.make(views)
    assert torch.equal(made, method.make(views._replace(volume=torch.where(voxels, noise, views.volume))))
    assert not torch.equal(made, method.make(views._replace(volume=torch.where(voxels, views.volume, noise))))
    masked, own = views.masked.flatten(0, 1), split_cells(views.volume, cell)
    other = torch.where(masked[..., None], made, made + 7)
    for choice in product(TARGETS, ERRORS):
        assert torch.equal(masked_error(own, made, masked, *choice), masked_error(own, other, masked, *choice))


def test_every_hidden_cell_has_a_prediction_of_its_own():
    """Hidden cells differ by their places alone in the decoder, and by what lies around them."""
    method, views = method_and_views()
    made, hidden = method.make(views), views.masked.flatten(0, 1)
    rows = made[hidden]
    assert len(rows) == 48 and torch.pdist(rows).min() > 0


def test_the_share_is_exact():
    for cell, hidden in ((8, 48), (16, 6)):
        _, views = method_and_views(cell=cell)
        assert views.masked.sum() == hidden
    assert MAE3DOptions().ratio == 0.75


@pytest.mark.parametrize("target", TARGETS)
def test_every_weight_learns(target):
    config = small("mae3d", batch=1, target=target)
    method = config.build()
    terms, _ = method(draw_views(config, SCANS))
    terms.total.sum().backward()
    unused = [name for name, weight in method.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert [name for name in unused if not name.startswith("encoder.")] == [] and len(unused) < 12, unused


def test_a_flat_cell_gives_numbers():
    flat = [scan._replace(volume=scan.volume * 0 + 3) for scan in SCANS]
    config = small("mae3d", target="normalised")
    terms, _ = config.build()(draw_views(config, flat))
    assert torch.isfinite(terms.total).all()
    assert not normalised(torch.full((1, 2, 8), 3.0), [-1]).any()


def test_options_that_cannot_be():
    with pytest.raises(ValueError, match="cell 6 must be a multiple of the patch, 2, and divide sub_volume"):
        small("mae3d", cell=6)
    wide = replace(ENCODER, sub_volume=(96, 96, 96))
    with pytest.raises(ValueError, match="cell 24 must be a token of a level, one of 2, 4, 8, 16, 32 voxels"):
        small("mae3d", encoder=wide, cell=24)
    with pytest.raises(ValueError, match="nothing would be hidden, or nothing seen"):
        small("mae3d", cell=32)
    with pytest.raises(ValueError, match="heads cannot share a width of 25"):
        small("mae3d", width=25)
    for ratio in (0, 1, -0.5, 1.5):
        with pytest.raises(ValueError, match="ratio must lie between 0 and 1"):
            small("mae3d", ratio=ratio)
    with pytest.raises(ValueError, match="multiples of 32, a token of the last map"):
        small("mae3d", encoder=replace(ENCODER, sub_volume=(48, 48, 48)))


def test_a_cell_of_one_voxel_has_no_variance():
    encoder = EncoderConfig(patch=1, embed_dim=12, heads=(1, 2, 4, 8), window=2, use_v2=False, sub_volume=(16,) * 3)
    assert PretrainConfig(method="mae3d", encoder=encoder, cell=1).options.cell == 1
    with pytest.raises(ValueError, match="cells of more than one voxel"):
        PretrainConfig(method="mae3d", encoder=encoder, cell=1, target="normalised")
