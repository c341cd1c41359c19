"""Records are JSON whatever numbers they hold, and what a study left is only kept if it is of the same recipe."""

import json
import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from s2dc_core.library import results as shipped
from s2dc_core.studies import ablation, few_labels, transfer
from s2dc_core.studies import arms as study
from s2dc_core.studies import real_scans as real
from s2dc_core.training.records import as_json, kept_record, read_json, with_nan, write_json
from tests.training.test_checkpoints import SHORT

STRANGE = {"a": math.nan, "b": [math.inf, {"c": (-math.inf, 1.5)}], "d": None, "e": "NaN", "f": 3}


def refuse(constant):
    raise AssertionError(f"{constant} is no JSON")


def test_a_record_has_null_where_there_is_no_number(tmp_path):
    write_json(tmp_path / "a.json", STRANGE)
    expected = {"a": None, "b": [None, {"c": [None, 1.5]}], "d": None, "e": "NaN", "f": 3}
    assert (
        json.loads((tmp_path / "a.json").read_text(), parse_constant=refuse) == expected == json.loads(as_json(STRANGE))
    )
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


def test_scores_get_their_nan_back():
    scores = {"case": {"Dice": None, "liver": 0.5}, "other": [None, {"Dice": 1.0}]}
    found = with_nan(scores)
    assert math.isnan(found["case"]["Dice"]) and found["case"]["liver"] == 0.5
    assert math.isnan(found["other"][0]) and found["other"][1] == {"Dice": 1.0}


def test_the_results_that_the_notebooks_read_have_nan_for_null(tmp_path, monkeypatch):
    lost, run = {"patient": {"Dice": None}}, {"patient": [{"Dice": None}]}
    write_json(
        tmp_path / shipped.TRANSFER, {"questions": {"q": {"recipe": {"clip": None}, "scores": {"1": {"s2dc": [lost]}}}}}
    )
    write_json(tmp_path / shipped.FEW_LABELS, {"groups": {"g": {"target": None, "tuned": {"1": {"s2dc": run}}}}})
    monkeypatch.setattr(shipped, "WEIGHTS", tmp_path)
    shipped.read_result.cache_clear()
    question = shipped.transfer_results()["questions"]["q"]
    assert math.isnan(question["scores"]["1"]["s2dc"][0]["patient"]["Dice"]) and question["recipe"]["clip"] is None
    assert math.isnan(transfer.per_seed(question["scores"]["1"]["s2dc"], "Dice")[0])
    group = shipped.few_label_results()["groups"]["g"]
    assert (
        math.isnan(few_labels.per_patient(group["tuned"]["1"]["s2dc"], "Dice")["patient"]) and group["target"] is None
    )
    shipped.read_result.cache_clear()


def test_a_record_is_kept_only_for_its_own_recipe(tmp_path):
    file, recipe = tmp_path / "a.json", {"steps": 3, "levels": (1, 2), "clip": None, "labels": {1: "liver"}}
    assert kept_record(file, recipe) is None
    write_json(file, {"recipe": recipe, "scores": 1})
    assert kept_record(file, recipe)["scores"] == 1
    for other in ({**recipe, "steps": 4}, {**recipe, "seed": 1}, {"steps": 3}):
        with pytest.raises(ValueError, match=r"a.json followed another recipe: give a new folder"):
            kept_record(file, other)
    with pytest.raises(ValueError, match=r"another recipe: give a new folder .differing: steps."):
        kept_record(file, {**recipe, "steps": 4})
    write_json(file, {"scores": 1})
    with pytest.raises(ValueError, match="a.json followed another recipe: give a new folder"):
        kept_record(file, recipe)


# Each study


@pytest.fixture
def recipes(monkeypatch):
    """Recipes whose steps a test can change."""
    asked = SimpleNamespace(steps=1)

    def recipe_of(arm, *rest):
        seed = next(each for each in rest if isinstance(each, int))
        return replace(SHORT, steps=asked.steps, seed=seed)

    for module in (study, ablation, real):
        monkeypatch.setattr(module, "recipe_of", recipe_of)
    return asked


def again(work, recipes):
    """Done, kept, and refused for another recipe."""
    work()
    work()
    recipes.steps = 2
    with pytest.raises(ValueError, match="followed another recipe"):
        work()
    recipes.steps = 1


def test_measured_arms_are_of_the_recipe(recipes, tmp_path, monkeypatch):
    measured = []
    monkeypatch.setattr(study, "measure", lambda encoder, levels: measured.append(levels) or {})
    again(lambda: study.measure_arm("untrained", "any", 0, tmp_path), recipes)
    assert len(measured) == 1
    monkeypatch.setattr(study, "UNSEEN_BODIES", (1000, 1001))
    with pytest.raises(ValueError, match=r"another recipe: give a new folder .differing: bodies."):
        study.measure_arm("untrained", "any", 0, tmp_path)


