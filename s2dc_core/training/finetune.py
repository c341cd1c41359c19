"""Fine-tuning for a downstream task: one loop for all, on the engine of pre-training; and the scores of a network."""

import copy
import json
import math
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from tqdm.auto import tqdm

from s2dc_core.model import Encoder, EncoderConfig
from s2dc_core.training.downstream import Downstream
from s2dc_core.training.draws import CROP, first_readable, random_numbers
from s2dc_core.training.engine import Run, autocast
from s2dc_core.training.examples import Examples
from s2dc_core.training.loop import drive
from s2dc_core.training.measure import mean_interval
from s2dc_core.training.networks import encoder_for, start_from
from s2dc_core.training.processes import Processes
from s2dc_core.training.recipe import FinetuneConfig
from s2dc_core.training.records import versions, write_json
from s2dc_core.training.resuming import start_or_resume
from s2dc_core.training.scores import accuracy_interval, mean_of
from s2dc_core.training.tasks import Task


class TaskLoss(NamedTuple):
    """The loss of a task."""

    total: Tensor | float


class TaskDraw(NamedTuple):
    """A crop of a case with its truth.

    Attributes:
        scan: the name of the case.
        unreadable: {case: what is wrong with it} of those that were tried before this one.
    """

    scan: str
    image: Tensor
    truth: Tensor
    unreadable: dict[str, str]


class TaskDraws(Dataset):
    """The crops of a run by their number; every case is drawn from once before any is drawn from again."""

    def __init__(self, config: FinetuneConfig, task: Task, examples: Examples):
        self.config, self.task, self.examples = config, task, examples

    def __getitem__(self, number: int) -> TaskDraw:
        seed = int(torch.randint(2**31, (1,), generator=random_numbers(self.config.seed, CROP, number)))
        names = self.examples.names

        def draw(index: int) -> tuple[str, Tensor, Tensor]:
            return names[index], *self.task.draw(self.examples[index], self.config, seed)

        drawn, unreadable = first_readable(self.config.seed, number, names, draw)
        return TaskDraw(*drawn, unreadable)


class Finetuning(Run):
    """A fine-tuning between two steps; see Run.

    Args:
        config, downstream: how, and what from.
        options, named: device, workers, quarantine, most_damaged; see Run.

    Attributes:
        network: what is trained.
        training, selection: the cases that are learnt from, and those that the best step is chosen on.
        best: the network of the best step so far, if there is a selection.
    """

    Config, Terms = FinetuneConfig, TaskLoss

    def __init__(self, config: FinetuneConfig, downstream: Downstream, *options, **named):
        self.task = downstream.task
        if both := set(downstream.training.names) & set(downstream.scored.names):
            raise ValueError(f"{len(both)} cases are learnt from and scored, such as {min(both)}")
        if not len(downstream.training):
            raise ValueError("fine-tuning needs at least one training case")
        if config.region is None:
            raise ValueError("region must name the voxels of a crop: the recipe has none, and no manifest gave one")
        self.training, self.selection = downstream.training.split(config.selection, config.seed)
        self.task.refuse_training(self.training)
        super().__init__(config, *options, **named)
        network, self._sizes = build_network(self.task, config, len(self.training[0].image))
        self.network = network.to(self.device).train()
        self.best = _Best(self.network) if len(self.selection) else None
        self._called = self.optimise(self.network, self.network.swinViT, config.encoder_rate)

    @cached_property
    def facts(self) -> list[str]:
        """The names of the cases that are learnt from, then those of the selection."""
        return [*self.training.names, *(f"selection: {name}" for name in self.selection.names)]

    @property
    def encoder(self) -> nn.Module:
        """The network's, in a module of its own."""
        own = Encoder(self._sizes)
        own.swinViT.load_state_dict(self.network.swinViT.state_dict())
        return own

    def held(self) -> dict[str, nn.Module]:
        """The network, and the best one."""
        return {"network": self.network} | ({"best": self.best} if self.best else {})

    def draws(self) -> TaskDraws:
        """Crops of the training cases."""
        return TaskDraws(self.config, self.task, self.training)

    def forward(self, draws: Sequence[TaskDraw]) -> tuple[TaskLoss, None]:
        """The task's loss on a batch of crops."""
        images, truths = (torch.stack([getattr(draw, part) for draw in draws]) for part in ("image", "truth"))
        with autocast(self.config, self.device):
            output = self._called(images.to(self.device))
        return TaskLoss(self.task.loss(output.float(), truths.to(self.device))), None

    def look(self) -> None:
        """Score the selection, when it is due, and keep the network if it is the best so far; all processes call it."""
        step = len(self.history)
        if self.best and (step % self.config.look_every == 0 or step == self.config.steps):
            scores = evaluate(self.network, self.task, self.selection, self.config, self.processes)
            self.best.keep_better(self.network, scores.value, step)
            self.network.train()

    @property
    def chosen(self) -> nn.Module:
        """The network of the best step, or the last one if none is chosen."""
        return self.best.network if self.best and self.best.step > 0 else self.network


