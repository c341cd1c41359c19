"""The figures of lesson 07 draw the numbers they are given."""

import numpy as np
import torch
from matplotlib.figure import Figure

from s2dc_core.plots import pca as plots

AFFINE, TOKENS = np.diag([2.0, 2, 2, 1]), np.diag([8.0, 8, 8, 1])


def components(seed=0):
    return torch.randn(4, 4, 4, 3, generator=torch.Generator().manual_seed(seed))


def test_colours_fill_the_range_and_leave_air_black():
    body = torch.zeros(4, 4, 4, dtype=torch.bool)
    body[1:3] = True
    colours, limits = plots.as_colours(components(), body)
    assert limits.shape == (2, 3) and (limits[0] < limits[1]).all()
    assert (colours[~body] == 0).all()
    assert colours[body].min(0).values.tolist() == [0, 0, 0] and colours[body].max(0).values.tolist() == [1, 1, 1]


def test_without_a_body_all_is_black():
    colours, limits = plots.as_colours(components(), torch.zeros(4, 4, 4, dtype=torch.bool))
    assert (colours == 0).all() and torch.isfinite(limits).all()


def test_colours_of_one_scale_can_be_compared():
    body, values = torch.ones(4, 4, 4, dtype=torch.bool), components()
    _, limits = plots.as_colours(values, body)
    halved, same = plots.as_colours(values / 2, body, limits)
    assert torch.equal(same, limits)
    assert halved.std() < plots.as_colours(values, body)[0].std(), "less variance, paler colours"


def test_a_component_without_variance_has_no_colour():
    values = components()
    values[..., 2] = 5.0
    colours, _ = plots.as_colours(values, torch.ones(4, 4, 4, dtype=torch.bool))
    assert torch.isfinite(colours).all() and (colours[..., 2] == 0).all()


def drawn_row(raw, plane="coronal"):
    colours = plots.as_colours(components(), torch.ones(4, 4, 4, dtype=torch.bool))[0]
    return plots.ColourRow("CT", raw, AFFINE, (0, 1), {"S2DC": (colours, TOKENS)}, {"S2DC": "60%"}, plane), colours


def test_colour_rows_draw_each_map_and_name_panels_once():
    (row, colours), (other, _) = drawn_row(torch.rand(16, 16, 16)), drawn_row(torch.rand(16, 16, 16), "axial")
    figure = plots.plot_colour_rows([row, other], "message", "a note")
    assert isinstance(figure, Figure) and figure.get_supxlabel().startswith("a note")
    axes = np.array(figure.axes).reshape(2, 2)
    assert [panel.get_title() for panel in axes[0]] == ["", "S2DC"] and axes[1, 1].get_title() == ""
    assert [panel.get_ylabel() for panel in axes[:, 0]] == ["CT", "CT"]
    assert axes[0, 1].get_xlabel() == "60%" and len(axes[0, 1].images) == 2
    drawn = np.asarray(axes[1, 1].images[1].get_array()).reshape(-1, 4)
    drawn = drawn[drawn[:, 3] > 0, :3]
    wanted = {tuple(c) for c in colours.reshape(-1, 3).double().numpy().round(5).tolist()}
    assert {tuple(c) for c in drawn.round(5).tolist()} <= wanted


def test_rows_of_one_scan_show_it_once():
    row, _ = drawn_row(torch.rand(16, 16, 16))
    figure = plots.plot_colour_rows([row, row._replace(title="again"), row], "message")
    assert len(figure.axes) == 4, "a scan and three maps"
    assert [axis.get_ylabel() for axis in figure.axes] == ["", "CT", "again", "CT"]


def test_learning_order_draws_curves_and_half_way_steps():
    steps, volumes = [0, 10, 20], {"spleen": 200.0, "liver": 1500.0, "kidney": 150.0, "gallbladder": 30.0}
    curves = {organ: np.array([0.0, 0.1, 0.2]) * place for place, organ in enumerate(volumes)}
    halves = {"liver": 12.0, "spleen": 9.0}
    figure = plots.plot_learning_order(
        steps, curves, volumes, halves, "message", single={"spleen": [8.0, 10.0]}, named=1
    )
    left, right = figure.axes
    assert sorted(list(line.get_ydata()) for line in left.lines) == sorted(list(curve) for curve in curves.values())
    assert {text.get_text() for text in left.texts} == {"liver", "gallbladder"}, "the largest and the smallest"
    names = [text.get_text() for text in right.get_yticklabels()]
    assert names == ["liver (1500 ml)", "spleen (200 ml)", "kidney (150 ml)", "gallbladder (30 ml)"], (
        "large ones on top"
    )
    dots = [(line.get_xdata()[0], line.get_ydata()[0]) for line in right.lines[:2]]
    assert sorted(dots) == [(9, 1), (12, 0)]
    assert list(right.lines[2].get_xdata()) == [8, 10], "single bodies"


def test_names_at_the_ends_of_curves_do_not_touch():
    volumes = {"liver": 1500.0, "spleen": 200.0, "gallbladder": 30.0}
    curves = {organ: np.array([0.0, 0.2]) for organ in volumes}
    figure = plots.plot_learning_order([0, 10], curves, volumes, {}, "message")
    heights = sorted(text.get_position()[1] for text in figure.axes[0].texts)
    assert len(heights) == 3 and np.diff(heights).min() > 0.05 * np.ptp(figure.axes[0].get_ylim())


def test_followed_draws_each_explanation():
    keys = [("CT", "untrained"), ("CT", "S2DC")]
    shares = {"brightness": dict(zip(keys, (0.8, 0.3), strict=True)), "organ": dict(zip(keys, (0.5, 0.7), strict=True))}
    figure = plots.plot_followed(shares, "message")
    assert [list(line.get_xdata()) for line in figure.axes[0].lines[2:4]] == [[0.8, 0.3], [0.5, 0.7]]
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["untrained, CT", "S2DC, CT"]


def test_learning_order_of_one_organ_that_gained_nothing():
    figure = plots.plot_learning_order([0, 10], {"liver": np.zeros(2)}, {"liver": 1500.0}, {}, "message")
    figure.canvas.draw()
    assert [text.get_text() for text in figure.axes[1].get_yticklabels()] == ["liver (1500 ml)"]
