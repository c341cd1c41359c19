"""Everything that decides a training but the scans: model, views, loss, schedule, seed."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from s2dc_core.encoder import LEVELS
from s2dc_core.losses import PRESETS, LossOptions
from s2dc_core.model import TOKEN_HEADS, EncoderConfig, StudentTeacher
from s2dc_core.options import (
    Options,
    above_zero,
    from_zero,
    make,
    one_of,
    problems_of,
    refuse,
    that,
    whole_numbers_to,
    within,
)
from s2dc_core.training.recipe_file import assign, read_recipe, recipes_of
from s2dc_core.views import ViewConfig

PRECISIONS = ("float32", "bfloat16")
HEADS = ("unetr", "linear")
NORMS = ("layer", "batch")

MANY = 2**16
"""More regions of a step, channels of a head or samples than anybody has meant."""

_LEVELS = that(
    lambda levels: 0 < len(set(levels)) == len(levels) and set(levels) <= set(range(LEVELS)),
    f"must name at least one token level of 0 to {LEVELS - 1}, each once",
)


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

    FOLDER: ClassVar[str] = "recipes"
    """Where the project's own recipes of the kind lie."""

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
        values, more = assign({**written, **overrides}, assignments)
        refuse([*problems, *more, *problems_of(cls, values)])
        return cls.from_dict(values)


