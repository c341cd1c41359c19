"""Pre-training from start or checkpoint to end, with a progress bar, checkpoints and a clean stop; on any machine."""

import math
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import torch
from tqdm.auto import tqdm

from s2dc_core.data import Scans
from s2dc_core.losses import LossTerms
from s2dc_core.model import StudentTeacher
from s2dc_core.training.checkpoints import find_run, load_checkpoint
from s2dc_core.training.recipe import PretrainConfig
from s2dc_core.training.records import read_json
from s2dc_core.training.run import Pretraining, StoppedElsewhere, UnreadableScans

TERMINATED = 128 + signal.SIGTERM
"""The exit code that shells and schedulers give a process ended by SIGTERM."""


class PretrainResult(NamedTuple):
    """The trained model and, per step, the four values of LossTerms as floats."""

    model: StudentTeacher
    history: list[LossTerms]


def pretrain(
    config: PretrainConfig,
    scans: Scans,
    progress: bool = True,
    folder: str | Path | None = None,
    save_every: int = 100,
    resume: bool = False,
    device: torch.device | str | None = None,
    on_step: Callable[[Pretraining], None] | None = None,
    **options,
) -> PretrainResult:
    """Train a student and its teacher on random regions of the scans.

    Started by `accelerate launch`, `torchrun` or `notebook_launcher`, the processes take each step together.

    SIGTERM, which schedulers send before they kill, ends the run after the step in progress: its state is saved if
    there is a folder, and the process exits with code 143.

    Args:
        config: the recipe.
        scans: each is drawn from once before any is drawn from again, in an order that the seed gives.
        progress: show a bar with the three terms, sub-volumes per second and the time left.
        folder: where checkpoints and quarantine.json go, every so many steps and at the end; None keeps nothing.
        save_every: steps between two checkpoints.
        resume: go on from the newest checkpoint in the folder; one is started if there is none.
        device: None for the GPU if there is one, else the CPU.
        on_step: called with the run before the first step and after each, in the main process.
        options: workers, quarantine, most_damaged; see Pretraining.

    Raises:
        ValueError: without scans, if one is smaller than a patch, if their regions cannot share a batch, if the
            folder holds a run and resume is False, or if the run in it followed another recipe.
        FloatingPointError: once the loss or the gradient is not finite in more steps than most_damaged, naming the
            step, its scans and the terms. The state before that step is saved if there is a folder.
        UnreadableScans: once more scans cannot be read than most_damaged; the state is saved likewise.
    """
    run = _start_or_resume(config, scans, folder, resume, device, **options)
    run.refuse_other_runs()
    if folder:
        if run.history:
            run.quarantine = {**_earlier_quarantine(Path(folder)), **run.quarantine}
        run.note_quarantine(Path(folder))
    on_step = on_step if run.processes.is_main else None
    hidden = not (progress and run.processes.is_main)
    bar = tqdm(total=config.steps, initial=len(run.history), disable=hidden, unit="step", leave=False)
    with bar, closing(run), _Termination() as termination:
        if on_step and not run.history:
            on_step(run)
        while len(run.history) < config.steps:
            started = time.perf_counter()
            terms = _step_or_save(run, folder)
            if terms is None:
                continue
            _show(bar, terms, run.regions_a_step * math.prod(config.views.counts) / (time.perf_counter() - started))
            due = len(run.history) % save_every == 0 or len(run.history) == config.steps
            kept = run.save(folder) if folder and due else None
            if on_step:
                on_step(run)
            if run.processes.any(termination.asked):
                _stop(run, folder, kept)
    return PretrainResult(run.model.eval(), run.history)


def _earlier_quarantine(folder: Path) -> dict[str, str]:
    file = folder / "quarantine.json"
    return read_json(file) if file.is_file() else {}


def _show(bar: tqdm, terms: LossTerms, speed: float) -> None:
    losses = {name: f"{value:.2f}" for name, value in terms._asdict().items()}
    bar.set_postfix({**losses, "sub-volumes/s": f"{speed:.3g}"}, refresh=False)
    bar.update()


def _step_or_save(run: Pretraining, folder: str | Path | None) -> LossTerms | None:
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


def _stop(run: Pretraining, folder: str | Path | None, kept: Path | None) -> None:
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


def _start_or_resume(config, scans, folder, resume, *options, **named) -> Pretraining:
    if folder is None and resume:
        raise ValueError("resume needs the folder of the run that is to go on")
    newest = find_run(Path(folder), config, resume) if folder else None
    run = Pretraining(config, scans, *options, **named)
    return run if newest is None else load_checkpoint(newest, lambda _stored: run)
