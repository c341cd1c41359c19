"""Reconstruction and translation (tables 5 and 6): an image from another one, scored by PSNR, NMSE and SSIM."""

from collections.abc import Callable
from numbers import Real

import torch
from jaxtyping import Float
from monai.transforms import RandSpatialCropd
from torch import Tensor, nn

from s2dc_core.downstream.config import FinetuneConfig
from s2dc_core.downstream.examples import Example
from s2dc_core.downstream.scores import nmse, psnr, ssim
from s2dc_core.downstream.tasks import VoxelTask, draw_crop


class ImageToImage(VoxelTask):
    """SwinUNETR with one channel and the mean absolute error.

    Args:
        residual: the network's answer is added to the first channel of its input, for a task whose input is already an
            estimate on the target's scale, such as PET of a low dose.
        data_range: of PSNR and SSIM; None for each target's own largest minus smallest value.
        foreground: only voxels whose target is at least this are scored; None for all.
        units: brings prediction and target to the units that they are scored in; None to score them as they are.
    """

    main = "PSNR"
    outputs = 1

    def __init__(
        self,
        residual: bool = False,
        data_range: Real | None = None,
        foreground: Real | None = None,
        units: Callable[[Tensor], Tensor] | None = None,
    ):
        self.residual, self.data_range, self.foreground, self.units = residual, data_range, foreground, units

    def draw(self, example: Example, config: FinetuneConfig, seed: int) -> tuple[Tensor, Tensor]:
        """A crop from anywhere. Intensities stay: the target's would have to change with them."""
        crop = RandSpatialCropd(("image", "truth"), config.region, random_size=False)
        target = example.truth[None]
        if self.residual:
            target = target - example.image[:1]
        return draw_crop(example, target, config, crop, [], seed)

    def loss(self, output: Float[Tensor, "b 1 x y z"], truth: Float[Tensor, "b 1 x y z"]) -> Float[Tensor, ""]:
        """Mean absolute error."""
        return nn.functional.l1_loss(output, truth)

    def predict(
        self, network: nn.Module, example: Example, config: FinetuneConfig, device: torch.device
    ) -> Float[Tensor, "x y z"]:
        """The image."""
        answer = self.answers(network, example, config, device)[0]
        return answer + example.image[0] if self.residual else answer

    def score(self, prediction: Float[Tensor, "x y z"], example: Example) -> dict[str, float]:
        """PSNR in dB, NMSE, SSIM."""
        target = example.truth
        if self.units:
            prediction, target = self.units(prediction), self.units(target)
        mask = None if self.foreground is None else target >= self.foreground
        data_range = float(target.max() - target.min()) if self.data_range is None else self.data_range
        return {
            "PSNR": psnr(prediction, target, data_range, mask),
            "NMSE": nmse(prediction, target, mask),
            "SSIM": ssim(prediction, target, data_range, mask),
        }
