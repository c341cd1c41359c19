"""How a run goes on: from which checkpoint, by which recipe, and with how many regions a step."""

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from tqdm.auto import tqdm

from s2dc_core.training.batches import refuse_other_steps
from s2dc_core.training.checkpoints import (
    NAME,
    checkpoints_in,
    clear_up,
    newest_good,
    none_readable,
    origin_of,
    recipe_in,
    restore,
    step_of,
)
from s2dc_core.training.processes import started_processes
from s2dc_core.training.recipe import Recipe
from s2dc_core.training.run import Run

MAY_CHANGE = ("learning_rate", "clip", "compile", "gradient_checkpointing", "steps", "batch", "accumulate")
"""Fields of a recipe that a resumed run may have otherwise: what bad losses, too little memory, other machines or more
time ask for. Its regions a step stay the same."""


def find_run(folder: Path, config: Recipe, resume: bool) -> Path | None:
    """The checkpoint from which a run of this recipe goes on in a folder, which is made; None where none lies there.

    Its recipe is read, its weights are not: an earlier one is taken if they turn out to be damaged.

    Raises:
        ValueError: if a run lies there and is not to be resumed, followed another recipe (see MAY_CHANGE), took other
            numbers of regions a step, or has taken more steps than the recipe asks for; if its checkpoints cannot be
            read; and for a folder that is itself a checkpoint, or a file.
    """
    _refuse_inside(folder)
    folder.mkdir(parents=True, exist_ok=True)
    known = [place for place in checkpoints_in(folder) if step_of(place)]  # before a step there is nothing yet
    if known and not resume:
        raise ValueError(f"{folder} holds the checkpoints of a run: give resume=True to go on with it, or a new folder")
    problems = []
    for newest in reversed(known):
        try:
            origin = origin_of(newest, recipe_in(newest, type(config)))
        except (OSError, ValueError) as error:
            problems.append(f"{newest.name}: {error}")
            continue
        _refuse_other_recipe(folder, origin.config, config)
        refuse_other_steps(origin, config, started_processes())
        if config.steps < step_of(newest):
            raise ValueError(f"the run in {folder} has taken {step_of(newest)} steps, more than steps={config.steps}")
        return newest
    if problems:
        raise none_readable(folder, problems)
    return None


def start_or_resume(start: Callable[[Recipe], Run], config: Recipe, folder: str | Path | None, resume: bool) -> Run:
    """A run of a recipe, from the newest good checkpoint in the folder if it is to go on; it holds the folder.

    A damaged checkpoint is moved aside, which is said, and so is what another number of steps does.

    Raises:
        ValueError: as find_run and checkpoints.restore; if no checkpoint can be read, or another run writes in the
            folder; and without a folder to resume from.
    """
    if folder is None:
        if resume:
            raise ValueError("resume needs the folder of the run that is to go on")
        return start(config)
    folder = Path(folder)
    find_run(folder, config, resume)  # what will not do is said before anything is built
    run = start(config)
    try:
        run.claim(folder)
        _go_on(run, folder, resume)
    except BaseException:
        run.close()
        raise
    return run


def _go_on(run: Run, folder: Path, resume: bool) -> None:
    """Take up the newest good checkpoint, if there is any; the folder is held, so nobody else writes there."""
    run.processes.together(lambda: clear_up(folder) if run.processes.is_main else None)

    def take_up() -> tuple[Recipe | None, dict[Path, str]]:
        if find_run(folder, run.config, resume) is None:
            return None, {}
        stored, damaged = newest_good(folder, type(run.config))
        restore(run, stored)
        return stored.config, damaged

    before, damaged = run.processes.together(take_up)
    if not (before and run.processes.is_main):
        return
    for place, reason in damaged.items():
        aside = place.with_name(f"{place.name}.damaged")
        shutil.rmtree(aside, ignore_errors=True)
        os.replace(place, aside)
        _say(f"{reason}: it now lies in {aside.name}, and the run goes on after step {len(run.history)}")
    if before.steps != run.config.steps:
        _say(
            f"steps: {before.steps} before, {run.config.steps} now: from step {len(run.history)} on the learning rate "
            f"is that of a run of {run.config.steps} steps, {run.schedule.get_last_lr()[0]:.3g} now"
        )


def _refuse_inside(folder: Path) -> None:
    """A checkpoint is no run's folder: a run in it would be lost sight of."""
    real = folder.resolve()
    for place in (real, *real.parents):
        if NAME.fullmatch(place.name) and ((place / "recipe.json").exists() or checkpoints_in(place.parent)):
            raise ValueError(f"{folder} is a checkpoint of a run: give the folder of the run, {place.parent}")
    if real.exists() and not real.is_dir():
        raise ValueError(f"{folder} is a file: give the folder of the run")


def _refuse_other_recipe(folder: Path, old: Recipe, new: Recipe) -> None:
    there, here = _fields(old), _fields(new)
    names = [name for name in {**here, **there} if name not in MAY_CHANGE and there.get(name) != here.get(name)]
    if changed := [f"{name}: {there.get(name, 'none')} there, {here.get(name, 'none')} here" for name in names]:
        raise ValueError(f"the run in {folder} follows another recipe: {'; '.join(changed)}")


def _fields(recipe: Recipe) -> dict:
    """Of the recipe and of what it holds under names of its own, see Options.INNER."""
    values = recipe.as_dict()
    return {**values.pop(recipe.INNER, {}), **values}


def _say(sentence: str) -> None:
    tqdm.write(sentence, file=sys.stderr)
