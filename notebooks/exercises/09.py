"""Exercises of notebook 09: labels drawn class by class, the interval of a share, two networks on the same cases."""

import math
import random
from collections import Counter
from contextlib import suppress
from itertools import permutations

import numpy as np
import pandas as pd
from scipy.stats import beta, binomtest, chi2, norm, ttest_rel

from s2dc_core.exercises import Exercise, as_number, as_pair
from s2dc_core.intervals import accuracy_interval

CLASSES = ["normal"] * 40 + ["focal"] * 25 + ["diffuse"] * 5


class Ordered(str):
    """A class's name that a set lists where a session of Python may happen to list it: its hash is its place."""

    places = sorted(set(CLASSES))

    def __hash__(self):
        return self.places.index(str(self))


drawing = Exercise(
    "A share of the labels",
    "medium",
    task="""
    Draw a share of the cases, class by class: of each class the share rounded *up*, so at least one case. The seed
    decides which, and a smaller share of one seed is part of a larger one.
    """,
    hints=[
        "Shuffle each class once, whatever the share; then take more or fewer from the front.",
        "`np.random.default_rng(seed).permutation(n)` gives an order that depends on the seed alone.",
    ],
    imports="import math\n\nimport numpy as np",
    use="""
    classes = [entry["target"] for entry in lesson.training.entries]
    for part in (0.1, 0.5, 1.0):
        mine = my_share(classes, part, seed)
        print(f"{part:.0%}: {len(mine)} cases of", {n: sum(classes[k] == c for k in mine) for c, n in names.items()})
    """,
    behind="c07",
)


@drawing.stub
def my_share(classes, part, seed):
    """The places that are drawn, a list of ints; classes has the class of each case, part is above 0 and at most 1."""
    raise NotImplementedError


@drawing.solution
def my_share(classes, part, seed):
    """The places that are drawn, a list of ints; classes has the class of each case, part is above 0 and at most 1."""
    draw, chosen = np.random.default_rng(seed), []
    for name in sorted(set(classes)):
        places = [k for k, each in enumerate(classes) if each == name]
        order = draw.permutation(len(places))
        chosen += [places[k] for k in order[: math.ceil(part * len(places))]]
    return chosen


def by_class(classes, part, seed, count=math.ceil, pick=random.Random.sample):
    """A share of each class, with how many and how they are picked to be told."""
    draw, chosen = random.Random(seed), []
    for name in sorted(set(classes)):
        places = [k for k, each in enumerate(classes) if each == name]
        ordered = pick(draw, places, k=len(places))
        chosen += ordered[: count(part * len(places))]
    return chosen


