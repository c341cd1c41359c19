"""Everything that decides a fine-tuning but the task and its examples."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from s2dc_core.encoder import LEVEL_NAMES, EncoderConfig
from s2dc_core.options import MANY, Options, from_zero, one_of, that, whole_numbers_to, within
from s2dc_core.training.recipe import Recipe
from s2dc_core.training.recipe_file import recipes_of

HEADS = ("unetr", "linear", "vit_unetr")


@dataclass(frozen=True)
class ViTSizes(Options):
    """Sizes of UNETR, which has a vision transformer of 12 blocks on patches of 16^3 in place of the Swin encoder.

    Attributes:
        feature: channels of the decoder's finest map.
        hidden, mlp, heads: of the transformer: channels of a token, of the layer between, and attention heads.
    """

    feature: int = 16
    hidden: int = 768
    mlp: int = 3072
    heads: int = 12

    RULES: ClassVar = dict.fromkeys(("feature", "hidden", "mlp", "heads"), within(1, MANY))

    @classmethod
    def disagreements(cls, values, sound) -> Iterator[str]:
        """Heads share the channels of a token."""
        if sound("hidden", "heads") and values.hidden % values.heads:
            yield f"hidden {values.hidden} channels cannot be shared by {values.heads} heads"


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
        head: "unetr" for MONAI's SwinUNETR, "linear" for one linear layer on the tokens, see networks.LinearDecoder,
            "vit_unetr" for MONAI's UNETR, which has no Swin encoder and always starts from scratch; a classification
            has its own.
        vit: sizes of UNETR; None for its paper's. `encoder_rate` is then its transformer's.
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
    vit: ViTSizes | None = None
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

    @classmethod
    def disagreements(cls, values, sound) -> Iterator[str]:
        """What UNETR does not have, and what it alone has."""
        yield from super().disagreements(values, sound)
        if not sound("head"):
            return
        if values.head != "vit_unetr":
            if values.vit is not None:
                yield f"vit: sizes of head=vit_unetr, and head is {values.head}"
            return
        if sound("weights") and values.weights:
            yield f"head vit_unetr takes no pre-trained Swin encoder: leave out weights, {values.weights!r}"
        if values.encoder is not None:
            yield "head vit_unetr has no Swin encoder: leave out encoder, its own sizes are vit"


FINETUNE_RECIPES = recipes_of(FinetuneConfig.FOLDER)
