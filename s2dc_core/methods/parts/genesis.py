"""Damage of Models Genesis (Zhou et al., MedIA 2021), for intensities of 0 to 1: shuffled, curved, painted over.

shuffle   voxels change places with others of a small window; of overlapping windows the last counts for a voxel
curve     v -> y where v = x(t), y = y(t) of a cubic Bezier curve from (0, 0) to (1, 1), its inner points in [0, 1]^2;
          or y = y(1 - t), which turns dark into bright
paint     U(0, 1) for every voxel within a few boxes, or for all but those within a few boxes

Everything is decided by a plan, but the 10,000 windows and the noise, which follow from its seeds. The authors' shuffle
copies each window from the clean volume: where windows overlap some voxels are lost and others come twice. Here a
volume keeps all of its voxels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from s2dc_core.methods.parts.damage import cover, random_boxes
from s2dc_core.options import Options, that, within

SAMPLES = 4096
"""Points of a curve, between which it is straight."""

LEAST_SIDE = 20
"""Voxels of a side below which a window, a tenth of it, holds a single one, and boxes do not fit."""

MARGIN, BOXES, ANOTHER = 3, 5, 0.95
"""Voxels between a box and the faces; most boxes of a volume by default; the chance of each further one."""


@dataclass(frozen=True)
class Genesis(Options):
    """How often a sub-volume is damaged in which way; the defaults are the authors'.

    Attributes:
        shuffle, curve, paint: chances of each.
        windows, window: of a shuffled one, and the largest's part of its sides, a tenth or another one.
        one_size: whether all windows have that size, or from 1 voxel on.
        falling: share of the curved whose dark becomes bright.
        inside: share of the painted whose noise is in boxes; of the others it is everywhere but in boxes of three to
            four sevenths of the sides.
        boxes, box: most boxes of a painted one, and the sides of those with noise within, from a sixth to a third (or
            other parts).
    """

    shuffle: float | int = 0.5
    curve: float | int = 0.9
    paint: float | int = 0.9
    windows: int = 10_000
    window: int = 10
    one_size: bool = False
    falling: float | int = 0.5
    inside: float | int = 0.2
    boxes: int = BOXES
    box: Sequence[int] = (6, 3)

    RULES: ClassVar = {
        **dict.fromkeys(("shuffle", "curve", "paint", "falling", "inside"), within(0, 1)),
        "windows": within(1, 1_000_000),
        "window": within(1, 4096),
        "boxes": within(1, 1024),
        "box": that(
            lambda parts: len(parts) == 2 and 4096 >= parts[0] >= parts[1] >= 2,
            "must be parts of a side (of the least box, of the largest), 2 or more",
        ),
    }


def draw_genesis(
    config: Genesis, shape: Sequence[int], count: int, generator: torch.Generator | None = None
) -> dict[str, Tensor]:
    """The damage of some volumes of one shape.

    Returns:
        "windows" [n], 0 for those that are not shuffled, and "window" [n], the largest one's part of a side, negative
        where all are as large; "curves" [n, 4], x and y of both inner points; "bent" [n], 1 for those that are curved
        and -1 if dark becomes bright; "boxes" [n, most, 6], corner and sides, 0 where there is none; "noise" [n], 1 for
        noise within them and -1 for noise around them; "seeds" [n, 3].

    Raises:
        ValueError: for a volume of a side below 20 voxels.
    """
    if min(shape) < LEAST_SIDE:
        raise ValueError(f"a volume of {tuple(shape)} voxels is too small to be damaged: {LEAST_SIDE} a side at least")

    def chance(share: float | int) -> Bool[Tensor, " n"]:
        return torch.rand(count, generator=generator) < share

    windows = chance(config.shuffle) * config.windows
    curves = torch.rand(count, 4, generator=generator)
    bent = chance(config.curve) * (1 - 2 * chance(config.falling).int())
    within_boxes = chance(config.inside)
    noise = chance(config.paint) * (2 * within_boxes.int() - 1)
    boxes = torch.stack([_paint_boxes(config, shape, bool(small), generator) for small in within_boxes])
    seeds = torch.randint(2**62, (count, 3), generator=generator)
    return {
        "windows": windows.int(),
        "window": torch.full_like(windows.int(), -config.window if config.one_size else config.window),
        "curves": curves,
        "bent": bent.to(torch.int8),
        "boxes": boxes * (noise != 0).short()[:, None, None],
        "noise": noise.to(torch.int8),
        "seeds": seeds,
    }


def _paint_boxes(
    config: Genesis, shape: Sequence[int], small: bool, generator: torch.Generator | None
) -> Int[Tensor, "k 6"]:
    """One after another as long as chance has it; of the large ones there is one at least."""
    if small:
        least, most = ([max(side // part, 1) for side in shape] for part in config.box)
    else:
        least, most = [side - 4 * side // 7 for side in shape], [side - 3 * side // 7 for side in shape]
    boxes = random_boxes(shape, least, most, config.boxes, generator, MARGIN)
    goes_on = torch.rand(config.boxes, generator=generator) < ANOTHER
    goes_on[0] |= not small
    return (boxes * goes_on.cumprod(0)[:, None]).short()


def damaged(volumes: Float[Tensor, "n c x y z"], plan: Mapping[str, Tensor]) -> Float[Tensor, "n c x y z"]:
    """Volumes of 0 to 1 after a draw of draw_genesis, each in its own way."""
    windows, parts, noise, seeds = (plan[name].tolist() for name in ("windows", "window", "noise", "seeds"))
    each = zip(volumes, windows, parts, seeds, strict=True)
    found = torch.stack(
        [shuffled(volume, count, *own[:2], part) if count else volume for volume, count, part, own in each]
    )
    bent = plan["bent"].to(volumes.device, non_blocking=True)[:, None, None, None, None]
    curves = plan["curves"].to(volumes.device, non_blocking=True)
    found = torch.where(bent == 0, found, curved(found, curves, bent.flatten() < 0))
    boxes = box_mask(plan["boxes"].to(volumes.device, non_blocking=True), volumes.shape[2:])
    painted = []
    for volume, box, where, (_, _, seed) in zip(found, boxes, noise, seeds, strict=True):
        drawn = _uniform(volume, seed) if where else volume
        painted.append(torch.where(box if where > 0 else ~box, drawn, volume))
    return torch.stack(painted)


def shuffled(
    volume: Float[Tensor, "c x y z"], windows: int, boxes_from: int, order_from: int, part: int = 10
) -> Float[Tensor, "c x y z"]:
    """A volume whose voxels changed places with others under the same last window; channels go along.

    Args:
        boxes_from, order_from: seeds of the windows, and of what goes where.
        part: of a side, which the largest window has; negative if all have.
    """
    shape = volume.shape[1:]
    most, generator = [max(side // abs(part), 1) for side in shape], torch.Generator().manual_seed(boxes_from)
    boxes = random_boxes(shape, most if part < 0 else (1, 1, 1), most, windows, generator)
    last = cover(torch.cat([torch.zeros(windows, 1, dtype=torch.long), boxes], 1), volume[None]).last
    alone = windows + torch.arange(len(last), device=volume.device)
    group = torch.where(last < 0, alone, last)
    place, source = group.argsort(stable=True), (group + _uniform(volume[0], order_from).flatten().double()).argsort()
    rows = volume.flatten(1)
    return torch.empty_like(rows).index_copy(1, place, rows[:, source]).view_as(volume)


def curved(
    volumes: Float[Tensor, "n c x y z"], inner: Float[Tensor, "n 4"], falling: Bool[Tensor, " n"]
) -> Float[Tensor, "n c x y z"]:
    """Intensities of 0 to 1 through each volume's own curve; those beyond are taken for the nearest end."""
    # Curves may be so steep at their ends that x is 1 in float32 long before y is.
    t = torch.linspace(0, 1, SAMPLES, dtype=torch.float64, device=inner.device)
    first, second, third = 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3
    x, y = (inner[:, None, k] * first + inner[:, None, k + 2] * second + third for k in (0, 1))
    x = x.cummax(1).values  # it rises, but for rounding
    y = torch.where(falling[:, None], y.flip(1), y)
    values = volumes.flatten(1).double()
    beyond = torch.searchsorted(x, values).clamp(1, SAMPLES - 1)
    low, high = x.gather(1, beyond - 1), x.gather(1, beyond)
    part = ((values - low) / (high - low).clamp_min(torch.finfo(x.dtype).tiny)).clamp(0, 1)
    return torch.lerp(y.gather(1, beyond - 1), y.gather(1, beyond), part).view_as(volumes).to(volumes.dtype)


def box_mask(boxes: Int[Tensor, "n k 6"], shape: Sequence[int]) -> Bool[Tensor, "n 1 x y z"]:
    """The voxels within any box of a volume; one without sides has none."""
    inside = []
    for axis, side in enumerate(shape):
        ahead = torch.arange(side, device=boxes.device) - boxes[..., axis, None]
        inside.append((ahead >= 0) & (ahead < boxes[..., 3 + axis, None]))
    x, y, z = inside
    return (x[..., :, None, None] & y[..., None, :, None] & z[..., None, None, :]).any(1)[:, None]


def _uniform(volume: Float[Tensor, "*shape"], seed: int) -> Float[Tensor, "*shape"]:
    """U(0, 1) for every number of a volume, on its device."""
    return torch.empty_like(volume).uniform_(generator=torch.Generator(volume.device).manual_seed(seed))
