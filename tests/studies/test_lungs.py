"""The study of lungs: read once, kept, and what it counts."""

import pytest

from s2dc_core.downstream.generated import lung_lesson
from s2dc_core.library import lung_results
from s2dc_core.studies import lungs, study
from s2dc_core.studies.__main__ import main
from s2dc_core.training.records import read_json

GRID = {"shape": (48, 32, 48), "spacing": (7.5, 7.5, 7.5)}


@pytest.fixture
def small(monkeypatch):
    """Six bodies to learn from and three to be scored, small ones."""
    monkeypatch.setattr(study, "in_processes", lambda work, jobs, _: [work(*job) for job in jobs])
    monkeypatch.setattr(lungs, "TRAINING", range(6))
    monkeypatch.setattr(lungs, "SCORED", range(1000, 1003))
    monkeypatch.setattr(lungs, "_size", lambda: [32, 32, 32])
    lesson = lung_lesson(range(6), range(1000, 1003), **GRID)
    monkeypatch.setattr(lungs, "_lesson", lambda: lesson)


def test_a_study_of_random_weights_from_bodies_to_its_record(small, monkeypatch, tmp_path):
    command = ["lungs", str(tmp_path), "--only", "untrained", "--seeds", "2"]
    assert main(command) == 0
    record = read_json(tmp_path / "lungs.json")
    assert record["is"] == [1, 2, 0] and record["labelled"] == {"0.10": 3, "0.50": 3, "1.00": 6}
    assert all(set(said) <= {0, 1, 2} for run in record["said"]["untrained"] for said in run.values())
    assert record["said"]["untrained"][0] != record["said"]["untrained"][1]
    before = {file: file.stat().st_mtime_ns for file in tmp_path.glob("*seed*")}
    main(command)
    assert len(before) == 2 and all(file.stat().st_mtime_ns == time for file, time in before.items())
    monkeypatch.setattr(lungs, "_size", lambda: [64, 64, 64])
    with pytest.raises(ValueError, match="followed another recipe"):
        lungs.answer("untrained", 0, tmp_path, tmp_path)


def test_accuracy_is_the_share_that_is_right_and_gains_are_paired():
    said = {"s2dc": [{"1.00": [0, 1, 2, 0]}, {"1.00": [0, 1, 1, 1]}], "untrained": [{"1.00": [0, 0, 0, 0]}] * 2}
    record = {"is": [0, 1, 2, 0], "said": said}
    assert lungs.accuracies(record, "s2dc", "1.00") == [1.0, 0.5]
    assert lungs.paired_gain(record, "1.00")[0] == pytest.approx(0.25)


def test_the_shipped_record_learns_with_labels():
    """What notebook 09 says of it: more labels, more right, and S2DC ahead in each mean."""
    record = lung_results()
    for arm in lungs.ARMS:
        means = [sum(lungs.accuracies(record, arm, share)) for share in record["labelled"]]
        assert means == sorted(means) and len(record["said"][arm]) == len(record["seeds"]) == 5
    assert all(lungs.paired_gain(record, share)[0] > 0 for share in record["labelled"])
