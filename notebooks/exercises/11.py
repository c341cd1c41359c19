"""Exercises of notebook 11: how many seeds, what pairing is worth, and many comparisons at once."""

import math

import numpy as np
import pandas as pd
from scipy import stats

from s2dc_core.exercises import Exercise, as_number, as_tensor
from s2dc_core.intervals import mean_interval


def fewest(half_width, first=2):
    """The smallest number of seeds, from a first one on, whose half width, a share of the difference, is below 1."""
    return next(n for n in range(first, 10_000) if half_width(n) < 1)


seeds = Exercise(
    "How many seeds",
    "easy",
    task="""
    Two rows differ by `difference` points on average; the paired differences of single seeds scatter with the standard
    deviation `sd`. From how many seeds on, two or more, does the 95 % Student-t interval exclude zero, if mean and
    scatter stay what they are?
    """,
    hints=[
        "The interval reaches $t_{0.975}(n - 1) \\cdot sd / \\sqrt{n}$ to each side; `stats.t.ppf` gives $t$.",
        "Try 2, 3, 4 ... seeds until that is less than the difference.",
    ],
    imports="import numpy as np\nfrom scipy import stats",
    use="""
    column = scores["probe, 12 labelled"]
    values = [100 * (score - column[default][s]) for s, score in column["published matches"].items()]
    needed = my_seeds(abs(np.mean(values)), np.std(values, ddof=1))
    print(f"wrong matches: {np.mean(values):+.1f} points; {needed} seeds would decide it; we had {len(values)}")
    """,
    behind="abl06",
)


@seeds.stub
def my_seeds(difference, sd):
    """The smallest number of seeds, an int of 2 or more; difference, above 0, and sd in points."""
    raise NotImplementedError


@seeds.solution
def my_seeds(difference, sd):
    """The smallest number of seeds, an int of 2 or more; difference, above 0, and sd in points."""
    n = 2
    while stats.t.ppf(0.975, n - 1) * sd / np.sqrt(n) >= difference:
        n += 1
    return n


@seeds.accepted("all numbers at once, in numpy")
def my_seeds(difference, sd):
    n = np.arange(2, 5000)
    return n[np.argmax(stats.t.ppf(0.975, n - 1) * sd / np.sqrt(n) < difference)]


@seeds.accepted("by the p-value, a float")
def my_seeds(difference, sd):
    n = 2.0
    while 2 * stats.t.sf(difference * math.sqrt(n) / sd, n - 1) >= 0.05:
        n += 1
    return n


@seeds.mistake("from three seeds on", "two seeds")
def my_seeds(difference, sd):
    return fewest(lambda n: stats.t.ppf(0.975, n - 1) * sd / math.sqrt(n) / difference, first=3)


@seeds.mistake("from one seed on", "one seed has no scatter")
def my_seeds(difference, sd):
    n = 1
    while stats.t.ppf(0.975, n - 1) * sd / np.sqrt(n) >= difference:
        n += 1
    return n


@seeds.mistake("normal quantile", "1.96 is for a scatter that is known")
def my_seeds(difference, sd):
    return fewest(lambda n: 1.96 * sd / math.sqrt(n) / difference)


@seeds.mistake("root forgotten", "the root of n")
def my_seeds(difference, sd):
    return fewest(lambda n: stats.t.ppf(0.975, n - 1) * sd / n / difference)


@seeds.mistake("one side only", "both sides")
def my_seeds(difference, sd):
    return fewest(lambda n: stats.t.ppf(0.95, n - 1) * sd / math.sqrt(n) / difference)


@seeds.mistake("degrees of freedom", "n - 1 degrees of freedom")
def my_seeds(difference, sd):
    return fewest(lambda n: stats.t.ppf(0.975, n) * sd / math.sqrt(n) / difference)


@seeds.mistake("the last that fails", "one more seed")
def my_seeds(difference, sd):
    return fewest(lambda n: stats.t.ppf(0.975, n - 1) * sd / math.sqrt(n) / difference) - 1


@seeds.mistake("the whole width", "the whole width")
def my_seeds(difference, sd):
    return fewest(lambda n: 2 * stats.t.ppf(0.975, n - 1) * sd / math.sqrt(n) / difference)


@seeds.mistake("a formula with 1.96, not rounded", "a whole number")
def my_seeds(difference, sd):
    return (1.96 * sd / difference) ** 2


