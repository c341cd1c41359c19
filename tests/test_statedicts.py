"""The encoder in a weights file is found by what the file holds, however it is wrapped, and nothing of it is lost."""

import argparse
import gzip
import json
import tarfile
import warnings
import zipfile
from collections import Counter, OrderedDict
from dataclasses import asdict
from pathlib import PosixPath

import numpy as np
import pytest
import torch
from monai.networks.nets import SwinUNETR
from monai.networks.nets.swin_unetr import filter_swinunetr
from monai.networks.utils import copy_model_state
from safetensors.torch import load_file, save_file
from torch import nn

from s2dc_core.encoder import Encoder, EncoderConfig
from s2dc_core.weights import export_encoder, load_encoder, load_into

CONFIG = EncoderConfig(embed_dim=12, depths=(1, 1, 1, 1), heads=(1, 2, 4, 8), window=4, use_v2=False)


@pytest.fixture(scope="module")
def encoder():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Encoder(CONFIG)


@pytest.fixture(scope="module")
def state(encoder):
    return dict(encoder.state_dict())


def prefixed(prefix, state):
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


def swin(state):
    """Under the Swin transformer's own names."""
    return {name.removeprefix("swinViT."): tensor for name, tensor in state.items()}


def changed(state):
    return {name: tensor + 1 if tensor.is_floating_point() else tensor for name, tensor in state.items()}


