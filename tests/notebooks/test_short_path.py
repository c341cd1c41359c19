"""The short path: it is what its script makes of the notebooks, and the script takes what cells need, no more."""

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell

from notebooks import short


def test_the_file_is_what_the_script_makes():
    assert short.FILE.read_text(encoding="utf-8") == short.text(), "run python notebooks/short.py"


def test_it_is_short():
    shown = [cell for section in short.SECTIONS for cell in section.cells]
    code = [cell for cell in short.make().cells if cell.cell_type == "code" and not cell.metadata.get("jupyter")]
    assert len(shown) <= 50 and len(code) <= 25


def cells(*sources):
    made = [new_code_cell(source) if not source.startswith("# ") else new_markdown_cell(source) for source in sources]
    for number, cell in enumerate(made):
        cell.id = f"c{number}"
    return made


def kept(chosen, *sources):
    return [int(cell.id[1:]) for cell in short.needed(cells(*sources), [f"c{number}" for number in chosen])]


def test_what_a_cell_needs_is_kept_and_nothing_else():
    assert kept([3], "a = 1", "b = 2", "# words", "print(a)", "print(b)") == [0, 3]
    assert kept([2], "import numpy as np", "x = np.ones(3)", "x.sum()") == [0, 1, 2]
    assert kept([3], "x = {}", "x['a'] = 1", "y = 2", "print(x)") == [0, 1, 3]
    assert kept([3], "x = []", "x.append(1)", "y = []", "print(x)") == [0, 1, 3]
    assert kept([2], "x = 1", "x = 2", "print(x)") == [1, 2]
    assert kept([2], "x = 1", "x += 2", "print(x)") == [0, 1, 2]


def test_names_that_a_cell_binds_itself_are_not_wanted():
    assert kept([2], "name = 1", "names = 'ab'", "for name in names:\n    print(name)") == [1, 2]
    assert kept([2], "n = 1", "k = 2", "[n * k for n in range(3)]") == [1, 2]
    assert kept([2], "a = 1", "b = 1", "def f(a):\n    c = a + b\n    return c") == [1, 2]


def test_a_function_may_call_one_that_is_defined_below_it():
    assert kept([3], "def f():\n    return g()", "def h():\n    return 2", "def g():\n    return 1", "f()") == [0, 2, 3]


def test_an_unknown_cell_is_named():
    with pytest.raises(ValueError, match="01_correspondence_ground_truth.ipynb has no cell n01-999"):
        short.section_cells(short.Section("01", "", ["n01-999"]))


def test_sizes_are_those_of_the_profile():
    sources = [cell.source for cell in short.make().cells]
    assert any('sizes("04_gpu_pretraining")' in source and '"steps": 60' in source for source in sources)
    nbformat.validate(short.make())
