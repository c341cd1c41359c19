"""Model: levels and strides, heads, the momentum teacher, the queue, weights in and out."""

import json
import math
import pickle

import numpy as np
import pytest
import torch
from monai.networks.nets import SwinUNETR
from safetensors.torch import load_file, save_file

from s2dc_core.encoder import Encoder, EncoderConfig
from s2dc_core.matching import join_levels
from s2dc_core.model import Branch, BranchOptions, FeatureQueue, ProjectionHead, StudentTeacher
from s2dc_core.weights import export_encoder, load_encoder

TINY = EncoderConfig(embed_dim=12, heads=(1, 2, 4, 8), window=2, depths=(1, 1, 1, 1), sub_volume=(32, 32, 32))


def tiny_model(**options):
    torch.manual_seed(0)
    momentum = {"momentum": options.pop("momentum")} if "momentum" in options else {}
    return StudentTeacher(TINY, small(**{"levels": (1, 2), **options}), **momentum)


def small(levels=(1,), **options):
    return BranchOptions(**{"levels": levels, "hidden": 16, "out": 8, **options})


def parameters(module):
    return sum(p.numel() for p in module.parameters())


def test_paper_encoder_has_the_published_size():
    """18.6 M parameters: embedding 48, depths 2-2-2-2, heads 3-6-12-24, window 7, patch 2, v2 blocks."""
    assert parameters(Encoder(EncoderConfig())) == pytest.approx(18.6e6, rel=0.005)


def test_levels_have_the_stated_strides_and_channels():
    encoder = Encoder(TINY).eval()
    with torch.no_grad():
        maps = encoder(torch.rand(1, 1, 32, 64, 32))
    assert len(maps) == encoder.levels == 5
    for level, tokens in enumerate(maps):
        stride = encoder.stride(level)
        assert stride == (2 * 2**level,) * 3
        assert tokens.shape == (1, 12 * 2**level, 32 // stride[0], 64 // stride[1], 32 // stride[2])


def test_a_token_sees_its_own_patch():
    """Axis order: change one patch, and the level-0 token that changes most is that patch's."""
    encoder = Encoder(TINY).eval()
    volume = torch.rand(1, 1, 32, 32, 32)
    changed = volume.clone()
    changed[:, :, 4:6, 20:22, 28:30] += 1
    with torch.no_grad():
        difference = (encoder(changed)[0] - encoder(volume)[0]).norm(dim=1)[0]
    assert difference.argmax() == (2 * 16 + 10) * 16 + 14


def test_the_teacher_path_with_flash_attention_equals_the_path_with_gradient():
    encoder = Encoder(TINY).eval()
    volume = torch.rand(2, 1, 32, 32, 32)
    with torch.no_grad():
        without = encoder(volume)
    for a, b in zip(encoder(volume), without, strict=True):
        torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-4)


def test_only_the_path_without_gradient_takes_flash_attention(monkeypatch):
    model, calls = tiny_model(), []
    attention = torch.nn.functional.scaled_dot_product_attention

    def spy(*args, **kwargs):
        calls.append(1)
        return attention(*args, **kwargs)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", spy)
    model.student(torch.rand(1, 1, 32, 32, 32))
    assert not calls
    model.teach(torch.rand(1, 1, 32, 32, 32))
    assert len(calls) == 4


def test_pooled_features_are_the_projected_mean_of_the_last_map():
    branch = Branch(Encoder(TINY), small((1,))).eval()
    volume = torch.rand(2, 1, 64, 32, 32)
    with torch.no_grad():
        last = branch.encoder(volume)[-1]
        torch.testing.assert_close(branch.embed(volume), branch.pooled_head(last.mean((2, 3, 4))))


