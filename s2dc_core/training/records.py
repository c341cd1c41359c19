"""JSON records of runs and studies."""

import json
import os
from pathlib import Path


def read_json(file: Path) -> dict:
    """What a record holds."""
    return json.loads(file.read_text(encoding="utf-8"))


def write_json(file: Path, values: dict) -> None:
    """Write a record beside its place and rename it, so that a crash leaves no half of one."""
    beside = file.with_name(file.name + ".part")
    beside.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    os.replace(beside, file)
