"""No training mixes devices, waits for one more often than it must, or gives another loss there; without a GPU.

The device is pretended, see tests.pretend: what would fail on a GPU for want of a `.to(device)` fails here.
"""

from dataclasses import replace

import pytest
import torch

from s2dc_core.downstream import (
    Classification,
    Downstream,
    Example,
    Examples,
    FinetuneConfig,
    Finetuning,
    ImageToImage,
    Segmentation,
    finetune,
)
from s2dc_core.encoder import EncoderConfig
from s2dc_core.model import FeatureQueue
from s2dc_core.pretraining import PretrainConfig, Pretraining
from tests.pretend import Generator, counted, pretended
from tests.pretraining.test_pretrain import CONFIG, blobs


@pytest.fixture
def device():
    with pretended() as place:
        yield place


JOINED = {"levels": (0, 1, 2), "joined": True, "token_head": "none", "matched_tokens": 30, "token_draws": 2}
STREAMED = {"backend": "streaming"}
KINDS = {  # what a recipe changes, and how often a step of it waits and copies at most
    "one level": ({}, (3, 8)),
    "joined levels": (JOINED, (3, 9)),
    "two levels": ({"levels": (1, 2)}, (5, 9)),
    "streaming": ({"loss_options": STREAMED}, (3, 8)),
    "Sinkhorn": ({"loss_options": {"assignment": "sinkhorn"}}, (3, 8)),
    "Sinkhorn, streaming": ({"loss_options": {"assignment": "sinkhorn", **STREAMED}}, (3, 8)),
    "paper": ({"loss": "paper"}, (3, 8)),
    "official": ({"loss": "official", "norm": None}, (3, 8)),
    "official, Sinkhorn": ({"loss": "official", "norm": None, "loss_options": {"assignment": "sinkhorn"}}, (3, 11)),
    "accumulated, checkpointed": ({"batch": 1, "accumulate": 2, "gradient_checkpointing": 1}, (5, 14)),
    "bfloat16, streaming": ({"precision": "bfloat16", "loss_options": STREAMED}, (3, 8)),
}


@pytest.mark.parametrize("name", KINDS)
def test_pre_training_keeps_to_its_device(device, name):
    changes, most = KINDS[name]
    config = PretrainConfig(**{**vars(CONFIG), "clip": 1.0, **changes})
    run, plain = (Pretraining(config, [blobs()], device=place) for place in (device, "cpu"))
    negatives = torch.randn(5, config.options.out, generator=torch.Generator().manual_seed(0))
    for each in (run, plain):
        each.model.queue.add(negatives.to(each.device))
    with counted() as counts:
        found = run.step()
    exact = {"atol": 0.05 if config.precision == "bfloat16" else 1e-4, "rtol": 0}
    torch.testing.assert_close(torch.tensor(found), torch.tensor(plain.step()), **exact)
    for module in run.held().values():
        assert {value.device.type for value in module.state_dict().values()} == {device.type}
    assert counts.waits.total() <= most[0], counts.waits.most_common()
    assert counts.copies.total() <= most[1], counts.copies.most_common()


def drawn(entry):
    return torch.rand(1, 64, 40, 32, generator=torch.Generator().manual_seed(entry["seed"]))


def labelled(entry):
    truth = torch.zeros(64, 40, 32, dtype=torch.int32)
    truth[5:30, 5:20, 5:20], truth[40:50, 20:30, 10:20] = 1, 2
    return Example(entry["name"], drawn(entry) + truth, truth)


def paired(entry):
    return Example(entry["name"], drawn(entry), 2 * drawn(entry)[0])


def classed(entry):
    return Example(entry["name"], drawn(entry), entry["target"])


