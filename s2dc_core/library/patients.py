"""What the study of another patient found: means and differences of its record, see `patient_results`."""

from collections.abc import Mapping, Sequence
from statistics import mean

import numpy as np

from s2dc_core.intervals import mean_interval


def pair_dice(scores: Mapping, condition: str, way: str) -> list[float]:
    """Of each pair the mean over organs of Dice in tokens."""
    return [mean(pair["dice"][way].values()) for pair in scores[condition]]


def summary(record: Mapping, group: str, condition: str) -> dict[str, dict[str, tuple[float, float, float]]]:
    """{arm: {way: mean Dice in tokens over organs, seeds and pairs, and its 95 % Student-t interval over pairs}}.

    Args:
        record: of `patient_results`; an arm or a way that was not asked in the condition is left out.
    """
    found: dict[str, dict] = {}
    for arm, scored in record["groups"].get(group, {}).items():
        runs = [scores for scores in scored if condition in scores]
        for way in runs[0][condition][0]["dice"] if runs else ():
            of_way = [pair_dice(scores, condition, way) for scores in runs if way in scores[condition][0]["dice"]]
            found.setdefault(arm, {})[way] = mean_interval(np.mean(of_way, axis=0).tolist())
    return found


def compare(
    ours: Sequence[Mapping], theirs: Sequence[Mapping], condition: str, way: str, their_way: str | None = None
) -> dict[str, tuple[float, float, float]]:
    """One arm minus another in mean Dice: mean and 95 % Student-t intervals over pairs of patients, and over seeds.

    Args:
        ours, theirs: scores of each seed. Seeds are paired where there are equally many; otherwise the mean of the
            others is taken off each seed of ours.
        condition, way, their_way: what is compared; their_way is ours by default.
    """
    one = np.array([pair_dice(scores, condition, way) for scores in ours])
    other = np.array([pair_dice(scores, condition, their_way or way) for scores in theirs])
    gains = one - (other if len(other) == len(one) else other.mean(0, keepdims=True))
    found = {"over pairs": mean_interval(gains.mean(0).tolist())}
    if len(gains) > 1:
        found["over seeds"] = mean_interval(gains.mean(1).tolist())
    return found
