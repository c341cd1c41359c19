"""A figure says in words what it shows, each another thing, and IPython carries the words with the picture."""

import numpy as np
import pytest
from IPython.core.formatters import DisplayFormatter
from IPython.core.pylabtools import print_figure
from matplotlib.figure import Figure

from s2dc_core import plots
from s2dc_core.plots.alt import plain


def two_rows():
    """A column of pictures whose title stands above and whose note below."""
    with plots.figure_grid(2, 1) as (figure, axes):
        for panel in axes.flat:
            shown = plots.show_slice(panel, np.zeros((20, 20, 20)), np.eye(4))
        axes[0, 0].set_title("S2DC")
        axes[1, 0].set_xlabel("Dice 0.52")
        figure.colorbar(shown.image, ax=axes, label="cosine")
        figure.suptitle("Whose organs?")
    return figure


def test_titles_notes_bars_and_sizes_are_said():
    words = "Whose organs? 2 panels: S2DC (Dice 0.52). Colour: cosine. Voxels of 1 mm."
    assert plots.describe(two_rows()) == words


def test_axes_rows_legends_and_words_in_the_panel_are_said():
    with plots.figure_grid() as (figure, ((axes,),)):
        axes.plot([1, 2], label="$L_g$")
        axes.set(xlabel="step", ylabel="loss", title="It falls")
        axes.set_yticks([0, 1], ["low", "high"])
        axes.text(1, 1, "chance")
        axes.text(1, 0, "3.5")
        axes.legend()
    assert plots.describe(figure) == "It falls (loss against step; low, high). Legend: L_g. Named in it: chance."


def test_organs_named_in_a_slice_are_said():
    label = np.zeros((40, 40, 3), dtype=int)
    label[5:35, 5:35] = 1
    with plots.figure_grid() as (figure, axes):
        plots.show_slice(axes[0, 0], label, np.eye(4), labels=label, names={1: "liver"})
    assert "Named in it: liver." in plots.describe(figure)


def test_a_figure_without_words_says_so():
    with plots.figure_grid(1, 2) as (figure, _):
        pass
    assert plots.describe(figure) == "A figure without words, 2 panels."


def test_many_panels_are_cut_short():
    with plots.figure_grid(3, 10, size=(1.6, 1.6)) as (figure, axes):
        for number, panel in enumerate(axes.flat):
            panel.set_title(f"panel with a long title, number {number}")
    words = plots.describe(figure)
    assert words.startswith("30 panels: ") and words.endswith(" more.") and len(words) < 1000


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("$L_{p2p}$ and $\\mathcal{M}_t$", "L_p2p and M_t"),
        ("two\nlines", "two lines"),
        ("5 \\$ a body", "5 $ a body"),
        ("$\\log_{10}$ of $H(c_i)$", "log_10 of H(c_i)"),
    ],
)
def test_formulas_are_said_plainly(text, said):
    assert plain(text) == said


def test_ipython_shows_the_words_with_its_own_picture():
    """As the inline backend does it: a formatter for figures makes the picture, the figure adds the words."""
    formatter = DisplayFormatter()
    formatter.formatters["image/png"].for_type(Figure, lambda figure: print_figure(figure, base64=True))
    figure = two_rows()
    data, metadata = formatter.format(figure)
    assert data["image/png"].startswith("iVBOR")
    assert metadata["image/png"]["alt"] == plots.describe(figure)
    figure.alt = "My own words"
    assert formatter.format(figure)[1]["image/png"]["alt"] == "My own words"
