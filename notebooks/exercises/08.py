"""Exercises of notebook 08: what a shift costs, Dice with organs that are not there, and choosing a step fairly."""

import itertools
import math
import statistics
import tracemalloc
from functools import lru_cache

import numpy as np
import pandas as pd
import torch

from s2dc_core.downstream.scores import class_scores
from s2dc_core.exercises import Exercise, as_number, as_pair, as_tensor

shifted = Exercise(
    "One voxel off",
    "easy",
    task="""
    A box of so many voxels is found, but shifted by whole voxels along each axis. Write its Dice score from the sides
    and the shift alone, without making a mask.
    """,
    hints=[
        "Two boxes overlap in a box. How long is it along one axis?",
        "If they miss each other along one axis, nothing overlaps: no side is shorter than 0.",
    ],
    use="""
    for name, box in {"a liver, about": (40, 45, 30), "an adrenal gland, about": (4, 3, 7)}.items():
        print(f"{name} {box} voxels, one voxel off along each axis: Dice {my_shifted_dice(box, (1, 1, 1)):.2f}")
    """,
    behind="s05",
)


@shifted.stub
def my_shifted_dice(sides, shift):
    """Dice, 0..1, of a box with the same box shifted; sides [3] and shift [3] in voxels, the shift of either sign."""
    raise NotImplementedError


@shifted.solution
def my_shifted_dice(sides, shift):
    """Dice, 0..1, of a box with the same box shifted; sides [3] and shift [3] in voxels, the shift of either sign."""
    dice = 1.0
    for side, moved in zip(sides, shift, strict=True):
        dice *= max(side - abs(moved), 0) / side
    return dice


def boxes(sides, shift, kept=lambda side, moved: max(side - abs(moved), 0)):
    """Sides of the overlap and of the box."""
    return [kept(side, moved) for side, moved in zip(sides, shift, strict=True)], list(sides)


@shifted.accepted("the ends of both boxes, with max and min")
def my_shifted_dice(sides, shift):
    overlap = [max(min(n, n + s) - max(0, s), 0) for n, s in zip(sides, shift, strict=True)]
    return 2 * math.prod(overlap) / (math.prod(sides) + math.prod(sides))


@shifted.accepted("three numbers in numpy")
def my_shifted_dice(sides, shift):
    return np.prod(np.clip(1 - np.abs(shift) / np.array(sides), 0, None))


@shifted.mistake("two masks in torch", "makes masks")
def my_shifted_dice(sides, shift):
    truth, found = torch.zeros(2, *(3 * n for n in sides), dtype=torch.bool)
    truth[tuple(slice(n, 2 * n) for n in sides)] = True
    start = [min(max(n + s, 0), 2 * n) for n, s in zip(sides, shift, strict=True)]
    found[tuple(slice(a, a + n) for a, n in zip(start, sides, strict=True))] = True
    return 2 * (truth & found).sum() / (truth.sum() + found.sum())


@shifted.mistake("two sets of voxels", "makes masks")
def my_shifted_dice(sides, shift):
    def voxels(moves):
        spans = (range(m, m + n) for n, m in zip(sides, moves, strict=True))
        return set(itertools.product(*spans))

    truth, found = voxels((0, 0, 0)), voxels(shift)
    return 2 * len(truth & found) / (len(truth) + len(found))


@shifted.mistake("sign of the shift", "to the other side")
def my_shifted_dice(sides, shift):
    overlap, box = boxes(sides, shift, lambda side, moved: max(side - moved, 0))
    return math.prod(overlap) / math.prod(box)


@shifted.mistake("beyond the box", "miss each other")
def my_shifted_dice(sides, shift):
    overlap, box = boxes(sides, shift, lambda side, moved: side - abs(moved))
    return math.prod(overlap) / math.prod(box)


@shifted.mistake("mean over the axes", "multiplied, not averaged")
def my_shifted_dice(sides, shift):
    overlap, box = boxes(sides, shift)
    return sum(a / b for a, b in zip(overlap, box, strict=True)) / 3