@drawing.accepted("a generator for each class, in numpy")
def my_share(classes, part, seed):
    classes, chosen = np.array(classes), []
    for number, name in enumerate(np.unique(classes)):
        places = np.random.default_rng([seed, number]).permutation(np.flatnonzero(classes == name))
        chosen.append(places[: -int(-part * len(places) // 1)])
    return np.concatenate(chosen)


@drawing.accepted("a score for every case, pandas")
def my_share(classes, part, seed):
    table = pd.DataFrame({"class": classes, "score": np.random.default_rng(seed).random(len(classes))})
    rank = table.groupby("class")["score"].rank(method="first")
    size = table.groupby("class")["score"].transform("size")
    return set(table.index[rank <= np.ceil(part * size)])


@drawing.mistake("classes in the order of a set", "the order of a set")
def my_share(classes, part, seed):
    draw, chosen = random.Random(seed), []
    for name in set(classes):
        places = [k for k, each in enumerate(classes) if each == name]
        chosen += draw.sample(places, len(places))[: math.ceil(part * len(places))]
    return chosen


@drawing.mistake("drawn from all", "class by class")
def my_share(classes, part, seed):
    return random.Random(seed).sample(range(len(classes)), math.ceil(part * len(classes)))


@drawing.mistake("rounded down", "rounded up")
def my_share(classes, part, seed):
    return by_class(classes, part, seed, count=int)


@drawing.mistake("another draw for each share", "part of a larger one")
def my_share(classes, part, seed):
    return by_class(classes, part, hash((seed, part)))


@drawing.mistake("always the first", "whatever the seed")
def my_share(classes, part, seed):
    return by_class(classes, part, 0)


@drawing.mistake("no seed at all", "twice with one seed")
def my_share(classes, part, seed):
    return by_class(classes, part, random.randrange(10**9))


@drawing.mistake("with replacement", "drawn twice")
def my_share(classes, part, seed):
    return by_class(classes, part, seed, pick=random.Random.choices)


@drawing.check
def check_drawing(answer):
    def asked(part, seed):
        found = answer(list(CLASSES), part, seed)
        try:
            places = [int(k) for k in found]
        except (TypeError, ValueError):
            raise AssertionError("a list of places, whole numbers in the list of classes, is wanted") from None
        assert all(0 <= k < len(CLASSES) for k in places), "a place outside the list"
        return places

    seeds, parts = range(5), (0.05, 0.1, 0.5, 1.0)
    drawn = {seed: {part: asked(part, seed) for part in parts} for seed in seeds}
    every = [places for found in drawn.values() for places in found.values()]
    assert all(len(set(places)) == len(places) for places in every), "a case is drawn twice: without replacement"
    again = "the same share is another one when drawn twice with one seed: make the generator from the seed"
    assert all(set(asked(part, seed)) == set(drawn[seed][part]) for seed in seeds for part in parts), again
    sizes = Counter(CLASSES)
    counts = {part: [Counter(CLASSES[k] for k in drawn[seed][part]) for seed in seeds] for part in parts}
    fixed = all(found == counts[part][0] for part in parts for found in counts[part])
    assert fixed, "the rarest class has now more, now fewer cases, or none: draw class by class"
    low = {name: math.floor(0.05 * size) for name, size in sizes.items()}
    rounding = "a twentieth of five cases is none: the share of each class is rounded up"
    assert any(counts[0.05][0][name] != low[name] for name in sizes), rounding
    for part in parts:
        wanted = {name: math.ceil(part * size - 1e-9) for name, size in sizes.items()}
        assert counts[part][0] == wanted, f"{part:.0%} of {dict(sizes)} are {wanted}; yours {dict(counts[part][0])}"
    assert len({frozenset(drawn[seed][0.1]) for seed in seeds}) > 1, "the same cases whatever the seed"
    inside = all(set(drawn[s][a]) <= set(drawn[s][b]) for s in seeds for a, b in zip(parts, parts[1:], strict=False))
    assert inside, "a smaller share must be part of a larger one of the same seed: one order, cut at another place"
    sessions = []
    for Ordered.places in permutations(sorted(set(CLASSES))):
        with suppress(KeyError):  # of an answer that holds the three names itself
            sessions.append(set(map(int, answer([Ordered(name) for name in CLASSES], 0.1, 1))))
    order = (
        "the order of a set of strings is another one in every session of Python, and so is your draw: sorted(set())"
    )
    assert all(found == sessions[0] for found in sessions), order


interval = Exercise(
    "Wilson's interval",
    "medium",
    task="""
    $k$ of $n$ cases are right, $p = k / n$. Write Wilson's 95 % interval,

    $$\\frac{p + \\frac{z^2}{2n} \\pm z \\sqrt{\\frac{p (1 - p)}{n} + \\frac{z^2}{4 n^2}}}{1 + \\frac{z^2}{n}}$$

    with $z = 1.96$.
    """,
    hints=["Centre and half width first; both are divided by $1 + z^2 / n$.", "With $k = n$ its lower end is below 1."],
    imports="import math",
    use="""
    for start, cases in results.items():
        found = sum(int(case["accuracy"]) for case in cases.values())
        low, high = my_interval(found, len(cases))
        print(f"{start}: {found} of {len(cases)} right, {low:.0%} to {high:.0%}")
    """,
    behind="c13",
)


@interval.stub
def my_interval(right, cases):
    """(low, high), 0..1; right of cases, two ints."""
    raise NotImplementedError


@interval.solution
def my_interval(right, cases):
    """(low, high), 0..1; right of cases, two ints."""
    p, z = right / cases, 1.96
    centre = p + z**2 / (2 * cases)
    half = z * math.sqrt(p * (1 - p) / cases + z**2 / (4 * cases**2))
    return (centre - half) / (1 + z**2 / cases), (centre + half) / (1 + z**2 / cases)


def wilson(right, cases, z=1.96, shift=True, divided=True, extra=True):
    """Wilson's interval, or with a part of it left out."""
    p = right / cases
    centre = p + (z**2 / (2 * cases) if shift else 0)
    half = z * math.sqrt(p * (1 - p) / cases + (z**2 / (4 * cases**2) if extra else 0))
    scale = 1 + z**2 / cases if divided else 1
    return (centre - half) / scale, (centre + half) / scale


def plain(right, cases, z=1.96):
    """The share plus and minus z standard errors (Wald)."""
    p = right / cases
    half = z * math.sqrt(p * (1 - p) / cases)
    return p - half, p + half


@interval.accepted("scipy")
def my_interval(right, cases):
    found = binomtest(right, cases).proportion_ci(0.95, method="wilson")
    return np.array([found.low, found.high], dtype=np.float32)


@interval.accepted("the roots of a quadratic equation")
def my_interval(right, cases):
    # |p - q| = z sqrt(q (1 - q) / n), solved for q.
    p, z = right / cases, 1.96
    return sorted(np.roots([1 + z**2 / cases, -(2 * p + z**2 / cases), p**2]).real.tolist())


def exact(right, cases):
    """Clopper and Pearson's interval."""
    low = beta.ppf(0.025, right, cases - right + 1) if right else 0.0
    return low, beta.ppf(0.975, right + 1, cases - right) if right < cases else 1.0


def clipped(right, cases):
    """Wald's interval within 0 and 1."""
    low, high = plain(right, cases)
    return max(low, 0.0), min(high, 1.0)


@interval.mistake("Wald's, clipped", "no doubt at all")
def my_interval(right, cases):
    return clipped(right, cases)


@interval.mistake("Clopper and Pearson's", "Clopper and Pearson")
def my_interval(right, cases):
    return exact(right, cases)


@interval.mistake("the upper end first", "the low end first")
def my_interval(right, cases):
    return wilson(right, cases)[::-1]


@interval.mistake("plus and minus two standard errors", "no doubt at all")
def my_interval(right, cases):
    return plain(right, cases)


@interval.mistake("90 %", "90 %")
def my_interval(right, cases):
    return wilson(right, cases, z=1.645)


@interval.mistake("not divided", "is not divided")
def my_interval(right, cases):
    return wilson(right, cases, divided=False)


@interval.mistake("about the share", "the centre")
def my_interval(right, cases):
    return wilson(right, cases, shift=False)


@interval.mistake("second term under the root forgotten", "under the root")
def my_interval(right, cases):
    return wilson(right, cases, extra=False)


@interval.mistake("standard deviation of one case", "of a single case")
def my_interval(right, cases):
    p = right / cases
    return p - 1.96 * math.sqrt(p * (1 - p)), p + 1.96 * math.sqrt(p * (1 - p))


@interval.check
def check_interval(answer):
    asked = [(17, 20), (20, 20), (0, 12), (5, 30)]
    found = []
    for case in asked:
        low, high = as_pair(answer(*case), "numbers are wanted: low and high")
        found.append([as_number(low, "a lower end"), as_number(high, "an upper end")])

    def same(other):
        return np.allclose(found, [other(*case) for case in asked], atol=2e-4)

    spread = "1.96 standard deviations of a single case: the mean of n cases scatters less, by the root of n"
    single = [k / n + s * 1.96 * math.sqrt(k / n * (1 - k / n)) for k, n in asked for s in (-1, 1)]
    assert not np.allclose(np.ravel(found), single, atol=2e-4), spread
    turned = "the high end comes first in yours: the low end first"
    assert not same(lambda k, n: wilson(k, n)[::-1]), turned
    cut = "20 of 20 right leave no doubt at all in yours: this is the plain interval (Wald), cut off at 0 and 1"
    assert not same(clipped), cut
    counted = "this is the interval of Clopper and Pearson, from the binomial itself: right more often, and wider"
    assert not same(exact), counted
    assert not same(plain), "20 of 20 right leave no doubt at all in yours, 1 to 1: this is the plain interval (Wald)"
    assert not same(lambda k, n: wilson(k, n, z=norm.ppf(0.95))), "this is the 90 % interval: z = 1.96"
    assert not same(lambda k, n: wilson(k, n, divided=False)), "the whole is not divided by 1 + z^2 / n"
    assert not same(lambda k, n: wilson(k, n, shift=False)), "the centre moves towards one half: p + z^2 / 2n"
    assert not same(lambda k, n: wilson(k, n, extra=False)), "z^2 / 4n^2 is missing under the root"
    for case, ends in zip(asked, found, strict=True):
        right = accuracy_interval(*case)[1:]
        wanted = " to ".join(f"{end:.3f}" for end in right)
        assert np.allclose(ends, right, atol=2e-4), (
            f"{case[0]} of {case[1]}: {wanted}; yours {ends[0]:.3f}, {ends[1]:.3f}"
        )
    return f"20 of 20 right go with a true accuracy as low as {found[1][0]:.0%}."


same_cases = Exercise(
    "Two networks, the same cases",
    "hard",
    task="""
    Two networks were asked the same cases. Those that both have right, or both wrong, do not tell them apart. Among
    the others, if the networks were equally good, either one would be the right one with probability one half. Write
    the two-sided p-value of this (McNemar's exact test); where nothing tells them apart it is 1.
    """,
    hints=[
        "Count the cases that only the first has right, and those that only the second has.",
        "`binomtest(k, n, 0.5).pvalue` is two-sided.",
    ],
    imports="from scipy.stats import binomtest",
    use="""
    asked = {start: [bool(case["accuracy"]) for case in cases.values()] for start, cases in results.items()}
    shared = np.mean([a and b for a, b in zip(*asked.values(), strict=True)])
    print(f"both right: {shared:.0%} of the cases; p = {my_p_value(asked['s2dc'], asked['untrained']):.2f}")
    """,
)


@same_cases.stub
def my_p_value(first, second):
    """p, 0..1; for each case whether the first and whether the second network is right, two lists of booleans."""
    raise NotImplementedError


@same_cases.solution
def my_p_value(first, second):
    """p, 0..1; for each case whether the first and whether the second network is right, two lists of booleans."""
    only_first = sum(a and not b for a, b in zip(first, second, strict=True))
    only_second = sum(b and not a for a, b in zip(first, second, strict=True))
    if only_first + only_second == 0:
        return 1.0
    return binomtest(only_first, only_first + only_second, 0.5).pvalue


def apart(first, second):
    """How many cases only the first has right, and how many only the second."""
    pairs = list(zip(first, second, strict=True))
    return sum(a and not b for a, b in pairs), sum(b and not a for a, b in pairs)


def unpaired(first, second):
    """Two shares as of different cases (Fisher's exact test)."""
    from scipy.stats import fisher_exact

    return fisher_exact([[sum(x), len(x) - sum(x)] for x in (first, second)]).pvalue


@same_cases.accepted("the tail added up")
def my_p_value(first, second):
    first, second = np.array(first), np.array(second)
    a, b = int((first & ~second).sum()), int((second & ~first).sum())
    tail = sum(math.comb(a + b, k) for k in range(min(a, b) + 1)) / 2 ** (a + b)
    return np.float64(min(1, 2 * tail))


@same_cases.accepted("pandas, a table of two by two")
def my_p_value(first, second):
    table = pd.crosstab(pd.Categorical(first, [False, True]), pd.Categorical(second, [False, True]), dropna=False)
    a, b = int(table.loc[True, False]), int(table.loc[False, True])
    return binomtest(min(a, b), a + b).pvalue if a + b else 1


def chi_square(a, b, corrected):
    """McNemar's approximation."""
    return chi2.sf((abs(a - b) - corrected) ** 2 / (a + b), 1) if a + b else 1.0


@same_cases.mistake("chi-square", "approximation")
def my_p_value(first, second):
    return chi_square(*apart(first, second), 0)


@same_cases.mistake("chi-square, corrected", "approximation")
def my_p_value(first, second):
    return chi_square(*apart(first, second), 1)


@same_cases.mistake("paired t-test", "t-test")
def my_p_value(first, second):
    return ttest_rel(np.array(first, float), np.array(second, float)).pvalue


@same_cases.mistake("as if of different cases", "not other cases")
def my_p_value(first, second):
    return unpaired(first, second)


@same_cases.mistake("one-sided", "one-sided")
def my_p_value(first, second):
    a, b = apart(first, second)
    return binomtest(max(a, b), a + b, 0.5, alternative="greater").pvalue if a + b else 1.0


@same_cases.mistake("twice one side", "the other way round")
def my_p_value(first, second):
    a, b = apart(first, second)
    return min(1.0, 2 * binomtest(a, a + b, 0.5, alternative="greater").pvalue) if a + b else 1.0


@same_cases.mistake("all cases counted", "do not tell them apart")
def my_p_value(first, second):
    return binomtest(apart(first, second)[0], len(first), 0.5).pvalue


@same_cases.mistake("one network against chance", "against chance")
def my_p_value(first, second):
    return binomtest(sum(first), len(first), 0.5).pvalue


@same_cases.mistake("nothing apart", "where nothing tells them apart")
def my_p_value(first, second):
    a, b = apart(first, second)
    return binomtest(a, a + b, 0.5).pvalue


@same_cases.check
def check_same_cases(answer):
    first = [True] * 60 + [False] * 20 + [True] * 14 + [False] * 4
    second = [True] * 60 + [False] * 20 + [False] * 14 + [True] * 4
    order = random.Random(0).sample(range(len(first)), len(first))
    first, second = ([row[k] for k in order] for row in (first, second))
    found = as_number(answer(list(first), list(second)), "a p-value")
    right = binomtest(14, 18, 0.5).pvalue

    def same(p):
        return math.isclose(found, p, rel_tol=1e-3)

    others = "these are the same, not other cases: only those on which the two differ count"
    assert not same(unpaired(first, second)), others
    near = "the chi-square approximation, for many cases: of 18 the binomial itself, binomtest"
    assert not same(chi_square(14, 4, 0)) and not same(chi_square(14, 4, 1)), near
    student = ttest_rel(np.array(first, float), np.array(second, float)).pvalue
    assert not same(student), "this is a paired t-test, of normal differences; these are -1, 0 or 1: count them"
    assert not same(right / 2), "this is one-sided: before the trial you did not know which would be ahead"
    agreed = "cases that both have right or wrong do not tell them apart: they are in your n"
    assert not same(binomtest(14, len(first), 0.5).pvalue) and not same(binomtest(4, len(first), 0.5).pvalue), agreed
    chance = [binomtest(sum(row), len(row), 0.5).pvalue for row in (first, second)]
    assert not any(map(same, chance)), "this holds one network against chance, not against the other"
    assert same(right), f"14 against 4 of 18 give p = {right:.4f}; yours is {found:.4f}"
    turned = as_number(answer(list(second), list(first)), "a p-value")
    either = f"the other way round, 4 against 14, yours is {turned:.4f}: two-sided, p is the same whoever is ahead"
    assert math.isclose(turned, right, rel_tol=1e-3), either
    nothing = "where nothing tells them apart p is 1: two equal lists end badly in yours"
    try:
        equal = float(answer(list(first), list(first)))
    except Exception as error:
        raise AssertionError(f"{nothing} ({type(error).__name__})") from None
    assert equal == 1, nothing
    return f"As if of other cases it would be {unpaired(first, second):.2f}."


EXPLORE = [
    (
        """
        Pool level 4 alone instead of levels 1 to 4. Which of the pre-training's losses has trained it ([notebook
        04](04_gpu_pretraining.ipynb))? What do you expect of the gain?
        """,
        """
        $\\mathcal{L}_g$ alone, with a weight of 0.1 in the recipe: the structure losses read levels 1 to 3, and no
        gradient of theirs arrives at the last stage, which holds three quarters of the weights. So expect less gain.
        If there is none, that says nothing against structure losses: they were never asked to make one vector of a
        whole body.
        """,
    ),
    (
        """
        Five trainings of one and the same start are scored on 60 cases each, and get 50 to 68 % right. Is that more
        than the cases alone would do?
        """,
        """
        No. If each had a true accuracy of 60 %, an accuracy on 60 cases would scatter by $\\sqrt{0.6 \\cdot 0.4 / 60}
        = 6$ points (one standard deviation), and the range of five such draws is 2.3 of these on average, 15 points.
        These are 18 apart. And if the five see the *same* 60 cases, their accuracies scatter less than that by the
        cases: then what is left is the training.
        """,
    ),
]