def test_measured_rows_are_of_the_recipe(recipes, tmp_path, monkeypatch):
    monkeypatch.setattr(
        ablation, "pretrain_row", lambda name, seed, folder, recipe: ablation.file_of(name, seed, folder)
    )
    monkeypatch.setattr(ablation, "open_weights", lambda file: None)
    monkeypatch.setattr(ablation, "measure", lambda encoder, levels: {})
    monkeypatch.setattr(ablation, "probe_scores", lambda encoder, levels, seed: {})
    lesson = SimpleNamespace(training=SimpleNamespace(share=lambda *_: None), _replace=lambda training: None)
    monkeypatch.setattr(ablation, "_lesson", lambda: lesson)
    scores = SimpleNamespace(scores=SimpleNamespace(cases={"a": {"Dice": math.nan}}))
    monkeypatch.setattr(ablation, "finetune", lambda config, lesson, progress: scores)
    again(lambda: ablation.measure_row("S2DC", 0, tmp_path), recipes)
    assert read_json(tmp_path / "tuned_S2DC_seed0.json")["dice"] == {"a": {"Dice": None}}
    monkeypatch.setattr(ablation, "TUNED", 2)
    with pytest.raises(
        ValueError, match=r"tuned_S2DC_seed0.json followed another recipe: give a new folder .differing: labelled."
    ):
        ablation.measure_row("S2DC", 0, tmp_path)
    moved = tmp_path / "moved"
    moved.mkdir()
    for file in tmp_path.glob("*.json"):
        file.rename(moved / file.name)
    monkeypatch.setattr(ablation, "TUNED", 3)
    ablation.measure_row("S2DC", 0, moved)  # a study's folder may be moved


def test_few_labels_are_of_the_same_seeds_patients_and_weights(tmp_path, monkeypatch):
    group = {"labels": {1: "low"}, "images": {"": "ct"}, "halves": [["a"], ["b"]], "labelled": [1], "region": [32] * 3}
    monkeypatch.setattr(few_labels, "load_groups", lambda: {"lumps": group | {"source": "made here"}})
    monkeypatch.setattr(few_labels, "probe", lambda *_: {"1": {}})
    monkeypatch.setattr(few_labels, "tune", lambda *_: {"1": {}})
    for how, arm, seeds in (("probe", "s2dc", [0, 1]), ("probe", "untrained", [0, 1]), ("tuned", "scratch", [0])):
        job = (how, "lumps", arm)
        few_labels.answer(*job, seeds, tmp_path, tmp_path)
        few_labels.answer(*job, seeds, tmp_path, tmp_path)
        with pytest.raises(ValueError, match=r"another recipe: give a new folder .differing: seeds."):
            few_labels.answer(*job, [*seeds, 7], tmp_path, tmp_path)
        with monkeypatch.context() as changed:
            changed.setitem(group, "halves", [["a"], ["c"]])
            with pytest.raises(ValueError, match=r"another recipe: give a new folder .differing: group."):
                few_labels.answer(*job, seeds, tmp_path, tmp_path)
    monkeypatch.setattr(few_labels, "shipped_record", lambda arm: {"recipe": {"steps": 9}})
    with pytest.raises(ValueError, match=r"another recipe: give a new folder .differing: pretraining."):
        few_labels.answer("probe", "lumps", "s2dc", [0, 1], tmp_path, tmp_path)


def test_real_scans_are_of_the_recipe_and_so_are_the_studys_encoders(recipes, tmp_path, monkeypatch):
    groups = {"lumps": {"modality": "ct", "spacing": [1, 1, 1], "splits": [{"trained": ["a"], "measured": ["b"]}]}}
    monkeypatch.setattr(real, "load_groups", lambda: groups)
    monkeypatch.setattr(real, "open_real", lambda *_: None)
    monkeypatch.setattr(real, "measure_scans", lambda *_: {})
    monkeypatch.setattr(real, "export_half", lambda *_: None)
    encoder = SimpleNamespace(model=SimpleNamespace(student=SimpleNamespace(encoder=None)))
    monkeypatch.setattr(real, "pretrain", lambda *_: encoder)
    again(lambda: real.train_on_real("s2dc", "any", 0, "lumps", 0, tmp_path, tmp_path), recipes)
    monkeypatch.setattr(real, "open_weights", lambda file: torch.nn.Linear(1, 1))
    write_json(tmp_path / "s2dc_seed0.json", {"recipe": real.recipe_of("s2dc", "any", 0).as_dict()})
    assert isinstance(real._of_study("s2dc", "any", 0, tmp_path), torch.nn.Linear)
    recipes.steps = 5
    with pytest.raises(
        ValueError, match=r"s2dc_seed0.json followed another recipe: give a new folder .differing: steps."
    ):
        real._of_study("s2dc", "any", 0, tmp_path)


def test_transfer_is_of_the_weights_of_today(tmp_path, monkeypatch):
    result = SimpleNamespace(scores=SimpleNamespace(cases={"a": {"Dice": math.nan}}), history=[1.0])
    monkeypatch.setattr(transfer, "finetune", lambda *_, **__: result)
    labelled = SimpleNamespace(
        training=SimpleNamespace(share=lambda *_: SimpleNamespace(names=["b"])), _replace=lambda **_: None
    )
    monkeypatch.setattr(transfer, "_lesson", lambda name: labelled)
    job = ("organs", 1.0, "s2dc", 0, tmp_path)
    transfer.answer(*job)
    transfer.answer(*job)
    assert read_json(next(tmp_path.iterdir()))["scores"] == {"a": {"Dice": None}}
    monkeypatch.setattr(transfer, "shipped_record", lambda arm: {"recipe": {"steps": 9}})
    with pytest.raises(ValueError, match=r"another recipe: give a new folder .differing: pretraining."):
        transfer.answer(*job)
