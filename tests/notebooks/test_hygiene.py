"""What every committed notebook keeps to: stripped, short cells, one parameters cell, the course's furniture."""

import re
import sys

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from notebooks.run import HERE

LONGEST_CELL = 15
HEADER = ("goal", "paper", "minutes", "memory", "device")
ABSOLUTE_PATH = re.compile(r"(?<![\w.:/-])/(?:home|root|Users|tmp|var|mnt|media|opt|work|content)/|\b[A-Za-z]:\\+\w")
NOTEBOOKS = sorted(HERE.glob("*.ipynb"))


def stripped_problems(notebook):
    """Outputs, counts, widget state and paths of one machine: what a run leaves behind."""
    problems = ["it holds the state of widgets"] if "widgets" in notebook.metadata else []
    for number, cell in enumerate(notebook.cells, start=1):
        if cell.get("outputs") or cell.get("execution_count") is not None:
            problems.append(f"cell {number} holds an output or a count: make format strips it")
        if "papermill" in cell.metadata or "execution" in cell.metadata:
            problems.append(f"cell {number} holds the times of a run")
        if found := ABSOLUTE_PATH.search(cell.source):
            problems.append(f"cell {number} holds a path of one machine: {found.group()}")
    return problems


def form_problems(notebook):
    """A valid file for kernel python3, one parameters cell, cells of a size that fits a screen."""
    problems = []
    if notebook.metadata.get("kernelspec", {}).get("name") != "python3":
        problems.append("its kernel is not python3")
    identifiers = [cell.get("id") for cell in notebook.cells]
    if None in identifiers or len(set(identifiers)) < len(identifiers):
        problems.append("a cell has no id of its own")
    tagged = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    if len(tagged) != 1 or tagged[0].cell_type != "code":
        problems.append(f"it has {len(tagged)} cells tagged parameters, not one code cell")
    for number, cell in enumerate(notebook.cells, start=1):
        lines = len(cell.source.splitlines())
        if cell.cell_type == "code" and not 0 < lines <= LONGEST_CELL:
            problems.append(f"cell {number} has {lines} lines of code, not 1 to {LONGEST_CELL}")
    return problems


def course_problems(notebook):
    """The header, a prediction before the result, an exercise, and an assert on what is shown."""
    words = [cell.source.lower() for cell in notebook.cells if cell.cell_type == "markdown"]
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    header = words[0] if words and notebook.cells[0].cell_type == "markdown" else ""
    problems = [f"its first cell does not name its {word}" for word in HEADER if word not in header]
    problems += [f"no prompt says {p!r}" for p in ("predict first", "exercise") if p not in "\n".join(words[1:])]
    if not any(re.search(r"^\s*assert\b|\bassert_\w+\(", source, re.M) for source in code):
        problems.append("nothing is asserted")
    return problems


def import_problems(notebook):
    """s2dc_core is the first package imported: how long threads wait awake is decided when torch is loaded."""
    code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    names = re.findall(r"^\s*(?:import|from)\s+(\w+)", code, re.M)
    first = next((name for name in names if name not in sys.stdlib_module_names), "s2dc_core")
    return [] if first == "s2dc_core" else [f"it imports {first} before s2dc_core"]


def all_problems(notebook):
    own = stripped_problems(notebook) + form_problems(notebook) + import_problems(notebook)
    return own + course_problems(notebook)


def good_notebook():
    header = "# Trial\n**Goal** see. **Paper** 3.1. **Minutes** 1. **Memory** 1 GB. **Device** CPU."
    cells = [
        new_markdown_cell(header),
        new_code_cell("side = 4", metadata={"tags": ["parameters"]}),
        new_markdown_cell("**Predict first.** What is its square? See https://example.org/home/page."),
        new_code_cell("square = side**2\nassert square > side"),
        new_markdown_cell("## Exercise\nThe cube."),
    ]
    return new_notebook(cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}})


@pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])
def test_committed_notebook(path):
    notebook = nbformat.read(path, as_version=nbformat.NO_CONVERT)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor >= 5) == (4, True)
    assert all_problems(notebook) == []


def test_a_good_notebook_has_no_problem():
    nbformat.validate(good_notebook())
    assert all_problems(good_notebook()) == []


def broken(change):
    notebook = good_notebook()
    change(notebook)
    return all_problems(notebook)


@pytest.mark.parametrize(
    ("problem", "change"),
    [
        ("output", lambda nb: nb.cells[3].outputs.append(new_output("stream", text="16"))),
        ("output", lambda nb: nb.cells[3].update(execution_count=2)),
        ("times of a run", lambda nb: nb.cells[3].metadata.update(papermill={"duration": 1})),
        ("widgets", lambda nb: nb.metadata.update(widgets={})),
        ("kernel", lambda nb: nb.metadata.kernelspec.update(name="my-env")),
        ("no id", lambda nb: nb.cells[3].update(id=nb.cells[1].id)),
        ("0 cells tagged", lambda nb: nb.cells[1].metadata.clear()),
        ("2 cells tagged", lambda nb: nb.cells[3].metadata.update(tags=["parameters"])),
        ("16 lines", lambda nb: nb.cells[1].update(source="x = 1\n" * 16)),
        ("0 lines", lambda nb: nb.cells[1].update(source="")),
        ("its memory", lambda nb: nb.cells[0].update(source=nb.cells[0].source.replace("Memory", ""))),
        ("its goal", lambda nb: nb.cells.insert(0, new_code_cell("import torch"))),
        ("predict first", lambda nb: nb.cells[2].update(source="What is its square?")),
        ("exercise", lambda nb: nb.cells.pop()),
        ("torch before s2dc_core", lambda nb: nb.cells[3].update(source="import os\nimport torch\nassert torch")),
        ("asserted", lambda nb: nb.cells[3].update(source="square = side**2  # assert")),
    ],
)
def test_each_fault_is_noticed(problem, change):
    assert problem in "; ".join(broken(change))


@pytest.mark.parametrize("path", ["/" + "home/ann/scan.nii", "/" + "tmp/out", "C:" + "\\data\\scan.nii"])
def test_a_path_of_one_machine_is_noticed(path):
    found = broken(lambda nb: nb.cells[3].update(source=f"scan = '{path}'\nassert scan"))
    assert len(found) == 1 and "path of one machine" in found[0]
