"""Means and differences of the study of another patient."""

import numpy as np
import pytest

from s2dc_core.intervals import mean_interval
from s2dc_core.library.patients import compare, summary


def pairs_of(*values):
    return {"half": [{"dice": {"nearest": {"1": value, "2": value + 0.2}, "place": {"1": 0.1}}} for value in values]}


def test_intervals_over_pairs_and_over_seeds_are_kept_apart():
    ours, theirs = [pairs_of(0.5, 0.7, 0.6), pairs_of(0.6, 0.8, 0.4)], [pairs_of(0.3, 0.3, 0.3)]
    found = compare(ours, theirs, "half", "nearest")
    gains = np.array([[0.2, 0.4, 0.3], [0.3, 0.5, 0.1]])
    assert found["over pairs"] == pytest.approx(mean_interval(gains.mean(0).tolist()))
    assert found["over seeds"] == pytest.approx(mean_interval(gains.mean(1).tolist()))
    assert "over seeds" not in compare(ours[:1], theirs, "half", "nearest")
    assert compare(ours, theirs, "half", "nearest", "place")["over pairs"][0] == pytest.approx(0.6)


def test_summary_is_over_pairs_and_the_mean_of_seeds():
    scores = [pairs_of(0.5, 0.7), pairs_of(0.6, 0.8)]
    record = {"groups": {"ct": {"s2dc": scores, "raw": [{"whole": []}]}}}
    found = summary(record, "ct", "half")
    assert list(found) == ["s2dc"] and set(found["s2dc"]) == {"nearest", "place"}
    assert found["s2dc"]["nearest"] == pytest.approx(mean_interval([0.65, 0.85]))
    assert summary(record, "pet", "half") == {}
