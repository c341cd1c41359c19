"""PCRLv2: its similarity and weight against values computed elsewhere, its views, and what a term looks at."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from s2dc_core.geometry import warp
from s2dc_core.methods.parts.crops import cut, intersection_over_union
from s2dc_core.methods.pcrlv2 import PCRLv2Options, restoring_weight, similarity
from s2dc_core.pretraining import Pretraining, draw_views, pretrain
from s2dc_core.pretraining.regions import draw_regions
from tests.methods.test_every_method import ENCODER, SCANS, small

ONE = ([[1.0, 2.0, 0.0], [0.0, 1.0, 1.0]], [[1.0, 0.0, 1.0], [2.0, 1.0, 0.0]])
OTHER = ([[0.0, 1.0, 1.0], [1.0, 1.0, 1.0]], [[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
"""h and q of two views."""


def view(pair):
    return tuple(torch.tensor(each, dtype=torch.float64) for each in pair)


def test_similarity_has_the_value_of_its_equation():
    assert similarity(view(ONE), view(OTHER)).mean().item() == pytest.approx(-0.7325966871, abs=1e-9)
    torch.testing.assert_close(similarity(view(ONE), view(OTHER)), similarity(view(OTHER), view(ONE)))
    h = torch.randn(5, 7)
    torch.testing.assert_close(similarity((h, h), (h, h)), -torch.ones(5))
    torch.testing.assert_close(similarity((h, -h), (h, -h)), torch.ones(5))


def test_similarity_is_torchs_cosine_both_ways():
    h_a, q_a, h_b, q_b = torch.randn(4, 6, 9, dtype=torch.float64)
    expected = -(F.cosine_similarity(q_a, h_b) + F.cosine_similarity(q_b, h_a)) / 2
    torch.testing.assert_close(similarity((h_a, q_a), (h_b, q_b)), expected)


def test_no_gradient_goes_through_h():
    h_a, q_a, h_b, q_b = torch.randn(4, 6, 9, dtype=torch.float64).requires_grad_().unbind(0)
    grads = torch.autograd.grad(similarity((h_a, q_a), (h_b, q_b)).sum(), (h_a, q_a, h_b, q_b), allow_unused=True)
    assert grads[0] is None and grads[2] is None
    assert all(grad.abs().sum() > 0 for grad in (grads[1], grads[3]))


@pytest.mark.parametrize(("epoch", "weight"), [(0, 1), (60, 0.8535533906), (120, 0.5), (180, 0.1464466094), (240, 0)])
def test_the_weight_of_the_coarse_restoration_falls(epoch, weight):
    assert restoring_weight(epoch / 240) == pytest.approx(weight, abs=1e-9)


def test_it_falls_with_the_steps_and_a_checkpoint_holds_it(tmp_path):
    config = small("pcrlv2", steps=4)
    run = Pretraining(config, SCANS, device="cpu")
    seen = [run.model.beta.item()]
    for _ in range(4):
        run.step()
        seen.append(run.model.beta.item())
    assert seen == pytest.approx([restoring_weight(k / 4) for k in range(5)], abs=1e-6)
    assert "beta" in run.model.state_dict()
    terms = run.history[2]
    parts = terms.restored + terms.alike + terms.coarse + terms.local_alike
    assert terms.total == pytest.approx(parts, abs=1e-6)


def test_crops_overlap_and_local_ones_lie_about_them():
    config = small("pcrlv2", batch=8, pairs=3, locals=4, margin=2)
    region = (32, 32, 32)
    for plan in draw_regions(config, SCANS).plan:
        crops = plan["crops"]
        assert (intersection_over_union(crops[:, 0], crops[:, 1]) > 0.3).all()
        assert set(crops[:, :2, 3].unique().tolist()) <= {20, 24} and set(crops[:, 2:, 3].unique().tolist()) <= {8, 12}
        low = (crops[:, :2, :3].amin(1) - 2).clamp(min=0)
        high = ((crops[..., :3] + crops[..., 3:])[:, :2].amax(1) + 2).clamp(max=region[0])
        assert (crops[:, 2:, :3] >= low[:, None]).all()
        assert (crops[:, 2:, :3] + crops[:, 2:, 3:] <= high[:, None]).all()


def test_the_target_is_the_view_before_its_damage():
    """To the last bit; and the view without damage is the target."""
    config = small("pcrlv2", batch=2)
    regions = draw_regions(config, SCANS)
    views = config.build().views(regions)
    still = {"blur": 0.0, "noise": 0.0, "gamma": 0.0, "swapped": 0.0}
    calm = replace(config, **still)
    same = calm.build().views(draw_regions(calm, SCANS))
    assert torch.equal(views.clean, same.clean)
    torch.testing.assert_close(same.seen[:, :, 0], same.clean, atol=1e-5, rtol=1e-5)
    assert (views.seen[:, :, 0] - views.clean).abs().mean() > 0.05
    plan, number = regions.plan[1], 1
    *corner, side = plan["crops"][number, 0].tolist()
    crop = cut(regions.volume[1], corner, (side,) * 3, (32, 32, 32))[None]
    expected = warp(crop, plan["H"][number, 0][None], fill=regions.background[1:])
    torch.testing.assert_close(views.clean[1, number], expected[0])


def test_an_affine_may_mirror_the_first_axis():
    still = {"rotation_deg": 0.0, "scale": (1.0, 1.0)}
    mirrored, plain = (small("pcrlv2", flip=chance, **still) for chance in (1.0, 0.0))
    sides = [config.build().views(draw_regions(config, SCANS)) for config in (mirrored, plain)]
    torch.testing.assert_close(sides[0].clean, sides[1].clean.flip(3))


def test_so_many_cells_are_exchanged():
    plan = draw_regions(small("pcrlv2", swapped=0.2), SCANS).plan[0]
    cells = (32 // 4) ** 3
    assert plan["swaps"].shape == (2, 2, 2, int(0.2 * cells / 2))
    for each in plan["swaps"].flatten(0, 1):
        assert len(each.unique()) == each.numel() and each.max() < cells
    assert draw_regions(small("pcrlv2", swapped=0.0), SCANS).plan[0]["swaps"].numel() == 0


def terms_by_hand(method, views):
    """Pair by pair, local by local, with the heads' rows as forward gives them."""
    encoder, decoder, heads = method.encoder, method.decoder, method.heads
    regions, pairs, locals_ = views.local.shape[:3]
    decoded = decoder(encoder(views.seen.flatten(0, 2)))
    near = decoder(encoder(views.local.flatten(0, 2)))
    rows = []
    for head, cells, local in zip(heads, decoded, near, strict=False):
        rows.append((head(cells[0::2]), head(cells[1::2]), head(local)))
    found = []
    for pair in range(regions * pairs):
        clean = views.clean.flatten(0, 1)[pair]
        scale, *others = views.scales.flatten(0, 1)[pair].tolist()
        pick = [[tuple(side[pair] for side in rows[s][v]) for v in (0, 1)] for s in range(3)]
        alike = similarity(*pick[scale])
        small_one = heads[scale].restore(decoded[scale][2 * pair][None])
        up = F.interpolate(small_one, size=clean.shape[1:], mode="trilinear")[0]
        near_terms = []
        for local in range(locals_):
            for v in (0, 1):
                s = others[2 * local + v]
                own = tuple(side[pair * locals_ + local] for side in rows[s][2])
                near_terms.append(similarity(own, pick[s][v]))
        restored = (method.restore(decoded[-1][2 * pair][None])[0] - clean).square().mean()
        coarse = method.beta * (up - clean).square().mean()
        found.append(torch.stack([restored, alike, coarse, torch.stack(near_terms).mean()]))
    return torch.stack(found).unflatten(0, (regions, pairs)).mean(1)


