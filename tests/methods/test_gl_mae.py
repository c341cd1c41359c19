"""GL-MAE: its terms against values computed elsewhere, what may not leak, and what teacher and centre do."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from s2dc_core.encoder import EncoderConfig
from s2dc_core.methods.gl_mae import GLMAEOptions, consistency
from s2dc_core.methods.parts.crops import cut
from s2dc_core.methods.parts.masks import masked_mean
from s2dc_core.pretraining import PretrainConfig, Pretraining
from s2dc_core.pretraining.regions import draw_regions
from tests.methods.test_every_method import ENCODER, SCANS, small

TOLD, TAUGHT = (torch.tensor(each, dtype=torch.float64) for each in ([0.2, -0.1, 0.4, 0.0], [0.5, 0.1, -0.3, 0.2]))


@pytest.mark.parametrize(("temperature", "expected"), [(0.04, 2.1499968023), (0.07, 2.1855286712)])
def test_consistency_has_the_value_of_its_equation(temperature, expected):
    assert consistency(TAUGHT, TOLD, temperature, 0.1).item() == pytest.approx(expected, abs=1e-10)


def test_consistency_is_the_one_of_a_loop():
    random = np.random.default_rng(0)
    taught, told, centre = random.normal(size=(3, 5)), random.normal(size=(3, 5)), random.normal(size=5)
    found = consistency(*map(torch.from_numpy, (taught, told)), 0.3, 0.7, torch.from_numpy(centre))
    for k in range(3):
        t, s = np.exp((taught[k] - centre) / 0.3), np.exp(told[k] / 0.7)
        expected = -sum(p * math.log(q) for p, q in zip(t / t.sum(), s / s.sum(), strict=True))
        assert found[k].item() == pytest.approx(expected, abs=1e-12)


def test_closed_forms_of_consistency():
    """ln K where the student says nothing, or the teacher; the teacher's entropy where both say the same."""
    nothing = torch.zeros_like(TOLD)
    assert consistency(TAUGHT, nothing, 0.04, 0.1).item() == pytest.approx(math.log(4), abs=1e-12)
    assert consistency(TAUGHT, nothing, 0.04, 0.1, TAUGHT).item() == pytest.approx(math.log(4), abs=1e-12)
    p = (TAUGHT / 0.04).softmax(0)
    assert consistency(TAUGHT, TAUGHT, 0.04, 0.04).item() == pytest.approx(-(p * p.log()).sum().item(), abs=1e-12)
    assert consistency(TAUGHT, TAUGHT * 1e4, 0.04, 0.04).isfinite()


def built(**changes):
    config = small("gl_mae", **{"locals": 2, **changes})
    torch.manual_seed(0)
    method = config.build().double().eval()
    return method, draw_regions(config, [s._replace(volume=s.volume.double()) for s in SCANS])


def test_the_views_are_the_crops_that_were_planned():
    method, regions = built()
    views = method.views(regions)
    assert views.volume.shape == (8, 1, 32, 32, 32) and views.masked.shape == (2, 4, 64)
    for k, (volume, plan) in enumerate(zip(regions.volume, regions.plan, strict=True)):
        sides = plan["crops"][:, 3].tolist()
        assert set(sides[:2]) <= {24, 28} and set(sides[2:]) <= {12, 16}
        for view, (*corner, side) in zip(views.volume[4 * k : 4 * k + 4], plan["crops"].tolist(), strict=True):
            assert torch.equal(view, cut(volume, corner, (side,) * 3, (32, 32, 32)))
    assert (views.masked.sum(2) == 39).all(), "six tenths of 64 cells, rounded up"


def test_the_terms_are_the_ones_of_a_loop_over_views():
    """Of one view after the other, each of the student's with its mask, the teacher's without."""
    method, regions = built(weights=(1.0, 2.0, 3.0, 4.0))
    with torch.no_grad():
        method.centre.normal_(std=0.3)
        for weight in method.teacher.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
        views = method.views(regions)
        terms, rows = method(views)
        assert rows.shape == (4, 16)
        volumes, hidden = views.volume.unflatten(0, (2, 4)), method.over(views.masked)[:, None].unflatten(0, (2, 4))
        for b in range(2):
            errors, told = [], []
            for v in range(4):
                one = views._replace(volume=volumes[b, v][None], masked=views.masked[b, v][None, None])
                last = method.look(one)[-1]
                off = (method.decoder(last)[0] - volumes[b, v])[hidden[b, v]]
                errors.append(off.square().mean())
                told.append(method.head(last)[0])
            taught = [method.teacher[1](method.teacher[0](volumes[b, g][None])[-1])[0] for g in range(2)]

            def apart(g, v, taught=taught, told=told):
                wanted = ((taught[g] - method.centre) / 0.5).softmax(0)
                return -(wanted * told[v].log_softmax(0)).sum()

            expected = [
                (errors[0] + errors[1]) / 2,
                (errors[2] + errors[3]) / 2,
                (apart(0, 0) + apart(1, 1)) / 2,
                (apart(0, 2) + apart(0, 3) + apart(1, 2) + apart(1, 3)) / 4,
            ]
            torch.testing.assert_close(torch.stack(terms)[1:, b], torch.stack(expected), atol=1e-9, rtol=0)
            total = sum(weight * term for weight, term in zip((1, 2, 3, 4), expected, strict=True))
            assert terms.total[b].item() == pytest.approx(total.item(), abs=1e-9)


