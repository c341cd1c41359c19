"""What bfloat16 must not change: gradients of convolutions on a CPU."""

import copy

import pytest
import torch
from torch import nn

from s2dc_core.methods.parts.decoders import conv_block
from s2dc_core.pretraining import Pretraining
from s2dc_core.training.precision import autocast, keep_convolutions
from tests.methods.test_every_method import SCANS, small

CPU = torch.device("cpu")


def gradient(network, values, config):
    network.zero_grad()
    junk = [torch.full((1 << k,), float("nan")) for k in range(4, 20)]  # what memory holds that was used before
    del junk
    with autocast(config, CPU):
        network(values).float().square().mean().backward()
    return network[0].weight.grad.clone()


@pytest.mark.parametrize("sides", [(2, 2, 2), (2, 2, 4), (4, 2, 2)])
def test_the_gradient_of_a_convolution_is_the_one_of_float32(sides):
    """Where a map has two voxels along its first axis, oneDNN's in bfloat16 is not."""
    network = conv_block(16, 16)
    values = torch.randn(4, 16, *sides, generator=torch.Generator().manual_seed(0))
    exact = gradient(network, values, small("simmim"))
    rough = small("simmim", precision="bfloat16")
    keep_convolutions(network, rough, CPU)
    for _ in range(5):
        assert (gradient(network, values, rough) - exact).norm() < 0.02 * exact.norm()


def test_a_copy_calls_its_own_weights():
    network = nn.Sequential(nn.Conv3d(1, 1, 1))
    keep_convolutions(network, small("simmim", precision="bfloat16"), CPU)
    other = copy.deepcopy(network)
    with torch.no_grad():
        other[0].weight.zero_()
        other[0].bias.zero_()
    values = torch.ones(1, 1, 2, 2, 2)
    assert not other(values).any() and network(values).any()


@pytest.mark.parametrize("method", ["models_genesis", "pcrlv1", "gvsl"])
def test_a_decoder_of_32_voxels_trains_alike_each_time(method):
    found = []
    for _ in range(2):
        run = Pretraining(small(method, steps=4, precision="bfloat16", learning_rate=1e-4), SCANS, device="cpu")
        found.append([run.step().total for _ in range(4)])
    assert found[0] == found[1]
