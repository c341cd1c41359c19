"""What methods that look at the sub-volumes of a region have in common: how many, and of which sides."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from s2dc_core.encoder import EncoderConfig
from s2dc_core.methods.method import MethodOptions
from s2dc_core.options import whole_numbers_to


@dataclass(frozen=True, kw_only=True)
class SubVolumeOptions(MethodOptions):
    """Options of a method that looks at the sub-volumes of a region.

    Attributes:
        sub_volumes: of a region along each axis.
    """

    sub_volumes: Sequence[int] = (1, 1, 1)

    RULES: ClassVar = {"sub_volumes": whole_numbers_to(1024, of=3)}

    @property
    def counts(self) -> tuple[int, int, int]:
        """Sub-volumes of a region along each axis."""
        return tuple(self.sub_volumes)


def level_misfits(level: int, encoder: EncoderConfig) -> Iterator[str]:
    """What is wrong between sub-volumes and a token level: that its tokens are not whole ones."""
    sides, stride = list(encoder.sub_volume), encoder.stride(level)[0]
    if any(side % stride for side in sides):
        yield f"sub_volume {sides} must be multiples of {stride}, a token at level {level}"
