"""The table of verdicts: every number from a record, every word held by the records, one source for all who show it."""

import re
from pathlib import Path

import pytest

from s2dc_core.intervals import decided
from s2dc_core.library import method_results
from s2dc_core.library.methods import OWN, gain_over, others_in, shown_items
from s2dc_core.studies.verdicts import filled, numbers, records, verdict_page, verdict_table, words
from s2dc_core.training.records import read_json

PAGE = Path(__file__).resolve().parents[2] / "book" / "verdicts.md"
TYPED = ("S2DC", "T1", "T2", "100 steps", "at 1 ", "levels 1 to 3", "95 %", "chance 33", "p2p", "p2s", "excludes 0")
"""What may be typed: names, and what an experiment is made of."""


def test_the_page_of_the_book_is_what_the_records_make():
    """Write it with: python -m s2dc_core.studies.verdicts book/verdicts.md"""
    assert PAGE.read_text(encoding="utf-8") == verdict_page()


def test_no_number_is_typed():
    for row in words()["rows"]:
        text = re.sub(r"\[\[.+?\]\]", "", row["verdict"])
        for known in TYPED:
            text = text.replace(known, "")
        assert not re.findall(r"\d", text), row["claim"]
    used = set(re.findall(r"\[\[(.+?)\]\]", str(words())))
    assert used == set(numbers())


def test_a_name_without_a_number_is_an_error():
    with pytest.raises(KeyError, match="no such"):
        filled("[[no such]]")


def test_a_row_has_three_cells_and_no_place_is_left_open():
    lines = [line for line in verdict_table().splitlines() if line.startswith("|")]
    assert len(lines) == len(words()["rows"]) + 2 and all(line.count("|") == 4 for line in lines)
    assert "[[" not in verdict_table() and "]]" not in verdict_table()


def test_the_words_about_clusters_hold():
    gains = records.silhouette_gains()
    for other in ("contrast", "untrained"):
        assert all(low > 0 for _, low, _ in gains[other].values()) and len(gains[other]) == 3
        assert records.head_and_neck_gains()[other][1] > 0


def test_the_words_about_choices_hold():
    leads = records.ablation_leads()
    assert not any(decided(lead) for lead in leads["published matches"].values())
    assert leads["Sinkhorn"]["fine-tuned"][1] > 0 and all(leads["Sinkhorn"][probe][0] < 0 for probe in records.PROBES)
    assert all(leads["temperature 1"][probe][1] > 0 for probe in records.PROBES)
    assert all(leads[f"level {level}"]["probe, 12 labelled"][1] > 0 for level in (1, 2, 3, 4))
    for arm in ("L_g + L_p2p", "L_g + L_p2s"):
        assert not any(decided(lead) for measure, lead in leads[arm].items() if measure != "silhouette")


def test_the_words_about_labels_hold():
    few, many, rho, p = (
        float(numbers()[name]) for name in ("S2DC with 1", "scratch with 12", "cluster rho", "cluster p")
    )
    assert abs(few - many) < 0.5 and rho < 0 and p > 0.05
    gains = records.lung_gains()
    assert gains["0.10"][1] > 0 and gains["1.00"][1] > 0 and not decided(gains["0.50"])
    falling = list(map(int, re.findall(r"\d+", numbers()["lungs tuned"])))
    assert falling == sorted(falling, reverse=True)


def test_the_words_about_images_and_patients_hold():
    gains = records.image_gains()
    assert not any(decided(gain) for gain in gains.values())
    better = {"PSNR": 1, "NMSE": -1, "SSIM": 1}
    assert all(gain[0] * better[score] > 0 for (task, score), gain in gains.items() if task != "dose")
    groups = records.few_label_results()["groups"]
    for group, decides in (("headneck_ct", True), ("hippocampus_mr", True), ("sarcoma_pet_ct_mr", False)):
        tuned = records.few_labels.lead_over(groups[group])["tuned"]
        fewest, most = sorted(count for _, count in tuned)
        assert (fewest == 1) and not decided(tuned["scratch", 1]) and decided(tuned["scratch", most]) is decides
    probe = records.few_labels.lead_over(groups["sarcoma_pet_ct_mr"])["probe"]
    assert probe["untrained", 1][2] < 0 and not decided(probe["untrained", 3])


def test_the_words_about_other_methods_hold():
    gains = records.method_gains()
    assert sum(gain[0] > 0 for _, gain in gains.values()) > len(gains) / 2
    assert all(best not in ("s2dc", *OWN) for best, _ in gains.values())
    tuned = shown_items(method_results())["fine-tuned, 3 labelled"]
    others = others_in(tuned)
    assert sum(gain_over(tuned, name, "untrained")[1] > 0 for name in others) < len(others) / 2


def test_numbers_are_those_of_the_record():
    """By hand, from the file: what the table says of twelve labels and of a nearest token."""
    weights = records.ablation.__file__.replace("studies/ablation.py", "library/weights/")
    runs = read_json(Path(weights) / "transfer.json")["questions"]["organs"]["scores"]["1.00"]["scratch"]
    dice = [sum(case["Dice"] for case in run.values()) / len(run) for run in runs]
    assert numbers()["scratch with 12"] == f"{100 * sum(dice) / len(dice):.1f}"
    pairs = read_json(Path(weights) / "another_patient.json")["groups"]["ct"]["raw"][0]["whole"]
    nearest = [sum(pair["dice"]["nearest"].values()) / len(pair["dice"]["nearest"]) for pair in pairs]
    assert numbers()["raw nearest"] == f"{sum(nearest) / len(nearest):.2f}"
