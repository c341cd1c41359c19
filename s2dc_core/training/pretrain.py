"""Pre-training on one device (paper section 3, equation 9): views, three losses, a student, its teacher, a queue."""

import math
import signal
import sys
import threading
import zlib
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from tqdm.auto import tqdm

from s2dc_core.data import Scan
from s2dc_core.geometry import Matches
from s2dc_core.losses import LossTerms, S2DCLoss
from s2dc_core.model import FeatureQueue, StudentTeacher
from s2dc_core.training.checkpoints import find_run, load_checkpoint, newest_checkpoint, save_checkpoint
from s2dc_core.training.recipe import PretrainConfig
from s2dc_core.views import Views, check_fits, collate_views, make_views, region_shape

TERMINATED = 128 + signal.SIGTERM
"""The exit code that shells and schedulers give a process ended by SIGTERM."""


class PretrainResult(NamedTuple):
    """The trained model and, per step, the four values of LossTerms as floats."""

    model: StudentTeacher
    history: list[LossTerms]


class Pretraining:
    """A run between two steps: all that a checkpoint holds, and what takes the next step.

    Attributes:
        config, scans, device: what it was started with.
        model, queue: the networks and the negatives of L_g.
        history: LossTerms as floats, one per step taken.
    """

    def __init__(self, config: PretrainConfig, scans: Sequence[Scan], device: torch.device | str | None = None):
        if not scans:
            raise ValueError("pretrain needs at least one scan")
        _refuse_unfit_scans(config, scans)
        self.config, self.scans = config, list(scans)
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.model = config.build().to(self.device).train()
        pooled = self.model.student.pooled_head[-1].out_features
        self.queue = FeatureQueue(config.queue, pooled).to(self.device)
        self.loss = S2DCLoss.from_preset(config.loss, **config.loss_options)
        weights = self.model.student.parameters()
        self.optimiser = torch.optim.AdamW(weights, config.learning_rate, weight_decay=config.weight_decay)
        rate = torch.optim.lr_scheduler.LambdaLR
        self.schedule = rate(self.optimiser, lambda step: _warmup_then_cosine(step, config))
        self.generator = torch.Generator().manual_seed(config.seed)
        self.history: list[LossTerms] = []

    @cached_property
    def data(self) -> list[str]:
        """What the run is made on, a line per scan with its name, kind, grid and a checksum of its voxels."""
        return [
            f"{scan.name}: {scan.modality}, {tuple(scan.volume.shape[1:])} voxels of {scan.spacing} mm, "
            f"{zlib.crc32(scan.volume.numpy().tobytes()):08x}"
            for scan in self.scans
        ]

    def step(self) -> LossTerms:
        """One optimiser step and one of the teacher; the terms as floats, also in `history`.

        Raises:
            FloatingPointError: if the loss or its gradient is not finite; the run is then as it was before the step.
        """
        before = self.generator.get_state(), {name: value.clone() for name, value in self.queue.state_dict().items()}
        try:
            values = self._forward_and_backward()
        except FloatingPointError as error:
            self.generator.set_state(before[0])
            self.queue.load_state_dict(before[1])
            raise FloatingPointError(f"at step {len(self.history)}: {error}") from error
        self.optimiser.step()
        self.schedule.step()
        self.model.update_teacher()
        self.history.append(values)
        return values

    def _forward_and_backward(self) -> LossTerms:
        terms = self.compute(draw_views(self.config, self.scans, self.generator).to(self.device))
        values = LossTerms(*torch.stack([term.detach() for term in terms]).tolist())
        self.optimiser.zero_grad()
        terms.total.backward()
        weights = [weight for weight in self.model.student.parameters() if weight.grad is not None]
        norm = torch.nn.utils.clip_grad_norm_(weights, self.config.clip or math.inf)
        if not (math.isfinite(values.total) and torch.isfinite(norm)):
            what = "gradient" if math.isfinite(values.total) else "loss"
            raise FloatingPointError(f"the {what} is not finite: {values._asdict()}")
        return values

    def compute(self, views: Views) -> LossTerms:
        """The terms of equation 9 for a batch of views, with their gradient; the queue takes the positives in."""
        draws = (self.config.matched_tokens, self.config.token_draws, self.generator)
        with _autocast(self.config, self.device):
            return compute_losses(self.model, self.queue, self.loss, views, *draws)

    def save(self, folder: str | Path, keep: int = 3) -> Path:
        """Write a checkpoint of this moment into the run's folder, keeping the last few; returns its folder."""
        return save_checkpoint(self, Path(folder), keep)

    @classmethod
    def resume(
        cls, folder: str | Path, scans: Sequence[Scan], device: torch.device | str | None = None
    ) -> "Pretraining":
        """The run whose newest checkpoint lies in a folder, with the recipe it was started with.

        On the same device, with the same scans and versions, the steps that follow are those of a run that was never
        interrupted, bit for bit.

        Raises:
            FileNotFoundError: if the folder holds no checkpoint.
            ValueError: if the checkpoint is damaged or was made on other scans.
        """
        return load_checkpoint(newest_checkpoint(Path(folder)), lambda config: cls(config, scans, device))


