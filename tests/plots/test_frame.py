"""What stands around a slice can be read on light and dark, is as long as it says, and tells the true sizes."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from s2dc_core import plots
from s2dc_core.plots.frame import BARS, size_words

SHAPE = (40, 30, 20)


def show(volume, affine=None, columns=1, **look):
    with plots.figure_grid(1, columns) as (figure, axes):
        for panel in axes[0]:
            plots.show_slice(panel, volume, np.eye(4) if affine is None else affine, vmin=0, vmax=1, **look)
    return figure


def bars(axes):
    return [artist for artist in axes.artists if artist.get_gid() == "scale bar"]


@pytest.mark.parametrize(
    ("value", "cmap", "colour"), [(0, "gray", "white"), (1, "gray", "black"), (0, "gray_r", "black")]
)
def test_letters_stand_out_from_the_picture(value, cmap, colour):
    figure = show(np.full(SHAPE, float(value)), cmap=cmap)
    assert {text.get_color() for text in figure.axes[0].texts} == {colour}


def test_letters_look_at_what_lies_on_top_where_they_stand():
    half = np.zeros(SHAPE)
    half[20:] = 1  # the patient's right is light: the picture's left
    colours = {text.get_text(): text.get_color() for text in show(half).axes[0].texts}
    assert (colours["R"], colours["L"]) == ("black", "white")
    covered = show(half, overlay=np.zeros(SHAPE), overlay_alpha=1.0, overlay_cmap="gray").axes[0]
    assert {text.get_color() for text in covered.texts} == {"white"}


@pytest.mark.parametrize("spacing", [(1, 1, 1), (0.8, 2.5, 5), (4, 4, 4)])
def test_the_bar_is_as_long_as_it_says(spacing):
    """Counted in pixels of the rendered figure, against the slice's own width."""
    figure = show(np.zeros(SHAPE), np.diag([*spacing, 1.0]))
    (axes,) = figure.axes
    (bar,) = bars(axes)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    box = bar.size_bar.get_window_extent()
    length = float(bar.txt_label.get_text().removesuffix(" mm"))
    width = SHAPE[0] * spacing[0]
    assert length in BARS and length <= 0.3 * width
    assert box.width / axes.get_window_extent().width == pytest.approx(length / width, rel=0.06)


def test_one_bar_for_slices_of_one_scale_and_none_without_millimetres():
    figure = show(np.zeros(SHAPE), columns=3)
    assert [len(bars(axes)) for axes in figure.axes] == [1, 0, 0]
    without = show(np.zeros(SHAPE), scale_bar=False)
    assert not bars(without.axes[0]) and not without.get_supxlabel()


def test_sizes_are_told_along_the_patient_s_axes():
    stored = np.array([[0, 0, 2.0, 0], [0.8, 0, 0, 0], [0, -5.0, 0, 0], [0, 0, 0, 1]])
    assert size_words(stored) == "2 x 0.8 x 5 mm" and size_words(np.diag([2.5, -2.5, 2.5, 1])) == "2.5 mm"
    tokens = {"overlay": np.zeros((10, 8, 5)), "overlay_affine": np.diag([4.0, 4, 4, 1])}
    assert show(np.zeros(SHAPE)).get_supxlabel() == "Voxels of 1 mm"
    assert show(np.zeros(SHAPE), **tokens).get_supxlabel() == "Voxels of 1 mm, tokens of 4 mm"
    same = {"overlay": np.zeros(SHAPE), "overlay_affine": np.eye(4)}
    assert show(np.zeros(SHAPE), **same).get_supxlabel() == "Voxels of 1 mm"


def test_the_note_of_sizes_does_not_lie_under_a_legend():
    with plots.figure_grid() as (figure, axes):
        plots.show_slice(axes[0, 0], np.zeros(SHAPE), np.eye(4))
        figure.legend(axes[0, 0].plot([1, 2]), ["a"], loc="outside lower center")
    assert figure.legends[0].get_title().get_text() == "Voxels of 1 mm" and not figure.get_supxlabel()