def test_tokens_of_sub_volumes_lie_in_the_regions_grid():
    """Token (i, j, k) of the region is the token of the sub-volume it lies in."""
    branch = Branch(Encoder(TINY), small((1,))).eval()
    region = torch.rand(1, 1, 64, 32, 64)
    with torch.no_grad():
        output = branch(region)
        alone = branch(region[:, :, 32:, :, :32])
    grid = output.tokens[0].reshape(16, 8, 16, 8)
    torch.testing.assert_close(grid[8:, :, :8], alone.tokens[0].reshape(8, 8, 8, 8), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(output.pooled[2:3], alone.pooled, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(output.tokens[0].norm(dim=-1), torch.ones(1, 2048))


@pytest.mark.parametrize("joined", [False, True])
@pytest.mark.parametrize("token_head", ["mlp", "none"])
def test_under_autocast_tokens_have_length_1_in_float32(token_head, joined):
    """Normalised in bfloat16 they would run from 0.995 to 1.005."""
    branch = Branch(Encoder(TINY), small((1, 2), token_head=token_head, joined=joined)).eval()
    region = torch.rand(1, 1, 64, 32, 32)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        projected = branch.token_heads[0](branch.encoder(region)[1].movedim(1, -1))
        tokens = branch(region).tokens
    assert token_head == "none" or projected.dtype == torch.bfloat16
    for level in tokens:
        assert level.dtype == torch.float32 and (level.norm(dim=-1) - 1).abs().max() < 1e-6


def test_joined_tokens_equal_a_naive_loop():
    """Each cell of the finest map with the coarse cells above it; the cosine is the mean of the levels' cosines."""
    maps = [torch.randn(2, 4, 8, 4, 3), torch.randn(2, 2, 4, 2, 5), torch.randn(2, 1, 2, 1, 7)]
    joined = join_levels(maps)
    assert joined.shape == (2, 4, 8, 4, 15)
    unit = [torch.nn.functional.normalize(cells, dim=-1) for cells in maps]
    for b, x, y, z in [(0, 0, 0, 0), (1, 3, 7, 2), (0, 1, 4, 3)]:
        parts = [unit[k][b, x >> k, y >> k, z >> k] for k in range(3)]
        torch.testing.assert_close(joined[b, x, y, z], torch.cat(parts) / 3**0.5)
    one, other = joined[0, 0, 0, 0], joined[0, 3, 5, 1]
    cosines = [unit[k][0, 0, 0, 0] @ unit[k][0, 3 >> k, 5 >> k, 1 >> k] for k in range(3)]
    torch.testing.assert_close(one @ other, sum(cosines) / 3)
    torch.testing.assert_close(joined.norm(dim=-1), torch.ones(2, 4, 8, 4))
    halves = join_levels([cells.bfloat16() for cells in maps])
    assert halves.dtype == torch.float32 and (halves.norm(dim=-1) - 1).abs().max() < 1e-6
    with pytest.raises(ValueError, match="cannot be cut into"):
        join_levels([torch.zeros(1, 3, 4, 4, 2), torch.zeros(1, 2, 2, 2, 2)])


def test_a_branch_joins_its_levels_in_the_regions_grid():
    encoder = Encoder(TINY)
    apart = Branch(encoder, small((0, 1), token_head="none")).eval()
    joined = Branch(encoder, small((0, 1), token_head="none", joined=True)).eval()
    region = torch.rand(1, 1, 64, 32, 32)
    with torch.no_grad():
        fine, coarse = apart(region).tokens
        (tokens,) = joined(region).tokens
    grids = [fine.reshape(1, 32, 16, 16, -1), coarse.reshape(1, 16, 8, 8, -1)]
    torch.testing.assert_close(tokens, join_levels(grids).flatten(1, 3))
    assert tokens.shape[-1] == fine.shape[-1] + coarse.shape[-1]
    with pytest.raises(ValueError, match="from fine to coarse"):
        Branch(encoder, small((1, 0), joined=True))


def test_without_a_token_head_the_tokens_are_the_encoders():
    branch = Branch(Encoder(TINY), small((1,), token_head="none")).eval()
    region = torch.rand(1, 1, 32, 32, 32)
    with torch.no_grad():
        own = branch.encoder(region)[1].flatten(2).mT
        torch.testing.assert_close(branch(region).tokens[0], torch.nn.functional.normalize(own, dim=-1))
    with pytest.raises(ValueError, match="unknown token_head 'linear'"):
        Branch(Encoder(TINY), small((1,), token_head="linear"))


def test_half_precision_halves_the_file_and_hardly_moves_the_weights(tmp_path):
    encoder = Encoder(TINY)
    export_encoder(encoder, tmp_path / "whole.safetensors")
    export_encoder(encoder, tmp_path / "half.safetensors", torch.float16)
    sizes = [(tmp_path / f"{name}.safetensors").stat().st_size for name in ("whole", "half")]
    assert 0.45 < sizes[1] / sizes[0] < 0.65
    loaded, report = load_encoder(tmp_path / "half.safetensors")
    assert not report.missing
    for one, other in zip(encoder.parameters(), loaded.parameters(), strict=True):
        assert other.dtype == torch.float32
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6)


def test_batch_norm_head_normalises_every_feature_over_the_tokens():
    """The published head normalises over tokens and features together; over features is what was meant."""
    head = ProjectionHead(6, 10, 4, norm="batch").train()
    middle = head[1](head[0](torch.rand(50, 6) * 3 + 1))
    torch.testing.assert_close(middle.mean(0), torch.zeros(10), atol=1e-5, rtol=0)
    torch.testing.assert_close(middle.var(0, unbiased=False), torch.ones(10), atol=1e-2, rtol=0)
    assert head(torch.rand(2, 5, 6)).shape == (2, 5, 4)


def test_teacher_starts_as_the_student_and_gets_no_gradient():
    model = tiny_model()
    region = torch.rand(1, 1, 32, 32, 32)
    output = model.teach(region)
    torch.testing.assert_close(output.tokens[1], model.student(region).tokens[1], atol=1e-4, rtol=1e-3)
    assert not output.pooled.requires_grad and not any(p.requires_grad for p in model.teacher.parameters())


@pytest.mark.parametrize("momentum", [0.0, 0.9, 1.0])
def test_teacher_update_in_closed_form(momentum):
    """After n updates towards a constant student: phi* = phi + momentum^n (phi*_0 - phi)."""
    model = tiny_model(momentum=momentum).train()
    start = [p.clone() for p in model.teacher.parameters()]
    with torch.no_grad():
        for p in model.student.parameters():
            p.add_(0.5)
    for _ in range(3):
        model.update_teacher()
    for old, now, target in zip(start, model.teacher.parameters(), model.student.parameters(), strict=True):
        torch.testing.assert_close(now.data, target + momentum**3 * (old - target))


def test_teacher_moves_only_in_training():
    model = tiny_model().eval()
    before = [p.clone() for p in model.teacher.parameters()]
    with pytest.raises(RuntimeError, match="belongs to training"):
        model.update_teacher()
    model.teach(torch.rand(1, 1, 32, 32, 32))
    assert all(torch.equal(a, b) for a, b in zip(before, model.teacher.parameters(), strict=True))


def test_teacher_copies_the_running_statistics_of_batch_norm_heads():
    model = tiny_model(norm="batch").train()
    model.student(torch.rand(1, 1, 64, 32, 32))
    model.update_teacher()
    student, teacher = model.student.token_heads[0][1], model.teacher.token_heads[0][1]
    torch.testing.assert_close(student.running_mean, teacher.running_mean)
    assert student.running_mean.abs().sum() > 0


@pytest.mark.parametrize("size", [1, 4, 7])
def test_queue_holds_the_last_features_for_any_batch(size):
    """Naive loop: a list that forgets its head."""
    queue, everything, count = FeatureQueue(size, 2), [], 0
    for batch in (1, 3, 2, 9, 0, 4, 1):
        features = torch.arange(count, count + batch, dtype=torch.float32)[:, None].repeat(1, 2)
        queue.add(features)
        everything += features[:, 0].tolist()
        count += batch
        held = queue.negatives()
        assert sorted(held[:, 0].tolist()) == sorted(everything[-size:])


def test_queue_of_size_zero_and_copies():
    empty = FeatureQueue(0, 3)
    empty.add(torch.ones(2, 3))
    assert empty.negatives().shape == (0, 3)
    queue = FeatureQueue(2, 3)
    queue.add(torch.ones(2, 3))
    held = queue.negatives()
    queue.add(torch.zeros(2, 3))
    assert held.eq(1).all()
    assert set(queue.state_dict()) == {"features", "seen"}


def test_exported_encoder_comes_back_and_fits_monai_swin_unetr(tmp_path):
    config = EncoderConfig(embed_dim=12, heads=(3, 6, 12, 24), sub_volume=(32, 32, 32))
    encoder = Encoder(config).eval()
    export_encoder(encoder, tmp_path / "encoder.safetensors")
    assert [p.name for p in tmp_path.iterdir()] == ["encoder.safetensors"]
    loaded, report = load_encoder(tmp_path / "encoder.safetensors")
    assert loaded.config == config
    assert len(report.matched) == len(list(encoder.parameters()))
    assert not report.missing and not report.unexpected and not report.wrong_shape
    volume = torch.rand(1, 1, 32, 32, 32)
    with torch.no_grad():
        for a, b in zip(encoder(volume), loaded.eval()(volume), strict=True):
            torch.testing.assert_close(a, b)

    unetr = SwinUNETR(in_channels=1, out_channels=2, feature_size=12, use_v2=True)
    result = unetr.load_state_dict(load_file(tmp_path / "encoder.safetensors"), strict=False)
    assert not result.unexpected_keys
    left = [k for k in result.missing_keys if k.startswith("swinViT") and "relative_position_index" not in k]
    assert not left
    # SwinUNETR rebuilds the attention's index tables itself; with our weights its encoder must say what ours says.
    with torch.no_grad():
        for a, b in zip(unetr.swinViT.eval()(volume), encoder(volume), strict=True):
            torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-4)


