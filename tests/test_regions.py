"""A loss is a mean over regions: what a region adds, in value and in gradient, does not depend on its batch."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from s2dc_core.geometry import Matches
from s2dc_core.losses import PRESETS, S2DCLoss, info_nce
from s2dc_core.pretraining import Pretraining
from s2dc_core.pretraining.regions import draw_views
from tests.sampling import draw_tokens
from tests.training.test_checkpoints import SHORT
from tests.training.test_processes import UNMATCHED, in_double

FORMS = [
    ("default", "dense"),
    ("default", "streaming"),
    ("paper", "dense"),
    ("paper", "streaming"),
    ("official", "auto"),
]


def draw(regions, tokens, others, width, counts, seed):
    """Unit tokens of V and V', queries and positives, two a region, and matches, counts[r] of them in region r."""
    generator = torch.Generator().manual_seed(seed)

    def unit(*shape):
        return F.normalize(torch.randn(*shape, width, generator=generator, dtype=torch.float64), dim=-1)

    student, teacher, query, positive = (
        unit(regions, tokens),
        unit(regions, others),
        unit(2 * regions),
        unit(2 * regions),
    )
    pairs = []
    for region, count in enumerate(counts):
        chosen = torch.randperm(tokens * others, generator=generator)[:count].sort().values
        pairs += [(region, int(pair) // others, int(pair) % others) for pair in chosen]
    matches = Matches(*torch.tensor(pairs, dtype=torch.long).reshape(-1, 3).T)
    return student.requires_grad_(), teacher, query.requires_grad_(), positive, unit(5), matches


def only(matches, region):
    """The matches of one region, as a batch of its own."""
    mine = matches.batch == region
    return Matches(matches.batch[mine] * 0, matches.source[mine], matches.target[mine])


def check_that_a_batch_is_the_mean_of_its_regions(loss, counts, tokens, others, seed):
    """Of two levels: terms, and the gradients of tokens and queries."""
    regions = len(counts)
    fine, coarse = (draw(regions, n, m, 4, counts, seed + k) for k, (n, m) in enumerate([(tokens, others), (3, 2)]))
    leaves = fine[0], coarse[0], fine[2]

    def terms(part, queries, matched):
        sides = fine[2][queries], fine[3][queries], fine[4]
        student, teacher = ([level[side][part] for level in (fine, coarse)] for side in (0, 1))
        return loss(*sides, student, teacher, [matched(level[5]) for level in (fine, coarse)])

    together = terms(slice(None), slice(None), lambda matches: matches)
    alone = [
        terms(slice(r, r + 1), slice(2 * r, 2 * r + 2), lambda matches, r=r: only(matches, r)) for r in range(regions)
    ]
    for name, value in together._asdict().items():
        mean = torch.stack([getattr(each, name) for each in alone]).mean()
        torch.testing.assert_close(value, mean, rtol=1e-9, atol=1e-9)
        gradients = (torch.autograd.grad(x, leaves, retain_graph=True, allow_unused=True) for x in (value, mean))
        for one, other in zip(*gradients, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize(("preset", "backend"), FORMS)
@given(
    st.lists(st.sampled_from([0, 0, 1, 2, 5]), min_size=1, max_size=4),
    st.integers(1, 7),
    st.integers(1, 7),
    st.integers(0, 10**6),
)
@settings(max_examples=15, deadline=None)
def test_the_loss_of_a_batch_is_the_mean_of_its_regions(preset, backend, counts, tokens, others, seed):
    loss = S2DCLoss.from_preset(preset, backend=backend)
    check_that_a_batch_is_the_mean_of_its_regions(loss, counts, tokens, others, seed)


@pytest.mark.parametrize(("preset", "backend"), FORMS)
def test_with_sinkhorn_it_is_too(preset, backend):
    loss = S2DCLoss.from_preset(preset, backend=backend, assignment="sinkhorn")
    check_that_a_batch_is_the_mean_of_its_regions(loss, [2, 0, 5], 6, 5, 0)


@pytest.mark.parametrize("backend", ["dense", "streaming"])
@pytest.mark.parametrize("preset", ["default", "paper"])
def test_a_region_without_a_match_counts_nothing(preset, backend):
    student, teacher, *_, matches = draw(2, 5, 6, 4, [3, 0], 0)
    loss = S2DCLoss.from_preset(preset, backend=backend)
    both, alone = (loss.structure_terms(student[:k], teacher[:k], matches) for k in (2, 1))
    for one, other in zip(both, alone, strict=True):
        assert one.item() == pytest.approx(other.item() / 2) and other > 0
    (gradient,) = torch.autograd.grad(sum(both), student)
    assert gradient[1].eq(0).all() and gradient[0].abs().max() > 0


def test_a_region_without_a_match_is_pushed_apart_by_the_published_form():
    """As the published code has it: no pull, and -log(1 - p) of all its pairs."""
    student, teacher, *_, matches = draw(2, 5, 6, 4, [3, 0], 0)
    loss = S2DCLoss.from_preset("official")
    p2p, p2s = loss.structure_terms(student[1:], teacher[1:], only(matches, 1))
    cosine = (student[1] @ teacher[1].T).detach()
    confidence = cosine.softmax(0) * cosine.softmax(1)
    assert p2p.item() == pytest.approx(-float((1 - confidence).log().mean()))
    assert p2s.item() == pytest.approx(-float((0.5 - cosine / 2).log().mean()))


def test_a_loss_of_unequal_regions_weighs_them_alike():
    """One match in a region counts as much as thirty in another."""
    student, teacher, *_, matches = draw(2, 9, 9, 4, [30, 1], 1)
    for preset in PRESETS:
        loss = S2DCLoss.from_preset(preset)
        found = loss.structure_terms(student, teacher, matches)
        alone = [loss.structure_terms(student[r : r + 1], teacher[r : r + 1], only(matches, r)) for r in range(2)]
        for value, *each in zip(found, *alone, strict=True):
            assert value.item() == pytest.approx(sum(each).item() / 2) and not torch.equal(*each)


def test_queries_of_regions_with_as_many_sub_volumes_are_a_mean_over_regions():
    _, _, query, positive, negatives, _ = draw(3, 1, 1, 4, [0, 0, 0], 2)
    parts = [info_nce(*(x.unflatten(0, (3, 2))[r] for x in (query, positive)), negatives, 0.2) for r in range(3)]
    torch.testing.assert_close(info_nce(query, positive, negatives, 0.2), sum(parts) / 3)


def test_drawn_tokens_of_a_region_are_the_same_in_every_batch():
    student, teacher, *_, matches = draw(3, 12, 12, 4, [9, 0, 2], 3)

    def generators(*regions):
        return [torch.Generator().manual_seed(region) for region in regions]

    together = draw_tokens(student, teacher, matches, 6, 4, generators(0, 1, 2))
    assert together[2].per_region(12).tolist() == [6] * 4 + [0] * 4 + [2] * 4
    for r in range(3):
        alone = draw_tokens(student[r : r + 1], teacher[r : r + 1], only(matches, r), 6, 4, generators(r))
        for all_, own in zip(together[:2], alone[:2], strict=True):
            assert torch.equal(all_[4 * r : 4 * r + 4], own)
        mine = together[2].batch // 4 == r
        assert torch.equal(together[2].batch[mine] - 4 * r, alone[2].batch)
        assert torch.equal(together[2].source[mine], alone[2].source)


def test_samples_are_of_one_size_where_a_token_has_several_matches():
    """A shift by half a patch matches a token twice: 8 tokens of 12 matches, beside a region of 8 that has none."""
    pairs = [(0, i, j) for i in range(8) for j in (i, i + 1) if j < 8][:12]
    matches = Matches(*torch.tensor(pairs).T)
    tokens = torch.randn(2, 8, 4, generator=torch.Generator().manual_seed(0))
    source, target, kept = draw_tokens(tokens, tokens, matches, 20, 2)
    assert source.shape == target.shape == (4, 8, 4) and kept.per_region(4).tolist() == [8, 8, 0, 0]
    for p, (sample, i, j) in enumerate(zip(*kept, strict=True)):
        places = [int((side[0] == token).all(-1).nonzero()) for side, token in
                  ((tokens, source[sample, i]), (tokens, target[sample, j]))]  # fmt: skip
        assert (0, *places) in pairs, p


def test_one_of_the_two_scans_gives_regions_without_a_match():
    views = draw_views(SHORT, UNMATCHED)
    assert sorted(views.matches[0].per_region(2).gt(0).tolist()) == [False, True]


@pytest.mark.parametrize("preset", PRESETS)
def test_accumulated_regions_are_a_batch_where_one_has_no_match(preset):
    """In float64, so that nothing but rounding may differ."""
    config = replace(SHORT, loss=preset, norm="layer", matched_tokens=None if preset == "paper" else 40)
    whole, parts = in_double(config, UNMATCHED), in_double(replace(config, batch=1, accumulate=2), UNMATCHED)
    assert np.array(parts.history) == pytest.approx(np.array(whole.history), abs=1e-9)
    torch.testing.assert_close(parts.model.queue.features, whole.model.queue.features)


def test_a_step_without_any_match_leaves_a_loss_to_train():
    run = Pretraining(replace(SHORT, batch=1), UNMATCHED[1:], device="cpu")
    terms = [run.step() for _ in range(2)]
    assert all(each.patch_to_patch == each.patch_to_structure == 0 for each in terms) and terms[1].contrast > 0
