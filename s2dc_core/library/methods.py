"""What the study of all pretext tasks found: scores of its record, see `method_results`."""

import re
from collections.abc import Iterator, Mapping
from statistics import mean

from s2dc_core.library.patients import pair_dice

MEASURED = re.compile(
    r"(?:patients/(?P<group>ct|ct_varied|headneck_ct)|(?P<what>frozen|tuned))_(?P<name>.+)_seed(?P<seed>\d+)\.json"
)
"""Files of the record that hold measures of one method and seed."""


def scores_of(results: Mapping) -> dict[str, dict[str, dict[int, float]]]:
    """{measure: {method: {seed: score}}} of what `method_results` returns, as far as it has been measured.

    The measures are "silhouette" (mean over CT, PET and MR), "probe, 1 labelled" and so on, "fine-tuned", "lungs"
    (accuracy); and "ct, half, nearest" and so on: Dice of labels carried from another body, by group, field of view and
    way, or "retrieval".
    """
    scores: dict[str, dict[str, dict[int, float]]] = {}
    for file, record in results["records"].items():
        if match := MEASURED.fullmatch(file):
            name, seed = match["name"], int(match["seed"])
            if "scores" in record:
                name, found = record["recipe"]["arm"], _of_pairs(record["recipe"]["group"], record["scores"])
            else:
                found = _of_frozen(record) if match["what"] == "frozen" else _of_tuned(record)
            for measure, score in found:
                scores.setdefault(measure, {}).setdefault(name, {})[seed] = score
    return scores


def rates_of(results: Mapping) -> dict[str, dict[float, float]]:
    """{method: {learning rate: Dice of a linear probe}} of the search."""
    found: dict[str, dict[float, float]] = {}
    for file, record in results["records"].items():
        if match := re.fullmatch(r"probe_search_(.+)_([^_]+)\.json", file):
            found.setdefault(match[1], {})[float(match[2])] = record["dice"]
    return found


def _of_frozen(record: Mapping) -> Iterator[tuple[str, float]]:
    images = record["silhouettes"].values()
    yield "silhouette", mean(mean(mean(organs.values()) for organs in bodies.values()) for bodies in images)
    for bodies, dice in record["probe"].items():
        yield f"probe, {bodies} labelled", mean(dice.values())
    yield "lungs", record["lungs"]


def _of_tuned(record: Mapping) -> Iterator[tuple[str, float]]:
    yield "fine-tuned", mean(case["Dice"] for case in record["dice"].values())


def _of_pairs(group: str, scores: Mapping) -> Iterator[tuple[str, float]]:
    for field, pairs in scores.items():
        for way in pairs[0]["dice"]:
            yield f"{group}, {field}, {way}", mean(pair_dice(scores, field, way))
        yield f"{group}, {field}, retrieval", mean(mean(pair["retrieval"].values()) for pair in pairs)
