"""Exercises of notebook 03: equation 6, peaks from a ratio, what twice the similarity does, a loss that attracts."""

import math

import torch
from scipy.optimize import brentq
from scipy.special import softmax

from s2dc_core.exercises import Exercise, as_number, as_tensor
from s2dc_core.matching import sharpe_ratio


def rows(seed=0, tokens=6, partners=300):
    """Distributions [tokens, partners], of several means and widths, with a few peaks and a few deep holes."""
    draw = torch.Generator().manual_seed(seed)
    D = 0.2 * torch.randn(tokens, partners, generator=draw, dtype=torch.float64)
    D = D * torch.linspace(0.3, 1.2, tokens)[:, None] + torch.linspace(0.1, 0.3, tokens)[:, None]
    D[:, ::71] += 0.4
    D[:, 7::83] -= 1.6
    return D


def sharpe(D, height=None, width=None):
    """Equation 6 over the last axis, or with its numerator or its divisor exchanged."""
    height = D.amax(-1) - D.mean(-1) if height is None else height
    return height / (D.std(-1) if width is None else width)


equation = Exercise(
    "Equation 6",
    "easy",
    task="""
    Write the Sharpe ratio of each row: how far its maximum lies above its mean, in standard deviations of the row. Do
    not use `sharpe_ratio`.
    """,
    hints=["`D.amax(-1)`, `D.mean(-1)` and `D.std(-1)` work on each row."],
    imports="import torch",
    use="""
    D = seen["trained"]["t"][:500] @ seen["trained"]["t_prime"].T
    apart = (torch.as_tensor(my_ratio(D)) - seen["trained"]["ratio"][:500]).abs().max()
    print(f"500 tokens of the trained encoder: off the core's ratio by at most {float(apart):.1e}")
    """,
    behind="sharpe-23",
)


@equation.stub
def my_ratio(D):
    """The ratio of each row, [N]; D [N, M]."""
    raise NotImplementedError


@equation.solution
def my_ratio(D):
    """The ratio of each row, [N]; D [N, M]."""
    return (D.amax(-1) - D.mean(-1)) / D.std(-1)


@equation.accepted("numpy, one row after the other, with its own standard deviation")
def my_ratio(D):
    return [(row.max() - row.mean()) / row.std() for row in D.numpy()]  # numpy divides by N, torch by N - 1


@equation.accepted("a root of means, in float32")
def my_ratio(D):
    away = D.float() - D.float().mean(1, keepdim=True)
    return away.max(1).values / away.square().mean(1).sqrt()


@equation.mistake("the largest size", "largest size")
def my_ratio(D):
    return sharpe(D, height=D.abs().amax(-1) - D.mean(-1))


@equation.mistake("median for mean", "median")
def my_ratio(D):
    return sharpe(D, height=D.amax(-1) - D.median(-1).values)


@equation.mistake("variance for standard deviation", "variance")
def my_ratio(D):
    return sharpe(D, width=D.var(-1))


@equation.mistake("mean forgotten", "above its mean")
def my_ratio(D):
    return sharpe(D, height=D.amax(-1))


@equation.mistake("from the minimum", "from the minimum")
def my_ratio(D):
    return sharpe(D, height=D.amax(-1) - D.amin(-1))


@equation.mistake("over the columns", "wrong axis")
def my_ratio(D):
    return sharpe(D.T)


@equation.mistake("one number for all rows", "all rows together")
def my_ratio(D):
    return (D.amax(-1) - D.mean()) / D.std()


@equation.mistake("upside down", "upside down")
def my_ratio(D):
    return 1 / sharpe(D)


