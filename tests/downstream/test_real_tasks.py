"""Fine-tuning on real scans, where S2DC_DATA names them: 16 hippocampi of the Decathlon, cut out, with two parts."""

import os
from pathlib import Path

import pytest

from s2dc_core.data import load_scan
from s2dc_core.downstream import Downstream, Example, Examples, FinetuneConfig, Segmentation, finetune

DATA = Path(os.environ.get("S2DC_DATA", ""))
NEEDED = pytest.mark.skipif("S2DC_DATA" not in os.environ, reason="S2DC_DATA names no folder of real scans")


def hippocampus(entry):
    name = entry["name"]
    scan = load_scan(DATA / f"{name}.nii.gz", DATA / f"{name}_seg.nii.gz", modality="mr")
    return Example(name, scan.volume, scan.label, scan.background, scan.affine)


@NEEDED
def test_hippocampi_of_other_patients_are_found():
    names = [f"brain_hippocampus_{k:02d}" for k in range(1, 17)]
    training, scored = (Examples([{"name": name} for name in part], hippocampus) for part in (names[:6], names[12:]))
    config = FinetuneConfig.from_recipe("teaching", region=(64, 64, 32), pad=True, steps=40, weights="s2dc")
    lesson = Downstream(Segmentation({1: "anterior", 2: "posterior"}), training, scored)
    result = finetune(config, lesson, progress=False)
    assert len(result.scores.cases) == 4 and result.scores.value > 0.5
