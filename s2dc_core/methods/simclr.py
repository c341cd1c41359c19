"""SimCLR (Chen et al., ICML 2020): two views of a sub-volume are told from all others of the batch.

With z = unit(h(mean of the last map)), h a perceptron that is thrown away, over the 2N views of a batch::

    L = mean_u -log( exp(z_u . z_u' / t) / sum_{v != u} exp(z_u . z_v / t) ),  u' the other view of u

Kept: both views are drawn alike, NT-Xent, the projector on the pooled last map. The published code adds the means of
the two directions, twice the printed loss, and normalises the projector's output: form="code".

Not kept: a batch of thousands (so few negatives want a higher temperature), and LARS. An affine in millimetres and
gain, offset and noise stand in for resized crops, jitter of colours and blur: intensities have units here, and a flip
would make left organs right ones. Neighbours of one body are negatives of each other where a region has several
sub-volumes.
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from s2dc_core.encoder import Encoder, EncoderConfig
from s2dc_core.methods.method import Method, Regions
from s2dc_core.methods.parts.contrast import nt_xent
from s2dc_core.methods.parts.heads import MLP, NORMS, last_channels, pooled
from s2dc_core.methods.parts.rows import RowsOfAll
from s2dc_core.methods.parts.two_views import PairOptions, TwoViews, make_pairs
from s2dc_core.options import MANY, above_zero, one_of, within

FORMS = ("paper", "code")


@dataclass(frozen=True, kw_only=True)
class SimCLROptions(PairOptions):
    """Views, projector and loss.

    Attributes:
        sub_volumes, views: see PairOptions.
        temperature: of the cosines.
        layers, hidden, out: linear layers of the projector, and its widths.
        norm: of the projector's hidden layers, "layer", "batch" or "none".
        form: "paper", or "code" with twice the loss and a projector whose output is normalised.
    """

    temperature: float | int = 0.5
    layers: int = 2
    hidden: int = 256
    out: int = 128
    norm: str = "layer"
    form: str = "paper"

    RULES: ClassVar = {
        **PairOptions.RULES,
        "temperature": above_zero(1e3),
        "layers": within(1, 16),
        "hidden": within(1, MANY),
        "out": within(1, MANY),
        "norm": one_of(*NORMS),
        "form": one_of(*FORMS),
    }

    def build(self, encoder: EncoderConfig) -> "SimCLR":
        """Encoder and projector."""
        return SimCLR(encoder, self)


class SimCLRTerms(NamedTuple):
    """The loss of each region."""

    total: Float[Tensor, "*b"]


class SimCLR(Method):
    """An encoder and the projector h."""

    Terms = SimCLRTerms

    def __init__(self, encoder: EncoderConfig, options: SimCLROptions):
        super().__init__()
        self.encoder, self.options, self.rows = Encoder(encoder), options, RowsOfAll()
        widths = [last_channels(encoder), *[options.hidden] * (options.layers - 1), options.out]
        self.projector = MLP(widths, options.norm, last_norm=options.form == "code")

    @torch.no_grad()
    def views(self, regions: Regions) -> TwoViews:
        """Both views of each sub-volume."""
        return make_pairs(regions, self.encoder.config.sub_volume)

    def forward(self, views: TwoViews) -> tuple[SimCLRTerms, None]:
        """The loss of each region."""
        projected = self.projector(pooled(self.encoder(views.together())[-1]))
        pairs = projected.chunk(2)
        losses = nt_xent(*pairs, self.options.temperature, *map(self.rows, pairs))
        times = 2 if self.options.form == "code" else 1
        return SimCLRTerms(times * losses.view(len(views.one), -1).mean(1)), None
