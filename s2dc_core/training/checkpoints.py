"""Checkpoints: a folder per moment with the weights, the optimiser, the position in the run and the recipe.

No file can run code: weights are safetensors, the rest one file that loads with weights_only=True. A checkpoint is
written beside its place, seen onto the disk and renamed, so that a crash leaves no half of one; checksums tell when a
disk gives back something else.
"""

import io
import pickle
import re
import shutil
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from s2dc_core.training.batches import Origin
from s2dc_core.training.durable import put_back, replace_folder, sync, told_when_full, write_durably
from s2dc_core.training.recipe import Recipe
from s2dc_core.training.records import read_json, write_json
from s2dc_core.weights import export_encoder

if TYPE_CHECKING:
    from s2dc_core.training.run import Run

NAME = re.compile(r"step_(\d{7,})")
READ = ("model.safetensors", "state.pt")
"""The files of a checkpoint that a run goes on from, each with its checksum in checkpoint.json."""


class Stored(NamedTuple):
    """What a checkpoint holds.

    Attributes:
        folder, config: where it lies, and the recipe.
        tensors: of all that the run holds, by part and name.
        state: optimiser, schedule, regions, history, scans.
        origin: how its steps were taken.
    """

    folder: Path
    config: Recipe
    tensors: dict[str, Tensor]
    state: dict[str, Any]
    origin: Origin


def checkpoint_of(folder: Path, step: int) -> Path:
    """Where the checkpoint after a step lies in a run's folder."""
    return folder / f"step_{step:07d}"


def step_of(checkpoint: Path) -> int:
    """The step after which a checkpoint was written."""
    return int(NAME.fullmatch(checkpoint.name)[1])


def checkpoints_in(folder: Path) -> list[Path]:
    """The checkpoints in a run's folder, by their steps."""
    found = [entry for entry in folder.iterdir() if NAME.fullmatch(entry.name)] if folder.is_dir() else []
    return sorted(found, key=step_of)


def save_checkpoint(run: "Run", folder: Path, keep: int = 3, keep_every: int | None = None) -> Path:
    """Write ``folder/step_NNNNNNN`` and remove all before it but the last ``keep``, it included.

    It holds model.safetensors (what the run holds: student, teacher, queue; or network), encoder.safetensors (the
    encoder that is trained, for load_encoder, where it is a Swin), state.pt (optimiser, schedule, regions taken,
    history), recipe.json, and checkpoint.json with regions a step and checksums.

    Args:
        keep_every: those of each so many steps stay for good.

    Raises:
        DiskFull: if there is no room; what was written is removed.
        ValueError: for a `keep` below 1.
    """
    if keep < 1:
        raise ValueError(f"keep must be at least 1, got {keep}")
    final = checkpoint_of(folder, len(run.history))
    clear_up(folder)
    beside = folder / f".{final.name}.part"
    known = checkpoints_in(folder)
    after = f"; the run can go on from {known[-1]}" if known else ""
    with told_when_full(folder, "a checkpoint", lambda: _size(run), after):
        try:
            beside.mkdir()
            _write(run, beside)
            replace_folder(beside, final)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    earlier = [place for place in known if step_of(place) < step_of(final)]
    passing = [place for place in earlier if not keep_every or step_of(place) % keep_every]
    for old in passing[: max(len(passing) - (keep - 1), 0)]:
        shutil.rmtree(old)
    return final


def _write(run: "Run", folder: Path) -> None:
    checksums = {}
    for name, packed in zip(READ, (_tensors, _state), strict=True):
        data = packed(run)
        write_durably(folder / name, data)
        checksums[name] = _checksum(data)
    if (encoder := run.encoder) is not None:
        export_encoder(encoder, folder / "encoder.safetensors")
        sync(folder / "encoder.safetensors")
    write_json(folder / "recipe.json", run.config.as_dict())
    write_json(folder / "checkpoint.json", {"regions_a_step": run.regions_a_step, "crc32": checksums})


def _tensors(run: "Run") -> bytes:
    modules = run.held().items()
    tensors = {f"{part}.{name}": value for part, module in modules for name, value in module.state_dict().items()}
    # Not save_file, which lets nobody but its owner read the file, whatever the folder's rules are.
    return save({name: value.contiguous() for name, value in tensors.items()})


def _state(run: "Run") -> bytes:
    packed = io.BytesIO()
    state = {
        "optimiser": run.optimiser.state_dict(),
        "schedule": run.schedule.state_dict(),
        "regions": run.regions,
        "history": [list(terms) for terms in run.history],
        "scans": [str(facts) for facts in run.facts],
    }
    torch.save(state, packed)
    return packed.getvalue()


def _checksum(data: bytes) -> str:
    return f"{zlib.crc32(data):08x}"


def _size(run: "Run") -> int:
    """Bytes that a checkpoint takes, about."""
    tensors = [value for module in run.held().values() for value in module.state_dict().values()]
    tensors += encoder.state_dict().values() if (encoder := run.encoder) is not None else ()
    tensors += [value for each in run.optimiser.state.values() for value in each.values() if isinstance(value, Tensor)]
    return sum(value.nbytes for value in tensors)