def pretrain(
    config: PretrainConfig,
    scans: Sequence[Scan],
    progress: bool = True,
    folder: str | Path | None = None,
    save_every: int = 100,
    resume: bool = False,
    device: torch.device | str | None = None,
    on_step: Callable[[Pretraining], None] | None = None,
) -> PretrainResult:
    """Train a student and its teacher on random regions of the scans.

    SIGTERM, which schedulers send before they kill, ends the run after the step in progress: its state is saved if
    there is a folder, and the process exits with code 143.

    Args:
        config: the recipe.
        scans: drawn from at random, with replacement.
        progress: show a bar with the three terms and the time left.
        folder: where checkpoints go, every so many steps and at the end; None keeps nothing.
        save_every: steps between two checkpoints.
        resume: go on from the newest checkpoint in the folder; one is started if there is none.
        device: None for the GPU if there is one, else the CPU.
        on_step: called with the run before the first step and after each.

    Raises:
        ValueError: without scans, if one is smaller than a patch, if their regions cannot share a batch, if the
            folder holds a run and resume is False, or if the run in it followed another recipe.
        FloatingPointError: as soon as the loss or the gradient is not finite, naming the step and the terms. The state
            before that step is saved if there is a folder.
    """
    run = _start_or_resume(config, scans, folder, resume, device)
    bar = tqdm(total=config.steps, initial=len(run.history), disable=not progress, unit="step", leave=False)
    with bar, _Termination() as termination:
        if on_step and not run.history:
            on_step(run)
        while len(run.history) < config.steps:
            terms = _step_or_save(run, folder)
            bar.set_postfix({name: f"{value:.2f}" for name, value in terms._asdict().items()}, refresh=False)
            bar.update()
            due = len(run.history) % save_every == 0 or len(run.history) == config.steps
            kept = run.save(folder) if folder and due else None
            if on_step:
                on_step(run)
            if termination.asked:
                kept = kept or (run.save(folder) if folder else None)
                advice = "and resume=True (s2dc: --resume) goes on from there"
                where = f"its state is in {kept}, {advice}" if kept else "nothing was kept"
                print(f"stopped by SIGTERM after step {len(run.history)}: {where}", file=sys.stderr, flush=True)
                raise SystemExit(TERMINATED)
    return PretrainResult(run.model.eval(), run.history)


def _step_or_save(run: Pretraining, folder: str | Path | None) -> LossTerms:
    try:
        return run.step()
    except FloatingPointError as error:
        advice = "try a lower learning_rate, or a clip"
        kept = f"; the state before it is in {run.save(folder)}" if folder else ""
        raise FloatingPointError(f"{error}; {advice}{kept}") from error


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


def _start_or_resume(config, scans, folder, resume, device) -> Pretraining:
    if folder is None and resume:
        raise ValueError("resume needs the folder of the run that is to go on")
    if folder is None or find_run(Path(folder), config, resume) is None:
        return Pretraining(config, scans, device)
    return Pretraining.resume(folder, scans, device)