@shifted.mistake("the shift counted twice", "lost once")
def my_shifted_dice(sides, shift):
    overlap, box = boxes(sides, shift, lambda side, moved: max(side - 2 * abs(moved), 0))
    return math.prod(overlap) / math.prod(box)


@shifted.mistake("overlap over union", "the union")
def my_shifted_dice(sides, shift):
    overlap, box = (math.prod(part) for part in boxes(sides, shift))
    return overlap / (2 * box - overlap)


class Largest(torch.overrides.TorchFunctionMode):
    """Sees how many numbers the largest tensor holds that is made while it is open."""

    numbers = 0

    def __torch_function__(self, function, types, args=(), kwargs=None):
        made = function(*args, **kwargs or {})
        self.numbers = max(self.numbers, made.numel() if isinstance(made, torch.Tensor) else 0)
        return made


@shifted.check
def check_shifted(answer):
    def dice(sides, shift):
        overlap, box = boxes(sides, shift)
        return math.prod(overlap) / math.prod(box)

    def found(sides, shift):
        return as_number(answer(sides, shift), "a Dice score")

    sides, shift = (6, 4, 10), (1, 2, 3)
    mine, right = found(sides, shift), dice(sides, shift)
    mean = "the axes are multiplied, not averaged: the overlap is a box"
    assert not math.isclose(mine, sum(1 - s / n for s, n in zip(shift, sides, strict=True)) / 3), mean
    twice = boxes(sides, shift, lambda side, moved: max(side - 2 * abs(moved), 0))
    assert not math.isclose(mine, math.prod(twice[0]) / 240, abs_tol=1e-9), "a shift by 1 is lost once, at one end"
    assert not math.isclose(mine, right / (2 - right)), "this divides by the union (Jaccard); Dice by the mean size"
    assert math.isclose(mine, right, abs_tol=1e-6), f"{sides} shifted by {shift}: {right:.4f}, yours is {mine:.4f}"
    other = "a shift to the other side costs as much: take its size"
    assert math.isclose(found(sides, (1, -2, 3)), right, abs_tol=1e-6), other
    apart = "boxes that miss each other along one axis overlap nowhere: a side cannot be negative"
    assert found(sides, (7, 5, 1)) == 0, apart
    assert math.isclose(found(sides, (0, 0, 0)), 1), "no shift, no loss: 1"
    masks = "right, but it makes masks: the sides and the shift alone say it"
    tracemalloc.start()
    with Largest() as tensors:
        found((60, 50, 40), shift)
    _, most = tracemalloc.get_traced_memory()  # of Python and numpy
    tracemalloc.stop()
    assert most < 100_000 and tensors.numbers < 10_000, masks


absent = Exercise(
    "Dice, and organs that are not there",
    "medium",
    task="""
    Write the Dice score of every class at once. A class that the *truth* lacks has none: NaN, so that a mean can leave
    it out. That holds whether or not the network found some of it. A class that the truth has and the network missed
    scores 0.
    """,
    hints=[
        "`(prediction & truth).flatten(1).sum(1)` counts the voxels of each class.",
        "`torch.where(condition, a, b)` with `torch.nan`.",
    ],
    imports="import torch",
    use="""
    for name, mine in zip(scores.dice, torch.as_tensor(my_dice(prediction, truth)).tolist(), strict=True):
        print(f"{name}: yours {mine:.2f}, the core's {scores.dice[name]:.2f}")
    """,
    behind="s07",
)


@absent.stub
def my_dice(prediction, truth):
    """Dice of each class, [K], NaN for one that the truth lacks; both are masks [K, X, Y, Z] of booleans."""
    raise NotImplementedError


@absent.solution
def my_dice(prediction, truth):
    """Dice of each class, [K], NaN for one that the truth lacks; both are masks [K, X, Y, Z] of booleans."""
    both, said, there = (mask.flatten(1).sum(1) for mask in (prediction & truth, prediction, truth))
    return torch.where(there > 0, 2 * both / (said + there), torch.nan)


