"""The short pre-training: it learns, repeats itself, and stops on a loss that is not finite."""

import math

import pytest
import torch

from s2dc_core import streaming
from s2dc_core.data import Scan
from s2dc_core.encoder import EncoderConfig
from s2dc_core.geometry import Matches
from s2dc_core.losses import S2DCLoss
from s2dc_core.model import FeatureQueue
from s2dc_core.pretraining import PretrainConfig, Pretraining, pretrain
from s2dc_core.pretraining.regions import draw_views
from s2dc_core.training import peak_memory
from s2dc_core.views import ViewConfig
from tests.sampling import draw_tokens

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


@pytest.mark.parametrize("seed", range(3))
def test_it_learns_to_tell_patches_apart(seed):
    """With the views' motion off, a linear glance at the intensities is enough, so every seed must learn."""
    still = ViewConfig(counts=(1, 1, 1), rotation_deg=0, scale=(1, 1), translation_mm=0)
    config = PretrainConfig(**{**vars(CONFIG), "views": still, "steps": 40, "seed": seed})
    result = pretrain(config, [blobs(0), blobs(1)], progress=False)
    assert len(result.history) == 40 and not result.model.training
    first = sum(terms.patch_to_patch for terms in result.history[:5]) / 5
    last = sum(terms.patch_to_patch for terms in result.history[-5:]) / 5
    assert last < 0.8 * first


