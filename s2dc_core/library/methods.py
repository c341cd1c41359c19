"""What the study of all pretext tasks found: scores of its record, see `method_results`."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import mean

import numpy as np
from scipy.stats import rankdata

from s2dc_core.library.arms import TITLES
from s2dc_core.library.paper import PRINTED, SCRATCH, UNETR
from s2dc_core.library.patients import pair_dice

MEASURED = re.compile(
    r"(?:patients/(?P<group>ct|ct_varied|headneck_ct)|(?P<what>frozen|tuned|lungs))_(?P<name>.+)_seed(?P<seed>\d+)\.json"
)
"""Files of the record that hold measures of one method and seed."""

SECONDS = "seconds.json"
"""File of the record that holds how long a step of each method takes."""

Interval = tuple[float, float, float]

SHOWN = {
    "fine-tuned, 3 labelled": "fine-tuned",
    "probe, 3 labelled": "probe, 3 labelled",
    "silhouette": "silhouette",
    "lungs, 10 % labelled": "lungs",
    "half, nearest": "ct, half, nearest",
    "half, deformed": "ct, half, deformed",
    "varied, half, nearest": "ct_varied, half, nearest",
    "varied, half, deformed": "ct_varied, half, deformed",
}
"""The measures of `items_of` that the comparison shows, by their titles."""

CARRIED = {title: tuple(key.split(", ")) for title, key in SHOWN.items() if key.startswith("ct")}
"""Of those that carry labels: group, field of view and way, which name scores without an encoder in another record."""

OWN = ("p2p", "p2s")
"""S2DC with one of its structure losses: rows of their own, but no other methods."""

ROWS = {
    "untrained": "random weights",
    "contrast": "$L_g$ alone",
    **{name: title for name, title in PRINTED.items() if name not in (UNETR, SCRATCH, "s2dc")},
    **{name: TITLES[name] for name in OWN},
    "s2dc": PRINTED["s2dc"],
}
"""Titles of the methods: the start, L_g, the paper's table 1 in its order, S2DC with single terms, S2DC."""

NETWORKS = {name: PRINTED[name] for name in (UNETR, SCRATCH)}
"""Titles of the networks that are only fine-tuned, from random weights."""


def items_of(results: Mapping) -> dict[str, dict[str, dict[int, dict[str, float]]]]:
    """{measure: {method: {seed: {item: score}}}} of what `method_results` returns, as far as it has been measured.

    The measures are "silhouette" (items: the body in each modality), "probe, 1 labelled" and so on (organs),
    "fine-tuned" (bodies), "lungs" (1 for a body whose lungs are told right, else 0); and "ct, half, nearest" and so
    on: Dice of labels carried from another body, by group, field of view and way, or "retrieval" (pairs of bodies).
    """
    items: dict[str, dict[str, dict[int, dict[str, float]]]] = {}
    for file, record in results["records"].items():
        if match := MEASURED.fullmatch(file):
            name, seed = match["name"], int(match["seed"])
            if "scores" in record:
                name, found = record["recipe"]["arm"], _of_pairs(record["recipe"]["group"], record["scores"])
            else:
                found = {"frozen": _of_frozen, "tuned": _of_tuned, "lungs": _of_lungs}[match["what"]](record)
            for measure, scores in found:
                items.setdefault(measure, {}).setdefault(name, {})[seed] = scores
    return items


def scores_of(results: Mapping) -> dict[str, dict[str, dict[int, float]]]:
    """{measure: {method: {seed: mean over the items of `items_of`}}}."""
    return {
        measure: {
            name: {seed: mean(found.values()) for seed, found in seeds.items()} for name, seeds in methods.items()
        }
        for measure, methods in items_of(results).items()
    }