def sizes(prediction, truth):
    """Voxels that both have, that are said, that are there; of each class."""
    return (mask.flatten(1).sum(1).double() for mask in (prediction & truth, prediction, truth))


def filled(values, there, value=torch.nan):
    """The values where the truth has the class."""
    return torch.where(there > 0, values, value)


@absent.accepted("a list with None, class by class")
def my_dice(prediction, truth):
    found = []
    for said, there in zip(prediction, truth, strict=True):
        size = int(said.sum() + there.sum())
        found.append(2 * int((said & there).sum()) / size if there.any() else None)
    return found


@absent.accepted("numpy, 0 / 0 where the class is absent")
def my_dice(prediction, truth):
    said, there = prediction.numpy(), truth.numpy()
    axes = (1, 2, 3)
    with np.errstate(invalid="ignore"):
        exists = there.any(axes) / there.any(axes).astype(float)
    return exists * 2 * (said & there).sum(axes) / np.maximum(said.sum(axes) + there.sum(axes), 1)


@absent.mistake("0 for an absent class", "counts 0")
def my_dice(prediction, truth):
    both, said, there = sizes(prediction, truth)
    return filled(2 * both / (said + there), there, 0.0)


@absent.mistake("1 for an absent class", "counts 1")
def my_dice(prediction, truth):
    both, said, there = sizes(prediction, truth)
    return filled(2 * both / (said + there), there, 1.0)


@absent.mistake("undefined only if both are empty", "invented")
def my_dice(prediction, truth):
    both, said, there = sizes(prediction, truth)
    return 2 * both / (said + there)


@absent.mistake("a missed class left out", "missed")
def my_dice(prediction, truth):
    both, said, there = sizes(prediction, truth)
    return torch.where((there > 0) & (said > 0), 2 * both / (said + there), torch.nan)


@absent.mistake("overlap over union", "Jaccard")
def my_dice(prediction, truth):
    both, said, there = sizes(prediction, truth)
    return filled(both / (said + there - both), there)


@absent.mistake("factor 2 forgotten", "at most 0.5")
def my_dice(prediction, truth):
    both, said, there = sizes(prediction, truth)
    return filled(both / (said + there), there)


@absent.mistake("over the truth alone", "costs nothing")
def my_dice(prediction, truth):
    both, said, there = sizes(prediction, truth)
    return filled(both / there, there)


@absent.mistake("all classes together", "one score for all classes")
def my_dice(prediction, truth):
    both, said, there = sizes(prediction, truth)
    return filled((2 * both.sum() / (said.sum() + there.sum())).expand(len(both)), there)


def organs():
    """Masks of five classes: found well, found badly, missed, absent, absent and invented."""
    generator = torch.Generator().manual_seed(0)
    truth = torch.rand(5, 8, 7, 6, generator=generator) < 0.3
    truth[3:] = False
    prediction = truth ^ (torch.rand(5, 8, 7, 6, generator=generator) < 0.2)
    prediction[0] = truth[0] & (torch.rand(8, 7, 6, generator=generator) < 0.9)
    prediction[2:4] = False
    return prediction, truth


@absent.check
def check_absent(answer):
    prediction, truth = organs()
    found = as_tensor(answer(prediction.clone(), truth.clone()), (5,), "a vector", nan=True)
    both, said, there = sizes(prediction, truth)
    known = class_scores(prediction, truth, list("abcde")).dice
    right = torch.tensor(list(known.values()), dtype=torch.float64)

    def same(values):
        return torch.allclose(found[:2], values[:2], atol=1e-5)

    assert not same(both / (said + there - both)), "overlap over union is Jaccard's index, not Dice"
    assert not same(both / (said + there)), "at most 0.5 can come out: the overlap counts twice"
    assert not same(both / there), "over the truth alone, too much costs nothing: divide by both sizes"
    joined = 2 * both.sum() / (said.sum() + there.sum())
    assert not same(joined.expand(5)), "this is one score for all classes: count each by itself"
    assert not found[2].isnan(), "a class that is there and was missed is left out: it scores 0"
    invented = "an absent organ that was invented has a number: NaN whatever the network said"
    assert not (found[3].isnan() and not found[4].isnan()), invented
    assert not (found[3:] == 0).any(), "an organ that is not in the scan counts 0: nobody could have found it"
    assert not (found[3:] == 1).any(), "an organ that is not in the scan counts 1, a present to the mean"
    assert found[3:].isnan().all(), "an organ that is not in the scan has no Dice: NaN"
    worst = float((found - right)[:3].abs().max())
    assert torch.allclose(found[:3], right[:3], atol=1e-5), f"largest difference from Dice: {worst:.3g}"


