"""The tokens that the structure losses see of a batch, as S2DC samples and gathers them."""

import torch

from s2dc_core.methods.s2dc import _pick, sample_tokens
from s2dc_core.views import matches_of


def draw_tokens(student, teacher, matches, count, draws=1, generators=None):
    """Samples of the tokens of V and of V', [B * draws, k, C] each, and the matches among them."""
    regions, tokens = student.shape[:2]
    found = []
    for region, generator in enumerate(generators or [None] * regions):
        mine = matches.batch == region
        pairs = torch.stack([matches.source[mine], matches.target[mine]])
        found.append(sample_tokens(pairs, tokens, count, draws, generator))
    source, target, counts = (torch.cat(part) for part in zip(*found, strict=True))
    kept = matches_of([torch.arange(number).expand(2, -1) for number in counts.tolist()])
    return _pick(student, source), _pick(teacher, target), kept
