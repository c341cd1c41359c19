"""Other trainings of S2DC: what decides each, and that a training is kept, and gone on with, by its recipe."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from s2dc_core.studies import trainings
from s2dc_core.studies.trainings import TRAININGS, Training, train
from s2dc_core.training.records import read_json


@pytest.fixture
def small(monkeypatch):
    """A training of three steps on one small generated body."""
    short = Training(steps=3, bodies=(0,), marks=(2,))
    monkeypatch.setattr(trainings, "TRAININGS", {"long": short, "varied": replace(short, varied=True, marks=())})
    monkeypatch.setattr(trainings, "TRAINING_IMAGES", ("phantom_ct",))
    opened = trainings.open_scan
    small_scan = {"shape": (48, 40, 48), "spacing": (8.0, 8.0, 8.0)}
    monkeypatch.setattr(trainings, "open_scan", lambda image, **how: opened(image, **how, **small_scan))


def test_a_training_is_kept_on_the_way_and_once_it_is_done(small, tmp_path):
    train("long", 0, tmp_path, None)
    way, end = (load_file(tmp_path / f"long_{name}.safetensors") for name in ("at_00002", "seed0"))
    assert way.keys() == end.keys() and any(not torch.equal(way[key], end[key]) for key in end)
    record = read_json(tmp_path / "long_seed0.json")
    assert record["recipe"]["bodies"] == [0] and record["recipe"]["pretraining"]["steps"] == 3
    before = (tmp_path / "long_seed0.safetensors").stat().st_mtime_ns
    train("long", 0, tmp_path, None)
    assert (tmp_path / "long_seed0.safetensors").stat().st_mtime_ns == before


def test_what_lies_there_of_other_scans_is_refused(small, monkeypatch, tmp_path):
    train("varied", 0, tmp_path, None)
    other = {"varied": replace(trainings.TRAININGS["varied"], varied=False)}
    monkeypatch.setattr(trainings, "TRAININGS", other)
    with pytest.raises(ValueError, match="varied"):
        train("varied", 0, tmp_path, None)


def test_trainings_differ_from_the_shipped_one_in_what_they_say():
    plain = Training().recipe(0)
    assert TRAININGS["varied"].recipe(0) == plain and TRAININGS["varied"].described() != Training().described()
    views = TRAININGS["intensity"].recipe(0).options.views
    assert (views.intensity_scale, views.intensity_shift) == (0.3, 0.3)
    assert replace(views, intensity_scale=0.0, intensity_shift=0.0) == plain.options.views
    first, second = (TRAININGS[f"patients_{half}"].described()["patients"] for half in ("first", "second"))
    assert len(first) == len(second) == 4 and not set(first) & set(second)