@equation.check
def check_equation(answer):
    for D in (rows(0), rows(1, tokens=9)):
        given = answer(D.clone())
        across = "a value for each column: the maximum goes over the wrong axis, a row is the last one"
        assert list(getattr(given, "shape", ())) != [D.shape[1]], across
        found = as_tensor(given, (len(D),), "a ratio of each row")

        def same(other, found=found):
            return torch.allclose(found, other, rtol=5e-3)

        assert not same(sharpe(D, width=D.var(-1))), "divided by the variance: Sharpe divides by the standard deviation"
        mean = "how far the maximum lies above its mean: the mean is not taken off"
        assert not same(sharpe(D, height=D.amax(-1))), mean
        assert not same(sharpe(D, height=D.amax(-1) - D.amin(-1))), "measured from the minimum, not from the mean"
        size = "the largest size counts in yours: a strong negative similarity is no peak, the maximum keeps the sign"
        assert not same(sharpe(D, height=D.abs().amax(-1) - D.mean(-1))), size
        assert not same(sharpe(D.abs())), size
        assert not same(sharpe(D, height=D.amax(-1) - D.median(-1).values)), "measured from the median, not the mean"
        together = "mean and deviation are those of all rows together: each row has its own"
        assert not same((D.amax(-1) - D.mean()) / D.std()), together
        assert not same(1 / sharpe(D)), "upside down: a clear peak must have a high ratio"
        off = float((found - sharpe_ratio(D)).abs().max())
        assert same(sharpe_ratio(D)), f"not equation 6: off by up to {off:.3g}"


turned = Exercise(
    "How many peaks?",
    "medium",
    task="""
    Turn the closed form round. With $k$ equal peaks among $N$ tokens and nothing else,
    $sr = \\sqrt{(N-1)(N-k) / (N k)}$. Which $k$ belongs to a given ratio?
    """,
    hints=["Square it, bring $k$ to one side: $sr^2 N k = (N-1)(N-k)$."],
    use="""
    middle = float(seen["trained"]["ratio"].median())
    print(f"a ratio of {middle:.2f} among {N:,} tokens: as if {my_peaks(middle, N):.0f} were all alike")
    """,
    behind="sharpe-28",
)


@turned.stub
def my_peaks(ratio, tokens):
    """The number of equal peaks k, not rounded; ratio is sr, tokens is N."""
    raise NotImplementedError


@turned.solution
def my_peaks(ratio, tokens):
    """The number of equal peaks k, not rounded; ratio is sr, tokens is N."""
    return tokens * (tokens - 1) / (tokens * ratio**2 + tokens - 1)


@turned.accepted("searched for, not solved for")
def my_peaks(ratio, tokens):
    return brentq(lambda k: math.sqrt((tokens - 1) * (tokens - k) / (tokens * k)) - ratio, 1e-6, tokens)


@turned.mistake("rounded", "rounded")
def my_peaks(ratio, tokens):
    return round(tokens * (tokens - 1) / (tokens * ratio**2 + tokens - 1))


@turned.mistake("ratio not squared", "squared")
def my_peaks(ratio, tokens):
    return tokens * (tokens - 1) / (tokens * ratio + tokens - 1)


@turned.mistake("the peaks' own part forgotten", "N - k")
def my_peaks(ratio, tokens):
    return (tokens - 1) / ratio**2


@turned.mistake("share for number", "a share")
def my_peaks(ratio, tokens):
    return (tokens - 1) / (tokens * ratio**2 + tokens - 1)


@turned.mistake("the others counted", "are no peaks")
def my_peaks(ratio, tokens):
    return tokens - tokens * (tokens - 1) / (tokens * ratio**2 + tokens - 1)


@turned.check
def check_turned(answer):
    for tokens, ratio in ((30, 2.0), (60, 3.3)):
        found = as_number(answer(ratio, tokens), "a number of peaks")
        peaks = tokens * (tokens - 1) / (tokens * ratio**2 + tokens - 1)

        def same(other, found=found):
            return math.isclose(found, other, rel_tol=1e-3)

        assert not same(round(peaks)), "rounded: a mean ratio belongs to no whole number of peaks, leave it as it is"
        roots = "the ratio is not squared: it is the root that stands in the closed form"
        assert not same(tokens * (tokens - 1) / (tokens * ratio + tokens - 1)), roots
        assert not same((tokens - 1) / ratio**2), "there are N - k tokens without a peak, not N: solve for k exactly"
        assert not same(peaks / tokens), "this is a share of the tokens: times N"
        assert not same(tokens - peaks), "these are the tokens that are no peaks"
        assert same(peaks), f"the ratio {ratio} among {tokens} tokens goes with {peaks:.3f} peaks; yours is {found:.3f}"
    D = torch.zeros(60, dtype=torch.float64)
    D[:7] = 0.7
    seven = as_number(answer(float(sharpe(D)), 60), "a number of peaks")
    assert math.isclose(seven, 7, rel_tol=1e-3), f"7 peaks among 60 tokens: yours says {seven:.3f}"


