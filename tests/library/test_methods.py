"""What is read from the record of all pretext tasks: means, ranks and their spread."""

import numpy as np
import pytest
from scipy.stats import rankdata

from s2dc_core.library.methods import items_of, rank_spread, rates_of, scores_of, seconds_of


def record_of(**records):
    return {"records": {name.replace("__", "/") + ".json": record for name, record in records.items()}}


def frozen(silhouette, dice, lungs):
    silhouettes = {"phantom_ct": {"1000": {"1": silhouette, "2": silhouette + 0.2}}}
    return {"silhouettes": silhouettes, "probe": {"3": {"1": dice, "2": 3 * dice}}, "lungs": lungs}


def carried(arm, *values):
    pairs = [
        {"labelled": n, "target": n + 1, "dice": {"nearest": {"1": v}}, "retrieval": {"1": v / 2}}
        for n, v in enumerate(values)
    ]
    return {"recipe": {"arm": arm, "group": "ct"}, "scores": {"half": pairs}}


def test_scores_are_means_of_items():
    record = record_of(
        frozen_voco_seed1=frozen(0.1, 0.2, 0.7),
        tuned_voco_seed1={"dice": {"1000": {"Dice": 0.5}, "1001": {"Dice": 0.7}}},
        patients__ct_voco_seed1=carried("voco", 0.2, 0.6),
        search_voco_0__001={"seconds_a_step": 1.0},
    )
    items, scores = items_of(record), scores_of(record)
    assert items["ct, half, nearest"] == {"voco": {1: {"0 to 1": 0.2, "1 to 2": 0.6}}}
    assert items["silhouette"]["voco"][1] == {"phantom_ct 1000": pytest.approx(0.2)}
    found = {measure: of["voco"][1] for measure, of in scores.items()}
    assert found == pytest.approx(
        {
            "silhouette": 0.2,
            "probe, 3 labelled": 0.4,
            "lungs": 0.7,
            "fine-tuned": 0.6,
            "ct, half, nearest": 0.4,
            "ct, half, retrieval": 0.2,
        }
    )


def test_rates_and_seconds_are_told_apart_by_their_files():
    records = {
        "search_moco_v3_0.001.json": {"seconds_a_step": 2.0},
        "search_moco_v3_0.002.json": {"seconds_a_step": 4.0},
        "moco_v3_seed0.json": {"seconds_a_step": 9.0},
        "probe_search_moco_v3_0.001.json": {"dice": 0.3},
        "frozen_moco_v3_equal_time.json": {"dice": 0.4},
    }
    assert seconds_of({"records": records}) == {"moco_v3": 4.0}
    assert rates_of({"records": records}) == {"moco_v3": {0.001: 0.3}}


def items(values):
    return {
        name: {run: {str(item): score for item, score in enumerate(row)} for run, row in enumerate(rows)}
        for name, rows in values.items()
    }


def test_ranks_of_draws_are_those_of_a_plain_loop():
    random = np.random.default_rng(3)
    scores = {name: random.normal(size=(3, 5)) for name in "abcd"}
    found = rank_spread(items(scores), draws=50, seed=7)
    again, ranks = np.random.default_rng(7), []
    for _ in range(50):
        rows, columns = again.integers(0, 3, 3), again.integers(0, 5, 5)
        ranks.append(rankdata([-np.mean([[of[r, c] for c in columns] for r in rows]) for of in scores.values()]))
    ranks = np.array(ranks)
    for number, name in enumerate(scores):
        low, high = np.quantile(ranks[:, number], [0.025, 0.975])
        best = np.mean([row[number] == row.min() for row in ranks])
        assert found[name] == pytest.approx((ranks[:, number].mean(), low, high, best))


def test_what_all_find_hard_moves_no_rank():
    hard = np.linspace(-5, 5, 6)
    found = rank_spread(items({"a": [hard + 0.2], "b": [hard], "c": [hard + 0.1]}), draws=100)
    assert found["a"] == (1, 1, 1, 1) and found["b"] == (3, 3, 3, 0)
    level = rank_spread(items({"a": [hard], "b": [hard]}), draws=20)
    assert level["a"] == level["b"] == (1.5, 1.5, 1.5, 1)


@pytest.mark.parametrize("other", [[[1.0, 2.0], [1.0, 2.0]], [[1.0, 2.0, 3.0]]])
def test_methods_that_were_asked_otherwise_have_no_ranks(other):
    with pytest.raises(ValueError, match="same seeds and items"):
        rank_spread(items({"a": [[1.0, 2.0]], "b": other}))