class _Best(nn.Module):
    """The network of the step with the best score."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = copy.deepcopy(network)
        self.register_buffer("score", torch.tensor(-math.inf))
        self.register_buffer("step", torch.tensor(0))

    def keep_better(self, network: nn.Module, score: float, step: int) -> None:
        if score > self.score:
            self.network.load_state_dict(network.state_dict())
            self.score.fill_(score)
            self.step.fill_(step)


def build_network(task: Task, config: FinetuneConfig, channels: int) -> tuple[nn.Module, EncoderConfig]:
    """The network of a task with the weights that a recipe names, the rest as its seed gives, and its encoder's sizes.

    Networks of one seed start with the same decoder, whatever the weights of their encoder.

    Raises:
        ValueError, FileNotFoundError: as networks.encoder_for and Task.network.
    """
    sizes, encoder = encoder_for(config.weights, config.encoder, channels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = task.network(sizes, config)
    start_from(network, encoder)
    return network, sizes


class Scores(NamedTuple):
    """The numbers of some cases.

    Attributes:
        main: the name of the number that counts.
        cases: {case: {name: number}}.
    """

    main: str
    cases: dict[str, dict[str, float]]

    @property
    def mean(self) -> dict[str, float]:
        """Of each number over the cases that have it."""
        return mean_of(list(self.cases.values()))

    @property
    def value(self) -> float:
        """Mean of the main number."""
        return self.mean[self.main]

    def interval(self) -> str:
        """The main number with its 95 % interval over cases: Wilson's for a share, Student's t for a mean."""
        values = [case[self.main] for case in self.cases.values() if not math.isnan(case[self.main])]
        if self.main == "accuracy":
            mean, low, high = accuracy_interval(round(sum(values)), len(values))
        elif len(values) > 1:
            mean, low, high = mean_interval(values)
        else:
            return f"{self.main} {self.value:.4f}: no interval from {len(values)} cases"
        return f"{self.main} {mean:.4f} ({low:.4f} to {high:.4f}, 95 % over {len(values)} cases)"


def evaluate(
    network: nn.Module,
    task: Task,
    examples: Examples,
    config: FinetuneConfig,
    processes: Processes | None = None,
    progress: bool = False,
) -> Scores:
    """Score a network on whole cases; several processes share them, and each gets the scores of all.

    Raises:
        ValueError: for a case that cannot be read or scored, naming it, and if there is none.
    """
    if not len(examples):
        raise ValueError("there is no case to score")
    processes = processes or Processes(next(network.parameters()).device)
    mine = range(processes.index, len(examples), processes.count)
    found = {}
    network.eval()
    for index in tqdm(mine, disable=not progress, unit="case", leave=False):
        example = examples[index]
        with torch.no_grad(), autocast(config, processes.device):
            prediction = task.predict(network, example, config, processes.device)
        found[example.name] = json.dumps(task.score(prediction, example))
    together = processes.union(found)
    return Scores(task.main, {name: json.loads(together[name]) for name in examples.names})


class FinetuneResult(NamedTuple):
    """The network of the chosen step, in evaluation mode, the loss of each step, and the scores."""

    network: nn.Module
    history: list[float]
    scores: Scores


def finetune(
    config: FinetuneConfig,
    downstream: Downstream,
    progress: bool = True,
    folder: str | Path | None = None,
    save_every: int = 100,
    resume: bool = False,
    device: torch.device | str | None = None,
    on_step: Callable[[Finetuning], None] | None = None,
    keep: int = 3,
    keep_every: int | None = None,
    log_every: int | None = None,
    **options,
) -> FinetuneResult:
    """Train a network for a task and score it on cases that nothing was chosen by.

    Args:
        config, downstream: how, on what.
        folder: where checkpoints go, and scores.json at the end, with recipe, versions and the numbers of each case.
        progress, save_every, resume, device, on_step, keep, keep_every, log_every, options: as `pretrain` takes them.

    Raises:
        ValueError: for cases that the task cannot use, a region that the network cannot take, weights of other sizes,
            and as `pretrain`.
        FileNotFoundError: if there is no such weights file.
        FloatingPointError, UnreadableScans: as `pretrain`.
    """
    run = start_or_resume(lambda recipe: Finetuning(recipe, downstream, device, **options), config, folder, resume)
    kept = {"save_every": save_every, "keep": keep, "keep_every": keep_every, "log_every": log_every}
    drive(run, folder, progress=progress, on_step=on_step, on_every=Finetuning.look, a_region=("crops", 1), **kept)
    scores = evaluate(
        run.chosen, run.task, downstream.scored, config, run.processes, progress and run.processes.is_main
    )
    if folder and run.processes.is_main:
        record = {
            "recipe": config.as_dict(),
            "chosen_step": int(run.best.step) if run.best else len(run.history),
            "trained_on": run.training.names,
            "chosen_on": run.selection.names,
            "versions": versions(),
            "mean": scores.mean,
            "cases": scores.cases,
        }
        write_json(Path(folder) / "scores.json", record)
    return FinetuneResult(run.chosen.eval(), [terms.total for terms in run.history], scores)
