"""Features: tiles laid back, heatmaps, organ tokens, silhouette, PCA; each against a naive loop or an invariant."""

import math
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from s2dc_core import features
from s2dc_core.encoder import Encoder, EncoderConfig
from s2dc_core.features import (
    TokenMap,
    check_affine,
    deepest_voxel,
    fit_pca,
    inside_outside,
    organ_grid,
    organ_silhouettes,
    organ_tokens,
    pca_map,
    similarity_heatmap,
    structure_means,
    structure_silhouette,
    token_features,
    token_maps,
)

AFFINE = np.array([[0.0, -2, 0, 10], [3, 0, 0.5, -20], [0, 0, 4, 5], [0, 0, 0, 1]])


class PoolingEncoder(nn.Module):
    """Average pooling at the five strides; the tile's own mean is taken off, so that tiles and whole differ."""

    def __init__(self, sub_volume=(8, 8, 8)):
        super().__init__()
        self.config = SimpleNamespace(sub_volume=sub_volume)
        self.dropout = nn.Dropout(0.5)
        self.frozen = nn.Dropout(0.5).eval()

    def stride(self, level):
        if level not in range(5):
            raise ValueError(f"levels 0 to 4, not {level}")
        return (2 * 2**level,) * 3

    def forward(self, volume):
        volume = self.dropout(volume)
        volume = volume - volume.mean(dim=(2, 3, 4), keepdim=True)
        return [F.avg_pool3d(volume, 2 * 2**level) if volume.shape[-1] >= 2 * 2**level else None for level in range(5)]


def random_map(grid=(4, 3, 5), channels=6, patch=(2, 2, 2), seed=0):
    generator = torch.Generator().manual_seed(seed)
    return TokenMap(torch.randn(*grid, channels, generator=generator), patch, np.eye(4))


