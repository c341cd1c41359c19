"""Weights files of several projects, made here with their names and shapes: each loads, or is refused by name."""

import argparse
import os

import pytest
import torch
from monai.networks.nets import SwinUNETR
from safetensors.torch import save_file

from s2dc_core.encoder import Encoder, EncoderConfig
from s2dc_core.library import open_weights
from s2dc_core.weights import export_encoder, load_encoder, load_into, read_weights, with_channels

CONFIG = EncoderConfig(embed_dim=12, depths=(2, 2, 4, 2), heads=(1, 2, 4, 8), window=4)
HEADS = {"rotation_head.weight": torch.ones(4, 8), "contrastive_head.bias": torch.ones(3)}


def parameters(**changes):
    """An encoder and its tensors under the Swin transformer's own names, the index tables among them."""
    torch.manual_seed(0)
    encoder = Encoder(EncoderConfig(**{**vars(CONFIG), **changes})).eval()
    return encoder, dict(encoder.swinViT.state_dict())


def as_ssl(tensors):
    return {"state_dict": {f"module.{n.replace('.linear', '.fc')}": w for n, w in {**tensors, **HEADS}.items()}}


def as_voco(tensors):
    student = {f"student.swinViT.{name}": weight for name, weight in tensors.items()}
    student["student.encoder1.layer.conv1.conv.weight"] = torch.ones(2)
    return student | {
        f"teacher.swinViT.{name}": weight + 1 for name, weight in tensors.items() if weight.dtype.is_floating_point
    }


def as_published(tensors):
    found = {f"module.{name}": weight for name, weight in as_voco(tensors).items()}
    found["module.queue_cl"] = torch.ones(3, 4)
    return {"state_dict": found, "global_step": 7, "optimizer": {"state": {}, "param_groups": [{"lr": 1e-4}]}}


def as_older(tensors):
    return {"model": {f"swin_vit.{name}": weight for name, weight in tensors.items()}}


def as_swinmm(tensors):
    """pretrained_ckpt.pt: SSLHead in DDP, its heads and its decoder, and the optimiser's numbers for each weight."""
    heads = {**HEADS, "conv.0.weight": torch.ones(2, 3), "conv.16.bias": torch.ones(1)}
    found = {**{f"swinViT.{name}": weight for name, weight in tensors.items()}, **heads}
    state = {k: {"step": torch.tensor(3.0), "exp_avg": weight + 1} for k, weight in enumerate(found.values())}
    optimiser = {"state": state, "param_groups": [{"lr": 5e-4, "params": list(state)}]}
    return {"global_step": 7, "state_dict": {f"module.{n}": w for n, w in found.items()}, "optimizer": optimiser}


def as_voco_head(tensors):
    beside = {f"encoder{k}.layer.conv1.conv.weight": torch.ones(2) for k in (1, 2, 3, 4, 10)}
    return {**{f"swinViT.{name}": weight for name, weight in tensors.items()}, **beside}


def as_simmim(tensors):
    """A masked Swin in 3D: the token for what is masked, a last norm, and a decoder of one layer."""
    beside = {"mask_token": torch.zeros(1, 12, 1, 1, 1), "norm.weight": torch.ones(192)}
    encoder = {f"encoder.{name}": weight for name, weight in {**tensors, **beside}.items()}
    decoder = {"decoder.0.weight": torch.ones(4, 192, 1, 1, 1), "decoder.0.bias": torch.ones(4)}
    config = argparse.Namespace(mask_ratio=0.6, model_patch_size=(2, 2, 2))
    return {"model": {**encoder, **decoder}, "optimizer": {"state": {}}, "epoch": 3, "config": config}


LAYOUTS = {
    "ssl": as_ssl,
    "voco": as_voco,
    "published": as_published,
    "older": as_older,
    "swinmm": as_swinmm,
    "voco's head": as_voco_head,
    "simmim": as_simmim,
}
BESIDE = {
    "swinmm": {
        "module.conv.0.weight",
        "module.conv.16.bias",
        "module.contrastive_head.bias",
        "module.rotation_head.weight",
    },
    "voco's head": {f"encoder{k}.layer.conv1.conv.weight" for k in (1, 2, 3, 4, 10)},
    "simmim": {"encoder.mask_token", "encoder.norm.weight", "decoder.0.weight", "decoder.0.bias"},
}
"""What the report says of tensors that are none of the encoder's."""


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("use_v2", [True, False])
def test_each_layout_gives_the_encoder_that_was_saved(tmp_path, layout, use_v2):
    encoder, tensors = parameters(use_v2=use_v2)
    torch.save(LAYOUTS[layout](tensors), tmp_path / "file.pt")
    loaded, report = load_encoder(tmp_path / "file.pt")
    assert loaded.config == encoder.config
    own = dict(encoder.named_parameters())
    assert report.matched == sorted(own) and not report.missing and not report.wrong_shape
    assert all(torch.equal(own[name], weight) for name, weight in loaded.named_parameters())
    assert all("swinViT" not in name or "teacher" in name for name in report.unexpected)
    if layout in BESIDE:
        assert set(report.unexpected) == BESIDE[layout] and not report.taken
    if layout == "published":
        assert "module.queue_cl" in report.unexpected
        assert sum("teacher" in name for name in report.unexpected) == len(own)
    volume = torch.rand(1, 1, 32, 32, 32)
    with torch.no_grad():
        for one, other in zip(loaded.eval()(volume), encoder(volume), strict=True):
            torch.testing.assert_close(one, other)