def _refuse_unfit_scans(config: PretrainConfig, scans: Sequence[Scan]) -> None:
    """A scan that is too small, or gives a smaller region, would stop the run at whichever step draws it."""
    strides = [config.encoder.stride(level) for level in config.levels]
    regions = set()
    for scan in scans:
        try:
            check_fits(scan.volume.shape[1:], strides)
        except ValueError as error:
            raise ValueError(f"{scan.name}: {error}") from error
        shape = region_shape(scan.volume.shape[1:], config.encoder.sub_volume, config.views.counts)
        regions.add((shape, scan.name))
    if config.batch > 1 and len({shape for shape, _ in regions}) > 1:
        raise ValueError(
            f"regions of one batch must have one shape, got {sorted(regions)}: use smaller counts, or batch=1"
        )


def draw_views(config: PretrainConfig, scans: Sequence[Scan], generator: torch.Generator) -> Views:
    """A batch of views, each of a region of a scan drawn at random."""
    chosen = torch.randint(len(scans), (config.batch,), generator=generator).tolist()
    views = []
    for scan in (scans[index] for index in chosen):
        views.append(
            make_views(
                scan.volume,
                scan.spacing,
                config.encoder,
                config.matched_levels,
                config.views,
                background=scan.background,
                foreground=scan.foreground,
                generator=generator,
            )
        )
    return collate_views(views)


def compute_losses(
    model: StudentTeacher,
    queue: FeatureQueue,
    loss: S2DCLoss,
    views: Views,
    matched_tokens: int | None = None,
    token_draws: int = 1,
    generator: torch.Generator | None = None,
) -> LossTerms:
    """The terms of equation 9 for a batch of views; the positives' teacher features enter the queue afterwards.

    Args:
        matched_tokens, token_draws: see PretrainConfig; the generator draws which.
    """
    student, teacher = model.student(views.source), model.teach(views.target)
    with torch.no_grad():
        positives = model.teacher.embed(views.positives)
    levels = list(zip(student.tokens, teacher.tokens, views.matches, strict=True))
    if matched_tokens:
        levels = [draw_tokens(*level, matched_tokens, token_draws, generator) for level in levels]
    terms = loss(student.pooled, positives, queue.negatives(), *(list(part) for part in zip(*levels, strict=True)))
    queue.add(positives)
    return terms


def draw_tokens(
    student: Float[Tensor, "b n c"],
    teacher: Float[Tensor, "b m c"],
    matches: Matches,
    count: int,
    draws: int = 1,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor, Matches]:
    """Random samples of the tokens of each region with the matches among them, [B * draws, <= count, C] each.

    In a sample, matched tokens come first, drawn with their partners; room that is left goes to unmatched tokens, which
    the others must still be told apart from. A small count spreads a sample over the region: tokens are then told apart
    from other structures more often than from their own neighbours.
    """
    sources, targets, kept = [], [], []
    for region in range(len(student)):
        pairs = (matches.batch == region).nonzero()[:, 0].cpu()
        for _ in range(draws):
            some = pairs[torch.randperm(len(pairs), generator=generator)][:count].to(matches.batch.device)
            place = torch.arange(len(some), device=some.device)
            kept.append(Matches(torch.full_like(place, len(kept)), place, place))
            sources.append(student[region, _fill_up(matches.source[some], student.shape[1], count, generator)])
            targets.append(teacher[region, _fill_up(matches.target[some], teacher.shape[1], count, generator)])
    return torch.stack(sources), torch.stack(targets), Matches(*map(torch.cat, zip(*kept, strict=True)))


def _fill_up(
    first: Int[Tensor, " k"], total: int, count: int, generator: torch.Generator | None
) -> Int[Tensor, " count"]:
    """The given tokens, then others of ``total`` at random, up to ``count``."""
    free = torch.ones(total, dtype=torch.bool)
    free[first.cpu()] = False
    others = free.nonzero()[:, 0]
    others = others[torch.randperm(len(others), generator=generator)][: max(count - len(first), 0)]
    return torch.cat([first, others.to(first.device)])


def _autocast(config: PretrainConfig, device: torch.device):
    return torch.autocast(device.type, torch.bfloat16) if config.precision == "bfloat16" else nullcontext()


def _warmup_then_cosine(step: int, config: PretrainConfig) -> float:
    if step < config.warmup:
        return (step + 1) / config.warmup
    done = (step - config.warmup) / max(config.steps - config.warmup, 1)
    return 0.5 * (1 + math.cos(math.pi * done))