def test_load_encoder_reports_what_does_not_fit(tmp_path):
    file = tmp_path / "encoder.safetensors"
    export_encoder(Encoder(TINY), file)
    weights = load_file(file)
    name = "swinViT.layers1.0.blocks.0.norm1.weight"
    weights[name] = weights[name][:3].contiguous()
    weights["decoder.weight"] = torch.zeros(2)
    del weights["swinViT.patch_embed.proj.bias"]
    meta = {"s2dc_encoder": json.dumps(TINY.__dict__)}
    save_file(weights, file, metadata=meta)
    _, report = load_encoder(file)
    assert report.wrong_shape == [name] and report.unexpected == ["decoder.weight"]
    assert report.missing == ["swinViT.patch_embed.proj.bias"]
    assert "1 missing, 1 unexpected, 1 wrong shape" in str(report) and "decoder.weight" in str(report)
    save_file({"decoder.weight": torch.zeros(2)}, file, metadata=meta)
    with pytest.raises(ValueError, match="nothing in .* fits"):
        load_encoder(file)


def test_bad_input_is_named(tmp_path):
    encoder = Encoder(TINY)
    with pytest.raises(ValueError, match="takes 1 channels, the volume has 2"):
        encoder(torch.rand(1, 2, 32, 32, 32))
    with pytest.raises(ValueError, match=r"\(33, 32, 32\).*\(2, 2, 2\)"):
        encoder(torch.rand(1, 1, 33, 32, 32))
    with pytest.raises(ValueError, match="larger than 16"):
        encoder(torch.rand(1, 1, 16, 16, 16))
    with pytest.raises(ValueError, match="levels 0 to 4, not 5"):
        encoder.stride(5)
    with pytest.raises(ValueError, match=r"\(48, 48, 48\).*\(32, 32, 32\)"):
        Branch(Encoder(EncoderConfig.teaching(embed_dim=12)), small((4,)))
    with pytest.raises(ValueError, match="unknown head norm 'group': choose one of layer, batch"):
        ProjectionHead(4, 8, 4, norm="group")
    with pytest.raises(ValueError, match=r"momentum must lie in \[0, 1\], got 2"):
        tiny_model(momentum=2)
    with pytest.raises(FileNotFoundError, match="no weights file"):
        load_encoder(tmp_path / "absent.safetensors")
    (tmp_path / "text.safetensors").write_text("no weights")
    with pytest.raises(ValueError, match="neither a safetensors file .* nor a state dict"):
        load_encoder(tmp_path / "text.safetensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "bare.safetensors")
    with pytest.raises(ValueError, match="describes no encoder: holds no Swin encoder"):
        load_encoder(tmp_path / "bare.safetensors")


def sized(**fields):
    """TINY with some fields set past the types that the tests check when a config is made."""
    config = EncoderConfig(**vars(TINY))
    for name, value in fields.items():
        object.__setattr__(config, name, value)
    config.__post_init__()
    return config


def test_whole_numbers_of_numpy_make_the_same_encoder(tmp_path):
    """As they come out of an array, or of a sum over one; the sizes are written into the file of weights as JSON."""
    given = {"heads": np.array([1, 2, 4, 8]), "depths": [np.int32(1)] * 4, "sub_volume": np.array([32, 32, 32])}
    config = sized(embed_dim=np.int64(12), window=np.uint8(2), in_channels=np.int16(1), **given)
    assert config == TINY and config.stride(np.int64(1)) == (4, 4, 4)
    export_encoder(Encoder(config), tmp_path / "encoder.safetensors")
    assert load_encoder(tmp_path / "encoder.safetensors")[0].config == TINY
    options = BranchOptions()
    object.__setattr__(options, "levels", np.array([1, 2]))  # past the types that the tests check
    options.__post_init__()
    assert options.levels == (1, 2) and {type(level) for level in options.levels} == {int}


@pytest.mark.parametrize("level", [True, 1.0, np.float64(1)])
def test_a_level_that_is_no_whole_number_is_refused(level):
    with pytest.raises(ValueError, match="level must hold whole numbers, got"):
        TINY.stride(level)
    options = BranchOptions()
    object.__setattr__(options, "levels", (level,))  # past the types that the tests check when options are made
    with pytest.raises(ValueError, match="levels must be a list of whole numbers, got"):
        options.__post_init__()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"window": True}, "window must be a whole number, got True"),
        ({"embed_dim": 24.0}, "embed_dim must be a whole number, got 24.0"),
        ({"heads": (1, 2.0, 4, 8)}, "heads must be a list of whole numbers, got .1, 2.0, 4, 8."),
        ({"sub_volume": 32}, "sub_volume must be a list of whole numbers, got 32"),
    ],
)
def test_sizes_that_are_no_whole_numbers_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        sized(**fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"depths": (2, 2)}, "must name four stages each"),
        ({"embed_dim": -1}, "embed_dim must be at least 1"),
        ({"patch": 0}, "patch must be at least 1"),
        ({"heads": (5, 6, 12, 24)}, "stage 0 has 48 channels, which 5 heads cannot share"),
        ({"sub_volume": (96, 96)}, "three multiples of the patch"),
        ({"sub_volume": (33, 32, 32)}, "three multiples of the patch"),
    ],
)
def test_an_encoder_that_cannot_be_built_is_named(tmp_path, fields, message):
    with pytest.raises(ValueError, match=message):
        EncoderConfig(**fields)
    file = tmp_path / "odd.safetensors"
    save_file({"a": torch.zeros(1)}, file, metadata={"s2dc_encoder": json.dumps(fields)})
    with pytest.raises(ValueError, match=f"odd.safetensors describes no encoder: .*{message}"):
        load_encoder(file)


