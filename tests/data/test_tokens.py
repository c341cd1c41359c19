"""Made-up tokens are what they are said to be, and a pull is that of the loss."""

import math

import pytest
import torch
import torch.nn.functional as F

from s2dc_core.data.tokens import controlled_tokens, equal_gap_loss, pull_on_tokens, true_pairs
from s2dc_core.matching import log_dual_softmax


def test_without_noise_partners_are_equal_and_strangers_are_not():
    a, b, partner = controlled_tokens(40, noise=0.0, unmatched=0.25, seed=3)
    rows, columns = true_pairs(partner)
    assert a.shape == b.shape == (40, 64) and len(rows) == 30
    torch.testing.assert_close(a[rows], b[columns])
    torch.testing.assert_close(a.norm(dim=1), torch.ones(40))
    others = (a @ b.T).clone()
    others[rows, columns] = -1
    assert others.max() < 0.99


@pytest.mark.parametrize(("own", "expected"), [(1.0, 0.0), (0.3, 0.7), (0.0, 1.0)])
def test_places_of_one_tissue_share_what_is_not_their_own(own, expected):
    a, _, _ = controlled_tokens(60, noise=0.0, own=own, clusters=1, channels=512)
    cosines = a @ a.T
    assert float(cosines[~torch.eye(60, dtype=torch.bool)].mean()) == pytest.approx(expected, abs=0.05)


def test_every_draw_follows_the_seed():
    first, again, other = (controlled_tokens(10, 0.5, 0.2, seed=seed) for seed in (1, 1, 2))
    assert all(torch.equal(x, y) for x, y in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])


def test_the_pull_is_along_the_sphere():
    tokens, to = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([1.0, 0.0])
    value, pull = pull_on_tokens(lambda t: (t @ to).mean(), tokens)  # the first can turn no nearer, the second can
    assert (value, pull) == pytest.approx((0.5, 0.5))


def test_the_pull_does_not_shrink_with_the_number_of_tokens():
    to = torch.tensor([1.0, 0.0])
    few, many = (torch.tensor([[math.cos(1.0), math.sin(1.0)]]).expand(n, 2) for n in (3, 300))
    pulls = [pull_on_tokens(lambda t: (t @ to).mean(), tokens)[1] for tokens in (few, many)]
    assert pulls[0] == pytest.approx(pulls[1], rel=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 0.1])
def test_one_gap_gives_the_closed_form(temperature):
    """Equation 5 of equal tokens, and of tokens as far apart as they can all be."""
    simplex = F.normalize(torch.eye(20, dtype=torch.float64) - 1 / 20, dim=1)
    for tokens, gap in ((simplex[:1].expand(20, 20), 0.0), (simplex, 20 / 19)):
        loss = -log_dual_softmax(tokens @ tokens.T, temperature).diagonal().mean()
        assert float(equal_gap_loss(20, gap, temperature)) == pytest.approx(float(loss))
    assert float(equal_gap_loss(20, 0.0, temperature)) == pytest.approx(2 * math.log(20))
