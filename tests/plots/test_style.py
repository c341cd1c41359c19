"""The frame of all figures: sizes that follow the pictures, words that stay in place, and a style for a talk."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.text import Text

from s2dc_core import plots
from s2dc_core.plots.fit import TALL
from s2dc_core.plots.style import PAGE, SMALLEST, STYLE, TALK


def draw(columns, size=(4.2, 3.0)):
    """Curves beside each other, the names of whose rows stand at the first alone."""
    with plots.figure_grid(1, columns, size) as (figure, axes):
        for number, panel in enumerate(axes[0]):
            panel.plot([0, 1], [0, 1], label="a")
            panel.set(title=f"panel {number}", ylim=(-0.5, 1.5), xlabel="step")
            panel.set_yticks([0, 1], ["one", "two"] if number == 0 else ["", ""])
        axes[0, 0].set_ylabel("rows")
        axes[0, 0].text(0, 0, "small", fontsize=9)
    return figure


def test_talk_is_on_until_it_is_off():
    plots.talk()
    try:
        assert draw(1).axes[0].get_xticklabels()[0].get_fontsize() == TALK["font.size"] == 16
    finally:
        plots.talk(False)
    assert draw(1).axes[0].get_xticklabels()[0].get_fontsize() == STYLE["font.size"]


def test_talk_has_large_type_thick_lines_and_two_panels_abreast():
    with plots.talk():
        figure = draw(5)
    assert len(figure.axes) == 5 and plots.style.PAPER is plots.style._Chosen.look
    columns = {round(axes.get_position().x0, 2) for axes in figure.axes}
    rows = {round(axes.get_position().y0, 2) for axes in figure.axes}
    assert (len(columns), len(rows)) == (2, 3)
    assert figure.axes[0].lines[0].get_linewidth() > 1.5 * draw(1).axes[0].lines[0].get_linewidth()
    assert min(text.get_fontsize() for text in figure.findobj(Text) if text.get_text()) >= 13
    for axes in figure.axes[::2]:  # the left edge
        assert [label.get_text() for label in axes.get_yticklabels()] == ["one", "two"]
        assert axes.get_ylabel() == "rows"
    assert [label.get_text() for label in figure.axes[1].get_yticklabels()] == ["", ""]


def test_talk_ends_after_an_error():
    with pytest.raises(RuntimeError), plots.talk():
        raise RuntimeError
    assert draw(1).axes[0].get_xticklabels()[0].get_fontsize() == STYLE["font.size"]


def beside_a_large_one(rows=2):
    """A picture as high as all rows, and small ones of the same shape beside it."""
    with plots.figure_grid(rows, 2) as (figure, axes):
        grid = axes[0, 0].get_gridspec()
        grid.set_width_ratios([rows, 1])
        axes[0, 0].set_subplotspec(grid[:, 0])
        for other in axes[1:, 0]:
            other.remove()
        for panel in (axes[0, 0], *axes[:, 1]):
            panel.imshow(np.zeros((8, 8)))
    return figure


@pytest.mark.parametrize("rows", [2, 3])
def test_a_picture_over_several_rows_leaves_no_band(rows):
    large, *small = (axes.get_window_extent() for axes in beside_a_large_one(rows).axes)
    assert all(abs(box.height - small[0].height) < 2 for box in small)
    gaps = [one.y0 - below.y1 for one, below in zip(small, small[1:], strict=False)]
    assert max(gaps) < 0.3 * small[0].height
    assert large.height > 0.8 * (small[0].y1 - small[-1].y0)


def test_a_picture_over_several_rows_can_be_drawn_for_a_talk():
    with plots.talk():
        assert len(beside_a_large_one().axes) == 3


@pytest.mark.parametrize("columns", [1, 2, 4, 6])
def test_ticks_can_be_read_on_a_page(columns):
    figure = draw(columns)
    shown = min(1, PAGE / figure.get_figwidth())
    sizes = [label.get_fontsize() for axes in figure.axes for label in axes.get_xticklabels()]
    assert min(sizes) * shown >= SMALLEST - 0.01
    with plots.figure_grid(1, columns) as (figure, axes):
        axes[0, 0].set_yticks([0], ["tiny"], fontsize=4)
        axes[0, 0].set_title("tiny", fontsize=4)
        figure.suptitle("tiny", fontsize=4)
    words = [figure.axes[0].get_yticklabels()[0], figure.axes[0].title]
    assert min(word.get_fontsize() for word in words) * min(1, PAGE / figure.get_figwidth()) >= SMALLEST - 0.01
    assert figure._suptitle.get_fontsize() > max(word.get_fontsize() for word in words)


@pytest.mark.parametrize(("shape", "rows"), [((60, 40), 1), ((60, 40), 2), ((40, 50), 2), ((20, 60), 1)])
def test_rows_are_as_high_as_their_pictures(shape, rows):
    """No band between the rows, whatever height was asked for."""
    with plots.figure_grid(rows, 2, size=(3.5, 3.5)) as (figure, axes):
        for panel in axes.flat:
            plots.show_slice(panel, np.zeros((*shape, 3)), np.eye(4), title="title")
    figure.draw_without_rendering()
    for panel in axes.flat:
        allotted, drawn = panel.get_position(original=True), panel.get_position()
        full = shape[1] / shape[0] <= TALL
        assert drawn.height == pytest.approx(allotted.height, rel=0.06)
        assert drawn.width == pytest.approx(allotted.width, rel=0.06) or not full


def test_pictures_side_by_side_have_one_scale():
    volume = np.zeros((60, 40, 50))
    with plots.figure_grid(1, 3) as (figure, axes):
        for panel, plane in zip(axes[0], ("axial", "coronal", "sagittal"), strict=True):
            plots.show_slice(panel, volume, np.eye(4), plane)
    figure.draw_without_rendering()
    scales = [axes.get_window_extent().width / abs(np.subtract(*axes.get_xlim())) for axes in figure.axes]
    assert max(scales) < 1.08 * min(scales)


def test_curves_beside_pictures_keep_a_height():
    with plots.figure_grid(1, 2) as (figure, axes):
        plots.show_slice(axes[0, 0], np.zeros((80, 10, 3)), np.eye(4))
        axes[0, 1].plot([1, 2])
    figure.draw_without_rendering()
    box = axes[0, 1].get_window_extent()
    assert box.height > 0.5 * box.width


def test_long_titles_are_broken_but_formulas_are_not():
    with plots.figure_grid(1, 3, size=(2.5, 2.5)) as (figure, axes):
        axes[0, 0].set_title("one title of so many words that it would run into the next panel")
        axes[0, 1].set_title("$a_1 + b_2 + c_3 + d_4 + e_5 + f_6 + g_7 + h_8 + i_9 + j_{10} + k_{11}$")
        axes[0, 2].set_title("short")
    figure.draw_without_rendering()
    first, formula, short = (panel.get_title() for panel in axes[0])
    assert "\n" in first and "\n" not in formula and "\n" not in short
    assert axes[0, 0].title.get_window_extent().width < figure.bbox.width / 3


def test_a_colour_bar_stands_at_its_panels_and_its_label_is_no_longer_than_it():
    with plots.figure_grid(1, 4, size=(3.4, 3.4)) as (figure, axes):
        for panel in axes[0]:
            shown = plots.show_slice(panel, np.zeros((60, 30, 3)), np.eye(4))
        bar = figure.colorbar(shown.image, ax=axes, shrink=0.6, label="cosine with the token that was clicked")
    figure.draw_without_rendering()
    gap = bar.ax.get_window_extent().x0 - axes[0, -1].get_window_extent().x1
    assert 0 < gap < 0.3 * figure.dpi
    label = bar.ax.yaxis.label
    assert "\n" in label.get_text() and label.get_window_extent().height < 1.5 * bar.ax.get_window_extent().height


def test_nothing_is_left_open():
    with plots.talk():
        draw(3)
    assert plt.get_fignums() == []
