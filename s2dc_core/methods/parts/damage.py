"""Boxes of a sub-volume that are damaged: filled with noise, or with what another one holds at their place.

Which boxes is decided by a plan; all of a batch are then filled at once. Where boxes overlap the later one counts.
Damage that the literature defines for intensities from 0 to 1 takes each region's own range for them, see `Range`.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from s2dc_core.options import that

SIDES = that(lambda span: len(span) == 2 and 0 <= span[0] <= span[1] <= 1, "must be two shares (low, high) of a side")


class Range(NamedTuple):
    """Lowest intensity and extent of each volume of a batch, [B, 1, 1, 1, 1].

    Attributes:
        low: what stands for 0.
        span: what stands for 1, less `low`; 0 of a constant volume.
    """

    low: Float[Tensor, "b 1 1 1 1"]
    span: Float[Tensor, "b 1 1 1 1"]

    @classmethod
    def of(cls, volume: Float[Tensor, "b c x y z"]) -> "Range":
        """From the volumes' own extremes."""
        low, high = volume.flatten(1).aminmax(dim=1)
        return cls(*(each[:, None, None, None, None] for each in (low, high - low)))

    def to_unit(self, volume: Float[Tensor, "b c x y z"]) -> Float[Tensor, "b c x y z"]:
        """Intensities mapped linearly to 0..1; a constant volume to 0."""
        return (volume - self.low) / torch.where(self.span > 0, self.span, 1)

    def from_unit(self, volume: Float[Tensor, "b c x y z"]) -> Float[Tensor, "b c x y z"]:
        """And back."""
        return self.low + self.span * volume

    def for_each(self, times: int) -> "Range":
        """That of a region for each of so many volumes that are made of it."""
        return Range(*(bound.repeat_interleave(times, 0, output_size=len(bound) * times) for bound in self))


def random_boxes(
    shape: Sequence[int],
    least: Sequence[int],
    most: Sequence[int],
    count: int,
    generator: torch.Generator | None = None,
    margin: int = 0,
) -> Int[Tensor, "k 6"]:
    """Corner and sides of boxes anywhere in a volume, uniform along each axis.

    Args:
        least, most: sides, both taken along.
        margin: voxels that are kept free at the volume's faces.

    Raises:
        ValueError: for boxes larger than the volume without its margin.
    """
    if any(high > side - 2 * margin for high, side in zip(most, shape, strict=True)):
        raise ValueError(f"boxes of {list(most)} voxels do not fit in a volume of {list(shape)}")
    ranges = zip(least, most, strict=True)
    size = torch.stack([torch.randint(low, high + 1, (count,), generator=generator) for low, high in ranges], 1)
    room = torch.tensor(tuple(shape)) - 2 * margin - size + 1
    corner = (torch.rand(count, 3, generator=generator, dtype=torch.float64) * room).long()
    return torch.cat([corner + margin, size], 1)


def draw_boxes(
    shape: Sequence[int],
    share: float | int,
    sides: Sequence[float | int],
    generator: torch.Generator | None = None,
) -> Int[Tensor, "k 6"]:
    """Random boxes of a volume, one more until together they have a share of its voxels; overlaps count twice.

    Args:
        shape: of the volume.
        share: of its voxels; 0 for no box.
        sides: least and largest side of a box as shares of the volume's, the largest itself excluded. A side has two
            voxels at least: noise that is scaled by its own extremes has none in a box of one.

    Returns:
        corner and sides of each box, int16.

    Raises:
        ValueError: for boxes larger than the volume.
    """
    least = [max(2, int(side * sides[0])) for side in shape]
    most = [max(low, int(side * sides[1]) - 1) for low, side in zip(least, shape, strict=True)]
    wanted = share * math.prod(shape)
    boxes = random_boxes(shape, least, most, math.ceil(wanted / math.prod(least)), generator)
    size = boxes[:, 3:]
    before = size.prod(1).cumsum(0) - size.prod(1)
    return boxes[before < wanted].short()


class Covered(NamedTuple):
    """The voxels of some boxes, box after box.

    Attributes:
        place: of each in the batch, volumes one after another.
        box: the one that it is of.
        counts: whether no later box covers it too.
        last: the last box over each voxel of the batch, -1 for none.
    """

    place: Int[Tensor, " t"]
    box: Int[Tensor, " t"]
    counts: Bool[Tensor, " t"]
    last: Int[Tensor, " v"]


def cover(boxes: Int[Tensor, "k 7"], volumes: Float[Tensor, "g c x y z"]) -> Covered:
    """The voxels that boxes cover, on the volumes' device.

    Args:
        boxes: on the CPU: the number of its volume, corner and sides of each.
    """
    (count, _, _, y, z), device = volumes.shape, volumes.device
    boxes = boxes.long()
    voxels = boxes[:, 4:].prod(1)
    total = int(voxels.sum())
    table = torch.cat([boxes, voxels[:, None], (voxels.cumsum(0) - voxels)[:, None]], 1)
    number, *corner, _, deep, high, voxels, first = table.to(device, non_blocking=True).T
    box = torch.repeat_interleave(torch.arange(len(boxes), device=device), voxels, output_size=total)
    inside = torch.arange(total, device=device) - first[box]
    offsets = inside // (deep * high)[box], inside // high[box] % deep[box], inside % high[box]
    a, b, c = (start[box] + offset for start, offset in zip(corner, offsets, strict=True))
    place = ((number[box] * volumes.shape[2] + a) * y + b) * z + c
    latest = torch.full((count * volumes[0, 0].numel(),), -1, dtype=torch.int32, device=device)
    latest = latest.scatter_reduce(0, place, box.int(), "amax")
    return Covered(place, box, latest[place] == box, latest)


