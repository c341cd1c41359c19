"""Quarter turns of sub-volumes: axes exchanged and reversed, no voxel resampled, undone to the last bit."""

from collections.abc import Iterator, Sequence
from itertools import permutations, product
from typing import NamedTuple

import torch
from jaxtyping import Shaped
from torch import Tensor

from s2dc_core.options import within


class Turn(NamedTuple):
    """y = flip(permute(x)), of the last three axes.

    Attributes:
        order: the axis of x that each axis of y is.
        flipped: whether that axis of y runs backwards.
    """

    order: tuple[int, int, int] = (0, 1, 2)
    flipped: tuple[bool, bool, bool] = (False, False, False)

    @property
    def inverse(self) -> "Turn":
        """The one that undoes it."""
        back = tuple(self.order.index(axis) for axis in range(3))
        return Turn(back, tuple(self.flipped[axis] for axis in back))

    @property
    def handed(self) -> int:
        """The determinant: 1 for a turn, -1 for a mirror image."""
        swaps = sum(self.order[one] > self.order[other] for one, other in ((0, 1), (0, 2), (1, 2)))
        return (-1) ** (swaps + sum(self.flipped))

    def of(self, volume: Shaped[Tensor, "*more _ _ _"]) -> Shaped[Tensor, "*more _ _ _"]:
        """The turned volume."""
        first = volume.dim() - 3
        turned = volume.permute(*range(first), *(first + axis for axis in self.order))
        return turned.flip([first + axis for axis, backwards in enumerate(self.flipped) if backwards])


def quarter_turns(axis: int) -> tuple[Turn, Turn, Turn, Turn]:
    """By 0, 90, 180 and 270 degrees about an axis, from the lower of the two others to the higher (torch.rot90)."""
    one, other = (each for each in range(3) if each != axis)
    crossed = [axis] * 3
    crossed[one], crossed[other] = other, one

    def turn(order: Sequence[int], *flipped: int) -> Turn:
        return Turn(tuple(order), tuple(each in flipped for each in range(3)))

    return turn(range(3)), turn(crossed, one), turn(range(3), one, other), turn(crossed, other)


def _all() -> Iterator[Turn]:
    for order, flipped in product(permutations(range(3)), product((False, True), repeat=3)):
        if (turn := Turn(order, flipped)).handed == 1:
            yield turn


TURNS = {
    **{name: quarter_turns(axis) for axis, name in enumerate("xyz")},
    "axes": (*quarter_turns(2), *quarter_turns(0)[:0:-1], *quarter_turns(1)[:0:-1]),
    "cube": tuple(_all()),
}
"""The classes that a turn is one of: 4 about one axis, 10 about any one, or all 24 of a cube. Class 0 turns nothing.

The order of the 10 is that of Taleb et al.'s code: about z upwards, about x and about y downwards."""

ANISOTROPY = within(1, 100)
"""The rule for how much longer one side of a voxel may be than another."""


def check_isotropic(spacing: Sequence[float], most: float | int) -> None:
    """Raise a ValueError for voxels whose longest side is more than `most` times the shortest, up to rounding."""
    if max(spacing) > most * min(spacing) * (1 + 1e-3):
        sides = " x ".join(f"{side:g}" for side in spacing)
        shape = "cubes" if len(spacing) == 3 else "squares in the plane of the turns"
        raise ValueError(
            f"voxels of {sides} mm are no {shape}: a quarter turn exchanges their sides, and how things are stretched "
            "tells the turn. Read the scans at one spacing along all axes, or allow it with options.anisotropy"
        )


def turn_misfits(turns: Sequence[Turn], sides: Sequence[int]) -> Iterator[str]:
    """What is wrong between turns and sub-volumes: that a turned one has another shape."""
    if any(sides[axis] != side for turn in turns for axis, side in zip(turn.order, sides, strict=True)):
        yield f"sub_volume {list(sides)} must have equal sides where it is turned"


def turn_each(
    volumes: Shaped[Tensor, "g c _ _ _"], turns: Sequence[Turn], which: Sequence[int], back: bool = False
) -> Shaped[Tensor, "g c _ _ _"]:
    """Each volume turned by its own class.

    Args:
        turns: the classes.
        which: the class of each volume.
        back: undo them instead.
    """
    each = zip(volumes, (turns[number] for number in which), strict=True)
    return torch.stack([(turn.inverse if back else turn).of(volume) for volume, turn in each])
