"""Rows of all processes: their order, and a gradient whose mean over the processes is that of one process."""

import pytest

from s2dc_core.methods.parts.rows import RowsOfAll
from tests.methods.series import series
from tests.training.test_processes import launch

TOGETHER = """
import torch
from torch.nn.parallel import DistributedDataParallel
from s2dc_core.methods.parts.contrast import nt_xent
from s2dc_core.methods.parts.rows import RowsOfAll
from s2dc_core.training.processes import Processes
from tests.methods.series import series

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.rows = torch.nn.Linear(5, 3, bias=False).double(), RowsOfAll()
        with torch.no_grad():
            self.linear.weight.copy_(series(3, 5, shift=4))

    def forward(self, one, other):
        z = [self.linear(each) for each in (one, other)]
        return nt_xent(*z, 0.5, *map(self.rows, z))

own = Processes()
one, other = series(4, 5), series(4, 5, shift=1)
alone = Net()
alone.rows.eval()
whole = alone(one, other)
whole.mean().backward()
here = slice(0, 2) if own.index == 0 else slice(2, 4)
shared = own.share(Net())
found = shared(one[here], other[here])
found.mean().backward()
torch.testing.assert_close(found, whole[here], rtol=0, atol=1e-12)
net = shared.module
torch.testing.assert_close(net.linear.weight.grad, alone.linear.weight.grad, rtol=0, atol=1e-12)
assert net.linear.weight.grad.abs().max() > 1e-3

# Any number of rows, of any shape, from any of them; what is gathered is exact.
count = 3 - 2 * own.index
volumes = torch.full((count, 1, 2, 2), own.index + 0.1)
rows = net.rows(volumes)
assert rows.first == (0, 3)[own.index] and rows.all.shape == (4, 1, 2, 2)
assert torch.equal(rows.all[:, 0, 0, 0], torch.tensor([0.1, 0.1, 0.1, 1.1]))
assert torch.equal(rows.all[rows.first :][:count], volumes)
half = net.rows(series(count, 3).bfloat16())
assert torch.equal(half.all[half.first :][:count], series(count, 3).bfloat16())
assert len(net.rows(volumes[:0] if own.index else volumes).all) == 3
net.eval()
assert len(net.rows(volumes).all) == count
"""


@pytest.mark.slow
def test_over_two_processes_values_and_gradient_are_those_of_one(tmp_path):
    done = launch(tmp_path, TOGETHER)
    assert done.returncode == 0, done.stderr[:3000]


def test_in_one_process_they_are_its_own():
    own = series(3, 2)
    rows = RowsOfAll()(own)
    assert rows.all is own and rows.first == 0
