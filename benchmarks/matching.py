"""The structure losses against the number of tokens: dense forms, streaming, and the floor of three matrix products.

Each cell is L_p2p + L_p2s of one region, forward and backward to the student, temperature 0.1, soft labels detached,
half of the tokens matched: seconds as a multiple of three float32 products of the size of the similarity matrix, which
take turns with it (on a GPU: bfloat16 products), and the most memory it adds. Forms that would not fit
are not run: their memory is scaled up from the size before, or guessed for the first.

    python benchmarks/matching.py [--sizes 432 1728] [--width 512] [--repeats 5] [--device cuda]
"""

import sys

import torch
import torch.nn.functional as F
from child import Measured, measure, table

from s2dc_core.geometry import Matches
from s2dc_core.losses import patch_to_patch, patch_to_structure
from s2dc_core.matching import (
    MatchStatistics,
    dual_softmax,
    log_dual_softmax,
    match_statistics,
    sharpe_ratio,
    similarity_matrix,
)
from s2dc_core.official import CLAMP

TEMPERATURE = 0.1
SIZES = {"cpu": [432, 1728, 6912, 13824, 27648], "cuda": [432, 1728, 6912, 13824, 27648, 221184]}
FLOOR = {"cpu": torch.float32, "cuda": torch.bfloat16}
STRIP = 2**27
"""Entries of the similarity matrix that the floor holds at once: the whole of it would not fit at every size."""


def matrix_form(confidence, student, teacher, matches) -> MatchStatistics:
    """Statistics with a whole matrix of (log-)confidences, of which the matches are read."""
    similarity = similarity_matrix(student, teacher)
    at = (matches.batch, matches.source, matches.target)
    ratios = [sharpe_ratio(similarity.detach(), dim) for dim in (-1, -2)]
    return MatchStatistics(confidence(similarity)[at], similarity[at], *ratios)


def softmax_form(*arguments) -> MatchStatistics:
    """As published: the product of two softmaxes, clamped, then its logarithm."""
    return matrix_form(lambda s: dual_softmax(s, TEMPERATURE).clamp(CLAMP, 1 - CLAMP).log(), *arguments)


def log_softmax_form(*arguments) -> MatchStatistics:
    """The sum of two log-softmaxes."""
    return matrix_form(lambda s: log_dual_softmax(s, TEMPERATURE), *arguments)


def backend(name, matmul_dtype="float32"):
    """match_statistics with this backend and dtype of its products."""
    how = {"backend": name, "detach_ratio": True, "matmul_dtype": matmul_dtype}
    return lambda *arguments: match_statistics(*arguments, TEMPERATURE, **how)


FORMS = {
    "softmax, as published": (softmax_form, torch.float32, 7),
    "log-softmax": (log_softmax_form, torch.float32, 6),
    "dense": (backend("dense"), torch.float32, 6),
    "streaming": (backend("streaming"), torch.float32, 0),
    "streaming, bfloat16 tokens": (backend("streaming", "bfloat16"), torch.bfloat16, 0),
}
"""Each with the dtype of its tokens and a guess of the N x N matrices that it holds."""


def floor_of(student, teacher, dtype):
    """Three products of the size of the similarity matrix: made, made again, and multiplied with the teacher."""
    a, b = student.detach()[0].to(dtype), teacher[0].to(dtype)
    rows = min(len(a), max(STRIP // len(b), 1))
    matrix, gradient = a.new_empty(rows, len(b)), torch.empty_like(a)

    def run():
        for part, out in zip(a.split(rows), gradient.split(rows), strict=True):
            torch.mm(part, b.T, out=matrix[: len(part)])
            torch.mm(part, b.T, out=matrix[: len(part)])
            torch.mm(matrix[: len(part)], b, out=out)

    return run


def child(form: str, tokens: int, width: int, repeats: int, device: str) -> Measured:
    """Measure one form at one size."""
    statistics, dtype, _ = FORMS[form]
    generator = torch.Generator().manual_seed(0)
    teacher = F.normalize(torch.randn(1, tokens, width, generator=generator), dim=-1)
    student = F.normalize(teacher + 0.05 * torch.randn(1, tokens, width, generator=generator), dim=-1)
    teacher, student = (x.to(device, dtype) for x in (teacher, student))
    index = torch.arange(0, tokens, 2, device=device)
    matches = Matches(torch.zeros_like(index), index, index)
    student.requires_grad_()

    def run():
        student.grad = None
        found = statistics(student, teacher, matches)
        (patch_to_patch(found, matches) + patch_to_structure(found, matches)).backward()

    return measure(run, floor_of(student, teacher, FLOOR[device]), repeats, device)


if __name__ == "__main__":
    guesses = {form: guess for form, (_, _, guess) in FORMS.items()}
    sys.exit(table(__file__, __doc__, guesses, SIZES, child, "three products"))
