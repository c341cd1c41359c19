"""Everything that decides a fine-tuning but the task and its examples."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from s2dc_core.encoder import LEVEL_NAMES, EncoderConfig
from s2dc_core.options import MANY, from_zero, one_of, that, whole_numbers_to, within
from s2dc_core.training.recipe import Recipe
from s2dc_core.training.recipe_file import recipes_of

HEADS = ("unetr", "linear")


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

    FOLDER: ClassVar[str] = "s2dc_core.downstream"

    RULES: ClassVar = {
        **Recipe.RULES,
        "encoder_rate": from_zero(1e6),
        "region": whole_numbers_to(MANY, of=3),
        "background_share": that(lambda share: 0 <= share < 1, "must be from 0 to less than 1"),
        "flip": that(lambda share: 0 <= share <= 1, "must be from 0 to 1"),
        "intensity": from_zero(1e3),
        "head": one_of(*HEADS),
        "levels": LEVEL_NAMES,
        "windows": within(1, MANY),
        "overlap": that(lambda share: 0 <= share < 1, "must be from 0 to less than 1"),
        "selection": within(0, 10**9),
        "look_every": within(1, 10**12),
    }


FINETUNE_RECIPES = recipes_of(FinetuneConfig.FOLDER)
