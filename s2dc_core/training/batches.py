"""Regions of a step: whatever product of batch, accumulate and processes they come by, a run keeps their number."""

from pathlib import Path
from typing import NamedTuple

from s2dc_core.training.recipe import Recipe


class Origin(NamedTuple):
    """How the steps of a run were taken that goes on.

    Attributes:
        folder, config: of the run, and its recipe so far.
        regions: of a step, in all processes; None where a checkpoint of before does not say it.
    """

    folder: Path
    config: Recipe
    regions: int | None


def regions_a_step(config: Recipe, processes: int) -> int:
    """Regions of one optimiser step, of all processes."""
    return config.batch * config.accumulate * processes


def refuse_other_steps(origin: Origin, new: Recipe, processes: int) -> None:
    """A run that goes on, with whatever processes, goes on with steps of as many regions.

    Where a layer looks at a whole batch, the regions of a batch in all processes stay as many, too.

    Args:
        new, processes: what the run is to go on with.

    Raises:
        ValueError: naming the numbers that fit.
    """
    old, regions = origin.config, origin.regions
    if regions is None:
        if (old.batch, old.accumulate) != (new.batch, new.accumulate):
            raise ValueError(
                f"the run in {origin.folder} does not say how many regions its steps took: give batch={old.batch} "
                f"accumulate={old.accumulate}, as before, and as many processes"
            )
        return
    batches = regions // old.accumulate if old.whole_batch else None  # regions of one batch in all processes
    if regions_a_step(new, processes) == regions and batches in (None, new.batch * processes):
        return
    taken = f"a step of the run in {origin.folder} takes {regions} regions"
    if batches:
        taken += f", {batches} of them in a batch over which its BatchNorm heads normalise"
    asked = f"batch={new.batch} x accumulate={new.accumulate} x {_counted(processes)}"
    if (batches or regions) % processes:
        fits = [str(count) for count in range(1, regions + 1) if (batches or regions) % count == 0]
        raise ValueError(f"{taken}, not {asked}: start {_one_of(fits)} processes")
    own = regions // processes
    fits = [f"batch={each} accumulate={own // each}" for each in range(1, own + 1) if own % each == 0]
    if batches:
        fits = [f"batch={batches // processes} accumulate={old.accumulate}"]
    raise ValueError(f"{taken}, not {asked}: give {_one_of(fits)}")


def _counted(processes: int) -> str:
    return f"{processes} process{'es' * (processes > 1)}"


def _one_of(options: list[str]) -> str:
    return " or ".join([", ".join(options[:-1]), options[-1]] if len(options) > 1 else options)
