"""Checkpoints: a folder per moment with the weights, the optimiser, the position in the run and the recipe.

No file can run code: weights are safetensors, the rest one file that loads with weights_only=True. A checkpoint is
written beside its place and renamed, so that a crash leaves no half of one.
"""

import os
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from s2dc_core.model import export_encoder
from s2dc_core.training.recipe import Recipe
from s2dc_core.training.records import read_json, write_json

if TYPE_CHECKING:
    from s2dc_core.training.engine import Run

MAY_CHANGE = ("learning_rate", "clip", "compile", "gradient_checkpointing")
"""Fields of a recipe that a resumed run may have otherwise: what bad losses, or too little memory, ask for."""

_NAME = re.compile(r"step_(\d{7,})")


def checkpoint_of(folder: Path, step: int) -> Path:
    """Where the checkpoint after a step lies in a run's folder."""
    return folder / f"step_{step:07d}"


def save_checkpoint(run: "Run", folder: Path, keep: int = 3) -> Path:
    """Write ``folder/step_NNNNNNN`` and remove all but the last ``keep`` checkpoints.

    It holds model.safetensors (what the run holds: student, teacher, queue; or network), encoder.safetensors (the
    encoder that is trained, for load_encoder), state.pt (optimiser, schedule, regions taken, history) and recipe.json.
    """
    final = checkpoint_of(folder, len(run.history))
    beside = folder / f".{final.name}.part"
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir()
    modules = run.held().items()
    tensors = {f"{part}.{name}": value for part, module in modules for name, value in module.state_dict().items()}
    # Not save_file, which lets nobody but its owner read the file, whatever the folder's rules are.
    (beside / "model.safetensors").write_bytes(save({name: value.contiguous() for name, value in tensors.items()}))
    export_encoder(run.encoder, beside / "encoder.safetensors")
    state = {
        "optimiser": run.optimiser.state_dict(),
        "schedule": run.schedule.state_dict(),
        "regions": run.regions,
        "history": [list(terms) for terms in run.history],
        "scans": [str(facts) for facts in run.facts],
    }
    torch.save(state, beside / "state.pt")
    write_json(beside / "recipe.json", run.config.as_dict())
    if final.exists():  # a folder cannot be replaced in one move, so the old one goes first
        shutil.rmtree(final)
    os.replace(beside, final)
    for old in (*_checkpoints(folder)[:-keep], *folder.glob(".step_*.part")):  # what a kill has left half-written, too
        shutil.rmtree(old)
    return final


def newest_checkpoint(folder: Path, required: bool = True) -> Path | None:
    """The checkpoint of the latest step in a run's folder; a folder of one checkpoint is itself taken.

    Raises:
        FileNotFoundError: if there is none and one is required.
    """
    if _NAME.fullmatch(folder.name) and (folder / "state.pt").is_file():
        return folder
    found = _checkpoints(folder)
    if not found and required:
        raise FileNotFoundError(f"{folder} holds no checkpoint (folders named step_0000100 and so on)")
    return found[-1] if found else None


def find_run(folder: Path, config: Recipe, resume: bool) -> Path | None:
    """The checkpoint from which a run of this recipe goes on in a folder, which is made; None where none lies there.

    Raises:
        ValueError: if a run lies there and is not to be resumed, or followed another recipe (see MAY_CHANGE).
    """
    folder.mkdir(parents=True, exist_ok=True)
    newest = newest_checkpoint(folder, required=False)
    if newest is None:
        return None
    if not resume:
        raise ValueError(f"{folder} holds the checkpoints of a run: give resume=True to go on with it, or a new folder")
    try:
        old, new = _recipe(newest, type(config)).as_dict(), config.as_dict()
    except (OSError, ValueError) as error:
        raise _unreadable(newest, error) from error
    fixed = [name for name in new if name not in MAY_CHANGE]
    if changed := [f"{name}: {old[name]} there, {new[name]} here" for name in fixed if old[name] != new[name]]:
        raise ValueError(f"the run in {folder} follows another recipe: {'; '.join(changed)}")
    return newest


def load_checkpoint(folder: Path, start: Callable[[Recipe], "Run"], kind: type[Recipe]) -> "Run":
    """Start a run with the checkpoint's recipe, of the kind that the run follows, and put its state in place.

    Raises:
        ValueError: if a file is missing or damaged, if the tensors are those of another model, or if the run was made
            on other scans.
    """
    try:
        config = _recipe(folder, kind)
        tensors = load_file(folder / "model.safetensors")
        state = torch.load(folder / "state.pt", map_location="cpu", weights_only=True)
    except (OSError, SafetensorError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise _unreadable(folder, error) from error
    run = start(config)
    if (here := [str(facts) for facts in run.facts]) != state["scans"]:
        raise ValueError(f"the run in {folder} was made on other scans: {_difference(state['scans'], here)}")
    for part, module in run.held().items():
        prefix = f"{part}."
        own = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        try:
            module.load_state_dict(own)
        except RuntimeError as error:
            raise ValueError(f"{folder}/model.safetensors does not fit its own recipe: {error}") from error
    try:
        run.optimiser.load_state_dict(state["optimiser"])
        run.schedule.load_state_dict(state["schedule"])
        run.regions = state["regions"]
        run.history[:] = [run.Terms(*terms) for terms in state["history"]]
    except KeyError as error:
        raise _unreadable(folder, ValueError(f"an earlier version wrote it, without {error}")) from error
    run.set_rates()
    return run


def _recipe(checkpoint: Path, kind: type[Recipe]) -> Recipe:
    return kind.from_dict(read_json(checkpoint / "recipe.json"))


def _unreadable(checkpoint: Path, error: Exception) -> ValueError:
    reason = str(error).split("\n")[0]
    return ValueError(f"the checkpoint {checkpoint} cannot be read ({reason}): resume from an earlier one")


def _difference(there: list[str], here: list[str]) -> str:
    gone, new = ([line for line in one if line not in set(other)] for one, other in ((there, here), (here, there)))
    if not gone and not new:
        return "the same, in another order"
    shown = [f"{len(lines)} {word}, such as {lines[0]}" for lines, word in ((gone, "there"), (new, "here")) if lines]
    return "; ".join(shown)


def _checkpoints(folder: Path) -> list[Path]:
    found = [entry for entry in folder.iterdir() if _NAME.fullmatch(entry.name)] if folder.is_dir() else []
    return sorted(found, key=lambda entry: int(_NAME.fullmatch(entry.name)[1]))
