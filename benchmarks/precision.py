"""How exact the structure losses are, and what that costs: each form against float64 of the same features.

Features are what a head gives under autocast: bfloat16, of any length. L_p2p + L_p2s with `default`, half of the tokens
matched; the error of the loss as a share of it, the largest error of the gradient on the student's features as a share
of its largest entry, and the median seconds of forward and backward. Tokens are normalised in float32, as the model
does; the last form shows what normalising under autocast would do.

    python benchmarks/precision.py [--sizes 1728 6912] [--width 512] [--repeats 5]
"""

import argparse
import sys
from functools import partial
from statistics import median

import torch
import torch.nn.functional as F
from child import machine, seconds

from s2dc_core.geometry import Matches
from s2dc_core.losses import S2DCLoss
from s2dc_core.matching import unit_length

FORMS = {
    "dense": ({"backend": "dense"}, unit_length),
    "streaming": ({"backend": "streaming"}, unit_length),
    "streaming, `matmul_dtype=bfloat16`": ({"backend": "streaming", "matmul_dtype": "bfloat16"}, unit_length),
    "dense, normalised in bfloat16": ({"backend": "dense"}, lambda features: F.normalize(features.bfloat16(), dim=-1)),
}


def loss_and_gradient(student, teacher, options, normalise):
    """L_p2p + L_p2s of features, and its gradient on the student's, as float64."""
    student = student.clone().requires_grad_()
    index = torch.arange(0, student.shape[1], 2)
    matches = Matches(torch.zeros_like(index), index, index)
    loss = sum(
        S2DCLoss.from_preset("default", **options).structure_terms(normalise(student), normalise(teacher), matches)
    )
    return loss.detach().double(), torch.autograd.grad(loss, student)[0].double()


def features_of(tokens, width, generator):
    """Features of student and teacher, [1, N, C] float32 that bfloat16 holds."""
    directions = F.normalize(torch.randn(1, tokens, width, generator=generator), dim=-1)
    noise, lengths = (
        torch.randn(directions.shape, generator=generator),
        torch.rand(2, 1, tokens, 1, generator=generator),
    )
    sides = F.normalize(directions + 0.05 * noise, dim=-1), directions
    return [((1 + 9 * length) * side).bfloat16().float() for side, length in zip(sides, lengths, strict=True)]


def main() -> int:
    """The command: one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", type=int, default=[1728, 6912], help="numbers of tokens N")
    parser.add_argument("--width", type=int, default=512, help="of a token")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    print(f"{machine('cpu')}; width {options.width}; error of the loss, of the gradient; median of {options.repeats}\n")
    print("| N | " + " | ".join(FORMS) + " |\n" + "| --- " * (1 + len(FORMS)) + "|", flush=True)
    generator = torch.Generator().manual_seed(0)
    for tokens in options.sizes:
        sides = features_of(tokens, options.width, generator)
        exact, slope = loss_and_gradient(*(side.double() for side in sides), *FORMS["dense"])
        found = {form: loss_and_gradient(*sides, *how) for form, how in FORMS.items()}
        times = {form: [] for form in FORMS}
        for _ in range(options.repeats):
            for form, how in FORMS.items():  # in turns
                times[form].append(seconds(partial(loss_and_gradient, *sides, *how), "cpu"))
        cells = []
        for form, (loss, gradient) in found.items():
            apart = float((gradient - slope).abs().max() / slope.abs().max())
            cells.append(f"{float((loss - exact).abs() / exact):.1e}, {apart:.1e}; {median(times[form]):.3g} s")
        print(f"| {tokens:,} | " + " | ".join(cells) + " |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
