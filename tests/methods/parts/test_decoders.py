"""Decoders: shapes, sizes, and what reaches a voxel."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from s2dc_core.encoder import Encoder, EncoderConfig
from s2dc_core.methods.parts.decoders import DECODERS, Decoder, PlainDecoder, VoxelDecoder, plain_decoder
from tests.methods.test_every_method import ENCODER

TEACHING = EncoderConfig(embed_dim=24, heads=(2, 4, 8, 16), window=4, use_v2=False, sub_volume=(32, 32, 32))


def numbers(module):
    return sum(weight.numel() for weight in module.parameters())


def maps_of(encoder, shape=(32, 32, 32), channels=1):
    volume = torch.randn(2, channels, *shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return Encoder.from_seed(encoder, 0)(volume)


def test_their_sizes_are_those_measured_elsewhere():
    assert numbers(plain_decoder(TEACHING)) == 783_913
    assert numbers(VoxelDecoder(TEACHING, level=3)) == 661_513


@pytest.mark.parametrize("level", [2, 3, 4])
@pytest.mark.parametrize("channels", [1, 2])
def test_all_give_voxels(level, channels):
    encoder = replace(ENCODER, in_channels=channels)
    maps = maps_of(encoder, channels=channels)
    decoders = [VoxelDecoder(encoder, level, skips) for skips in (False, True)]
    made = [decoder(maps) for decoder in decoders] + [plain_decoder(encoder, level)(maps[level])]
    for each in made:
        assert each.shape == (2, channels, 32, 32, 32) and torch.isfinite(each).all()


@pytest.mark.parametrize("skips", [False, True])
def test_every_step_doubles_the_grid(skips):
    decoder = Decoder(ENCODER, 4, skips)
    made = decoder(maps_of(ENCODER))
    assert [each.shape[1] for each in made] == decoder.channels == [96, 48, 24, 12, 6]
    assert [each.shape[2] for each in made] == [2, 4, 8, 16, 32]


def test_a_last_map_of_one_token_trains():
    """An instance norm refuses it."""
    maps = [each.requires_grad_() for each in maps_of(ENCODER)]
    assert maps[4].shape[2:] == (1, 1, 1)
    with pytest.raises(ValueError, match="more than 1 spatial element"):
        F.instance_norm(maps[4])
    VoxelDecoder(ENCODER, 4).train()(maps).square().mean().backward()
    assert maps[4].grad.abs().max() > 0


@pytest.mark.parametrize(("skips", "read"), [(False, {3}), (True, {0, 1, 2, 3})])
def test_it_reads_the_maps_that_it_says(skips, read):
    maps = [each.requires_grad_() for each in maps_of(ENCODER)]
    VoxelDecoder(ENCODER, 3, skips)(maps).square().mean().backward()
    assert {level for level, each in enumerate(maps) if each.grad is not None and each.grad.abs().max() > 0} == read


def test_sides_may_differ():
    maps = maps_of(ENCODER, (32, 64, 32))
    for decoder in (VoxelDecoder(ENCODER, 4), VoxelDecoder(ENCODER, 4, skips=True)):
        assert decoder(maps).shape == (2, 1, 32, 64, 32)


def test_a_plain_decoder_is_linear_and_keeps_to_the_token():
    decoder, one = plain_decoder(ENCODER, 3).double(), torch.zeros(1, 96, 2, 2, 2, dtype=torch.float64)
    other = one.clone()
    other[0, :, 1, 0, 1] = torch.randn(96, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with torch.no_grad():
        change = decoder(other) - decoder(one)
        torch.testing.assert_close(decoder(3 * other) - decoder(one), 3 * change)
    touched = change[0, 0].abs() > 0
    assert touched[16:, :16, 16:].all() and touched.sum() == 16**3


@pytest.mark.parametrize("level", [2, 4])
def test_a_plain_decoder_of_all_maps_reads_its_own(level):
    maps, decoder = maps_of(ENCODER), PlainDecoder(ENCODER, level)
    with torch.no_grad():
        assert torch.equal(decoder(maps), decoder.steps(maps[level]))
        made = {name: kind(ENCODER, level)(maps).shape for name, kind in DECODERS.items()}
    assert made == dict.fromkeys(("transposed", "convolutions", "skips"), (2, 1, 32, 32, 32))