@seeds.check
def check_seeds(answer):
    cases = [(1.0, 1.2), (0.7, 1.0), (2.0, 5.0), (1.0, 0.7)]
    found = [as_number(answer(*case), "a number of seeds") for case in cases]
    assert all(n == int(n) for n in found), f"{found[0]:.2f} seeds cannot be trained: a whole number, 2 or more"
    assert min(found) >= 2, "one seed has no scatter, and t no degrees of freedom: two or more"

    def same(half_width, less=0):
        return found == [fewest(lambda n, d=d, sd=sd: half_width(n, sd) / d) - less for d, sd in cases]

    def right(n, sd):
        return stats.t.ppf(0.975, n - 1) * sd / math.sqrt(n)

    known = "1.96 is for a scatter that is known; from few seeds it is not: Student's t"
    assert not same(lambda n, sd: 1.96 * sd / math.sqrt(n)), known
    assert not same(lambda n, sd: stats.t.ppf(0.975, n - 1) * sd / n), "a mean scatters by sd over the root of n"
    sided = "0.95 leaves 5 % on one side; the interval leaves 2.5 % on both sides: 0.975"
    assert not same(lambda n, sd: stats.t.ppf(0.95, n - 1) * sd / math.sqrt(n)), sided
    freedom = "t has n - 1 degrees of freedom: the mean was taken from the same n numbers"
    assert not same(lambda n, sd: stats.t.ppf(0.975, n) * sd / math.sqrt(n)), freedom
    whole = "the whole width is held against the difference: the interval reaches half of it to each side"
    assert not same(lambda n, sd: 2 * right(n, sd)), whole
    assert not same(right, less=1), "that many still touch zero: one more seed"
    for (difference, sd), n in zip(cases, found, strict=True):
        wanted = fewest(lambda n, d=difference, sd=sd: right(n, sd) / d)
        assert n == wanted, f"for {difference} points with sd {sd} yours is {n:g}; {wanted} is the first that suffices"
    clear = as_number(answer(10.0, 1.0), "a number of seeds")
    assert clear == 2, (
        f"10 points with sd 1: two seeds are enough, 12.7 / 1.41 = 9.0 points to each side; yours is {clear:g}"
    )
    return "Halving the scatter, by pairing, is worth four times the seeds."


pairing = Exercise(
    "A paired interval",
    "medium",
    task="""
    Two rows were scored with the same seeds. Write the mean of *first minus second* and its 95 % Student-t interval
    over the seeds, paired. The dictionaries may list their seeds in different orders, and a seed that only one of them
    has says nothing about the difference.
    """,
    hints=[
        "One difference per common seed first; everything else is about these numbers.",
        "The standard error of a mean is the standard deviation (`ddof=1`) over the root of the number of seeds.",
    ],
    imports="import numpy as np\nfrom scipy import stats",
    use="""
    column = scores["probe, 3 labelled"]
    low, high = my_paired_interval(column["L_g + L_p2p"], column[default])[1:]
    apart = [np.std(list(column[name].values()), ddof=1) for name in ("L_g + L_p2p", default)]
    wide = 2 * stats.t.ppf(0.975, 4) * np.hypot(*apart) / 3**0.5
    print(f"paired: {100 * (high - low):.1f} points wide; unpaired about {100 * wide:.1f}")
    """,
    behind="abl08",
)


@pairing.stub
def my_paired_interval(first, second):
    """(mean, low, high) of first minus second; both are {seed: score}."""
    raise NotImplementedError


@pairing.solution
def my_paired_interval(first, second):
    """(mean, low, high) of first minus second; both are {seed: score}."""
    differences = np.array([first[seed] - second[seed] for seed in first if seed in second])
    mean, n = differences.mean(), len(differences)
    half = stats.t.ppf(0.975, n - 1) * differences.std(ddof=1) / np.sqrt(n)
    return mean, mean - half, mean + half


def common(first, second):
    """The scores of the seeds that both have, in one order."""
    return (np.array([scores[seed] for seed in first if seed in second]) for scores in (first, second))


def interval(values, quantile=None, ddof=1, root=True):
    """Mean, low and high as mean_interval has them, or with one thing wrong."""
    n = len(values)
    quantile = stats.t.ppf(0.975, n - 1) if quantile is None else quantile
    half = quantile * np.std(values, ddof=ddof) / (math.sqrt(n) if root else 1)
    return np.mean(values), np.mean(values) - half, np.mean(values) + half


def unpaired(a, b, equal=False):
    """The interval of two independent groups (Welch's, or Student's of equal variances)."""
    found = stats.ttest_ind(a, b, equal_var=equal).confidence_interval(0.95)
    return np.mean(a) - np.mean(b), found.low, found.high


