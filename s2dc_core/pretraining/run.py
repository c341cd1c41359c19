"""A step of pre-training, by whatever method: regions, views, a loss, and what follows the step."""

import math
import sys
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from s2dc_core.data import ScanFacts, Scans, facts_of, settings_of
from s2dc_core.encoder import Encoder
from s2dc_core.methods.parts.rows import RowsOfAll
from s2dc_core.model import SharedBatchNorm
from s2dc_core.pretraining.config import PretrainConfig
from s2dc_core.pretraining.places import Placed, find_again, name_in
from s2dc_core.pretraining.regions import RegionDraw, RegionDraws, regions_of
from s2dc_core.training.precision import autocast
from s2dc_core.training.readers import refuse_small_shared_memory
from s2dc_core.training.records import difference
from s2dc_core.training.run import Run, UnreadableScans

VOXEL = 6
"""Bytes of a region for each of its voxels: its intensity and two masks."""


class Pretraining(Run):
    """A pre-training between two steps; see Run.

    Args:
        config, scans: what to train, on what.
        options, named: device, workers, quarantine, most_damaged; see Run.

    Attributes:
        model: the method, see methods.Method.
        history: its terms as floats.
    """

    Config = PretrainConfig

    def __init__(self, config: PretrainConfig, scans: Scans, *options, **named):
        if not len(scans):
            raise ValueError("pretrain needs at least one scan")
        self.scans = scans
        _refuse_unfit_scans(config, self.facts)
        super().__init__(config, *options, **named)
        refuse_small_shared_memory(bytes_of_a_batch(config, self.facts), self.workers)
        self.model = config.build().to(self.device).train()
        self.Terms = self.model.Terms
        self.encoder.trained_on = self.settings
        for module in self.model.modules() if config.compile else ():
            if isinstance(module, Encoder):
                module.swinViT.compile()
        self.shared = self.optimise(self.model)
        exchanging = (part for part in self.model.modules() if isinstance(part, (SharedBatchNorm, RowsOfAll)))
        self.processes.meet_in(*exchanging)

    @cached_property
    def facts(self) -> list[ScanFacts]:
        """What the run is made on: name, kind, grid and checksum of each scan."""
        return facts_of(self.scans)

    @property
    def present(self) -> list[ScanFacts]:
        """The facts of scans that are there; of those that are missing since a checkpoint there is only text."""
        return [each for each in self.facts if isinstance(each, ScanFacts)]

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

    def refuse_few_parts(self) -> None:
        """Raise a ValueError if a batch of all processes is smaller than the method can learn from."""
        options, encoder = self.config.options, self.config.encoder
        for scan in self.present if options.least_parts > 1 else ():
            parts = options.parts(scan.shape, encoder) * self.config.batch * self.processes.count
            if parts < options.least_parts:
                raise ValueError(
                    f"{self.config.method} sets the {options.PARTS} of a batch against each other and needs at least "
                    f"{options.least_parts}; batch={self.config.batch} holds {parts} where regions are of {scan.name}"
                )

    @property
    def encoder(self) -> Encoder:
        """The one that the method exports."""
        return self.model.exported()["encoder"]

    def held(self) -> dict[str, nn.Module]:
        """The method, which is all that is trained and changed."""
        return {"model": self.model}

    @staticmethod
    def named_now(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Tensors of a checkpoint under their names of now: the queue once lay beside the model."""
        return {f"model.{name}" if name.startswith("queue.") else name: value for name, value in tensors.items()}

    def draws(self) -> RegionDraws:
        """Regions of the scans."""
        return RegionDraws(self.config, self.scans)

    def prepare(self, draws: Sequence[RegionDraw]) -> Any:
        """The method's views of a batch of regions."""
        return self.model.views(regions_of(draws, self.device))

    def forward(self, prepared: Any) -> tuple[tuple, Tensor | None]:
        """The mean terms of a batch of views, and rows for `after_step`."""
        with autocast(self.config, self.device):
            terms, rows = self.shared(prepared)
        return self.Terms(*(term.mean() for term in terms)), rows

    def after_step(self, extras: Sequence[Tensor | None]) -> None:
        """What the method does after a step, with the rows of all batches and processes, in their order."""
        rows = [self.processes.gather(each) for each in extras if each is not None]
        self.model.after_step(torch.cat(rows) if rows else None, (len(self.history) + 1) / self.config.steps)


def bytes_of_a_batch(config: PretrainConfig, facts: Sequence[ScanFacts]) -> int:
    """Of what is read for it, at most."""
    regions = (config.options.region_shape(scan.shape, config.encoder) for scan in facts)
    return config.batch * max(map(math.prod, regions)) * VOXEL * (1 + config.options.paired)


def _refuse_unfit_scans(config: PretrainConfig, facts: Sequence[ScanFacts]) -> None:
    """A scan that is too small, or gives a smaller region, would stop the run at whichever step draws it.

    And scans of two spacings that are laid over each other would do so silently wrong.
    """
    regions, first = set(), facts[0]
    for scan in facts:
        try:
            config.options.check_scan(scan.shape, config.encoder)
        except ValueError as error:
            raise ValueError(f"{scan.name}: {error}") from error
        regions.add((config.options.region_shape(scan.shape, config.encoder), scan.name))
        stretch = [one / other for one, other in zip(scan.spacing, first.spacing, strict=True)]
        if config.options.paired and not np.allclose(stretch, 1, atol=1e-3):
            raise ValueError(
                f"{config.method} lays one scan over the other, voxel for voxel, and {first.name} has voxels of "
                f"{first.spacing} mm, {scan.name} of {scan.spacing}: read the scans at one spacing"
            )
    if config.batch > 1 and len({shape for shape, _ in regions}) > 1:
        raise ValueError(
            f"regions of one batch must have one shape, got {sorted(regions)}: use smaller counts, or batch=1"
        )