def random_volume(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# Token maps


def test_tokens_equal_a_naive_loop_over_tiles():
    """Two channels, sides that are no multiple of the tile, a batch that does not divide the number of tiles."""
    volume = random_volume(2, 11, 16, 5)
    tokens = token_features(PoolingEncoder(), volume, level=0, batch_size=3)
    padded = torch.stack([torch.full((16, 16, 8), float(channel.min())) for channel in volume])
    padded[:, :11, :16, :5] = volume
    assert tokens.features.shape == (6, 8, 3, 2)
    assert tokens.patch == (2, 2, 2)
    for a, b, c in np.ndindex(6, 8, 3):
        x, y, z = 2 * a, 2 * b, 2 * c
        tile = padded[:, x // 8 * 8 :, y // 8 * 8 :, z // 8 * 8 :][:, :8, :8, :8]
        cell = padded[:, x : x + 2, y : y + 2, z : z + 2]
        expected = cell.mean(dim=(1, 2, 3)) - tile.mean(dim=(1, 2, 3))
        torch.testing.assert_close(tokens.features[a, b, c], expected)


@pytest.mark.parametrize("level", range(5))
def test_each_tile_equals_that_tile_encoded_alone(level):
    torch.manual_seed(0)
    config = EncoderConfig(embed_dim=12, heads=(1, 2, 4, 8), window=2, depths=(1, 1, 1, 1), sub_volume=(32, 32, 32))
    encoder = Encoder(config)
    volume = random_volume(1, 40, 32, 64)
    single = token_features(encoder, volume, level, background=-1.0, batch_size=1).features
    tokens = token_features(encoder, volume, level, background=-1.0, batch_size=3).features
    side = 32 // encoder.stride(level)[0]
    padded = F.pad(volume, (0, 0, 0, 0, 0, 24), value=-1.0)
    encoder.eval()
    for a, c in np.ndindex(2, 2):
        tile = padded[None, :, 32 * a : 32 * a + 32, :, 32 * c : 32 * c + 32]
        with torch.inference_mode():
            alone = encoder(tile)[level][0].movedim(0, -1)
        place = slice(side * a, side * (a + 1)), slice(None), slice(side * c, side * (c + 1))
        alone = alone[: len(single[place])]
        assert torch.equal(single[place], alone)
        torch.testing.assert_close(tokens[place], alone, rtol=1e-4, atol=1e-4)  # sums in another order
    assert tokens.shape[:3] == tuple(math.ceil(n / (2 * 2**level)) for n in (40, 32, 64))


def test_another_tile_size_and_the_batch_size():
    volume = random_volume(1, 16, 16, 16)
    whole = token_features(PoolingEncoder(), volume, 1, sub_volume=(16, 16, 16)).features
    torch.testing.assert_close(whole, (F.avg_pool3d(volume, 4) - volume.mean()).movedim(0, -1))
    one, many = (token_features(PoolingEncoder(), volume, 1, batch_size=size).features for size in (1, 8))
    assert torch.equal(one, many)
    assert not torch.allclose(whole, one)


def test_an_encoder_without_instance_norms_reads_large_tiles(monkeypatch):
    """Tiles of equal size, multiples of the coarsest stride, as few as the limit allows."""
    config = EncoderConfig(
        embed_dim=12, heads=(1, 2, 4, 8), window=2, depths=(1, 1, 1, 1), use_v2=False, sub_volume=(16,) * 3
    )
    encoder, volume = Encoder(config), random_volume(1, 44, 20, 32)
    seen = []
    real = type(encoder).forward
    monkeypatch.setattr(
        type(encoder), "forward", lambda self, tiles: seen.append(tuple(tiles.shape)) or real(self, tiles)
    )
    whole = token_features(encoder, volume, (0, 1))
    assert seen == [(1, 1, 44, 20, 32)] and whole.features.shape[:3] == (22, 10, 16)
    monkeypatch.setattr(features, "LARGEST_TILE", 24)
    token_features(encoder, volume, (0, 1), batch_size=1)
    assert seen[1:] == [(1, 1, 24, 20, 16)] * 4
    again = token_features(encoder, volume, (0, 1), sub_volume=(16, 16, 16))
    assert seen[-1][2:] == (16, 16, 16) and again.features.shape == whole.features.shape
    with pytest.raises(ValueError, match="is the channel axis missing"):
        token_features(encoder, volume[0], 1)


def test_several_levels_give_joined_tokens_on_the_finest_grid():
    encoder, volume = PoolingEncoder((16, 16, 16)), random_volume(2, 20, 16, 12)
    joined = token_features(encoder, volume, (1, 2))
    fine, coarse = (token_features(encoder, volume, level) for level in (1, 2))
    assert joined.patch == fine.patch and joined.features.shape == (5, 4, 3, 4)
    for a, b, c in np.ndindex(5, 4, 3):
        parts = [fine.features[a, b, c], coarse.features[a // 2, b // 2, c // 2]]
        expected = torch.cat([F.normalize(part, dim=0) for part in parts]) / 2**0.5
        torch.testing.assert_close(joined.features[a, b, c], expected)
    for levels in ((), (2, 1), (1, 1)):
        with pytest.raises(ValueError, match="from fine to coarse"):
            token_features(encoder, volume, levels)
    with pytest.raises(ValueError, match="level 4 has stride"):
        token_features(encoder, volume, (1, 4))


def test_several_maps_equal_each_alone_for_one_pass(monkeypatch):
    """Groups of one level and of several, whose finest differ; each tile goes through the encoder once."""
    encoder, volume = PoolingEncoder((16, 16, 16)), random_volume(2, 20, 16, 36)
    groups = [(1, 2), [1], (0, 1), np.array([2])]
    options = {"affine": AFFINE, "background": -1.5, "batch_size": 4}
    alone = [token_features(encoder, volume, levels, **options) for levels in groups]
    passes, real = [], PoolingEncoder.forward
    monkeypatch.setattr(PoolingEncoder, "forward", lambda self, tiles: passes.append(len(tiles)) or real(self, tiles))
    together = token_maps(encoder, volume, groups, **options)
    assert passes == [4, 2]
    for one, other in zip(together, alone, strict=True):
        assert torch.equal(one.features, other.features) and one.patch == other.patch
        np.testing.assert_array_equal(one.affine, other.affine)
    assert [each.patch[0] for each in together] == [4, 4, 2, 8]
    assert [each.features.shape[-1] for each in together] == [4, 2, 4, 2]


def test_several_maps_of_an_encoder_without_instance_norms():
    """The tile is one that all levels divide, also those of a single group."""
    config = EncoderConfig(
        embed_dim=12, heads=(1, 2, 4, 8), window=2, depths=(1, 1, 1, 1), use_v2=False, sub_volume=(32,) * 3
    )
    encoder, volume = Encoder(config), random_volume(1, 44, 20, 32)
    tile = {"sub_volume": (48, 32, 32)}
    joined, fine = token_maps(encoder, volume, [(1, 2, 3), (0,)])
    torch.testing.assert_close(joined.features, token_features(encoder, volume, (1, 2, 3), **tile).features)
    torch.testing.assert_close(fine.features, token_features(encoder, volume, 0, **tile).features)


def test_bad_groups_of_levels():
    encoder, volume = PoolingEncoder((16, 16, 16)), random_volume(1, 16, 16, 16)
    with pytest.raises(ValueError, match=r"from fine to coarse.*got \(2, 1\)"):
        token_maps(encoder, volume, [(1,), (2, 1)])
    with pytest.raises(ValueError, match="from fine to coarse"):
        token_maps(encoder, volume, [(1,), ()])
    with pytest.raises(ValueError, match="level 4 has stride"):
        token_maps(encoder, volume, [(1,), (4,)])
    with pytest.raises(ValueError, match="whole numbers"):
        token_maps(encoder, volume, [(1,), (1.5,)])
    with pytest.raises(ValueError, match=r"scan of \(16, 16, 6\) voxels is smaller than one patch of \(8, 8, 8\)"):
        token_maps(encoder, volume[..., :6], [(1,), (2,)])


def test_padding_takes_the_given_background():
    inside = token_features(PoolingEncoder(), torch.ones(1, 8, 8, 6), 0, background=5.0).features
    torch.testing.assert_close(inside, torch.full_like(inside, 1 - (1 * 6 + 5 * 2) / 8))


def test_token_affine_is_the_mean_position_of_the_voxels():
    tokens = token_features(PoolingEncoder(), torch.zeros(1, 8, 8, 8), 1, affine=torch.from_numpy(AFFINE))
    for token in [(0, 0, 0), (1, 0, 1)]:
        voxels = [[4 * t + k for t, k in zip(token, corner, strict=True)] + [1] for corner in np.ndindex(4, 4, 4)]
        np.testing.assert_allclose(tokens.affine @ [*token, 1], (AFFINE @ np.array(voxels).T).mean(axis=1))


def test_encoder_keeps_its_training_flags_and_features_can_be_trained_on():
    encoder = PoolingEncoder().train()
    encoder.frozen.eval()
    volume = random_volume(1, 8, 8, 8)
    first, second = (token_features(encoder, volume, 0).features for _ in range(2))
    assert torch.equal(first, second), "dropout was on"
    assert (encoder.training, encoder.dropout.training, encoder.frozen.training) == (True, True, False)
    assert first.dtype == torch.float32
    probe = torch.zeros(1, requires_grad=True)
    (first * probe).sum().backward()


def test_encoder_keeps_its_training_flags_when_it_fails():
    encoder = PoolingEncoder().train()
    with pytest.raises(TypeError):
        encoder.forward = None
        token_features(encoder, torch.zeros(1, 8, 8, 8), 0)
    assert encoder.training


@pytest.mark.parametrize(
    ("volume", "options", "message"),
    [
        (torch.zeros(1, 8, 8, 8), {"level": 5}, "levels 0 to 4"),
        (torch.zeros(1, 8, 8, 8), {"level": -1}, "levels 0 to 4"),
        (torch.zeros(1, 8, 8, 8), {"level": 1, "sub_volume": (8, 8, 6)}, r"\(8, 8, 6\).*stride \(4, 4, 4\)"),
        (torch.zeros(1, 8, 8, 8), {"level": 3}, r"\(8, 8, 8\).*stride \(16, 16, 16\)"),
        (torch.zeros(8, 8, 8), {"level": 0}, "channel axis"),
        (torch.zeros(1, 8, 0, 8), {"level": 0}, r"\(1, 8, 0, 8\)"),
        (torch.full((1, 8, 8, 8), math.nan), {"level": 0}, "512 voxels.*NaN"),
        (torch.zeros(1, 8, 8, 8), {"level": 0, "affine": np.zeros((4, 4))}, "cannot be inverted"),
        (torch.zeros(1, 1, 1, 1), {"level": 0}, r"scan of \(1, 1, 1\) voxels is smaller than one patch of \(2, 2, 2\)"),
        (torch.zeros(1, 8, 8, 8), {"level": 0, "batch_size": 0}, "batch_size 0: .*give 1 or more"),
        (torch.zeros(1, 8, 8, 8), {"level": 0, "batch_size": -3}, "batch_size -3"),
        (torch.zeros(1, 8, 8, 8), {"level": 0, "background": math.nan}, "background nan is not finite: give"),
        (torch.zeros(1, 8, 8, 8), {"level": 0, "background": -math.inf}, "background -inf is not finite"),
    ],
)
def test_bad_input_to_token_features(volume, options, message):
    with pytest.raises(ValueError, match=message):
        token_features(PoolingEncoder(), volume, **options)


def test_levels_and_sizes_may_be_numpys():
    encoder, volume = PoolingEncoder((16, 16, 16)), random_volume(1, 16, 16, 16)
    for level, given in ((1, np.int64(1)), (1, np.uint8(1)), ((0, 1), np.array([0, 1])), ((0, 1), [np.int64(0), 1])):
        plain = token_features(encoder, volume, level, (16, 16, 16), batch_size=1)
        found = token_features(encoder, volume, given, np.array([16, 16, 16]), batch_size=np.int64(1))
        assert torch.equal(found.features, plain.features) and found.patch == plain.patch
        assert {type(side) for side in found.patch} == {int}


@pytest.mark.parametrize("level", [True, 1.0, np.float64(1), [1.0, 2.0], [True, 2], np.array([1.0]), np.array([True])])
def test_a_level_that_is_no_whole_number_is_refused(level):
    with pytest.raises(ValueError, match="level must hold whole numbers, got"):
        token_features(PoolingEncoder(), torch.zeros(1, 8, 8, 8), level)


def test_sizes_that_are_no_whole_numbers_are_refused():
    volume = torch.zeros(1, 8, 8, 8)
    with pytest.raises(ValueError, match="batch_size must hold whole numbers, got 2.0"):
        token_features(PoolingEncoder(), volume, 0, batch_size=2.0)
    with pytest.raises(ValueError, match="sub_volume must hold whole numbers, got 8.5, 8, 8"):
        token_features(PoolingEncoder(), volume, 0, sub_volume=(8.5, 8, 8))


def test_features_that_require_a_gradient_can_be_measured():
    tokens = random_map()
    leaf = tokens._replace(features=tokens.features.clone().requires_grad_())
    assert torch.equal(pca_map(leaf), pca_map(tokens))
    features, organ = blobs()
    assert organ_silhouettes(features.requires_grad_(), organ) == organ_silhouettes(features.detach(), organ)


@pytest.mark.parametrize("axis", range(3))
def test_volume_smaller_than_one_patch(axis):
    sides = [20, 24, 20]
    sides[axis] = 8
    encoder = PoolingEncoder(sub_volume=(16, 16, 16))
    assert token_features(encoder, torch.zeros(1, *sides), 2).features.shape[axis] == 1
    sides[axis] = 7
    message = (
        rf"scan of \({sides[0]}, {sides[1]}, {sides[2]}\) voxels is smaller than one patch of \(8, 8, 8\): use a finer"
    )
    with pytest.raises(ValueError, match=message):
        token_features(encoder, torch.zeros(1, *sides), 2)


def test_check_affine():
    assert check_affine(AFFINE.astype(np.float32)).dtype == np.float64
    check_affine(np.diag([1e-3, 1e-3, 1e-3, 1]))
    flat = AFFINE.copy()
    flat[:, 1] = flat[:, 0]
    for bad in (flat, np.zeros((4, 4)), np.full((4, 4), np.nan), np.eye(3)):
        with pytest.raises(ValueError, match="cannot be inverted"):
            check_affine(bad)
    for last_row in ((0, 0, 0, 0), (1, 2, 3, 5), (0, 0, 1e-3, 1), (0, 0, 0, 2)):
        with pytest.raises(ValueError, match="does not end in 0 0 0 1"):
            check_affine(np.vstack([AFFINE[:3], last_row]))


# Heatmaps


def test_heatmap_equals_a_naive_loop():
    tokens = random_map(patch=(2, 4, 3))
    heatmap = similarity_heatmap(tokens, (5, 7, 14))
    anchor = tokens.features[2, 1, 4]
    for cell in np.ndindex(4, 3, 5):
        other = tokens.features[cell]
        cosine = float((anchor * other).sum() / anchor.norm() / other.norm())
        assert float(heatmap[cell]) == pytest.approx(cosine, abs=1e-5)
    assert float(heatmap[2, 1, 4]) == pytest.approx(1)


def test_heatmap_of_a_zero_token_is_zero():
    tokens = random_map()
    tokens.features[1, 1, 1] = 0
    assert similarity_heatmap(tokens, (0, 0, 0))[1, 1, 1] == 0
    assert torch.equal(similarity_heatmap(tokens, (2, 2, 2)), torch.zeros(4, 3, 5))


@pytest.mark.parametrize("voxel", [(8, 0, 0), (0, -1, 0), (0, 0, 10), (0, 0)])
def test_heatmap_outside_the_map(voxel):
    with pytest.raises(IndexError, match=r"0\.\.7, 0\.\.5, 0\.\.9"):
        similarity_heatmap(random_map(), voxel)


# Organ tokens


def naive_owner(label, patch, grid, purity):
    """The definition, one token at a time."""
    owner = np.zeros(grid, dtype=int)
    for cell in np.ndindex(*grid):
        window = tuple(slice(c * p, (c + 1) * p) for c, p in zip(cell, patch, strict=True))
        counts = {}
        for value in label[window].ravel().tolist():
            counts[value] = counts.get(value, 0) + 1
        best = max((v for v in counts if v), key=lambda v: (counts[v], -v), default=0)
        if best and counts[best] / math.prod(patch) >= purity:
            owner[cell] = best
    return owner


@pytest.mark.parametrize("purity", [0.2, 0.5, 1.0])
def test_organ_tokens_equal_a_naive_loop(purity):
    generator = np.random.default_rng(0)
    tokens = random_map(grid=(4, 3, 5), patch=(2, 4, 2))
    label = np.kron(generator.integers(0, 4, (4, 3, 5)), np.ones((2, 4, 2), int))[:7, :10, :10]
    noise = generator.random(label.shape) < 0.3
    label[noise] = generator.integers(0, 4, noise.sum())
    owner = naive_owner(label, tokens.patch, (4, 3, 5), purity)
    result = organ_tokens(tokens, torch.from_numpy(label), purity=purity, minimum=3)
    counts = {organ: int((owner == organ).sum()) for organ in (1, 2, 3)}
    assert result.kept == {organ: count for organ, count in counts.items() if count >= 3}
    assert result.dropped == {organ: count for organ, count in counts.items() if count < 3}
    cells = [cell for cell in np.ndindex(4, 3, 5) if owner[cell] in result.kept]
    assert result.organ.tolist() == [owner[cell] for cell in cells]
    expected = torch.stack([tokens.features[cell] for cell in cells]) if cells else torch.zeros(0, 6)
    assert torch.equal(result.features, expected)


def test_organ_tokens_ties_and_border():
    tokens = random_map(grid=(2, 1, 1))
    label = np.zeros((4, 2, 2), int)
    label[0], label[1] = 7, 3
    assert organ_tokens(tokens, label, minimum=1).organ.tolist() == [3], "a tie goes to the lower label"
    assert organ_tokens(tokens, label, purity=0.51, minimum=1).dropped == {3: 0, 7: 0}
    label = np.full((3, 2, 2), 4)
    assert organ_tokens(tokens, label, minimum=1).kept == {4: 2}
    assert organ_tokens(tokens, label, purity=0.6, minimum=1).kept == {4: 1}, "beyond the border is background"


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, np.float32])
def test_organ_grid_equals_a_naive_loop_on_many_labels_and_ties(dtype):
    """Few voxels a token and many labels, so that most tokens are tied; patches and grids of any shape."""
    generator, tied = np.random.default_rng(0), 0
    for _ in range(25):
        grid, patch = (tuple(int(n) for n in generator.integers(1, 5, 3)) for _ in range(2))
        shape = [int(g * p - generator.integers(0, p)) for g, p in zip(grid, patch, strict=True)]
        label = generator.choice([0, 1, 2, 7, 104, 250], shape).astype(dtype)
        label.flat[0] = 7
        purity = float(generator.choice([1e-3, 0.25, 1 / 3, 0.5, 1.0]))
        tokens = random_map(grid, 1, patch)
        owner = organ_grid(tokens, label, purity)
        assert owner.dtype == torch.int64
        np.testing.assert_array_equal(owner.numpy(), naive_owner(label, patch, grid, purity))
        tied += naive_ties(label, patch, grid)
    assert tied > 100


def naive_ties(label, patch, grid):
    """Tokens in which two organs have the largest share."""
    ties = 0
    for cell in np.ndindex(*grid):
        window = label[tuple(slice(c * p, (c + 1) * p) for c, p in zip(cell, patch, strict=True))]
        _, counts = np.unique(window[window > 0], return_counts=True)
        ties += len(counts) > 1 and (counts == counts.max()).sum() > 1
    return ties


def test_a_mask_is_a_label_map():
    mask = np.zeros((8, 6, 10), dtype=bool)
    mask[:4] = True
    assert torch.equal(organ_grid(random_map(), mask), organ_grid(random_map(), mask.astype(int)))


def test_organ_grid_holds_no_count_for_every_token_and_label():
    """64 x 64 x 64 tokens and 200 labels would be half a gigabyte of counts."""
    label = np.arange(128**3, dtype=np.int32).reshape(128, 128, 128) % 200
    tokens = TokenMap(torch.zeros(64, 64, 64, 1), (2, 2, 2), np.eye(4))
    tracemalloc.start()
    owner = organ_grid(tokens, label, purity=0.1)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert owner.shape == (64, 64, 64) and most < 150e6


def test_organs_with_few_tokens_are_reported():
    label = np.zeros((8, 6, 10), np.uint8)
    label[:4], label[6:, :2, :4], label[7, 5, 9] = 1, 2, 9
    result = organ_tokens(random_map(), label)
    assert (result.kept, result.dropped) == ({1: 30}, {2: 2, 9: 0})
    assert set(result.organ.tolist()) == {1}


@pytest.mark.parametrize(
    ("label", "options", "message"),
    [
        (np.ones((8, 6, 11), int), {}, "does not lie on .*grid"),
        (np.ones((8, 6, 8), int), {}, "does not lie on .*grid"),
        (np.ones((8, 6), int), {}, "does not lie on .*grid"),
        (np.zeros((8, 6, 10), int), {}, "background only"),
        (np.full((8, 6, 10), 0.5), {}, "whole numbers"),
        (np.full((8, 6, 10), -1), {}, "whole numbers"),
        (np.full((8, 6, 10), np.nan), {}, "whole numbers"),
        (np.full((8, 6, 10), np.inf), {}, "whole numbers"),
        (np.ones((8, 6, 10), int), {"purity": 0.0}, "purity"),
    ],
)
def test_bad_input_to_organ_tokens(label, options, message):
    with pytest.raises(ValueError, match=message):
        organ_tokens(random_map(), label, **options)


# Silhouette


def blobs(sizes=(9, 5, 3), noise=0.4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    organ = torch.cat([torch.full((n,), label + 1) for label, n in enumerate(sizes)])
    return torch.eye(6)[organ] + noise * torch.randn(len(organ), 6, generator=generator), organ


def test_silhouette_equals_a_naive_loop():
    features, organ = blobs()
    unit = features.double() / features.double().norm(dim=1, keepdim=True)
    distance = (1 - unit @ unit.T).numpy()
    per_organ = {}
    for i, label in enumerate(organ.tolist()):
        mean = {}
        for other in (1, 2, 3):
            members = [j for j, name in enumerate(organ.tolist()) if name == other and j != i]
            mean[other] = sum(distance[i, j] for j in members) / len(members)
        a, b = mean.pop(label), min(mean.values())
        per_organ.setdefault(label, []).append((b - a) / max(a, b))
    expected = {label: sum(values) / len(values) for label, values in per_organ.items()}
    assert organ_silhouettes(features, organ) == pytest.approx(expected, abs=1e-9)
    assert structure_silhouette(features, organ) == pytest.approx(sum(expected.values()) / 3, abs=1e-9)


def test_silhouette_of_separate_and_of_mixed_organs():
    features, organ = blobs(noise=1e-3)
    assert structure_silhouette(features, organ) > 0.99
    assert structure_silhouette(features, torch.arange(len(organ)) % 3) < 0.05


def test_silhouette_ignores_order_and_length():
    features, organ = blobs()
    shuffled = torch.randperm(len(organ), generator=torch.Generator().manual_seed(1))
    lengths = 0.1 + torch.rand(len(organ), 1, generator=torch.Generator().manual_seed(2))
    value = structure_silhouette(features, organ)
    assert structure_silhouette((lengths * features)[shuffled], organ[shuffled]) == pytest.approx(value, abs=1e-6)


def test_silhouette_needs_two_organs():
    features, organ = blobs()
    for bad in (torch.ones_like(organ), torch.arange(len(organ))):
        with pytest.raises(ValueError, match="two organs"):
            structure_silhouette(features, bad)


# PCA


def test_pca_map_equals_the_singular_vectors():
    tokens = random_map(grid=(5, 4, 6), channels=7)
    centred = tokens.features.flatten(0, 2).double()
    centred = centred - centred.mean(dim=0)
    axes = torch.linalg.svd(centred, full_matrices=False)[2][:3]
    axes = axes * axes.gather(1, axes.abs().argmax(dim=1, keepdim=True)).sign()
    expected = (centred @ axes.T).reshape(5, 4, 6, 3).float()
    torch.testing.assert_close(pca_map(tokens), expected, rtol=1e-4, atol=1e-5)
    assert pca_map(tokens, components=1).shape == (5, 4, 6, 1)


@pytest.mark.parametrize("sign", [1, -1])
def test_pca_axes_point_to_their_largest_loading_whatever_sign_the_solver_gives(monkeypatch, sign):
    class Signed(features.PCA):
        def fit(self, tokens):
            super().fit(tokens).components_ *= sign
            return self

    monkeypatch.setattr(features, "PCA", Signed)
    axes = fit_pca(random_map(), components=4).components_
    assert (np.take_along_axis(axes, np.abs(axes).argmax(axis=1)[:, None], axis=1) > 0).all()


def test_one_basis_keeps_signs_where_two_would_not():
    """The same tokens mirrored: with a basis of its own the map is the same, with the first one it is mirrored."""
    tokens = random_map()
    mirrored = tokens._replace(features=-tokens.features)
    fitted = fit_pca([tokens])
    first, second = (pca_map(t, fitted=fitted) for t in (tokens, mirrored))
    middle = torch.from_numpy(fitted.mean_ @ fitted.components_.T).float()
    torch.testing.assert_close(second + middle, -(first + middle), rtol=1e-4, atol=1e-4)
    assert torch.equal(pca_map(tokens), pca_map(tokens))
    torch.testing.assert_close(pca_map(mirrored, 2, fitted=fitted), second[..., :2])


def test_pca_of_several_maps_together():
    maps = [random_map(seed=0), random_map(grid=(2, 2, 2), seed=1)]
    together = TokenMap(torch.cat([m.features.flatten(0, 2) for m in maps])[:, None, None], (2, 2, 2), np.eye(4))
    np.testing.assert_allclose(fit_pca(maps).components_, fit_pca(together).components_)


def test_bad_input_to_pca():
    tokens = random_map()
    with pytest.raises(ValueError, match="number of channels"):
        fit_pca([tokens, random_map(channels=5)])
    with pytest.raises(ValueError, match="7 components"):
        fit_pca(tokens, components=7)
    for components in (0, 2.0, True):
        with pytest.raises(ValueError, match="components must hold whole numbers from 1 up, got"):
            fit_pca(tokens, components)
    assert torch.equal(pca_map(tokens, np.int64(2)), pca_map(tokens, 2))
    for alone in (random_map(grid=(1, 1, 1)), [random_map(grid=(1, 1, 1))]):
        with pytest.raises(ValueError, match="PCA needs two tokens at least, got 1: take a finer level or a larger"):
            fit_pca(alone, components=1)
    two = fit_pca([random_map(grid=(1, 1, 1)), random_map(grid=(1, 1, 1), seed=1)], components=1)
    assert np.isfinite(two.components_).all() and np.isfinite(two.explained_variance_ratio_).all()
    with pytest.raises(ValueError, match="number of channels"):
        fit_pca([])
    with pytest.raises(ValueError, match="3 components of 5 channels"):
        pca_map(random_map(channels=5), fitted=fit_pca(tokens))
    with pytest.raises(ValueError, match="cannot give"):
        pca_map(tokens, fitted=fit_pca(tokens, components=2))


def test_inside_outside_are_means_over_the_organ_and_the_other_organs():
    similarity = torch.arange(8.0).reshape(2, 2, 2)
    organs = torch.tensor([[[1, 1], [0, 2]], [[2, 3], [0, 0]]])
    assert inside_outside(similarity, organs, 1) == (0.5, 4.0)
    assert inside_outside(similarity, organs, 9) == pytest.approx((math.nan, 2.6), nan_ok=True), "none inside"
    alone = inside_outside(similarity, (organs == 1).long(), 1)
    assert alone == pytest.approx((0.5, math.nan), nan_ok=True), "there is no other organ"


def test_structure_means_come_brightest_first():
    similarity = torch.arange(8.0).reshape(2, 2, 2)
    structures = torch.tensor([[[1, 1], [0, 2]], [[2, 3], [0, 0]]])
    assert list(structure_means(similarity, structures).items()) == [(3, 5.0), (2, 3.5), (1, 0.5)]
    assert structure_means(similarity, structures, minimum=2) == {2: 3.5, 1: 0.5}
    assert structure_means(similarity, structures * 0) == {}


def test_deepest_voxel_is_the_furthest_from_the_surface_in_millimetres():
    label = np.zeros((9, 9, 9), dtype=int)
    label[1:8, 2:7, 3:6] = 4
    assert deepest_voxel(label, 4)[2] == 4
    tall = np.zeros((3, 3, 20), dtype=int)
    tall[:, :, 5:] = 1
    tall[1, 1, 0] = 1
    assert deepest_voxel(tall, 1, spacing=(1, 1, 0.1))[2] == 12
    with pytest.raises(ValueError, match=r"no voxel carries the label 5: there are \[0, 4\]"):
        deepest_voxel(label, 5)