def rates_of(results: Mapping) -> dict[str, dict[float, float]]:
    """{method: {learning rate: Dice of a linear probe}} of the search."""
    found: dict[str, dict[float, float]] = {}
    for file, record in results["records"].items():
        if match := re.fullmatch(r"probe_search_(.+)_([^_]+)\.json", file):
            found.setdefault(match[1], {})[float(match[2])] = record["dice"]
    return found


def taken_of(results: Mapping) -> dict[str, tuple[float, dict[float, float]]]:
    """{method: the learning rate that was taken, {rate: Dice of the probe after a training in full}}."""
    whole: dict[str, dict[float, float]] = {}
    for file, record in results["records"].items():
        if match := re.fullmatch(r"probe_full_(.+)_([^_]+)\.json", file):
            whole.setdefault(match[1], {})[float(match[2])] = record["dice"]
    rates = rates_of(results)
    return {
        name: (max(found, key=lambda rate: (found[rate], rates[name][rate])), found) for name, found in whole.items()
    }


def seconds_of(results: Mapping) -> dict[str, float]:
    """{method: seconds of one step on one thread}, all measured in turn; empty where the record has no such measure."""
    return results["records"].get(SECONDS, {}).get("seconds_a_step", {})


def equal_time_of(results: Mapping) -> dict[str, dict[str, float | int]]:
    """{method: {"steps", "equal steps", "equal time"}} of the trainings that took as long as S2DC's first seed.

    The second and third are Dice of a linear probe with three labelled bodies: of the method's first seed, trained for
    as many steps as all, and of its training of so many "steps".
    """
    records = results["records"]
    found: dict[str, dict[str, float | int]] = {}
    for name in ROWS:
        timed, first = (records.get(f"frozen_{name}_{which}.json") for which in ("equal_time", "seed0"))
        if timed and first:
            probes = [mean(each["probe"]["3"].values()) for each in (first, timed)]
            steps = timed["recipe"]["pretraining"]["steps"]
            found[name] = dict(zip(("steps", "equal steps", "equal time"), (steps, *probes), strict=True))
    return found


def shared(items: Mapping[str, Mapping[int, Mapping]], methods: Sequence[str]) -> dict[str, dict[int, Mapping]]:
    """Of one measure of `items_of` the methods that have it, with the seeds that all of these have."""
    known = {name: items[name] for name in methods if name in items}
    seeds = set.intersection(*map(set, known.values())) if known else set()
    return {name: {seed: of[seed] for seed in sorted(seeds)} for name, of in known.items()}


def others_in(names: Iterable[str]) -> list[str]:
    """Of some rows those of other pretext tasks than S2DC: without the start, S2DC and OWN."""
    return [name for name in names if name not in ("untrained", "s2dc", *OWN)]


def shown_items(results: Mapping) -> dict[str, dict[str, dict[int, Mapping[str, float]]]]:
    """{title of SHOWN: what `shared` keeps of it}, of the methods that have been measured in all of them."""
    items = items_of(results)
    known = [name for name in ROWS if all(name in items.get(key, ()) for key in SHOWN.values())]
    return {title: shared(items[key], known) for title, key in SHOWN.items()} if known else {}


def mean_of(runs: Mapping[int, Mapping[str, float]]) -> float:
    """The mean of all scores of one method in one measure of `items_of`."""
    return float(np.mean([score for of in runs.values() for score in of.values()]))


def drawn_means(
    items: Mapping[str, Mapping[int, Mapping[str, float]]], draws: int = 2000, seed: int = 0
) -> dict[str, np.ndarray]:
    """{method: mean score of each draw}: as many trainings and as many items as there are, with replacement.

    They are the same ones for all methods, so that what all find hard is no difference between them.

    Args:
        items: one measure of `items_of`, see `shared`.

    Raises:
        ValueError: for methods that were not measured with the same seeds and items.
    """
    seeds, asked = (
        {frozenset(of) for of in items.values()},
        {frozenset(i) for of in items.values() for i in of.values()},
    )
    if len(seeds) != 1 or len(asked) != 1:
        raise ValueError("draws need the same seeds and items of every method: take those that all have")
    (seeds,), (asked,) = map(sorted, seeds), map(sorted, asked)
    scores = np.array([[[of[run][item] for item in asked] for run in seeds] for of in items.values()])
    random, means = np.random.default_rng(seed), np.empty((draws, len(items)))
    for drawn in means:
        runs, chosen = (random.integers(0, size, size) for size in scores.shape[1:])
        drawn[:] = scores[:, runs][:, :, chosen].mean((1, 2))
    return dict(zip(items, means.T, strict=True))


