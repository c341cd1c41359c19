"""Exercise of notebook 00: what a training with one loss fewer may be compared by."""

import math

import numpy as np
import pandas as pd
import torch

from s2dc_core.exercises import Exercise, as_number

TERMS = ("contrast", "patch_to_patch", "patch_to_structure")

fewer = Exercise(
    "One loss fewer",
    "easy",
    task="""
    Train once more, with one loss left out. Is the encoder better or worse for it? The total of the second run is
    smaller, but that says nothing: it is a sum with one term fewer. Write a fair comparison: for each term that *both*
    runs trained, how much higher it lies in the second run, as a mean over the `last` steps. A single step will not
    do: each step draws another region, easy or hard.
    """,
    hints=[
        "`history[-last:]` are the last steps; `step[name]` is the value of a term at a step.",
        "What is left out is still measured at each step, but nobody trained it; and the total is no term.",
    ],
    use="""
    ablated = pretrain(replace(config, loss_options={"patch_to_structure_weight": 0.0}), [scan])  # another minute
    histories = [[step._asdict() for step in run.history] for run in (result, ablated)]
    for name, higher in my_comparison(*histories, "patch_to_structure", 10).items():
        print(f"without L_p2s, {name} is higher by {float(higher):+.2f} over the last ten steps")
    trained = {"three losses": result.model.student.encoder, "two losses": ablated.model.student.encoder}
    display(before_and_after(scan, trained))
    """,
)


@fewer.stub
def my_comparison(whole, ablated, without, last):
    """{term: second run minus first}; the runs are lists of {"total": ..., term: value}, without names a term."""
    raise NotImplementedError


@fewer.solution
def my_comparison(whole, ablated, without, last):
    """{term: second run minus first}; the runs are lists of {"total": ..., term: value}, without names a term."""
    compared = {}
    for name in whole[0]:
        if name not in ("total", without):
            before, after = (sum(step[name] for step in run[-last:]) / last for run in (whole, ablated))
            compared[name] = after - before
    return compared


def compared(whole, ablated, without, last, of=np.mean, names=TERMS, leave=True, part=None, by=np.subtract):
    """The comparison, or with a part of it done otherwise."""
    part = part or (lambda run: run[-last:])
    kept = [name for name in names if not (leave and name == without)]
    return {n: by(*(of([step[n] for step in part(run)]) for run in (ablated, whole))) for n in kept}


@fewer.accepted("pandas")
def my_comparison(whole, ablated, without, last):
    means = [pd.DataFrame(run).tail(last).mean() for run in (whole, ablated)]
    return (means[1] - means[0]).drop(["total", without])


@fewer.accepted("differences first, tensors")
def my_comparison(whole, ablated, without, last):
    found = {}
    for name in set(whole[0]) - {"total", without}:
        found[name] = torch.tensor([b[name] - a[name] for a, b in zip(whole, ablated, strict=True)])[-last:].mean()
    return found


@fewer.mistake("the total", "a sum with one term fewer")
def my_comparison(*asked):
    return compared(*asked, names=("total", *TERMS))


@fewer.mistake("the total alone", "a sum with one term fewer")
def my_comparison(*asked):
    return compared(*asked, names=("total",))


@fewer.mistake("what was left out, too", "nobody trained")
def my_comparison(*asked):
    return compared(*asked, leave=False)


@fewer.mistake("the last step alone", "one step")
def my_comparison(*asked):
    return compared(*asked, part=lambda run: run[-1:])


@fewer.mistake("the first steps", "the first steps")
def my_comparison(*asked):
    return compared(*asked, part=lambda run: run[: asked[-1]])


@fewer.mistake("all steps", "all steps")
def my_comparison(*asked):
    return compared(*asked, part=lambda run: run)


@fewer.mistake("first minus second", "the sign")
def my_comparison(*asked):
    return compared(*asked, by=lambda after, before: before - after)


@fewer.mistake("a ratio", "divided")
def my_comparison(*asked):
    return compared(*asked, by=np.divide)


@fewer.mistake("a sum", "a sum over the steps")
def my_comparison(*asked):
    return compared(*asked, of=np.sum)


def runs(seed, without, steps=12):
    """The histories of two runs whose losses fall and jump about; the second total leaves a term out."""
    draw, found = np.random.default_rng(seed), []
    for weight in (1, 0):
        run = []
        for step in range(steps):
            values = {name: float(draw.normal(9 - 0.2 * step + weight, 0.5)) for name in TERMS}
            total = sum(value for name, value in values.items() if weight or name != without)
            run.append({"total": total} | values)
        found.append(run)
    return found


@fewer.check
def check_fewer(answer):
    for seed, without, last in ((0, "patch_to_structure", 5), (1, "contrast", 4)):
        asked = (*runs(seed, without), without, last)
        given = answer(*([dict(step) for step in run] for run in asked[:2]), without, last)
        try:
            found = {name: as_number(value, f"a number for {name}") for name, value in dict(given).items()}
        except (TypeError, ValueError):
            raise AssertionError(f"a dictionary is wanted; yours is a {type(given).__name__}") from None
        assert "total" not in found, "the total is a sum with one term fewer, so it is smaller whatever was learnt"
        untrained = f"nobody trained {without} in the second run: compare what both have trained"
        assert without not in found, untrained
        wanted = [name for name in TERMS if name != without]
        assert set(found) == set(wanted), f"the terms are {', '.join(wanted)}; yours are {', '.join(map(str, found))}"

        def same(found=found, asked=asked, **otherwise):
            other = compared(*asked, **otherwise)
            return all(math.isclose(found[name], other[name], rel_tol=1e-4, abs_tol=1e-6) for name in other)

        assert not same(part=lambda run: run[-1:]), "one step is compared: another region is drawn at each, so a mean"
        first = "the first steps are compared, before either run has learnt: the last ones"
        assert not same(part=lambda run, last=last: run[:last]), first
        assert not same(part=lambda run: run), "all steps are compared, the first ones too: the last ones alone"
        assert not same(by=lambda after, before: before - after), "the sign: second run minus first, higher is worse"
        assert not same(by=np.divide), "one is divided by the other: how much higher is a difference"
        assert not same(of=np.sum), "a sum over the steps: it grows with their number, take the mean"
        right = compared(*asked)
        worst = max(abs(found[name] - right[name]) for name in wanted)
        assert same(), f"off by up to {worst:.3g}"
    return "Even so it asks how well a loss is met, not what the features are good for: notebooks 06 and 12 do."


EXPLORE = [
    (
        """
        What was left out is still measured: look at it in `ablated.history`. Did it fall although nobody trained it?
        Why?
        """,
        """
        Yes, as far as with training. In a run of 60 steps $\\mathcal{L}_{p2s}$ starts at 12.97 and has a mean of
        10.62 over the last ten steps without its own gradient, 10.64 with it. Both structure losses ask for the same
        matches; $\\mathcal{L}_{p2s}$ only weighs them otherwise. So a loss that falls is no proof that its own term
        did it.
        """,
    ),
    (
        """
        Set `image = "phantom_mr_t1"` in the parameters and run everything again: the generated body in MRI. Which of
        the two organs stands out more in the heatmap, and why?
        """,
        """
        The stomach. *Inside* minus *others* is 0.37 for it with random weights and 0.62 after 60 steps, 0.17 and 0.43
        for the liver (body 0, one training). Its content is dark in T1, half as bright as the liver, and so unlike
        most organs around it: brightness alone tells it apart, and random weights pass brightness on.
        """,
    ),
]