@pytest.mark.parametrize("use_v2", [True, False])
def test_files_of_the_papers_size_hold_as_many_weights_as_their_projects_say(tmp_path, use_v2):
    """VoCo_B_SSL_head.pt: 145 tensors, of which 126 parameters are the encoder's; model_swinvit.pt: all of 118."""
    network = SwinUNETR(in_channels=1, out_channels=14, feature_size=48, use_v2=use_v2)
    heads = ("swinViT.", "encoder") if use_v2 else ("swinViT.",)
    tensors = {name: value for name, value in network.state_dict().items() if name.startswith(heads)}
    if use_v2:
        counted = [value.numel() for name, value in tensors.items() if not name.endswith("position_index")]
        assert len(tensors) == 145 and sum(counted) == 53_164_146
    halves = {name: value.half() if value.is_floating_point() else value for name, value in tensors.items()}
    torch.save(halves, tmp_path / "file.pt")
    loaded, report = load_encoder(tmp_path / "file.pt")
    counts = (126, 18_637_362) if use_v2 else (118, 8_062_002)
    assert (len(report.matched), sum(weight.numel() for weight in loaded.parameters())) == counts
    assert not report.missing and not report.wrong_shape and len(report.unexpected) == 11 * use_v2
    assert loaded.config == EncoderConfig(use_v2=use_v2)
    again = load_into(SwinUNETR(in_channels=1, out_channels=14, feature_size=48, use_v2=use_v2), tmp_path / "file.pt")
    assert len(again.matched) == counts[0] + 11 * use_v2 and not again.unexpected


@pytest.mark.parametrize("wrapped", [True, False])
def test_a_network_of_another_kind_is_said_to_be_one(tmp_path, wrapped):
    """PCRLv2 and Models Genesis leave 3D U-Nets; the first one's options beside them are passed over."""
    unet = {f"module.down_tr64.ops.{k}.conv1.weight": torch.ones(2) for k in range(3)}
    content = {"opt": argparse.Namespace(lr=1e-3), "state_dict": unet, "epoch": 240} if wrapped else unet
    torch.save(content, tmp_path / "file.pt")
    with pytest.raises(
        ValueError, match="there is no patch_embed.proj.weight among its tensors .*down_tr64.ops.0.conv1"
    ):
        load_encoder(tmp_path / "file.pt")


def test_monais_own_loader_agrees_about_its_self_supervised_file(tmp_path):
    """SwinUNETR.load_from reads the same file into the same encoder, as far as it goes."""
    _, tensors = parameters(depths=(2, 2, 2, 2), heads=(3, 6, 12, 24), window=7, use_v2=False)
    torch.save(as_ssl(tensors), tmp_path / "model_swinvit.pt")
    theirs = SwinUNETR(in_channels=1, out_channels=2, feature_size=12)
    theirs.load_from(torch.load(tmp_path / "model_swinvit.pt", weights_only=True))
    ours, _ = load_encoder(tmp_path / "model_swinvit.pt")
    other = dict(theirs.named_parameters())
    assert all(torch.equal(weight, other[name]) for name, weight in ours.named_parameters())


@pytest.mark.parametrize("channels", [1, 4])
def test_an_export_goes_into_swin_unetr_and_the_report_is_exact(tmp_path, channels):
    encoder, _ = parameters(depths=(2, 2, 2, 2), heads=(3, 6, 12, 24), window=7)
    export_encoder(encoder, tmp_path / "encoder.safetensors")
    network = SwinUNETR(in_channels=channels, out_channels=2, feature_size=12, use_v2=True).eval()
    before = {name: weight.clone() for name, weight in network.named_parameters()}
    report = load_into(network, tmp_path / "encoder.safetensors")
    ours = dict(encoder.named_parameters())
    assert report.matched == sorted(ours) and not report.unexpected and not report.wrong_shape
    assert report.missing == sorted(set(before) - set(ours)) and "out.conv.conv.weight" in report.missing
    for name, weight in network.named_parameters():
        expected = before[name] if name in report.missing else ours[name]
        if name.endswith("patch_embed.proj.weight"):
            expected = with_channels(expected, channels)
        assert torch.equal(weight, expected), name
    volume = torch.rand(1, 1, 32, 32, 32)
    with torch.no_grad():
        for one, other in zip(network.swinViT(volume.expand(-1, channels, -1, -1, -1)), encoder(volume), strict=True):
            torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize(("there", "wanted"), [(1, 4), (4, 1), (2, 3)])
