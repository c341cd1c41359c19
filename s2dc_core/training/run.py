"""A step of pre-training (paper section 3, equation 9): views, three losses, a student, its teacher, a queue."""

import atexit
import hashlib
import json
import math
import signal
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from s2dc_core.data import ScanFacts, Scans, facts_of
from s2dc_core.losses import LossTerms, S2DCLoss
from s2dc_core.model import FeatureQueue
from s2dc_core.training.checkpoints import checkpoint_of, load_checkpoint, newest_checkpoint, save_checkpoint
from s2dc_core.training.draws import TOKENS, RegionDraw, RegionDraws, draw_tokens, random_numbers, views_of
from s2dc_core.training.processes import Processes
from s2dc_core.training.recipe import PretrainConfig
from s2dc_core.training.records import write_json
from s2dc_core.views import Views, check_fits, region_shape

Result = TypeVar("Result")


class UnreadableScans(ValueError):
    """More scans turned out to be unreadable than a run may lose."""


class StoppedElsewhere(RuntimeError):
    """Another process met an error; its message says which."""


class Pretraining:
    """A run between two steps: all that a checkpoint holds, and what takes the next step.

    With several processes each holds one and takes the same steps; what they hold stays equal.

    Args:
        config, scans: what to train, on what.
        device: None for the GPU if there is one, else the CPU.
        workers: helper processes that read regions ahead; 0 reads them in between.
        quarantine: {scan: what is wrong with it} of those already set apart.
        most_damaged: scans and steps that may be set apart, then and during the run, before that ends it.

    Attributes:
        model, queue: the networks and the negatives of L_g.
        history: LossTerms as floats, one per step taken, means over the processes.
        regions: how many were taken, by all processes: the position in the order of the scans.
        quarantine: {scan or step: what is wrong with it}, of this process.
        gradient_norm: of the last step, before clipping.
    """

    def __init__(
        self,
        config: PretrainConfig,
        scans: Scans,
        device: torch.device | str | None = None,
        workers: int = 0,
        quarantine: Mapping[str, str] | None = None,
        most_damaged: int = 0,
    ):
        if not len(scans):
            raise ValueError("pretrain needs at least one scan")
        self.config, self.scans, self.workers = config, scans, workers
        self.quarantine, self.most_damaged = dict(quarantine or {}), most_damaged
        _refuse_unfit_scans(config, self.facts)
        self.processes = Processes(device)
        self.device = self.processes.device
        self.model = config.build().to(self.device).train()
        if config.compile:
            for branch in (self.model.student, self.model.teacher):
                branch.encoder.swinViT.compile()
        self.student = self.processes.share(self.model.student)
        pooled = self.model.student.pooled_head[-1].out_features
        self.queue = FeatureQueue(config.queue, pooled).to(self.device)
        self.loss = S2DCLoss.from_preset(config.loss, **config.loss_options)
        weights = self.model.student.parameters()
        self.optimiser = torch.optim.AdamW(weights, config.learning_rate, weight_decay=config.weight_decay)
        rate = torch.optim.lr_scheduler.LambdaLR
        self.schedule = rate(self.optimiser, lambda step: _warmup_then_cosine(step, config))
        self.history: list[LossTerms] = []
        self.regions, self.gradient_norm = 0, math.nan
        self._seen: list[str] = []
        self._coming: Iterator[list[RegionDraw]] | None = None

    @cached_property
    def facts(self) -> list[ScanFacts]:
        """What the run is made on: name, kind, grid and checksum of each scan."""
        return facts_of(self.scans)

    @property
    def regions_a_step(self) -> int:
        """Regions of one optimiser step, of all processes."""
        return self.config.batch * self.config.accumulate * self.processes.count

    def step(self) -> LossTerms:
        """One optimiser step and one of the teacher; the terms as floats, also in `history`.

        Raises:
            FloatingPointError: if the loss or its gradient is not finite.
            UnreadableScans: if more scans cannot be read than may be lost.
            StoppedElsewhere: if another process met one of these.
            In each case weights, queue and history are as they were before the step.
        """
        try:
            values, positives = self._gradients()
        except Exception as error:
            self._coming = None  # the same regions come again
            if not isinstance(error, (FloatingPointError, UnreadableScans, StoppedElsewhere)):
                raise
            seen = f", on {', '.join(self._seen)}" if isinstance(error, FloatingPointError) else ""
            raise type(error)(f"at step {len(self.history)}{seen}: {error}") from error
        self.optimiser.step()
        self.schedule.step()
        self.model.update_teacher()
        for keys in positives:
            self.queue.add(keys)
        self.regions += self.regions_a_step
        self.history.append(values)
        return values

    def close(self) -> None:
        """Let the helper processes go that read ahead; a further step would start others."""
        self._coming = None

    def set_apart(self, error: Exception) -> bool:
        """Note an error of `step`; pass over its regions if a number was not finite and the quarantine has room.

        All processes call it and get the same answer: whether the run may go on.
        """
        if isinstance(error, FloatingPointError):
            self.quarantine[f"step {len(self.history)}, regions from {self.regions}"] = str(error)
        ends = not isinstance(error, (FloatingPointError, StoppedElsewhere))
        if self.processes.any(ends) or len(self.processes.union(self.quarantine)) > self.most_damaged:
            return False
        self.regions += self.regions_a_step
        return True

    def _gradients(self) -> tuple[LossTerms, list[Tensor]]:
        """Leave the gradient of a step in the student; the terms, and the positives of all processes in order."""
        self.optimiser.zero_grad()
        terms, positives, self._seen = [], [], []
        for part in range(1, self.config.accumulate + 1):
            whole = part == self.config.accumulate
            with nullcontext() if whole else self.processes.gradients_stay(self.student):
                found, keys = self._next_losses()
                (found.total / self.config.accumulate).backward()
            terms.append(torch.stack(found).detach())
            positives.append(self.processes.gather(keys))
        values = LossTerms(*self.processes.mean(torch.stack(terms).mean(0)).tolist())
        weights = [weight for weight in self.model.student.parameters() if weight.grad is not None]
        norm = torch.nn.utils.clip_grad_norm_(weights, self.config.clip or math.inf)
        self.gradient_norm = float(norm)
        if not (math.isfinite(values.total) and math.isfinite(self.gradient_norm)):
            what = "gradient" if math.isfinite(values.total) else "loss"
            raise FloatingPointError(f"the {what} is not finite: {values._asdict()}")
        return values, positives

    def _next_losses(self) -> tuple[LossTerms, Tensor]:
        draws = self._together(self._next_draws)
        if self.processes.any(any(draw.unreadable for draw in draws)):
            lost = self.processes.union(self.quarantine)
            if len(lost) > self.most_damaged:
                listed = "".join(f"\n  {reason}" for reason in lost.values())
                raise UnreadableScans(f"{len(lost)} scans cannot be used, {self.most_damaged} may be{listed}")
        numbers = [draw.number for draw in draws]
        return self._together(lambda: self.compute(views_of(self.config, draws, self.device), numbers))

    def _together(self, work: Callable[[], Result]) -> Result:
        """What the work returns, unless it fails in any process: the others would wait for that one for ever."""
        problem = None
        try:
            done = work()
        except Exception as error:
            problem = error
        if self.processes.any(problem is not None):
            raise problem or StoppedElsewhere("another process met an error, and its message says which")
        return done

    def _next_draws(self) -> list[RegionDraw]:
        if self._coming is None:
            if self.workers:
                # Else Python would end them at exit by a signal that they outlive, and wait.
                atexit.register(_close, weakref.ref(self))
            # Without a generator of its own a loader draws from the global one.
            self._coming = iter(
                DataLoader(
                    RegionDraws(self.config, self.scans),
                    batch_sampler=self._numbers(),
                    collate_fn=list,
                    num_workers=self.workers,
                    worker_init_fn=_outlive_termination,
                    pin_memory=self.device.type == "cuda",
                    generator=torch.Generator(),
                )
            )
        draws = next(self._coming)
        for draw in draws:
            self.quarantine |= draw.unreadable
            self._seen.append(draw.scan)
        return draws

    def _numbers(self) -> Iterator[list[int]]:
        """The regions of this process, batch by batch, from where the run stands."""
        first = self.regions + self.processes.index * self.config.batch
        while True:
            yield list(range(first, first + self.config.batch))
            first += self.config.batch * self.processes.count

    def compute(self, views: Views, numbers: Sequence[int] = ()) -> tuple[LossTerms, Tensor]:
        """The terms of equation 9 for a batch of views, with their gradient, and the positives' teacher features.

        Args:
            numbers: of the regions in the run; they decide which tokens are drawn.
        """
        config = self.config
        with autocast(config, self.device):
            student, teacher = self.student(views.source), self.model.teach(views.target)
            with torch.no_grad():
                positives = self.model.teacher.embed(views.positives)
            levels = list(zip(student.tokens, teacher.tokens, views.matches, strict=True))
            if config.matched_tokens:
                draws = [random_numbers(config.seed, TOKENS, number) for number in numbers or range(len(views.source))]
                levels = [draw_tokens(*level, config.matched_tokens, config.token_draws, draws) for level in levels]
            tokens = (list(part) for part in zip(*levels, strict=True))
            return self.loss(student.pooled, positives, self.queue.negatives(), *tokens), positives

    def save(self, folder: str | Path, keep: int = 3) -> Path:
        """Write a checkpoint of this moment into the run's folder, keeping the last few; returns its folder.

        All processes call it and the first one writes. What was set apart is listed beside it, in quarantine.json.
        """
        folder = Path(folder)
        self.note_quarantine(folder)
        if self.processes.is_main:
            save_checkpoint(self, folder, keep)
        self.processes.wait()
        return checkpoint_of(folder, len(self.history))

    def refuse_other_runs(self) -> None:
        """Several processes must hold one recipe, the same scans and the same moment; all call it.

        Raises:
            ValueError: if they do not, such as on nodes that do not share the run's folder.
        """
        facts = [self.config.as_dict(), [str(facts) for facts in self.facts], len(self.history), self.regions]
        digest = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
        held = self.processes.union({digest: f"step {len(self.history)}, {len(self.scans)} scans"})
        if len(held) > 1:
            raise ValueError(
                f"the processes hold different runs ({'; '.join(held.values())}): they need the same recipe, the same "
                "scans and one folder"
            )

    def note_quarantine(self, folder: Path) -> None:
        """Write what was set apart, by any process, into the run's folder; all call it."""
        quarantine = self.processes.union(self.quarantine)
        if self.processes.is_main:
            folder.mkdir(parents=True, exist_ok=True)
            write_json(folder / "quarantine.json", quarantine)

    @classmethod
    def resume(cls, folder: str | Path, scans: Scans, *options, **named) -> "Pretraining":
        """The run whose newest checkpoint lies in a folder, with the recipe it was started with.

        On the same device, with the same scans and versions, the steps that follow are those of a run that was never
        interrupted, bit for bit. With another number of processes they are those of that number.

        Args:
            options, named: see the class.

        Raises:
            FileNotFoundError: if the folder holds no checkpoint.
            ValueError: if the checkpoint is damaged or was made on other scans.
        """
        return load_checkpoint(newest_checkpoint(Path(folder)), lambda config: cls(config, scans, *options, **named))