def run(seed=0):
    """Dice of eight cases at sixteen steps, {step: {case: Dice}}, and which cases choose and which are scored."""
    draw = torch.Generator().manual_seed(seed)
    scores = {}
    for step, row in enumerate(torch.rand(16, 8, generator=draw, dtype=torch.float64).tolist(), start=1):
        scores[100 * step] = {f"case {n}": row[n] for n in torch.randperm(8, generator=draw).tolist()}
    names = [f"case {n}" for n in range(8)]
    return scores, names[:3], names[3:]


def mean_at(scores, step, names):
    """Mean Dice of some cases at a step."""
    return sum(scores[step][name] for name in names) / len(names)


def best_at(scores, names, of=statistics.fmean):
    """The step at which their mean, or another number of them, is highest."""
    return max(scores, key=lambda step: of([scores[step][name] for name in names]))


fair = Exercise(
    "Choose a step fairly",
    "medium",
    task="""
    A training was scored every hundred steps. Choose the step, and say what the network of that step is worth: its mean
    Dice on the scored cases. Choosing and scoring must not see the same cases.
    """,
    hints=["One mean for each step, over the cases of the selection.", "`max(scores, key=...)` goes over the steps."],
)


@fair.stub
def my_choice(scores, selection, scored):
    """(step, Dice on the scored cases); scores is {step: {case: Dice}}, selection and scored are lists of cases."""
    raise NotImplementedError


@fair.solution
def my_choice(scores, selection, scored):
    """(step, Dice on the scored cases); scores is {step: {case: Dice}}, selection and scored are lists of cases."""

    def mean(step, cases):
        return sum(scores[step][case] for case in cases) / len(cases)

    step = max(scores, key=lambda step: mean(step, selection))
    return step, mean(step, scored)


@fair.accepted("pandas")
def my_choice(scores, selection, scored):
    table = pd.DataFrame(scores)
    step = table.loc[selection].mean().idxmax()
    return step, table.loc[scored, step].mean()


@fair.accepted("a loop over the steps, numpy means")
def my_choice(scores, selection, scored):
    best, chosen = -1, None
    for step, cases in scores.items():
        mean = np.mean([cases[name] for name in selection])
        if mean > best:
            best, chosen = mean, step
    return [chosen, np.float32(np.mean([scores[chosen][name] for name in scored]))]


@fair.mistake("median of the selection", "the median")
def my_choice(scores, selection, scored):
    step = best_at(scores, selection, statistics.median)
    return step, mean_at(scores, step, scored)


@fair.mistake("the worst case of the selection", "worst case")
def my_choice(scores, selection, scored):
    step = best_at(scores, selection, min)
    return step, mean_at(scores, step, scored)


@fair.mistake("chosen on the scored cases", "on the scored cases")
def my_choice(scores, selection, scored):
    step = best_at(scores, scored)
    return step, mean_at(scores, step, scored)


@fair.mistake("chosen on all cases", "on all cases")
def my_choice(scores, selection, scored):
    step = best_at(scores, [*selection, *scored])
    return step, mean_at(scores, step, scored)


@fair.mistake("the selection's Dice reported", "the selection's own Dice")
def my_choice(scores, selection, scored):
    step = best_at(scores, selection)
    return step, mean_at(scores, step, selection)


@fair.mistake("each case its own step", "its own best step")
def my_choice(scores, selection, scored):
    step = best_at(scores, selection)
    return step, sum(max(scores[step][case] for step in scores) for case in scored) / len(scored)


