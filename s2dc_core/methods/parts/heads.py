"""Heads that pretext tasks throw away: perceptrons on pooled maps or on tokens."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from s2dc_core.encoder import LEVELS, EncoderConfig
from s2dc_core.model import SharedBatchNorm
from s2dc_core.options import check_choice

NORMS = ("layer", "batch", "none")


class MLP(nn.Sequential):
    """Linear layers on the last axis with normalisation and activation between; leading axes are one batch.

    Args:
        widths: channels of the input, of each hidden layer and of the output: [C, D] is one linear layer.
        norm: of the hidden layers, "layer", "batch" or "none"; "batch" takes the rows of all processes.
        last_norm: whether the output is normalised too, without weights of its own.
        activation: between the layers.
    """

    def __init__(
        self,
        widths: Sequence[int],
        norm: str = "layer",
        last_norm: bool = False,
        activation: type[nn.Module] = nn.ReLU,
    ):
        check_choice("head norm", norm, NORMS)
        layers = []
        for inputs, hidden in zip(widths[:-2], widths[1:-1], strict=True):
            layers += [nn.Linear(inputs, hidden), *_norm(norm, hidden, True), activation()]
        super().__init__(*layers, nn.Linear(*widths[-2:]), *(_norm(norm, widths[-1], False) if last_norm else ()))

    def forward(self, features: Float[Tensor, "*shape c"]) -> Float[Tensor, "*shape d"]:
        """What each feature vector becomes."""
        return super().forward(features.flatten(0, -2)).unflatten(0, features.shape[:-1])


def _norm(name: str, channels: int, affine: bool) -> list[nn.Module]:
    if name == "none":
        return []
    if name == "layer":
        return [nn.LayerNorm(channels, elementwise_affine=affine)]
    return [SharedBatchNorm(channels, affine=affine)]


def pooled(cells: Float[Tensor, "g c x y z"]) -> Float[Tensor, "g c"]:
    """The mean of each map over its cells."""
    return cells.flatten(2).mean(-1)


def tokens_of(cells: Float[Tensor, "g c x y z"]) -> Float[Tensor, "g n c"]:
    """The cells of each map as tokens, last grid axis fastest."""
    return cells.flatten(2).mT


def last_channels(encoder: EncoderConfig) -> int:
    """Channels of the last map."""
    return encoder.embed_dim * 2 ** (LEVELS - 1)
