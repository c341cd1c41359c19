"""What a region shows follows from the seed and its number: not from the batch, the process or what came before."""

from dataclasses import replace

import torch

from s2dc_core.data import Outline
from s2dc_core.pretraining.regions import RegionDraws, draw_views, regions_of, same_place
from s2dc_core.training.order import random_numbers
from tests.methods.test_every_method import small
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


def test_a_paired_region_comes_with_the_next_scan_of_the_order():
    """The region itself is the one that it would be alone."""
    scans = [scan._replace(background=float(k), name=f"{k}") for k, scan in enumerate(SCANS)]
    draws, alone = (RegionDraws(small(name), scans) for name in ("gvsl", "simmim"))
    for number in range(6):
        own, other = draws[number], draws[number + 1]
        assert torch.equal(own.region.volume, alone[number].region.volume) and alone[number].partner is None
        assert own.partner.background == other.region.background
        assert own.partner.volume.shape == own.region.volume.shape
    regions = regions_of([draws[0], draws[1]])
    assert torch.equal(regions.partner.volume[1], draws[1].partner.volume) and regions.partner.partner is None
    assert regions_of([alone[0]]).partner is None


def test_a_partner_lies_where_its_region_does_within_the_body():
    def outline(shape, *box):
        return Outline("", shape, (1.0,) * 3, 0.0, box, False)

    own = outline((64, 64, 32), (0, 64), (10, 50), (0, 32))
    other = outline((96, 40, 20), (20, 80), (0, 40), (2, 18))
    size = (32, 32, 32)
    for starts, expected in (((0, 10, 0), (20, 0, 0)), ((32, 18, 0), (48, 8, 0)), ((16, 14, 0), (34, 4, 0))):
        window = tuple(slice(a, a + length) for a, length in zip(starts, size, strict=True))
        found = same_place(window, own, other)
        assert [part.start for part in found] == list(expected)
        assert [part.stop - part.start for part in found] == list(size)
    window = tuple(slice(a, a + 32) for a in (5, 13, 0))
    assert same_place(window, own, own) == window


def test_a_partner_that_cannot_be_read_gives_way_to_the_next():
    class Damaged(list):
        files = ("a", "b", "c")

        def __getitem__(self, index):
            if index == 1:
                raise OSError("cut off")
            return super().__getitem__(index)

    draws = [RegionDraws(small("gvsl"), Damaged(SCANS))[number] for number in range(6)]
    assert all(draw.unreadable in ({}, {"b": "cut off"}) for draw in draws)
    assert {len(draw.unreadable) for draw in draws} == {0, 1}
    assert all(draw.partner is not None for draw in draws)
