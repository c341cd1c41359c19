"""The study of labels carried to another patient: what it writes, keeps and compares."""

import shutil
from argparse import Namespace

import pytest

from s2dc_core.data import body_coordinates, open_scan
from s2dc_core.evaluation import half
from s2dc_core.library.results import WEIGHTS
from s2dc_core.studies import STUDIES, another_patient, patients
from s2dc_core.studies.another_patient import Weights, answer, collect, encoder_of, score_group
from s2dc_core.training.records import read_json

LOOK = {"shape": (32, 24, 40), "spacing": (10.0, 10.0, 10.0)}


@pytest.fixture
def small(monkeypatch, tmp_path):
    """Two small bodies a group, and the encoder that ships as that of seed 0."""
    opened = lambda group, name, data: open_scan(  # noqa: E731
        patients.GENERATED[group][0], seed=int(name), varied=patients.GENERATED[group][1], **LOOK
    )
    for module in (another_patient, patients):
        monkeypatch.setattr(module, "opened", opened)
    monkeypatch.setattr(another_patient, "members", lambda group: [1000, 1001])
    monkeypatch.setattr(another_patient, "CHOOSING", (900, 901))
    monkeypatch.setattr(patients, "_coordinates", lambda body: body_coordinates(body, **LOOK))
    patients._partners.cache_clear()
    shutil.copyfile(WEIGHTS / "s2dc.safetensors", tmp_path / "s2dc_seed0.safetensors")
    yield tmp_path
    patients._partners.cache_clear()


def test_an_arm_is_scored_once_and_collected(small):
    folder = small / "patients"
    folder.mkdir()
    answer("raw", 0, "ct_varied", folder, small, None)
    answer("s2dc", 0, "ct_varied", folder, small, None)
    file = folder / "ct_varied_raw_seed0.json"
    before = file.stat().st_mtime_ns
    answer("raw", 0, "ct_varied", folder, small, None)
    assert file.stat().st_mtime_ns == before, "what lies there is kept"
    collect(folder)
    record = read_json(folder / "another_patient.json")
    assert set(record["groups"]["ct_varied"]) == {"raw", "s2dc"}
    assert set(record["weights"]) == {"raw", "s2dc"} and record["weights"]["raw"]["metric"] == "euclidean"
    (scores,) = record["groups"]["ct_varied"]["s2dc"]
    assert "landmarks_mm" in scores["whole"][0] and "landmarks_mm" not in scores["half"][0]
    assert list(scores) == ["whole", "half"]
    for pairs in scores.values():
        assert [(pair["labelled"], pair["target"]) for pair in pairs] == [(1000, 1001), (1001, 1000)]
        for pair in pairs:
            assert set(pair["dice"]) == {"nearest", "place", "aligned", "deformed", "finer"}
            assert all(0 <= value <= 1 for values in pair["dice"].values() for value in values.values())
            assert pair["body_mm"]["nearest"]["mean"] > 0


def test_another_question_in_the_folder_is_refused(small):
    folder = small / "patients"
    folder.mkdir()
    (folder / "ct_raw_seed0.json").write_text('{"recipe": {"arm": "raw", "seed": 0, "group": "ct", "members": [1]}}')
    with pytest.raises(ValueError, match="recipe"):
        answer("raw", 0, "ct", folder, small, None)


def test_what_needs_no_features(small, monkeypatch):
    monkeypatch.setattr(another_patient, "conditions_of", lambda group: ("half",))
    found = score_group("baselines", 0, "ct", Weights(), small, None)
    for pair in found["half"]:
        assert set(pair["dice"]) == {"place alone", "centroids", "affine", "bspline"}
        assert set(pair["voxel_dice"]) == set(pair["surface_dice"]) == set(pair["body_mm"]) == {"affine", "bspline"}
        assert all(pair["body_mm"][kind]["mean"] < 200 for kind in ("affine", "bspline"))


def test_partners_are_those_that_the_field_of_view_shows(small):
    scan = patients.opened("ct", 1001, None)
    shown = half(scan, upper=True)
    known, seen = (patients.partners_of(1000, 1001, each) for each in (scan, shown))
    assert 0 < len(seen.target_mm) < len(known.target_mm)
    assert seen.target_mm[:, 2].min() >= shown.affine[2, 3] - LOOK["spacing"][2] / 2


def test_the_untrained_arm_is_the_start_of_its_seed(tmp_path):
    one, same, other = (encoder_of("untrained", seed, tmp_path) for seed in (0, 0, 1))
    weights = [next(encoder.parameters()) for encoder in (one, same, other)]
    assert (weights[0] == weights[1]).all() and not (weights[0] == weights[2]).all()


def test_scores_are_rounded_and_named_by_text():
    scores = {"dice": {"nearest": {1: 0.123456}}, "body_mm": {"nearest": {"mean": 3.14159}}, "inliers": 7}
    assert another_patient.rounded(scores) == {
        "dice": {"nearest": {"1": 0.1235}},
        "body_mm": {"nearest": {"mean": 3.14}},
        "inliers": 7,
    }


def test_jobs_are_whole_groups_and_real_scans_only_with_their_folder(tmp_path):
    options = {"folder": tmp_path, "encoders": None, "seeds": 2, "arms": ["raw", "s2dc"], "only": ["ct", "headneck_ct"]}
    jobs = STUDIES["another_patient"].jobs(Namespace(**options, data=None))
    assert [job[:3] for job in jobs] == [("raw", 0, "ct"), ("s2dc", 0, "ct"), ("s2dc", 1, "ct")]
    with_scans = STUDIES["another_patient"].jobs(Namespace(**options, data=tmp_path))
    assert {job[2] for job in with_scans} == {"ct", "headneck_ct"}
