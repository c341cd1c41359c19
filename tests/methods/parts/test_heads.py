"""Heads: their layers, leading axes, and statistics of the whole batch."""

import pytest
import torch
from torch import nn

from s2dc_core.methods.parts.heads import MLP, pooled, tokens_of
from s2dc_core.model import SharedBatchNorm
from tests.methods.series import series
from tests.training.test_processes import launch

TOGETHER = """
import torch
from s2dc_core.methods.parts.heads import MLP
from s2dc_core.training.processes import Processes

own, generator = Processes(), torch.Generator().manual_seed(0)
torch.set_default_dtype(torch.float64)
rows = torch.randn(5, 3, generator=generator)
torch.manual_seed(0)
head = MLP([3, 4, 2], "batch", last_norm=True)
torch.nn.init.uniform_(head[1].weight), torch.nn.init.uniform_(head[1].bias)
found = head(rows[:2] if own.index == 0 else rows[2:])
torch.manual_seed(0)
plain = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.ReLU(), torch.nn.Linear(4, 2),
                            torch.nn.BatchNorm1d(2, affine=False))
torch.nn.init.uniform_(plain[1].weight), torch.nn.init.uniform_(plain[1].bias)
whole = plain(rows)
torch.testing.assert_close(found, whole[:2] if own.index == 0 else whole[2:])
torch.testing.assert_close(head.state_dict(), plain.state_dict())

# The mean over the processes of their gradients is that of one process.
shared, here = own.share(head), slice(0, 2) if own.index == 0 else slice(2, 4)
target = torch.randn(4, 2, generator=generator)
(shared(rows[:4][here]) - target[here]).square().mean().backward()
(plain(rows[:4]) - target).square().mean().backward()
for mine, usual in zip(head.parameters(), plain.parameters(), strict=True):
    torch.testing.assert_close(mine.grad, usual.grad, atol=1e-12, rtol=0)
assert head[1].weight.grad.abs().max() > 1e-3
"""


def kinds(head):
    return [type(layer).__name__ for layer in head]


@pytest.mark.parametrize(
    ("norm", "last", "expected"),
    [
        ("batch", True, "Linear SharedBatchNorm ReLU Linear SharedBatchNorm"),
        ("layer", False, "Linear LayerNorm ReLU Linear"),
        ("none", True, "Linear ReLU Linear"),
    ],
)
def test_its_layers(norm, last, expected):
    head = MLP([3, 4, 2], norm, last)
    assert kinds(head) == expected.split()
    norms = [layer for layer in head if isinstance(layer, (nn.LayerNorm, SharedBatchNorm))]
    affine = [any(True for _ in layer.parameters()) for layer in norms]
    assert affine == [True, False][: len(norms)]  # the last one has no weights of its own


def test_one_linear_layer_and_another_activation():
    assert kinds(MLP([3, 2])) == ["Linear"] and kinds(MLP([3, 4, 2], "none", activation=nn.GELU))[1] == "GELU"
    with pytest.raises(ValueError, match="unknown head norm 'group'"):
        MLP([3, 4, 2], "group")


def test_leading_axes_are_one_batch():
    head, features = MLP([4, 6, 2], "batch").double(), series(2, 3, 5, 4)
    assert head(features).shape == (2, 3, 5, 2)
    torch.testing.assert_close(head(features).flatten(0, 2), head(features.flatten(0, 2)))


def test_pools_and_tokens():
    cells = series(2, 3, 2, 2, 2)
    assert torch.equal(pooled(cells), tokens_of(cells).mean(1)) and tokens_of(cells).shape == (2, 8, 3)
    assert torch.equal(tokens_of(cells)[1, 6], cells[1, :, 1, 1, 0])


@pytest.mark.slow
def test_over_two_processes_its_statistics_are_those_of_one(tmp_path):
    done = launch(tmp_path, TOGETHER)
    assert done.returncode == 0, done.stderr[:3000]
