"""MoCo v3 (Chen, Xie, He, ICCV 2021): a view is told from the other sub-volumes by a teacher's look at its other view.

With q = predictor(projector(f(x))), k = projector*(f*(x)) of the teacher, all of unit length, and N keys in the batch::

    CE(q, k) = mean_i -log( exp(q_i . k_i / t) / sum_j exp(q_i . k_j / t) )
    L = 2 t (CE(q1, k2) + CE(q2, k1))
    teacher <- m teacher + (1 - m) student,  m = 1 - (1 - m_0)(1 + cos(pi done)) / 2

Kept: the negatives are the keys of the batch, no queue; the teacher has no predictor, its own running statistics, and a
momentum that rises to 1; the factor 2 t (of which the authors give no reason); a patch embedding that may stay as it
was drawn. The official code moves the teacher at the start of the next step: the same sequence as after this one.

Not kept: the ViT, whose pooling and positions a Swin does not have; batches of thousands, and with few rows BatchNorm
heads are noise, so LayerNorm is the default; views are as in SimCLR here, both drawn alike (theirs blur and solarise
the two by different chances). The paper that this project studies cites MoCo v1 under this name.
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from s2dc_core.encoder import Encoder, EncoderConfig
from s2dc_core.methods.method import Method, Regions
from s2dc_core.methods.parts.contrast import in_batch_cross_entropy
from s2dc_core.methods.parts.heads import MLP, NORMS, last_channels, pooled
from s2dc_core.methods.parts.momentum import SCHEDULES, Teacher
from s2dc_core.methods.parts.rows import RowsOfAll
from s2dc_core.methods.parts.two_views import PairOptions, TwoViews, make_pairs
from s2dc_core.options import MANY, above_zero, one_of, that, within


@dataclass(frozen=True, kw_only=True)
class MoCoV3Options(PairOptions):
    """Views, heads, teacher and loss.

    Attributes:
        sub_volumes, views: see PairOptions.
        temperature: of the cosines.
        hidden, out: widths of the projector, three layers, and of the predictor, two.
        norm: of both heads, "layer", "batch" or "none"; outputs are normalised too.
        momentum, schedule: of the teacher, see parts.momentum.
        frozen_patch: whether the patch embedding keeps its random weights, which steadies a ViT's training.
    """

    temperature: float | int = 0.2
    hidden: int = 256
    out: int = 128
    norm: str = "layer"
    momentum: float | int = 0.99
    schedule: str = "cosine"
    frozen_patch: bool = False

    RULES: ClassVar = {
        **PairOptions.RULES,
        "temperature": above_zero(1e3),
        "hidden": within(1, MANY),
        "out": within(1, MANY),
        "norm": one_of(*NORMS),
        "momentum": that(lambda share: 0 <= share <= 1, "must be from 0 to 1"),
        "schedule": one_of(*SCHEDULES),
    }

    def build(self, encoder: EncoderConfig) -> "MoCoV3":
        """Encoder, heads and teacher."""
        return MoCoV3(encoder, self)


class MoCoV3Terms(NamedTuple):
    """The loss of each region."""

    total: Float[Tensor, "*b"]


class MoCoV3(Method):
    """An encoder, projector and predictor, and the teacher: copies of encoder and projector."""

    Terms = MoCoV3Terms

    def __init__(self, encoder: EncoderConfig, options: MoCoV3Options):
        super().__init__()
        self.encoder, self.options, self.rows = Encoder(encoder), options, RowsOfAll()
        hidden, out, how = options.hidden, options.out, (options.norm, True)
        self.projector = MLP([last_channels(encoder), hidden, hidden, out], *how)
        self.predictor = MLP([out, hidden, out], *how)
        self.encoder.swinViT.patch_embed.requires_grad_(not options.frozen_patch)
        self.teacher = Teacher([self.encoder, self.projector], options.momentum, options.schedule)

    @torch.no_grad()
    def views(self, regions: Regions) -> TwoViews:
        """Both views of each sub-volume."""
        return make_pairs(regions, self.encoder.config.sub_volume)

    def forward(self, views: TwoViews) -> tuple[MoCoV3Terms, None]:
        """The loss of each region. The encoders see both views at once, the heads' statistics are each view's own."""
        both, t = views.together(), self.options.temperature
        queries = [self.predictor(self.projector(each)) for each in pooled(self.encoder(both)[-1]).chunk(2)]
        keys = self.keys(both)
        found = (
            in_batch_cross_entropy(query, key, t, self.rows(key))
            for query, key in zip(queries, reversed(keys), strict=True)
        )
        return MoCoV3Terms(2 * t * sum(found).view(len(views.one), -1).mean(1)), None

    @torch.no_grad()
    def keys(self, both: Float[Tensor, "n c x y z"]) -> list[Float[Tensor, "k d"]]:
        """The teacher's projections of both views."""
        encoder, projector = self.teacher
        return [projector(each) for each in pooled(encoder(both)[-1]).chunk(2)]

    def after_step(self, rows: Tensor | None, done: float) -> None:
        """The teacher follows."""
        self.teacher.follow([self.encoder, self.projector], done)