@pairing.accepted("pandas and scipy")
def my_paired_interval(first, second):
    both = pd.DataFrame({"first": first, "second": second}).dropna()
    found = stats.ttest_rel(both["first"], both["second"])
    return ((both["first"] - both["second"]).mean(), *found.confidence_interval(0.95))


@pairing.accepted("sums by hand, an array")
def my_paired_interval(first, second):
    gains = [first[seed] - second[seed] for seed in sorted(first.keys() & second.keys())]
    n, mean = len(gains), sum(gains) / len(gains)
    error = math.sqrt(sum((gain - mean) ** 2 for gain in gains) / (n - 1) / n)
    return mean + error * np.array([0, stats.t.ppf(0.025, n - 1), stats.t.ppf(0.975, n - 1)])


@pairing.mistake("a missing seed as 0", "counts 0")
def my_paired_interval(first, second):
    return interval([first[seed] - second.get(seed, 0) for seed in first])


@pairing.mistake("a missing difference as 0", "counts 0")
def my_paired_interval(first, second):
    return interval((pd.Series(first) - pd.Series(second)).fillna(0))


@pairing.mistake("n degrees of freedom", "n - 1 degrees of freedom")
def my_paired_interval(first, second):
    a, b = common(first, second)
    return interval(a - b, quantile=stats.t.ppf(0.975, len(a)))


@pairing.mistake("one-sided quantile", "both sides")
def my_paired_interval(first, second):
    a, b = common(first, second)
    return interval(a - b, quantile=stats.t.ppf(0.95, len(a) - 1))


@pairing.mistake("unpaired", "two unrelated groups")
def my_paired_interval(first, second):
    return unpaired(*common(first, second))


@pairing.mistake("unpaired, with all seeds", "two unrelated groups")
def my_paired_interval(first, second):
    return unpaired(list(first.values()), list(second.values()))


@pairing.mistake("a seed that one lacks", "only one of them has")
def my_paired_interval(first, second):
    return interval([first[seed] - second[seed] for seed in first])


@pairing.mistake("by place, not by seed", "by their place")
def my_paired_interval(first, second):
    return interval([a - b for a, b in zip(first.values(), second.values(), strict=False)])


@pairing.mistake("normal quantile", "1.96")
def my_paired_interval(first, second):
    a, b = common(first, second)
    return interval(a - b, quantile=1.96)


@pairing.mistake("ddof 0", "ddof=1")
def my_paired_interval(first, second):
    a, b = common(first, second)
    return interval(a - b, ddof=0)


@pairing.mistake("scatter for error of the mean", "of one seed, not of the mean")
def my_paired_interval(first, second):
    a, b = common(first, second)
    return interval(a - b, root=False)


@pairing.mistake("the other way round", "second minus first")
def my_paired_interval(first, second):
    a, b = common(first, second)
    return interval(b - a)


@pairing.check
def check_pairing(answer):
    draw = np.random.default_rng(3)
    level = dict(zip(range(6), draw.normal(0.5, 0.1, 6), strict=True))
    first = {seed: float(value + draw.normal(0.03, 0.01)) for seed, value in level.items()}
    second = {seed: float(level[seed] + draw.normal(0, 0.01)) for seed in (4, 0, 5, 2, 1)}  # another order, one missing
    try:
        given = answer(dict(first), dict(second))
    except KeyError:
        raise AssertionError("yours asks for a seed that only one of them has: leave it out") from None
    found = as_tensor(given, (3,), "a row of mean, low and high").numpy()
    a, b = common(first, second)

    def same(other):
        return np.allclose(found, other, rtol=0, atol=1e-5)

    places = [x - y for x, y in zip(first.values(), second.values(), strict=False)]
    groups = [(a, b), (list(first.values()), list(second.values()))]
    apart = any(same(unpaired(*group, equal)) for group in groups for equal in (True, False))
    assert not apart, "this takes them for two unrelated groups: subtract seed by seed first"
    assert not np.isclose(found[0], np.mean(places)), "scores are paired by their place in the dictionary, not by seed"
    assert not same(interval(b - a)), "this is second minus first"
    zeros = [interval([first[s] - second.get(s, 0) for s in first]), interval([*(a - b), 0])]
    assert not any(map(same, zeros)), "a seed that only one of them has counts 0 in yours: leave it out, dropna"
    freedom = "t has n - 1 degrees of freedom: the mean was taken from the same n numbers"
    assert not same(interval(a - b, quantile=stats.t.ppf(0.975, len(a)))), freedom
    sided = "0.95 leaves 5 % on one side; the interval leaves 2.5 % on both sides: 0.975"
    assert not same(interval(a - b, quantile=stats.t.ppf(0.95, len(a) - 1))), sided
    assert not same(interval(a - b, quantile=1.96)), "1.96 is for a scatter that is known: Student's t, n - 1"
    assert not same(interval(a - b, ddof=0)), "the scatter was measured about its own mean: ddof=1"
    assert not same(interval(a - b, root=False)), "this is the scatter of one seed, not of the mean: the root of n"
    right = mean_interval(list(a - b))
    off = float(np.abs(np.subtract(found, right)).max())
    assert same(right), f"mean, low and high should be {', '.join(f'{x:.4f}' for x in right)}; yours are {off:.2g} off"
    return f"Unpaired it would be {np.ptp(unpaired(a, b)[1:]) / (right[2] - right[1]):.0f} times as wide."


