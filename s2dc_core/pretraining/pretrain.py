"""Pre-training from start or checkpoint to end."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from s2dc_core.data import Scans
from s2dc_core.methods import Method
from s2dc_core.pretraining.config import PretrainConfig
from s2dc_core.pretraining.run import Pretraining
from s2dc_core.training.loop import drive
from s2dc_core.training.provenance import note_start
from s2dc_core.training.resuming import start_or_resume


class PretrainResult(NamedTuple):
    """The trained method and, per step, its terms as floats."""

    model: Method
    history: list[tuple]


def pretrain(
    config: PretrainConfig,
    scans: Scans,
    progress: bool = True,
    folder: str | Path | None = None,
    save_every: int = 100,
    resume: bool = False,
    device: torch.device | str | None = None,
    on_step: Callable[[Pretraining], None] | None = None,
    note: Mapping[str, Any] | None = None,
    keep: int = 3,
    keep_every: int | None = None,
    log_every: int | None = None,
    **options,
) -> PretrainResult:
    """Train a method on random regions of the scans.

    Started by `accelerate launch`, `torchrun` or `notebook_launcher`, the processes take each step together.

    SIGTERM, which schedulers send before they kill, SIGHUP, SIGUSR1 and Ctrl-C end the run after the step in progress:
    its state is saved if there is a folder. Ctrl-C then is a KeyboardInterrupt as ever, and a second one ends the run
    at once; for the others the process exits with code 128 + the signal's number.

    Args:
        config: the recipe.
        scans: each is drawn from once before any is drawn from again, in an order that the seed gives.
        progress: show a bar with the loss and its terms, sub-volumes per second and the time left.
        folder: where checkpoints and quarantine.json go, every so many steps and at the end, and run.json with an entry
            for each start (see provenance); None keeps nothing. Only one run at a time may write there.
        save_every: steps between two checkpoints.
        resume: go on from the newest good checkpoint in the folder; one is started if there is none. Steps,
            learning_rate, clip, compile and gradient_checkpointing may then be others, and batch and accumulate as long
            as a step takes as many regions in all processes. Of the scans as many may be missing as most_damaged says.
        device: None for the GPU if there is one, else the CPU.
        on_step: called with the run before the first step and after each, in the main process.
        note: what run.json is to say besides, such as the command line and the manifest.
        keep: checkpoints that stay, the last ones.
        keep_every: one of each so many steps is made, and stays for good.
        log_every: without a bar, steps between two lines on stderr with losses, learning rate, speed and time left.
        options: workers, quarantine, most_damaged; see Pretraining.

    Raises:
        ValueError: without scans, if one is smaller than a patch, if their regions cannot share a batch, if a batch
            holds fewer sub-volumes than the method needs, if scans that it pairs differ in spacing, if the folder holds
            a run and resume is False, if the run in it cannot go on like this (see resuming.start_or_resume), or if
            another run writes there.
        FloatingPointError: once the loss or the gradient is not finite in more steps than most_damaged, naming the
            step, its scans and the terms. The state before that step is saved if there is a folder.
        UnreadableScans: once more scans cannot be read than most_damaged; the state is saved likewise.
        DiskFull: if there is no room for a checkpoint; the last one stays.
    """
    run = start_or_resume(lambda recipe: Pretraining(recipe, scans, device, **options), config, folder, resume)
    run.refuse_few_parts()
    noted = note_start(run, folder, note)
    a_region = (config.options.PARTS, config.options.parts(run.present[0].shape, config.encoder))
    kept = {"save_every": save_every, "keep": keep, "keep_every": keep_every, "log_every": log_every}
    drive(run, folder, progress=progress, on_step=on_step, on_every=noted, a_region=a_region, **kept)
    noted(run)
    return PretrainResult(run.model.eval(), run.history)
