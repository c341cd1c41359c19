"""SimCLR: its loss is NT-Xent of both views' projections, whatever the batch is split into."""

from dataclasses import replace

import pytest
import torch

from s2dc_core.methods.parts.contrast import nt_xent
from s2dc_core.methods.simclr import SimCLROptions
from s2dc_core.pretraining import PretrainConfig, Pretraining, draw_views, pretrain
from s2dc_core.pretraining.regions import draw_regions
from tests.methods.series import series
from tests.methods.test_every_method import ENCODER, SCANS, small

A, B = series(4, 384), series(4, 384, shift=1)


def made_of(rows, **options):
    """A method whose encoder gives these maps, its projector left out."""
    method = SimCLROptions(norm="none", layers=1, out=384, **options).build(replace(ENCODER, embed_dim=24))
    method.projector = torch.nn.Identity()
    method.encoder.forward = lambda _volume: [rows[..., None, None, None]]
    return method


@pytest.mark.parametrize(("form", "times"), [("paper", 1), ("code", 2)])
def test_the_code_adds_both_directions(form, times):
    """Twice the printed loss, and a projector whose output is normalised; see the source's loss in test_contrast."""
    method, (one, other) = made_of(torch.cat([A, B]), form=form), torch.zeros(2, 2, 2, 1, 1, 1, 1).double()
    method.eval()
    found = method.forward(type(draw_views(small("simclr"), SCANS))(one, other))[0].total
    expected = times * nt_xent(A, B, 0.5).view(2, 2).mean(1)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)
    built = SimCLROptions(form=form, norm="batch", layers=3, hidden=8, out=4).build(ENCODER).projector
    assert [type(layer).__name__ for layer in built].count("SharedBatchNorm") == times + 1


def test_regions_of_several_sub_volumes_are_told_apart_too():
    """Two regions of two sub-volumes: a batch of four pairs, whose mean is that over all eight views."""
    config = small("simclr", sub_volumes=(2, 1, 1))
    wide = [
        scan._replace(volume=scan.volume.repeat(1, 3, 2, 2), foreground=scan.foreground.repeat(3, 2, 2))
        for scan in SCANS
    ]
    method, views = config.build(), draw_views(config, wide)
    assert views.one.shape == (2, 2, 1, 32, 32, 32)
    with torch.no_grad():
        terms, _ = method(views)
        rows = method.projector(method.encoder(views.together())[-1].flatten(1))
    assert terms.total.mean().item() == pytest.approx(nt_xent(*rows.chunk(2), 0.5).mean().item(), abs=1e-6)


def test_both_views_are_drawn_alike_and_are_not_the_same():
    views = draw_views(small("simclr"), SCANS)
    assert not torch.allclose(views.one, views.other)
    plan = draw_regions(small("simclr"), SCANS).plan[0]
    assert {name: tuple(value.shape) for name, value in plan.items()} == {
        "H": (2, 1, 4, 4), "changes": (2, 1, 3), "seeds": (2, 1)
    }  # fmt: skip


def test_a_batch_of_one_is_refused_before_a_step():
    config = small("simclr", batch=1)
    message = "simclr sets the sub-volumes of a batch against each other and needs at least 2; batch=1 holds 1 where"
    with pytest.raises(ValueError, match=message):
        pretrain(config, SCANS, progress=False, device="cpu")
    with pytest.raises(ValueError, match="the others of its batch, and there is none"):
        Pretraining(config, SCANS, device="cpu").step()
    # A scan that is smaller than two sub-volumes gives one, whatever the recipe asks for.
    with pytest.raises(ValueError, match="batch=1 holds 1 where regions are of blobs"):
        pretrain(replace(config, sub_volumes=(2, 1, 1)), SCANS, progress=False, device="cpu")


def test_a_scan_that_is_missing_since_a_checkpoint_does_not_hinder_the_check():
    """Of such a one there is only the text of its facts."""
    run = Pretraining(small("simclr", batch=1), SCANS, device="cpu")
    run.facts = [str(run.facts[0]), run.facts[1]]
    with pytest.raises(ValueError, match="batch=1 holds 1 where regions are of other"):
        run.refuse_few_parts()


def test_teaching_and_paper_differ_in_the_form_of_the_code():
    teaching, paper = (PretrainConfig.from_recipe(f"{name}/simclr").options for name in ("teaching", "paper"))
    assert (teaching.form, paper.form, paper.layers, paper.norm, paper.temperature) == (
        "paper",
        "code",
        3,
        "batch",
        0.1,
    )