many = Exercise(
    "Many comparisons",
    "hard",
    behind="abl12",
    task="""
    Eighteen rows are compared with the default, and each has a p-value. Correct them with Holm's method: the names of
    the comparisons that remain, so that the chance of even *one* false finding among all is at most `level`.
    """,
    hints=[
        "The smallest p is held against level / m, the next against level / (m - 1), and so on.",
        "At the first one that is too large, it and all after it are out, even if a later one would pass its own line.",
    ],
    use="""
    base, column = scores[shown[-1]][default], scores[shown[-1]]
    pairs = {name: [found[s] - base[s] for s in base] for name, found in column.items() if name != default}
    p = {name: stats.ttest_1samp(values, 0).pvalue for name, values in pairs.items()}
    small = sum(value < 0.05 for value in p.values())
    print(f"{small} of {len(p)} below 0.05; after Holm remain:", ", ".join(sorted(my_holm(p, 0.05))) or "none")
    """,
)


@many.stub
def my_holm(p, level):
    """The names that remain, a set; p is {name: p-value}."""
    raise NotImplementedError


@many.solution
def my_holm(p, level):
    """The names that remain, a set; p is {name: p-value}."""
    remaining = set()
    for rank, name in enumerate(sorted(p, key=p.get)):
        if p[name] > level / (len(p) - rank):
            break
        remaining.add(name)
    return remaining


def sidak(p, level):
    """Holm's steps with Sidak's lines, 1 - (1 - level)^(1 / k) for k that are left: a little above level / k."""
    remaining = set()
    for rank, name in enumerate(sorted(p, key=p.get)):
        if p[name] > 1 - (1 - level) ** (1 / (len(p) - rank)):
            break
        remaining.add(name)
    return remaining


def bonferroni(p, level):
    """Every p against level / m."""
    return {name for name, value in p.items() if value <= level / len(p)}


def each_by_itself(p, level):
    """Holm's lines, without the stop."""
    order = sorted(p, key=p.get)
    return {name for rank, name in enumerate(order) if p[name] <= level / (len(p) - rank)}


def step_up(p, level, lines):
    """From the largest p downwards: all up to the last one below its line."""
    order = sorted(p, key=p.get)
    last = max((rank for rank, name in enumerate(order) if p[name] <= lines(rank)), default=-1)
    return set(order[: last + 1])


def false_discovery(p, level):
    """Benjamini and Hochberg."""
    return step_up(p, level, lambda rank: level * (rank + 1) / len(p))


def lines_reversed(p, level):
    """The mildest line for the smallest p."""
    remaining = set()
    for rank, name in enumerate(sorted(p, key=p.get)):
        if p[name] > level / (rank + 1):
            break
        remaining.add(name)
    return remaining


def in_order(p, level, order):
    """Holm's lines for p-values in another order than theirs."""
    remaining = set()
    for rank, name in enumerate(order):
        if p[name] > level / (len(p) - rank):
            break
        remaining.add(name)
    return remaining


@many.accepted("p-values adjusted, then held against the level")
def my_holm(p, level):
    table = pd.Series(p).sort_values()
    adjusted = (table * np.arange(len(table), 0, -1)).cummax()
    return list(adjusted.index[adjusted <= level])


@many.accepted("one after the other taken away, a frozenset")
def my_holm(p, level):
    left, remaining = dict(p), []
    while left and min(left.values()) * len(left) <= level:
        remaining.append(min(left, key=left.get))
        del left[remaining[-1]]
    return frozenset(remaining)


@many.mistake("Holm and Sidak", "Sidak")
def my_holm(p, level):
    return sidak(p, level)


