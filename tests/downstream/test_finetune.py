"""Fine-tuning: one loop for all tasks, from any weights, resumed bit for bit, scored on what nothing was chosen by."""

import json
from dataclasses import replace

import pytest
import torch

from s2dc_core.data import load_manifest, require_cases
from s2dc_core.downstream import (
    Downstream,
    Example,
    Examples,
    FinetuneConfig,
    Finetuning,
    Segmentation,
    downstream_of,
    evaluate,
    finetune,
)
from s2dc_core.downstream.config import ViTSizes
from s2dc_core.downstream.finetune import build_network
from s2dc_core.encoder import Encoder, EncoderConfig
from s2dc_core.weights import export_encoder
from tests.data.miniature import MAKERS
from tests.training.test_processes import launch

SIZES = EncoderConfig(embed_dim=12, heads=(1, 2, 2, 2), window=4, use_v2=False)
CONFIG = FinetuneConfig(
    encoder=SIZES, region=(64, 32, 32), steps=4, batch=1, learning_rate=3e-3, warmup=0, weight_decay=0.0, seed=3
)
SHAPE = (64, 40, 32)


def ball(entry):
    """A bright ball in noise, somewhere; every case has another one."""
    generator = torch.Generator().manual_seed(entry["seed"])
    place = torch.stack(torch.meshgrid(*(torch.arange(float(n)) for n in SHAPE), indexing="ij"))
    centre = torch.rand(3, generator=generator) * torch.tensor(SHAPE) * 0.4 + torch.tensor(SHAPE) * 0.3
    truth = ((place - centre[:, None, None, None]).norm(dim=0) < 9).int()
    image = 0.3 * torch.randn(SHAPE, generator=generator) + truth
    return Example(entry["name"], image[None], truth)


def balls(*seeds):
    return Examples([{"name": f"ball {seed}", "seed": seed} for seed in seeds], ball)


BALLS = Downstream(Segmentation({1: "ball"}), balls(0, 1, 2, 3), balls(10, 11))


def same(one, other):
    states = one.state_dict(), other.state_dict()
    return all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_it_learns():
    result = finetune(replace(CONFIG, steps=40, learning_rate=1e-2), BALLS, progress=False)
    assert result.history[-1] < 0.6 * result.history[0]
    assert result.scores.value > 0.7 and list(result.scores.cases) == ["ball 10", "ball 11"]
    assert not result.network.training and "95 % over 2 cases" in result.scores.interval()


def test_a_stopped_run_goes_on_bit_for_bit(tmp_path):
    config = replace(CONFIG, encoder_rate=0.3, selection=1, look_every=2)
    whole = finetune(config, BALLS, progress=False)

    def stop(run):
        if len(run.history) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finetune(config, BALLS, progress=False, folder=tmp_path, save_every=2, on_step=stop)
    resumed = finetune(config, BALLS, progress=False, folder=tmp_path, resume=True)
    assert resumed.history == whole.history and same(resumed.network, whole.network)
    assert resumed.scores == whole.scores
    with pytest.raises(ValueError, match="follows another recipe"):
        finetune(replace(config, encoder_rate=1.0), BALLS, progress=False, folder=tmp_path, resume=True)
    others = BALLS._replace(training=balls(0, 1, 2, 4))
    with pytest.raises(ValueError, match="made on other scans"):
        finetune(config, others, progress=False, folder=tmp_path, resume=True)


def test_unetr_learns_from_scratch_and_goes_on_bit_for_bit(tmp_path):
    """Its checkpoints hold no Swin encoder; the transformer may have a rate of its own."""
    sizes = ViTSizes(feature=4, hidden=24, mlp=48, heads=2)
    config = replace(CONFIG, encoder=None, head="vit_unetr", vit=sizes, encoder_rate=0.5, selection=1, look_every=2)
    whole = finetune(config, BALLS, progress=False, folder=tmp_path / "whole")
    assert [group["lr"] for group in Finetuning(config, BALLS).optimiser.param_groups] == [3e-3, 1.5e-3]

    def stop(run):
        if len(run.history) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finetune(config, BALLS, progress=False, folder=tmp_path / "run", save_every=2, on_step=stop)
    resumed = finetune(config, BALLS, progress=False, folder=tmp_path / "run", resume=True)
    assert resumed.history == whole.history and same(resumed.network, whole.network)
    assert not list(tmp_path.glob("*/*/encoder.safetensors")) and len(list(tmp_path.glob("*/step_*"))) > 2
    learnt = finetune(
        replace(config, steps=40, learning_rate=1e-2, selection=0, encoder_rate=1.0), BALLS, progress=False
    )
    assert learnt.history[-1] < 0.8 * learnt.history[0]


