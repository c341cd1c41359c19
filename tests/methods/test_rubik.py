"""Rubik++: turns of layers and how they are undone, restoration, and the critic that may be added."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from s2dc_core.methods.rubik import RubikOptions, draw_turns, turn_layers
from s2dc_core.pretraining import PretrainConfig, pretrain
from s2dc_core.pretraining.regions import draw_regions
from tests.methods.test_every_method import ENCODER, SCANS, small

CUBE = torch.arange(64.0).view(1, 4, 4, 4)
WIDE = [
    scan._replace(
        volume=F.interpolate(scan.volume[None], size=(64, 64, 64), mode="trilinear")[0],
        foreground=torch.ones(64, 64, 64, dtype=torch.bool),
    )
    for scan in SCANS
]


def after(*turns, volume=CUBE, layers=2):
    return turn_layers(volume, torch.tensor(turns).view(-1, 3), layers)


def undone(turns):
    """The turns that undo some: in reverse, by 4 - k quarters."""
    back = turns.flip(0).clone()
    back[:, 2] = (4 - back[:, 2]) % 4
    return back


def views_of(**changes):
    config = small("rubik", **{"sub_volumes": (2, 1, 1), "critic": 0, **changes})
    method, regions = config.build(), draw_regions(config, WIDE)
    return method, regions, method.views(regions)


def test_the_upper_half_turned_by_a_quarter():
    found = after((0, 1, 1))[0]
    assert found[2, 0].tolist() == [35, 39, 43, 47] and found[3, 3].tolist() == [48, 52, 56, 60]
    assert (found != CUBE[0]).sum() == 32 and torch.equal(found[:2], CUBE[0, :2])
    assert torch.equal(after((0, 1, 1), (0, 1, 3)), CUBE)


def test_turns_of_layers_are_those_of_rot90():
    cube = np.arange(2 * 6**3).reshape(2, 6, 6, 6)
    for axis, layer, k in np.ndindex(3, 3, 4):
        expected, window = cube.copy(), [slice(None)] * 4
        window[1 + axis] = slice(2 * layer, 2 * layer + 2)
        plane = [1 + each for each in range(3) if each != axis]
        expected[tuple(window)] = np.rot90(cube[tuple(window)], k, plane)
        found = after((axis, layer, k), volume=torch.from_numpy(cube).float(), layers=3)
        assert np.array_equal(found.numpy(), expected)


def test_turns_about_two_axes_do_not_commute():
    assert not torch.equal(after((0, 1, 1), (1, 1, 1)), after((1, 1, 1), (0, 1, 1)))
    assert torch.equal(after((0, 0, 1), (0, 1, 3)), after((0, 1, 3), (0, 0, 1)))


@pytest.mark.parametrize("layers", [2, 4])
def test_in_reverse_they_restore_every_bit(layers):
    volume = torch.randn(2, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    for turns in draw_turns((2, 9), layers, 20, torch.Generator().manual_seed(1)):
        turned = turn_layers(volume, turns, layers)
        assert torch.equal(turn_layers(turned, undone(turns), layers), volume)
        assert not torch.equal(turned, volume)
        assert torch.equal(turned.flatten(1).sort(1).values, volume.flatten(1).sort(1).values)


def test_turns_are_as_many_as_asked_and_no_two_in_a_row_about_one_axis():
    turns = draw_turns((2, 4), 3, 600, torch.Generator().manual_seed(0)).long()
    count = (turns[..., 2] > 0).sum(1)
    assert turns.shape == (600, 4, 3) and count.bincount(minlength=5)[2:].min() > 160 and count.min() == 2
    assert (turns[:, 1:, 0] != turns[:, :-1, 0]).all()
    for column, values in enumerate((3, 3, 4)):
        shares = turns[:, :2, column].flatten().bincount(minlength=values)[int(column == 2) :] / 1200
        assert shares.min() > 0.29 and shares.max() < 0.37
    assert draw_turns((1, 1), 2, 5).shape == (5, 1, 3)


def test_views_are_the_sub_volumes_turned_by_the_plan():
    method, regions, views = views_of()
    assert views.turned.shape == views.target.shape == (2, 2, 1, 32, 32, 32)
    for region in (0, 1):
        for part in (0, 1):
            own = regions.volume[region, :, 32 * part : 32 * part + 32, :32, :32]
            assert torch.equal(views.target[region, part], own)
            turns = regions.plan[region]["turns"][part]
            assert torch.equal(views.turned[region, part], turn_layers(own, turns, 2))
            assert not torch.equal(views.turned[region, part], own)


def test_without_a_critic_it_is_restoration_alone():
    method, _, views = views_of()
    with torch.no_grad():
        terms, rows = method(views)
        made = method.decoder(method.encoder(views.turned.flatten(0, 1))).view_as(views.target)
    for region in (0, 1):
        torch.testing.assert_close(terms.total[region], (made[region] - views.target[region]).abs().mean())
    assert method.critic is None and not terms.told.any() and not terms.fooled.any() and rows is None
    assert not [name for name in method.state_dict() if "critic" in name]


def test_a_decoder_that_changes_nothing_has_what_the_dry_run_says():
    method, regions, views = views_of()
    ((name, said),) = method.options.describe(ENCODER, regions)
    method.decoder.forward = lambda maps: views.turned.flatten(0, 1)
    off = method(views)[0].total.mean()
    same = (views.turned == views.target).float().mean()
    assert (name, said) == ("turns", f"a decoder that changes nothing has {off:.3f}, {same:.0%} of it 0") and off > 0.1


def test_a_critic_that_knows_nothing_has_twice_log_2():
    method, _, views = views_of(critic=0.5)
    for layer in method.critic:
        if hasattr(layer, "weight"):
            torch.nn.init.zeros_(layer.weight), torch.nn.init.zeros_(layer.bias)
    terms, _ = method(views)
    assert terms.told.tolist() == pytest.approx([2 * math.log(2)] * 2, abs=1e-6)
    assert terms.fooled.tolist() == pytest.approx([math.log(2)] * 2, abs=1e-6)
    torch.testing.assert_close(terms.total, terms.restoration + 0.5 * (terms.told + terms.fooled))


def test_the_critics_terms_are_naive_ones():
    method, _, views = views_of(critic=1)
    with torch.no_grad():
        terms, _ = method(views)
        made = method.decoder(method.encoder(views.turned.flatten(0, 1))).view_as(views.target)
        for region in (0, 1):
            real, fake = method.critic(views.target[region]).sigmoid(), method.critic(made[region]).sigmoid()
            torch.testing.assert_close(terms.told[region], -(real.log() + (1 - fake).log()).mean())
            torch.testing.assert_close(terms.fooled[region], -fake.log().mean())


def test_the_critic_learns_what_it_told_and_the_others_what_they_restored_and_whom_they_fooled():
    method, _, views = views_of(critic=1)
    terms, _ = method(views)
    for term, theirs in (("restoration", False), ("fooled", False), ("told", True)):
        method.zero_grad()
        getattr(terms, term).sum().backward(retain_graph=True)
        reached = {
            name.split(".")[0]
            for name, weight in method.named_parameters()
            if weight.grad is not None and weight.grad.any()
        }
        assert reached == ({"critic"} if theirs else {"encoder", "decoder"})


def test_voxels_that_are_no_cubes_are_refused():
    flat = [scan._replace(spacing=(1.0, 2.0, 1.0)) for scan in SCANS]
    with pytest.raises(ValueError, match="voxels of 1 x 2 x 1 mm are no cubes"):
        pretrain(small("rubik", steps=1), flat, progress=False, device="cpu")
    pretrain(small("rubik", steps=1, anisotropy=2), flat, progress=False, device="cpu")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"encoder": replace(ENCODER, sub_volume=(32, 32, 64))}, "must have equal sides where it is turned"),
        ({"layers": 3}, "must be multiples of 3 layers"),
        ({"layers": 1}, "layers must be at least 2"),
        ({"encoder": replace(ENCODER, sub_volume=(48, 48, 48))}, "must be multiples of 32, a token at level 4"),
        ({"turns": (3, 2)}, "must be fewest and most turns"),
        ({"turns": (0, 2)}, "must be fewest and most turns"),
        ({"critic": -1}, "critic must be finite and not negative"),
    ],
)
def test_what_cannot_be_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        small("rubik", **values)


def test_its_recipes_are_restoration_alone():
    teaching, paper = (PretrainConfig.from_recipe(f"{name}/rubik").options for name in ("teaching", "paper"))
    assert teaching.critic == paper.critic == RubikOptions().critic == 0 and paper.decoder == "skips"
