"""What each region of a run shows: its scan, its place and its random numbers follow from the seed and its number."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch.utils.data import Dataset

from s2dc_core.data import Outline, Scans
from s2dc_core.methods import Plan, Regions
from s2dc_core.pretraining.config import PretrainConfig
from s2dc_core.training.order import first_readable, random_numbers
from s2dc_core.views import Region, bounding_box, draw_window, pad_region, rooms


class RegionDraw(NamedTuple):
    """A region of a scan as it lies in the file, and what will be done to it.

    Attributes:
        number: its place in the run, from 0.
        scan: the name of its scan.
        region, spacing: the crop and the millimetres of its voxels.
        plan: the method's decisions on it.
        unreadable: {scan: what is wrong with it} of those that were tried before this one.
        partner: for a method that is paired, what the next scan of the order shows at the same place of its body.
    """

    number: int
    scan: str
    region: Region
    spacing: tuple[float, float, float]
    plan: Plan
    unreadable: dict[str, str]
    partner: Region | None = None


class RegionDraws(Dataset):
    """The regions of a run by their number; every scan is drawn from once before any is drawn from again.

    A scan that cannot be read gives way to the next one in the order of the files.
    """

    def __init__(self, config: PretrainConfig, scans: Scans):
        self.config, self.scans = config, scans
        self._boxes: dict[int, tuple] = {}  # a scan's body has the same one each time

    def __getitem__(self, number: int) -> RegionDraw:
        config = self.config

        def draw(index: int) -> tuple[Outline, tuple, Region]:
            outline, cut = self._source(index)
            size = config.options.region_shape(outline.shape, config.encoder)
            window = draw_window(outline.shape, outline.box, size, random_numbers(config.seed, "crop", number))
            return outline, window, _crop(outline, cut, window)

        def beside(index: int) -> Region:
            outline, cut = self._source(index)
            return _crop(outline, cut, same_place(window, scan, outline))

        names = getattr(self.scans, "files", None) or [f"scan {index}" for index in range(len(self.scans))]
        (scan, window, own), unreadable = first_readable(config.seed, number, names, draw)
        partner = None
        if config.options.paired:
            partner, more = first_readable(config.seed, number + 1, names, beside)
            unreadable = unreadable | more
        random = _Streams(config.seed, number)
        plan = config.options.plan(config.encoder, own, scan.spacing, random)
        return RegionDraw(number, scan.name, own, scan.spacing, plan, unreadable, partner)

    def _source(self, index: int) -> tuple[Outline, Callable]:
        """What must be known of a scan, and what cuts a window out of it."""
        if getattr(self.scans, "in_parts", False):
            return self.scans.outline(index), partial(self.scans.cut, index)
        scan = self.scans[index]
        if index not in self._boxes:
            box = bounding_box(scan.foreground)
            self._boxes[index] = tuple(box), not scan.foreground.any()
        known = (scan.name, tuple(scan.volume.shape[1:]), scan.spacing, scan.background, *self._boxes[index])
        return Outline(*known), lambda window: (scan.volume[(slice(None), *window)], scan.foreground[window])


def _crop(outline: Outline, cut: Callable, window: Sequence[slice]) -> Region:
    volume, body = cut(window)
    if outline.empty:
        body = torch.ones_like(body)
    # A crop of a scan in memory is a view, with which a worker would send the whole scan.
    return pad_region(volume.clone(), body.clone(), window, outline.background)


def same_place(window: Sequence[slice], own: Outline, other: Outline) -> tuple[slice, slice, slice]:
    """A window of another scan, as far along the way that draw_window may choose from, axis by axis.

    It is the middle of it where there is nothing to choose for the scan's own.
    """
    size = [part.stop - part.start for part in window]
    both = zip(window, rooms(own.shape, own.box, size), rooms(other.shape, other.box, size), strict=True)
    starts = []
    for part, (low, high), (first, last) in both:
        share = (part.start - low) / (high - low) if high > low else 0.5
        starts.append(first + round(share * (last - first)))
    return tuple(slice(start, start + length) for start, length in zip(starts, size, strict=True))


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
    regions, plans, partners = zip(*((draw.region, draw.plan, draw.partner) for draw in draws), strict=True)
    return Regions.of(regions, plans, device, partners)


def draw_regions(config: PretrainConfig, scans: Scans, first: int = 0, device: torch.device | str = "cpu") -> Regions:
    """A batch: the run's regions number ``first`` and following, on a device."""
    draws = RegionDraws(config, scans)
    return regions_of([draws[first + k] for k in range(config.batch)], device)


def draw_views(config: PretrainConfig, scans: Scans, first: int = 0, device: torch.device | str = "cpu") -> Any:
    """What the method makes of such a batch, on the device that makes it; see Method.views."""
    return config.build().views(draw_regions(config, scans, first, device))
