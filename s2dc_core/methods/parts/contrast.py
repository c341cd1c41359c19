"""Telling rows that belong together from the rest of the batch, and what methods that do so have in common.

With unit rows u and temperature t, j' the partner of j, and P(j) the other rows of its label::

    NT-Xent         -log( exp(u_j . u_j' / t) / sum_{v != j} exp(u_j . u_v / t) )                     over all 2N views
    cross-entropy   -log( exp(q_i . k_i / t) / sum_j exp(q_i . k_j / t) )                             over the N keys
    SupCon          -mean_{p in P(j)} log( exp(u_j . u_p / t) / sum_{v != j} exp(u_j . u_v / t) )     over all rows
    noise contrast  -log( P_0 / (P_0 + M/n + e) ) - sum_j log( (M/n) / (P_j + M/n + e) ),  P_j = exp(q . m_j / t) / Z

NT-Xent is SimCLR's, cross-entropy MoCo v3's, SupCon Khosla et al.'s (NeurIPS 2020), noise contrast that of Contrastive
Multiview Coding (Tian et al., ECCV 2020), for a key m_0 and the M rows of a queue. Rows of the others may be part of a
larger batch that several processes hold: `Rows` then has all of it. They compute in float32 at least, also under
autocast.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from s2dc_core.matching import unit_length
from s2dc_core.methods.parts.rows import Rows
from s2dc_core.methods.parts.sub_volumes import SubVolumeOptions

EPSILON = 1e-5
"""e of noise contrast."""


@dataclass(frozen=True, kw_only=True)
class BatchOptions(SubVolumeOptions):
    """Options of a method that tells a sub-volume from the others of its batch."""

    @property
    def whole_batch(self) -> bool:
        """The others of a batch are the negatives."""
        return True

    @property
    def least_parts(self) -> int:
        """One, and another to be told from."""
        return 2


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


def supervised_contrast(
    rows: Float[Tensor, "n c"],
    labels: Int[Tensor, " m"],
    temperature: float | int,
    every: Rows | None = None,
) -> Float[Tensor, " n"]:
    """SupCon of each row: the mean over the others of its label of -log of their share.

    At collapse, all rows alike, it is ln(M - 1) for M rows in the batch.

    Args:
        labels: of all rows; each comes twice at least.
        every: the rows of all processes; None for `rows`.
    """
    every = every or Rows(rows)
    logits = cosines(rows, every.all) / temperature
    itself = torch.zeros_like(logits, dtype=torch.bool)
    itself = itself.diagonal_scatter(itself.new_ones(len(rows)), every.first)
    logits = logits.masked_fill(itself, -torch.inf)
    alike = (labels[every.first :][: len(rows), None] == labels) & ~itself
    shares = torch.where(alike, logits.logsumexp(1, keepdim=True) - logits, 0.0)
    return shares.sum(1) / alike.sum(1)


def mean_of_exponentials(
    query: Float[Tensor, "n c"], key: Float[Tensor, "n c"], queue: Float[Tensor, "m c"], temperature: float | int
) -> Float[Tensor, " n"]:
    """mean_j exp(q . m_j / t) of each query, j from 0: n samples times it is a Z of noise contrast."""
    own = (query * key).sum(-1, keepdim=True)
    return (torch.cat([own, query @ queue.mT], 1) / temperature).exp().mean(1)


def noise_contrast(
    query: Float[Tensor, "n c"],
    key: Float[Tensor, "n c"],
    queue: Float[Tensor, "m c"],
    temperature: float | int,
    constant: Float[Tensor, ""] | float | int,
    samples: int,
) -> Float[Tensor, " n"]:
    """Whether the key or the noise of the queue belongs to a query, by a softmax with a denominator that stays.

    With Z = n times the mean of all exponentials n drops out, but for e; where all are alike it is then
    ln(1 + M) + M ln(1 + 1 / M).

    Args:
        query, key, queue: of unit length.
        constant: Z.
        samples: n, that the noise is drawn from.
    """
    positive = ((query * key).sum(-1) / temperature).exp() / constant
    negative = (query @ queue.mT / temperature).exp() / constant
    noise = len(queue) / samples
    told = (positive / (positive + noise + EPSILON)).log()
    return -told - (noise / (negative + noise + EPSILON)).log().sum(1)


def cosines(rows: Float[Tensor, "*b n c"], others: Float[Tensor, "*b m c"]) -> Float[Tensor, "*b n m"]:
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
