"""JSON records of runs and studies."""

import json
import os
import platform
from importlib.metadata import version
from pathlib import Path


def read_json(file: Path) -> dict:
    """What a record holds."""
    return json.loads(file.read_text(encoding="utf-8"))


def write_json(file: Path, values: dict) -> None:
    """Write a record beside its place and rename it, so that a crash leaves no half of one."""
    beside = file.with_name(file.name + ".part")
    beside.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    os.replace(beside, file)


def versions() -> dict[str, str]:
    """What the numbers were made with."""
    names = ("s2dc_core", "torch", "monai", "numpy", "scipy", "scikit-learn")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}
