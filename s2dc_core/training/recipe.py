"""Everything that decides a training but the scans: model, views, loss, schedule, seed."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from importlib import resources
from pathlib import Path
from types import UnionType
from typing import ClassVar, get_args, get_type_hints

import numpy as np
import torch
import yaml
from beartype.door import is_bearable

from s2dc_core.encoder import LEVELS
from s2dc_core.losses import S2DCLoss
from s2dc_core.matching import check_choice
from s2dc_core.model import EncoderConfig, StudentTeacher
from s2dc_core.views import ViewConfig

PRECISIONS = ("float32", "bfloat16")
HEADS = ("unetr", "linear")


@dataclass(frozen=True, kw_only=True)
class Recipe:
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

    def __post_init__(self):
        for name in ("steps", "batch", "accumulate"):
            self.check_positive(name)
        if self.seed < 0:
            raise ValueError(f"seed must not be negative, got {self.seed}")
        if self.clip is not None and not self.clip > 0:
            raise ValueError(f"clip must be positive, or None for no limit, got {self.clip}")
        check_choice("precision", self.precision, PRECISIONS)

    def check_positive(self, name: str) -> None:
        """Raise a ValueError for a field that is set and below 1."""
        value = getattr(self, name)
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")

    def as_dict(self) -> dict:
        """The recipe in plain numbers, strings, lists and dicts, as YAML and JSON hold it; from_dict reads it."""
        return _plain(asdict(self))

    @classmethod
    def from_dict(cls, values: Mapping) -> "Recipe":
        """A recipe from plain values; what is not named keeps its default.

        Raises:
            ValueError: for a field that does not exist, or a value that does not fit, naming it.
        """
        values = _checked("recipe", cls, _plain(values))
        try:
            for name, kind in _inner(cls).items():
                if values.get(name) is not None:
                    values[name] = kind(**_checked(name, kind, values[name]))
            return cls(**values)
        except TypeError as error:
            raise ValueError(f"a value of the recipe has the wrong kind: {error}") from error

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
        values = _with_numbers({**_read_yaml(recipe, cls.FOLDER), **overrides})
        for assignment in assignments:
            _assign(values, assignment)
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

    def __post_init__(self):
        super().__post_init__()
        if self.norm is None:
            object.__setattr__(self, "norm", "batch" if self.loss == "official" else "layer")
        object.__setattr__(self, "levels", tuple(self.levels))
        if not self.levels:
            raise ValueError("levels must name at least one token level")
        for name in ("gradient_checkpointing", "matched_tokens", "token_draws"):
            self.check_positive(name)
        S2DCLoss.from_preset(self.loss, **self.loss_options)  # an unknown option is an error now, not at the first step

    def build(self) -> StudentTeacher:
        """Student and teacher with the initial weights that the seed gives, leaving the global random state alone."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            sizes = (self.levels, self.hidden, self.out, self.norm, self.momentum, self.token_head, self.joined)
            return StudentTeacher(self.encoder, *sizes, self.gradient_checkpointing)

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

    def __post_init__(self):
        super().__post_init__()
        if self.region is not None:
            object.__setattr__(self, "region", tuple(self.region))
            if len(self.region) != 3 or min(self.region) < 1:
                raise ValueError(f"region must be three numbers of voxels, got {list(self.region)}")
        if self.levels is not None:
            object.__setattr__(self, "levels", tuple(self.levels))
            if not self.levels or set(self.levels) - set(range(LEVELS)):
                raise ValueError(f"levels must be of 0 to {LEVELS - 1}, got {list(self.levels)}")
        check_choice("head", self.head, HEADS)
        for name in ("windows", "look_every"):
            self.check_positive(name)
        for name, top in (("background_share", 1), ("overlap", 1)):
            if not 0 <= getattr(self, name) < top:
                raise ValueError(f"{name} must be from 0 to less than {top}, got {getattr(self, name)}")
        if not 0 <= self.flip <= 1:
            raise ValueError(f"flip must be from 0 to 1, got {self.flip}")
        for name in ("encoder_rate", "intensity", "selection"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")


def recipes_of(folder: str) -> tuple[str, ...]:
    """Names of the project's own recipes in a folder."""
    entries = resources.files("s2dc_core.training").joinpath(*folder.split("/")).iterdir()
    return tuple(sorted(entry.name.removesuffix(".yaml") for entry in entries if entry.name.endswith(".yaml")))


RECIPES = recipes_of(PretrainConfig.FOLDER)
FINETUNE_RECIPES = recipes_of(FinetuneConfig.FOLDER)


def _read_yaml(recipe: str | Path, folder: str) -> dict:
    if str(recipe) in recipes_of(folder):
        file = resources.files("s2dc_core.training").joinpath(*folder.split("/"), f"{recipe}.yaml")
        text = file.read_text(encoding="utf-8")
    elif Path(recipe).suffix in (".yaml", ".yml"):
        if not Path(recipe).is_file():
            raise FileNotFoundError(f"no recipe {recipe}")
        text = Path(recipe).read_text(encoding="utf-8")
    else:
        raise ValueError(f"unknown recipe {str(recipe)!r}: give one of {', '.join(recipes_of(folder))}, or a YAML file")
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"{recipe} is not valid YAML: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{recipe} holds no recipe: it must name fields and their values")
    return values


