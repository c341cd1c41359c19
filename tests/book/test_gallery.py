"""The gallery: which figures a run has, what they are called, and the page that shows them."""

import base64
import io

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from book.gallery import WIDTH, page, pictures, small


def png(colour, size=(2 * WIDTH, 60), mode="RGB"):
    out = io.BytesIO()
    Image.new(mode, size, colour).save(out, "PNG")
    return out.getvalue()


def shown(data, alt=None):
    metadata = {"image/png": {"alt": alt}} if alt else {}
    return new_output("display_data", data={"image/png": base64.b64encode(data).decode()}, metadata=metadata)


@pytest.fixture
def notebook():
    """Two figures under a heading, the second with words of its own."""
    outputs = [shown(png("red")), shown(png("blue"), "Loss against steps:\nit falls.")]
    cells = [new_markdown_cell("# 03 Losses"), new_markdown_cell("Text.\n\n## 2. The $\\mathcal{L}_g$ of *regions*")]
    return new_notebook(cells=[*cells, new_code_cell("draw()", outputs=outputs), new_code_cell("1 + 1")])


def test_figures_are_found_with_their_words(notebook):
    first, second = pictures("03_losses", notebook)
    assert first.alt == "Figure 1 of notebook 03_losses: 2. The L_g of regions"
    assert second.alt == "Loss against steps: it falls."
    assert (first.cell, first.page, second.label) == (2, "notebooks/03_losses.html", "figure-03-losses-2")


def test_the_page_has_a_card_a_figure_and_each_figure_once(notebook):
    found = {
        name: (title, pictures(name, notebook)) for name, title in (("03_losses", "03 Losses"), ("short", "Short"))
    }
    text, files = page(found)
    assert sorted(files) == ["figure-03-losses-1.jpg", "figure-03-losses-2.jpg"]
    assert text.count("grid-item-card") == 2 and "Short" not in text
    assert ":link: notebooks/03_losses.html#figure-03-losses-2\n\n2\\. The $\\mathcal{L}_g$ of *regions*\n" in text


def test_a_small_picture_is_small_and_white_where_the_figure_is_clear():
    with Image.open(io.BytesIO(small(png((0, 0, 0, 0), mode="RGBA")))) as picture:
        assert picture.size == (WIDTH, 30) and min(picture.convert("RGB").getpixel((9, 9))) > 250
