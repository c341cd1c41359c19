"""Executed notebooks become pages: what they must have, and what is changed in them."""

from copy import deepcopy

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from book.gallery import pictures
from book.pages import SLIDERS, WIDGET, mend_links, page_of, page_problems, solution_of
from s2dc_core import exercises

HEADER = "# 01 A title\n\n**Goal** See.\n**Paper** 3.1.\n**Minutes** 1."
PICTURE = {"image/png": "iVBORw0KGgo="}
CELLS = (HEADER, "Go on with [02](02_b.ipynb).")
KNOWN = {"02_b.ipynb", "02_b.ipynb#2-more", "exercises/solutions.md"}


def executed_notebook(data=PICTURE, exercise=None):
    """A title, a text and a code cell that ran, with an output."""
    output = new_output("display_data", data=dict(data))
    metadata = {"papermill": {"duration": 0.1}} | ({"exercise": exercise} if exercise else {})
    code = new_code_cell("draw()", execution_count=1, outputs=[output], metadata=metadata)
    return new_notebook(cells=[*map(new_markdown_cell, CELLS), code])


def as_committed(executed):
    """The notebook that it is a run of."""
    source = deepcopy(executed)
    for cell in source.cells:
        if cell.cell_type == "code":
            cell.update(execution_count=None, outputs=[], metadata={})
    return source


def find(target):
    """What a link becomes in a book that has KNOWN, and README as another page."""
    return {"../README.md": "../index.md"}.get(target, target if target in KNOWN else None)


def sources(page):
    return [cell.source for cell in page.cells]


def test_a_whole_run_has_no_problem():
    executed = executed_notebook()
    source = as_committed(executed)
    assert page_problems(executed, source) == []
    injected = new_code_cell("side = 4", execution_count=1, metadata={"tags": ["injected-parameters"]})
    injected.metadata["papermill"] = {"duration": 0.1}
    executed.cells[-1].execution_count = 2
    executed.cells.insert(2, injected)
    assert page_problems(executed, source) == []


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda cell: cell.update(execution_count=None), "skipped"),
        (lambda cell: cell.metadata.clear(), "took no time"),
        (lambda cell: cell.outputs.append(new_output("error", ename="E", evalue="", traceback=[])), "with an error"),
        (lambda cell: cell.outputs.clear(), "no figure"),
        (lambda cell: cell.update(source="draw(2)"), "not those of the notebook"),
    ],
)
def test_what_is_not_a_whole_run_is_refused(spoil, says):
    executed = executed_notebook()
    source = as_committed(executed)
    spoil(executed.cells[-1])
    (problem,) = page_problems(executed, source)
    assert says in problem


@pytest.mark.parametrize(
    ("text", "mended"),
    [
        ("see [02](02_b.ipynb)", "see [02](02_b.ipynb)"),
        ("see [02](02_b.ipynb#2-more)", "see [02](02_b.ipynb#2-more)"),
        ("see [all](exercises/solutions.md).", "see [all](exercises/solutions.md)."),
        ("see [the README](../README.md).", "see [the README](../index.md)."),
        ("see [the Makefile](../Makefile).", "see the Makefile."),
        ("see [09](09_gone.ipynb), [02](02_b.ipynb)", "see 09, [02](02_b.ipynb)"),
        ("[a page](https://example.org/a) and [below](#more)", "[a page](https://example.org/a) and [below](#more)"),
        ("![a picture](first.png)", "![a picture](first.png)"),
        ("$x[0](1)$ and [the Makefile](../Makefile)", "$x[0](1)$ and the Makefile"),
        ("a list `x[0](1)` of [N, C] (shapes)", "a list `x[0](1)` of [N, C] (shapes)"),
    ],
)
def test_links_to_what_the_book_does_not_have_become_words(text, mended):
    assert mend_links(text, find) == mended


def test_the_header_has_a_line_for_each_field():
    page = page_of(executed_notebook(), find)
    assert sources(page)[0] == "# 01 A title\n\n**Goal** See.\\\n**Paper** 3.1.\\\n**Minutes** 1."
    assert len(page.cells) == 3


def test_readers_may_take_the_notebook_with_them_and_a_figure_is_a_place_to_link_to():
    executed = executed_notebook()
    page = page_of(executed, find, download="../downloads/01_a.ipynb", figures=pictures("01_a", executed))
    assert sources(page)[1] == "{download}`Download this notebook <../downloads/01_a.ipynb>`"
    assert sources(page)[-2:] == ["(figure-01-a-1)=", "draw()"]


def test_texts_go_through_the_words():
    page = page_of(executed_notebook(), find, words=lambda text: text.replace("Go", "Walk"))
    assert sources(page)[1] == "Walk on with [02](02_b.ipynb)."


def test_other_sizes_are_named():
    executed = executed_notebook()
    executed.metadata["papermill"] = {"parameters": {"steps": 2, "image": "mni152"}}
    assert "`steps = 2`, `image = 'mni152'`" in sources(page_of(executed, find))[1]


def test_widgets_are_left_out():
    executed = executed_notebook({WIDGET: {"model_id": "1"}, "text/plain": "VBox()"})
    executed.cells[-1].outputs.append(new_output("display_data", data=dict(PICTURE)))
    executed.metadata["widgets"] = {"state": {}}
    page = page_of(executed, find)
    assert [dict(output.data) for output in page.cells[2].outputs] == [PICTURE]
    assert sources(page)[3:] == [SLIDERS]
    assert "widgets" not in page.metadata
    assert len(executed.cells[-1].outputs) == 2, "the run itself was changed"


def test_a_solution_is_folded_below_its_check():
    number = exercises.numbers()[0]
    exercise = exercises.load(number)[0]
    executed = executed_notebook(exercise={"id": exercise.identity, "part": "check"})
    page = page_of(executed, find)
    assert sources(page)[3] == solution_of(exercise.identity)
    assert sources(page)[3].startswith("<details><summary>Solution of")
    assert exercise.code("solution") in sources(page)[3]
    for part in ("task", "stub", "use"):
        other = executed_notebook(exercise={"id": exercise.identity, "part": part})
        assert len(page_of(other, find).cells) == 3