TOGETHER = """
import sys
from tests.downstream.test_finetune import BALLS, CONFIG, finetune, replace

config = replace(CONFIG, selection=2, look_every=2)
finetune(config, BALLS, progress=False, folder=sys.argv[1])
"""


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one_with_twice_the_batch(tmp_path):
    config = replace(CONFIG, selection=2, look_every=2, batch=2)
    one = finetune(config, BALLS, progress=False, device="cpu", folder=tmp_path / "one")
    done = launch(tmp_path, TOGETHER, tmp_path / "two")
    assert done.returncode == 0, done.stderr
    two = Finetuning.resume(tmp_path / "two", BALLS, "cpu")
    assert [terms.total for terms in two.history] == pytest.approx(one.history, abs=1e-4)
    records = [json.loads((tmp_path / name / "scores.json").read_text()) for name in ("one", "two")]
    assert records[0]["chosen_on"] == records[1]["chosen_on"] and list(records[1]["cases"]) == ["ball 10", "ball 11"]


def test_what_is_written_says_how_it_was_made(tmp_path):
    result = finetune(replace(CONFIG, selection=1, look_every=2, steps=2), BALLS, progress=False, folder=tmp_path)
    record = json.loads((tmp_path / "scores.json").read_text())
    assert record["cases"] == result.scores.cases and record["mean"] == result.scores.mean
    assert FinetuneConfig.from_dict(record["recipe"]) == replace(CONFIG, selection=1, look_every=2, steps=2)
    assert record["chosen_step"] == 2 and "torch" in record["versions"]
    assert set(record["trained_on"]) | set(record["chosen_on"]) == set(BALLS.training.names)
    assert len(record["chosen_on"]) == 1 and not set(record["cases"]) & set(record["chosen_on"])
    assert (tmp_path / "step_0000002" / "encoder.safetensors").is_file()


def test_the_best_step_is_chosen_on_cases_that_neither_train_nor_score():
    run = Finetuning(replace(CONFIG, selection=1, look_every=1, steps=3), BALLS)
    assert len(run.training) == 3 and len(run.selection) == 1
    run.step()
    run.look()
    first = {name: value.clone() for name, value in run.network.state_dict().items()}
    run.best.score.fill_(2.0)  # better than any Dice: nothing that follows is taken
    run.step()
    run.look()
    assert run.best.step == 1 and not same(run.network, run.chosen)
    assert all(torch.equal(first[name], value) for name, value in run.chosen.state_dict().items())
    assert Finetuning(CONFIG, BALLS).chosen is not None and Finetuning(CONFIG, BALLS).best is None


def test_one_parameter_says_where_the_weights_come_from(tmp_path):
    """A file of ours, a state dict of SwinUNETR, an arm of the course; the decoder is that of scratch."""
    torch.manual_seed(0)
    encoder = Encoder(SIZES)
    export_encoder(encoder, tmp_path / "own.safetensors")
    scratch, _ = build_network(BALLS.task, CONFIG, 1)
    torch.save({"state_dict": {f"module.{k}": v for k, v in encoder.swinViT.state_dict().items()}}, tmp_path / "s.pt")
    for file in ("own.safetensors", "s.pt"):
        network, sizes = build_network(BALLS.task, replace(CONFIG, encoder=None, weights=str(tmp_path / file)), 1)
        assert same(network.swinViT, encoder.swinViT) and sizes.embed_dim == 12
        assert same(network.out, scratch.out) and same(network.decoder1, scratch.decoder1)
        assert not same(network.swinViT, scratch.swinViT)
    four, _ = build_network(BALLS.task, replace(CONFIG, weights=str(tmp_path / "own.safetensors")), 4)
    narrow, wide = (net.swinViT.patch_embed.proj.weight for net in (encoder, four))
    assert torch.allclose(wide.sum(1, keepdim=True), narrow, atol=1e-6)
    arm, sizes = build_network(BALLS.task, replace(CONFIG, encoder=None, weights="s2dc"), 1)
    assert sizes.embed_dim == 24 == arm.swinViT.embed_dim


