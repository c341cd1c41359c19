"""The precision in which a recipe runs its networks."""

from contextlib import AbstractContextManager, nullcontext
from types import MethodType

import torch
from torch import Tensor, nn

from s2dc_core.training.recipe import Recipe


def autocast(config: Recipe, device: torch.device) -> AbstractContextManager:
    """The precision in which a recipe runs the networks, as a context."""
    return torch.autocast(device.type, torch.bfloat16) if config.precision == "bfloat16" else nullcontext()


def keep_convolutions(network: nn.Module, config: Recipe, device: torch.device) -> None:
    """On a CPU leave a network's 3D convolutions in float32, whatever the recipe's precision.

    In bfloat16 the gradient of their weights may come from memory that was never set: torch 2.13 with oneDNN on a
    processor with avx512_bf16, where a map has two voxels along its first axis, as decoders of 32^3 have.
    """
    if config.precision == "bfloat16" and device.type == "cpu":
        for module in network.modules():
            if isinstance(module, (nn.Conv3d, nn.ConvTranspose3d)):
                module.forward = MethodType(_in_float32, module)  # bound, so that a copy calls its own weights


def _in_float32(module: nn.Module, values: Tensor) -> Tensor:
    with torch.autocast("cpu", enabled=False):
        return type(module).forward(module, values.float())
