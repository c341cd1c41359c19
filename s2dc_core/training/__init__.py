"""What every training shares, whatever it trains: steps, checkpoints, processes, the order of what is read."""

from importlib import import_module

from s2dc_core.training.durable import DiskFull
from s2dc_core.training.lock import reserve_folder
from s2dc_core.training.memory import peak_memory
from s2dc_core.training.processes import StoppedElsewhere
from s2dc_core.training.resuming import find_run
from s2dc_core.training.run import Run, UnreadableScans

__all__ = [
    "DiskFull",
    "Run",
    "StoppedElsewhere",
    "UnreadableScans",
    "find_run",
    "peak_memory",
    "reserve_folder",
]


def __getattr__(name: str):
    """What lay here before there were rooms for it: pretrain, open_weights and so on are found where they are now."""
    for room in ("pretraining", "downstream", "evaluation", "library", "intervals"):
        if not name.startswith("_") and hasattr(found := import_module(f"s2dc_core.{room}"), name):
            return getattr(found, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
