"""What a downstream task is: a network, how a crop of a case is drawn, what is trained, and how a case is scored."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from monai.inferers import sliding_window_inference
from monai.transforms import Compose, RandFlipd, SpatialPad, Transform
from monai.utils import convert_to_tensor
from torch import Tensor, nn

from s2dc_core.downstream.config import FinetuneConfig, ViTSizes
from s2dc_core.downstream.examples import Example, Examples
from s2dc_core.downstream.networks import LinearDecoder, swin_unetr, vit_unetr
from s2dc_core.encoder import EncoderConfig

DEPTH = 16
"""SwinUNETR halves its tokens four times."""

VIT_PATCH = 16
"""Voxels of a token of UNETR along each axis."""

LINEAR_LEVELS = (0, 1, 2, 3)
POOLED_LEVELS = (4,)


class Task(ABC):
    """What a network learns from examples.

    Attributes:
        main: the name of the score that a training is judged by; higher is better.
    """

    main: str

    @abstractmethod
    def network(self, encoder: EncoderConfig, config: FinetuneConfig) -> nn.Module:
        """The network, with random weights, around an encoder of these sizes.

        Raises:
            ValueError: for a region that it cannot take.
        """

    @abstractmethod
    def draw(self, example: Example, config: FinetuneConfig, seed: int) -> tuple[Tensor, Tensor]:
        """What one step sees of a case: image [C, *region] and truth; the same seed draws the same.

        Raises:
            ValueError: naming the case, for a truth that the task cannot use, or a case that is smaller than the
                region while the recipe says not to pad it.
        """

    @abstractmethod
    def loss(self, output: Float[Tensor, "b k *_"], truth: Tensor) -> Float[Tensor, ""]:
        """Of a batch of what `draw` gives."""

    @abstractmethod
    def predict(self, network: nn.Module, example: Example, config: FinetuneConfig, device: torch.device) -> Tensor:
        """What the network says of a whole case, on the CPU.

        Raises:
            ValueError: as draw.
        """

    @abstractmethod
    def score(self, prediction: Tensor, example: Example) -> dict[str, float]:
        """The numbers of a case, `main` among them; NaN where a number has no meaning."""

    def refuse_case(self, examples: Examples, index: int) -> None:
        """Raise a ValueError or OSError for a case that cannot be read or used, as far as its headers and labels tell.

        It is asked of every case, of those to be scored too, before any work is done.
        """
        examples.check(index)

    def refuse_training(self, examples: Examples) -> None:  # noqa: B027
        """Raise a ValueError for training cases that the task cannot be learnt from, before any work is done."""


class VoxelTask(Task):
    """A task with an answer for every voxel: a decoder on crops, windows that slide over a whole case.

    Attributes:
        outputs: channels of the answer.
    """

    outputs: int

    def network(self, encoder: EncoderConfig, config: FinetuneConfig) -> nn.Module:
        """MONAI's SwinUNETR or UNETR, or the linear decoder, with a channel for each answer.

        Raises:
            ValueError: for a region whose sides it cannot halve often enough, or cut into whole tokens.
        """
        if config.head == "vit_unetr":
            if any(side % VIT_PATCH for side in config.region):
                raise ValueError(f"region {list(config.region)} must be multiples of {VIT_PATCH}, a token of vit_unetr")
            return vit_unetr(config.vit or ViTSizes(), config.region, encoder.in_channels, self.outputs)
        least = encoder.patch * DEPTH
        if any(side % least for side in config.region) or max(config.region) == least:
            raise ValueError(f"region {list(config.region)} must be multiples of {least}, one of them larger")
        if config.head == "linear":
            return LinearDecoder(encoder, self.outputs, config.levels or LINEAR_LEVELS)
        return swin_unetr(encoder, self.outputs)

    def answers(self, network: nn.Module, example: Example, config: FinetuneConfig, device: torch.device) -> Tensor:
        """The network's answers for a whole case, [K, X, Y, Z]; windows overlap and count most in their middle."""
        refuse_small(example, config)
        found = sliding_window_inference(
            example.image[None].to(device),
            config.region,
            config.windows,
            network,
            overlap=config.overlap,
            mode="gaussian",
            cval=example.background,
        )
        return found[0].float().cpu()


def refuse_small(example: Example, config: FinetuneConfig) -> None:
    """A case that no crop fits into is padded only if the recipe says so.

    Raises:
        ValueError: naming the case.
    """
    shape = tuple(example.image.shape[1:])
    if not config.pad and any(side < window for side, window in zip(shape, config.region, strict=True)):
        raise ValueError(
            f"{example.name} has {' x '.join(map(str, shape))} voxels, fewer than the region "
            f"{' x '.join(map(str, config.region))}: take a smaller region, finer voxels, or pad=true"
        )


def draw_crop(
    example: Example,
    truth: Tensor,
    config: FinetuneConfig,
    crop: Transform,
    more: Sequence[Transform],
    seed: int,
    known: Callable[[Tensor], Mapping[str, Any]] = lambda truth: {},
) -> tuple[Tensor, Tensor]:
    """A crop of image and truth [1, X, Y, Z], flipped if the recipe says so, then changed by what else is given.

    Args:
        crop, more: MONAI's transforms of the entries "image" and "truth".
        known: what else the crop reads, of the truth as it is padded.
    """
    refuse_small(example, config)
    item = {
        "image": SpatialPad(config.region, value=example.background)(example.image),
        "truth": SpatialPad(config.region)(truth),
    }
    item |= known(item["truth"])
    flips = [RandFlipd(("image", "truth"), config.flip, axis) for axis in range(3)] if config.flip else []
    return seeded([crop, *flips, *more], item, seed)


def seeded(steps: Sequence[Transform], item: dict, seed: int) -> tuple[Tensor, Tensor]:
    """Image and truth after random transforms, which the seed decides."""
    done = Compose(steps).set_random_state(seed=seed)(item)
    done = done[0] if isinstance(done, list) else done  # MONAI's croppers give a list of samples
    return convert_to_tensor(done["image"], track_meta=False), convert_to_tensor(done["truth"], track_meta=False)
