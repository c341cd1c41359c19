"""Parts about all pretext tasks side by side."""

from statistics import median

from s2dc_core.library import method_results, patient_results
from s2dc_core.library.methods import (
    CARRIED,
    NETWORKS,
    OWN,
    ROWS,
    SHOWN,
    equal_time_of,
    gain_over,
    gain_over_best,
    items_of,
    others_in,
    rank_spread,
    rates_of,
    seconds_of,
    shared,
    shown_items,
    spread,
    taken_of,
)
from s2dc_core.library.patients import summary
from s2dc_core.pretraining import PretrainConfig
from s2dc_core.studies.pages.words import count, prose, series, side, table
from s2dc_core.studies.pages.words import spread as in_words

STEPS = PretrainConfig.from_recipe("teaching").steps

WITHOUT = {"raw patches": ("raw", None), "B-spline registration": ("baselines", "bspline")}
"""What needs no encoder: its arm in the record of patients, and its way; None for the column's own."""


def compared() -> str:
    """Table: every method, its mean and interval in every column."""
    items = shown_items(method_results())
    found = {title: spread(of) for title, of in items.items()}
    known = list(next(iter(found.values())))
    rows = [[ROWS[name], *(in_words(of[name], 3) for of in found.values())] for name in known]
    for name, of in shared(items_of(method_results())["fine-tuned"], list(NETWORKS)).items():
        tuned = in_words(spread({name: of})[name], 3)
        rows.append([NETWORKS[name], *(tuned if SHOWN[title] == "fine-tuned" else "-" for title in found)])
    for words, (arm, own) in WITHOUT.items():
        cells = []
        for title in found:
            group, field, way = CARRIED.get(title, (None, None, None))
            of = summary(patient_results(), group, field)[arm] if group else {}
            cells.append(f"{of[own or way][0]:.3f}" if of else "-")
        rows.append([f"*{words}*", *cells])
    return table(["method", *found], rows)


def compared_in_words() -> str:
    """Where S2DC is the first, and how far it is ahead of the best other or behind it."""
    items = shown_items(method_results())
    gains = {title: gain_over_best(of) for title, of in items.items()}
    first = [title for title, (_, gain) in gains.items() if gain[0] > 0]
    clear = [title for title, (_, gain) in gains.items() if side(gain)]
    words = [f"{title}: {ROWS[best]}, {in_words(gain, 3, signed=True)}" for title, (best, gain) in gains.items()]
    trainings = sorted({len(next(iter(of.values()))) for of in items.values()})
    widths = [high - low for of in items.values() for _, low, high in rank_spread(of).values()]
    known = next(iter(items.values()))
    methods, absent = len(known), [title for name, title in ROWS.items() if name not in known]
    missing = f"; not measured yet: {series(absent)}" if absent else ""
    parts = {name: [gain_over(of, "s2dc", name) for of in items.values()] for name in OWN if name in known}
    own = [
        f"{ROWS[name]} in {count(sum(side(gain) > 0 for gain in of))} of {count(len(of))}" for name, of in parts.items()
    ]
    above = []
    for title, of in items.items():
        sides = [side(gain_over(of, name, "untrained")) for name in others_in(of)]
        above.append(f"{title}: {sides.count(1)} and {sides.count(-1)}")
    return prose(
        f"- Trainings of each method: {series([str(number) for number in trainings])}; {count(methods)} rows"
        f"{missing}. Intervals are 95 % of draws of trainings and bodies, the same ones for all methods.",
        f"- S2DC has a higher mean than every other method in {count(len(first))} of {count(len(gains))} columns, its "
        f"own single terms aside. The best other method of each, and S2DC minus it: {'; '.join(words)}. The interval "
        f"leaves out 0 in {count(len(clear))}.",
        f"- Of the {count(len(others_in(known)))} others so many lie above random weights, and so many below, with an "
        f"interval that leaves out 0: {'; '.join(above)}.",
        *([f"- S2DC is clearly ahead of its own parts, {series(own)} columns."] if own else []),
        f"- The interval of a rank is {median(widths):.1f} ranks wide, the median of methods and columns.",
    )


def searched() -> str:
    """Table: the search of the learning rate."""
    results = method_results()
    rates, whole = rates_of(results), taken_of(results)
    tried = sorted({rate for found in rates.values() for rate in found})
    rows = []
    for name in (name for name in ROWS if name in rates):
        taken, full = whole.get(name, (None, {}))
        cells = [f"{rates[name][rate]:.3f}" if rate in rates[name] else "-" for rate in tried]
        cells = [f"**{cell}**" if rate == taken else cell for rate, cell in zip(tried, cells, strict=True)]
        told = "; ".join(f"{rate:g}: {dice:.3f}" for rate, dice in full.items())
        rows.append([ROWS[name], *cells, told or "-"])
    return table(["method", *(f"{rate:g}" for rate in tried), "in full"], rows)


def costs() -> str:
    """Table: what a step costs, and what a training of S2DC's time gives instead of one of as many steps."""
    results = method_results()
    seconds, timed = seconds_of(results), equal_time_of(results)
    rows = []
    for name in (name for name in ROWS if name in seconds):
        cost, of = seconds[name], timed.get(name)
        told = [f"{of['steps']}", f"{of['equal steps']:.3f}", f"{of['equal time']:.3f}"] if of else ["-"] * 3
        rows.append([ROWS[name], f"{cost:.2f}", f"{cost / seconds['s2dc']:.1f}", f"{STEPS * cost / 60:.0f}", *told])
    head = ["seconds a step", "of S2DC's", f"minutes of {STEPS} steps", "steps in S2DC's time"]
    return table(["method", *head, "probe, equal steps", "probe, equal time"], rows)
