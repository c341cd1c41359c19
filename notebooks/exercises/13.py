"""Exercises of notebook 13: ranks that know their spread, and rows that are one another's multiples."""

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from s2dc_core.exercises import Exercise, as_number, as_tensor

drawing = Exercise(
    "Ranks with a spread",
    "medium",
    task="""
    Scores of methods, trainings and bodies, larger is better. Write what draws them anew and ranks: `draws` times take
    as many trainings and as many bodies as there are, **with replacement**, average, and rank the methods, 1 for the
    best. `random` is a NumPy generator. What a body makes hard for all methods must not move a rank.
    """,
    hints=[
        "`random.integers(0, n, n)` are n places out of n, with replacement.",
        "Draw the trainings and the bodies once for all methods, then index: `scores[:, runs][:, :, bodies]`.",
    ],
    imports="import numpy as np",
    use="""
    asked = measured["probe, 3 labelled"]
    table_of = np.array([[list(of.values()) for of in runs.values()] for runs in asked.values()])
    mine = np.asarray(my_ranks(table_of, 500, np.random.default_rng(1)))
    for name, column in zip(asked, mine.T, strict=True):
        print(f"{plots.plain(rowed[name])}: rank {column.mean():.1f}, the best in {(column == 1).mean():.0%} of draws")
    """,
    behind="cmp-29",
)


@drawing.stub
def my_ranks(scores, draws, random):
    """Ranks [draws, methods]; scores [methods, trainings, bodies]."""
    raise NotImplementedError


@drawing.solution
def my_ranks(scores, draws, random):
    """Ranks [draws, methods]; scores [methods, trainings, bodies]."""
    methods, trainings, bodies = scores.shape
    ranks = []
    for _ in range(draws):
        runs, chosen = random.integers(0, trainings, trainings), random.integers(0, bodies, bodies)
        means = scores[:, runs][:, :, chosen].mean((1, 2))
        ranks.append((-means).argsort().argsort() + 1)
    return np.array(ranks)


def drawn(scores, draws, random, alone=False, replace=True, runs_too=True, bodies_too=True, worst_first=False):
    """Ranks of draws, with a step done otherwise."""
    found = []
    for _ in range(draws):
        means = []
        places = None
        for of in scores:
            if places is None or alone:
                sizes = zip(of.shape, (runs_too, bodies_too), strict=True)
                places = [random.choice(size, size, replace=replace) if too else np.arange(size) for size, too in sizes]
            means.append(of[np.ix_(*places)].mean())
        found.append(rankdata(means if worst_first else [-each for each in means]))
    return np.array(found)


@drawing.accepted("pandas, choice, lists")
def my_ranks(scores, draws, random):
    found = []
    for _ in range(draws):
        runs = random.choice(scores.shape[1], scores.shape[1])
        bodies = random.choice(scores.shape[2], scores.shape[2])
        means = [of[np.ix_(runs, bodies)].mean() for of in scores]
        found.append(pd.Series(means).rank(ascending=False).tolist())
    return found


@drawing.accepted("all draws at once")
def my_ranks(scores, draws, random):
    _, trainings, bodies = scores.shape
    runs, chosen = random.integers(trainings, size=(draws, trainings)), random.integers(bodies, size=(draws, bodies))
    means = scores[:, runs[:, :, None], chosen[:, None, :]].mean((2, 3))
    return rankdata(-means, axis=0).T


@drawing.mistake("each method its own draw", "the same trainings and bodies")
def my_ranks(scores, draws, random):
    return drawn(scores, draws, random, alone=True)


@drawing.mistake("without replacement", "with replacement")
def my_ranks(scores, draws, random):
    return drawn(scores, draws, random, replace=False)


@drawing.mistake("trainings as they are", "trainings are drawn too")
def my_ranks(scores, draws, random):
    return drawn(scores, draws, random, runs_too=False)


@drawing.mistake("bodies as they are", "bodies are drawn too")
def my_ranks(scores, draws, random):
    return drawn(scores, draws, random, bodies_too=False)


@drawing.mistake("the worst is 1", "1 is the best")
def my_ranks(scores, draws, random):
    return drawn(scores, draws, random, worst_first=True)


@drawing.mistake("ranks from 0", "from 1")
def my_ranks(scores, draws, random):
    return drawn(scores, draws, random) - 1


@drawing.check
def check_drawing(answer):
    def ask(scores):
        found = answer(np.array(scores), 200, np.random.default_rng(5))
        return as_tensor(np.asarray(found, dtype=float), (200, len(scores)), "ranks").numpy()

    hard = np.linspace(-5, 5, 12).reshape(3, 4)
    ranks = ask([hard, hard + 0.2, hard + 0.1])
    assert ranks.min() > 0, "ranks count from 1"
    apart = "a method that is ahead by 0.2 on every body was not always the first: draw the same trainings and bodies"
    assert (ranks == ranks[0]).all(), f"{apart} for all methods"
    assert ranks[0].tolist() != [1, 3, 2], "1 is the best, the largest mean, not the worst"
    assert ranks[0].tolist() == [3, 1, 2], f"ranks of three methods 0.1 apart are {ranks[0].tolist()}, not [3, 1, 2]"
    level = np.zeros((3, 4))
    by_run, by_body = level + [[-1.0], [0.1], [1.0]], level + [-1.0, 0.1, 0.4, 0.6]
    both = ask([level, by_run]), ask([level, by_body])
    moves = [bool(np.ptp(found, axis=0).any()) for found in both]
    assert any(moves), "no draw changed a rank: draw with replacement, or every draw is the whole table"
    assert moves[0], "one training decides here, and no rank ever changed: trainings are drawn too"
    assert moves[1], "one body decides here, and no rank ever changed: bodies are drawn too"