@dataclass(frozen=True, kw_only=True)
class PretrainConfig(Recipe):
    """Model, views, schedule and loss of a run; the defaults suit a laptop and a minute or two.

    Attributes:
        encoder, levels, joined, hidden, out, momentum, token_head: see model.StudentTeacher.
        norm: of the heads, "layer" or "batch"; None for "batch" with the official preset and "layer" otherwise. With
            "batch" accumulated batches are not one larger batch.
        views: how regions and their counterparts are drawn.
        loss, loss_options: preset of S2DCLoss and what replaces its fields.
        matched_tokens, token_draws: the structure losses look at that many random samples of that many tokens of each
            region, see draws.draw_tokens; None for all tokens at once.
        gradient_checkpointing: sub-volumes that the networks take at a time, keeping only their token maps and
            computing the rest again for the gradient: less memory, a third more time; None keeps all.
        compile: run the encoders through torch.compile, which needs a C++ compiler and some minutes at the start.
        queue: teacher features kept as the negatives of L_g.
    """

    encoder: EncoderConfig = field(default_factory=EncoderConfig.teaching)
    levels: Sequence[int] = (1,)
    joined: bool = False
    hidden: int = 256
    out: int = 128
    momentum: float | int = 0.99
    token_head: str = "mlp"
    norm: str | None = None
    views: ViewConfig = field(default_factory=lambda: ViewConfig(counts=(1, 1, 1)))
    loss: str = "default"
    loss_options: dict = field(default_factory=dict)
    matched_tokens: int | None = None
    token_draws: int = 1
    gradient_checkpointing: int | None = None
    compile: bool = False
    queue: int = 256

    RULES: ClassVar = {
        **Recipe.RULES,
        "levels": _LEVELS,
        "hidden": within(1, MANY),
        "out": within(1, MANY),
        "momentum": that(lambda share: 0 <= share <= 1, "must be from 0 to 1"),
        "token_head": one_of(*TOKEN_HEADS),
        "norm": one_of(*NORMS),
        "loss": one_of(*PRESETS),
        "matched_tokens": within(1, 10**9),
        "token_draws": within(1, MANY),
        "gradient_checkpointing": within(1, 10**9),
        "queue": within(0, 2**24),
    }

    def __post_init__(self):
        super().__post_init__()
        if self.norm is None:
            object.__setattr__(self, "norm", "batch" if self.loss == "official" else "layer")

    @classmethod
    def disagreements(cls, values, sound) -> Iterator[str]:
        """Options of the loss that it does not have, and token levels that the sub-volumes cannot give."""
        yield from super().disagreements(values, sound)
        if sound("loss_options"):
            preset = vars(PRESETS[values.loss if sound("loss") else "default"])
            yield from problems_of(LossOptions, {**preset, **values.loss_options}, "loss_options")
        if sound("levels", "joined") and values.joined and list(values.levels) != sorted(values.levels):
            yield f"levels to be joined go from fine to coarse, such as 1, 2, 3; got {list(values.levels)}"
        if sound("encoder"):
            sides, patch = list(values.encoder.sub_volume), values.encoder.patch
            for level in values.levels if sound("levels") else ():
                stride = patch * 2**level
                if any(side % stride for side in sides):
                    yield f"sub_volume {sides} must be multiples of {stride}, a token at {level} of levels"
            least = patch * 8
            if values.encoder.use_v2 and max(sides) <= least:
                yield f"sub_volume {sides} must be larger than {least} voxels, or a norm of use_v2 has one token left"

    def build(self) -> StudentTeacher:
        """Student and teacher with the initial weights that the seed gives, leaving the global random state alone."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            sizes = (self.levels, self.hidden, self.out, self.norm, self.momentum, self.token_head, self.joined)
            return StudentTeacher(self.encoder, *sizes, self.gradient_checkpointing)

    @property
    def whole_batch(self) -> bool:
        """With BatchNorm heads, which normalise over a batch in all processes."""
        return self.norm == "batch"

    @property
    def matched_levels(self) -> tuple[int, ...]:
        """The levels whose grids need matches: all, or the finest if they are joined."""
        return self.levels[:1] if self.joined else self.levels


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig(Recipe):
    """How a network is fine-tuned for a task; what it learns from is the task's and the examples'.

    Attributes:
        weights: of the encoder: "" for none (from scratch), an arm of the course, or any file that load_encoder takes.
        encoder: its sizes; None for those of the weights, or from scratch the course's.
        encoder_rate: its learning rate as a share of the others', 0 to leave it as it is.
        region: voxels of a crop, and of the windows that slide over a whole case; a classification resizes cases to it.
            None for the manifest's.
        pad: whether a case that is smaller than the region is padded; else it is an error.
        background_share: of the crops of a segmentation, how many are centred on background; the others are shared
            alike between the classes.
        flip: probability of a mirrored crop, for each axis. It makes a left kidney of a right one.
        intensity: largest share by which a crop's intensities are scaled, and largest shift; 0 for neither.
        head: "unetr" for MONAI's SwinUNETR, "linear" for one linear layer on the tokens, see networks.LinearDecoder; a
            classification has its own.
        levels: token levels that the linear layer reads, or a classification pools; None for 0 to 3, or for 4.
        windows, overlap: taken at a time, and shared by neighbours, when windows slide over a case.
        selection: patients of the training cases that are set aside to choose the best step on; 0 takes the last step.
        look_every: steps between two looks at them.
    """

    weights: str = ""
    encoder: EncoderConfig | None = None
    encoder_rate: float | int = 1.0
    region: Sequence[int] | None = None
    pad: bool = False
    background_share: float | int = 0.25
    flip: float | int = 0.0
    intensity: float | int = 0.1
    head: str = "unetr"
    levels: Sequence[int] | None = None
    windows: int = 4
    overlap: float | int = 0.25
    selection: int = 0
    look_every: int = 100

    FOLDER: ClassVar[str] = "recipes/finetune"

    RULES: ClassVar = {
        **Recipe.RULES,
        "encoder_rate": from_zero(1e6),
        "region": whole_numbers_to(MANY, of=3),
        "background_share": that(lambda share: 0 <= share < 1, "must be from 0 to less than 1"),
        "flip": that(lambda share: 0 <= share <= 1, "must be from 0 to 1"),
        "intensity": from_zero(1e3),
        "head": one_of(*HEADS),
        "levels": _LEVELS,
        "windows": within(1, MANY),
        "overlap": that(lambda share: 0 <= share < 1, "must be from 0 to less than 1"),
        "selection": within(0, 10**9),
        "look_every": within(1, 10**12),
    }


RECIPES = recipes_of(PretrainConfig.FOLDER)
FINETUNE_RECIPES = recipes_of(FinetuneConfig.FOLDER)


def _plain(value):
    """Numbers of numpy, alone or in arrays, lists and dicts, as Python's."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return {str(name): _plain(entry) for name, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, (tuple, list)) else value