def test_other_numbers_of_channels_see_a_repeated_image_alike(tmp_path, there, wanted):
    encoder, _ = parameters(in_channels=there)
    export_encoder(encoder, tmp_path / "encoder.safetensors")
    loaded, report = load_encoder(tmp_path / "encoder.safetensors", in_channels=wanted)
    assert loaded.config.in_channels == wanted and not report.wrong_shape
    image = torch.rand(1, 1, 32, 32, 32)
    with torch.no_grad():
        one, other = (
            network.eval()(image.expand(-1, count, -1, -1, -1))
            for network, count in ((encoder, there), (loaded, wanted))
        )
    torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_what_an_encoder_was_trained_on_goes_along(tmp_path):
    encoder, _ = parameters()
    export_encoder(encoder, tmp_path / "unknown.safetensors")
    assert load_encoder(tmp_path / "unknown.safetensors")[0].trained_on is None
    encoder.trained_on = [{"modality": "ct", "rule": "default", "window": [-175.0, 250.0], "spacing": [2.5, 2.5, 2.5]}]
    export_encoder(encoder, tmp_path / "known.safetensors", torch.float16)
    loaded, _ = load_encoder(tmp_path / "known.safetensors", in_channels=2)
    assert loaded.trained_on == encoder.trained_on and Encoder.trained_on is None
    assert open_weights(tmp_path / "known.safetensors").trained_on == encoder.trained_on
    save_file(dict(encoder.named_parameters()), tmp_path / "a.safetensors", metadata={"s2dc_trained_on": "3"})
    with pytest.raises(ValueError, match="describes no encoder: 3"):
        load_encoder(tmp_path / "a.safetensors")


class Harmful:
    """A pickle that would make a folder if it were trusted."""

    def __init__(self, place):
        self.place = place

    def __reduce__(self):
        return os.mkdir, (str(self.place),)


def test_a_file_that_would_run_code_is_refused(tmp_path):
    torch.save({"state_dict": {}, "args": Harmful(tmp_path / "made")}, tmp_path / "file.pt")
    with pytest.raises(ValueError, match=r"file.pt holds more than tensors, .*could run its code.*save its state dict"):
        load_encoder(tmp_path / "file.pt")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_notebooks_open_every_layout(tmp_path, layout):
    encoder, tensors = parameters()
    torch.save(LAYOUTS[layout](tensors), tmp_path / "file.pt")
    opened = open_weights(tmp_path / "file.pt")
    assert all(torch.equal(a, b) for a, b in zip(opened.parameters(), encoder.parameters(), strict=True))


def test_another_width_is_named_although_some_tables_would_fit(tmp_path):
    encoder, _ = parameters(embed_dim=12, heads=(3, 6, 12, 24), depths=(2, 2, 2, 2), window=7)
    export_encoder(encoder, tmp_path / "encoder.safetensors")
    network = SwinUNETR(in_channels=1, out_channels=2, feature_size=24, use_v2=True)
    before = [weight.clone() for weight in network.parameters()]
    with pytest.raises(ValueError, match=r"another encoder: its patch embedding is \(12, .*the network's is \(24, "):
        load_into(network, tmp_path / "encoder.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))


def test_two_encoders_in_one_file_are_named(tmp_path):
    _, tensors = parameters()
    both = {f"{side}.{name}": weight for side in ("query", "key") for name, weight in tensors.items()}
    torch.save(both, tmp_path / "file.pt")
    with pytest.raises(ValueError, match="holds two encoders, query.patch_embed.proj.weight and key.patch_embed"):
        load_encoder(tmp_path / "file.pt")


def test_what_is_no_encoder_is_named(tmp_path):
    file = tmp_path / "file.pt"
    torch.save([1, 2], file)
    with pytest.raises(ValueError, match="holds a list, not a state dict"):
        load_encoder(file)
    torch.save({"state_dict": HEADS}, file)
    with pytest.raises(ValueError, match="describes no encoder: holds no Swin encoder: there is no patch_embed"):
        load_encoder(file)
    file.write_text("no weights")
    with pytest.raises(ValueError, match="neither a safetensors file .* nor a state dict"):
        load_encoder(file)
    file.write_bytes(b"")
    with pytest.raises(ValueError, match="neither a safetensors file .* nor a state dict"):
        load_encoder(file)
    _, tensors = parameters()
    save_file({"layers1.0.blocks.0.norm1.weight": torch.ones(12)}, tmp_path / "part.safetensors")
    with pytest.raises(ValueError, match="there is no patch_embed.proj.weight"):
        load_encoder(tmp_path / "part.safetensors")
    network = SwinUNETR(in_channels=1, out_channels=2, feature_size=24, use_v2=True)
    before = [weight.clone() for weight in network.parameters()]
    torch.save({f"backbone.{name}": weight for name, weight in tensors.items() if "layers4" in name}, file)
    with pytest.raises(ValueError, match="nothing in .* fits"):
        load_into(network, file)
    assert all(torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))


def test_the_teachers_tensors_keep_their_names(tmp_path):
    _, tensors = parameters()
    torch.save(as_published(tensors), tmp_path / "file.pt")
    weights, described = read_weights(tmp_path / "file.pt")
    assert described is None
    name = "layers1.0.blocks.0.norm1.weight"
    assert torch.equal(weights[f"swinViT.{name}"], tensors[name])
    assert torch.equal(weights[f"module.teacher.swinViT.{name}"], tensors[name] + 1)
