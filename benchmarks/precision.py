"""How exact the structure losses are: each form against float64 of the same tokens.

L_p2p + L_p2s with `default`, half of the tokens matched; the error of the loss as a share of it, and the largest error
of the gradient as a share of its largest entry.

    python benchmarks/precision.py [--sizes 1728 6912] [--width 512]
"""

import argparse
import sys

import torch
import torch.nn.functional as F
from child import machine

from s2dc_core.geometry import Matches
from s2dc_core.losses import S2DCLoss

FORMS = {
    "dense, float32": ("dense", torch.float32),
    "streaming, float32": ("streaming", torch.float32),
    "streaming, bfloat16 tokens": ("streaming", torch.bfloat16),
}


def loss_and_gradient(student, teacher, dtype, backend):
    """L_p2p + L_p2s and its gradient, as float64."""
    student = student.to(dtype).requires_grad_()
    index = torch.arange(0, student.shape[1], 2)
    matches = Matches(torch.zeros_like(index), index, index)
    loss = sum(S2DCLoss.from_preset("default", backend=backend).structure_terms(student, teacher.to(dtype), matches))
    return loss.detach().double(), torch.autograd.grad(loss, student)[0].double()


def main() -> int:
    """The command: one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", type=int, default=[1728, 6912], help="numbers of tokens N")
    parser.add_argument("--width", type=int, default=512, help="of a token")
    options = parser.parse_args()
    print(f"{machine('cpu')}; width {options.width}; error of the loss, of the gradient\n")
    print("| N | " + " | ".join(FORMS) + " |\n" + "| --- " * (1 + len(FORMS)) + "|", flush=True)
    generator = torch.Generator().manual_seed(0)
    for tokens in options.sizes:
        teacher = F.normalize(torch.randn(1, tokens, options.width, generator=generator), dim=-1)
        student = F.normalize(teacher + 0.05 * torch.randn(teacher.shape, generator=generator), dim=-1)
        cells = []
        for backend, dtype in FORMS.values():
            sides = student.to(dtype), teacher.to(dtype)
            loss, gradient = loss_and_gradient(*sides, dtype, backend)
            exact, slope = loss_and_gradient(*sides, torch.float64, "dense")
            apart = (gradient - slope).abs().max() / slope.abs().max()
            cells.append(f"{float((loss - exact).abs() / exact):.1e}, {float(apart):.1e}")
        print(f"| {tokens:,} | " + " | ".join(cells) + " |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
