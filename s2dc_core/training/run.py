"""What every training of the project is between two steps: pre-training, and fine-tuning for a task."""

import atexit
import hashlib
import json
import math
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from s2dc_core.training.batches import Origin, refuse_other_steps, regions_a_step
from s2dc_core.training.buffers import buffers_kept
from s2dc_core.training.checkpoints import checkpoint_of, newest_good, restore, save_checkpoint
from s2dc_core.training.lock import FolderLock, take_folder
from s2dc_core.training.precision import keep_convolutions
from s2dc_core.training.processes import Processes, StoppedElsewhere
from s2dc_core.training.rates import optimiser_of, schedule_of, set_rates
from s2dc_core.training.readers import read_ahead
from s2dc_core.training.recipe import Recipe
from s2dc_core.training.records import difference, write_json


class UnreadableScans(ValueError):
    """More scans turned out to be unreadable than a run may lose."""


class Run(ABC):
    """A training between two steps: all that a checkpoint holds, and what takes the next step.

    With several processes each holds one and takes the same steps; what they hold stays equal.

    Args:
        config: the recipe.
        device: None for the GPU if there is one, else the CPU.
        workers: helper processes that read regions ahead; 0 reads them in between.
        quarantine: {scan: what is wrong with it} of those already set apart.
        most_damaged: scans and steps that may be set apart, then and during the run, before that ends it.

    Attributes:
        history: the terms of the loss as floats, one entry per step taken, means over the processes.
        regions: how many were taken, by all processes: the position in the order of the scans.
        quarantine: {scan or step: what is wrong with it}, of this process.
        gradient_norm: of the last step, before clipping.
        origin: how earlier steps were taken, if it goes on from a checkpoint.
        whole: False while a step changes weights; what it holds is then of no moment, and not to be kept.
    """

    Config: ClassVar[type[Recipe]]
    Terms: ClassVar[type]
    """The NamedTuple of a loss; its field `total` is what is trained."""

    def __init__(
        self,
        config: Recipe,
        device: torch.device | str | None = None,
        workers: int = 0,
        quarantine: Mapping[str, str] | None = None,
        most_damaged: int = 0,
    ):
        self.config, self.workers = config, workers
        self.quarantine, self.most_damaged = dict(quarantine or {}), most_damaged
        self.processes = Processes(device)
        self.device = self.processes.device
        self.history: list = []
        self.regions, self.gradient_norm = 0, math.nan
        self.whole = True
        self.origin: Origin | None = None
        self._seen: list[str] = []
        self._coming: Iterator[list] | None = None
        self._claimed: tuple[Path, FolderLock | None] | None = None

    def optimise(self, network: nn.Module, slower: nn.Module | None = None, rate: float | int = 1.0) -> nn.Module:
        """Take charge of a network's weights; returns it as it is to be called, see Processes.share.

        Args:
            slower: a part of it whose learning rate is `rate` times the recipe's; with 0 it stays as it is.
        """
        keep_convolutions(network, self.config, self.device)
        self._trained, self.passed = network, network
        self.optimiser, self._rates = optimiser_of(network, self.config, slower, rate)
        self.schedule = schedule_of(self.optimiser, self.config)
        self._shared = self.processes.share(network)
        return self._shared

    def set_rates(self) -> None:
        """Bring the learning rates to the recipe's, at the step where the run stands."""
        set_rates(self.optimiser, self.schedule, self.config, self._rates, len(self.history))

    @property
    @abstractmethod
    def facts(self) -> Sequence[object]:
        """What the run is made on; a checkpoint holds their texts, and is not gone on with on others."""

    def accept(self, facts: Sequence[str], quarantine: Mapping[str, str]) -> None:
        """Go on with what a checkpoint was made on; what was set apart up to it may be missing.

        Raises:
            ValueError: if the run is made on other facts.
        """
        if (here := [str(each) for each in self.facts]) != list(facts):
            raise ValueError(f"made on other scans: {difference(facts, here)}")

    @abstractmethod
    def held(self) -> dict[str, nn.Module]:
        """The modules whose tensors a checkpoint holds, each under a name."""

    @property
    @abstractmethod
    def encoder(self) -> nn.Module | None:
        """The encoder that is trained, if it is a Swin; a checkpoint holds it once more, as a file for load_encoder."""

    @staticmethod
    def named_now(tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Tensors of a checkpoint, which an earlier version may have written, under the names that `held` gives."""
        return tensors

    @abstractmethod
    def draws(self) -> Dataset:
        """What a step reads, by its number in the run; entries have `scan`, a name, and `unreadable`."""

    def prepare(self, draws: Sequence[Any]) -> Any:
        """What `forward` takes, on the device, without gradient; the draws as they are unless a run says otherwise."""
        return draws

    @abstractmethod
    def forward(self, prepared: Any) -> tuple[tuple, Any]:
        """The `Terms` of a batch with their gradient, and what `after_step` is to get."""

    def losses(self, draws: Sequence[Any]) -> tuple[tuple, Any]:
        """What `forward` makes of a batch of draws."""
        return self.forward(self.prepare(draws))

    def after_step(self, extras: Sequence[Any]) -> None:  # noqa: B027
        """What else a step changes, once the weights have been; an entry for each batch of the step."""

    @property
    def regions_a_step(self) -> int:
        """Regions of one optimiser step, of all processes."""
        return regions_a_step(self.config, self.processes.count)

    def step(self) -> tuple:
        """One optimiser step; the terms as floats, also in `history`.

        Raises:
            FloatingPointError: if the loss or its gradient is not finite.
            UnreadableScans: if more scans cannot be read than may be lost.
            StoppedElsewhere: if another process met one of these.
            In each case weights, buffers and history are as they were before the step.
        """
        try:
            with buffers_kept(self.passed):
                values, extras = self._gradients()
        except Exception as error:
            self._coming = None  # the same regions come again
            if not isinstance(error, (FloatingPointError, UnreadableScans, StoppedElsewhere)):
                raise
            seen = f", on {', '.join(self._seen)}" if isinstance(error, FloatingPointError) else ""
            raise type(error)(f"at step {len(self.history)}{seen}: {error}") from error
        self.whole = False
        with self.processes.left_after_errors():
            self.optimiser.step()
            self.schedule.step()
            self.after_step(extras)
        self.whole = True
        self.regions += self.regions_a_step
        self.history.append(values)
        return values

    def claim(self, folder: Path) -> None:
        """Let no other run write in a folder until `close`; all processes call it and the first one holds it.

        Raises:
            ValueError: if another run holds it.
        """
        if self._claimed and self._claimed[0] == folder:
            return
        self._claimed = folder, self.processes.together(lambda: take_folder(folder) if self.processes.is_main else None)

    def close(self) -> None:
        """Let the run's folder go, and the helper processes that read ahead; a further step would start others."""
        self._coming = None
        if self._claimed and self._claimed[1]:
            self._claimed[1].close()
        self._claimed = None

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

    def _gradients(self) -> tuple[tuple, list]:
        """Leave the gradient of a step in the network; the terms, and what `after_step` is to get."""
        self.optimiser.zero_grad()
        terms, extras, self._seen = [], [], []
        for part in range(1, self.config.accumulate + 1):
            whole = part == self.config.accumulate
            with nullcontext() if whole else self.processes.gradients_stay(self._shared):
                found, extra = self._next_losses()
                with self.processes.left_after_errors():
                    (found.total / self.config.accumulate).backward()
            terms.append(torch.stack(tuple(found)).detach())
            extras.append(extra)
        means = self.processes.mean(torch.stack(terms).mean(0))
        weights = [weight for weight in self._trained.parameters() if weight.grad is not None]
        norm = torch.nn.utils.clip_grad_norm_(weights, self.config.clip or math.inf)
        numbers = torch.cat([means.double(), norm.reshape(1).to(means.device, torch.float64)])
        *found, self.gradient_norm = numbers.tolist()  # together: a GPU is waited for once
        values = self.Terms(*found)
        if not (math.isfinite(values.total) and math.isfinite(self.gradient_norm)):
            what = "gradient" if math.isfinite(values.total) else "loss"
            raise FloatingPointError(f"the {what} is not finite: {values._asdict()}")
        return values, extras

    def _next_losses(self) -> tuple[tuple, Any]:
        draws = self.processes.together(self._next_draws)
        if self.processes.any(any(draw.unreadable for draw in draws)):
            lost = self.processes.union(self.quarantine)
            if len(lost) > self.most_damaged:
                listed = "".join(f"\n  {reason}" for reason in lost.values())
                raise UnreadableScans(f"{len(lost)} scans cannot be used, {self.most_damaged} may be{listed}")
        prepared = self.processes.together(lambda: self.prepare(draws))
        return self.processes.together(lambda: self.forward(prepared))

    def _next_draws(self) -> list:
        if self._coming is None:
            if self.workers:
                # Else Python would end them at exit by a signal that they outlive, and wait.
                atexit.register(_close, weakref.ref(self))
            pinned = self.device.type == "cuda"
            self._coming = read_ahead(self.draws(), self._numbers(), self.workers, pinned)
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

    def save(self, folder: str | Path, keep: int = 3, keep_every: int | None = None) -> Path:
        """Write a checkpoint of this moment into the run's folder, keeping the last few; returns its folder.

        All processes call it and the first one writes. What was set apart is listed beside it, in quarantine.json.

        Args:
            keep, keep_every: see save_checkpoint.
        """
        folder, quarantine = Path(folder), self.processes.union(self.quarantine)

        def write() -> None:
            _note_quarantine(folder, quarantine)
            save_checkpoint(self, folder, keep, keep_every)

        self._in_main(folder, write)
        return checkpoint_of(folder, len(self.history))

    def note_quarantine(self, folder: Path) -> None:
        """Write what was set apart, by any process, into the run's folder; all call it."""
        quarantine = self.processes.union(self.quarantine)
        if self.processes.any(bool(quarantine or self.history)):  # a run that takes no step leaves nothing
            self._in_main(folder, lambda: _note_quarantine(folder, quarantine))

    def _in_main(self, folder: Path, write: Callable[[], None]) -> None:
        """Write in a folder, in which no other run may be writing; all processes call it and the first one writes."""

        def alone() -> None:
            folder.mkdir(parents=True, exist_ok=True)
            held = self._claimed and self._claimed[0] == folder
            with nullcontext() if held else closing(take_folder(folder)):
                write()

        self.processes.together(alone if self.processes.is_main else lambda: None)

    def refuse_other_runs(self) -> None:
        """Several processes must hold one recipe, the same scans and the same moment; all call it.

        Raises:
            ValueError: if they do not, such as on nodes that do not share the run's folder; or if the steps of the run
                that goes on here took another number of regions.
        """
        if self.origin:
            refuse_other_steps(self.origin, self.config, self.processes.count)
        facts = [self.config.as_dict(), [str(facts) for facts in self.facts], len(self.history), self.regions]
        digest = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
        held = self.processes.union({digest: f"step {len(self.history)}, {len(self.facts)} scans"})
        if len(held) > 1:
            raise ValueError(
                f"the processes hold different runs ({'; '.join(held.values())}): they need the same recipe, the same "
                "scans and one folder"
            )

    @classmethod
    def resume(cls, folder: str | Path, material: Any, *options, **named) -> "Run":
        """The run whose newest good checkpoint lies in a folder, with the recipe it was started with.

        On the same device, with the same scans and versions, the steps that follow are those of a run that was never
        interrupted, bit for bit.

        Args:
            folder: of the run, or of one of its checkpoints.
            material: what it is made on, as the class takes it.
            options, named: see the class.

        Raises:
            FileNotFoundError: if the folder holds no checkpoint.
            ValueError: if none can be read, and as checkpoints.restore.
        """
        stored, _ = newest_good(Path(folder), cls.Config)
        run = cls(stored.config, material, *options, **named)
        restore(run, stored)
        return run


def _note_quarantine(folder: Path, quarantine: dict[str, str]) -> None:
    write_json(folder / "quarantine.json", quarantine)


def _close(run: "weakref.ref[Run]") -> None:
    if alive := run():
        alive.close()
