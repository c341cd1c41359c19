"""GL-MAE (Zhuang et al., TMI 2025): cells hidden of large and of small crops, and a teacher that sees large ones whole.

Global crops x_g and local ones x_l of a region are resized to a sub-volume; x~ is one without its hidden cells M, d the
decoder, s and t what a student and its teacher make of a view: the pooled last map, and logits by a head::

    L = w_1 mean_g E(x_g) + w_2 mean_l E(x_l) + w_3 mean_g H(t(x_g), s(x~_g)) + w_4 mean_gl H(t(x_g), s(x~_l))
    E(x) = mean over M of (d(x~) - x)^2,    H(t, s) = -sum softmax((t - c) / T_t) log softmax(s / T_s)
    teacher <- m teacher + (1 - m) student,    c <- m_c c + (1 - m_c) mean t

s and t end in cosines with K prototypes, as in DINO (Caron et al., ICCV 2021).

Kept: hidden cells in all of the student's views, the complete global view as the anchor, its ratio, 2 global and 8
local views. **Its pre-training was never published**: the weights w are options of which each is 1; temperatures,
momenta and head are options too, whose defaults follow DINO, on a smaller scale.

It cannot keep the original's ViT, which leaves hidden patches out; here a mask token stands for them, as in SimMIM. The
decoder makes voxels of the last map, since a transformer over visible patches has nothing to read.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from s2dc_core.encoder import EncoderConfig
from s2dc_core.matching import at_least_float32
from s2dc_core.methods.method import Plan, RandomNumbers, Regions
from s2dc_core.methods.parts.contrast import cosines
from s2dc_core.methods.parts.crops import cut, random_cubes, refuse_large_crops
from s2dc_core.methods.parts.decoders import plain_decoder
from s2dc_core.methods.parts.heads import MLP, last_channels, pooled
from s2dc_core.methods.parts.hidden_cells import HiddenCells, HiddenCellsOptions, HidingMethod, masks_of
from s2dc_core.methods.parts.masks import masked_mean
from s2dc_core.methods.parts.momentum import SCHEDULES, Teacher
from s2dc_core.methods.parts.weighted import total_of, weights_of
from s2dc_core.options import MANY, above_zero, one_of, whole_numbers_to, within
from s2dc_core.views import Region


@dataclass(frozen=True, kw_only=True)
class GLMAEOptions(HiddenCellsOptions):
    """Crops, what is hidden of them, head and teacher; see also HiddenCellsOptions.

    Attributes:
        globals, locals: crops of a region.
        global_sides, local_sides: voxels of a crop, one of which is drawn; it is resized to the sub-volume.
        hidden, width: of the head's two hidden layers, and of its output.
        prototypes: K, that the output is compared with.
        temperature, teacher_temperature: T_s and T_t.
        momentum, schedule: of the teacher, see parts.momentum.
        centre_momentum: m_c.
        weights: w, of E of global and local crops and of H of global and local ones.
    """

    globals: int = 2
    locals: int = 8
    global_sides: Sequence[int] = (144, 168, 192)
    local_sides: Sequence[int] = (48, 72, 96)
    hidden: int = 128
    width: int = 64
    prototypes: int = 64
    temperature: float | int = 0.1
    teacher_temperature: float | int = 0.04
    momentum: float | int = 0.996
    schedule: str = "cosine"
    centre_momentum: float | int = 0.9
    weights: Sequence[float | int] = (1.0, 1.0, 1.0, 1.0)

    RULES: ClassVar = {
        **HiddenCellsOptions.RULES,
        **dict.fromkeys(("globals", "locals"), within(1, 1024)),
        **dict.fromkeys(("global_sides", "local_sides"), whole_numbers_to(4096)),
        **dict.fromkeys(("hidden", "width"), within(1, MANY)),
        "prototypes": within(2, MANY),
        **dict.fromkeys(("temperature", "teacher_temperature"), above_zero(1e3)),
        **dict.fromkeys(("momentum", "centre_momentum"), within(0, 1)),
        "schedule": one_of(*SCHEDULES),
        "weights": weights_of(4),
    }

    @classmethod
    def disagreements(cls, values, sound) -> Iterator[str]:
        """Local crops are no larger than global ones."""
        if sound("global_sides", "local_sides") and max(values.local_sides) > min(values.global_sides):
            yield f"local_sides {list(values.local_sides)} must not exceed global_sides {list(values.global_sides)}"

    @classmethod
    def misfits(cls, values, sound: Callable[..., bool], encoder: EncoderConfig) -> Iterator[str]:
        """Sub-volumes that are no cubes, beside what all who hide cells have to look at."""
        yield from super().misfits(values, sound, encoder)
        if len(set(encoder.sub_volume)) > 1:
            yield f"sub_volume {list(encoder.sub_volume)} must be a cube, as crops are"

    def check_scan(self, shape: Sequence[int], encoder: EncoderConfig) -> None:
        """Raise a ValueError for a scan whose region is smaller than a crop."""
        super().check_scan(shape, encoder)
        refuse_large_crops("global_sides", self.global_sides, self.region_shape(shape, encoder), shape)

    def plan(self, encoder: EncoderConfig, region: Region, spacing: Sequence[float], random: RandomNumbers) -> Plan:
        """First voxel and side of each of V crops, global ones first, "crops" [V, 4]; "masked" [V, cells]."""
        shape, generator = region.volume.shape[1:], random("crops")
        each = ((self.global_sides, self.globals), (self.local_sides, self.locals))
        crops = torch.cat([random_cubes(shape, *kind, generator) for kind in each])
        return {"crops": crops, "masked": self.hide(len(crops), encoder, random)}

    def build(self, encoder: EncoderConfig) -> "GLMAE":
        """Student, decoder and teacher."""
        return GLMAE(encoder, self)

    def describe(self, encoder: EncoderConfig, regions: Regions) -> list[tuple[str, str]]:
        """How many views there are."""
        return [("views", f"{self.globals} global and {self.locals} local crops of a region")]


def consistency(
    taught: Float[Tensor, "*#b k"],
    told: Float[Tensor, "*#b k"],
    teacher_temperature: float | int,
    temperature: float | int,
    centre: float | Float[Tensor, " k"] = 0.0,
) -> Float[Tensor, "*b"]:
    """H(t, s), from 0: the teacher's own entropy where both answer alike at one temperature, ln k at told = 0."""
    wanted = ((taught - centre) / teacher_temperature).softmax(-1)
    return -(wanted * (told / temperature).log_softmax(-1)).sum(-1)


