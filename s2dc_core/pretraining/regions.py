"""What each region of a run shows: its scan, its place and its random numbers follow from the seed and its number."""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch.utils.data import Dataset

from s2dc_core.data import Scan, Scans
from s2dc_core.methods import Plan, Regions
from s2dc_core.pretraining.config import PretrainConfig
from s2dc_core.training.order import first_readable, random_numbers
from s2dc_core.views import Region, bounding_box, crop_region


class RegionDraw(NamedTuple):
    """A region of a scan as it lies in the file, and what will be done to it.

    Attributes:
        number: its place in the run, from 0.
        scan: the name of its scan.
        region, spacing: the crop and the millimetres of its voxels.
        plan: the method's decisions on it.
        unreadable: {scan: what is wrong with it} of those that were tried before this one.
    """

    number: int
    scan: str
    region: Region
    spacing: tuple[float, float, float]
    plan: Plan
    unreadable: dict[str, str]


class RegionDraws(Dataset):
    """The regions of a run by their number; every scan is drawn from once before any is drawn from again.

    A scan that cannot be read gives way to the next one in the order of the files.
    """

    def __init__(self, config: PretrainConfig, scans: Scans):
        self.config, self.scans = config, scans
        self._bodies: dict[int, tuple[bool, list[tuple[int, int]]]] = {}  # a scan's body has the same box each time

    def __getitem__(self, number: int) -> RegionDraw:
        config = self.config

        def crop(index: int) -> tuple[Scan, Region]:
            scan = self.scans[index]
            generator = random_numbers(config.seed, "crop", number)
            if index not in self._bodies:
                self._bodies[index] = bool(scan.foreground.any()), bounding_box(scan.foreground)
            seen, box = self._bodies[index]
            body = scan.foreground if seen else None
            how = (config.encoder.sub_volume, config.options.counts, scan.background, body, generator, box)
            return scan, crop_region(scan.volume, *how)

        names = getattr(self.scans, "files", None) or [f"scan {index}" for index in range(len(self.scans))]
        (scan, region), unreadable = first_readable(config.seed, number, names, crop)
        # A crop is a view, with which a worker would send the whole scan.
        own = Region(*(part.clone() for part in region[:3]), region.background)
        random = _Streams(config.seed, number)
        plan = config.options.plan(config.encoder, own, scan.spacing, random)
        return RegionDraw(number, scan.name, own, scan.spacing, plan, unreadable)


class _Streams(dict):
    """A generator for each purpose, which goes on where it was left."""

    def __init__(self, seed: int, number: int):
        super().__init__()
        self.of = partial(random_numbers, seed)
        self.number = number

    def __call__(self, purpose: str) -> torch.Generator:
        if purpose not in self:
            self[purpose] = self.of(purpose, self.number)
        return self[purpose]


def regions_of(draws: Sequence[RegionDraw], device: torch.device | str = "cpu") -> Regions:
    """Some draws as a batch on a device."""
    return Regions.of([draw.region for draw in draws], [draw.plan for draw in draws], device)


def draw_regions(config: PretrainConfig, scans: Scans, first: int = 0, device: torch.device | str = "cpu") -> Regions:
    """A batch: the run's regions number ``first`` and following, on a device."""
    draws = RegionDraws(config, scans)
    return regions_of([draws[first + k] for k in range(config.batch)], device)


def draw_views(config: PretrainConfig, scans: Scans, first: int = 0, device: torch.device | str = "cpu") -> Any:
    """What the method makes of such a batch, on the device that makes it; see Method.views."""
    return config.build().views(draw_regions(config, scans, first, device))
