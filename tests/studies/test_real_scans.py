"""The study on real scans: persons never cross a split, and what it writes is what it measured."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from s2dc_core.library import ARMS
from s2dc_core.pretraining import PretrainConfig
from s2dc_core.studies import arms as study
from s2dc_core.studies import real_scans as real
from s2dc_core.weights import export_encoder
from tests.pretraining.test_pretrain import CONFIG, blobs

TINY = replace(CONFIG, steps=2, levels=(0,), token_head="none")
GROUPS = {
    "lumps": {
        "modality": "ct",
        "spacing": [1, 1, 1],
        "splits": [{"trained": ["a"], "measured": ["b"]}, {"trained": ["b"], "measured": ["a"]}],
        "source": "none",
    }
}


def lumps(name, labelled):
    label = torch.zeros(24, 24, 24, dtype=torch.int32)
    label[:10], label[14:] = 1, 2
    return blobs(ord(name))._replace(label=label if labelled else None, affine=torch.eye(4).numpy(), name=name)


def test_no_person_is_trained_on_and_measured_in_one_split_and_every_group_names_its_source():
    for group in real.load_groups().values():
        assert group["source"] and len(group["spacing"]) == 3
        measured = [scan for split in group["splits"] for scan in split["measured"]]
        assert len(measured) == len(set(measured))
        for split in group["splits"]:
            assert split["trained"] and not set(split["trained"]) & set(split["measured"])


def test_both_kinds_of_training_are_measured(monkeypatch, tmp_path):
    monkeypatch.setattr(PretrainConfig, "from_recipe", classmethod(lambda cls, recipe, **overrides: TINY))
    monkeypatch.setattr(real, "load_groups", lambda: GROUPS)
    opened = []

    def open_lumps(folder, name, group, labelled):
        opened.append((name, labelled))
        return lumps(name, labelled)

    monkeypatch.setattr(real, "open_real", open_lumps)
    (tmp_path / "weights").mkdir()
    for seed in (0, 1):
        export_encoder(
            study.recipe_of("s2dc", "any", seed).build().student.encoder, tmp_path / f"s2dc_seed{seed}.safetensors"
        )
    for split in (0, 1):
        real.train_on_real("s2dc", "any", 0, "lumps", split, tmp_path, tmp_path)
    # Training sees no labels.
    assert opened[:2] == [("a", False), ("b", True)] and opened[2:] == [("b", False), ("a", True)]
    real.collect_real(["s2dc"], "any", (0, 1), (0,), tmp_path, tmp_path)
    found = json.loads((tmp_path / "weights" / "real.json").read_text())
    group = found["groups"]["lumps"]
    assert [sorted(run) for run in group["phantoms"]["s2dc"]] == [["a", "b"]] * 2
    assert group["phantoms"]["s2dc"] == group["phantoms"]["untrained"]  # their encoders are the untrained ones here
    assert len(group["scans"]["s2dc"]) == 1 and set(group["scans"]["s2dc"][0]["a"]) == {"1", "2"}
    assert found["seeds"] == {"phantoms": [0, 1], "scans": [0]}


@pytest.mark.skipif("S2DC_DATA" not in os.environ, reason="S2DC_DATA names no folder of real scans")
def test_the_scans_that_the_study_names_open():
    folder = Path(os.environ["S2DC_DATA"])
    for group in real.load_groups().values():
        split = group["splits"][0]
        assert real.open_real(folder, split["measured"][0], group, True).label.max() > 1
        assert real.open_real(folder, split["trained"][0], group, False).label is None
    assert set(ARMS) == {"contrast", "p2p", "p2s", "s2dc"}
