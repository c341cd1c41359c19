"""Rubik++ (Tao et al., MICCAI 2020): a sub-volume restored after turns of its layers, as those of the toy.

T = t_N ... t_1, each of which turns one of m layers along one axis by 90, 180 or 270 degrees about it. With G the
encoder and a decoder::

    L = mean over all voxels of |G(T x) - x|

The source is a GAN: a critic D tells x from G(T x), and G is to fool it. Its terms are here with the weight `critic`,
0 in our recipes, which are restoration alone::

    told    log(1 + exp(-D(x))) + log(1 + exp(D(G(T x)))),  without gradient of G; at zero logits 2 log 2
    fooled  log(1 + exp(-D(G(T x)))),                       without gradient of D; at zero logits log 2

Both are in one loss, since no weight has a gradient of both: one optimiser serves G and D, and the critic is part of
the method's state. It has no steps of its own then, as it has in most GANs.

No code was published; layers of D, numbers of turns and weights are not known to us and are stated options. Two turns
in a row are about different axes, so that none undoes the one before it. Turns exchange the sides of voxels: those that
are no cubes are refused, as in `rot`. Restored is the whole sub-volume, also what no turn moved.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from s2dc_core.encoder import LEVELS, Encoder, EncoderConfig
from s2dc_core.geometry import grid_of, split_region
from s2dc_core.methods.method import Method, Plan, RandomNumbers, Regions
from s2dc_core.methods.parts.decoders import DECODERS
from s2dc_core.methods.parts.sub_volumes import SubVolumeOptions, level_misfits
from s2dc_core.methods.parts.turns import ANISOTROPY, TURNS, check_isotropic, quarter_turns, turn_misfits
from s2dc_core.options import from_zero, one_of, that, within
from s2dc_core.views import Region

WIDTH = 16
"""Channels of the critic's first map."""


@dataclass(frozen=True, kw_only=True)
class RubikOptions(SubVolumeOptions):
    """Turns, decoder and critic.

    Attributes:
        sub_volumes: of a region along each axis.
        layers: of a sub-volume along each axis, m.
        turns: fewest and most turns of layers, N.
        anisotropy: how many times longer the longest side of a voxel may be than the shortest.
        decoder: "transposed" convolutions alone, "convolutions" with norms and up-sampling, or these with "skips".
        level: of the map that it starts from.
        critic: weight of what is told and of what is fooled; 0 for restoration alone, without a critic.
    """

    sub_volumes: Sequence[int] = (2, 2, 2)
    layers: int = 2
    turns: Sequence[int] = (2, 4)
    anisotropy: float | int = 1.0
    decoder: str = "transposed"
    level: int = 4
    critic: float | int = 0.0

    RULES: ClassVar = {
        **SubVolumeOptions.RULES,
        "layers": within(2, 64),
        "turns": that(
            lambda span: len(span) == 2 and 1 <= span[0] <= span[1] <= 1000, "must be fewest and most turns, 1 to 1000"
        ),
        "anisotropy": ANISOTROPY,
        "decoder": one_of(*DECODERS),
        "level": within(0, LEVELS - 1),
        "critic": from_zero(1e6),
    }

    @classmethod
    def misfits(cls, values, sound: Callable[..., bool], encoder: EncoderConfig) -> Iterator[str]:
        """Sub-volumes that are no cubes, no whole layers, or have no whole tokens to decode."""
        sides = list(encoder.sub_volume)
        yield from turn_misfits(TURNS["axes"], sides)
        if any(side % values.layers for side in sides):
            yield f"sub_volume {sides} must be multiples of {values.layers} layers"
        yield from level_misfits(values.level, encoder)

    def plan(self, encoder: EncoderConfig, region: Region, spacing: Sequence[float], random: RandomNumbers) -> Plan:
        """The turns of each of the G sub-volumes, "turns" [G, N, 3]; see draw_turns.

        Raises:
            ValueError: for voxels that are no cubes.
        """
        check_isotropic(spacing, self.anisotropy)
        parts = math.prod(grid_of(region.volume.shape[1:], encoder.sub_volume))
        return {"turns": draw_turns(self.turns, self.layers, parts, random("turns"))}

    def build(self, encoder: EncoderConfig) -> "Rubik":
        """Encoder, decoder, and critic if there is one."""
        return Rubik(encoder, self)

    def describe(self, encoder: EncoderConfig, regions: Regions) -> list[tuple[str, str]]:
        """What a decoder has that leaves everything as it is."""
        parts = split_region(regions.volume, encoder.sub_volume)
        turns = torch.cat([plan["turns"] for plan in regions.plan])
        off = torch.stack([turn_layers(*each, self.layers) for each in zip(parts, turns, strict=True)]) - parts
        return [
            (
                "turns",
                f"a decoder that changes nothing has {off.abs().mean():.3f}, {(off == 0).float().mean():.0%} of it 0",
            )
        ]


