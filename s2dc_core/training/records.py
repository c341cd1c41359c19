"""JSON records of runs and studies."""

import json
import platform
from importlib.metadata import version
from pathlib import Path

from s2dc_core.training.durable import told_when_full, write_durably


def read_json(file: Path) -> dict:
    """What a record holds."""
    return json.loads(file.read_text(encoding="utf-8"))


def write_json(file: Path, values: dict) -> None:
    """Write a record beside its place and rename it, so that a crash leaves no half of one.

    Raises:
        DiskFull: if there is no room.
    """
    data = (json.dumps(values, indent=1) + "\n").encode()
    with told_when_full(file.parent, file.name, lambda: len(data)):
        write_durably(file, data)


def versions() -> dict[str, str]:
    """What the numbers were made with."""
    names = ("s2dc_core", "torch", "monai", "numpy", "scipy", "scikit-learn")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}
