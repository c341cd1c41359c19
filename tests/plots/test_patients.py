"""Figures of notebook 12: what is drawn is what was given, at its place."""

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import ConnectionPatch

from s2dc_core import plots

AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])


def scan():
    volume = np.linspace(-200, 300, 12 * 10 * 14).reshape(12, 10, 14)
    label = np.zeros((12, 10, 14), int)
    label[3:7, 3:7, 4:9] = 2
    return volume, label


def column(**changed):
    volume, label = scan()
    found = np.zeros((6, 5, 7), int)
    found[2, 2, 3] = 2
    centre = (8.0, 8.0, 12.0)
    given = {"title": "found", "note": "Dice 0.10", "volume": volume, "affine": AFFINE, "modality": "ct"}
    given |= {"places": (centre, centre), "found": found, "found_affine": np.diag([4.0, 4.0, 4.0, 1.0])}
    return plots.FoundLabels(**given | {"outline": label} | changed)


def test_labels_lie_over_the_scan_in_their_colour():
    figure = plots.plot_found_labels([column(), column(title="ours", strong=True)], "Whose?", small="in small type")
    axes = np.array(figure.axes).reshape(2, 2)
    assert [axis.get_title() for axis in axes[0]] == ["found", "ours"]
    assert axes[1, 0].get_xlabel() == "Dice 0.10" and axes[0, 0].get_xlabel() == ""
    assert axes[0, 1].title.get_fontweight() == "bold"
    assert figure.get_suptitle() == "Whose?"
    assert figure.get_supxlabel().split("\n") == ["in small type", "Voxels of 2 mm, tokens of 4 mm"]
    over = axes[1, 0].images[1]
    shown = np.ma.filled(np.ma.masked_invalid(over.get_array()), -1)
    assert set(np.unique(shown)) == {-1.0, 1.0}, "label 2 alone, nothing where nothing was found"
    assert to_hex(over.cmap(over.norm(1.0))).upper() == plots.label_colour(2)
    assert (shown == 1).sum() == 4, "a token of 4 mm covers four pixels of 2 mm"


def test_the_truth_is_outlined_and_may_be_left_out():
    with_truth, without = (plots.plot_found_labels([column(outline=outline)]) for outline in (scan()[1], None))
    assert len(with_truth.axes[0].collections) > len(without.axes[0].collections) == 0


def test_a_margin_shows_what_lies_around_the_labels_in_pieces_of_one_size():
    volume, label = scan()
    low, wide = label.copy(), label * 0
    wide[1:10, 3:7, 4:9] = 2
    figure = plots.plot_found_labels([column(outline=low), column(outline=wide)], margin=2)
    axes = np.array(figure.axes).reshape(2, 2)
    for panel in axes[1]:  # axial: the wide one has 9 voxels of 2 mm across and both 4 up
        assert abs(np.subtract(*panel.get_xlim())) == pytest.approx(22)
        assert abs(np.subtract(*panel.get_ylim())) == pytest.approx(12)
        assert panel.get_xlim()[0] > panel.get_xlim()[1], "right stays on the left"
    assert min(axes[1, 1].get_xlim()) == pytest.approx(2 * 1 - 1 - 2)
    whole = plots.plot_found_labels([column()]).axes[1]
    assert abs(np.subtract(*whole.get_xlim())) == 24


def named(axes):
    return [text.get_text() for axis in axes for text in axis.texts if text.get_gid() == "name"]


def test_each_organ_is_named_once_in_the_column_that_has_names():
    names = {2: "left_kidney", 5: "not here"}
    figure = plots.plot_found_labels([column(names=names), column()])
    axes = np.array(figure.axes).reshape(2, 2)
    assert named(axes[:, 0]) == ["L kidney"] and named(axes[:, 1]) == []
    volume, label = scan()
    place = (10.0, 9.0, 13.0)
    target = (volume, AFFINE, "ct")
    figure = plots.plot_over_target(target, {"truth": label, "found": label}, (place, place), names=names)
    axes = np.array(figure.axes).reshape(2, 2)
    assert named(axes[:, 0]) == ["L kidney"] and named(axes[:, 1]) == []


def test_each_way_is_marked_at_its_value():
    rows = {"raw": {"nearest": 0.2, "place": 0.6}, "ours": {"nearest": 0.5, "place": np.nan}}
    figure = plots.plot_dice_by_way(rows, "What place adds")
    axis = figure.axes[0]
    marks = {line.get_label(): line for line in axis.lines if line.get_label() in ("nearest", "place")}
    np.testing.assert_allclose(marks["nearest"].get_xdata(), [0.2, 0.5])
    np.testing.assert_allclose(marks["place"].get_xdata(), [0.6, np.nan])
    assert [text.get_text() for text in axis.get_yticklabels()] == ["raw", "ours"]


def test_lines_join_both_places_and_tell_right_from_wrong():
    volume, _ = scan()
    places = np.array([[4.0, 9.0, 6.0], [10.0, 9.0, 20.0], [12.0, 9.0, 8.0]])
    row = plots.MatchLines("ours: 2 of 3", places, places + 2, np.array([True, False, True]))
    figure = plots.plot_match_lines((volume, AFFINE, "ct"), (volume, AFFINE, "ct"), [row])
    lines = [artist for artist in figure.artists if isinstance(artist, ConnectionPatch)]
    assert len(lines) == 3
    colours = [to_hex(line.get_edgecolor()) for line in lines]
    assert colours.count("#00a878") == 2, "two of them agree"
    assert {tuple(np.round(line.xy1)) for line in lines} == {(4.0, 6.0), (10.0, 20.0), (12.0, 8.0)}
    assert figure.axes[0].get_ylabel() == "ours: 2 of 3"
    assert len(plots.plot_match_lines(*[(volume, AFFINE, "ct")] * 2, [row], most=1).artists) == 1


def test_label_maps_are_outlined_over_the_target():
    volume, label = scan()
    place = (10.0, 9.0, 13.0)
    figure = plots.plot_over_target((volume, AFFINE, "ct"), {"truth": label, "nothing": label * 0}, (place, place), "T")
    axes = np.array(figure.axes).reshape(2, 2)
    assert [axis.get_title() for axis in axes[0]] == ["truth", "nothing"]
    assert len(axes[0, 0].collections) > len(axes[0, 1].collections)


def test_a_curve_for_each_way():
    figure = plots.plot_curves({"nearest": {1: 0.5, 2: 0.6, 4: 0.65}, "probe": {1: 0.4, 2: 0.62, 4: 0.7}}, of="steps")
    axis = figure.axes[0]
    assert [line.get_label() for line in axis.lines] == ["nearest", "probe"] and axis.get_xlabel() == "steps"
    np.testing.assert_allclose(axis.lines[1].get_ydata(), [0.4, 0.62, 0.7])
    assert [text.get_text() for text in axis.get_xticklabels()] == ["1", "2", "4"]


@pytest.mark.parametrize("modality", ["pet", "mr_t1"])
def test_every_modality_has_a_window(modality):
    figure = plots.plot_found_labels([column(modality=modality)])
    low, high = figure.axes[0].images[0].get_clim()
    assert low < high
