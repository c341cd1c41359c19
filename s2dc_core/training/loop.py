"""A training from start or checkpoint to end, with progress, checkpoints and a clean stop; on any machine."""

import signal
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from tqdm.auto import tqdm

from s2dc_core.training.checkpoints import quarantine_in
from s2dc_core.training.processes import StoppedElsewhere
from s2dc_core.training.progress import Progress
from s2dc_core.training.run import Run, UnreadableScans
from s2dc_core.training.signals import Ending, end_by


class Keeping(NamedTuple):
    """Where and when a run's state is kept.

    Attributes:
        folder: where checkpoints and quarantine.json go; None keeps nothing.
        every: steps between two checkpoints; there is one at the end, too.
        keep: checkpoints that stay, the last ones.
        keep_every: one of each so many steps is made, and stays for good; None for none.
    """

    folder: Path | None
    every: int = 100
    keep: int = 3
    keep_every: int | None = None

    def check(self) -> None:
        """Raise a ValueError for numbers that cannot be."""
        numbers = {"save_every": self.every, "keep": self.keep, "keep_every": self.keep_every}
        for name, number in numbers.items():
            if number is not None and number < 1:
                raise ValueError(f"{name} must be at least 1, got {number}")

    def due(self, step: int, last: int) -> bool:
        """Whether a checkpoint is made after a step."""
        return step % self.every == 0 or step == last or bool(self.keep_every and step % self.keep_every == 0)

    def save(self, run: Run) -> Path | None:
        """Keep the state of this moment; None without a folder, or before a step was taken."""
        return run.save(self.folder, self.keep, self.keep_every) if self.folder and run.history else None


def drive(
    run: Run,
    folder: str | Path | None = None,
    save_every: int = 100,
    progress: bool = True,
    on_step: Callable[[Run], None] | None = None,
    on_every: Callable[[Run], None] | None = None,
    a_region: tuple[str, int] = ("regions", 1),
    keep: int = 3,
    keep_every: int | None = None,
    log_every: int | None = None,
) -> None:
    """Take the steps that the recipe asks for; see `pretrain` for what stops them.

    Args:
        folder, save_every, keep, keep_every: see Keeping.
        progress, log_every, a_region: see Progress.
        on_step: called with the run before the first step and after each, in the main process.
        on_every: called with the run after each step, before it is saved, in every process.
    """
    keeping = Keeping(folder and Path(folder), save_every, keep, keep_every)
    main, steps = run.processes.is_main, run.config.steps
    on_step = on_step if main else None
    with closing(run), Ending(run.processes.count, silent=not main) as ending:
        keeping.check()
        if keeping.folder:
            _take_hold(run, keeping.folder)
        run.refuse_other_runs()
        with Progress(run, progress, log_every, a_region) as shown:
            if on_step and not run.history:
                on_step(run)
            while len(run.history) < steps:
                started, kept = time.perf_counter(), None
                if _step(run, keeping):
                    shown.note(time.perf_counter() - started)
                    if on_every:
                        _look(run, keeping, on_every)
                    kept = keeping.save(run) if keeping.due(len(run.history), steps) else None
                    if on_step:
                        on_step(run)
                if number := run.processes.largest(ending.asked):
                    _stop(run, number, kept or keeping.save(run))


def _take_hold(run: Run, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    run.claim(folder)
    if run.history:
        run.quarantine = {**quarantine_in(folder), **run.quarantine}
    run.note_quarantine(folder)


def _step(run: Run, keeping: Keeping) -> bool:
    """Take a step, or pass over it with a line that says so; whether it was taken.

    An error says at which step it came and where the state before that is kept.
    """
    try:
        run.step()
        return True
    except Exception as error:
        if run.set_apart(error):
            if not isinstance(error, StoppedElsewhere):
                tqdm.write(f"set apart: {error}", file=sys.stderr)
            return False
        where = _kept(run, keeping)
        if not isinstance(error, (FloatingPointError, UnreadableScans, StoppedElsewhere)):
            error.add_note(f"at step {len(run.history)}{where}")
            raise
        advice = "; try a lower learning_rate, or a clip" if isinstance(error, FloatingPointError) else ""
        raise type(error)(f"{error}{advice}{where}") from error


def _look(run: Run, keeping: Keeping, on_every: Callable[[Run], None]) -> None:
    """Call it with the run after a step; an error says where the state is kept."""
    try:
        with run.processes.left_after_errors():
            on_every(run)
    except Exception as error:
        error.add_note(f"after step {len(run.history)}{_kept(run, keeping)}")
        raise


def _kept(run: Run, keeping: Keeping) -> str:
    """Keep the state around a failure; where it lies, or why it does not."""
    if not run.whole:
        return ", while weights were changed: nothing is kept of it, and earlier checkpoints stay"
    try:
        kept = keeping.save(run)
    except Exception as error:  # such as a full disk, which must not hide what came first
        return f"; the state before it could not be kept: {error}"
    return f"; the state before it is in {kept}" if kept and (run.processes.is_main or not run.processes.left) else ""


def _stop(run: Run, number: int, kept: Path | None) -> None:
    advice = "and resume=True (s2dc: --resume) goes on from there"
    where = f"its state is in {kept}, {advice}" if kept else "nothing was kept"
    if run.processes.is_main:
        name = signal.Signals(number).name
        tqdm.write(f"stopped by {name} after step {len(run.history)}: {where}", file=sys.stderr)
    end_by(number)