ENCODER = EncoderConfig(embed_dim=12, heads=(1, 2, 2, 2), depths=(1, 1, 1, 1), window=2, use_v2=False)
LEARNT = FinetuneConfig(
    encoder=ENCODER, region=(64, 32, 32), steps=2, batch=2, warmup=0, selection=1, look_every=1, flip=0.5, head="linear"
)
NAMES = {1: "liver", 2: "cyst"}
TASKS = {
    "segmentation": (Segmentation(NAMES), labelled, {}),
    "segmentation, SwinUNETR": (Segmentation(NAMES), labelled, {"head": "unetr", "batch": 1, "clip": 1.0}),
    "regions": (Segmentation(NAMES, {"both": [1, 2], "cyst": [2]}), labelled, {"encoder_rate": 0.0}),
    "classification": (Classification({0: "normal", 1: "ill"}), classed, {"accumulate": 2}),
    "translation": (ImageToImage(foreground=0.5), paired, {"precision": "bfloat16"}),
    "reconstruction": (ImageToImage(residual=True, data_range=2.0), paired, {"encoder_rate": 0.3}),
}


@pytest.mark.parametrize("name", TASKS)
def test_fine_tuning_keeps_to_its_device(device, name, tmp_path):
    """It learns, looks at a selection, is saved, gone on with and scored."""
    task, read, changes = TASKS[name]
    few, config = ([{"name": f"case {k}", "seed": k, "target": k % 2} for k in range(n)] for n in (5, 1)), LEARNT
    training, scored = (Examples(entries, read) for entries in few)
    scored.entries[0]["name"] = "scored"
    downstream, config = Downstream(task, training, scored), replace(config, **changes)
    here = finetune(replace(config, steps=1), downstream, False, tmp_path, device=device)
    run = Finetuning.resume(tmp_path, downstream, device)
    with counted() as counts:
        run.step()
    assert counts.waits.total() <= 2, counts.waits.most_common()
    assert {value.device.type for value in run.network.state_dict().values()} == {device.type}
    plain = finetune(replace(config, steps=1), downstream, False, device="cpu")
    exact = {"atol": 0.05 if config.precision == "bfloat16" else 1e-4, "rtol": 0}
    torch.testing.assert_close(torch.tensor(here.history), torch.tensor(plain.history), **exact)
    assert len(run.history) == 2 and set(here.scores.cases) == {"scored"}
    assert here.scores.mean.keys() == plain.scores.mean.keys()


def test_a_run_there_is_gone_on_with_here_and_back(device, tmp_path):
    run = Pretraining(CONFIG, [blobs()], device=device)
    run.step()
    here = Pretraining.resume(run.save(tmp_path), [blobs()], device="cpu")
    for (name, one), other in zip(run.model.state_dict().items(), here.model.state_dict().values(), strict=True):
        assert other.device.type == "cpu" and torch.equal(one.cpu(), other), name
    there = Pretraining.resume(tmp_path, [blobs()], device=device)
    assert there.step() == pytest.approx(here.step(), abs=1e-4)


class WrongBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, values):
        return 2 * values

    @staticmethod
    def backward(ctx, gradient):
        return gradient * torch.full((3,), 2.0)


class GradientOfTheCPU(WrongBackward):
    @staticmethod
    def backward(ctx, gradient):
        return torch.ones(3)


def step_with_a_gradient_of_the_cpu(x):
    GradientOfTheCPU.apply(x.requires_grad_()).sum().backward()
    torch.optim.AdamW([x]).step()


