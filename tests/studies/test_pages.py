"""Parts of pages: markers, words that an interval chooses, and the numbers against the records read by hand."""

import json
from statistics import mean

import numpy as np
import pytest
from scipy import stats

from s2dc_core.library.results import WEIGHTS
from s2dc_core.studies.pages import (
    PARTS,
    choices,
    downstream,
    fill,
    methods,
    names_in,
    patients,
    silhouettes,
    without_parts,
)
from s2dc_core.studies.pages.words import between, compared, count, prose, series, side, spread, standing, table

PAGE = "# A page\n\n<!-- from records: one -->\n\nold\n\n<!-- end -->\n\nWritten by hand.\n"
UP, DOWN, OPEN = (0.2, 0.1, 0.3), (-0.2, -0.3, -0.1), (0.1, -0.1, 0.3)


def read(name):
    return json.loads((WEIGHTS / name).read_text())


def student(values):
    """Mean and the ends of its interval, by scipy's own form."""
    low, high = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
    return np.mean(values), low, high


def test_a_marked_part_is_made_anew_and_nothing_else():
    made = fill(PAGE, {"one": lambda: "| new |"})
    assert made == PAGE.replace("old", "| new |") and fill(made, {"one": lambda: "| new |"}) == made
    assert names_in(PAGE) == ["one"]
    assert without_parts(PAGE) == "# A page\n\n\n\nWritten by hand.\n"


@pytest.mark.parametrize(
    ("page", "says"),
    [
        (PAGE.replace("one", "two"), "no part is called 'two': there are one"),
        (PAGE.replace("<!-- end -->", ""), "needs its"),
        (PAGE + "<!-- end -->", "needs its"),
        (PAGE.replace("old", PAGE), "needs its"),
        ("<!-- from records: one --> old <!-- end -->", "needs its"),
    ],
)
def test_a_marker_without_its_half_or_its_part_is_an_error(page, says):
    with pytest.raises(ValueError, match=says):
        fill(page, {"one": lambda: "new"})


