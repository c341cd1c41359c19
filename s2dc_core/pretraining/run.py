"""A step of pre-training (paper section 3, equation 9): views, three losses, a student, its teacher, a queue."""

import sys
from collections.abc import Mapping, Sequence
from functools import cached_property

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from s2dc_core.data import ScanFacts, Scans, facts_of, settings_of
from s2dc_core.geometry import check_fits
from s2dc_core.losses import LossTerms, S2DCLoss
from s2dc_core.model import FeatureQueue, SharedBatchNorm
from s2dc_core.pretraining.config import PretrainConfig
from s2dc_core.pretraining.places import Placed, find_again, name_in
from s2dc_core.pretraining.regions import RegionDraw, RegionDraws, draw_tokens, views_of
from s2dc_core.training.order import TOKENS, random_numbers
from s2dc_core.training.records import difference
from s2dc_core.training.run import Run, UnreadableScans, autocast
from s2dc_core.views import Views, region_shape


class Pretraining(Run):
    """A pre-training between two steps; see Run.

    Args:
        config, scans: what to train, on what.
        options, named: device, workers, quarantine, most_damaged; see Run.

    Attributes:
        model, queue: the networks and the negatives of L_g.
        history: LossTerms as floats.
    """

    Config, Terms = PretrainConfig, LossTerms

    def __init__(self, config: PretrainConfig, scans: Scans, *options, **named):
        if not len(scans):
            raise ValueError("pretrain needs at least one scan")
        self.scans = scans
        _refuse_unfit_scans(config, self.facts)
        super().__init__(config, *options, **named)
        self.model = config.build().to(self.device).train()
        self.encoder.trained_on = self.settings
        if config.compile:
            for branch in (self.model.student, self.model.teacher):
                branch.encoder.swinViT.compile()
        self.student = self.optimise(self.model.student)
        self.passed = self.model
        self.processes.meet_in(*(part for part in self.model.modules() if isinstance(part, SharedBatchNorm)))
        pooled = self.model.student.pooled_head[-1].out_features
        self.queue = FeatureQueue(config.queue, pooled).to(self.device)
        self.loss = S2DCLoss.from_preset(config.loss, **config.loss_options)

    @cached_property
    def facts(self) -> list[ScanFacts]:
        """What the run is made on: name, kind, grid and checksum of each scan."""
        return facts_of(self.scans)

    @cached_property
    def settings(self) -> list[dict]:
        """How the scans were prepared, see data.settings_of."""
        return settings_of(self.facts)

    def accept(self, facts: Sequence[str], quarantine: Mapping[str, str]) -> None:
        """Give each scan the place that it had; one that is missing, or has changed, is set apart."""
        apart = {**quarantine, **self.quarantine}
        found = find_again(facts, self.facts, apart)
        missing = dict(found.missing.values())
        self.quarantine = {**missing, **apart}
        if missing and len(self.quarantine) > self.most_damaged:
            listed = "".join(f"\n  {reason}" for reason in self.quarantine.values())
            raise UnreadableScans(
                f"made on other scans: {difference(facts, [str(each) for each in self.facts])}; "
                f"{len(self.quarantine)} scans and steps are set apart, {self.most_damaged} may be{listed}"
            )
        said = [f"set apart: {reason}" for entry, reason in missing.items() if entry not in apart]
        said += [f"left out: {name}, which could not be used when the run started" for name in found.healed]
        for sentence in said if self.processes.is_main else ():
            tqdm.write(sentence, file=sys.stderr)
        if found.places != list(range(len(self.scans))):
            here, named = self.facts, zip(facts, found.places, strict=True)
            self.facts = [text if at is None else here[at]._replace(name=name_in(text)) for text, at in named]
            self.scans = Placed(self.scans, found.places, found.missing)

    @property
    def encoder(self) -> nn.Module:
        """The student's."""
        return self.model.student.encoder

    def held(self) -> dict[str, nn.Module]:
        """Student, teacher and queue."""
        return {"model": self.model, "queue": self.queue}

    def draws(self) -> RegionDraws:
        """Regions of the scans."""
        return RegionDraws(self.config, self.scans)

    def prepare(self, draws: Sequence[RegionDraw]) -> tuple[Views, list[int]]:
        """The views of a batch of regions, and their numbers."""
        return views_of(self.config, draws, self.device), [draw.number for draw in draws]

    def forward(self, prepared: tuple[Views, list[int]]) -> tuple[LossTerms, Tensor]:
        """The terms of a batch of views, and the positives' teacher features."""
        return self.compute(*prepared)

    def after_step(self, extras: Sequence[Tensor]) -> None:
        """The teacher follows, and the positives of all processes, in their order, become negatives."""
        self.model.update_teacher()
        for keys in extras:
            self.queue.add(self.processes.gather(keys))

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
