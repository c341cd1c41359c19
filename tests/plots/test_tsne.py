"""The maps of lesson 06 draw the tokens they are given, number a few organs and name all, also those left out."""

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex

from s2dc_core.plots import tsne as plots
from s2dc_core.plots.slices import label_colour

NAMES = {1: "spleen", 2: "right_kidney", 6: "liver", 12: "right_adrenal"}
KEPT = {1: 4, 2: 3, 6: 9}
ORGANS = plots.choose_organs(KEPT, {12: 2}, NAMES, most=2)
ORGAN = torch.tensor([1] * 4 + [2] * 3 + [6] * 9)


def test_organs_with_most_tokens_are_in_colour_and_the_others_are_named_with_their_counts():
    assert ORGANS.names == {6: "liver", 1: "spleen"}
    assert [ORGANS.colour(label) for label in (6, 1)] == [label_colour(6), label_colour(1)]
    assert ORGANS.note.replace("\xa0", " ") == "grey: right kidney (3)\nleft out, too few tokens: right adrenal (2)"
    assert ORGANS.counts == {**KEPT, 12: 2}


def test_labels_whose_colours_collide_are_coloured_by_rank():
    organs = plots.choose_organs({1: 5, 14: 9, 27: 7}, {}, {})
    assert organs.numbers == {14: 1, 27: 2, 1: 3} and organs.names[27] == "label 27"
    assert len({organs.colour(label) for label in organs.names}) == 3
    assert organs.note == ""


def legend_of(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_maps_show_every_token_and_number_the_organs_of_the_legend():
    points = np.random.default_rng(0).normal(size=(16, 2))
    figure = plots.plot_maps({"one": points, "two": -points}, ORGAN, ORGANS, "Drawn: 16 of 16")
    one, two = figure.axes
    for axis, places in ((one, points), (two, -points)):
        drawn = np.concatenate([scatter.get_offsets() for scatter in axis.collections])
        assert sorted(drawn.tolist()) == sorted(places.tolist())
        assert [text.get_text() for text in axis.texts] == ["1", "2"]
    liver = one.collections[1]
    assert len(liver.get_offsets()) == 9 and to_hex(liver.get_facecolor()[0]) == label_colour(6).lower()
    assert legend_of(figure) == ["1 liver (9)", "2 spleen (4)"]
    note = figure.get_supxlabel().replace("\xa0", " ")
    assert "right adrenal (2)" in note and "right kidney (3)" in note and "Drawn: 16 of 16" in note


def test_organs_past_the_coloured_ones_are_grey_and_named_with_their_counts():
    points = np.random.default_rng(0).normal(size=(16, 2))
    figure = plots.plot_maps({"one": points}, ORGAN, ORGANS, coloured=1)
    grey, liver = figure.axes[0].collections
    assert len(grey.get_offsets()) == 7 and len(liver.get_offsets()) == 9
    assert legend_of(figure) == ["1 liver (9)"] and figure.get_supxlabel().startswith("grey: spleen\xa0(4)")


def test_numbers_on_a_map_do_not_cover_each_other():
    kept = dict.fromkeys(range(1, 9), 3)
    organs = plots.choose_organs(kept, {}, {})
    points = np.random.default_rng(0).normal(scale=0.05, size=(24, 2))
    points[:2] = [[-5, -5], [5, 5]]
    figure = plots.plot_maps({"crowded": points}, np.repeat(list(kept), 3), organs, coloured=8)
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    for i, box in enumerate(boxes):
        for other in boxes[:i]:
            across = min(box.x1, other.x1) - max(box.x0, other.x0)
            up = min(box.y1, other.y1) - max(box.y0, other.y0)
            assert across <= 0 or up < 0.3 * box.height


def test_a_number_lies_on_an_island_and_not_between_two():
    islands = np.concatenate([np.full((5, 2), 0.0), np.full((3, 2), 10.0)]) + np.linspace(0, 0.1, 8)[:, None]
    assert plots._island(islands) == pytest.approx([0.03, 0.03], abs=0.03)
    assert plots._island(np.zeros((1, 2))) == pytest.approx([0, 0])


def test_of_many_organs_the_first_are_named_and_the_others_counted():
    kept = {label: 200 - label for label in range(1, 101)}
    organs = plots.choose_organs(kept, {200: 1}, {}, most=12)
    grey, left_out = organs.note.replace("\xa0", " ").split("\n")
    assert list(organs.names) == list(range(1, 13))
    assert grey.startswith("grey: label 13 (187), ") and grey.endswith(
        f"label {12 + plots.MOST_NAMED} (164) and 64 more"
    )
    assert left_out == "left out, too few tokens: label 200 (1)"


def test_one_organ_or_none_can_be_drawn():
    one, none = plots.choose_organs({5: 3}, {}, {5: "tumour_$1"}, most=12), plots.choose_organs({}, {7: 0}, {})
    points = np.random.default_rng(0).normal(size=(3, 2))
    figure = plots.plot_maps({"one": points}, np.full(3, 5), one)
    figure.canvas.draw()
    assert legend_of(figure) == [r"1 tumour \$1 (3)"]
    assert to_hex(figure.axes[0].collections[0].get_facecolor()[0]) == label_colour(5).lower()
    figure = plots.plot_maps({"none": points}, np.full(3, 9), none)
    assert "label 7\xa0(0)" in figure.get_supxlabel() and len(figure.axes[0].texts) == 0
