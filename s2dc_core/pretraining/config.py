"""Everything that decides a pre-training but the scans: method, encoder, schedule, seed."""

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from typing import Any, ClassVar

import torch

from s2dc_core.encoder import Encoder, EncoderConfig
from s2dc_core.methods import METHODS, Method, MethodOptions
from s2dc_core.options import Options, make, nearest, within
from s2dc_core.training.recipe import Recipe
from s2dc_core.training.recipe_file import recipes_of


@dataclass(frozen=True, kw_only=True, init=False)
class PretrainConfig(Recipe):
    """Encoder, method and schedule of a run; the defaults suit a laptop and a minute or two.

    Fields of the method's options may be given as if they were the recipe's own: in files, on a command line, in Python
    and to dataclasses.replace. A recipe that names no method is S2DC's.

    Attributes:
        encoder: its sizes.
        method: the pretext task, one of methods.METHODS.
        options: the method's own fields; None for its defaults.
        gradient_checkpointing: sub-volumes that the encoders take at a time, keeping only their token maps and
            computing the rest again for the gradient: less memory, a third more time; None keeps all.
        compile: run the encoders through torch.compile, which needs a C++ compiler and some minutes at the start.
    """

    encoder: EncoderConfig = field(default_factory=EncoderConfig.teaching)
    method: str = "s2dc"
    options: MethodOptions | None = None
    gradient_checkpointing: int | None = None
    compile: bool = False

    FOLDER: ClassVar[str] = "s2dc_core.pretraining"
    INNER: ClassVar[str] = "options"

    RULES: ClassVar = {
        **Recipe.RULES,
        "gradient_checkpointing": within(1, 10**9),
        "method": lambda _name, value: "" if value in METHODS else unknown_method(value),
    }

    def __init__(self, **values: Any):
        given = values.get("options")
        if isinstance(given, MethodOptions):  # of whatever kind they are, which they stay
            flat = {n: v for n, v in values.items() if n in names_of(type(given)) - names_of(type(self))}
            rest = {name: value for name, value in values.items() if name not in flat}
            self.nested({**rest, "options": {}})
            values = {**rest, "options": replace(given, **flat) if flat else given}
        else:
            values = self.nested(values)
        if strange := sorted(set(values) - names_of(type(self))):
            raise TypeError(f"a recipe has no field {strange[0]!r}{nearest(strange[0], self.field_names())}")
        for each in fields(self):
            default = each.default if each.default_factory is MISSING else each.default_factory()
            object.__setattr__(self, each.name, values.get(each.name, default))
        self.__post_init__()

    def __post_init__(self):
        super().__post_init__()
        if not isinstance(self.options, MethodOptions):
            object.__setattr__(self, "options", make(METHODS[self.method], self.options or {}))

    @classmethod
    def kind_within(cls, name: str, values: Mapping[str, Any]) -> type[Options] | None:
        """For the field options, those of the method."""
        if name != "options":
            return super().kind_within(name, values)
        method = values.get("method", "s2dc")
        return METHODS.get(method) if isinstance(method, str) else None

    @classmethod
    def disagreements(cls, values, sound) -> Iterator[str]:
        """Options of another method, and what does not fit the encoder."""
        yield from super().disagreements(values, sound)
        if not sound("method", "options"):
            return
        kind, given = METHODS[values.method], values.options
        given = kind() if given is None else given
        if not isinstance(given, (kind, Mapping)):
            yield f"options are those of another method, {type(given).__name__}: {values.method} has {kind.__name__}"
            return
        if not sound("encoder"):
            return
        encoder = values.encoder
        if encoder.use_v2 and max(encoder.sub_volume) <= encoder.patch * 8:
            sides, least = list(encoder.sub_volume), encoder.patch * 8
            yield f"sub_volume {sides} must be larger than {least} voxels, or a norm of use_v2 has one token left"
        if isinstance(given, MethodOptions):
            yield from kind.misfits(given, lambda *_names: True, encoder)

    @classmethod
    def nested(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """The values with the fields of the method's options among the options, wherever they were given.

        Raises:
            ValueError: for an unknown method, and for fields that are options of another one.
        """
        method = values.get("method", "s2dc")
        if not isinstance(method, str) or method not in METHODS:
            raise ValueError(unknown_method(method))
        own, every = names_of(METHODS[method]), {name for kind in METHODS.values() for name in names_of(kind)}
        rest = {name: value for name, value in values.items() if name in names_of(cls) or name not in every}
        inner = {name: value for name, value in values.items() if name not in rest}
        given = rest.get("options") or {}
        if isinstance(given, MethodOptions):
            if type(given) is not METHODS[method]:
                kind = type(given).__name__
                raise ValueError(f"a recipe of {method} cannot hold {kind}: give them to PretrainConfig, or to replace")
            given = {name: getattr(given, name) for name in names_of(type(given))}
        if not isinstance(given, Mapping):
            return dict(values)
        options = {**given, **inner}
        if strange := [name for name in options if name in every - own]:
            raise ValueError(f"{', '.join(strange)}: options of another method, {method} has {', '.join(sorted(own))}")
        return {**rest, "options": options} if options else rest

    @classmethod
    def place_of(cls, name: str, values: Mapping[str, Any]) -> str:
        """Where a field lies that a command line names, such as options.views.counts for views.counts."""
        first = name.split(".")[0]
        inner = any(first in names_of(kind) for kind in METHODS.values()) and first not in names_of(cls)
        return f"options.{name}" if inner else name

    @classmethod
    def field_names(cls) -> list[str]:
        """Of the recipe and of every method's options."""
        inner = (each.name for kind in METHODS.values() for each in fields(kind))
        return list(dict.fromkeys([each.name for each in fields(cls)] + list(inner)))

    @classmethod
    def from_dict(cls, values: Mapping) -> "PretrainConfig":
        """A recipe from plain values; what is not named keeps its default.

        Raises:
            ValueError: for a field that does not exist, or a value that does not fit, naming it.
        """
        return super().from_dict(cls.nested(values) if isinstance(values, Mapping) else values)

    def build(self) -> Method:
        """The method with the initial weights that the seed gives, leaving the global random state alone."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            method = self.options.build(self.encoder)
        for module in method.modules():
            if isinstance(module, Encoder):
                module.at_a_time = self.gradient_checkpointing
        return method

    @property
    def whole_batch(self) -> bool:
        """Whether a region's loss depends on the others of its batch, as the method says."""
        return self.options.whole_batch


def unknown_method(name: object) -> str:
    """What is said of a method that there is not."""
    return f"unknown method {name!r}{nearest(name, METHODS)}"


def names_of(kind: type[Options]) -> set[str]:
    """Names of the fields of some options."""
    return {each.name for each in fields(kind)}


RECIPES = recipes_of(PretrainConfig.FOLDER)
