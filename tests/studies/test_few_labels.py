"""The study of few labels on real scans: who is scored teaches nothing, pairs are patients, what lies there stays."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from s2dc_core.downstream import Example, Examples
from s2dc_core.studies import few_labels
from s2dc_core.studies.few_labels import by_seed, lead_over, load_groups, paired, per_patient

GROUP = {
    "images": {"": "ct"},
    "spacing": [1, 1, 1],
    "labels": {1: "low", 2: "high"},
    "halves": [["a", "b"], ["c", "d"]],
    "labelled": [1, 2],
    "region": [64, 32, 32],
    "source": "made here",
}


def lumps(entry, channels=1):
    generator = torch.Generator().manual_seed(ord(entry["name"]))
    truth = torch.zeros(32, 32, 32, dtype=torch.int32)
    truth[:12], truth[20:] = 1, 2
    image = truth[None].float() - 1 + 0.1 * torch.randn(channels, 32, 32, 32, generator=generator)
    return Example(entry["name"], image, truth, -1.0, np.eye(4))


@pytest.fixture
def small(monkeypatch):
    """One group of four made-up patients."""
    halves = [Examples([{"name": name} for name in names], lumps) for names in GROUP["halves"]]
    monkeypatch.setattr(few_labels, "load_groups", lambda: {"lumps": GROUP})
    monkeypatch.setattr(few_labels, "_half", lambda name, half, data: halves[half])


def test_no_patient_is_in_both_halves_and_every_group_names_its_source():
    for group in load_groups().values():
        first, second = map(set, group["halves"])
        assert group["source"] and not first & second and len(first) == len(second)
        assert all(0 < count <= len(first) for count in group["labelled"])
        assert ("labels" in group) != ("target" in group)


def test_every_patient_is_scored_once_a_seed_for_every_number_of_labels(small):
    found = few_labels.probe("lumps", "s2dc", (0, 1), Path())
    assert set(found) == {"1", "2"}
    for patients in found.values():
        assert sorted(patients) == ["a", "b", "c", "d"]
        assert all(len(runs) == 2 and set(runs[0]) == {"1", "2"} for runs in patients.values())
    assert min(per_patient(found["2"]).values()) > 0.8


def test_who_is_scored_teaches_nothing(small, monkeypatch):
    """The labels of the other half alone decide: turned round there, they come out turned round."""
    asked = []
    real = few_labels.fit_probe

    def fit(parts):
        asked.append(len(parts))
        return real([(features, np.where(owner > 0, 3 - owner, 0)) for features, owner in parts])

    monkeypatch.setattr(few_labels, "fit_probe", fit)
    found = few_labels.probe("lumps", "s2dc", (0,), Path())
    assert asked == [1, 2, 1, 2] and max(per_patient(found["2"]).values()) < 0.2


def test_channels_are_encoded_one_by_one_and_joined():
    encoder = few_labels.open_weights("untrained")
    single, double = (lumps({"name": "a"}, channels) for channels in (1, 2))
    [(one, owner)] = few_labels._channel_tokens(encoder, Examples([{"name": "a"}], lambda entry: single), (1,))
    [(two, same)] = few_labels._channel_tokens(encoder, Examples([{"name": "a"}], lambda entry: double), (1,))
    assert two.shape == (one.shape[0], 2 * one.shape[1]) and (owner == same).all()


def test_a_study_is_collected_from_what_lies_there(small, tmp_path, monkeypatch):
    monkeypatch.setattr(few_labels, "PROBED", ("untrained", "s2dc"))
    steps = few_labels.FinetuneConfig.from_recipe("teaching", steps=1)
    monkeypatch.setattr(few_labels.FinetuneConfig, "from_recipe", classmethod(lambda cls, name: steps))
    for arm in few_labels.PROBED:
        few_labels.answer("probe", "lumps", arm, [0], tmp_path, Path())
    for start in few_labels.TUNED:
        few_labels.answer("tuned", "lumps", start, [0], tmp_path, Path())
    times = {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    assert len(times) == 4
    few_labels.answer("probe", "lumps", "s2dc", [0], tmp_path, Path())
    assert all(file.stat().st_mtime_ns == time for file, time in times.items())
    few_labels.collect(["lumps"], [0], [0], tmp_path)
    group = json.loads((tmp_path / "few_labels.json").read_text())["groups"]["lumps"]
    assert group["source"] == "made here" and group["labels"] == {"1": "low", "2": "high"}
    assert sorted(group["probe"]["2"]["s2dc"]) == sorted(group["tuned"]["2"]["scratch"]) == ["a", "b", "c", "d"]
    assert all("Dice" in runs[0] for runs in group["tuned"]["1"]["s2dc"].values())


def test_means_are_over_labels_then_seeds_and_differences_over_patients():
    ours = {"a": [{"1": 0.4, "2": 0.6}, {"1": 0.8}], "b": [{"1": 0.5}]}
    assert per_patient(ours) == pytest.approx({"a": 0.65, "b": 0.5})
    assert per_patient(ours, "1") == pytest.approx({"a": 0.6, "b": 0.5})
    theirs = {"a": [{"1": 0.55}], "b": [{"1": 0.5}]}
    mean, low, high = paired({"s2dc": ours, "scratch": theirs}, "s2dc", "scratch")
    assert mean == pytest.approx(0.05) and low < 0 < high


def test_each_seed_has_a_difference_of_its_own():
    ours = {"a": [{"Dice": 0.5}, {"Dice": 0.9}], "b": [{"Dice": 0.7}, {"Dice": 0.7}]}
    theirs = {"b": [{"Dice": 0.6}, {"Dice": 0.6}], "a": [{"Dice": 0.2}, {"Dice": 1.0}]}
    scores = {"s2dc": ours, "scratch": theirs}
    assert by_seed(scores, "s2dc", "scratch", "Dice") == pytest.approx([0.2, 0.0])
    assert np.mean(by_seed(scores, "s2dc", "scratch", "Dice")) == pytest.approx(paired(scores, "s2dc", "scratch")[0])


def test_every_other_arm_is_compared_with_the_fewest_and_the_most_patients():
    def of(value, **more):
        return {patient: [{"Dice": value + shift, **more}] for patient, shift in (("a", 0.0), ("b", 0.1))}

    probe = {
        count: {"untrained": of(0.2), "s2dc": of(0.2 + gain)} for count, gain in (("10", 0.1), ("2", 0.3), ("4", 0))
    }
    tuned = {"2": {"scratch": of(0.5, invented=1.0), "s2dc": of(0.4, invented=0.0)}}
    found = lead_over({"probe": probe, "tuned": tuned})
    assert found["probe"] == {
        ("untrained", 2): pytest.approx((0.3, 0.3, 0.3)),
        ("untrained", 10): pytest.approx((0.1, 0.1, 0.1)),
    }
    assert found["tuned"] == {("scratch", 2): pytest.approx((-0.1, -0.1, -0.1))}


@pytest.mark.skipif("S2DC_DATA" not in os.environ, reason="S2DC_DATA names no folder of real scans")
@pytest.mark.parametrize("name", list(load_groups()))
def test_the_patients_that_the_study_names_open(name):
    group = load_groups()[name]
    example = few_labels.patients(group, group["halves"][0][:1], Path(os.environ["S2DC_DATA"]))[0]
    assert example.image.shape == (len(group["images"]), *example.truth.shape)
    assert example.truth.unique().numel() > 1
