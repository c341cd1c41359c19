"""Made-up tokens of V and of V' whose difficulty can be set, and how a loss pulls on them (notebooks 02 and 02b)."""

from collections.abc import Callable
from numbers import Integral, Real

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor


def controlled_tokens(
    count: Integral,
    noise: Real,
    unmatched: Real = 0.0,
    own: Real = 0.3,
    clusters: Integral = 16,
    channels: Integral = 64,
    seed: int = 0,
) -> tuple[Float[Tensor, "n c"], Float[Tensor, "n c"], Int[Tensor, " n"]]:
    """Unit tokens of V and of V', and the partner in V' of each token of V; -1 where it has none.

    Args:
        count: tokens of each side.
        noise: length of what each token of V' has besides its place; a place has length 1.
        unmatched: share of the tokens of each side that have no partner on the other.
        own: share of a place's squared length that is its own; the rest it has from its tissue.
        clusters: tissues, each with many places.
        channels: of a token.
        seed: of every draw.
    """
    draw = torch.Generator().manual_seed(seed)
    alone = round(unmatched * count)
    tissue = torch.randint(clusters, (count + alone,), generator=draw).sort().values
    centre, place, change = (
        F.normalize(torch.randn(k, channels, generator=draw), dim=-1) for k in (clusters, *2 * [count + alone])
    )
    place = F.normalize((1 - own) ** 0.5 * centre[tissue] + own**0.5 * place, dim=-1)
    gone = torch.randperm(count + alone, generator=draw)[: 2 * alone].view(2, alone)
    here, there = (torch.ones(count + alone, dtype=torch.bool).index_fill(0, side, False) for side in gone)
    partner = torch.where(there, there.cumsum(0) - 1, -1)
    return place[here], F.normalize(place + noise * change, dim=-1)[there], partner[here]


def true_pairs(partner: Int[Tensor, " n"]) -> tuple[Int[Tensor, " p"], Int[Tensor, " p"]]:
    """Tokens of V that have a partner, and these partners."""
    return (partner >= 0).nonzero()[:, 0], partner[partner >= 0]


def equal_gap_loss(
    tokens: Integral | Float[Tensor, " n"], gap: Real | Float[Tensor, " n"], temperature: Real | Float[Tensor, " n"]
) -> Float[Tensor, "*n"]:
    """L_p2p where every true pair is more similar than all other pairs by one gap: 2 log(1 + (N - 1) exp(-gap / tau)).

    Gap 0 are equal tokens, N / (N - 1) a simplex, 2 a bound that no cosines can beat.
    """
    return 2 * torch.log1p((tokens - 1) * torch.exp(-torch.as_tensor(gap, dtype=torch.float64) / temperature))


def pull_on_tokens(loss: Callable[[Tensor], Tensor], tokens: Float[Tensor, "n c"]) -> tuple[float, float]:
    """A loss, and N times the mean length of its gradient on a unit token, along the sphere: a unit token only turns.

    Args:
        loss: of tokens [N, C], a mean over them, hence the factor N.
        tokens: of unit length.
    """
    tokens = tokens.detach().clone().requires_grad_()
    value = loss(tokens)
    (pull,), tokens = torch.autograd.grad(value, tokens), tokens.detach()
    pull = pull - (pull * tokens).sum(1, keepdim=True) * tokens
    return value.item(), len(tokens) * float(pull.norm(dim=1).mean())