@fair.mistake("the best single case", "one lucky case")
def my_choice(scores, selection, scored):
    step = best_at(scores, selection, max)
    return step, mean_at(scores, step, scored)


@fair.mistake("the last step", "the last step")
def my_choice(scores, selection, scored):
    step = max(scores)
    return step, mean_at(scores, step, scored)


WAYS = {
    "the step is chosen on the scored cases: their Dice is then too high": lambda s, c, scored: best_at(s, scored),
    "the step is chosen on all cases, the scored among them": lambda s, c, scored: best_at(s, [*c, *scored]),
    "one lucky case decides: take the mean over the selection": lambda s, c, scored: best_at(s, c, max),
    "the worst case of the selection decides: take its mean": lambda s, c, scored: best_at(s, c, min),
    "this is the median of the selection; asked is its mean": lambda s, c, scored: best_at(s, c, statistics.median),
    "this is the last step, whatever the selection says": lambda s, c, scored: max(s),
    "this is the first step, whatever the selection says": lambda s, c, scored: min(s),
    "the selection is worst at this step": lambda s, c, scored: min(s, key=lambda step: mean_at(s, step, c)),
}
"""Wrong ways to choose a step, each with what to tell of it."""


@lru_cache
def telling_runs(count=3):
    """Runs in which every wrong way of choosing takes a step of its own, and none the right one."""
    found = []
    for seed in itertools.count():
        choosing = run(seed)
        steps = [best_at(*choosing[:2]), *(way(*choosing) for way in WAYS.values())]
        if len(set(steps)) == len(steps):
            found.append(choosing)
        if len(found) == count:
            return found


@fair.check
def check_fair(answer):
    for scores, selection, scored in telling_runs():
        given = answer({step: dict(cases) for step, cases in scores.items()}, list(selection), list(scored))
        step, dice = as_pair(given, "things are wanted: the step, and a Dice score")
        assert step in scores, f"there is no step {step!r}; there are {', '.join(map(str, scores))}"
        for told, way in WAYS.items():
            assert step != way(scores, selection, scored), told
        assert step == best_at(scores, selection), f"the selection is best at step {best_at(scores, selection)}"
        dice, right = as_number(dice, "a Dice score"), mean_at(scores, step, scored)
        own = "this is the selection's own Dice, which was highest by choice: report the scored cases"
        assert not math.isclose(dice, mean_at(scores, step, selection), rel_tol=1e-5), own
        each = sum(max(scores[s][case] for s in scores) for case in scored) / len(scored)
        assert not math.isclose(dice, each, rel_tol=1e-5), (
            "every scored case has its own best step: one network for all"
        )
        assert math.isclose(dice, right, abs_tol=1e-6), f"the scored cases' mean is {right:.4f}, yours {dice:.4f}"
    gap = [
        mean_at(s, best_at(s, scored), scored) - mean_at(s, best_at(s, c), scored)
        for s, c, scored in map(run, range(50))
    ]
    return f"Chosen on the scored cases, pure noise would gain {100 * sum(gap) / len(gap):.0f} points here."


EXPLORE = [
    (
        """
        Leave the encoder as it is (`encoder_rate = 0`), so that only the linear layer learns. Which start loses more,
        and why?
        """,
        """
        The one from scratch: its features stay those of random weights. The study of notebook 11 has both, three
        trainings of each and three labelled bodies: a linear layer on frozen tokens reaches a Dice of 0.39 with S2DC
        and 0.21 with the weights that it started from; fine-tuned they reach 0.50 and 0.42. So the gap is 18 points
        frozen and 8 fine-tuned.
        """,
    ),
    (
        """
        With 3, 6 and 12 labelled bodies the start from scratch has 44, 43 and 46 % Dice in the study. What limits it,
        and which training would tell?
        """,
        """
        Not the labels: four times as many do nothing. It has 100 steps of one crop each, whatever the number of
        bodies. Train both starts for longer at 12 labelled bodies: what is left of the gain then is worth labels, what
        is gone was speed. Choose the step fairly, on bodies that you do not score.
        """,
    ),
]
