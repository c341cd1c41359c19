"""Fine-tuning for a downstream task: one loop for all, on the engine of pre-training; and the scores of a network."""

import copy
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from tqdm.auto import tqdm

from s2dc_core.data import difference_in_settings
from s2dc_core.downstream.config import FinetuneConfig
from s2dc_core.downstream.data_sets import Downstream
from s2dc_core.downstream.examples import Examples, refuse_namesakes, refuse_shared
from s2dc_core.downstream.log import Log
from s2dc_core.downstream.networks import SCRATCH, encoder_for, encoder_part, start_from
from s2dc_core.downstream.scoring import Scores, evaluate, reason_of
from s2dc_core.downstream.tasks import Task
from s2dc_core.encoder import Encoder, EncoderConfig
from s2dc_core.training.loop import drive
from s2dc_core.training.order import first_readable, random_numbers
from s2dc_core.training.precision import autocast
from s2dc_core.training.provenance import note_start
from s2dc_core.training.records import versions, write_json
from s2dc_core.training.resuming import start_or_resume
from s2dc_core.training.run import Run, UnreadableScans
from s2dc_core.weights import load_encoder


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
        seed = int(torch.randint(2**31, (1,), generator=random_numbers(self.config.seed, "crop", number)))
        names = self.examples.names

        def draw(index: int) -> tuple[str, Tensor, Tensor]:
            return names[index], *self.task.draw(self.examples[index], self.config, seed)

        drawn, unreadable = first_readable(self.config.seed, number, names, draw)
        return TaskDraw(*drawn, unreadable)


class Look(NamedTuple):
    """The scores of the selection after a step."""

    step: int
    scores: Scores


class Finetuning(Run):
    """A fine-tuning between two steps; see Run.

    Args:
        config, downstream: how, and what from.
        kept: the file of an encoder of the sizes that the recipe's weights have, to be taken instead of them by a run
            that goes on, whose checkpoint holds all weights.
        options, named: device, workers, quarantine, most_damaged; see Run.

    Attributes:
        network: what is trained.
        training, selection: the cases that are learnt from, and those that the best step is chosen on.
        scored: the cases that score it in the end.
        best: the network of the best step so far, if there is a selection.
        last_look: the last scores of the selection.
        settings: how the training cases were prepared, see data.settings_of.
        otherwise: in which settings the weights' own training differs from that, in words, if it does.
    """

    Config, Terms = FinetuneConfig, TaskLoss

    def __init__(
        self, config: FinetuneConfig, downstream: Downstream, *options, kept: str | Path | None = None, **named
    ):
        self.task = downstream.task
        refuse_shared(downstream.training, downstream.scored)
        if not len(downstream.training):
            raise ValueError("fine-tuning needs at least one training case")
        if config.region is None:
            raise ValueError("region must name the voxels of a crop: the recipe has none, and no manifest gave one")
        self.training, self.selection = downstream.training.split(config.selection, config.seed)
        refuse_namesakes(self.selection)
        self.scored, self.settings = downstream.scored, downstream.training.settings
        super().__init__(config, *options, **named)
        self._set_cases_apart()
        self.task.refuse_training(self.training.without(self.quarantine))
        channels = len(first_readable(config.seed, 0, self.training.names, self.training.__getitem__)[0].image)
        self._sizes, encoder = encoder_for(kept or config.weights, config.encoder, channels)
        self.otherwise = difference_in_settings(encoder.trained_on if encoder else None, self.settings)
        self.network = network_for(self.task, config, self._sizes, encoder).to(self.device).train()
        self.best = _Best(self.network) if len(self.selection) else None
        self.last_look: Look | None = None
        self._called = self.optimise(self.network, encoder_part(self.network), config.encoder_rate)

    def _set_cases_apart(self) -> None:
        """Look at every case before the first step: what cannot be used is set apart, or is an error if it is too much.

        Files are judged by headers and labels; the few cases of the selection are read, for every look needs them all.
        """
        found = {}
        for examples in (self.training, self.selection, self.scored):
            for index in range(self.processes.index, len(examples), self.processes.count):
                try:
                    self.task.refuse_case(examples, index)
                    if examples is self.selection:
                        examples[index]
                except Exception as error:  # the other processes would wait for this one for ever
                    found[examples.names[index]] = reason_of(error, examples.names[index])
        self.quarantine |= self.processes.union(found)
        lost = self.processes.union(self.quarantine)
        if len(lost) > self.most_damaged:
            listed = "".join(f"\n  {reason}" for reason in lost.values())
            raise UnreadableScans(f"{len(lost)} cases cannot be used, {self.most_damaged} may be{listed}")
        for what, whole in (("training", self.training), ("selection", self.selection), ("scored", self.scored)):
            if len(whole) and not len(whole.without(lost)):
                raise UnreadableScans(f"none of the {len(whole)} {what} cases can be used")

    @cached_property
    def facts(self) -> list[str]:
        """The names of the cases that are learnt from, then those of the selection."""
        return [*self.training.names, *(f"selection: {name}" for name in self.selection.names)]

    @property
    def encoder(self) -> nn.Module | None:
        """The chosen network's, in a module of its own; None of a UNETR, which has another kind."""
        if self.config.head == "vit_unetr":
            return None
        own = Encoder(self._sizes)
        own.swinViT.load_state_dict(self.chosen.swinViT.state_dict())
        own.trained_on = self.settings
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
        """Score the selection, when it is due, and keep the network if it is the best so far; all processes call it.

        Looks at different cases cannot be compared: one that misses a case is noted, and chooses nothing.
        """
        step = len(self.history)
        if not self.best or (step % self.config.look_every and step != self.config.steps):
            return
        lost = self.processes.union(self.quarantine)
        scores = evaluate(self.network, self.task, self.selection.without(lost), self.config, self.processes)
        self.network.train()
        self.last_look = Look(step, scores)
        if not scores.failed:
            self.best.keep_better(self.network, scores.value, step)
        elif self.processes.is_main:
            reasons = "; ".join(scores.failed.values())
            tqdm.write(f"the look after step {step} misses cases and chooses nothing: {reasons}", file=sys.stderr)

    @property
    def chosen(self) -> nn.Module:
        """The network of the best step, or the last one if none is chosen."""
        return self.best.network if self.best and self.best.step > 0 else self.network

    @property
    def chosen_step(self) -> int:
        """Steps that the chosen network was trained for."""
        return int(self.best.step) if self.best and self.best.step > 0 else len(self.history)

    @classmethod
    def resume(cls, folder: str | Path, material: Downstream, *options, **named) -> "Finetuning":
        """As Run.resume; the file that the run started from is not needed any more."""
        return super().resume(folder, material, *options, kept=_kept_encoder(Path(folder)), **named)


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
    return network_for(task, config, sizes, encoder), sizes