def test_the_loss_is_that_of_naive_loops():
    config = small("pcrlv2", batch=2, pairs=2, locals=2)
    method = config.build()
    method.after_step(None, 0.3)
    views = draw_views(config, SCANS)
    assert views.scales.unique().tolist() == [0, 1, 2]
    terms, rows = method(views)
    expected = terms_by_hand(method, views)
    torch.testing.assert_close(torch.stack(terms[1:], 1), expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(terms.total, expected.sum(1), atol=1e-5, rtol=1e-4)
    assert rows is None


def test_every_local_view_counts():
    """One of the later copies of the method looks at the first local view alone."""
    config = small("pcrlv2", batch=1, locals=3, norm="layer")
    method = config.build()
    views = draw_views(config, SCANS)
    before = method(views)[0].local_alike
    for number in range(3):
        changed = views.local.clone()
        changed[:, :, number] = changed[:, :, number].flip(2) * 2
        assert not torch.allclose(method(views._replace(local=changed))[0].local_alike, before, atol=1e-6)


def test_view_2_is_not_restored():
    config = small("pcrlv2", batch=1, norm="layer")
    method = config.build()
    views = draw_views(config, SCANS)
    changed = views.seen.clone()
    changed[:, :, 1] = 0
    one, other = (method(each)[0] for each in (views, views._replace(seen=changed)))
    assert torch.equal(one.restored, other.restored) and torch.equal(one.coarse, other.coarse)
    assert not torch.equal(one.alike, other.alike)


def test_with_layer_norm_a_region_has_its_own_value():
    config = small("pcrlv2", norm="layer", batch=2, pairs=1)
    assert not config.whole_batch
    method = config.build()
    terms, _ = method(draw_views(config, SCANS))
    for k in range(2):
        alone, _ = method(draw_views(replace(config, batch=1), SCANS, first=k))
        torch.testing.assert_close(torch.stack(alone)[:, 0], torch.stack(terms)[:, k], atol=1e-5, rtol=1e-4)


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match=r"a crop of 48\^3 voxels \(global_sides\) is larger than a region of"):
        pretrain(small("pcrlv2", global_sides=(20, 48), steps=1), SCANS, progress=False, device="cpu")
    with pytest.raises(ValueError, match="pcrlv2 sets the pairs of global crops of a batch against each other"):
        pretrain(small("pcrlv2", pairs=1, batch=1), SCANS, progress=False, device="cpu")
    with pytest.raises(ValueError, match=r"sub_volume \[48, 48, 48\] must be multiples of 32, a token at level 4"):
        small("pcrlv2", encoder=replace(ENCODER, sub_volume=(48, 48, 48)))
    with pytest.raises(ValueError, match="local_sides .* must not exceed global_sides"):
        small("pcrlv2", local_sides=(8, 22))
    with pytest.raises(ValueError, match="must be a cube"):
        small("pcrlv2", encoder=replace(ENCODER, sub_volume=(32, 32, 64)))
    with pytest.raises(ValueError, match="swap_cell 5 must divide"):
        small("pcrlv2", swap_cell=5)
    with pytest.raises(ValueError, match="local_size 16 must be .* larger than 16, or a norm of use_v2 has one token"):
        small("pcrlv2", encoder=replace(ENCODER, use_v2=True))
    with pytest.raises(ValueError, match="scale must be a range of positive factors"):
        PCRLv2Options(scale=(1.2, 0.8))


def test_a_dry_run_says_how_many_views_there_are():
    config = small("pcrlv2")
    (_, said), *_ = config.options.describe(ENCODER, draw_regions(config, SCANS))
    assert said == "each pair has 1 local crops of 16^3"


def test_a_pair_of_each_of_several_regions_is_a_batch():
    run = Pretraining(small("pcrlv2", pairs=1, batch=2), SCANS, device="cpu")
    assert all(map(math.isfinite, run.step()))


def test_cells_of_one_voxel_are_swapped_too():
    config = small("pcrlv2", swap_cell=1)
    plan = draw_regions(config, SCANS).plan[0]
    assert plan["swaps"].max() < 32**3 and plan["swaps"].min() >= 0
    assert torch.isfinite(draw_views(config, SCANS).seen).all()
