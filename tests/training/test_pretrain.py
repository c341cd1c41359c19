"""The short pre-training: it learns, repeats itself, and stops on a loss that is not finite."""

import math

import pytest
import torch

from s2dc_core.data import Scan
from s2dc_core.losses import LossTerms
from s2dc_core.model import EncoderConfig
from s2dc_core.training import PretrainConfig, pretrain
from s2dc_core.training.pretrain import draw_views
from s2dc_core.views import ViewConfig

ENCODER = EncoderConfig(
    embed_dim=12, heads=(1, 2, 4, 8), window=4, depths=(1, 1, 1, 1), use_v2=False, sub_volume=(16,) * 3
)
NEAR = ViewConfig(counts=(1, 1, 1), rotation_deg=10, translation_mm=3)
CONFIG = PretrainConfig(encoder=ENCODER, hidden=32, out=16, views=NEAR, steps=25, batch=2, learning_rate=3e-3, warmup=2)


def blobs(seed=0, value=1.0):
    """A scan of smooth random blobs."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(1, 1, 6, 6, 6, generator=generator)
    volume = value * torch.nn.functional.interpolate(noise, size=(24, 24, 24), mode="trilinear")[0]
    everywhere = torch.ones(24, 24, 24, dtype=torch.bool)
    return Scan(volume, volume[0], None, (1.0, 1.0, 1.0), None, {}, "ct", 0.0, everywhere, "blobs")


def test_it_learns_to_tell_patches_apart():
    result = pretrain(CONFIG, [blobs(0), blobs(1)], progress=False)
    assert len(result.history) == 25 and not result.model.training
    first = sum(terms.patch_to_patch for terms in result.history[:5]) / 5
    last = sum(terms.patch_to_patch for terms in result.history[-5:]) / 5
    assert last < 0.9 * first


def test_the_same_seed_gives_the_same_run_and_another_seed_another():
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    config = PretrainConfig(**{**vars(CONFIG), "steps": 3})
    runs = [pretrain(config, [blobs()], progress=False) for _ in range(2)]
    assert torch.equal(torch.random.get_rng_state(), before)
    assert runs[0].history == runs[1].history
    other = PretrainConfig(**{**vars(config), "seed": 1})
    assert pretrain(other, [blobs()], progress=False).history != runs[0].history


def test_the_teacher_follows_the_student_and_l_g_sees_the_queue():
    result = pretrain(PretrainConfig(**{**vars(CONFIG), "steps": 3}), [blobs()], progress=False)
    start = CONFIG.build().teacher.state_dict()
    moved = [not torch.equal(start[name], value) for name, value in result.model.teacher.state_dict().items()]
    assert sum(moved) > len(moved) / 2
    # An empty queue leaves nothing to tell apart; then 2 negatives, then 4.
    assert result.history[0].contrast == 0
    assert 0 < result.history[1].contrast < math.log(3) + 5


def test_views_come_from_every_scan():
    config = PretrainConfig(**{**vars(CONFIG), "batch": 32})
    views = draw_views(config, [blobs(value=0.0), blobs(value=1.0)], torch.Generator().manual_seed(0))
    flat = views.source.abs().amax((1, 2, 3, 4)) == 0
    assert 4 < int(flat.sum()) < 28


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="at least one scan"):
        pretrain(CONFIG, [])
    with pytest.raises(FloatingPointError, match="not finite at step 0: LossTerms"):
        pretrain(CONFIG, [blobs(value=math.nan)], progress=False)
    with pytest.raises(ValueError, match="unknown preset 'best'"):
        pretrain(PretrainConfig(loss="best"), [blobs()])
    assert LossTerms._fields[0] == "total"