doubled = Exercise(
    "D and 2 D",
    "medium",
    task="""
    $\\sigma$ in equation 6 is the standard deviation in the code, and the variance in the paper's words. Take all
    similarities times a factor, compute both ratios, and turn each into weights over the *tokens* with a softmax. Which
    of the two ratios changes, and what does the softmax do with it?
    """,
    hints=[
        "First the factor, then the two ratios, then `softmax(0)`: a weight for each token, which sum to 1.",
        "The numerator grows with the factor, the standard deviation too; the variance grows with its square.",
    ],
    imports="import torch",
    use="""
    D = torch.cat([seen["trained"]["t"][k::40] @ seen["trained"]["t_prime"].T for k in range(2)])
    for factor in (0.5, 1.0, 2.0):
        counted = [plots.effective_number(torch.as_tensor(part)) for part in my_weights(D, factor)]
        print(f"{factor} D: tokens that count, std {counted[0]:.0f}, variance {counted[1]:.1f} of {len(D)}")
    """,
    behind="sharpe-46",
)


@doubled.stub
def my_weights(D, factor):
    """(weights by the standard deviation, weights by the variance), [N] each; D [N, M]."""
    raise NotImplementedError


@doubled.solution
def my_weights(D, factor):
    """(weights by the standard deviation, weights by the variance), [N] each; D [N, M]."""
    scaled = factor * D
    height = scaled.amax(-1) - scaled.mean(-1)
    return (height / scaled.std(-1)).softmax(0), (height / scaled.var(-1)).softmax(0)


def both(D, factor):
    """The two ratios."""
    return sharpe(factor * D), sharpe(factor * D, width=(factor * D).var(-1))


@doubled.accepted("numpy and scipy")
def my_weights(D, factor):
    D = factor * D.numpy()
    height = D.max(axis=1) - D.mean(axis=1)
    return softmax(height / D.std(axis=1, ddof=1)), softmax(height / D.var(axis=1, ddof=1))


@doubled.mistake("over the partners", "a weight of each token")
def my_weights(D, factor):
    return tuple((factor * D / (factor * D).std(-1, keepdim=True) ** power).softmax(1) for power in (1, 2))


@doubled.mistake("the other way round", "exchanged")
def my_weights(D, factor):
    std, variance = both(D, factor)
    return variance.softmax(0), std.softmax(0)


@doubled.mistake("factor forgotten", "the factor changes nothing")
def my_weights(D, factor):
    return tuple(ratio.softmax(0) for ratio in both(D, 1))


@doubled.mistake("factor on the ratio", "the ratio, not the similarities")
def my_weights(D, factor):
    return tuple((factor * ratio).softmax(0) for ratio in both(D, 1))


@doubled.mistake("no softmax", "sum to 1")
def my_weights(D, factor):
    return both(D, factor)


@doubled.mistake("divided by the sum", "divided by their sum")
def my_weights(D, factor):
    return tuple(ratio / ratio.sum() for ratio in both(D, factor))


def two(given, count):
    """An answer as two lists of weights."""
    try:
        first, second = given
    except (TypeError, ValueError):
        raise AssertionError("two tensors are wanted, in a tuple: by the deviation, and by the variance") from None
    return [as_tensor(part, (count,), "a weight of each token") for part in (first, second)]


