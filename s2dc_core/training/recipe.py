"""What every recipe has: schedule, precision and seed; and recipes in and out of plain values."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from s2dc_core.options import (
    MANY,
    Options,
    above_zero,
    from_zero,
    make,
    one_of,
    problems_of,
    refuse,
    within,
)
from s2dc_core.training.recipe_file import assign, read_recipe

PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True, kw_only=True)
class Recipe(Options):
    """Schedule, precision and seed, which every training has; and recipes in and out of plain values.

    Attributes:
        steps, batch: optimiser steps, and regions in each, a process.
        accumulate: batches whose gradients are added up for one step; where no layer looks at a whole batch, a batch of
            2 three times is a batch of 6.
        learning_rate, weight_decay, warmup: AdamW with a linear warm-up over that many steps, then a cosine to 0.
        clip: largest norm of the gradient, larger ones are scaled down to it; None for no limit.
        precision: "bfloat16" runs the networks under autocast; the losses stay in float32.
        seed: of the initial weights and of every draw.
    """

    steps: int = 100
    batch: int = 4
    accumulate: int = 1
    learning_rate: float | int = 1e-3
    weight_decay: float | int = 0.05
    warmup: int = 10
    clip: float | int | None = None
    precision: str = "float32"
    seed: int = 0

    FOLDER: ClassVar[str]
    """The room in whose `recipes` the project's own of the kind lie."""

    RULES: ClassVar = {
        "steps": within(1, 10**12),
        "batch": within(1, MANY),
        "accumulate": within(1, MANY),
        "learning_rate": above_zero(100),
        "weight_decay": from_zero(1e6),
        "warmup": within(0, 10**12),
        "clip": above_zero(1e12),
        "precision": one_of(*PRECISIONS),
        "seed": within(0, 2**64 - 1),
    }

    @property
    def whole_batch(self) -> bool:
        """Whether a region's loss depends on the others of its batch, so that accumulated batches are not one."""
        return False

    @classmethod
    def disagreements(cls, values, sound) -> Iterator[str]:
        """AdamW takes the product off every weight, each step."""
        if sound("learning_rate", "weight_decay") and values.learning_rate * values.weight_decay >= 1:
            product = f"{values.learning_rate} x {values.weight_decay}"
            yield f"learning_rate x weight_decay must be below 1, got {product}: no weight would be left"

    def as_dict(self) -> dict:
        """The recipe in plain numbers, strings, lists and dicts, as YAML and JSON hold it; from_dict reads it."""
        return _plain(asdict(self))

    @classmethod
    def from_dict(cls, values: Mapping) -> "Recipe":
        """A recipe from plain values; what is not named keeps its default.

        Raises:
            ValueError: for a field that does not exist, or a value that does not fit, naming it.
        """
        if not isinstance(values, Mapping):
            raise ValueError(f"a recipe must name fields and their values, got {values!r}")
        return make(cls, values)

    @classmethod
    def from_recipe(cls, recipe: str | Path, assignments: Sequence[str] = (), **overrides) -> "Recipe":
        """A recipe of the project by name, or any YAML file, with fields replaced.

        Args:
            recipe: name or file.
            assignments: as a command line gives them: "steps=2000", "views.counts=[2, 2, 1]", values as in YAML.
            overrides: fields and their values.

        Raises:
            ValueError: for an unknown name, a file that holds no recipe, what is no assignment, or as from_dict.
            FileNotFoundError: if there is no such file.
        """
        written, problems = read_recipe(recipe, cls.FOLDER)
        values = cls.nested({**cls.nested(written), **overrides})
        values, more = assign(values, assignments, cls.place_of)
        values = cls.nested(values)
        refuse([*problems, *more, *problems_of(cls, values)])
        return cls.from_dict(values)

    @classmethod
    def nested(cls, values: Mapping) -> dict:
        """The values where the recipe has them, wherever they were given."""
        return dict(values)

    @classmethod
    def place_of(cls, name: str, _values: Mapping) -> str:
        """Where a field lies that a command line names."""
        return name


def _plain(value):
    """Numbers of numpy, alone or in arrays, lists and dicts, as Python's."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return {str(name): _plain(entry) for name, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, (tuple, list)) else value
