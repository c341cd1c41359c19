"""A wheel alone, without the checkout it was built from, is the whole product: code, weights, manifests, command."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import yaml

from s2dc_core.data import load_all, make_phantom
from s2dc_core.library import SHIPPED
from tests.pretraining.test_pretrain import CONFIG

ROOT = Path(__file__).resolve().parents[1]
ALONE = """
import json, sys
from s2dc_core.cli import main
from s2dc_core.library import SHIPPED, open_snapshot, open_weights, shipped_record, snapshot_steps

assert main(["data", "list"]) == 0
encoders = {name: open_weights(name) for name in ("untrained", *SHIPPED)}
encoders |= {str(step): open_snapshot(step) for step in snapshot_steps()}
modules = {name: getattr(module, "__file__", None) for name, module in sys.modules.items()}
print(json.dumps({
    "weights": {name: sum(weight.numel() for weight in found.parameters()) for name, found in encoders.items()},
    "steps": [shipped_record(arm)["steps"] for arm in SHIPPED],
    "files": sorted({file for name, file in modules.items() if file and name.split(".")[0] == "s2dc_core"}),
    "loaded": sorted({name.split(".")[0] for name in modules}),
}))
"""
EXTRAS = {"jupyterlab", "ipywidgets", "ipyniivue", "anywidget", "papermill", "nbconvert", "pytest", "hypothesis"}
"""Packages that only the extras bring; an empty environment has none of them."""


def call(*command, folder: Path) -> str:
    """What a command prints, from an empty folder and without a way to the checkout."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(list(map(str, command)), cwd=folder, env=clean, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def files_of_the_checkout() -> set[str]:
    """All that a wheel must hold, by its name there."""
    code = (file for file in (ROOT / "s2dc_core").rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    names = {file.relative_to(ROOT).as_posix() for file in code}
    return names | {f"s2dc_core/data/manifests/{file.name}" for file in (ROOT / "data_manifests").glob("*.json")}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy, because a build leaves its folders beside the code."""
    copy, out = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("wheel")
    for name in ("s2dc_core", "data_manifests"):
        shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    options = ["--no-deps", "--no-index", "--no-build-isolation", "--quiet", "--wheel-dir", out]
    call(sys.executable, "-m", "pip", "wheel", *options, copy, folder=out)
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory) -> Path:
    """The bin folder of an environment with the wheel, and with the packages, but not the checkout, of this one."""
    place = tmp_path_factory.mktemp("environment")
    call(sys.executable, "-m", "venv", "--without-pip", place, folder=place)
    python = place / "bin" / "python"
    own = Path(call(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", folder=place).strip())
    # A folder named in a .pth file is searched after the environment's own, and its .pth files, by which an editable
    # installation leads to the checkout, are not read.
    (own / "packages.pth").write_text(sysconfig.get_path("purelib") + "\n")
    call(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel, folder=place)
    return place / "bin"


@pytest.mark.slow
def test_the_wheel_holds_every_file_of_the_package(wheel):
    expected = files_of_the_checkout()
    assert len(expected) > 100
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert sorted(expected - held) == []
    assert sorted(held - expected) == []


@pytest.mark.slow
def test_it_opens_the_weights_and_the_manifests(environment, tmp_path):
    *listed, facts = call(environment / "python", "-I", "-c", ALONE, folder=tmp_path).splitlines()
    assert [name for name in load_all() if not any(name in line.split() for line in listed)] == []
    found = json.loads(facts)
    inside = environment.parent.resolve()
    assert found["files"] and all(Path(file).resolve().is_relative_to(inside) for file in found["files"])
    assert {"untrained", *SHIPPED} < set(found["weights"]) and len(set(found["weights"].values())) == 1
    assert len(found["steps"]) == len(SHIPPED) and min(found["steps"]) > 0
    assert sorted(EXTRAS & set(found["loaded"])) == []


@pytest.mark.slow
def test_its_command_says_what_a_run_will_cost(environment, tmp_path):
    body = make_phantom(0, "ct", shape=(24, 16, 24), spacing=(12.0, 12.0, 12.0))
    nib.save(nib.Nifti1Image(body.volume.astype(np.float32), body.affine), tmp_path / "scan.nii.gz")
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump({**CONFIG.as_dict(), "matched_tokens": 8}))
    run = ["--config", "tiny.yaml", "--scans", "scan.nii.gz", "--modality", "ct", "--dry-run", "steps=36000"]
    report = call(environment / "s2dc", "pretrain", *run, folder=tmp_path)
    assert "million weights" in report and "for 36,000 steps" in report