@doubled.check
def check_doubled(answer):
    draw = torch.Generator().manual_seed(2)
    D = torch.linspace(0.36, 0.48, 6)[:, None] * torch.randn(6, 300, generator=draw, dtype=torch.float64)
    found = {factor: two(answer(D.clone(), factor), len(D)) for factor in (1.0, 2.0)}
    right = {factor: [ratio.softmax(0) for ratio in both(D, factor)] for factor in found}

    def same(pair, factor=2.0):
        return all(torch.allclose(a, b, rtol=2e-2, atol=1e-6) for a, b in zip(found[factor], pair, strict=True))

    assert not same(right[2.0][::-1]), "the two are exchanged: first by the standard deviation, then by the variance"
    assert not same(right[1.0]), "the factor changes nothing in yours: one of the two ratios must change"
    late = "the factor multiplies the ratio, not the similarities: D first"
    assert not same([(2 * ratio).softmax(0) for ratio in both(D, 1)]), late
    shares = [ratio / ratio.sum() for ratio in both(D, 2.0)]
    assert not same(shares), "the ratios are divided by their sum; the paper takes a softmax over the tokens"
    assert all(abs(float(part.sum()) - 1) < 1e-4 for part in found[2.0]), "weights over the tokens sum to 1: softmax(0)"
    for factor in found:
        for name, mine, truth in zip(("std", "variance"), found[factor], right[factor], strict=True):
            worst = float((mine - truth).abs().max())
            assert torch.allclose(mine, truth, rtol=2e-2, atol=1e-6), f"{factor} D, {name}: off by up to {worst:.3g}"
    most = [float(pair[1].max()) for pair in found.values()]
    return f"By the std nothing changes; by the variance the largest weight falls from {most[0]:.2f} to {most[1]:.2f}."


def organs(seed, count=60):
    """A similarity matrix [count, count] of two structures, and which pairs are of one structure.

    As in a body, all tokens have a part in common: strangers are similar, too, only less.
    """
    draw = torch.Generator().manual_seed(seed)
    named = (torch.arange(count) % 2)[torch.randperm(count, generator=draw)]
    common, *centres = torch.randn(3, 16, generator=draw, dtype=torch.float64)
    centres = torch.stack(centres) + 5.2 * torch.nn.functional.normalize(common, dim=0)
    views = [centres[named] + 1.1 * torch.randn(count, 16, generator=draw, dtype=torch.float64) for _ in range(2)]
    a, b = (torch.nn.functional.normalize(view, dim=1) for view in views)
    same = named[:, None] == named
    return a @ b.T, same & ~torch.eye(count, dtype=torch.bool), ~same


attracting = Exercise(
    "A loss that attracts",
    "hard",
    task="""
    $\\mathcal{L}_{p2s}$ never pulls two tokens of one structure together that are not a match. Write a loss on the
    similarities that does: its gradient shall be negative for most pairs of one structure, on average at least twice
    as strong as for strangers, and not push matches apart. It knows no names of structures. Then think: what keeps it
    from making all tokens alike?
    """,
    hints=[
        "A soft label over *pairs*, made from the similarities themselves, without gradient (`detach`).",
        "Which pairs of a row are more similar than the row's mean?",
    ],
    imports="import torch",
    use="""
    S = pairs_of(n)[0][0].requires_grad_(True)
    pull = -torch.autograd.grad(my_loss(S), S)[0]
    strongest = float(max(pull[here].mean() for here in kinds.values()))
    print("mean pull:", {kind: f"{float(pull[here].mean()) / strongest:.2f}" for kind, here in kinds.items()})
    """,
)


@attracting.stub
def my_loss(S):
    """A scalar with a gradient; S [N, N] similarities, of which the diagonal holds the matches."""
    raise NotImplementedError


@attracting.solution
def my_loss(S):
    """A scalar with a gradient; S [N, N] similarities, of which the diagonal holds the matches."""
    label = (S - S.mean(-1, keepdim=True)).clamp(min=0).detach()
    return -(label * S).sum() / label.sum()


@attracting.accepted("a softmax as the soft label over pairs")
def my_loss(S):
    label = (S / 0.1).softmax(-1).detach()
    return -(label * S).sum(-1).mean()


@attracting.accepted("pairs above the row's mean, all alike")
def my_loss(S):
    usual = S.mean(dim=1, keepdim=True)
    return -S[usual < S].mean()


@attracting.accepted("a log-sum-exp")
def my_loss(S):
    return -0.1 * torch.logsumexp(S / 0.1, dim=1).mean()