def draw_turns(
    span: Sequence[int], layers: int, count: int, generator: torch.Generator | None = None
) -> Int[Tensor, "g n 3"]:
    """Axis, layer and quarters of each turn of some sub-volumes, one after another; 0 quarters where there is none.

    Args:
        span: fewest and most turns of a sub-volume, uniform.
        layers: along each axis.
    """
    fewest, most = span

    def whole(low: int, beyond: int, columns: int = most) -> Int[Tensor, "g _"]:
        return torch.randint(low, beyond, (count, columns), generator=generator)

    axis = torch.cat([whole(0, 3, 1), whole(1, 3, most - 1)], 1).cumsum(1) % 3
    layer, quarters = whole(0, layers), whole(1, 4)
    there = torch.arange(most) < whole(fewest, most + 1, 1)
    return torch.stack([axis, layer, quarters * there], 2).short()


def turn_layers(volume: Float[Tensor, "c x y z"], turns: Int[Tensor, "n 3"], layers: int) -> Float[Tensor, "c x y z"]:
    """A volume after turns of its layers: axis, layer and quarters, from the lower other axis to the higher one."""
    turned = volume.clone()
    for axis, layer, quarters in turns.tolist():
        if quarters:
            thick = volume.shape[1 + axis] // layers
            part = turned.narrow(1 + axis, layer * thick, thick)
            part.copy_(quarter_turns(axis)[quarters].of(part).clone())
    return turned


class RubikTerms(NamedTuple):
    """The loss of each region and its parts; the last two are 0 where there is no critic."""

    total: Float[Tensor, "*b"]
    restoration: Float[Tensor, "*b"]
    told: Float[Tensor, "*b"]
    fooled: Float[Tensor, "*b"]


class RubikViews(NamedTuple):
    """The G sub-volumes of B regions.

    Attributes:
        turned: what the encoder looks at.
        target: what it was.
    """

    turned: Float[Tensor, "b g c x y z"]
    target: Float[Tensor, "b g c x y z"]


def critic_of(channels: int) -> nn.Sequential:
    """D: logits of patches of a volume, high where it looks real; without norms, so that a volume has its own."""
    widths = [channels, WIDTH, 2 * WIDTH, 4 * WIDTH]
    steps = [
        layer
        for one, other in zip(widths, widths[1:], strict=False)
        for layer in (nn.Conv3d(one, other, 4, stride=2, padding=1), nn.LeakyReLU(0.2))
    ]
    return nn.Sequential(*steps, nn.Conv3d(widths[-1], 1, 1))


class Rubik(Method):
    """An encoder, a decoder, and a critic if its term has a weight."""

    Terms = RubikTerms

    def __init__(self, encoder: EncoderConfig, options: RubikOptions):
        super().__init__()
        self.encoder, self.options = Encoder(encoder), options
        self.decoder = DECODERS[options.decoder](encoder, options.level)
        self.critic = critic_of(encoder.in_channels) if options.critic else None

    @torch.no_grad()
    def views(self, regions: Regions) -> RubikViews:
        """The sub-volumes, and how they are after their turns."""
        parts, turns = (
            split_region(regions.volume, self.encoder.config.sub_volume),
            [own["turns"] for own in regions.plan],
        )
        each = zip(parts, torch.cat(turns), strict=True)
        turned = torch.stack([turn_layers(part, own, self.options.layers) for part, own in each])
        return RubikViews(*(volumes.unflatten(0, (len(turns), -1)) for volumes in (turned, parts)))

    def forward(self, views: RubikViews) -> tuple[RubikTerms, None]:
        """The terms of each region."""
        real = views.target.flatten(0, 1).float()
        made = self.decoder(self.encoder(views.turned.flatten(0, 1))).float()
        restoration = (made - real).abs().view_as(views.target).flatten(1).mean(1)
        if self.critic is None:
            return RubikTerms(restoration, restoration, restoration * 0, restoration * 0), None
        frozen = {name: weight.detach() for name, weight in self.critic.named_parameters()}
        logits = self.critic(real), self.critic(made.detach()), functional_call(self.critic, frozen, made)
        of_real, of_made, fooled = (
            F.softplus(sign * each.float()).unflatten(0, views.target.shape[:2]).flatten(1).mean(1)
            for sign, each in zip((-1, 1, -1), logits, strict=True)
        )
        told = of_real + of_made
        return RubikTerms(restoration + self.options.critic * (told + fooled), restoration, told, fooled), None
