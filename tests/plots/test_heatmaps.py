"""The figures of lesson 05 draw the numbers they are given."""

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from s2dc_core.plots import heatmaps as plots

AFFINE, TOKENS = np.diag([2.0, 2, 2, 1]), np.diag([8.0, 8, 8, 1])


def row(lowest=0.2, **changes):
    values = torch.full((4, 4, 4), lowest)
    values[2, 2, 2] = 1.0
    outline = torch.zeros(16, 16, 16, dtype=torch.int32)
    outline[4:12, 4:12, 4:12] = 2
    maps, notes = {"untrained": (values, TOKENS), "trained": (values, TOKENS)}, {"trained": "0.90 inside"}
    raw = torch.rand(16, 16, 16, generator=torch.Generator().manual_seed(0))
    return plots.HeatmapRow("anchor: liver", raw, AFFINE, (0, 1), (16.0, 18, 16), outline, maps, notes, **changes)


def test_heatmap_rows_draw_each_map_with_its_note():
    figure = plots.plot_heatmap_rows([row(), row(plane="coronal")], "message")
    assert isinstance(figure, Figure)
    axes = np.array(figure.axes[:6]).reshape(2, 3)
    assert [panel.get_title() for panel in axes[0]] == ["anchor: liver", "untrained", "trained"]
    assert [panel.get_xlabel() for panel in axes[0]] == ["", "", "0.90 inside"]
    assert [len(panel.images) for panel in axes[1]] == [1, 2, 2], "the scan, and a map over it"
    assert axes[0, 1].lines[0].get_xydata()[0] == pytest.approx((16.0, 18.0)), "the anchor"
    drawn = np.ma.getdata(axes[0, 1].images[1].get_array())
    assert set(np.unique(drawn[np.isfinite(drawn)])) == {np.float64(torch.tensor(0.2)), 1.0}
    assert figure._suptitle.get_text() == "message"


def test_heatmap_rows_share_one_scale():
    figure = plots.plot_heatmap_rows([row()], "", "rank", (0.5, 1))
    assert {panel.images[1].get_clim() for panel in figure.axes[1:3]} == {(0.5, 1)}
    assert figure.axes[-1].get_ylabel() == "rank"


@pytest.mark.parametrize(("lowest", "extend"), [(0.2, "neither"), (-0.3, "min")])
def test_the_colour_bar_says_whether_something_lies_below_it(lowest, extend):
    figure = plots.plot_heatmap_rows([row(lowest)], "")
    assert figure.axes[2].images[1].colorbar.extend == extend


def test_another_slice_than_the_anchors():
    figure = plots.plot_heatmap_rows([row(position=4.0)], "")
    drawn = np.ma.getdata(figure.axes[1].images[1].get_array())
    assert drawn[np.isfinite(drawn)].max() == pytest.approx(0.2), "the anchor's token lies on another slice"


@pytest.mark.parametrize(("modality", "window"), [("ct", (-160, 240)), ("pet", (0, 4)), ("mr_t1", None)])
def test_display_window(modality, window):
    assert plots.display_window(modality) == window


def test_comparisons_are_coloured_by_what_is_decided():
    rows = [("hits", "S2DC against L_g", "CT", 0.2, 0.1, 0.3), ("hits", "S2DC against L_g", "PET", 0.0, -0.1, 0.1)]
    rows += [("cosine", "S2DC against L_g", kind, -0.2, -0.3, -0.1) for kind in ("CT", "PET")]
    figure = plots.plot_comparisons(rows, "message")
    left, right = figure.axes
    assert [panel.get_title() for panel in figure.axes] == ["hits", "cosine"]
    assert [line.get_color() for line in left.lines[1:4:2]] == [plots.BLUE, plots.GREY]
    assert right.lines[1].get_color() == plots.RED
    assert [text.get_text() for text in left.get_yticklabels()] == ["CT", "PET"]
    assert "$L_{g}$" in left.texts[0].get_text().replace("\n", " ")


def test_a_comparison_of_one_body_has_no_interval():
    figure = plots.plot_comparisons([("hits", "ours", "CT", 0.2, np.nan, np.nan)])
    assert figure.axes[0].lines[1].get_color() == plots.GREY


def test_no_comparison_is_refused():
    with pytest.raises(ValueError, match="nothing to compare: give a label map"):
        plots.plot_comparisons([])


def test_tissues_draw_a_line_a_body():
    scores = {"untrained": np.full((4, 3), 0.9), "trained": np.array([[0.8, 0.4, -0.2]] * 4)}
    figure = plots.plot_by_tissue(scores, ["left", "right", "others"], "message")
    for panel, values in zip(figure.axes, scores.values(), strict=True):
        assert [list(line.get_ydata()) for line in panel.lines[:4]] == values.tolist()
        assert list(panel.lines[4].get_ydata()) == pytest.approx(values.mean(0).tolist())
        assert panel.get_ylim()[0] < -0.2, "one scale that holds all"


def test_masked_tokens_are_grey_all_over():
    masked = row()
    masked.maps["trained"][0][0, 0, 0] = np.nan
    panel = plots.plot_heatmap_rows([masked], "").figure.axes[2]
    assert panel.images[1].get_cmap().get_bad()[:3] == pytest.approx([0x5A / 255] * 3)


def test_a_thin_sheet_is_outlined_on_the_scan_alone():
    figure = plots.plot_heatmap_rows([row(outlined_maps=False)], "")
    assert [len(panel.collections) for panel in figure.axes[:3]] == [1, 0, 0]


def test_outlines_are_white_on_the_maps():
    figure = plots.plot_heatmap_rows([row()], "")
    edges = [tuple(panel.collections[0].get_edgecolor()[0][:3]) for panel in figure.axes[:3]]
    assert edges[0] != (1, 1, 1) and edges[1:] == [(1, 1, 1)] * 2


@pytest.mark.parametrize(
    ("name", "shown"),
    [("L_g", "$L_{g}$"), ("$L_g$", "$L_g$"), ("L_g + L_p2p", "$L_{g}$ + $L_{p2p}$")],
)
def test_plain_losses_are_formulas_in_a_figure(name, shown):
    assert plots.in_formulas(name) == shown


@pytest.mark.parametrize(
    ("inside", "outside", "says"),
    [
        (0.834, -0.001, "mean inside 0.83, others 0.00"),
        (0.834, np.nan, "mean inside 0.83"),
        (np.nan, 0.2, "it fills half of no token"),
        (np.nan, np.nan, "it fills half of no token"),
    ],
)
def test_the_line_below_a_map_says_what_there_is(inside, outside, says):
    assert plots.mean_note(inside, outside) == says


def test_the_words_at_the_colour_bar_fit_a_single_row():
    figure = plots.plot_heatmap_rows([row()], "", "rank among the body's tokens (1: most similar)", (0.5, 1))
    figure.canvas.draw()
    box = figure.axes[-1].yaxis.label.get_window_extent()
    assert box.y0 >= 0 and box.y1 <= figure.bbox.height


def test_a_row_without_a_structure_has_no_outline():
    figure = plots.plot_heatmap_rows([row()._replace(outline=None, notes={})], "")
    assert not figure.axes[0].collections and not figure.axes[1].collections
    assert [panel.get_xlabel() for panel in figure.axes[:3]] == ["", "", ""]
