"""Figures of lesson 00 draw what they are given."""

from types import SimpleNamespace

import numpy as np
import torch
from matplotlib.figure import Figure

from s2dc_core.plots.overview import plot_heatmaps, plot_losses, plot_method, plot_whose_organs

AFFINE = np.diag([2.0, 2, 2, 1])


def test_plot_method_shows_the_distribution_and_the_ratio():
    region, distribution = torch.rand(16, 16, 16), torch.rand(4, 4, 4)
    places = ([8.0, 8, 8], [10.0, 8, 8])
    figure = plot_method((region, region), AFFINE, places, distribution, np.diag([8.0, 8, 8, 1]), 0.8, 3.25)
    assert isinstance(figure, Figure)
    drawn = np.ma.getdata(figure.axes[2].images[1].get_array())
    assert np.isin(drawn[np.isfinite(drawn)], distribution.double().numpy()).all()
    assert sum(patch.get_height() for patch in figure.axes[3].patches) == 64
    assert "3.2" in figure.axes[3].get_title()


def test_plot_losses_draw_each_column():
    history = [(3.0, 1.0), (2.0, 0.5), (1.5, 0.4)]
    figure = plot_losses(history, ["total", "contrast"])
    drawn = [axes.lines[0].get_ydata().tolist() for axes in figure.axes]
    assert drawn == [[3.0, 2.0, 1.5], [1.0, 0.5, 0.4]]


def test_guessing_is_drawn_dashed_and_losses_start_at_zero():
    figure = plot_losses([(3.0, 1.0), (2.0, 0.5)], ["falls", "rises"], (4.0, (0.0, 2.0)))
    guesses = [axes.lines[1] for axes in figure.axes]
    assert [line.get_ydata().tolist() for line in guesses] == [[4.0, 4.0], [0.0, 2.0]]
    assert {line.get_linestyle() for line in guesses} == {"--"}
    assert [axes.get_ylim()[0] for axes in figure.axes] == [0, 0]


def test_whose_organs_stand_between_the_labelled_body_and_the_truth():
    label = torch.zeros(16, 16, 16, dtype=torch.int32)
    label[4:12, 4:12, 4:12] = 6
    look = {"raw": torch.rand(16, 16, 16), "affine": AFFINE, "modality": "ct"}
    scan = SimpleNamespace(**look, label=label, names={6: "liver"})
    tokens = SimpleNamespace(affine=np.diag([8.0, 8, 8, 1]))
    side = SimpleNamespace(scan=scan, tokens=tokens, owner=label[::4, ::4, ::4])
    figure = plot_whose_organs(side, {"raw": (side, side.owner * 0), "ours": (side, side.owner)}, {"raw": 0, "ours": 1})
    assert [axes.get_title() for axes in figure.axes[:4]] == ["one labelled body", "raw", "ours", "truth"]
    assert [axes.get_xlabel() for axes in figure.axes[5:7]] == ["Dice 0.00", "Dice 1.00"]
    named = ["liver" in [text.get_text() for text in axes.texts] for axes in figure.axes]
    assert any(named) and not any(named[column] for column in (1, 2, 3, 5, 6, 7)), "names stand in the first column"


def test_the_rank_of_the_match_is_told():
    distribution = torch.linspace(0, 1, 64).view(4, 4, 4)
    region = torch.rand(16, 16, 16)
    places, grid = ([8.0, 8, 8], [10.0, 8, 8]), np.diag([8.0, 8, 8, 1])
    figure = plot_method((region, region), AFFINE, places, distribution, grid, float(distribution.flatten()[-3]), 1.0)
    assert "no. 3 of 64" in figure.axes[3].get_title()


def test_plot_heatmaps_write_their_numbers():
    label = torch.zeros(16, 16, 16, dtype=torch.int32)
    label[4:12, 4:12, 4:12] = 6
    scan = SimpleNamespace(raw=torch.rand(16, 16, 16), affine=AFFINE, label=label)
    heatmap = (torch.rand(4, 4, 4), np.diag([8.0, 8, 8, 1]))
    maps = {name: {"liver": heatmap} for name in ("untrained", "trained")}
    numbers = {"untrained": {}, "trained": {"liver": (0.7, 0.1)}}
    figure = plot_heatmaps(scan, {"liver": (6, [8, 8, 8])}, maps, numbers)
    texts = [axes.get_xlabel() for axes in figure.axes]
    assert texts[:3] == ["", "", "mean inside 0.70, others 0.10"]
    assert len(figure.axes[1].images) == 2


def test_plot_heatmaps_of_a_scan_without_labels_have_neither_outline_nor_numbers():
    scan = SimpleNamespace(raw=torch.rand(16, 16, 16), affine=AFFINE, label=None)
    maps = {"untrained": {"the body": (torch.rand(4, 4, 4), np.diag([8.0, 8, 8, 1]))}}
    figure = plot_heatmaps(scan, {"the body": (None, [8, 8, 8])}, maps, {"untrained": {}})
    scan_panel, map_panel = figure.axes[:2]
    assert scan_panel.get_title() == "anchor: the body" and not scan_panel.collections
    assert map_panel.get_xlabel() == "" and len(map_panel.images) == 2


def test_plot_heatmaps_say_where_a_structure_is_smaller_than_a_token():
    label = torch.zeros(16, 16, 16, dtype=torch.int32)
    label[8, 8, 8] = 3
    scan = SimpleNamespace(raw=torch.rand(16, 16, 16), affine=AFFINE, label=label)
    maps = {"untrained": {"a_$1": (torch.rand(4, 4, 4), np.diag([8.0, 8, 8, 1]))}}
    numbers = {"untrained": {"a_$1": (float("nan"), 0.3)}}
    figure = plot_heatmaps(scan, {"a_$1": (3, [8, 8, 8])}, maps, numbers)
    assert figure.axes[0].get_title() == r"anchor: a \$1" and figure.axes[0].collections, "outlined all the same"
    assert figure.axes[1].get_xlabel() == "it fills half of no token"