def put(
    volumes: Float[Tensor, "g c x y z"], covered: Covered, values: Float[Tensor, "t c"]
) -> Float[Tensor, "g c x y z"]:
    """The volumes with other values in their covered voxels."""
    rows = volumes.movedim(1, -1).flatten(0, 3)
    padded = torch.cat([rows, rows[:1]])  # voxels that a later box has go to a row that is thrown away
    padded[torch.where(covered.counts, covered.place, len(rows))] = values.to(rows.dtype)
    return padded[:-1].view(volumes.movedim(1, -1).shape).movedim(-1, 1)


def noise_of(
    boxes: Int[Tensor, "k 7"], covered: Covered, seeds: Sequence[int], counts: Sequence[int], channels: int
) -> Float[Tensor, "t c"]:
    """Gaussian noise for each covered voxel, scaled to 0..1 by the extremes of its box.

    Args:
        boxes: see cover.
        seeds, counts: a seed for each region, and how many of the boxes are its.
    """
    device, voxels = covered.box.device, boxes.long()[:, 4:].prod(1)
    drawn = []
    for seed, part in zip(seeds, voxels.split(list(counts)), strict=True):
        generator = torch.Generator(device).manual_seed(seed)
        drawn.append(torch.empty(int(part.sum()), channels, device=device).normal_(generator=generator))
    noise = torch.cat(drawn)
    low, high = (
        torch.zeros(len(boxes), device=device).scatter_reduce(0, covered.box, ends, how, include_self=False)
        for ends, how in ((noise.amin(1), "amin"), (noise.amax(1), "amax"))
    )
    span = (high - low).clamp_min(torch.finfo(noise.dtype).tiny)
    return (noise - low[covered.box, None]) / span[covered.box, None]


def voxels_at(volumes: Float[Tensor, "g c x y z"], place: Int[Tensor, " t"]) -> Float[Tensor, "t c"]:
    """The values at places of a batch, as `cover` counts them."""
    return volumes.movedim(1, -1).flatten(0, 3)[place]


def draw_noise_and_swaps(
    shape: Sequence[int],
    copies: int,
    share: float | int,
    sides: Sequence[float | int],
    generator: torch.Generator | None = None,
) -> dict[str, Tensor]:
    """Boxes of each of some copies that belong together: of noise, and of another one of them.

    Args:
        shape: of a copy.
        share: largest share of the voxels of a copy in its boxes of noise, and in those of others; each copy's own is
            uniform from 0 to it.
        sides: see draw_boxes.

    Returns:
        "noise" [k, 7] and "swaps" [l, 7], the copy, corner and sides of each box, int16; "partner" [l], the copy that
        it is taken from, never its own; "seed" [1], of the noise.
    """
    boxes = {"noise": [], "swaps": []}
    for copy in range(copies):
        own = share * torch.rand((), generator=generator).item()
        for kind in boxes.values():
            drawn = draw_boxes(shape, own, sides, generator)
            kind.append(torch.cat([torch.full((len(drawn), 1), copy, dtype=torch.int16), drawn], 1))
    noise, swaps = map(torch.cat, boxes.values())
    ahead = torch.randint(1, copies, (len(swaps),), generator=generator)
    partner = ((swaps[:, 0] + ahead) % copies).short()
    return {"noise": noise, "swaps": swaps, "partner": partner, "seed": torch.randint(2**62, (1,), generator=generator)}


def noise_and_swaps(
    copies: Float[Tensor, "n c x y z"], span: Range, plans: Sequence[Mapping[str, Tensor]]
) -> Float[Tensor, "n c x y z"]:
    """Copies with boxes of noise in the region's range, and then of clean others of their region, by the plans.

    Args:
        copies: those of all regions, one region after another.
        span: the range of each region.
        plans: of each region, see draw_noise_and_swaps.
    """
    of_a_region, voxels = len(copies) // len(plans), copies[0, 0].numel()
    noise, swaps = (_numbered([plan[name] for plan in plans], of_a_region) for name in ("noise", "swaps"))
    covered = cover(noise, copies)
    seeds, counts = ([int(plan["seed"]) for plan in plans], [len(plan["noise"]) for plan in plans])
    values = noise_of(noise, covered, seeds, counts, copies.shape[1]).to(copies.dtype)
    region = covered.place // (of_a_region * voxels)
    low, extent = (bound.flatten()[region, None] for bound in span)
    damaged = put(copies, covered, low + extent * values)
    covered = cover(swaps, copies)
    away = torch.cat([plan["partner"].long() - plan["swaps"][:, 0].long() for plan in plans]) * voxels
    there = covered.place + away.to(copies.device, non_blocking=True)[covered.box]
    return put(damaged, covered, voxels_at(copies, there))


def _numbered(boxes: Sequence[Int[Tensor, "_ 7"]], of_a_region: int) -> Int[Tensor, "k 7"]:
    """Boxes of several regions, with their copies numbered through the batch."""
    together = torch.cat(list(boxes)).long()
    together[:, 0] += of_a_region * torch.repeat_interleave(torch.tensor([len(own) for own in boxes]))
    return together
