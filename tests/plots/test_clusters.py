"""The figures of lesson 06 draw the numbers they are given, and name every organ, also those left out."""

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from s2dc_core.plots import clusters as plots
from s2dc_core.plots.slices import label_colour

NAMES = {1: "spleen", 2: "right_kidney", 6: "liver", 12: "right_adrenal"}
KEPT = {1: 4, 2: 3, 6: 9}
ORGANS = plots.choose_organs(KEPT, {12: 2}, NAMES, most=2)
ORGAN = torch.tensor([1] * 4 + [2] * 3 + [6] * 9)
TITLES = {"untrained": "untrained", "contrast": "$L_g$", "s2dc": "S2DC"}


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


def test_toy_marks_the_token_on_its_curve():
    curve = {"angle": [0, 45, 90], "a": [0.1, 0.2, 0.9], "b": [0.9, 0.4, 0.1], "s": [0.8, 0.5, -0.8]}
    figure = plots.plot_toy({"organ A": [0, 15], "organ B": [80]}, 45, curve, 1)
    left, right = figure.axes
    assert len([text for text in left.texts if not text.get_text()]) == 4, "an arrow each"
    assert left.get_title() == "a = 0.20, b = 0.40: s = +0.50"
    assert [45, 0.5] in [line.get_xydata()[0].tolist() for line in right.lines]


def test_maps_show_every_token_and_name_organs_in_the_legend_and_on_the_map():
    points = np.random.default_rng(0).normal(size=(16, 2))
    figure = plots.plot_maps({"one": points, "two": -points}, ORGAN, ORGANS, "Drawn: 16 of 16")
    assert isinstance(figure, Figure)
    one, two, legend = figure.axes
    for axis, places in ((one, points), (two, -points)):
        drawn = np.concatenate([scatter.get_offsets() for scatter in axis.collections])
        assert sorted(drawn.tolist()) == sorted(places.tolist())
        assert {text.get_text() for text in axis.texts} == {"liver", "spleen"}
    liver = one.collections[1]
    assert len(liver.get_offsets()) == 9 and to_hex(liver.get_facecolor()[0]) == label_colour(6).lower()
    assert [text.get_text() for text in legend.get_legend().get_texts()] == ["liver (9)", "spleen (4)"]
    note = figure.get_supxlabel().replace("\xa0", " ")
    assert "right adrenal (2)" in note and "right kidney (3)" in note and "Drawn: 16 of 16" in note


def test_names_on_a_map_do_not_cover_each_other():
    kept = dict.fromkeys(range(1, 9), 3)
    organs = plots.choose_organs(kept, {}, {label: f"a rather long name {label}" for label in kept})
    points = np.random.default_rng(0).normal(scale=0.05, size=(24, 2))
    points[:2] = [[-5, -5], [5, 5]]
    figure = plots.plot_maps({"crowded": points}, np.repeat(list(kept), 3), organs)
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    for i, box in enumerate(boxes):
        for other in boxes[:i]:
            across = min(box.x1, other.x1) - max(box.x0, other.x0)
            up = min(box.y1, other.y1) - max(box.y0, other.y0)
            assert across <= 0 or up < 0.3 * box.height


def test_a_name_lies_on_an_island_and_not_between_two():
    islands = np.concatenate([np.full((5, 2), 0.0), np.full((3, 2), 10.0)]) + np.linspace(0, 0.1, 8)[:, None]
    assert plots._island(islands) == pytest.approx([0.03, 0.03], abs=0.03)
    assert plots._island(np.zeros((1, 2))) == pytest.approx([0, 0])


def test_by_organ_draws_a_row_per_organ_and_the_mean_of_all():
    scores = {"untrained": {1: 0.1, 2: 0.3, 6: 0.5}, "s2dc": {1: 0.2, 2: 0.4, 6: 0.9}}
    figure = plots.plot_by_organ(
        {"silhouette": scores, "share": scores}, ORGANS.names, TITLES, {6: 0.6, 1: 0.1}, "a title"
    )
    left, right = figure.axes
    assert [label.get_text() for label in left.get_yticklabels()] == ["liver", "spleen", "mean of all 3"]
    lines = {line.get_label(): line.get_xdata() for line in right.lines}
    assert lines["S2DC"] == pytest.approx([0.9, 0.2, 0.5]) and lines["untrained"] == pytest.approx([0.5, 0.1, 0.3])
    assert lines["by chance"] == pytest.approx([0.6, 0.1])


