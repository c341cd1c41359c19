"""`s2dc weights`: layouts are told by name, what does not fit by the exit code, and an export loads elsewhere."""

import pytest
import torch
from monai.networks.nets import SwinUNETR
from safetensors.torch import save_file

from s2dc_core.cli import main
from s2dc_core.library import open_weights
from s2dc_core.weights import export_encoder, load_encoder, load_into
from tests.test_weights import LAYOUTS, Harmful, parameters

SIZES = {"depths": (1, 1, 1, 1), "heads": (1, 2, 4, 8)}
NAMES = {
    "ssl": "MONAI's self-supervised SwinUNETR (model_swinvit.pt)",
    "voco": "VoCo, or the paper's published code",
    "published": "VoCo, or the paper's published code",
    "older": "older research code (swin_vit)",
    "swinmm": "MONAI's SSLHead, which SwinMM has too",
    "voco's head": "MONAI's SwinUNETR without its decoder, as VoCo's",
    "simmim": "names of MONAI's Swin transformer, such as model.encoder.layers1",
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("use_v2", [True, False])
def test_each_layout_is_told_by_its_name(tmp_path, capsys, recwarn, layout, use_v2):
    encoder, tensors = parameters(**SIZES, use_v2=use_v2)
    torch.save(LAYOUTS[layout](tensors), tmp_path / "file.pt")
    assert main(["weights", str(tmp_path / "file.pt")]) == 0
    said = capsys.readouterr()
    assert NAMES[layout] in said.out and not said.err and not recwarn.list
    assert f"embedding 12, depths 1 1 1 1, heads 1 2 4 8, window 4, patch 2, v{2 if use_v2 else 1} blocks" in said.out
    assert f"{sum(each.numel() for each in encoder.parameters()):,}, float32" in said.out
    assert "trained on  not noted" in said.out and "0 missing, 0 of another shape" in said.out
    assert ("which is trained; " in said.out) == (layout in ("voco", "published"))


@pytest.mark.parametrize(
    ("rename", "name"),
    [
        ("state_dict.model.swinViT.", "Lightning, around a SwinUNETR"),
        ("model.encoder.", "MONAI's ssl_pretrained_weights.pth"),
        ("swinViT.", "MONAI's SwinUNETR, its encoder alone"),
        ("", "names of MONAI's Swin transformer, such as layers1.0.blocks.0.mlp.linear1.weight"),
    ],
)
def test_wrapped_and_bare_names_are_told(tmp_path, capsys, rename, name):
    _, tensors = parameters(**SIZES, use_v2=False)
    if "encoder" in rename:
        tensors = {key.replace(".0.blocks", ".0.0.blocks"): each for key, each in tensors.items()}
    *outer, prefix = rename.split(".", 1) if rename.startswith(("state_dict", "model")) else [rename]
    content = {prefix + key: each for key, each in tensors.items()}
    for key in outer:
        content = {key: content}
    torch.save(content, tmp_path / "file.pt")
    assert main(["weights", str(tmp_path / "file.pt")]) == 0
    assert f"layout      {name}" in capsys.readouterr().out


def test_a_swin_unetr_is_told_and_its_decoder_left_unread(tmp_path, capsys):
    network = SwinUNETR(in_channels=4, out_channels=2, feature_size=12, depths=(1, 1, 1, 1), use_v2=True)
    torch.save(network.state_dict(), tmp_path / "file.pt")
    assert main(["weights", str(tmp_path / "file.pt")]) == 0
    said = capsys.readouterr().out
    assert "layout      MONAI's SwinUNETR, with its decoder" in said and "4 input channels" in said
    assert "in the file and not the encoder's, left unread: decoder1.conv_block" in said


def test_ours_say_what_they_were_trained_on(tmp_path, capsys):
    assert main(["weights", "s2dc"]) == 0
    said = capsys.readouterr().out
    assert "layout      ours, as export_encoder writes it" in said and "trained on 32 32 32 voxels" in said
    assert "trained on  24 scans, ct from -175..250 to -2..2, 2.5 x 2.5 x 2.5 mm; 12 scans, pet" in said


def test_an_export_goes_where_the_lines_say(tmp_path, capsys):
    _, tensors = parameters(**SIZES)
    torch.save(LAYOUTS["published"](tensors), tmp_path / "file.pt")
    file = tmp_path / "encoder.safetensors"
    assert main(["weights", str(tmp_path / "file.pt"), "--export", str(file), "--in-channels", "2"]) == 0
    code = capsys.readouterr().out.partition("\n\n")[2]
    names = {}
    exec(code, names)
    assert "0 unexpected, 0 wrong shape" in capsys.readouterr().out
    exported = dict(load_encoder(file)[0].named_parameters())
    own = dict(names["network"].named_parameters())
    assert own["swinViT.patch_embed.proj.weight"].shape[1] == 2
    assert all(torch.equal(own[name], weight) for name, weight in exported.items())
    assert torch.equal(exported["swinViT.layers1.0.blocks.0.norm1.weight"], tensors["layers1.0.blocks.0.norm1.weight"])


def test_an_arm_keeps_what_it_was_trained_on_in_its_export(tmp_path, capsys):
    assert main(["weights", "contrast", "--export", str(tmp_path / "a.safetensors")]) == 0
    assert load_encoder(tmp_path / "a.safetensors")[0].trained_on == open_weights("contrast").trained_on
    network = SwinUNETR(in_channels=1, out_channels=2, feature_size=24, num_heads=(2, 4, 8, 16), window_size=4)
    assert not load_into(network, tmp_path / "a.safetensors").wrong_shape
    assert "feature_size=24, depths=(2, 2, 2, 2), num_heads=(2, 4, 8, 16), window_size=4" in capsys.readouterr().out


def test_a_width_that_monai_does_not_take_is_told(tmp_path, capsys):
    encoder, _ = parameters(embed_dim=8, **SIZES)
    export_encoder(encoder, tmp_path / "a.safetensors")
    assert main(["weights", str(tmp_path / "a.safetensors"), "--export", str(tmp_path / "b.safetensors")]) == 0
    assert "takes embeddings of multiples of 12" in capsys.readouterr().out


@pytest.mark.parametrize("change", ["missing", "of another shape"])
def test_tensors_that_do_not_fit_end_with_1_and_are_not_exported(tmp_path, capsys, change):
    _, tensors = parameters(**SIZES)
    name = "layers2.0.blocks.0.norm1.weight"
    tensors[name] = torch.ones(5)
    if change == "missing":
        del tensors[name]
    save_file(tensors, tmp_path / "file.safetensors")
    out = tmp_path / "out.safetensors"
    assert main(["weights", str(tmp_path / "file.safetensors"), "--export", str(out)]) == 1
    said = capsys.readouterr()
    assert f"1 {change}" in said.out and f"{change}: swinViT.{name}" in said.out
    assert "not exported" in said.err and not out.exists()


def test_what_is_no_weights_file_is_one_line(tmp_path, capsys):
    (tmp_path / "text.pt").write_text("no weights")
    torch.save({"state_dict": {"fc.weight": torch.ones(2)}}, tmp_path / "other.pt")
    torch.save({"state_dict": {}, "args": Harmful(tmp_path / "made")}, tmp_path / "harmful.pt")
    (tmp_path / "empty").mkdir()
    expected = {
        "text.pt": "neither a safetensors file",
        "other.pt": "holds no Swin encoder",
        "harmful.pt": "could run its code",
        "absent.pt": "no weights file",
        "absent": "there are no weights",
        "empty": "is no checkpoint: there is no encoder.safetensors in it",
    }
    for name, message in expected.items():
        assert main(["weights", str(tmp_path / name)]) == 2
        err = capsys.readouterr().err
        assert message in err and len(err.strip().splitlines()) == 1
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--export", "a.pt"], "give a name that ends so"),
        (["--export", "absent/a.safetensors"], "in a folder that exists"),
        (["--export", "here.safetensors"], "is what is read"),
        (["--in-channels", "0"], "--in-channels must be at least 1, got 0"),
    ],
)
def test_what_cannot_be_exported_is_one_line(tmp_path, capsys, monkeypatch, more, message):
    monkeypatch.chdir(tmp_path)
    export_encoder(parameters(**SIZES)[0], tmp_path / "here.safetensors")
    assert main(["weights", "here.safetensors", *more]) == 2
    err = capsys.readouterr().err
    assert message in err and len(err.strip().splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["here.safetensors"]
