"""Moved by whole tokens of every level, a scan gives nearly the same features; by less, or mirrored, it does not."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from s2dc_core.evaluation.steadiness import steadiness
from tests.evaluation.test_silhouettes import labelled_scan


class Patches(nn.Module):
    """Level 0: mean and slope along x of patches of 2; level 1: of patches of 4. No window, no context."""

    config = SimpleNamespace(use_v2=False, sub_volume=(16, 16, 16))

    def stride(self, level):
        return (2 * 2**level,) * 3

    def forward(self, volume):
        maps = []
        for side in (2, 4):
            halves = nn.functional.avg_pool3d(volume, (side // 2, side, side))
            low, high = halves[:, :, 0::2], halves[:, :, 1::2]
            maps.append(torch.cat([low + high, high - low, torch.ones_like(low)], 1))
        return maps


def test_whole_tokens_stay_as_they_are_and_parts_of_them_do_not():
    scan = labelled_scan()
    scan = scan._replace(foreground=torch.ones_like(scan.foreground))
    found = steadiness(Patches(), scan, (0, 1), voxels=(2, 4))
    assert list(found) == ["2 voxels", "4 voxels", "mirrored"]
    assert found["4 voxels"] == pytest.approx(1, abs=1e-5), "every token holds the same voxels"
    assert found["2 voxels"] < 0.999 and found["mirrored"] < 0.999


def test_what_has_no_left_and_right_is_the_same_mirrored():
    scan = labelled_scan()
    scan = scan._replace(
        volume=torch.ones_like(scan.volume), foreground=torch.ones_like(scan.foreground), background=1.0
    )
    assert steadiness(Patches(), scan, (0, 1), voxels=(4,))["mirrored"] == pytest.approx(1, abs=1e-5)


def test_a_move_by_parts_of_the_finest_tokens_is_refused():
    with pytest.raises(ValueError, match=r"moved by \[3\] voxels"):
        steadiness(Patches(), labelled_scan(), (0, 1), voxels=(2, 3))
