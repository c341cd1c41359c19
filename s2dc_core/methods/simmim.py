"""SimMIM (Xie et al., CVPR 2022): masked cells of a sub-volume are told from what is left of it.

Tokens of masked cells are replaced by a learned one between the patch embedding and the first stage; a decoder makes
voxels of the last map; L = mean over the masked voxels of |x - x^|. The published head, one linear layer from a token
to all its voxels, has more weights than the encoder of the course; a chain of transposed convolutions is such a map of
lower rank (Disruptive Autoencoders, Valanarasu et al. 2023, have it too).
"""

from dataclasses import dataclass
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from s2dc_core.encoder import EncoderConfig
from s2dc_core.methods.parts.decoders import plain_decoder
from s2dc_core.methods.parts.hidden_cells import HiddenCells, HiddenCellsOptions, HidingMethod
from s2dc_core.methods.parts.masks import masked_mean


@dataclass(frozen=True, kw_only=True)
class SimMIMOptions(HiddenCellsOptions):
    """What is masked, see HiddenCellsOptions; the ratio's share of the cells is rounded up."""

    def build(self, encoder: EncoderConfig) -> "SimMIM":
        """Encoder, mask token and decoder."""
        return SimMIM(encoder, self)


class SimMIMTerms(NamedTuple):
    """The loss of each region."""

    total: Float[Tensor, "*b"]


class SimMIM(HidingMethod):
    """An encoder, the token that stands for what is masked, and a decoder from the last map to voxels."""

    Terms = SimMIMTerms

    def __init__(self, encoder: EncoderConfig, options: SimMIMOptions):
        super().__init__(encoder, options)
        self.decoder = plain_decoder(encoder)

    def forward(self, views: HiddenCells) -> tuple[SimMIMTerms, None]:
        """The loss of each region."""
        made = self.decoder(self.look(views)[-1])
        losses = masked_mean((views.volume.float() - made.float()).abs(), self.over(views.masked)[:, None])
        return SimMIMTerms(losses.view(len(views.masked), -1).mean(1)), None
