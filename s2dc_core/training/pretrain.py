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
from s2dc_core.views import ViewConfig, Views, collate_views, make_views


@dataclass(frozen=True)
class PretrainConfig:
    """Model, views, schedule and loss of a run; the defaults suit two CPU cores and a minute or two.

    Attributes:
        encoder, levels, hidden, out, momentum: see model.StudentTeacher.
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

    def build(self) -> StudentTeacher:
        """Student and teacher with the initial weights that the seed gives, leaving the global random state alone."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return StudentTeacher(self.encoder, self.levels, self.hidden, self.out, momentum=self.momentum)


class PretrainResult(NamedTuple):
    """The trained model and, per step, the four values of LossTerms as floats."""

    model: StudentTeacher
    history: list[LossTerms]


def pretrain(config: PretrainConfig, scans: Sequence[Scan], progress: bool = True) -> PretrainResult:
    """Train a student and its teacher on random regions of the scans (paper section 3, equation 9).

    Raises:
        ValueError: without scans.
        FloatingPointError: as soon as the loss is not finite, naming the step and the terms.
    """
    if not scans:
        raise ValueError("pretrain needs at least one scan")
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
            raise FloatingPointError(f"the loss is not finite at step {step}: {terms}; try a lower learning rate")
        optimiser.zero_grad()
        terms.total.backward()
        optimiser.step()
        schedule.step()
        model.update_teacher()
        history.append(LossTerms(*(term.item() for term in terms)))
        bar.set_postfix({name: f"{value:.2f}" for name, value in history[-1]._asdict().items()})
    return PretrainResult(model.eval(), history)


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
        positives = torch.nn.functional.normalize(model.teacher.embed(views.positives), dim=-1)
    terms = loss(student.pooled, positives, queue.negatives(), student.tokens, teacher.tokens, views.matches)
    queue.add(positives)
    return terms


def _warmup_then_cosine(step: int, config: PretrainConfig) -> float:
    if step < config.warmup:
        return (step + 1) / config.warmup
    done = (step - config.warmup) / max(config.steps - config.warmup, 1)
    return 0.5 * (1 + math.cos(math.pi * done))