def spread(items: Mapping[str, Mapping], draws: int = 2000, confidence: float = 0.95) -> dict[str, Interval]:
    """{method: (mean, low, high)}: the mean of all, and the quantiles of `drawn_means`; NaN ends for a single score."""
    found = {}
    for name, means in drawn_means(items, draws).items():
        known = sum(map(len, items[name].values())) > 1
        ends = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2]) if known else (np.nan, np.nan)
        found[name] = (mean_of(items[name]), *map(float, ends))
    return found


def gain_over(items: Mapping[str, Mapping], name: str, other: str, draws: int = 2000) -> Interval:
    """(mean, low, high) of how far one method is ahead of another over `drawn_means`; NaN ends for a single score."""
    pair = {each: items[each] for each in (name, other)}
    drawn, gain = drawn_means(pair, draws), mean_of(items[name]) - mean_of(items[other])
    known = sum(map(len, items[name].values())) > 1
    ends = np.quantile(drawn[name] - drawn[other], [0.025, 0.975]) if known else (np.nan, np.nan)
    return gain, *map(float, ends)


def gain_over_best(items: Mapping[str, Mapping], name: str = "s2dc", draws: int = 2000) -> tuple[str, Interval]:
    """The best other method (not one of OWN) by its mean, and how far `name` is ahead of it, see `gain_over`."""
    best = max((other for other in items if other not in (name, *OWN)), key=lambda other: mean_of(items[other]))
    return best, gain_over(items, name, best, draws)


def rank_spread(items: Mapping[str, Mapping], draws: int = 2000, confidence: float = 0.95) -> dict[str, Interval]:
    """{method: (mean rank, low, high)} over `drawn_means`; 1 is the best, and equal means share their ranks."""
    drawn = drawn_means(items, draws)
    ranks = rankdata(-np.stack(list(drawn.values())), axis=0)
    ends = np.quantile(ranks, [(1 - confidence) / 2, (1 + confidence) / 2], axis=1)
    return {name: (float(of.mean()), *map(float, both)) for name, of, both in zip(drawn, ranks, ends.T, strict=True)}


def _of_frozen(record: Mapping) -> Iterator[tuple[str, dict[str, float]]]:
    images = record["silhouettes"].items()
    yield (
        "silhouette",
        {f"{image} {body}": mean(organs.values()) for image, bodies in images for body, organs in bodies.items()},
    )
    for bodies, dice in record["probe"].items():
        yield f"probe, {bodies} labelled", dice


def _of_tuned(record: Mapping) -> Iterator[tuple[str, dict[str, float]]]:
    yield "fine-tuned", {body: case["Dice"] for body, case in record["dice"].items()}


def _of_lungs(record: Mapping) -> Iterator[tuple[str, dict[str, float]]]:
    yield "lungs", {body: float(right) for body, right in record["right"].items()}


def _of_pairs(group: str, scores: Mapping) -> Iterator[tuple[str, dict[str, float]]]:
    for field, pairs in scores.items():
        names = [f"{pair['labelled']} to {pair['target']}" for pair in pairs]
        for way in pairs[0]["dice"]:
            yield f"{group}, {field}, {way}", dict(zip(names, pair_dice(scores, field, way), strict=True))
        found = [mean(pair["retrieval"].values()) for pair in pairs]
        yield f"{group}, {field}, retrieval", dict(zip(names, found, strict=True))
