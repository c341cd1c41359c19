"""A training from start or checkpoint to end, with a progress bar, checkpoints and a clean stop; on any machine."""

import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from tqdm.auto import tqdm

from s2dc_core.training.checkpoints import find_run, load_checkpoint
from s2dc_core.training.engine import Run, StoppedElsewhere, UnreadableScans
from s2dc_core.training.recipe import Recipe
from s2dc_core.training.records import read_json

TERMINATED = 128 + signal.SIGTERM
"""The exit code that shells and schedulers give a process ended by SIGTERM."""


def start_or_resume(start: Callable[[Recipe], Run], config: Recipe, folder: str | Path | None, resume: bool) -> Run:
    """A run of a recipe, from the newest checkpoint in the folder if one is there and it is to go on.

    Raises:
        ValueError: as find_run and load_checkpoint; and without a folder to resume from.
    """
    if folder is None and resume:
        raise ValueError("resume needs the folder of the run that is to go on")
    newest = find_run(Path(folder), config, resume) if folder else None
    run = start(config)
    return run if newest is None else load_checkpoint(newest, lambda _stored: run, type(config))


def drive(
    run: Run,
    folder: str | Path | None = None,
    save_every: int = 100,
    progress: bool = True,
    on_step: Callable[[Run], None] | None = None,
    on_every: Callable[[Run], None] | None = None,
    a_region: tuple[str, int] = ("regions", 1),
) -> None:
    """Take the steps that the recipe asks for; see `pretrain` for what stops them.

    Args:
        folder: where checkpoints and quarantine.json go, every so many steps and at the end; None keeps nothing.
        on_step: called with the run before the first step and after each, in the main process.
        on_every: called with the run after each step, before it is saved, in every process.
        a_region: what the bar counts a second, and how many of them a region is.
    """
    run.refuse_other_runs()
    if folder:
        if run.history:
            run.quarantine = {**_earlier_quarantine(Path(folder)), **run.quarantine}
        run.note_quarantine(Path(folder))
    on_step = on_step if run.processes.is_main else None
    hidden = not (progress and run.processes.is_main)
    steps = run.config.steps
    bar = tqdm(total=steps, initial=len(run.history), disable=hidden, unit="step", leave=False)
    with bar, closing(run), _Termination() as termination:
        if on_step and not run.history:
            on_step(run)
        while len(run.history) < steps:
            started = time.perf_counter()
            terms = _step_or_save(run, folder)
            if terms is None:
                continue
            speed = run.regions_a_step * a_region[1] / (time.perf_counter() - started)
            _show(bar, terms, {f"{a_region[0]}/s": f"{speed:.3g}"})
            if on_every:
                on_every(run)
            due = len(run.history) % save_every == 0 or len(run.history) == steps
            kept = run.save(folder) if folder and due else None
            if on_step:
                on_step(run)
            if run.processes.any(termination.asked):
                _stop(run, folder, kept)


def _earlier_quarantine(folder: Path) -> dict[str, str]:
    file = folder / "quarantine.json"
    return read_json(file) if file.is_file() else {}


def _show(bar: tqdm, terms: tuple, speed: dict[str, str]) -> None:
    losses = {name: f"{value:.2f}" for name, value in terms._asdict().items()}
    bar.set_postfix({**losses, **speed}, refresh=False)
    bar.update()


def _step_or_save(run: Run, folder: str | Path | None) -> tuple | None:
    """The step's terms; None if it was set apart, with a line that says so."""
    try:
        return run.step()
    except Exception as error:
        if run.set_apart(error):
            if not isinstance(error, StoppedElsewhere):
                tqdm.write(f"set apart: {error}", file=sys.stderr)
            return None
        advice = "; try a lower learning_rate, or a clip" if isinstance(error, FloatingPointError) else ""
        kept = f"; the state before it is in {run.save(folder)}" if folder else ""
        if not isinstance(error, (FloatingPointError, UnreadableScans, StoppedElsewhere)):
            error.add_note(f"at step {len(run.history)}{kept}")
            raise
        raise type(error)(f"{error}{advice}{kept}") from error


def _stop(run: Run, folder: str | Path | None, kept: Path | None) -> None:
    kept = kept or (run.save(folder) if folder else None)
    advice = "and resume=True (s2dc: --resume) goes on from there"
    where = f"its state is in {kept}, {advice}" if kept else "nothing was kept"
    if run.processes.is_main:
        print(f"stopped by SIGTERM after step {len(run.history)}: {where}", file=sys.stderr, flush=True)
    raise SystemExit(TERMINATED)


class _Termination:
    """Notes SIGTERM instead of dying of it; outside the main thread, where Python cannot, it does nothing."""

    asked = False

    def __enter__(self) -> "_Termination":
        self.main = threading.current_thread() is threading.main_thread()
        self.before = signal.signal(signal.SIGTERM, self._note) if self.main else None
        return self

    def __exit__(self, kind, *_) -> None:
        if self.main:
            signal.signal(signal.SIGTERM, self.before or signal.SIG_DFL)
        if self.asked and kind is None:  # it came after the last look, with the run complete
            raise SystemExit(TERMINATED)

    def _note(self, *_) -> None:
        self.asked = True
