"""The linear layer on tokens, and the sizes that it and SwinUNETR take."""

import pytest
import torch

from s2dc_core.downstream.networks import Classifier, LinearDecoder, swin_unetr
from s2dc_core.encoder import EncoderConfig

SIZES = EncoderConfig(embed_dim=12, heads=(1, 2, 2, 2), window=4, use_v2=False)


def test_the_linear_decoder_is_linear_in_the_tokens_and_lies_on_the_voxels():
    """Tokens that hold their own places: inside, an answer is the linear layer of its voxel's place."""
    torch.manual_seed(0)
    network = LinearDecoder(SIZES, 5, (1, 2))
    axes = [stride * torch.arange(32.0 // stride) + (stride - 1) / 2 for stride in (4, 8)]
    places = [torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij")) for axis in axes]
    maps = [torch.zeros(1, 24, 8, 8, 8), torch.zeros(1, 48, 4, 4, 4)]
    for tokens, place in zip(maps, places, strict=True):
        tokens[0, :3] = place
    network.encoder.forward = lambda volume: [None, *maps]
    with torch.no_grad():
        answers = network(torch.zeros(1, 1, 32, 32, 32))[0]
        for voxel in ((6, 9, 20), (13, 25, 7)):
            joined = torch.zeros(72)
            joined[:3] = joined[24:27] = torch.tensor(voxel)
            assert torch.allclose(answers[:, *voxel], network.linear(joined), atol=1e-4)


def test_levels_are_joined_on_the_finest_grid():
    network = LinearDecoder(SIZES, 3, (3, 0))
    assert network.linear.in_features == 12 * (8 + 1)
    volume = torch.randn(2, 1, 64, 32, 32)
    assert network(volume).shape == (2, 3, 64, 32, 32)
    answers = network(volume)
    answers.sum().backward()
    reached = {name.split(".")[0] for name, weight in network.swinViT.named_parameters() if weight.grad is not None}
    assert reached == {"patch_embed", "layers1", "layers2", "layers3"}


def test_a_classifier_pools_and_is_linear():
    torch.manual_seed(0)
    network = Classifier(SIZES, 3, (2, 4)).eval()
    volume = torch.randn(2, 1, 64, 32, 32)
    with torch.no_grad():
        maps = network.encoder(volume)
        pooled = torch.stack(
            [torch.cat([m[b].reshape(len(m[b]), -1).mean(1) for m in (maps[2], maps[4])]) for b in (0, 1)]
        )
        assert torch.allclose(network(volume), network.linear(pooled), atol=1e-6)


def test_swin_unetr_holds_the_encoder_under_its_name():
    network = swin_unetr(SIZES, 4)
    assert network.swinViT.embed_dim == 12 and network.out.conv.conv.out_channels == 4


@pytest.mark.parametrize("head", ["unetr", "linear"])
def test_the_head_is_one_parameter(head):
    from s2dc_core.downstream import FinetuneConfig, Segmentation

    config = FinetuneConfig(region=(64, 32, 32), head=head)
    network = Segmentation({1: "a", 2: "b"}).network(SIZES, config)
    assert isinstance(network, LinearDecoder) == (head == "linear")
    assert network(torch.zeros(1, 1, 64, 32, 32)).shape == (1, 3, 64, 32, 32)
