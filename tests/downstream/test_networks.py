"""The linear layer on tokens, UNETR, and the sizes that they and SwinUNETR take."""

import pytest
import torch

from s2dc_core.downstream.config import ViTSizes
from s2dc_core.downstream.networks import Classifier, LinearDecoder, encoder_part, swin_unetr, vit_unetr
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


def weights_of(network):
    return sum(weight.numel() for weight in network.parameters())


@pytest.mark.parametrize(
    ("sizes", "side", "outputs", "whole", "transformer"),
    [
        (ViTSizes(), 96, 14, 92_802_478, 88_359_168),
        (ViTSizes(feature=32), 96, 14, 101_805_646, 88_359_168),
        (ViTSizes(feature=8, hidden=96, mlp=384, heads=4), 32, 5, 2_440_621, 1_735_200),
    ],
)
def test_unetr_has_as_many_weights_as_its_paper_gives_it(sizes, side, outputs, whole, transformer):
    with torch.device("meta"):
        network = vit_unetr(sizes, (side,) * 3, 1, outputs)
    assert (weights_of(network), weights_of(network.vit)) == (whole, transformer)
    assert encoder_part(network) is network.vit and encoder_part(swin_unetr(SIZES, 2)).embed_dim == 12


SMALL_VIT = ViTSizes(feature=4, hidden=24, mlp=48, heads=2)


def test_a_head_of_unetr_reads_two_channels_and_answers_every_voxel():
    from s2dc_core.downstream import FinetuneConfig, Segmentation

    config = FinetuneConfig(region=(48, 32, 32), head="vit_unetr", vit=SMALL_VIT)
    network = Segmentation({1: "a", 2: "b"}).network(EncoderConfig(in_channels=2), config)
    assert network(torch.zeros(1, 2, 48, 32, 32)).shape == (1, 3, 48, 32, 32)
    with pytest.raises((RuntimeError, ValueError)):  # places are learnt for one size
        network(torch.zeros(1, 2, 64, 32, 32))


def test_a_transformer_knows_patches_by_their_places():
    """Patches and the rows of their places exchanged together leave its tokens exchanged."""
    torch.manual_seed(0)
    vit = vit_unetr(SMALL_VIT, (32, 32, 32), 1, 2).eval().vit
    volume, order = torch.randn(1, 1, 32, 32, 32), torch.randperm(8)
    cells = volume.unflatten(4, (2, 16)).unflatten(3, (2, 16)).unflatten(2, (2, 16)).permute(0, 1, 2, 4, 6, 3, 5, 7)
    moved = cells.flatten(2, 4)[:, :, order].unflatten(2, (2, 2, 2)).permute(0, 1, 2, 5, 3, 6, 4, 7)
    with torch.no_grad():
        tokens, _ = vit(volume)
        other, _ = vit(moved.reshape(1, 1, 32, 32, 32))
        assert not torch.allclose(other, tokens[:, order], atol=1e-4)
        vit.patch_embedding.position_embeddings.copy_(vit.patch_embedding.position_embeddings[:, order])
        other, _ = vit(moved.reshape(1, 1, 32, 32, 32))
    torch.testing.assert_close(other, tokens[:, order], atol=1e-5, rtol=1e-4)


def test_what_unetr_does_not_have_is_refused():
    from s2dc_core.downstream import Classification, FinetuneConfig, Segmentation

    for weights in ("s2dc", "somebody.pt"):
        with pytest.raises(
            ValueError, match=f"vit_unetr takes no pre-trained Swin encoder: leave out weights, '{weights}'"
        ):
            FinetuneConfig(head="vit_unetr", weights=weights)
    with pytest.raises(ValueError, match="vit_unetr has no Swin encoder: leave out encoder"):
        FinetuneConfig(head="vit_unetr", encoder=SIZES)
    with pytest.raises(ValueError, match="vit: sizes of head=vit_unetr, and head is linear"):
        FinetuneConfig(head="linear", vit=SMALL_VIT)
    with pytest.raises(ValueError, match="vit: hidden 25 channels cannot be shared by 2 heads"):
        FinetuneConfig.from_dict({"head": "vit_unetr", "vit": {"hidden": 25, "heads": 2}})
    config = FinetuneConfig(head="vit_unetr", vit=SMALL_VIT, region=(40, 32, 32))
    with pytest.raises(ValueError, match=r"region \[40, 32, 32\] must be multiples of 16"):
        Segmentation({1: "a"}).network(SIZES, config)
    with pytest.raises(ValueError, match="a classification pools the Swin encoder's tokens"):
        Classification({0: "a", 1: "b"}).network(SIZES, config)


def test_its_recipes_say_what_it_is():
    from s2dc_core.downstream import FinetuneConfig

    small, paper = (FinetuneConfig.from_recipe(f"{kind}/vit_unetr") for kind in ("teaching", "paper"))
    assert paper.vit == ViTSizes() and paper.region == (96, 96, 96) and small.vit.hidden == 96
    assert FinetuneConfig.from_recipe("teaching/vit_unetr", ["vit.feature=4"]).vit == ViTSizes(4, 96, 384, 4)
    assert FinetuneConfig.from_dict(small.as_dict()) == small
