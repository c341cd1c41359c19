"""SimMIM: its loss against values computed elsewhere, what may not leak, and what a mask covers."""

import pytest
import torch

from s2dc_core.encoder import Encoder
from s2dc_core.methods.parts.masks import mask_cells, masked_mean
from s2dc_core.methods.simmim import SimMIMOptions
from s2dc_core.pretraining import draw_views
from tests.methods.series import series
from tests.methods.test_every_method import ENCODER, SCANS, small


def cells_of(numbers):
    cells = torch.zeros(8, dtype=torch.bool)
    cells[list(numbers)] = True
    voxels = cells.view(1, 2, 2, 2)
    for axis in (1, 2, 3):
        voxels = voxels.repeat_interleave(2, axis)
    return voxels[:, None]


@pytest.mark.parametrize(("channels", "expected"), [(1, 0.3426789859), (2, 0.3213797412)])
def test_the_loss_has_the_value_of_its_equation(channels, expected):
    """Cells of 2^3 of a volume of 4^3, of which 0, 3 and 5 are masked."""
    sides = [series(1, channels, 4, 4, 4, shift=shift) for shift in (0, 0.5)]
    assert masked_mean((sides[0] - sides[1]).abs(), cells_of((0, 3, 5))).item() == pytest.approx(expected, abs=1e-10)


def test_what_is_seen_does_not_count_and_what_is_masked_is_not_seen():
    torch.manual_seed(0)
    method = small("simmim").build().double().eval()
    views = draw_views(small("simmim", batch=1), [s._replace(volume=s.volume.double()) for s in SCANS])
    cells = views.masked.flatten(0, 1).unflatten(1, (4, 4, 4))
    voxels = cells
    for axis in (1, 2, 3):
        voxels = voxels.repeat_interleave(8, axis)
    noise = torch.randn_like(views.volume)
    tokens = cells
    for axis in (1, 2, 3):
        tokens = tokens.repeat_interleave(4, axis)

    def made(volume):
        return method.decoder(method.encoder(volume, tokens, method.mask_token)[-1])

    assert torch.equal(made(views.volume), made(torch.where(voxels[:, None], noise, views.volume)))
    assert not torch.equal(made(views.volume), made(torch.where(voxels[:, None], views.volume, noise)))
    one = masked_mean((views.volume - noise).abs(), voxels[:, None])
    other = masked_mean((views.volume - torch.where(voxels[:, None], noise, 7.0)).abs(), voxels[:, None])
    assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("cells", "ratio", "masked"), [(216, 0.6, 130), (64, 0.6, 39), (64, 0.75, 48), (25, 0.28, 7), (8, 0.95, 7)]
)
def test_as_many_cells_are_masked_as_the_ratio_says_rounded_up(cells, ratio, masked):
    assert mask_cells(cells, ratio).sum() == masked
    assert SimMIMOptions().ratio == 0.6


def test_a_mask_token_equal_to_the_embeddings_bias_is_a_volume_of_zeros():
    """Where whole tokens are masked, to the last bit."""
    encoder = Encoder.from_seed(ENCODER, 0).eval()
    volume = torch.randn(1, 1, 32, 32, 32, generator=torch.Generator().manual_seed(0))
    masked = torch.zeros(1, 16, 16, 16, dtype=torch.bool)
    masked[:, 4:8, :, 8:12] = True
    blank = volume.clone()
    blank[..., 8:16, :, 16:24] = 0
    with torch.no_grad():
        bias = encoder.swinViT.patch_embed.proj.bias
        for one, other in zip(encoder(volume, masked, bias), encoder(blank), strict=True):
            assert torch.equal(one, other)
        encoder.at_a_time = 1
        for one, other in zip(encoder(volume, masked, bias), encoder(blank), strict=True):
            assert torch.equal(one, other)
