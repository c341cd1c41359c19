"""Telling the partner of a row from the rest of the batch: NT-Xent (SimCLR) and in-batch cross-entropy (MoCo v3).

With unit rows u and temperature t, and j' the partner of j::

    NT-Xent              -log( exp(u_j . u_j' / t) / sum_{v != j} exp(u_j . u_v / t) )      over all 2N views
    cross-entropy        -log( exp(q_i . k_i / t)  / sum_j exp(q_i . k_j / t) )             over the N keys

Rows may be part of a larger batch that several processes hold: `Rows` then has all of it. Both compute in float32 at
least, also under autocast.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from s2dc_core.matching import unit_length
from s2dc_core.methods.parts.rows import Rows


def nt_xent(
    one: Float[Tensor, "n c"],
    other: Float[Tensor, "n c"],
    temperature: float | int,
    ones: Rows | None = None,
    others: Rows | None = None,
) -> Float[Tensor, " n"]:
    """NT-Xent of each pair, the mean of its two views' values.

    At collapse, all rows alike, it is ln(2M - 1) for M pairs in the batch.

    Args:
        one, other: the pairs, of any length.
        ones, others: those of all processes; None for the same.

    Raises:
        ValueError: for a batch of one pair, which has nothing to be told from.
    """
    ones, others = ones or Rows(one), others or Rows(other)
    refuse_single(len(ones.all))

    def share(view: Tensor, alike: Rows, partners: Rows) -> Tensor:
        same, across = (cosines(view, rows.all) / temperature for rows in (alike, partners))
        same = same.diagonal_scatter(same.new_full((len(view),), -torch.inf), alike.first)
        return torch.cat([same, across], 1).logsumexp(1) - across.diagonal(partners.first)

    return (share(one, ones, others) + share(other, others, ones)) / 2


def in_batch_cross_entropy(
    query: Float[Tensor, "n c"], key: Float[Tensor, "n c"], temperature: float | int, keys: Rows | None = None
) -> Float[Tensor, " n"]:
    """Cross-entropy of each query's own key among the keys of the batch.

    At collapse, all rows alike, it is ln(M) for M keys.

    Args:
        query, key: the pairs, of any length.
        keys: of all processes; None for `key`.

    Raises:
        ValueError: for a batch of one key, which has nothing to be told from.
    """
    keys = keys or Rows(key)
    refuse_single(len(keys.all))
    logits = cosines(query, keys.all) / temperature
    return logits.logsumexp(1) - logits.diagonal(keys.first)


def cosines(rows: Float[Tensor, "n c"], others: Float[Tensor, "m c"]) -> Float[Tensor, "n m"]:
    """The cosine of each row with each of the others, in float32 at least; 0 with a row of zeros."""
    with torch.autocast(rows.device.type, enabled=False):
        return unit_length(rows) @ unit_length(others).mT


def refuse_single(rows: int) -> None:
    """Raise a ValueError for a batch of one, whose loss would be 0 whatever the weights."""
    if rows < 2:
        raise ValueError(
            "the negatives of a sub-volume are the others of its batch, and there is none: use a larger batch, or more "
            "sub-volumes of a region"
        )
