"""What each region of a run shows: its scan, its place and its random numbers follow from the seed and its number."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.data import Dataset

from s2dc_core.data import Scan, Scans
from s2dc_core.geometry import Matches
from s2dc_core.pretraining.config import PretrainConfig
from s2dc_core.training.order import CROP, VIEWS, first_readable, random_numbers
from s2dc_core.views import Region, Views, augment_regions, crop_region


class RegionDraw(NamedTuple):
    """A region of a scan as it lies in the file, before anything is done to it.

    Attributes:
        number: its place in the run, from 0.
        scan: the name of its scan.
        region, spacing: the crop and the millimetres of its voxels.
        unreadable: {scan: what is wrong with it} of those that were tried before this one.
    """

    number: int
    scan: str
    region: Region
    spacing: tuple[float, float, float]
    unreadable: dict[str, str]


class RegionDraws(Dataset):
    """The regions of a run by their number; every scan is drawn from once before any is drawn from again.

    A scan that cannot be read gives way to the next one in the order of the files.
    """

    def __init__(self, config: PretrainConfig, scans: Scans):
        self.config, self.scans = config, scans

    def __getitem__(self, number: int) -> RegionDraw:
        def crop(index: int) -> tuple[Scan, Region]:
            scan = self.scans[index]
            generator = random_numbers(self.config.seed, CROP, number)
            encoder, counts = self.config.encoder, self.config.views.counts
            return scan, crop_region(
                scan.volume, encoder.sub_volume, counts, scan.background, scan.foreground, generator
            )

        names = getattr(self.scans, "files", None) or [f"scan {index}" for index in range(len(self.scans))]
        (scan, region), unreadable = first_readable(self.config.seed, number, names, crop)
        # A crop is a view, with which a worker would send the whole scan.
        own = Region(*(part.clone() for part in region[:3]), region.background)
        return RegionDraw(number, scan.name, own, scan.spacing, unreadable)


def draw_views(config: PretrainConfig, scans: Scans, first: int = 0, device: torch.device | str = "cpu") -> Views:
    """The views of a batch: the run's regions number ``first`` and following, on the device that makes them."""
    draws = RegionDraws(config, scans)
    return views_of(config, [draws[first + k] for k in range(config.batch)], device)


def views_of(config: PretrainConfig, draws: Sequence[RegionDraw], device: torch.device | str = "cpu") -> Views:
    """Counterparts, positives and matches of some regions, made on a device; see views.augment_regions."""
    return augment_regions(
        [draw.region for draw in draws],
        [draw.spacing for draw in draws],
        config.encoder,
        config.matched_levels,
        config.views,
        [random_numbers(config.seed, VIEWS, draw.number) for draw in draws],
        device,
    )


def draw_tokens(
    student: Float[Tensor, "b n c"],
    teacher: Float[Tensor, "b m c"],
    matches: Matches,
    count: int,
    draws: int = 1,
    generators: Sequence[torch.Generator | None] | None = None,
) -> tuple[Tensor, Tensor, Matches]:
    """Random samples of the tokens of each region with the matches among them, [B * draws, <= count, C] each.

    In a sample, matched tokens come first, drawn with their partners; room that is left goes to unmatched tokens, which
    the others must still be told apart from. A small count spreads a sample over the region: tokens are then told apart
    from other structures more often than from their own neighbours.

    Args:
        generators: one for each region.
    """
    sources, targets, kept = [], [], []
    most = min(count, student.shape[1], teacher.shape[1])
    for region, generator in enumerate(generators or [None] * len(student)):
        pairs = (matches.batch == region).nonzero()[:, 0].cpu()
        for _ in range(draws):
            some = pairs[torch.randperm(len(pairs), generator=generator)][:most].to(matches.batch.device)
            place = torch.arange(len(some), device=some.device)
            kept.append(Matches(torch.full_like(place, len(kept)), place, place))
            sources.append(student[region, _fill_up(matches.source[some], student.shape[1], count, generator)])
            targets.append(teacher[region, _fill_up(matches.target[some], teacher.shape[1], count, generator)])
    return torch.stack(sources), torch.stack(targets), Matches(*map(torch.cat, zip(*kept, strict=True)))


def _fill_up(
    first: Int[Tensor, " k"], total: int, count: int, generator: torch.Generator | None
) -> Int[Tensor, " count"]:
    """The given tokens, then others of ``total`` at random, up to ``count`` or all there are."""
    free = torch.ones(total, dtype=torch.bool)
    free[first.cpu()] = False
    others = free.nonzero()[:, 0]
    others = others[torch.randperm(len(others), generator=generator)][: max(min(count, total) - len(first), 0)]
    return torch.cat([first, others.to(first.device)])