@pytest.mark.parametrize(
    "described", ["not json", "null", "[1, 2]", '{"colour": 3}', '{"depths": 5}', '{"embed_dim": "24"}']
)
def test_odd_metadata_is_named(tmp_path, described):
    file = tmp_path / "odd.safetensors"
    save_file({"a": torch.zeros(1)}, file, metadata={"s2dc_encoder": described})
    with pytest.raises(ValueError, match="odd.safetensors describes no encoder"):
        load_encoder(file)


@pytest.mark.parametrize("damage", [lambda w: w * math.nan, lambda w: w.to(torch.int8)])
def test_damaged_weights_are_refused(tmp_path, damage):
    file = tmp_path / "encoder.safetensors"
    export_encoder(Encoder(TINY), file)
    weights = load_file(file)
    name = "swinViT.patch_embed.proj.weight"
    weights[name] = damage(weights[name])
    save_file(weights, file, metadata={"s2dc_encoder": json.dumps(vars(TINY))})
    with pytest.raises(ValueError, match=f"{name} in .* is no finite floating-point tensor"):
        load_encoder(file)


def test_loading_leaves_the_random_state_alone_and_a_failed_export_leaves_no_file(tmp_path, monkeypatch):
    export_encoder(Encoder(TINY), tmp_path / "encoder.safetensors")
    state = torch.random.get_rng_state()
    load_encoder(tmp_path / "encoder.safetensors")
    assert torch.equal(state, torch.random.get_rng_state())
    with pytest.raises(FileNotFoundError, match="in a folder that exists"):
        export_encoder(Encoder(TINY), tmp_path / "absent" / "encoder.safetensors")
    with pytest.raises(FileNotFoundError, match="give the name of a file"):
        export_encoder(Encoder(TINY), tmp_path)
    before = (tmp_path / "encoder.safetensors").read_bytes()
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        export_encoder(Encoder(TINY), tmp_path / "encoder.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["encoder.safetensors"]
    assert (tmp_path / "encoder.safetensors").read_bytes() == before


def test_a_queue_counts_on_after_loading_and_survives_a_pickle():
    queue, other = FeatureQueue(5, 2), FeatureQueue(5, 2)
    queue.add(torch.arange(6.0).view(3, 2))
    other.add(torch.ones(1, 2))
    other.load_state_dict(queue.state_dict())
    copied = pickle.loads(pickle.dumps(other))
    for each in (queue, other, copied):
        each.add(torch.full((3, 2), 9.0))
        assert each.seen == 6 and torch.equal(each.negatives(), queue.negatives())