def test_the_learning_rate_warms_up_and_falls_to_nothing(monkeypatch):
    seen = []
    step = torch.optim.AdamW.step

    def spy(optimiser, *args, **kwargs):
        seen.append(optimiser.param_groups[0]["lr"])
        return step(optimiser, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", spy)
    pretrain(PretrainConfig(**{**vars(CONFIG), "steps": 6, "warmup": 2}), [blobs()], progress=False)
    rate = CONFIG.learning_rate
    assert seen == pytest.approx([rate / 2, rate, *(rate * 0.5 * (1 + math.cos(math.pi * k / 4)) for k in range(4))])


def test_views_get_the_scans_background_and_foreground():
    body = torch.zeros(24, 24, 24, dtype=torch.bool)
    body[:12] = True
    scan = blobs()._replace(background=-7.0, foreground=body)
    far = ViewConfig(counts=(1, 1, 1), translation_mm=12)
    config = PretrainConfig(**{**vars(CONFIG), "views": far, "batch": 4})
    views = draw_views(config, [scan])
    assert (views.target < -5).any()  # what the warp brings in from outside is the scan's air
    # Regions lie about the body, whose last third of the region is not part of it: no match may start there.
    source_x = views.matches[0].source // 16
    assert source_x.max() < 3


def test_the_official_preset_gets_batch_norm_and_raw_features_in_its_queue(monkeypatch):
    config = PretrainConfig(**{**vars(CONFIG), "loss": "official", "norm": None, "steps": 2})
    assert isinstance(config.build().student.pooled_head[1], torch.nn.BatchNorm1d)
    assert isinstance(CONFIG.build().student.pooled_head[1], torch.nn.LayerNorm)
    kept = []
    monkeypatch.setattr(FeatureQueue, "add", lambda queue, features: kept.append(features))
    pretrain(config, [blobs()], progress=False)
    assert not torch.allclose(kept[0].norm(dim=-1), torch.ones(2), atol=0.01)


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
    views = draw_views(config, [blobs(value=0.0), blobs(value=1.0), blobs(value=2.0)])
    flat = views.source.abs().amax((1, 2, 3, 4)) == 0
    rounds = flat[:30].unflatten(0, (10, 3))
    assert (rounds.sum(1) == 1).all()  # every scan once before any comes again,
    assert len(set(rounds.int().argmax(1).tolist())) == 3  # in an order that changes


def test_drawn_tokens_keep_their_partners():
    """Each kept match is a true one, each sample has matched tokens first and no token twice."""
    generators = [torch.Generator().manual_seed(k) for k in range(2)]
    student, teacher = torch.randn(2, 30, 5), torch.randn(2, 30, 5)
    matches = Matches(
        torch.tensor([0] * 12 + [1] * 3),
        torch.cat([torch.arange(12), torch.tensor([4, 9, 20])]),
        torch.cat([torch.arange(12) + 15, torch.tensor([8, 2, 11])]),
    )
    true = {tuple(int(v) for v in row) for row in zip(*matches, strict=True)}
    source, target, kept = draw_tokens(student, teacher, matches, 8, 3, generators)
    assert source.shape == target.shape == (6, 8, 5)
    assert kept.per_region(6).tolist() == [8, 8, 8, 3, 3, 3]

    def places(sample, tokens):
        return [int((tokens == token).all(-1).nonzero()) for token in sample]

    for row in range(6):
        region = row // 3
        here, there = places(source[row], student[region]), places(target[row], teacher[region])
        assert len(set(here)) == len(set(there)) == 8
        for k in range(int(kept.per_region(6)[row])):
            assert (region, here[k], there[k]) in true
    assert not torch.equal(source[0], source[1])


def test_the_structure_losses_of_all_drawn_tokens_are_those_of_all_tokens():
    loss = S2DCLoss.from_preset("default")
    tokens = [torch.nn.functional.normalize(torch.randn(1, 20, 6), dim=-1) for _ in range(2)]
    matches = Matches(torch.zeros(7, dtype=torch.long), torch.arange(7), torch.arange(7) + 5)
    drawn = draw_tokens(*tokens, matches, 20, 2, [torch.Generator().manual_seed(1)])
    for whole, sampled in zip(loss.structure_terms(*tokens, matches), loss.structure_terms(*drawn), strict=True):
        torch.testing.assert_close(whole, sampled)


def test_joined_levels_train_every_stage_up_to_the_coarsest():
    sizes = {"levels": (0, 1, 2), "joined": True, "token_head": "none", "matched_tokens": 30, "token_draws": 2}
    config = PretrainConfig(**{**vars(CONFIG), **sizes, "loss_options": {"contrast_weight": 0.0}})
    run = Pretraining(config, [blobs()])
    run.step()
    reached = {name.split(".")[1] for name, p in run.model.student.encoder.named_parameters() if p.grad is not None}
    assert reached == {"patch_embed", "layers1", "layers2"}


def test_bfloat16_runs_the_networks_and_leaves_the_losses_in_float32():
    config = PretrainConfig(**{**vars(CONFIG), "precision": "bfloat16", "steps": 3})
    run = Pretraining(config, [blobs()], device="cpu")
    terms, _ = run.forward(draw_views(config, run.scans))
    assert {term.dtype for term in terms} == {torch.float32}
    half = pretrain(config, [blobs()], progress=False, device="cpu").history
    whole = pretrain(
        PretrainConfig(**{**vars(config), "precision": "float32"}), [blobs()], progress=False, device="cpu"
    )
    assert half[0] != whole.history[0]
    assert half[0].patch_to_patch == pytest.approx(whole.history[0].patch_to_patch, rel=0.05)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_recipe_says_what_the_tokens_are_multiplied_in(precision, monkeypatch):
    """Whatever the networks run in: tokens come in float32, and the option alone rounds them."""
    seen, multiply = set(), streaming._multiply
    note = lambda out, a, b, **how: (seen.add((out.dtype, b.dtype)), multiply(out, a, b, **how))  # noqa: E731
    monkeypatch.setattr(streaming, "_multiply", note)
    for wanted in (torch.float32, torch.bfloat16):
        options = {"backend": "streaming", "matmul_dtype": str(wanted).removeprefix("torch.")}
        config = PretrainConfig(**{**vars(CONFIG), "steps": 2, "precision": precision, "loss_options": options})
        history = pretrain(config, [blobs()], progress=False, device="cpu").history
        assert seen == {(torch.float32, wanted)} and all(math.isfinite(terms.total) for terms in history)
        seen.clear()


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="at least one scan"):
        pretrain(CONFIG, [])
    with pytest.raises(FloatingPointError, match=r"step 0, on blobs, blobs: \d+ of \d+ tokens of the student hold NaN"):
        pretrain(CONFIG, [blobs(value=math.nan)], progress=False)
    with pytest.raises(ValueError, match="unknown loss 'best'"):
        pretrain(PretrainConfig(**{**vars(CONFIG), "loss": "best"}), [blobs()])
    with pytest.raises(ValueError, match="levels must name at least one token level of 0 to 4"):
        PretrainConfig(levels=())
    with pytest.raises(ValueError, match="batch must be at least 1, got 0"):
        PretrainConfig(batch=0)