def test_what_is_hidden_does_not_leak_and_what_is_seen_does_not_count():
    method, regions = built()
    views = method.views(regions)
    hidden, noise = method.over(views.masked)[:, None], torch.randn_like(views.volume)
    with torch.no_grad():
        made = method.decoder(method.look(views)[-1])
        spoilt = views._replace(volume=torch.where(hidden, noise, views.volume))
        assert torch.equal(made, method.decoder(method.look(spoilt)[-1]))
        assert not torch.equal(method(views)[1], method(spoilt)[1]), "the teacher sees it"
        shown = torch.where(hidden, made, noise)
        assert torch.equal(masked_mean((made - shown).square(), hidden), torch.zeros(8, dtype=torch.float64))


def test_teacher_and_centre_move_after_the_step_alone():
    run = Pretraining(small("gl_mae", batch=1, accumulate=2, momentum=0.75, schedule="constant"), SCANS, device="cpu")
    method, taught = run.model, []
    method.register_forward_hook(lambda _module, _views, made: taught.append(made[1]))
    before = [weight.clone() for weight in method.teacher.parameters()]
    for old, own in zip(before, (*method.encoder.parameters(), *method.head.parameters()), strict=True):
        assert torch.equal(old, own), "it starts as a copy"
    run.step()
    assert len(taught) == 2 and not any(each.requires_grad for each in taught)
    torch.testing.assert_close(method.centre, 0.1 * torch.cat(taught).mean(0))
    students = (*method.encoder.parameters(), *method.head.parameters())
    for old, now, own in zip(before, method.teacher.parameters(), students, strict=True):
        torch.testing.assert_close(now, 0.75 * old + 0.25 * own.detach())
        assert not now.requires_grad


def test_every_weight_of_the_student_learns_but_none_of_the_teacher():
    method, regions = built()
    terms, _ = method.train()(method.views(regions))
    terms.total.sum().backward()
    without = [name for name, weight in method.named_parameters() if weight.grad is None or not weight.grad.any()]
    own = [name for name in without if not name.startswith("teacher.")]
    assert all(name.startswith("encoder.") for name in own) and len(own) < 12, own
    assert len(without) - len(own) == len(list(method.teacher.parameters()))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"local_sides": (12, 26)}, r"local_sides \[12, 26\] must not exceed global_sides \[24, 28\]"),
        ({"encoder": replace(ENCODER, sub_volume=(32, 32, 64))}, r"sub_volume \[32, 32, 64\] must be a cube"),
        ({"cell": 32}, "nothing would be hidden, or nothing seen"),
        ({"ratio": 1}, "ratio must lie between 0 and 1"),
        ({"prototypes": 1}, "prototypes must be at least 2"),
        ({"weights": (1, 1, 1)}, "weights must be 4 weights, finite, not negative and not all 0"),
    ],
)
def test_what_cannot_be_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        small("gl_mae", **values)


def test_a_crop_larger_than_the_region_is_refused_before_the_run():
    with pytest.raises(ValueError, match=r"a crop of 40\^3 voxels \(global_sides\) is larger than a region of"):
        Pretraining(small("gl_mae", global_sides=(24, 40)), SCANS, device="cpu")


def test_its_recipes():
    teaching, paper = (PretrainConfig.from_recipe(f"{name}/gl_mae").options for name in ("teaching", "paper"))
    assert all((each.ratio, each.globals, each.locals) == (0.6, 2, 8) for each in (teaching, paper, GLMAEOptions()))
    assert paper.cell == 16 and GLMAEOptions().weights == paper.weights == (1.0, 1.0, 1.0, 1.0)
    assert EncoderConfig().sub_volume == PretrainConfig.from_recipe("paper/gl_mae").encoder.sub_volume
