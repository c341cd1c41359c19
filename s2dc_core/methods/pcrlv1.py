"""PCRLv1 (Zhou et al., ICCV 2021): a damaged view, told from a queue, and restored in whichever pose is asked for.

Of a sub-volume's clean views x_1, x_2, from 0 to 1, and damage D: maps of the student f = F(D x_1), of its moving
average f' = F'(D x_2), and f_m = a f + (1 - a) f' at every level; q and q_m, unit rows that a perceptron makes of the
pooled last map of f and of f_m, and k that its moving average makes of f'; a decoder G with skips; poses T of three
flips and four turns, u their code::

    L = (c(q, k) + c(q, q_m)) / 2 + (r_1 + r_2 + r_m) / 3
    r_1 = mean (G(f, u_1) - T_1 x_1)^2      r_2 = mean (G(f', u_2) - T_2 x_2)^2
    r_m = mean (G(f_m, u_m) - T_m (a x_1 + (1 - a) x_2))^2

G multiplies the channels of its first map by sigmoid(perceptron(u)): so it knows what is wanted. a is the larger of U
and 1 - U; k and q_m get no gradient. With s_j = q . m_j / t of M rows of a queue of former k, and s_0 = q . k / t::

    nce        c = -log( P_0 / (P_0 + M / n + e) ) - sum_j log( (M / n) / (P_j + M / n + e) ),  P_j = exp(s_j) / Z
    info_nce   c = -log( exp(s_0) / sum_j exp(s_j) ), j from 0

Z is n mean_j exp(s_j) of the first step and stays; n, the number of samples, drops out but for e = 1e-5.

Kept: all of the above, a queue that starts with random directions, shuffled and painted damage, blur. It is the paper's
form, as Zhang et al. (2023) wrote it; the authors' code mixes volumes too, and has four restorations. Both keep Z as a
whole number and take the number of batches for n; Zhang et al. draw one a for maps and another for their target, and
put q_m into the queue too. Not so here. InfoNCE is no part of the source.

Not kept: a 3D U-Net whose BatchNorm wants shuffled batches (a Swin has none); flips of what the encoder sees; an a for
the whole batch (here each sub-volume has its own, so that a region has its own value; with nce the first step sets Z).
At 32^3 the last map is one token: the decoder then starts a level before.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from s2dc_core.encoder import LEVELS, Encoder, EncoderConfig
from s2dc_core.geometry import grid_of
from s2dc_core.losses import info_nce
from s2dc_core.matching import at_least_float32, unit_length
from s2dc_core.methods.method import Method, Plan, RandomNumbers, Regions
from s2dc_core.methods.parts.contrast import mean_of_exponentials, noise_contrast
from s2dc_core.methods.parts.corruption import blurred
from s2dc_core.methods.parts.damage import Range
from s2dc_core.methods.parts.decoders import VoxelDecoder
from s2dc_core.methods.parts.genesis import LEAST_SIDE, Genesis, damaged, draw_genesis
from s2dc_core.methods.parts.heads import MLP, last_channels, pooled
from s2dc_core.methods.parts.momentum import SCHEDULES, Teacher
from s2dc_core.methods.parts.rows import RowsOfAll
from s2dc_core.methods.parts.sub_volumes import SubVolumeOptions, level_misfits
from s2dc_core.methods.parts.turns import TURNS, Turn, turn_misfits
from s2dc_core.methods.parts.two_views import ViewRanges, make_views, plan_views
from s2dc_core.model import FeatureQueue
from s2dc_core.options import MANY, above_zero, from_zero, one_of, within
from s2dc_core.views import Region

CONTRASTS = ("nce", "info_nce")
QUARTERS = TURNS["z"]


@dataclass(frozen=True, kw_only=True)
class PCRLv1Options(SubVolumeOptions):
    """Views, damage, networks and contrast.

    Attributes:
        sub_volumes: of a region along each axis.
        views: how both clean views of each are drawn; what it does to intensities is to be restored too.
        damage: of what the encoders see, see parts.genesis.Genesis.
        blur: largest standard deviation of its blur, in voxels.
        contrast, temperature: c, "nce" or "info_nce", and t.
        samples: n.
        queue: M.
        hidden, out: widths of the projector; u's perceptron has twice `hidden`.
        level: of the map that the decoder starts from.
        momentum, schedule: of the teacher, see parts.momentum.
    """

    views: ViewRanges = field(default_factory=lambda: ViewRanges(intensity_scale=0.0, intensity_shift=0.0, noise=0.0))
    damage: Genesis = field(default_factory=lambda: Genesis(curve=0.0))
    blur: float | int = 1.0
    contrast: str = "nce"
    temperature: float | int = 0.2
    samples: int = 10_000
    queue: int = 16384
    hidden: int = 128
    out: int = 128
    level: int = 3
    momentum: float | int = 0.999
    schedule: str = "constant"

    RULES: ClassVar = {
        **SubVolumeOptions.RULES,
        "blur": from_zero(1e2),
        "contrast": one_of(*CONTRASTS),
        "temperature": above_zero(1e3),
        "samples": within(1, 10**9),
        "queue": within(1, 2**24),
        **dict.fromkeys(("hidden", "out"), within(1, MANY)),
        "level": within(0, LEVELS - 1),
        "momentum": within(0, 1),
        "schedule": one_of(*SCHEDULES),
    }

    @property
    def whole_batch(self) -> bool:
        """With "nce", whose Z is that of the first step."""
        return self.contrast == "nce"

    @classmethod
    def misfits(cls, values, sound: Callable[..., bool], encoder: EncoderConfig) -> Iterator[str]:
        """Sub-volumes that cannot be turned, are too small to be damaged, or have no whole tokens to decode."""
        sides = list(encoder.sub_volume)
        yield from turn_misfits(QUARTERS, sides)
        yield from level_misfits(values.level, encoder)
        if min(sides) < LEAST_SIDE:
            yield f"sub_volume {sides} must have {LEAST_SIDE} voxels a side at least: a window is a tenth of it"

    def plan(self, encoder: EncoderConfig, region: Region, spacing: Sequence[float], random: RandomNumbers) -> Plan:
        """Both views of each of the G sub-volumes, see plan_views; and what else is drawn.

        Returns:
            Of plan_views; of draw_genesis for the 2 G views, first views first, as "damage_NAME"; "blur"
            [2, G]; "flips" [3, G, 3] and "turns" [3, G], the poses; and "share" [G], a.
        """
        shape, generator = region.volume.shape[1:], random("poses")
        parts = math.prod(grid_of(shape, encoder.sub_volume))
        plan = plan_views(shape, encoder.sub_volume, spacing, self.views, random("views"))
        damage = draw_genesis(self.damage, encoder.sub_volume, 2 * parts, random("damage"))
        share = torch.rand(parts, generator=generator)
        return {
            **plan,
            **{f"damage_{name}": value.unflatten(0, (2, parts)) for name, value in damage.items()},
            "blur": self.blur * torch.rand(2, parts, generator=generator),
            "flips": torch.rand(3, parts, 3, generator=generator) < 0.5,
            "turns": torch.randint(4, (3, parts), generator=generator),
            "share": torch.maximum(share, 1 - share),
        }

    def build(self, encoder: EncoderConfig) -> "PCRLv1":
        """Student, teacher, decoder and queue."""
        return PCRLv1(encoder, self)


def posed(
    volumes: Float[Tensor, "n c x y z"], flips: Bool[Tensor, "n 3"], turns: Int[Tensor, " n"]
) -> Float[Tensor, "n c x y z"]:
    """T of each volume: a turn by quarters, then flips; the poses lie on the CPU."""
    each = zip(volumes, flips.tolist(), turns.tolist(), strict=True)
    return torch.stack([Turn(flipped=tuple(axes)).of(QUARTERS[turn].of(volume)) for volume, axes, turn in each])


def codes_of(flips: Bool[Tensor, "n 3"], turns: Int[Tensor, " n"]) -> Float[Tensor, "n 7"]:
    """u: whether each axis is flipped, and one of four turns."""
    return torch.cat([flips, nn.functional.one_hot(turns, 4)], 1).float()


class PCRLv1Terms(NamedTuple):
    """L and its parts of each region.

    Attributes:
        total: their sum.
        contrast: half of c(q, k) + c(q, q_m).
        restored: the mean of the three restorations.
    """

    total: Float[Tensor, "*b"]
    contrast: Float[Tensor, "*b"]
    restored: Float[Tensor, "*b"]


class PCRLv1Views(NamedTuple):
    """Of the N = B G sub-volumes.

    Attributes:
        seen: both views, damaged.
        wanted: T_1 x_1, T_2 x_2 and T_m of their mixture.
        codes: u_1, u_2, u_m.
        share: a, for each region.
    """

    seen: Float[Tensor, "2 n c x y z"]
    wanted: Float[Tensor, "3 n c x y z"]
    codes: Float[Tensor, "3 n 7"]
    share: Float[Tensor, "b g"]


class PoseDecoder(VoxelDecoder):
    """A decoder with skips that is told which pose is wanted."""

    def __init__(self, encoder: EncoderConfig, level: int, hidden: int):
        super().__init__(encoder, level, skips=True)
        self.attention = MLP([7, hidden, encoder.embed_dim * 2**level], "none")

    def forward(self, maps: Sequence[Float[Tensor, "n _ _ _ _"]], codes: Float[Tensor, "n 7"]) -> Tensor:
        """Voxels from 0 to 1."""
        weights = self.attention(codes).sigmoid()[:, :, None, None, None]
        first = maps[self.level] * weights
        return at_least_float32(super().forward([*maps[: self.level], first])).sigmoid()


class PCRLv1(Method):
    """A student, its teacher, a decoder and a queue.

    Attributes:
        constant: Z, NaN until the first step has been made.
    """

    Terms = PCRLv1Terms

    def __init__(self, encoder: EncoderConfig, options: PCRLv1Options):
        super().__init__()
        self.encoder, self.options, self.rows = Encoder(encoder), options, RowsOfAll()
        self.projector = MLP([last_channels(encoder), options.hidden, options.out], "none")
        self.decoder = PoseDecoder(encoder, options.level, 2 * options.hidden)
        self.teacher = Teacher([self.encoder, self.projector], options.momentum, options.schedule)
        self.queue = FeatureQueue(options.queue, options.out)
        self.queue.add(unit_length(torch.randn(options.queue, options.out)))
        self.register_buffer("constant", torch.tensor(math.nan))

    @torch.no_grad()
    def views(self, regions: Regions) -> PCRLv1Views:
        """Both views of each sub-volume, damaged, and the three that are wanted."""
        names = [name for name in regions.plan[0] if name not in ("H", "changes", "seeds", "share")]
        plan = {name: torch.cat([own[name] for own in regions.plan], 1) for name in names}
        share = torch.stack([own["share"] for own in regions.plan]).to(regions.volume, non_blocking=True)
        span = Range.of(regions.volume).for_each(share.shape[1])
        moved = make_views(regions, self.encoder.config.sub_volume)
        # The warp brings in air, which the region itself need not hold.
        clean = torch.stack([span.to_unit(each).clamp(0, 1) for each in moved])
        damage = {name[7:]: value.flatten(0, 1) for name, value in plan.items() if name.startswith("damage_")}
        blur = plan["blur"].to(clean, non_blocking=True).flatten()
        seen = damaged(blurred(clean.flatten(0, 1), blur), damage).unflatten(0, clean.shape[:2])
        mixed = torch.lerp(clean[1], clean[0], share.flatten()[:, None, None, None, None])
        flips, turns = plan["flips"].flatten(0, 1), plan["turns"].flatten()
        wanted = posed(torch.cat([*clean, mixed]), flips, turns).unflatten(0, (3, -1))
        codes = codes_of(flips, turns).to(clean.device, non_blocking=True).unflatten(0, (3, -1))
        return PCRLv1Views(torch.stack([span.from_unit(each) for each in seen]), wanted, codes, share)

    def forward(self, views: PCRLv1Views) -> tuple[PCRLv1Terms, Tensor]:
        """L of each region, and rows of k and, behind it, mean_j exp(s_j)."""
        one, other = views.seen
        mine = self.encoder(one)
        query = self.project(self.projector, mine)
        with torch.no_grad():
            encoder, projector = self.teacher
            theirs = encoder(other)
            key = self.project(projector, theirs)
        share = views.share.flatten()[:, None, None, None, None]
        mixed = [own * share + their * (1 - share) for own, their in zip(mine, theirs, strict=True)]
        with torch.no_grad():
            mixed_key = self.project(self.projector, mixed)
        contrast, level = self.contrast(query, key, mixed_key)
        maps = [torch.cat(each) for each in zip(mine, theirs, mixed, strict=True)]
        made = self.decoder(maps, views.codes.flatten(0, 1))
        errors = (made - views.wanted.flatten(0, 1)).square().flatten(1).mean(1).unflatten(0, (3, -1))
        terms = [term.view_as(views.share).mean(1) for term in (contrast, errors.mean(0))]
        return PCRLv1Terms(sum(terms), *terms), torch.cat([key, level[:, None]], 1)

    @staticmethod
    def project(projector: nn.Module, maps: Sequence[Tensor]) -> Float[Tensor, "n d"]:
        """The head of the last map, of length 1, in float32 at least."""
        return unit_length(projector(pooled(maps[-1])))

    def contrast(
        self, query: Float[Tensor, "n d"], *keys: Float[Tensor, "n d"]
    ) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
        """The mean of c with each key, of each query; and mean_j exp(s_j) with the first."""
        options, queue, t = self.options, self.queue.negatives(), self.options.temperature
        with torch.autocast(query.device.type, enabled=False):
            level = mean_of_exponentials(query.detach(), keys[0], queue, t)
            if options.contrast == "nce":
                first = options.samples * self.rows(level).all.mean()
                constant = torch.where(self.constant.isnan(), first, self.constant)
                found = [noise_contrast(query, key, queue, t, constant, options.samples) for key in keys]
            else:
                found = [info_nce(query, key, queue, t, "none") for key in keys]
        return sum(found) / len(found), level

    def after_step(self, rows: Tensor | None, done: float) -> None:
        """The teacher follows, its rows join the queue; the first step sets Z."""
        self.teacher.follow([self.encoder, self.projector], done)
        self.queue.add(rows[:, :-1])
        self.constant.copy_(
            torch.where(self.constant.isnan(), self.options.samples * rows[:, -1].mean(), self.constant)
        )