def _assign(values: dict, assignment: str) -> None:
    name, equals, text = assignment.partition("=")
    *inner, last = name.split(".")
    if not equals or not all((*inner, last)):
        raise ValueError(f"{assignment!r} is no field=value, such as steps=2000 or views.counts=[2, 2, 1]")
    for part in inner:
        if not isinstance(values.setdefault(part, {}), dict):
            raise ValueError(f"{assignment!r}: {part} is one value and has no fields")
        values = values[part]
    try:
        values[last] = _with_numbers(yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise ValueError(f"{assignment!r}: its value is no YAML ({error})") from error


def _with_numbers(value: object) -> object:
    """YAML takes 1e-4 for a word, because it has no point."""
    if isinstance(value, Mapping):
        return {name: _with_numbers(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [_with_numbers(entry) for entry in value]
    if isinstance(value, str):
        with suppress(ValueError):
            return float(value)
    return value


def _checked(where: str, kind: type, values: object) -> dict:
    if not isinstance(values, Mapping):
        values = asdict(values) if isinstance(values, kind) else values
    if not isinstance(values, Mapping):
        raise ValueError(f"{where} must name fields and their values, got {values!r}")
    hints = _hints(kind)
    for name, value in values.items():
        if name not in hints:
            raise ValueError(f"{where} has no field {name!r}: there are {', '.join(hints)}")
        if name not in _inner(kind) and not _suits(value, hints[name]):
            raise ValueError(f"{where} cannot take {name}={value!r}: it must be {_kind_of(hints[name])}")
    return dict(values)


def _hints(kind: type) -> dict[str, object]:
    hints = get_type_hints(kind)
    return {each.name: hints[each.name] for each in fields(kind)}


def _inner(kind: type) -> dict[str, type]:
    """The fields of a recipe that are dataclasses themselves, or may be None instead."""
    options = {
        name: [each for each in (hint, *get_args(hint)) if is_dataclass(each)] for name, hint in _hints(kind).items()
    }
    return {name: found[0] for name, found in options.items() if found}


def _suits(value: object, hint: object) -> bool:
    if isinstance(hint, UnionType):
        return any(_suits(value, option) for option in get_args(hint))
    if isinstance(value, (list, tuple)) and get_args(hint):  # beartype alone looks at one entry, drawn at random
        return is_bearable(value, hint) and all(_suits(entry, get_args(hint)[0]) for entry in value)
    return is_bearable(value, hint) and not (isinstance(value, bool) and hint is not bool)


def _kind_of(hint: object) -> str:
    return str(getattr(hint, "__name__", hint)).replace("collections.abc.", "").replace("typing.", "")


def _plain(value):
    """Numbers of numpy, alone or in arrays, lists and dicts, as Python's."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return {str(name): _plain(entry) for name, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, (tuple, list)) else value