def test_weights_that_do_not_fit_are_named(tmp_path):
    export_encoder(Encoder(replace(SIZES, embed_dim=24)), tmp_path / "wide.safetensors")
    config = replace(CONFIG, weights=str(tmp_path / "wide.safetensors"))
    with pytest.raises(ValueError, match="other sizes .embed_dim: 24 there, 12 here"):
        finetune(config, BALLS, progress=False)
    torch.save({"classifier.weight": torch.zeros(2, 2)}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match="no Swin encoder|nothing in"):
        finetune(replace(config, encoder=None, weights=str(tmp_path / "other.pt")), BALLS, progress=False)
    with pytest.raises(FileNotFoundError, match="no weights file"):
        finetune(replace(config, weights=str(tmp_path / "gone.pt")), BALLS, progress=False)


@pytest.mark.parametrize("rate", [0.0, 0.1])
def test_the_encoder_may_learn_more_slowly_or_not_at_all(rate):
    run = Finetuning(replace(CONFIG, encoder_rate=rate, steps=2), BALLS)
    before = {name: value.clone() for name, value in run.network.state_dict().items()}
    run.step()
    moved = {name: float((value - before[name]).abs().max()) for name, value in run.network.state_dict().items()}
    encoder = max(value for name, value in moved.items() if name.startswith("swinViT"))
    others = max(value for name, value in moved.items() if not name.startswith("swinViT"))
    # Adam's first step moves a weight by its learning rate.
    assert encoder == pytest.approx(rate * CONFIG.learning_rate, rel=1e-2, abs=1e-9)
    assert others == pytest.approx(CONFIG.learning_rate, rel=1e-2)


def test_a_case_that_cannot_be_read_is_set_apart(tmp_path):
    def read(entry):
        if entry["seed"] == 1:
            raise ValueError("ball 1 is damaged")
        return ball(entry)

    damaged = BALLS._replace(
        training=Examples(balls(0, 1, 2).entries, read, labels_in=lambda entry: {0, 1})  # found as a header is: late
    )
    with pytest.raises(ValueError, match="1 scans cannot be used, 0 may be\n  ball 1 is damaged"):
        finetune(replace(CONFIG, steps=3), damaged, progress=False)
    result = finetune(replace(CONFIG, steps=3), damaged, progress=False, folder=tmp_path, most_damaged=1)
    assert len(result.history) == 3
    assert json.loads((tmp_path / "quarantine.json").read_text()) == {"ball 1": "ball 1 is damaged"}


@pytest.mark.parametrize(
    ("config", "downstream", "message"),
    [
        (CONFIG, BALLS._replace(scored=balls(0, 10)), "1 cases are learnt from and scored, such as ball 0"),
        (CONFIG, BALLS._replace(training=balls()), "at least one training case"),
        (replace(CONFIG, region=None), BALLS, "region must name"),
        (replace(CONFIG, selection=4), BALLS, "none would be left"),
        (CONFIG, BALLS._replace(task=Segmentation({1: "ball", 2: "cube"})), "none of the 4 .* holds cube"),
    ],
)
def test_what_cannot_be_learnt_is_refused_at_once(config, downstream, message):
    with pytest.raises(ValueError, match=message):
        Finetuning(config, downstream)
    with pytest.raises(ValueError, match="no case to score"):
        evaluate(torch.nn.Linear(1, 1), BALLS.task, balls(), CONFIG)


TASKS = sorted(name for name in MAKERS if load_manifest(name).tasks != ["pretraining"])


@pytest.mark.parametrize("name", TASKS)
def test_each_data_set_takes_a_step_and_is_scored(name, tmp_path):
    manifest = load_manifest(name)
    MAKERS[name](tmp_path)
    target = {"brats23": "t2w"}.get(name)
    for rule in ("manifest", "default"):
        downstream = downstream_of(manifest, require_cases(manifest, tmp_path), target=target, rule=rule)
        one = downstream._replace(
            training=downstream.training.share(0.3, 0),
            scored=downstream.scored.only(range(2)[: len(downstream.scored)]),
        )
        region = (32, 32, 64)
        result = finetune(replace(CONFIG, steps=1, region=region, pad=True), one, progress=False)
        numbers = [value for key, value in result.scores.mean.items() if not key.startswith("invented")]
        assert len(result.history) == 1 and torch.isfinite(torch.tensor(result.history + numbers)).all()
    if manifest.tasks == ["segmentation"]:
        with pytest.raises(ValueError, match="fewer than the region 32 x 32 x 64: take a smaller region"):
            finetune(replace(CONFIG, steps=1, region=region), one, progress=False)
