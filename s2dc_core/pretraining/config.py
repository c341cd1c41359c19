"""Everything that decides a pre-training but the scans: model, views, loss, schedule, seed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch

from s2dc_core.encoder import EncoderConfig
from s2dc_core.losses import PRESETS, LossOptions
from s2dc_core.model import TOKEN_HEADS, StudentTeacher
from s2dc_core.options import one_of, problems_of, that, within
from s2dc_core.training.recipe import LEVEL_NAMES, MANY, Recipe
from s2dc_core.training.recipe_file import recipes_of
from s2dc_core.views import ViewConfig

NORMS = ("layer", "batch")


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

    FOLDER: ClassVar[str] = "s2dc_core.pretraining"

    RULES: ClassVar = {
        **Recipe.RULES,
        "levels": LEVEL_NAMES,
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


RECIPES = recipes_of(PretrainConfig.FOLDER)
