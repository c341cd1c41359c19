"""The study of what pre-training gives: resumable, paired, and what the notebooks read of it."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from s2dc_core.downstream import FinetuneConfig
from s2dc_core.downstream.generated import organ_lesson
from s2dc_core.library import transfer_results
from s2dc_core.studies import transfer
from s2dc_core.studies.transfer import Question, paired_gains, per_seed
from s2dc_core.training.records import write_json

GRID = {"shape": (48, 32, 48), "spacing": (7.5, 7.5, 7.5)}
SMALL = {"steps": 1, "region": (64, 32, 32), "pad": True}


@pytest.fixture
def small(monkeypatch):
    """One question that takes seconds."""

    def lesson():
        return organ_lesson(range(2), [1000], labels={6: "liver"}, **GRID)

    questions = {"organs": Question(lesson, (0.5, 1.0), SMALL), "organs, arms": Question(lesson, (0.5,), SMALL)}
    monkeypatch.setattr(transfer, "QUESTIONS", questions)
    transfer._lesson.cache_clear()
    yield
    transfer._lesson.cache_clear()


def test_starts_differ_by_their_weights_and_the_encoders_rate_alone():
    question = transfer.QUESTIONS["organs"]
    scratch, ours = (transfer.recipe_for(question, start, 3) for start in ("scratch", "s2dc"))
    assert replace(ours, weights="", encoder_rate=1.0) == scratch and scratch.seed == 3
    assert (scratch.weights, ours.weights) == ("", "s2dc")


def test_a_study_is_gone_on_with_and_not_mixed(small, tmp_path, monkeypatch):
    jobs = transfer.jobs_of(["organs"], range(2), tmp_path)
    assert len(jobs) == 8 and [job[3] for job in jobs] == [0] * 4 + [1] * 4
    for job in jobs[:6]:
        transfer.answer(*job)
    transfer.collect(["organs", "organs, arms"], range(2), tmp_path)
    found = json.loads((tmp_path / "transfer.json").read_text())["questions"]
    assert found["organs"]["seeds"] == [0] and found["organs"]["labelled"] == {"0.50": 1, "1.00": 2}
    assert found["organs, arms"]["scores"]["0.50"] == found["organs"]["scores"]["0.50"] or found["organs, arms"][
        "seeds"
    ] == [0, 1]
    times = {file: file.stat().st_mtime_ns for file in tmp_path.glob("*seed*.json")}
    assert len(times) == 6
    for job in jobs:
        transfer.answer(*job)
    assert all(file.stat().st_mtime_ns == time for file, time in times.items())
    assert len(list(tmp_path.glob("*seed*.json"))) == 8
    longer = {"organs": transfer.QUESTIONS["organs"]._replace(recipe={**SMALL, "steps": 2})}
    monkeypatch.setattr(transfer, "QUESTIONS", longer)
    with pytest.raises(ValueError, match="followed another recipe"):
        transfer.answer(*jobs[0])


def test_means_and_gains():
    runs = {
        "scratch": [{"a": {"Dice": 0.2}, "b": {"Dice": 0.4}}, {"a": {"Dice": 0.5}, "b": {"other": 1.0}}],
        "s2dc": [{"a": {"Dice": 0.6}, "b": {"Dice": 0.4}}, {"a": {"Dice": 0.6}, "b": {"Dice": 0.8}}],
    }
    assert per_seed(runs["scratch"], "Dice") == pytest.approx([0.3, 0.5]) and math.isnan(per_seed(runs["s2dc"], "x")[0])
    mean, low, high = paired_gains(runs, "Dice")["scratch"]
    assert mean == pytest.approx(0.2) and (low, high) == pytest.approx((0.2, 0.2))


def test_what_comes_with_the_course_is_whole():
    """Every number of the study as it lies in the repository: shares, starts, seeds, and scores in their range."""
    questions = transfer_results()["questions"]
    assert {"organs", "organs, arms"} <= set(questions) <= set(transfer.QUESTIONS)
    for name, question in questions.items():
        asked = transfer.QUESTIONS[name]
        assert set(question["scores"]) == {f"{share:.2f}" for share in asked.shares}
        assert len(question["seeds"]) >= 2
        assert FinetuneConfig.from_dict(question["recipe"]) == transfer.recipe_for(
            asked, "scratch", question["seeds"][0]
        )
        for starts in question["scores"].values():
            assert set(starts) == set(asked.starts)
            values = [
                case["Dice"] for runs in starts.values() for cases in runs for case in cases.values() if "Dice" in case
            ]
            assert all(len(runs) == len(question["seeds"]) for runs in starts.values())
            assert np.all((np.array(values) >= 0) & (np.array(values) <= 1))


def test_answers_to_questions_that_were_not_asked_again_are_kept(tmp_path):
    study = {"versions": {"torch": "1"}, "questions": {"organs": {"seeds": [7]}, "new": {"seeds": [0, 1]}}}
    write_json(tmp_path / "transfer.json", study)
    transfer.keep_answers(tmp_path / "transfer.json")
    found = json.loads((tmp_path / "transfer.json").read_text())
    assert found["versions"] == {"torch": "1"}
    assert found["questions"]["organs"] == {"seeds": [7]} and found["questions"]["new"] == {"seeds": [0, 1]}
    lungs = found["questions"]["lungs"]
    assert lungs["scores"] == transfer_results()["questions"]["lungs"]["scores"] and "torch" in lungs["versions"]