def test_scans_that_do_not_fit_are_refused_before_the_first_step():
    def cut(depth, name):
        scan = blobs()
        return scan._replace(volume=scan.volume[..., :depth], foreground=scan.foreground[..., :depth], name=name)

    wide = PretrainConfig(**{**vars(CONFIG), "views": ViewConfig(counts=(1, 1, 2))})
    long = blobs()._replace(volume=torch.rand(1, 24, 24, 40), foreground=torch.ones(24, 24, 40, dtype=torch.bool))
    with pytest.raises(ValueError, match="one shape, got .*short.*blobs"):
        pretrain(wide, [long, cut(24, "short")])
    with pytest.raises(ValueError, match=r"thin: a scan of \(24, 24, 2\) voxels is smaller than one patch"):
        pretrain(CONFIG, [blobs(), cut(2, "thin")])


def test_gradient_checkpointing_is_the_same_step_with_less_memory():
    """The activations of one sub-volume at a time; beside float rounding, nothing else changes."""
    wide = ViewConfig(counts=(2, 2, 2), rotation_deg=10, translation_mm=3)
    config = PretrainConfig(**{**vars(CONFIG), "views": wide, "batch": 1})
    scan = blobs()
    scan = scan._replace(volume=torch.nn.functional.pad(scan.volume, (0, 8) * 3))
    scan = scan._replace(foreground=torch.ones(32, 32, 32, dtype=torch.bool))
    runs, memory = [], []
    for at_a_time in (None, 1, 3):
        run = Pretraining(PretrainConfig(**{**vars(config), "gradient_checkpointing": at_a_time}), [scan], device="cpu")
        memory.append(peak_memory(run.step))
        runs.append(run)
        run.step()
    for run in runs[1:]:
        torch.testing.assert_close(torch.tensor(run.history), torch.tensor(runs[0].history), atol=1e-4, rtol=0)
    assert max(memory[1:]) < 0.5 * memory[0]


def test_a_compiled_run_takes_the_same_steps(monkeypatch):
    """Traced by torch.compile's front end; its own backend would need a C++ compiler and minutes here."""
    compiled, plain = [], torch.nn.Module.compile

    def traced(module, *arguments, **options):
        compiled.append(type(module).__name__)
        return plain(module, *arguments, backend="eager", **options)

    monkeypatch.setattr(torch.nn.Module, "compile", traced)
    config = PretrainConfig(**{**vars(CONFIG), "steps": 2, "compile": True})
    run = Pretraining(config, [blobs()], device="cpu")
    history = [run.step(), run.step()]
    assert compiled == ["SwinTransformer", "SwinTransformer"]
    expected = pretrain(PretrainConfig(**{**vars(config), "compile": False}), [blobs()], progress=False, device="cpu")
    torch.testing.assert_close(torch.tensor(history), torch.tensor(expected.history), atol=1e-4, rtol=0)
    assert set(run.model.state_dict()) == set(expected.model.state_dict())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["paper_ct", "official"])
def test_the_papers_recipes_start_and_take_a_step(name):
    """With two sub-volumes instead of sixteen."""
    config = PretrainConfig.from_recipe(name, ["views.counts=[2, 1, 1]", "gradient_checkpointing=1"])
    volume = torch.nn.functional.interpolate(blobs().volume[None], size=(192, 96, 96), mode="trilinear")[0]
    scan = blobs()._replace(volume=volume, foreground=torch.ones(192, 96, 96, dtype=torch.bool))
    run = Pretraining(config, [scan], device="cpu")
    before = run.model.student.encoder.swinViT.patch_embed.proj.weight.clone()
    assert all(math.isfinite(value) for value in run.step())
    assert not torch.equal(before, run.model.student.encoder.swinViT.patch_embed.proj.weight)