class GLMAETerms(NamedTuple):
    """L, and its parts, of each region.

    Attributes:
        total: their weighted sum.
        restored, local_restored: E of global and of local crops.
        alike, local_alike: H of global and of local crops.
    """

    total: Float[Tensor, "*b"]
    restored: Float[Tensor, "*b"]
    local_restored: Float[Tensor, "*b"]
    alike: Float[Tensor, "*b"]
    local_alike: Float[Tensor, "*b"]


class PrototypeHead(nn.Module):
    """Cosines, in float32 at least, of a perceptron's output with K learned directions."""

    def __init__(self, channels: int, options: GLMAEOptions):
        super().__init__()
        self.layers = MLP([channels, options.hidden, options.hidden, options.width], "none", activation=nn.GELU)
        self.prototypes = nn.Parameter(torch.randn(options.prototypes, options.width))

    def forward(self, last: Float[Tensor, "n c _ _ _"]) -> Float[Tensor, "n k"]:
        """Of the mean of each last map."""
        return cosines(self.layers(pooled(last)), self.prototypes)


class GLMAE(HidingMethod):
    """An encoder, its mask token, a decoder and a head; a teacher that follows encoder and head.

    Attributes:
        centre: c.
    """

    Terms = GLMAETerms

    def __init__(self, encoder: EncoderConfig, options: GLMAEOptions):
        super().__init__(encoder, options)
        self.decoder, self.head = plain_decoder(encoder), PrototypeHead(last_channels(encoder), options)
        self.teacher = Teacher([self.encoder, self.head], options.momentum, options.schedule)
        self.register_buffer("centre", torch.zeros(options.prototypes))

    @torch.no_grad()
    def views(self, regions: Regions) -> HiddenCells:
        """The crops of each region and their hidden cells."""
        sides = self.encoder.config.sub_volume
        planned = zip(regions.volume, (plan["crops"].tolist() for plan in regions.plan), strict=True)
        crops = [cut(volume, at, (side,) * 3, sides) for volume, crops in planned for *at, side in crops]
        return HiddenCells(torch.stack(crops), masks_of(regions))

    def forward(self, views: HiddenCells) -> tuple[GLMAETerms, Tensor]:
        """L of each region and its parts, and the teacher's logits."""
        options, shape = self.options, views.masked.shape[:2]
        counts, temperatures = (options.globals, options.locals), (options.teacher_temperature, options.temperature)
        last = self.look(views)[-1]
        off = at_least_float32(self.decoder(last)) - at_least_float32(views.volume)
        hidden = self.over(views.masked)[:, None]
        errors = masked_mean(off.square(), hidden).unflatten(0, shape).split(counts, 1)
        told, local = self.head(last).unflatten(0, shape).split(counts, 1)
        taught = self.teach(views.volume.unflatten(0, shape)[:, : options.globals].flatten(0, 1))
        anchors = taught.unflatten(0, (shape[0], -1))
        alike = consistency(anchors, told, *temperatures, self.centre)
        others = consistency(anchors[:, :, None], local[:, None], *temperatures, self.centre)
        terms = [term.flatten(1).mean(1) for term in (*errors, alike, others)]
        return GLMAETerms(total_of(options.weights, terms), *terms), taught

    @torch.no_grad()
    def teach(self, volume: Float[Tensor, "n c x y z"]) -> Float[Tensor, "n k"]:
        """The teacher's logits of views of which nothing is hidden."""
        encoder, head = self.teacher
        return head(encoder(volume)[-1])

    def after_step(self, rows: Tensor | None, done: float) -> None:
        """The teacher follows, and the centre of what it said moves."""
        self.teacher.follow([self.encoder, self.head], done)
        self.centre.lerp_(rows.mean(0), 1 - self.options.centre_momentum)