@attracting.mistake("matches pushed apart", "matches themselves are pushed")
def my_loss(S):
    label = (S - S.mean(-1, keepdim=True)).clamp(min=0).detach()
    return -(label * S).mean() + 10 * S.diagonal().mean()


@attracting.mistake("the square of all similarities", "as hard")
def my_loss(S):
    return -S.square().mean()


@attracting.mistake("everything is pulled", "strangers")
def my_loss(S):
    return -S.mean()


@attracting.mistake("only matches are pulled", "most pairs of one structure")
def my_loss(S):
    return -S.log_softmax(-1).diagonal().mean()


@attracting.mistake("pushed, not pulled", "pushed apart")
def my_loss(S):
    return ((S - S.mean(-1, keepdim=True)).clamp(min=0).detach() * S).mean()


@attracting.mistake("everything detached", "no gradient")
def my_loss(S):
    return -(S - S.mean(-1, keepdim=True)).clamp(min=0).detach().mean()


@attracting.mistake("not a scalar", "one number")
def my_loss(S):
    return -(S - S.mean(-1, keepdim=True)).clamp(min=0).detach() * S


@attracting.check
def check_attracting(answer):
    pulled = []
    for seed in range(3):
        S, same, strangers = organs(seed)
        S.requires_grad_(True)
        loss = answer(S)
        assert isinstance(loss, torch.Tensor), f"a loss is wanted, a tensor; yours is a {type(loss).__name__}"
        assert loss.numel() == 1, f"a loss is one number; yours has the shape {list(loss.shape)}: take a mean"
        assert loss.requires_grad, "it has no gradient: detach the soft label only, not the similarity beside it"
        gradient = torch.autograd.grad(loss, S, allow_unused=True)[0]
        assert gradient is not None, "it has no gradient to the similarities that came in, only to a copy of them"
        shares = [float((gradient[here] < 0).double().mean()) for here in (same, strangers)]
        pushed = [float((gradient[here] > 0).double().mean()) for here in (same, strangers)]
        told = f"{shares[0]:.0%} of the pairs of one structure are pulled together, {shares[1]:.0%} of the strangers"
        assert pushed[0] < pushed[1] + 0.1, f"look-alikes are pushed apart, more than strangers: the sign; {told}"
        assert gradient.diagonal().mean() <= 1e-9, "the matches themselves are pushed apart: they are of one structure"
        assert shares[0] > 0.5, f"{told}; wanted are most pairs of one structure"
        pulled.append([-float(gradient[here].mean()) for here in (same, strangers)])
    one, others = (sum(column) for column in zip(*pulled, strict=True))
    hard = f"strangers are pulled {others / one:.0%} as hard as pairs of one structure"
    everyone = f"{hard}, so all tokens become one: what counts is how far a pair lies above the rest of its row"
    assert others <= 0.5 * one, everyone
    return f"{hard[0].upper()}{hard[1:]}." if others > 0 else "Strangers are pushed apart."


EXPLORE = [
    (
        """
        Give weights that were trained for longer as `checkpoint`: `s2dc_core/library/weights/s2dc.safetensors` (400
        steps) and then `s2dc-long.safetensors` beside it (6,000 steps). Does bone come below the pancreas now?
        """,
        """
        No, the other way round more and more clearly. In runs of this notebook the probability that a pancreas token
        has the higher ratio than a bone token is 0.57 ± 0.14 with random weights (95 % interval over five bodies, not
        decided), 0.33 ± 0.12 after 400 steps and 0.09 (0.04 to 0.15) after 6,000. With the two trained ones it is
        below one half in each of the five bodies.
        """,
    ),
    (
        """
        Set `level = 2`: the tokens are twice as wide and an eighth as many. What becomes of the ratios, by the closed
        form?
        """,
        """
        With one clean peak the ratio is about $\\sqrt N$, so it falls by $\\sqrt 8 \\approx 2.8$. A crowd shrinks with
        its region: of $N / 8$ tokens $k / 8$ are look-alikes, and $\\sqrt{N / k - 1}$ stays what it is, 3 for a
        structure that fills a tenth. The wider the tokens, the less a single one can stand out from a crowd.
        """,
    ),
]
