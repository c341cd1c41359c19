"""Exercises of notebook 02: the dual-softmax, its temperature, and a read-out between it and Sinkhorn."""

import torch

from s2dc_core.exercises import Exercise, as_tensor
from s2dc_core.matching import dual_softmax, log_dual_softmax


def scores(rows=40, columns=30, seed=0):
    """Cosines of random unit vectors, [rows, columns]."""
    draw = torch.randn(rows + columns, 16, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    a, b = torch.nn.functional.normalize(draw, dim=-1).split((rows, columns))
    return a @ b.T


equation = Exercise(
    "Equation 4",
    "easy",
    task="""
    Write the dual-softmax of a similarity matrix [N, M] with a temperature: the softmax of each row times the softmax
    of each column, entry by entry. Do not use `dual_softmax`.
    """,
    hints=[
        "A row runs along the last axis.",
        "`torch.softmax(x, dim=...)` takes the axis. The temperature divides the similarity.",
    ],
    imports="import torch",
)


@equation.stub
def my_dual_softmax(similarity, temperature):
    """Confidence of each pair, [N, M]."""
    raise NotImplementedError


@equation.solution
def my_dual_softmax(similarity, temperature):
    """Confidence of each pair, [N, M]."""
    scaled = similarity / temperature
    return torch.softmax(scaled, dim=-1) * torch.softmax(scaled, dim=-2)


@equation.mistake("the same axis twice", "both softmaxes run along the same axis")
def my_dual_softmax(similarity, temperature):
    return torch.softmax(similarity / temperature, dim=-1) ** 2


@equation.mistake("one softmax only", "it is one softmax, not the product of two")
def my_dual_softmax(similarity, temperature):
    return torch.softmax(similarity / temperature, dim=-1)


@equation.mistake("temperature forgotten", "the temperature changes nothing")
def my_dual_softmax(similarity, temperature):
    return torch.softmax(similarity, dim=-1) * torch.softmax(similarity, dim=-2)


@equation.mistake("temperature upside down", "multiplied by the temperature")
def my_dual_softmax(similarity, temperature):
    return torch.softmax(similarity * temperature, dim=-1) * torch.softmax(similarity * temperature, dim=-2)


@equation.mistake("sum for product", "added, not multiplied")
def my_dual_softmax(similarity, temperature):
    return torch.softmax(similarity / temperature, dim=-1) + torch.softmax(similarity / temperature, dim=-2)


@equation.check
def check_equation(answer):
    s = scores()
    found, right = as_tensor(answer(s, 0.2), s.shape, "a matrix").double(), dual_softmax(s, 0.2)
    rows, columns = torch.softmax(s / 0.2, dim=-1), torch.softmax(s / 0.2, dim=-2)

    def same(other):
        return torch.allclose(found, other, atol=1e-6)

    assert not same(rows**2) and not same(columns**2), "both softmaxes run along the same axis"
    assert not same(rows) and not same(columns), "it is one softmax, not the product of two"
    assert not same(rows + columns), "the two softmaxes are added, not multiplied"
    assert not same(dual_softmax(s, 1.0)), "the temperature changes nothing: divide the similarity by it"
    assert not same(dual_softmax(s, 5.0)), "the similarity is multiplied by the temperature, not divided"
    assert same(right), f"another matrix than equation 4's: largest difference {float((found - right).abs().max()):.3g}"


in_logs = Exercise(
    "In logarithms",
    "medium",
    task="""
    Write the logarithm of the dual-softmax so that it stays finite, with a gradient, where the confidence itself is 0
    in float32: for a similarity of -1 among similarities of 1 at temperature 0.01.
    """,
    hints=[
        "The logarithm of a product is a sum.",
        "`torch.logsumexp` subtracts the largest entry before it takes exp.",
    ],
    imports="import torch",
)


@in_logs.stub
def my_log_dual_softmax(similarity, temperature):
    """Logarithm of each confidence, [N, M]."""
    raise NotImplementedError


@in_logs.solution
def my_log_dual_softmax(similarity, temperature):
    """Logarithm of each confidence, [N, M]."""
    scaled = similarity / temperature
    return 2 * scaled - scaled.logsumexp(-1, keepdim=True) - scaled.logsumexp(-2, keepdim=True)


@in_logs.mistake("logarithm last", "infinite")
def my_log_dual_softmax(similarity, temperature):
    return (torch.softmax(similarity / temperature, -1) * torch.softmax(similarity / temperature, -2)).log()


@in_logs.mistake("clamped", "no gradient")
def my_log_dual_softmax(similarity, temperature):
    product = torch.softmax(similarity / temperature, -1) * torch.softmax(similarity / temperature, -2)
    return product.clamp(min=1e-6).log()


@in_logs.mistake("similarity counted once", "counted once")
def my_log_dual_softmax(similarity, temperature):
    scaled = similarity / temperature
    return scaled - scaled.logsumexp(-1, keepdim=True) - scaled.logsumexp(-2, keepdim=True)


@in_logs.mistake("sum over everything", "over the whole matrix")
def my_log_dual_softmax(similarity, temperature):
    scaled = similarity / temperature
    return 2 * scaled - 2 * scaled.flatten().logsumexp(0)


@in_logs.check
def check_in_logs(answer):
    s = scores()
    found, right = as_tensor(answer(s, 0.2), s.shape, "a matrix").double(), log_dual_softmax(s, 0.2)
    once, whole = right - s / 0.2, 2 * (s / 0.2 - (s / 0.2).flatten().logsumexp(0))
    assert not torch.allclose(found, once), "the similarity enters both softmaxes, yours is counted once"
    assert not torch.allclose(found, whole), "the sum runs over the whole matrix: one for each row, one for each column"
    hard = torch.ones(8, 8)
    hard[0, 0] = -1
    hard.requires_grad_(True)
    entry = answer(hard, 0.01)[0, 0]
    assert torch.isfinite(entry), "the logarithm of a confidence that is 0 is infinite: subtract logarithms instead"
    (gradient,) = torch.autograd.grad(entry, hard)
    assert gradient[0, 0] > 0, "a pair of small confidence gets no gradient: nothing may be clamped"
    assert torch.allclose(found, right), f"not equation 4: largest difference {float((found - right).abs().max()):.3g}"
    return f"That entry is {float(entry.detach()):.0f}; its confidence is 0 in float32."
