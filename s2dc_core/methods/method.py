"""What a pretext task is: options that draw, and a module that trains (the contract of every method).

A method is two halves. Its `MethodOptions` are pure values, a recipe's `options`. They go to the processes that read
scans, where they make every random decision about a region (`plan`), so that a step has nothing to draw. Its `Method`
is a module whose parameters and buffers are all of its state.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from s2dc_core.encoder import Encoder, EncoderConfig
from s2dc_core.geometry import check_fits, grid_of
from s2dc_core.options import Options
from s2dc_core.views import Region, region_shape, stack_regions

RandomNumbers = Callable[[str], torch.Generator]
"""A generator for each purpose, the same for the same seed and number of a region."""

Plan = Mapping[str, Tensor]


class Regions(NamedTuple):
    """A batch of regions as a method gets them.

    Attributes:
        volume: normalised intensities, on the method's device.
        inside: False where a short scan was padded; on the CPU, for those that need it.
        body: the foreground, False where padded; likewise.
        background: normalised value of air, of each region.
        plan: what `MethodOptions.plan` decided on each, on the CPU.
        partner: for a method that is `paired`, what the next scans show there, of the same shape and without a plan.
    """

    volume: Float[Tensor, "b c x y z"]
    inside: Bool[Tensor, "b x y z"]
    body: Bool[Tensor, "b x y z"]
    background: Float[Tensor, " b"]
    plan: Sequence[Plan]
    partner: "Regions | None" = None

    @classmethod
    def of(
        cls,
        regions: Sequence[Region],
        plan: Sequence[Plan],
        device: torch.device | str = "cpu",
        partners: Sequence[Region | None] = (),
    ) -> "Regions":
        """Regions of one shape as a batch on a device, with their partners if they have any.

        Raises:
            ValueError: if they differ in shape.
        """
        volume, background = stack_regions(regions, device)
        masks = map(torch.stack, zip(*((region.inside, region.body) for region in regions), strict=True))
        paired = partners and None not in partners
        return cls(volume, *masks, background, plan, cls.of(partners, (), device) if paired else None)


@dataclass(frozen=True, kw_only=True)
class MethodOptions(Options, ABC):
    """The fields of a recipe that are a method's own; frozen, and cheap to send to the processes that read."""

    PARTS: ClassVar[str] = "sub-volumes"
    """What `parts` counts."""

    @property
    def counts(self) -> tuple[int, int, int]:
        """Sub-volumes of a region along each axis."""
        return (1, 1, 1)

    @property
    def read_at(self) -> int | tuple[int, ...]:
        """The token level that its pictures show, or several that are joined."""
        return (1, 2, 3)

    @property
    def whole_batch(self) -> bool:
        """Whether a region's loss depends on the others of its batch, so that accumulated batches are not one."""
        return False

    @property
    def least_parts(self) -> int:
        """Fewest `parts` that a batch may hold, of all processes: two where each is told from the others."""
        return 1

    def parts(self, shape: Sequence[int], encoder: EncoderConfig) -> int:
        """How many PARTS a region of a scan of some shape adds to a batch."""
        return math.prod(grid_of(self.region_shape(shape, encoder), encoder.sub_volume))

    @property
    def paired(self) -> bool:
        """Whether a sample also shows the next scan of the run's order, at the same place of its body.

        A scan alone is its own partner, and so is one that ends a round of the order and begins the next.
        """
        return False

    @classmethod
    def misfits(cls, values, sound: Callable[..., bool], encoder: EncoderConfig) -> Iterator[str]:
        """What is wrong between the method and an encoder; arguments as of Options.disagreements."""
        yield from ()

    def check_scan(self, shape: Sequence[int], encoder: EncoderConfig) -> None:
        """Raise a ValueError for a scan that is too small; one that is smaller than a region is padded."""
        check_fits(shape, [encoder.stride(0)])

    def region_shape(self, shape: Sequence[int], encoder: EncoderConfig) -> tuple[int, int, int]:
        """Voxels of a region of a scan of some shape."""
        return region_shape(shape, encoder.sub_volume, self.counts)

    @abstractmethod
    def plan(self, encoder: EncoderConfig, region: Region, spacing: Sequence[float], random: RandomNumbers) -> Plan:
        """Every random decision about a region, as small tensors on the CPU.

        Noise of one number a voxel is not among them: it is made on the device from a seed in the plan.

        Args:
            spacing: of the region's voxels, in mm.
        """

    @abstractmethod
    def build(self, encoder: EncoderConfig) -> "Method":
        """The method with fresh weights, from the global random state; the encoder is built first."""

    def describe(self, encoder: EncoderConfig, regions: Regions) -> list[tuple[str, str]]:
        """What a dry run says of a batch beside its size: names, and a sentence of each."""
        return []


class Method(nn.Module, ABC):
    """What is trained. Its state_dict() is all that a checkpoint has to hold of it.

    Attributes:
        Terms: a NamedTuple of the loss and its parts; `total` is what is trained.
        encoder: what the training is for. All methods of a seed start from the same one.
    """

    Terms: ClassVar[type]
    encoder: Encoder

    @abstractmethod
    def views(self, regions: Regions) -> Any:
        """What forward looks at, on the device, without gradient and without chance: made from volumes and plan."""

    @abstractmethod
    def forward(self, views: Any) -> tuple[tuple, Tensor | None]:
        """All that has a gradient, in one call a batch, since several processes exchange numbers in it.

        Returns:
            Terms, each [B], whose mean over the regions is the loss; and rows that `after_step` is to see, if any.
        """

    def after_step(self, rows: Tensor | None, done: float) -> None:
        """What else a step changes, once the weights have been: a teacher, a queue, a centre.

        Args:
            rows: of all batches of the step and all processes, in their order.
            done: share of the training that is done with this step, up to 1.
        """

    def exported(self) -> dict[str, nn.Module]:
        """What a training leaves, by name: the encoder, and a decoder where there is one."""
        return {"encoder": self.encoder}