def as_ssl_pretrained(state):
    """As MONAI's filter_swinunetr expects ssl_pretrained_weights.pth."""
    moved = {name.replace(".0.", ".0.0.", 1) if "layers" in name else name: w for name, w in swin(state).items()}
    beside = {"encoder.mask_token": torch.ones(1, 12), "encoder.norm.weight": torch.ones(192)}
    model = {**prefixed("encoder.", moved), **beside, "out.conv.conv.weight": torch.ones(2)}
    return {"model": model, "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}}, "epoch": np.int64(3)}


def half_compiled(state):
    return {name.replace("layers2.0.", "layers2._orig_mod.0.").replace("swinViT", "_orig_mod.swinViT"): w
            for name, w in state.items()}  # fmt: skip


WRAPPINGS = {
    "network_weights": lambda s: {"network_weights": s},
    "model_state_dict": lambda s: {"model_state_dict": s, "optimizer_state_dict": {"state": {}}},
    "net": lambda s: {"net": s},
    "student": lambda s: {"student": s, "epoch": 3},
    "model.state_dict": lambda s: {"model": {"state_dict": s}},
    "four deep": lambda s: {"a": {"b": {"c": {"d": s}}}},
    "module by module": lambda s: {"encoder": {"swinViT": {
        part: {n.removeprefix(f"{part}."): w for n, w in swin(s).items() if n.startswith(f"{part}.")}
        for part in ("patch_embed", "layers1", "layers2", "layers3", "layers4")}}},
    "ordered": lambda s: OrderedDict(state_dict=OrderedDict(s)),
    "lightning": lambda s: {"state_dict": prefixed("model.", s), "pytorch-lightning_version": "2.4.0",
                            "loops": {"fit_loop": {}}, "hyper_parameters": {"lr": 1e-4}},
    "ddp": lambda s: {"state_dict": prefixed("module.", s)},
    "compiled": lambda s: {"model": prefixed("_orig_mod.", s)},
    "compiled in ddp": lambda s: prefixed("module._orig_mod.", s),
    "compiled in part": half_compiled,
    "fsdp": lambda s: prefixed("_fsdp_wrapped_module.", s),
    "deep prefix": lambda s: prefixed("layers1.backbone.encoder.", s),
    "no prefix": swin,
    "swin_vit, fc": lambda s: {f"swin_vit.{n.replace('.linear', '.fc')}": w for n, w in swin(s).items()},
    "ssl_pretrained_weights": as_ssl_pretrained,
    "named optimiser": lambda s: {"model": s, "optimizer": {"exp_avg": changed(s)}},
    "in a tuple": lambda s: (3, s),
    "twice": lambda s: {"model": s, "state_dict": dict(s)},
    "attention masks": lambda s: {**s, "swinViT.layers1.0.blocks.0.attn_mask": torch.ones(4)},
    "fsdp's optimiser": lambda s: {"model": s, "optim": {"state": {n: {"exp_avg": w + 1} for n, w in s.items()}}},
}  # fmt: skip


def load(content, file, **options):
    torch.save(content, file, **options)
    return load_encoder(file)


def is_encoder(loaded, encoder):
    return all(torch.equal(one, other) for one, other in zip(loaded.parameters(), encoder.parameters(), strict=True))


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_the_encoder_is_found_in_any_wrapping(tmp_path, encoder, state, wrapping):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded, report = load(WRAPPINGS[wrapping](state), tmp_path / "file.pt")
    assert is_encoder(loaded, encoder) and loaded.config == EncoderConfig(**{**vars(CONFIG), "sub_volume": [96] * 3})
    assert not report.missing and not report.wrong_shape and not report.taken


def test_monais_filter_agrees_about_its_own_file(tmp_path, state):
    network = SwinUNETR(1, 2, feature_size=12, depths=(1, 1, 1, 1), num_heads=(1, 2, 4, 8), window_size=4)
    content = as_ssl_pretrained(state)
    theirs, names, _ = copy_model_state(network, content["model"], filter_func=filter_swinunetr, inplace=False)
    torch.save(content, tmp_path / "ssl_pretrained_weights.pth")
    report = load_into(network, tmp_path / "ssl_pretrained_weights.pth")
    assert set(report.matched) == {name for name in names if "position_index" not in name}
    assert report.unexpected == ["encoder.mask_token", "encoder.norm.weight"]
    assert report.wrong_shape == ["out.conv.conv.weight"]
    assert all(torch.equal(network.state_dict()[name], theirs[name]) for name in report.matched)


@pytest.mark.parametrize("dtype", sorted({kind.__name__ for kind in np.sctypeDict.values()} - {"object_", "void"}))
def test_numpys_numbers_beside_the_weights_are_passed_over(tmp_path, encoder, state, dtype):
    kind = getattr(np, dtype)
    value = kind(1) if issubclass(kind, np.number | np.bool_) else kind()
    beside = {"best": value, "all": np.array([value, value]), "dtype": np.dtype(kind), "kind": kind}
    for old in (False, True):
        loaded, _ = load({**beside, "state_dict": state}, tmp_path / "file.pt", _use_new_zipfile_serialization=not old)
        assert is_encoder(loaded, encoder)


def test_numpy_1_named_its_modules_otherwise(tmp_path, encoder, state):
    """Written by hand: a pickle of numpy 1 and of numpy 2 differ in one letter of the module's name."""
    torch.save({"best": np.float64(0.81), "state_dict": state}, tmp_path / "file.pt")
    with zipfile.ZipFile(tmp_path / "file.pt") as written, zipfile.ZipFile(tmp_path / "other.pt", "w") as other:
        for name in written.namelist():
            content = written.read(name)
            swapped = {b"numpy._core.multiarray": b"numpy.core.multiarray"}
            if b"numpy.core.multiarray" in content:
                swapped = {new: old for old, new in swapped.items()}
            for old, new in swapped.items():
                assert not name.endswith("data.pkl") or old in content
                content = content.replace(old, new) if name.endswith("data.pkl") else content
            other.writestr(name, content)
    assert is_encoder(load_encoder(tmp_path / "other.pt")[0], encoder)


def test_options_paths_and_counters_are_passed_over(tmp_path, encoder, state):
    args = argparse.Namespace(lr=np.float32(1e-3), root=PosixPath("/data"), inner=argparse.Namespace(a=[1]))
    content = {"args": args, "seen": Counter(a=2), "rng": np.random.get_state(), "state_dict": state}
    assert is_encoder(load(content, tmp_path / "file.pt")[0], encoder)


class Runs:
    def __reduce__(self):
        return exec, ("raise SystemExit('it ran')",)


def test_what_is_passed_over_is_neither_made_nor_called(tmp_path, state):
    """An array whose fields would be pointers crashes numpy once it is looked at: numpy never sees it."""
    hidden = np.array([Runs()], dtype=object)
    with pytest.raises(ValueError, match=r"holds more than tensors, \S*exec, and reading it could run its code"):
        load({"best": hidden, "state_dict": state}, tmp_path / "file.pt")
    args = argparse.Namespace(callback=Runs())
    with pytest.raises(ValueError, match="could run its code"):
        load({"args": args, "state_dict": state}, tmp_path / "file.pt")
    with pytest.raises(ValueError, match="more than tensors, s2dc_core.encoder.Encoder, and reading"):
        load(Encoder(CONFIG), tmp_path / "file.pt")


FOLLOWED = {
    "student and teacher": (lambda s, o: {"student": s, "teacher": o}, "student.swinViT, which is trained; teacher"),
    "teacher first": (lambda s, o: {"teacher": o, "student": s}, "student.swinViT, which is trained; teacher"),
    "one mapping": (lambda s, o: prefixed("module.teacher.", o) | prefixed("module.student.", s), "student.swinViT"),
    "ema": (lambda s, o: {"state_dict": s, "state_dict_ema": o}, "state_dict.swinViT, which is trained; state_dict_e"),
    "model_ema": (lambda s, o: {"model_ema": {"module": o}, "model": s}, "model.swinViT, which is trained; model_ema"),
    "ema.shadow": (lambda s, o: {"ema": {"shadow": o}, "model": s}, "model.swinViT, which is trained; ema.shadow"),
    "momentum": (lambda s, o: prefixed("backbone.", s) | prefixed("backbone_momentum.", o), "backbone.swinViT, which"),
    "target": (lambda s, o: {"encoder": s, "target_encoder": o}, "encoder.swinViT, which is trained; target_encoder"),
    "no name": (lambda s, o: swin(s) | prefixed("ema.", o), "the one without a name, which is trained; ema.swinViT"),
}


@pytest.mark.parametrize("kind", FOLLOWED)
def test_what_is_trained_is_taken_and_said(tmp_path, encoder, state, kind):
    build, said = FOLLOWED[kind]
    with pytest.warns(UserWarning, match="file.pt: its encoder is taken from"):
        loaded, report = load(build(state, changed(state)), tmp_path / "file.pt")
    assert is_encoder(loaded, encoder) and report.taken.startswith(said)
    assert f"taken: {said}" in str(report)


@pytest.mark.parametrize("name", ["teacher", "model_ema", "ema"])
def test_a_teacher_alone_is_taken_and_said(tmp_path, encoder, state, name):
    with pytest.warns(UserWarning, match=f"taken from {name}.swinViT, there is no other"):
        loaded, report = load({name: state}, tmp_path / "file.pt")
    assert is_encoder(loaded, encoder) and report.taken == f"{name}.swinViT, there is no other"


def test_words_that_only_look_like_averages(tmp_path, state):
    for name in ("schema", "emanuel", "swap", "targets_model"):
        assert not load({name: state}, tmp_path / "file.pt")[1].taken


def test_several_trained_encoders_are_told_apart_by_the_user(tmp_path, state):
    three = {"query": state, "best": changed(state), "last": state}
    with pytest.raises(ValueError, match=r"two encoders, query\.\S+ and best\.\S+: save the one that you want"):
        load(three, tmp_path / "file.pt")
    with pytest.raises(ValueError, match=r"two encoders, swinViT.patch_embed.proj.\w+ and module.swinViT.patch_embed"):
        load(state | prefixed("module.", changed(state)), tmp_path / "file.pt")


UNREAD = {
    "a fifth stage": ("layers5.0.blocks.0.norm1.weight", "layers5.0.blocks.0.norm1.weight"),
    "v2's convolution": ("layers2c.0.layer.conv1.conv.weight", "layers2c"),
    "a norm of the patches": ("patch_embed.norm.weight", "patch_embed.norm.weight"),
    "another attention": ("layers1.0.blocks.0.attn.logit_scale", "attn.logit_scale"),
    "places": ("absolute_pos_embed", "absolute_pos_embed"),
    "a block that is one too far": ("layers3.0.blocks.2.norm1.weight", "blocks.2.norm1.weight"),
}


@pytest.mark.parametrize("prefix", ["swinViT.", "student.swinViT.", "", "module.encoder."])
@pytest.mark.parametrize("kind", UNREAD)
def test_a_tensor_of_the_encoder_that_nobody_would_read_is_an_error(tmp_path, state, kind, prefix):
    name, said = UNREAD[kind]
    torch.save(prefixed(prefix, {**swin(state), name: torch.ones(2)}), tmp_path / "file.pt")
    with pytest.raises(ValueError, match=f"holds another encoder: the network has no place for .*{said}"):
        load_encoder(tmp_path / "file.pt")
    network = nn.Module()
    network.swinViT = Encoder(CONFIG).swinViT
    before = {name: weight.clone() for name, weight in network.named_parameters()}
    with pytest.raises(ValueError, match=f"holds another encoder: the network has no place for .*{said}"):
        load_into(network, tmp_path / "file.pt")
    assert all(torch.equal(weight, before[name]) for name, weight in network.named_parameters())


def test_more_blocks_than_the_described_sizes_are_an_error(tmp_path, encoder):
    export_encoder(encoder, tmp_path / "a.safetensors")
    tensors = load_file(tmp_path / "a.safetensors")
    more = {n.replace("blocks.0", "blocks.1"): w.clone() for n, w in tensors.items() if "layers4.0.blocks.0" in n}
    with_more = {**tensors, **more}
    save_file(with_more, tmp_path / "a.safetensors", metadata={"s2dc_encoder": json.dumps(asdict(CONFIG))})
    with pytest.raises(ValueError, match="no place for .*layers4.0.blocks.1.* in all"):
        load_encoder(tmp_path / "a.safetensors")
    deeper, _ = load(with_more, tmp_path / "b.pt")
    assert deeper.config.depths == (1, 1, 1, 2)


KEYLESS = {
    "no tensors": ({"epoch": 3, "args": {"lr": 1}}, "holds a dict with the keys epoch, args, not a state dict"),
    "empty": ({}, "holds a dict, not a state dict: there is no tensor in it"),
    "list": ([1, 2], "holds a list, not a state dict"),
    "number": (3, "holds a int, not a state dict"),
    "two-dimensional": (
        {"model": {"patch_embed.proj.weight": torch.ones(12, 3, 4, 4), "layers.0.blocks.0.norm1.bias": torch.ones(2)}},
        "there is no layers1.0.blocks.0.attn.relative_position_bias_table among its tensors layers.0.blocks.0.norm1.b",
    ),
    "another network": (
        {"state_dict": {f"encoder.{k}.weight": torch.ones(1) for k in range(7)}},
        r"there is no patch_embed.proj.weight among its tensors encoder.0.weight, encoder.1.weight, .* \(7 in all\)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", KEYLESS)
def test_where_there_is_no_encoder_the_keys_are_told(tmp_path, kind):
    content, said = KEYLESS[kind]
    with pytest.raises(ValueError, match=said):
        load(content, tmp_path / "file.pt")


def no_weights(folder, state):
    """{what: (content, what is said of it)} of files that are none."""
    inside = folder / "inside.pt"
    torch.save(state, inside)
    whole = inside.read_bytes()
    torch.save(state, folder / "old.pt", _use_new_zipfile_serialization=False)
    export_encoder(Encoder(CONFIG), folder / "whole.safetensors")
    safe = (folder / "whole.safetensors").read_bytes()
    with zipfile.ZipFile(folder / "a.zip", "w") as archive:
        archive.write(inside, "model_swinvit.pt")
    with tarfile.open(folder / "a.tar", "w") as archive:
        archive.add(inside, "model_swinvit.pt")
    torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)), folder / "script.pt")
    return {
        "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4\n", "git lfs pull"),
        "page": (b"<!DOCTYPE html><html></html>", r"a web page \(HTML\)"),
        "empty": (b"", "an empty file"),
        "text": (b"see README", 'plain text, not the file: "see README"'),
        "zip": ((folder / "a.zip").read_bytes(), "a zip archive of 1 files, such as model_swinvit.pt: unpack it"),
        "empty zip": (b"PK\x05\x06" + bytes(18), "a zip archive of 0 files, it is empty"),
        "tar": ((folder / "a.tar").read_bytes(), "a tar archive, unpack it"),
        "gzip": (gzip.compress(whole), "compressed by gzip, unpack it"),
        "script": ((folder / "script.pt").read_bytes(), "a TorchScript program: save its state dict"),
        "bytes": (bytes(range(254, 128, -1)), "neither a safetensors file .* nor a state dict"),
        **{f"cut at {k}": (whole[: int(k * len(whole))], "was cut short or damaged") for k in (0.01, 0.5, 0.999)},
        "cut, old form": ((folder / "old.pt").read_bytes()[:3000], "was cut short or damaged"),
        **{f"safetensors cut at {n}": (safe[:n], "was cut short or damaged") for n in (9, 400, len(safe) - 1)},
        "damaged": (whole[:1000] + bytes(5000) + whole[6000:], "was cut short or damaged"),
    }  # fmt: skip


def test_what_is_no_weights_file_is_said(tmp_path, state):
    (tmp_path / "made").mkdir()
    for what, (content, said) in no_weights(tmp_path / "made", state).items():
        for name in ("weights.pt", "weights.safetensors"):
            (tmp_path / name).write_bytes(content)
            for opened in (load_encoder, lambda file: load_into(nn.Linear(1, 1), file)):
                with pytest.raises(ValueError, match=said) as caught:
                    opened(tmp_path / name)
                assert str(tmp_path / name) in str(caught.value) and "\n" not in str(caught.value), what