def test_intervals_draw_seeds_means_and_differences_on_one_scale():
    values = {"CT": {"untrained": [0.0, 0.2], "s2dc": [0.3, 0.5]}, "PET": {"untrained": [0.1, 0.1], "s2dc": [0.1, 0.3]}}
    intervals = {"CT": {"untrained": (0.1, -0.1, 0.3), "s2dc": (0.4, 0.3, 0.5)}}
    intervals["PET"] = {"untrained": (0.1, 0.1, 0.1), "s2dc": (0.2, 0.0, 0.4)}
    differences = {"CT": {"untrained": (0.3, 0.1, 0.5)}, "PET": {"untrained": (0.1, -0.1, 0.3)}}
    figure = plots.plot_intervals(values, intervals, differences, TITLES)
    above, above_pet, below, below_pet = figure.axes
    drawn = [line.get_xdata().tolist() for line in above.lines]
    assert [0.0, 0.2] in drawn and [0.3, 0.5] in drawn and [0.1] in np.array([d for d in drawn if len(d) == 1]).tolist()
    assert below.get_title() == "clearly above 1 of 1 arms" and below_pet.get_title() == "clearly above 0 of 1 arms"
    assert above.get_xlim() == above_pet.get_xlim() and below.get_xlim() == below_pet.get_xlim()


def test_rows_of_dots_name_each_series_once():
    rows = {"untrained": {"within": 0.2, "between": 0.4}, "s2dc": {"within": 0.3, "between": 0.9}}
    figure = plots.plot_rows_of_dots(rows, TITLES, "mean cosine distance", "a title")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["within", "between"]
    dots = [line.get_xydata()[0].tolist() for line in figure.axes[0].lines if line.get_marker() != "None"]
    assert dots == [[0.2, 0], [0.4, 0], [0.3, 1], [0.9, 1]]


def test_cosine_by_distance_draws_both_curves_on_one_scale():
    curves = {"untrained": (np.array([0.9, np.nan]), np.array([0.5, np.nan])), "s2dc": (np.ones(2), np.zeros(2))}
    figure = plots.plot_cosine_by_distance(curves, np.array([10, 20]), TITLES)
    left, right = figure.axes
    assert left.lines[0].get_ydata() == pytest.approx([0.9, np.nan], nan_ok=True)
    assert right.lines[1].get_ydata() == pytest.approx([0, 0])
    assert left.get_ylim() == right.get_ylim()


def test_an_encoder_of_ones_own_has_a_style():
    assert plots.arm_style("yours")["marker"] == "*"
    assert plots.arm_style("s2dc") != plots.arm_style("p2p")


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
    assert [text.get_text() for text in figure.axes[1].get_legend().get_texts()] == [r"tumour \$1 (3)"]
    assert to_hex(figure.axes[0].collections[0].get_facecolor()[0]) == label_colour(5).lower()
    figure = plots.plot_maps({"none": points}, np.full(3, 9), none)
    assert "label 7\xa0(0)" in figure.get_supxlabel() and len(figure.axes[0].texts) == 0
    by_organ = plots.plot_by_organ({"silhouette": {"s2dc": {5: 0.25}}}, one.names, TITLES)
    assert by_organ.axes[0].lines[-1].get_xdata() == pytest.approx([0.25, 0.25]), "the organ, and the mean of one"


def test_curves_without_any_value_are_refused():
    nothing = np.full(3, np.nan)
    with pytest.raises(ValueError, match="no distance has enough pairs of tokens"):
        plots.plot_cosine_by_distance({"s2dc": (nothing, nothing)}, np.arange(3), TITLES)