def test_an_interval_chooses_the_words():
    assert [side(each) for each in (UP, DOWN, OPEN)] == [1, -1, 0]
    assert spread(UP, 1, signed=True, factor=100, unit=" %") == "+20.0 % (+10.0 to +30.0)"
    assert (
        compared({"CT": UP, "PET": (0.4, 0.1, 0.7), "MR": OPEN}, 1)
        == "higher in CT and PET (by 0.2 to 0.4), not decided in MR"
    )
    assert compared({"CT": DOWN}, 1) == "lower in CT (by 0.2)"
    assert standing(UP, "raw", 1) == "above raw by +0.2 (+0.1 to +0.3)"
    assert standing(DOWN, "raw", 1) == "below raw by -0.2 (-0.3 to -0.1)"
    assert standing(OPEN, "raw", 1) == "not told apart from raw, +0.1 (-0.1 to +0.3)"
    assert (series(["a"]), series(["a", "b", "c"])) == ("a", "a, b and c")
    assert (count(0), count(12), count(1300)) == ("no", "twelve", "1,300")
    assert (between([0.31, 0.29], 1), between([-0.1, 0.2], 1, signed=True)) == ("0.3", "-0.1 to +0.2")
    assert table(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"


def test_lines_end_between_words_and_not_within_a_formula():
    text = prose("One " * 29 + "$L_g + L_{p2p}$ ends.", "- a point " + "of many words " * 10, "After it.")
    lines = text.splitlines()
    assert max(map(len, lines)) <= 120 and lines[1] == "$L_g + L_{p2p}$ ends."
    assert lines[2] == "" and lines[3].startswith("- a point") and lines[4].startswith("  ")
    assert lines[-2:] == ["", "After it."]


def test_silhouettes_are_the_records():
    record = read("study.json")["silhouettes"]
    runs = {
        arm: [mean(mean(organs.values()) for organs in run["phantom_ct"].values()) for run in record[arm]]
        for arm in ("s2dc", "untrained")
    }
    shown = silhouettes.silhouettes()
    assert f"| S2DC, all three | {spread(student(runs['s2dc']), 3)} |" in shown
    gain = student(np.subtract(runs["s2dc"], runs["untrained"]))
    assert f"| *S2DC minus random weights* | {spread(gain, 3, signed=True)} |" in shown


def test_carried_labels_are_the_records():
    pairs = [[mean(pair["dice"]["nearest"].values()) for pair in run["half"]]
             for run in read("another_patient.json")["groups"]["ct"]["s2dc"]]  # fmt: skip
    own = spread(student(np.mean(pairs, axis=0)))
    assert own in patients.half_scans() and own in patients.three_numbers()


def test_probes_are_the_records():
    rows = read("ablation.json")["rows"]
    few, many = ([mean(found[bodies].values()) for found in rows[row]["probe"]]
                 for row, bodies in (("S2DC", "3"), ("untrained", "12")))  # fmt: skip
    shown = patients.three_numbers()
    for values, signed in ((few, False), (many, False), (np.subtract(few, many), True)):
        assert spread(student(values), signed=signed) in shown.replace("\n  ", " ")


def test_downstream_scores_are_the_records():
    scores = read("transfer.json")["questions"]["organs"]["scores"]
    ours, theirs = ([mean(case["Dice"] for case in run.values()) for run in scores[share][start]]
                    for share, start in (("0.08", "s2dc"), ("1.00", "scratch")))  # fmt: skip
    shown = downstream.segmentation_in_words().replace("\n  ", " ")
    assert f"has {100 * mean(ours):.1f}, as much as from scratch with twelve: {100 * mean(theirs):.1f}." in shown
    assert spread(student(np.subtract(ours, theirs)), 1, True, 100) in shown


def test_patients_are_the_records():
    tuned = read("few_labels.json")["groups"]["headneck_ct"]["tuned"]["4"]
    gains = [mean(run["Dice"] for run in runs) - mean(run["Dice"] for run in tuned["scratch"][patient])
             for patient, runs in tuned["s2dc"].items()]  # fmt: skip
    assert f"| {spread(student(gains), 1, True, 100)} |" in downstream.patients()


def test_words_follow_the_numbers(monkeypatch):
    """S2DC and the start exchanged: what was higher is lower, what was clear stays clear."""
    study = read("study.json")
    arms = study["silhouettes"]
    arms["s2dc"], arms["untrained"] = arms["untrained"], arms["s2dc"]
    monkeypatch.setattr(silhouettes, "study_results", lambda: study)
    assert "Against random weights S2DC is lower in CT, PET and MR T1" in silhouettes.silhouettes_in_words()
    ablation = read("ablation.json")
    ablation["rows"]["S2DC"], ablation["rows"]["untrained"] = ablation["rows"]["untrained"], ablation["rows"]["S2DC"]
    monkeypatch.setattr(choices, "ablation_results", lambda: ablation)
    above = choices.ablation_in_words().split("Clearly above in some:**")[1].split("\n-")[0]
    assert "random weights" in above


def test_every_part_is_made():
    made = {name: part() for name, part in PARTS.items()}
    assert all(text == text.strip() and len(text) > 20 and "nan" not in text for text in made.values())
    assert made["ablation"].count("\n") == 1 + len(read("ablation.json")["rows"])


def test_costs_of_methods_are_those_of_the_record(monkeypatch):
    frozen = {"silhouettes": {}, "probe": {"3": {"1": 0.2, "2": 0.4}}}
    timed = {**frozen, "probe": {"3": {"1": 0.5}}, "recipe": {"pretraining": {"steps": 800}}}
    records = {
        "seconds.json": {"seconds_a_step": {"s2dc": 0.6, "rot": 0.3}},
        "frozen_rot_seed0.json": frozen,
        "frozen_rot_equal_time.json": timed,
    }
    monkeypatch.setattr(methods, "method_results", lambda: {"records": records})
    *_, rot, own = methods.costs().splitlines()
    assert rot == "| ROT | 0.30 | 0.5 | 2 | 800 | 0.300 | 0.500 |"
    assert own == "| S2DC | 0.60 | 1.0 | 4 | - | - | - |"
