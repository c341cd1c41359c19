"""What a region shows follows from the seed and its number: not from the batch, the process or what came before."""

from dataclasses import replace

import torch

from s2dc_core.pretraining.regions import RegionDraws, draw_views
from s2dc_core.training.order import random_numbers
from tests.pretraining.test_pretrain import CONFIG, blobs

SCANS = [blobs(seed) for seed in range(3)]


def test_a_region_is_the_same_in_every_batch():
    whole = draw_views(replace(CONFIG, batch=4), SCANS, first=5)
    for k in range(4):
        alone = draw_views(replace(CONFIG, batch=1), SCANS, first=5 + k)
        for name in ("source", "target", "positives", "H"):
            assert torch.equal(getattr(alone, name)[0], getattr(whole, name)[k]), name


def test_regions_seeds_and_purposes_have_numbers_of_their_own():
    kinds = [(0, "crop", 0), (0, "crop", 1), (1, "crop", 0), (0, "tokens", 0), (0, "crop", 2**40), (0, "cells", 0)]
    drawn = {tuple(torch.rand(4, generator=random_numbers(*kind)).tolist()) for kind in kinds}
    assert len(drawn) == len(kinds)
    one, other = (torch.rand(4, generator=random_numbers(3, "crop", 7)) for _ in range(2))
    assert torch.equal(one, other)


def test_a_draw_holds_its_region_and_not_the_scan():
    region = RegionDraws(CONFIG, SCANS)[0].region
    for part in region[:3]:
        assert part.untyped_storage().nbytes() == part.numel() * part.element_size()


def test_every_scan_comes_once_before_any_comes_again():
    draws = RegionDraws(CONFIG, [scan._replace(background=float(k)) for k, scan in enumerate(SCANS)])
    shown = [[int(draws[3 * epoch + place].region.background) for place in range(3)] for epoch in range(8)]
    assert all(sorted(epoch) == [0, 1, 2] for epoch in shown)
    assert len({tuple(epoch) for epoch in shown}) > 2