def clear_up(folder: Path) -> None:
    """Remove or put in place what a kill has left half-done in a run's folder, in which no other run may be writing."""
    for left in folder.glob(".step_*.part"):
        shutil.rmtree(left)
    for left in folder.glob(".step_*.old"):
        put_back(folder / left.name.removeprefix(".").removesuffix(".old"))


def read_checkpoint(folder: Path, kind: type[Recipe]) -> Stored:
    """What a checkpoint holds, of a run that follows a recipe of that kind.

    Raises:
        ValueError: if a file is missing or damaged, or an earlier version wrote another one.
    """
    try:
        config, noted = recipe_in(folder, kind), _noted(folder)
        model, state = (_checked(folder / name, noted.get("crc32", {}).get(name)) for name in READ)
        held = torch.load(io.BytesIO(state), map_location="cpu", weights_only=True)
        if absent := {"optimiser", "schedule", "regions", "history", "scans"} - set(held):
            raise ValueError(f"an earlier version wrote it, without {', '.join(map(repr, sorted(absent)))}")
        return Stored(folder, config, load(model), held, origin_of(folder, config))
    except (OSError, SafetensorError, RuntimeError, EOFError, ValueError, TypeError, pickle.UnpicklingError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"the checkpoint {folder} cannot be read ({reason})") from error


def newest_good(folder: Path, kind: type[Recipe]) -> tuple[Stored, dict[Path, str]]:
    """The newest checkpoint in a run's folder that can be read, and what is wrong with those after it.

    A folder of one checkpoint is itself taken.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if none can be read.
    """
    if NAME.fullmatch(folder.name) and (folder / "state.pt").is_file():
        return read_checkpoint(folder, kind), {}
    damaged: dict[Path, str] = {}
    for place in reversed(checkpoints_in(folder)):
        try:
            return read_checkpoint(place, kind), damaged
        except ValueError as error:
            damaged[place] = str(error)
    if damaged:
        raise none_readable(folder, damaged.values())
    raise FileNotFoundError(f"{folder} holds no checkpoint (folders named step_0000100 and so on)")


def none_readable(folder: Path, problems: Iterable[str]) -> ValueError:
    """What is said of a run whose checkpoints are all damaged."""
    return ValueError(f"no checkpoint in {folder} can be read: {'; '.join(problems)}; start anew in a new folder")


def recipe_in(checkpoint: Path, kind: type[Recipe]) -> Recipe:
    """The recipe that a run followed up to a checkpoint; OSError or ValueError if it cannot be read."""
    return kind.from_dict(read_json(checkpoint / "recipe.json"))


def origin_of(checkpoint: Path, config: Recipe) -> Origin:
    """How the steps up to a checkpoint were taken, by the recipe in it; OSError or ValueError if it cannot be read."""
    return Origin(checkpoint.parent, config, _noted(checkpoint).get("regions_a_step"))


def _noted(checkpoint: Path) -> Mapping[str, Any]:
    file = checkpoint / "checkpoint.json"
    return read_json(file) if file.is_file() else {}  # of before there was one


def _checked(file: Path, checksum: str | None) -> bytes:
    data = file.read_bytes()
    if checksum not in (None, _checksum(data)):
        raise ValueError(f"{file.name} is no longer what was written: its checksum differs")
    return data


def load_checkpoint(folder: Path, start: Callable[[Recipe], "Run"], kind: type[Recipe]) -> "Run":
    """Start a run with a checkpoint's recipe, and put its state in place.

    Raises:
        ValueError: as read_checkpoint and restore.
    """
    stored = read_checkpoint(folder, kind)
    run = start(stored.config)
    restore(run, stored)
    return run


def restore(run: "Run", stored: Stored) -> None:
    """Put the state of a checkpoint in place.

    Raises:
        ValueError: if it was made on other scans, or if its tensors are those of another model.
    """
    folder = stored.folder.parent
    try:
        run.accept(stored.state["scans"], quarantine_in(folder))
    except ValueError as error:
        raise type(error)(f"the run in {folder} was {error}") from error
    tensors = run.named_now(stored.tensors)
    for part, module in run.held().items():
        prefix = f"{part}."
        own = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        try:
            module.load_state_dict(own)
        except RuntimeError as error:
            raise ValueError(f"{stored.folder}/model.safetensors does not fit its own recipe: {error}") from error
    optimiser = stored.state["optimiser"]
    for there, here in zip(optimiser["param_groups"], run.optimiser.param_groups, strict=True):
        there["fused"] = here["fused"]  # which a GPU's optimiser is, and a CPU's is not
    run.optimiser.load_state_dict(optimiser)
    run.schedule.load_state_dict(stored.state["schedule"])
    run.regions = stored.state["regions"]
    run.history[:] = [run.Terms(*terms) for terms in stored.state["history"]]
    run.set_rates()
    run.origin = stored.origin


def quarantine_in(folder: Path) -> dict[str, str]:
    """What was set apart in the run of a folder, as its quarantine.json says."""
    file = folder / "quarantine.json"
    return read_json(file) if file.is_file() else {}
