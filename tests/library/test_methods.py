"""What is read from the record of all pretext tasks: means, ranks and their spread."""

import numpy as np
import pytest
from scipy.stats import rankdata

from s2dc_core.library.arms import ARMS
from s2dc_core.library.methods import (
    CARRIED,
    ROWS,
    SHOWN,
    drawn_means,
    equal_time_of,
    gain_over,
    gain_over_best,
    items_of,
    rank_spread,
    rates_of,
    scores_of,
    seconds_of,
    shared,
    shown_items,
    spread,
)
from s2dc_core.methods import METHODS


def record_of(**records):
    return {"records": {name.replace("__", "/") + ".json": record for name, record in records.items()}}


def frozen(silhouette, dice):
    silhouettes = {"phantom_ct": {"1000": {"1": silhouette, "2": silhouette + 0.2}}}
    return {"silhouettes": silhouettes, "probe": {"3": {"1": dice, "2": 3 * dice}}}


def carried(arm, *values):
    pairs = [
        {"labelled": n, "target": n + 1, "dice": {"nearest": {"1": v}}, "retrieval": {"1": v / 2}}
        for n, v in enumerate(values)
    ]
    return {"recipe": {"arm": arm, "group": "ct"}, "scores": {"half": pairs}}


def test_scores_are_means_of_items():
    record = record_of(
        frozen_voco_seed1=frozen(0.1, 0.2),
        lungs_voco_seed1={"right": {"1000": 1, "1001": 0, "1002": 1, "1003": 1}},
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
            "lungs": 0.75,
            "fine-tuned": 0.6,
            "ct, half, nearest": 0.4,
            "ct, half, retrieval": 0.2,
        }
    )


def test_rates_and_seconds_are_told_apart_by_their_files():
    records = {
        "seconds.json": {"seconds_a_step": {"moco_v3": 4.0}},
        "moco_v3_seed0.json": {"seconds_a_step": 9.0},
        "probe_search_moco_v3_0.001.json": {"dice": 0.3},
        "frozen_moco_v3_equal_time.json": {"dice": 0.4},
    }
    assert seconds_of({"records": records}) == {"moco_v3": 4.0} and seconds_of({"records": {}}) == {}
    assert rates_of({"records": records}) == {"moco_v3": {0.001: 0.3}}


def test_equal_time_stands_beside_equal_steps():
    timed = {**frozen(0.1, 0.3), "recipe": {"pretraining": {"steps": 7}}}
    record = record_of(frozen_voco_seed0=frozen(0, 0.2), frozen_voco_equal_time=timed, frozen_rot_equal_time=timed)
    assert equal_time_of(record) == {"voco": pytest.approx({"steps": 7, "equal steps": 0.4, "equal time": 0.6})}


def items(values):
    return {
        name: {run: {str(item): score for item, score in enumerate(row)} for run, row in enumerate(rows)}
        for name, rows in values.items()
    }


def test_draws_are_those_of_a_plain_loop():
    random = np.random.default_rng(3)
    scores = {name: random.normal(size=(3, 5)) for name in "abcd"}
    means, ranks = drawn_means(items(scores), draws=50, seed=7), rank_spread(items(scores), draws=50)
    again, first, found = np.random.default_rng(7), np.random.default_rng(0), []
    for draw in range(50):
        runs, chosen = again.integers(0, 3, 3), again.integers(0, 5, 5)
        for name, of in scores.items():
            assert means[name][draw] == pytest.approx(np.mean([[of[r, c] for c in chosen] for r in runs]))
        runs, chosen = first.integers(0, 3, 3), first.integers(0, 5, 5)
        found.append(rankdata([-np.mean([[of[r, c] for c in chosen] for r in runs]) for of in scores.values()]))
    for name, of in zip(scores, np.transpose(found), strict=True):
        assert ranks[name] == pytest.approx((of.mean(), *np.quantile(of, [0.025, 0.975])))