PLANTED = {
    "zeros of the CPU added": lambda x: x + torch.zeros(3),
    "added to a tensor of the CPU": lambda x: torch.zeros(3).add_(x),
    "one number of the CPU changed": lambda x: torch.tensor(0.0).add_(x.sum()),
    "a matrix of the CPU": lambda x: torch.ones(3, 3) @ x,
    "rows of the CPU stacked": lambda x: torch.stack([x, torch.zeros(3)]),
    "one number of the CPU joined": lambda x: torch.stack([x.sum(), torch.tensor(1.0)]),
    "rows taken by an index of the CPU": lambda x: x.index_select(0, torch.tensor([0])),
    "gathered by an index of the CPU": lambda x: x.gather(0, torch.tensor([0])),
    "added up at an index of the CPU": lambda x: x.index_add(0, torch.tensor([0]), x[:1]),
    "an index of it into a tensor of the CPU": lambda x: torch.arange(3.0)[x.argsort()],
    "a mask of it into a tensor of the CPU": lambda x: torch.arange(3.0)[x > 0],
    "rows of the CPU put in": lambda x: x.index_put_((x.argsort(),), torch.zeros(3)),
    "chosen by a condition of the CPU": lambda x: torch.where(torch.ones(3, dtype=torch.bool), x, x),
    "written into a tensor of the CPU": lambda x: torch.add(x, x, out=torch.zeros(3)),
    "a generator of the CPU": lambda x: x.normal_(generator=torch.Generator()),
    "handed to NumPy": lambda x: x.numpy(),
    "weights of the CPU": lambda x: torch.nn.Linear(3, 2)(x),
    "the backward pass": lambda x: WrongBackward.apply(x.requires_grad_()).sum().backward(),
    "a gradient of the CPU": step_with_a_gradient_of_the_cpu,
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_mix_is_refused(device, name):
    with pytest.raises((RuntimeError, TypeError), match="same device|expected device|device type"):
        PLANTED[name](torch.rand(3, device=device))


def test_what_a_gpu_takes_is_taken_and_counted(device):
    x = torch.rand(3, device=device)
    with counted() as counts:
        x + torch.tensor(2.0) - 1  # single numbers are no copy
        x[0] = 0.5
        x.masked_fill_(x > 0.9, 0.0).clamp_(max=torch.tensor(0.8))
        x[x > 0.5] = 0.0
        torch.where(x > 0, x, torch.tensor(0.0))
        x.new_zeros(3).normal_(generator=torch.Generator(device).manual_seed(1))
        torch.empty(3, device=device).copy_(x)
    assert not counts.waits and not counts.copies
    waits = (
        lambda: x.sum().item(), lambda: bool((x > 0).any()), lambda: x.tolist(), lambda: x.cpu(), lambda: x[x > 0],
        lambda: x.nonzero(), lambda: x.to("cpu"), lambda: torch.equal(x, x), lambda: torch.zeros(3).copy_(x),
        lambda: f"{x.sum():.3f}", lambda: int(x.argmax()), lambda: torch.linalg.inv(torch.eye(3, device=device)),
    )  # fmt: skip
    for wait in waits:
        with counted() as counts:
            wait()
        assert counts.waits.total() == 1
    copies = (
        lambda: x[torch.tensor([0, 1])],
        lambda: torch.zeros(3).to(device),
        lambda: torch.tensor([1.0], device=device),
    )
    for copy in copies:
        with counted() as counts:
            assert copy().device == x.device
        assert counts.copies.total() == 1 and not counts.waits


def test_autocast_and_the_gradient_work_there(device):
    linear = torch.nn.Linear(3, 2).to(device)
    with torch.autocast(device.type, torch.bfloat16):
        out = linear(torch.rand(4, 3, device=device))
        assert out.dtype == torch.bfloat16 and (out.float() + 1).dtype == torch.float32
    out.float().sum().backward()
    assert linear.weight.grad.device.type == device.type and linear.weight.grad.dtype == torch.float32


def test_a_mistake_in_the_project_is_noticed(device, monkeypatch):
    """The guard stands where the project works, not in these tests alone."""
    run = Pretraining(CONFIG, [blobs()], device=device)
    with monkeypatch.context() as planted:
        planted.setattr(torch, "Generator", lambda place="cpu": Generator("cpu"))
        with pytest.raises(RuntimeError, match="device type for generator"):
            run.step()
    with monkeypatch.context() as planted:
        planted.setattr(FeatureQueue, "negatives", lambda queue: torch.zeros(2, queue.features.shape[1]))
        with pytest.raises(RuntimeError, match="same device"):
            run.step()
    assert len(run.history) == 0 and run.step()
