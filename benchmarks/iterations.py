"""What a hundred Sinkhorn iterations cost, as a multiple of the dual-softmax: it hangs on what else is timed.

Each row times the same thing twice, once with either operator, taking turns on one thread. Processor time is taken, and
the shortest of all turns: other work on the machine disturbs that least. Temperature 0.1.

    python benchmarks/iterations.py [--repeats 7]
"""

import argparse
import sys
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from child import machine

from s2dc_core.data import open_scan
from s2dc_core.matching import log_dual_softmax, sinkhorn
from s2dc_core.pretraining import PretrainConfig, Pretraining
from s2dc_core.streaming import sinkhorn_potentials, streamed_profiles

TEMPERATURE, ITERATIONS, WIDTH = 0.1, 100, 512
DUAL, SINKHORN = "dual_softmax", "sinkhorn"
OPERATORS = {
    DUAL: lambda s: log_dual_softmax(s, TEMPERATURE),
    SINKHORN: lambda s: sinkhorn(s, ITERATIONS, temperature=TEMPERATURE),
}


def processor_time(function: Callable[[], object], least: float = 0.02) -> float:
    """Seconds of one call, of as many as take so long together."""
    calls, start = 0, time.process_time()
    while calls == 0 or time.process_time() - start < least:
        function()
        calls += 1
    return (time.process_time() - start) / calls


def tokens(count: int, width: int = WIDTH) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit tokens and their noisy partners."""
    draw = torch.Generator().manual_seed(0)
    first = F.normalize(torch.randn(count, width, generator=draw), dim=-1)
    return first, F.normalize(first + 0.05 * torch.randn(count, width, generator=draw), dim=-1)


def on_a_matrix(name: str, count: int, backward: bool) -> Callable[[], object]:
    """The operator alone."""
    a, b = tokens(count)
    similarity = (a @ b.T).requires_grad_(backward)
    forward = lambda: -OPERATORS[name](similarity).diagonal().mean()  # noqa: E731
    return (lambda: torch.autograd.grad(forward(), similarity)) if backward else forward


def from_tokens(name: str, count: int, streaming: bool) -> Callable[[], object]:
    """Similarities and operator, with the matrix or without it."""
    a, b = tokens(count)
    if not streaming:
        return lambda: OPERATORS[name](a @ b.T)
    if name == DUAL:
        return lambda: streamed_profiles(a[None], b[None], *torch.empty(3, 0, dtype=torch.long), TEMPERATURE)
    return lambda: sinkhorn_potentials(a[None], b[None], ITERATIONS, TEMPERATURE)


def linear_step(name: str, count: int) -> Callable[[], object]:
    """A training step of notebook 02's section 5: a linear map of 32 numbers a token, equation 5, Adam."""
    a, b = tokens(count, 32)
    weight = torch.eye(32, requires_grad=True)
    optimiser = torch.optim.Adam([weight], lr=0.01)

    def step() -> None:
        cosines = F.normalize(a @ weight, dim=-1) @ F.normalize(b @ weight, dim=-1).T
        optimiser.zero_grad()
        (-OPERATORS[name](cosines).diagonal().mean()).backward()
        optimiser.step()

    return step


def whole_step(name: str) -> Callable[[], object]:
    """A training step of the recipe `teaching`, encoders and views with it."""
    config = PretrainConfig.from_recipe("teaching", steps=1_000)
    loss = {**config.options.loss_options, "assignment": name}
    return Pretraining(PretrainConfig.from_recipe("teaching", loss_options=loss), [open_scan("phantom_ct")], "cpu").step


ROWS = {
    **{
        (f"the operator on a matrix, {'forward and backward' if back else 'forward'}", str(count)): (
            lambda name, count=count, back=back: on_a_matrix(name, count, back)
        )
        for back in (False, True)
        for count in (192, 432, 1728)
    },
    **{
        (f"from tokens, {'without the matrix' if streaming else 'with the matrix'}, forward", str(count)): (
            lambda name, count=count, streaming=streaming: from_tokens(name, count, streaming)
        )
        for streaming in (False, True)
        for count in (864, 1728)
    },
    ("a training step of notebook 02's linear map", "192"): lambda name: linear_step(name, 192),
    ("a training step of `teaching`, all of it", "128"): whole_step,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7, help="of which the shortest counts")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{machine('cpu')}; processor time, the shortest of {options.repeats}\n")
    print("| what is timed | tokens | dual-softmax, ms | 100 iterations, ms | times as long |\n" + "| --- " * 5 + "|")
    for (what, count), form in ROWS.items():
        forms = {name: form(name) for name in (DUAL, SINKHORN)}
        times: dict[str, list[float]] = {name: [] for name in forms}
        for _ in range(options.repeats + 1):
            for name, function in forms.items():
                times[name].append(processor_time(function))
        one, many = (1e3 * min(times[name][1:]) for name in (DUAL, SINKHORN))
        print(f"| {what} | {count} | {one:.3g} | {many:.3g} | {many / one:.3g} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
