"""A hundred Sinkhorn iterations in several forms, against one dual-softmax without the matrix.

Each cell is one forward pass over N x N tokens at temperature 0.1: seconds as a multiple of the streaming dual-softmax,
which takes turns with it and also gathers what the Sharpe ratios need, and the most memory it adds. POT runs its
log-domain solver with the stop test off. GeomLoss has no number of iterations: it lowers its temperature in steps;
scaling 0.982 makes about a hundred of them.

    python benchmarks/sinkhorn.py [--sizes 432 1728] [--width 512] [--repeats 5] [--device cuda]
"""

import sys
import warnings

import ot
import torch
import torch.nn.functional as F
from child import Measured, measure, table
from geomloss import SamplesLoss

from s2dc_core.matching import log_dual_softmax, sinkhorn
from s2dc_core.streaming import sinkhorn_potentials, streamed_profiles

TEMPERATURE, ITERATIONS = 0.1, 100


def with_pot(a, b):
    """The plan as POT computes it."""
    weights = (torch.full((len(x),), 1 / len(x), dtype=a.dtype, device=a.device) for x in (a, b))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the stop test, turned off, was not met
        return ot.sinkhorn(*weights, 1 - a @ b.T, TEMPERATURE, "sinkhorn_log", numItermax=ITERATIONS, stopThr=0)


def with_geomloss(a, b):
    """The potentials as GeomLoss computes them, on the matrix of costs."""
    options = {"p": 2, "blur": TEMPERATURE**0.5, "scaling": 0.982, "diameter": 2.0, "debias": False}
    return SamplesLoss("sinkhorn", potentials=True, backend="tensorized", **options)(a, b)


FORMS = {
    "dual-softmax, dense": lambda a, b: log_dual_softmax(a @ b.T, TEMPERATURE),
    "Sinkhorn, dense": lambda a, b: sinkhorn(a @ b.T, ITERATIONS, temperature=TEMPERATURE),
    "Sinkhorn, streaming": lambda a, b: sinkhorn_potentials(a[None], b[None], ITERATIONS, TEMPERATURE),
    "Sinkhorn, POT": with_pot,
    "Sinkhorn, GeomLoss": with_geomloss,
}


def child(form: str, tokens: int, width: int, repeats: int, device: str) -> Measured:
    """Measure one form at one size."""
    generator = torch.Generator().manual_seed(0)
    teacher = F.normalize(torch.randn(tokens, width, generator=generator), dim=-1)
    student = F.normalize(teacher + 0.05 * torch.randn(tokens, width, generator=generator), dim=-1)
    teacher, student = teacher.to(device), student.to(device)
    nothing = torch.empty(3, 0, dtype=torch.long, device=device)

    def dual_softmax():
        streamed_profiles(student[None], teacher[None], *nothing, TEMPERATURE)

    return measure(lambda: FORMS[form](student, teacher), dual_softmax, repeats, device)


if __name__ == "__main__":
    guesses = {form: 0 if "streaming" in form else 5 for form in FORMS}
    sizes = {"cpu": [432, 1728], "cuda": [432, 1728]}
    sys.exit(table(__file__, __doc__, guesses, sizes, child, "dual-softmax, streaming"))