@many.mistake("no correction", "no correction")
def my_holm(p, level):
    return {name for name, value in p.items() if value <= level}


@many.mistake("Bonferroni", "Bonferroni")
def my_holm(p, level):
    return bonferroni(p, level)


@many.mistake("no stop", "it does not stop")
def my_holm(p, level):
    return each_by_itself(p, level)


@many.mistake("Benjamini-Hochberg", "share of false findings")
def my_holm(p, level):
    return false_discovery(p, level)


@many.mistake("step up", "from the largest downwards")
def my_holm(p, level):
    return step_up(p, level, lambda rank: level / (len(p) - rank))


@many.mistake("lines in the wrong order", "the strictest line")
def my_holm(p, level):
    return lines_reversed(p, level)


@many.mistake("not sorted", "sort them by p")
def my_holm(p, level):
    return in_order(p, level, p)


@many.mistake("sorted by name", "sort them by p")
def my_holm(p, level):
    return in_order(p, level, sorted(p))


@many.mistake("level fixed", "the level is not used")
def my_holm(p, level):
    return in_order(p, 0.05, sorted(p, key=p.get))


@many.check
def check_many(answer):
    # Chosen so that wrong ways have answers of their own: 0.009 misses its line, the two after it pass theirs.
    p = {"e": 0.0122, "g": 0.004, "h": 0.3, "c": 0.009, "a": 0.03, "b": 0.007, "f": 0.045, "d": 0.0095}
    level = 0.05

    def asked(p, level=level):
        found = answer(dict(p), level)
        wanted = f"a set of names is wanted; yours is a {type(found).__name__}"
        assert not isinstance(found, (str, dict)), wanted
        try:
            return set(found)
        except TypeError:
            raise AssertionError(wanted) from None

    found = asked(p)
    assert found != {name for name, value in p.items() if value <= level}, "there is no correction for their number"
    assert found != bonferroni(p, level), "this is Bonferroni: the second smallest is held against level / (m - 1) only"
    assert found != each_by_itself(p, level), "it does not stop at the first p that is too large"
    up = step_up(p, level, lambda rank: level / (len(p) - rank))
    assert found != up, "it goes from the largest downwards (Hochberg): Holm starts with the smallest"
    share = "Benjamini and Hochberg bound the share of false findings, not the chance of one: level / (m - rank)"
    assert found != false_discovery(p, level), share
    assert found != lines_reversed(p, level), "the smallest p meets the strictest line, level / m"
    assert found, "none remains in yours: sort them by p, the smallest first, not by name or as they come"
    right = in_order(p, level, sorted(p, key=p.get))
    assert found == right, f"of p = {p} remain {', '.join(sorted(right))}; yours are {', '.join(map(str, found))}"
    assert asked(p, 0.2) == in_order(p, 0.2, sorted(p, key=p.get)), "the level is not used: 0.2 lets more remain"
    assert asked({"a": 0.2, "b": 0.9}) == set(), "where no p is small nothing remains"
    between = {"a": 0.0252, "b": 0.9}
    assert asked(between) == in_order(between, 0.05, "ab"), (
        "0.0252 of two does not pass level / 2 = 0.025; it passes Sidak's line, 0.0253, which wants independent tests"
    )
    assert asked({"a": 0.01, "b": 0.02}) == {"a", "b"}, "p of 0.01 and 0.02 both remain: 0.025 and 0.05 are their lines"


EXPLORE = [
    (
        """
        Sinkhorn's silhouette and probe are the highest of the table, and not decided: with three labelled bodies +2.5
        points, -0.4 to +5.4, three seeds. How many seeds would decide it?
        """,
        """
        The half width, 2.9 points, is $t_{0.975}(2) / \\sqrt 3 = 2.48$ standard deviations, so these are 1.2 points,
        and `my_seeds(2.5, 1.2)` says four, if mean and scatter stay what they are. But you look because the row is the
        best of many: such a mean tends to fall when it is measured again. Take *new* seeds.
        """,
    ),
    (
        """
        The study changes one factor at a time. Which two rows would you combine, and what would you expect of the
        pair?
        """,
        """
        If effects add up, the sum of both differences. They need not: temperature and assignment both decide how sharp
        the assignment is, so the second may have nothing left to do; levels and matches have little to do with each
        other and may add up. Four trainings for each seed (neither, one, the other, both) tell: the interaction is
        both minus one minus the other plus neither, and its standard error is that of four runs, so it takes more
        seeds than either.
        """,
    ),
]