multiples = Exercise(
    "A row times a number",
    "easy",
    task="""
    Two rows of a table, a score for each organ. Write by which factor the second is the first (the geometric mean of
    the organs' ratios), and how much the organs vary about it: the sample standard deviation of the logarithms of the
    ratios, 0 for an exact multiple. Swapping the rows must not change how much they vary.
    """,
    hints=["`np.log(other) - np.log(row)`.", "`ddof=1`; and `np.exp` of the mean."],
    imports="import numpy as np",
    use="""
    factor, vary = my_multiple(per_organ.loc["jigsaw"].to_numpy(), per_organ.loc["position_label"].to_numpy())
    print(f"PositionLabel is Jigsaw times {factor:.4f}, organs vary by {vary:.2%}")
    """,
    behind="cmp-40",
)


@multiples.stub
def my_multiple(row, other):
    """Two numbers: the factor, and how much organs vary; rows [organs] of positive scores."""
    raise NotImplementedError


@multiples.solution
def my_multiple(row, other):
    """Two numbers: the factor, and how much organs vary; rows [organs] of positive scores."""
    logs = np.log(other) - np.log(row)
    return np.exp(logs.mean()), logs.std(ddof=1)


@multiples.accepted("pandas and a product")
def my_multiple(row, other):
    ratios = pd.Series(other) / pd.Series(row)
    return float(ratios.prod() ** (1 / len(ratios))), float(np.log(ratios).std())


@multiples.accepted("a loop of Python's numbers")
def my_multiple(row, other):
    import math

    logs = [math.log(float(b) / float(a)) for a, b in zip(row, other, strict=True)]
    mean = sum(logs) / len(logs)
    return math.exp(mean), math.sqrt(sum((each - mean) ** 2 for each in logs) / (len(logs) - 1))


@multiples.mistake("differences, not ratios", "differences")
def my_multiple(row, other):
    return np.exp((np.log(other) - np.log(row)).mean()), (other - row).std(ddof=1)


@multiples.mistake("the other way round", "the first is the second")
def my_multiple(row, other):
    logs = np.log(row) - np.log(other)
    return np.exp(logs.mean()), logs.std(ddof=1)


@multiples.mistake("the arithmetic mean", "geometric")
def my_multiple(row, other):
    return (other / row).mean(), (np.log(other) - np.log(row)).std(ddof=1)


@multiples.mistake("spread of the ratios", "logarithms")
def my_multiple(row, other):
    return np.exp((np.log(other) - np.log(row)).mean()), (other / row).std(ddof=1)


@multiples.mistake("all of them, not a sample", "sample")
def my_multiple(row, other):
    logs = np.log(other) - np.log(row)
    return np.exp(logs.mean()), logs.std()


@multiples.check
def check_multiples(answer):
    random = np.random.default_rng(2)
    for organs in (5, 13):
        row, other = random.uniform(0.2, 0.9, organs), random.uniform(0.2, 0.9, organs)
        factor, vary = (as_number(each, "number") for each in answer(row.copy(), other.copy()))
        logs = np.log(other / row)

        def near(one, two):
            return abs(one - two) < 1e-6

        assert not near(factor, np.exp(-logs.mean())), "this factor says how the first is the second: turn it round"
        assert not near(factor, (other / row).mean()), "the arithmetic mean of ratios; the geometric mean is asked"
        assert near(factor, np.exp(logs.mean())), f"the factor is {factor:.4f}, not {np.exp(logs.mean()):.4f}"
        assert not near(vary, (other - row).std(ddof=1)), "these are differences: a multiple has none alike, but ratios"
        assert not near(vary, (other / row).std(ddof=1)), "ratios change when rows are swapped: take their logarithms"
        assert not near(vary, logs.std()), "divided by n: a sample's standard deviation divides by n - 1"
        assert near(vary, logs.std(ddof=1)), f"organs vary by {vary:.4f}, not {logs.std(ddof=1):.4f}"
        _, none = answer(row, 1.03 * row)
        assert abs(as_number(none, "number")) < 1e-9, "an exact multiple varies by 0"


EXPLORE = [
    (
        """
        The lead of S2DC over VoCo in table 1 is 0.3 points. Draw the thirteen organs anew, with replacement, and
        average again: how often is S2DC the first? In how many organs is it ahead of VoCo?
        """,
        """
        In 69 % of 5,000 draws; VoCo is the first in the other 31 %. S2DC is ahead in 7 of 13 organs, from -3.25 (right
        adrenal gland) to +4.90 points (stomach): a mean of 0.31 with a standard error of 0.65 over organs. That is the
        spread over organs alone; the table gives none over trainings or patients.
        """,
    ),
    (
        """
        The four methods that the authors trained again stand in tables 3 and 4 (`paper_table(3)`, `paper_table(4)`).
        In how many of their columns, averages left out, is S2DC the first, and where is it not?
        """,
        """
        In 8 of 9: all but the whole tumour of BraTS, where it has 92.76, less than training from scratch (92.89). These
        are the rows that compare methods on one network; for the order they are the better witness than table 1.
        """,
    ),
]
