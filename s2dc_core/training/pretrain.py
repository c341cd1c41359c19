"""A short pre-training on one device: what a notebook needs to show that the three losses teach an encoder."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from tqdm.auto import tqdm

from s2dc_core.data import Scan
from s2dc_core.losses import LossTerms, S2DCLoss
from s2dc_core.model import EncoderConfig, FeatureQueue, StudentTeacher
from s2dc_core.views import ViewConfig, Views, check_fits, collate_views, make_views, region_shape


@dataclass(frozen=True)
class PretrainConfig:
    """Model, views, schedule and loss of a run; the defaults suit a laptop and a minute or two.

    Attributes:
        encoder, levels, hidden, out, momentum: see model.StudentTeacher.
        norm: of the heads, "layer" or "batch"; None for "batch" with the official preset and "layer" otherwise.
        views: how regions and their counterparts are drawn.
        loss, loss_options: preset of S2DCLoss and what replaces its fields.
        steps, batch: optimiser steps, and regions in each.
        learning_rate, weight_decay, warmup: AdamW with a linear warm-up over that many steps, then a cosine to 0.
        queue: teacher features kept as the negatives of L_g.
        seed: of the initial weights and of every draw.
    """

    encoder: EncoderConfig = field(default_factory=EncoderConfig.teaching)
    levels: Sequence[int] = (1,)
    hidden: int = 256
    out: int = 128
    momentum: float = 0.99
    norm: str | None = None
    views: ViewConfig = field(default_factory=lambda: ViewConfig(counts=(1, 1, 1)))
    loss: str = "default"
    loss_options: dict = field(default_factory=dict)
    steps: int = 100
    batch: int = 4
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    warmup: int = 10
    queue: int = 256
    seed: int = 0

    def __post_init__(self):
        if self.norm is None:
            object.__setattr__(self, "norm", "batch" if self.loss == "official" else "layer")
        if not self.levels:
            raise ValueError("levels must name at least one token level")
        for name in ("steps", "batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")

    def build(self) -> StudentTeacher:
        """Student and teacher with the initial weights that the seed gives, leaving the global random state alone."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return StudentTeacher(self.encoder, self.levels, self.hidden, self.out, self.norm, self.momentum)


class PretrainResult(NamedTuple):
    """The trained model and, per step, the four values of LossTerms as floats."""

    model: StudentTeacher
    history: list[LossTerms]


def pretrain(config: PretrainConfig, scans: Sequence[Scan], progress: bool = True) -> PretrainResult:
    """Train a student and its teacher on random regions of the scans (paper section 3, equation 9).

    Raises:
        ValueError: without scans, if one is smaller than a patch, or if their regions cannot share a batch.
        FloatingPointError: as soon as the loss is not finite, naming the step and the terms.
    """
    if not scans:
        raise ValueError("pretrain needs at least one scan")
    _refuse_unfit_scans(config, scans)
    model = config.build().train()
    queue = FeatureQueue(config.queue, config.out)
    loss = S2DCLoss.from_preset(config.loss, **config.loss_options)
    optimiser = torch.optim.AdamW(model.student.parameters(), config.learning_rate, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _warmup_then_cosine(step, config))
    generator = torch.Generator().manual_seed(config.seed)
    history = []
    for step in (bar := tqdm(range(config.steps), disable=not progress, unit="step", leave=False)):
        terms = compute_losses(model, queue, loss, draw_views(config, scans, generator))
        if not torch.isfinite(terms.total):
            values = {name: term.item() for name, term in terms._asdict().items()}
            raise FloatingPointError(f"the loss is not finite at step {step}: {values}; try a lower learning rate")
        optimiser.zero_grad()
        terms.total.backward()
        optimiser.step()
        schedule.step()
        model.update_teacher()
        history.append(LossTerms(*(term.item() for term in terms)))
        bar.set_postfix({name: f"{value:.2f}" for name, value in history[-1]._asdict().items()})
    return PretrainResult(model.eval(), history)


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
                config.levels,
                config.views,
                background=scan.background,
                foreground=scan.foreground,
                generator=generator,
            )
        )
    return collate_views(views)


def compute_losses(model: StudentTeacher, queue: FeatureQueue, loss: S2DCLoss, views: Views) -> LossTerms:
    """The terms of equation 9 for a batch of views; the positives' teacher features enter the queue afterwards."""
    student, teacher = model.student(views.source), model.teach(views.target)
    with torch.no_grad():
        positives = model.teacher.embed(views.positives)
    terms = loss(student.pooled, positives, queue.negatives(), student.tokens, teacher.tokens, views.matches)
    queue.add(positives)
    return terms


def _warmup_then_cosine(step: int, config: PretrainConfig) -> float:
    if step < config.warmup:
        return (step + 1) / config.warmup
    done = (step - config.warmup) / max(config.steps - config.warmup, 1)
    return 0.5 * (1 + math.cos(math.pi * done))
