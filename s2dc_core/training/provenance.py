"""run.json: what each start of a run was, so that years later its folder says how it was made."""

import os
import shlex
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import torch

from s2dc_core.training.records import read_json, versions, write_json
from s2dc_core.training.run import Run

FILE = "run.json"


def note_start(run: Run, folder: str | Path | None, more: Mapping[str, Any] | None = None) -> Callable[[Run], None]:
    """Take down how a run is started or gone on with; the function that is returned writes it, when called first.

    It adds an entry to "starts" in the folder's run.json and leaves earlier ones as they are: step, time, command,
    host, device, processes, versions, git commit, recipe, and how the scans were prepared.

    Args:
        folder: None keeps nothing.
        more: what replaces or adds to that: the command line, and the manifest.

    Raises:
        ValueError: if there is a run.json that cannot be read.
    """
    if folder is None or not run.processes.is_main:
        return lambda _run: None
    file = Path(folder) / FILE
    waiting = [_entry(run, more or {})]
    earlier = _starts(file)

    def write(_run: Run) -> None:
        if waiting:
            write_json(file, {"starts": [*earlier, waiting.pop()]})

    return write


def _entry(run: Run, more: Mapping[str, Any]) -> dict[str, Any]:
    entry = {
        "step": len(run.history),
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": shlex.join(["python", *sys.argv]),
        "host": socket.gethostname(),
        "device": _device(run.device),
        "processes": run.processes.count,
        "versions": versions(),
        "commit": _commit(),
        "kind": type(run).__name__,
        "recipe": run.config.as_dict(),
        "scans": run.settings,
    }
    return {**entry, **more}


def _starts(file: Path) -> list[dict]:
    if not file.exists():
        return []
    try:
        return list(read_json(file)["starts"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file} is no record of a run's starts ({error}): move it away") from error


def _device(device: torch.device) -> str:
    return f"{device}, {torch.cuda.get_device_name(device)}" if device.type == "cuda" else str(device)


def _commit() -> str | None:
    """Of the checkout that the code runs from, marked if it was changed since; None where it is installed."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():  # else git would name the commit of whatever lies around the installation
        return None
    command = ["git", "-C", os.fspath(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