def _refuse_unfit_scans(config: PretrainConfig, facts: Sequence[ScanFacts]) -> None:
    """A scan that is too small, or gives a smaller region, would stop the run at whichever step draws it."""
    strides = [config.encoder.stride(level) for level in config.levels]
    regions = set()
    for scan in facts:
        try:
            check_fits(scan.shape, strides)
        except ValueError as error:
            raise ValueError(f"{scan.name}: {error}") from error
        regions.add((region_shape(scan.shape, config.encoder.sub_volume, config.views.counts), scan.name))
    if config.batch > 1 and len({shape for shape, _ in regions}) > 1:
        raise ValueError(
            f"regions of one batch must have one shape, got {sorted(regions)}: use smaller counts, or batch=1"
        )


GRACE = 300
"""Seconds that a reader lives on after SIGTERM, which schedulers send to all processes of a run."""


def _close(run: "weakref.ref[Pretraining]") -> None:
    if alive := run():
        alive.close()


def _outlive_termination(_worker: int) -> None:
    """Without its readers a run could not finish its step; it lets them go itself."""

    def wait(*_) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.alarm(GRACE)

    signal.signal(signal.SIGTERM, wait)


def autocast(config: PretrainConfig, device: torch.device):
    """The precision in which a recipe runs the networks, as a context."""
    return torch.autocast(device.type, torch.bfloat16) if config.precision == "bfloat16" else nullcontext()


def _warmup_then_cosine(step: int, config: PretrainConfig) -> float:
    if step < config.warmup:
        return (step + 1) / config.warmup
    done = (step - config.warmup) / max(config.steps - config.warmup, 1)
    return 0.5 * (1 + math.cos(math.pi * done))