def test_what_all_find_hard_moves_no_rank():
    hard = np.linspace(-5, 5, 6)
    found = items({"a": [hard + 0.2], "b": [hard], "c": [hard + 0.1]})
    assert rank_spread(found, draws=100) == {"a": (1, 1, 1), "b": (3, 3, 3), "c": (2, 2, 2)}
    mean, low, high = spread(found, draws=100)["a"]
    assert mean == pytest.approx(0.2) and low < -1 and high > 1
    assert rank_spread(items({"a": [hard], "b": [hard]}), draws=20)["a"] == (1.5, 1.5, 1.5)


def test_the_spread_of_one_item_is_that_of_its_trainings():
    found = spread(items({"a": [[0.1], [0.3]], "b": [[0.5], [0.5]]}), draws=200)
    assert found["a"] == pytest.approx((0.2, 0.1, 0.3)) and found["b"] == pytest.approx((0.5, 0.5, 0.5))
    assert np.isnan(spread(items({"a": [[0.1]]}))["a"][1:]).all()


def test_shared_seeds_are_those_of_all_that_are_asked_for():
    known = items({"a": [[0.1], [0.3]], "b": [[0.5]], "c": [[0.7], [0.8]]})
    assert shared(known, ["a", "b", "missing"]) == items({"a": [[0.1]], "b": [[0.5]]})
    assert shared(known, ["a", "c"]) == {name: known[name] for name in "ac"}
    assert shared({}, ["a"]) == {}


def test_what_is_shown_are_methods_that_have_every_measure():
    records = {}
    for name in ("voco", "s2dc"):
        records[f"frozen_{name}_seed0"] = frozen(0.1, 0.2) | {"probe": {"3": {"1": 0.2}}}
        records[f"lungs_{name}_seed0"] = {"right": {"1000": 1}}
        records[f"tuned_{name}_seed0"] = {"dice": {"1000": {"Dice": 0.5}}}
        for group in ("ct", "ct_varied") if name == "s2dc" else ("ct",):
            pair = {
                "labelled": 0,
                "target": 1,
                "dice": {"nearest": {"1": 0.3}, "deformed": {"1": 0.4}},
                "retrieval": {"1": 0.1},
            }
            records[f"patients__{group}_{name}_seed0"] = {
                "recipe": {"arm": name, "group": group},
                "scores": {"half": [pair]},
            }
    found = shown_items(record_of(**records))
    assert list(found) == list(SHOWN) and all(set(each) == {"s2dc"} for each in found.values())
    assert found["varied, half, deformed"]["s2dc"] == {0: {"0 to 1": 0.4}}
    assert shown_items({"records": {}}) == {}
    assert set(CARRIED) < set(SHOWN) and CARRIED["varied, half, nearest"] == ("ct_varied", "half", "nearest")
    assert set(METHODS) | {*ARMS, "untrained"} <= set(ROWS) and list(ROWS)[-1] == "s2dc"


def test_a_gain_over_the_best_other_is_paired():
    hard = np.linspace(-5, 5, 6)
    best, (mean, low, high) = gain_over_best(items({"a": [hard], "s2dc": [hard - 0.1], "c": [hard - 0.3]}))
    assert best == "a" and (mean, low, high) == pytest.approx((-0.1, -0.1, -0.1))


def test_a_gain_is_of_the_two_that_are_asked_for_and_has_no_interval_of_one_score():
    hard = np.random.default_rng(0).normal(size=9)
    three = items({"a": [hard], "b": [hard - 0.2], "c": [hard + 5]})
    assert gain_over(three, "a", "b") == pytest.approx((0.2, 0.2, 0.2))
    assert gain_over(three, "b", "a") == pytest.approx((-0.2, -0.2, -0.2))
    mean, low, high = gain_over(items({"a": [[0.3]], "b": [[0.1]]}), "a", "b")
    assert mean == pytest.approx(0.2) and np.isnan([low, high]).all()


@pytest.mark.parametrize("other", [[[1.0, 2.0], [1.0, 2.0]], [[1.0, 2.0, 3.0]]])
def test_methods_that_were_asked_otherwise_cannot_be_drawn(other):
    with pytest.raises(ValueError, match="same seeds and items"):
        drawn_means(items({"a": [[1.0, 2.0]], "b": other}))