def network_for(task: Task, config: FinetuneConfig, sizes: EncoderConfig, encoder: Encoder | None) -> nn.Module:
    """The network of a task around a trained encoder of these sizes, or around a fresh one."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = task.network(sizes, config)
    start_from(network, encoder)
    return network


def _kept_encoder(folder: Path) -> Path | None:
    """The encoder's file in the newest checkpoint of a run that has a whole one."""
    name = "encoder.safetensors"
    for file in (folder / name, *sorted(folder.glob(f"step_*/{name}"), reverse=True)):
        try:
            load_encoder(file)
            return file
        except (ValueError, OSError):
            continue
    return None


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
    note: Mapping[str, Any] | None = None,
    keep: int = 3,
    keep_every: int | None = None,
    log_every: int | None = None,
    **options,
) -> FinetuneResult:
    """Train a network for a task and score it on cases that nothing was chosen by.

    Every case is looked at before the first step: one that cannot be read, or holds labels without a name, ends the run
    then, unless most_damaged lets it be set apart. A case that fails later is listed with the reason, in the scores and
    in scores.json, and the scores of the others are kept.

    Args:
        config, downstream: how, on what.
        folder: where checkpoints go, log.jsonl and TensorBoard's files with losses, rates and the scores of each look,
            run.json (see provenance), and at the end scores.json with recipe, versions and the numbers of each case.
        progress, save_every, resume, device, on_step, note, keep, keep_every, log_every, options: as `pretrain` takes
            them. A run that goes on needs no file but those in its folder.

    Raises:
        ValueError: for cases that the task cannot use, a case, patient or image that is both learnt from and scored, a
            region that the network cannot take, weights of other sizes, if no case could be scored, and as `pretrain`.
        FileNotFoundError: if there is no such weights file.
        FloatingPointError, UnreadableScans: as `pretrain`.
    """
    kept = _kept_encoder(Path(folder)) if folder and resume and config.weights != SCRATCH else None

    def start(recipe: FinetuneConfig) -> Finetuning:
        return Finetuning(recipe, downstream, device, kept=kept, **options)

    run = start_or_resume(start, config, folder, resume)
    if run.otherwise and run.processes.is_main:
        tqdm.write(f"the encoder of {config.weights} was {run.otherwise}", file=sys.stderr)
    log = Log(folder) if folder and run.processes.is_main else None
    noted = note_start(run, folder, note)

    def after_step(_run: Finetuning) -> None:
        run.look()
        if log:
            log(run)
        noted(run)

    keeping = {"save_every": save_every, "keep": keep, "keep_every": keep_every, "log_every": log_every}
    drive(run, folder, progress=progress, on_step=on_step, on_every=after_step, a_region=("crops", 1), **keeping)
    noted(run)
    scores = _final_scores(run, progress)
    if folder and run.processes.is_main:
        record = {
            "recipe": config.as_dict(),
            "chosen_step": run.chosen_step,
            "trained_on": run.training.names,
            "chosen_on": run.selection.names,
            "versions": versions(),
            "mean": scores.mean,
            "cases": scores.cases,
            "failed": scores.failed,
        }
        write_json(Path(folder) / "scores.json", record)
    if not scores.cases:
        raise ValueError(f"no case could be scored: {'; '.join(scores.failed.values())}")
    return FinetuneResult(run.chosen.eval(), [terms.total for terms in run.history], scores)


def _final_scores(run: Finetuning, progress: bool) -> Scores:
    """The chosen network's, with what was set apart before; what fails is said."""
    lost, main = run.processes.union(run.quarantine), run.processes.is_main
    usable = run.scored.without(lost)
    scores = evaluate(run.chosen, run.task, usable, run.config, run.processes, progress and main)
    before = {name: lost[name] for name in run.scored.names if name in lost}
    for reason in scores.failed.values() if main else ():
        tqdm.write(f"not scored: {reason}", file=sys.stderr)
    return scores._replace(failed={**before, **scores.failed})
