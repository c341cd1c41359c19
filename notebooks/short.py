"""Makes short_path.ipynb: one lecture of 40 minutes out of cells of the other notebooks, so that it cannot drift.

    python notebooks/short.py            # writes it; a test holds the file equal to what this makes

A section names the cells that are shown. What they need of their notebook, and nothing more, stands folded before them:
a cell is needed if a name that is still wanted is set there.
"""

import ast
import builtins
import json
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

HERE = Path(__file__).resolve().parent
FILE = HERE / "short_path.ipynb"
FOLDED = {"jupyter": {"source_hidden": True}, "tags": ["hide-input"]}


class Section(NamedTuple):
    """A part of the lecture.

    Attributes:
        notebook: the number that its file begins with.
        words: Markdown above it.
        cells: ids of what is shown, in the notebook's order.
        sizes: of its parameters, where the lecture takes others.
    """

    notebook: str
    words: str
    cells: Sequence[str]
    sizes: dict[str, Any] = {}


HEADER = """# The short path

**Goal** The course in one lecture: what S2DC does, what is wrong in its published code, and what the features know.
**Paper** Figures 1 to 3, equations 2 to 9, table 7.
**Minutes** 40 to read and talk, about 6 to run.
**Memory** 4 GB.
**Device** CPU.

**Predict first**, wherever it says so: the answer is printed below. Every cell comes from the notebook that its section
names, where the rest of the story is; what it needs of that notebook is folded away above it."""

SECTIONS = (
    Section("00", "## Whose organs are these?", ["start-who-1", "start-who-2", "start-who-3", "start-who-5"]),
    Section(
        "01",
        "## Which patch is which\n\nFrom [notebook 01](01_correspondence_ground_truth.ipynb).",
        ["n01-06", "n01-08", "n01-09", "n01-14", "n01-16", "n01-17", "n01-26", "n01-27", "n01-28", "n01-30", "n01-32"],
    ),
    Section(
        "02_",
        "## Mutual agreement\n\nFrom [notebook 02](02_dual_softmax_vs_sinkhorn.ipynb).",
        ["s02-16", "s02-17", "s02-18", "s02-19", "s02-38", "s02-40", "s02-44", "s02-46"],
        {"train_seeds": 2},
    ),
    Section(
        "03",
        "## One structure or many\n\nFrom [notebook 03](03_sharpe_ratio.ipynb).",
        ["sharpe-28a", "sharpe-35", "sharpe-36", "sharpe-37"],
        {"bodies": 3, "steps": 80},
    ),
    Section(
        "04",
        "## Train it yourself\n\nFrom [notebook 04](04_gpu_pretraining.ipynb), in 60 steps instead of 400.",
        ["8f24bba7", "01ef4bc5", "445714a3", "8739acc2", "whose-1a", "whose-2", "whose-4"],
        {"steps": 60, "bodies": 2},
    ),
    Section(
        "06",
        "## Do organs form clusters?\n\nFrom [notebook 06](06_tsne_silhouette.ipynb).",
        ["c04", "c06", "c27", "c28", "c33"],
    ),
    Section(
        "11",
        "## What matters\n\nFrom [notebook 11](11_ablation.ipynb).",
        ["abl09", "abl10", "abl16", "abl17"],
    ),
)

FOOTER = """## Exercise

The three that belong here: 01.1 (a box, there and back), 02.1 (the dual-softmax) and 03.1 (the Sharpe ratio), each
behind its idea in its notebook.

## What to take away

- Matches are known, because we make the warp: test them with a volume that carries its own coordinates.
- An operator's price buys nothing by itself: ask what it teaches.
- Always ask what random weights, brightness and place can do, with intervals over bodies and over trainings.

Next: [00 Start here](00_start_here.ipynb), at your own pace"""

SIZES = """import yaml


def sizes(name):
    # The parameters of a notebook in the profile that was asked for.
    with open(f"profiles/{profile}.yaml", encoding="utf-8") as file:
        return yaml.safe_load(file)["notebooks"].get(name, {}).get("parameters", {})"""


GROWN = {"append", "extend", "add", "update", "setdefault", "insert", "pop", "copy_"}
"""Methods that change what they are called on."""


def names_of(source: str) -> tuple[set[str], set[str], set[str]]:
    """Names that a cell wants from before it, that it sets, and that it changes in place."""
    wants: set[str] = set()
    sets: set[str] = set()
    changes: set[str] = set()
    for statement in ast.parse(source).body:
        nodes = list(ast.walk(statement))
        used = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
        own = _bound_within(nodes)
        again = {
            node.target.id for node in nodes if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name)
        }
        wants |= (used - own - set(dir(builtins)) - sets) | (again - sets)
        places = [node.value for node in nodes if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store)]
        calls = [node.func for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)]
        places += [call.value for call in calls if call.attr in GROWN]
        changes |= {node.id for node in places if isinstance(node, ast.Name)} - own
        sets |= _set_by(statement)
    return wants, sets, changes - sets


def _bound_within(nodes: Sequence[ast.AST]) -> set[str]:
    """Names that a statement binds for itself: arguments, targets of loops, names within functions."""
    functions = [node for node in nodes if isinstance(node, ast.FunctionDef | ast.Lambda | ast.ClassDef)]
    bound = {argument.arg for node in nodes if isinstance(node, ast.arguments) for argument in _arguments(node)}
    loops = [node.target for node in nodes if isinstance(node, ast.For | ast.comprehension)]
    inner = [part for node in functions for part in ast.walk(node)] + [
        part for loop in loops for part in ast.walk(loop)
    ]
    bound |= {part.id for part in inner if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)}
    return bound | {node.name for node in functions if not isinstance(node, ast.Lambda)}


def _arguments(node: ast.arguments) -> list[ast.arg]:
    more = [each for each in (node.vararg, node.kwarg) if each]
    return [*node.posonlyargs, *node.args, *node.kwonlyargs, *more]


def _set_by(node: ast.stmt) -> set[str]:
    """Names that a statement of a cell sets."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {(alias.asname or alias.name).split(".")[0] for alias in node.names}
    inner = ast.walk(node) if not isinstance(node, ast.Expr) else ()
    comprehensions = [part for each in inner if isinstance(each, ast.comprehension) for part in ast.walk(each.target)]
    local = {part.id for part in comprehensions if isinstance(part, ast.Name)}
    names = {each.id for each in ast.walk(node) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)}
    return names - local


def needed(cells: Sequence[NotebookNode], chosen: Sequence[str]) -> list[NotebookNode]:
    """The chosen cells, and before each what sets a name that it wants."""
    last = max(number for number, cell in enumerate(cells) if cell.id in chosen)
    before, taken = cells[: last + 1], set(chosen)
    while True:
        kept, open_names = _backwards(before, taken)
        # A function may call one that is defined below it.
        late = [c for c in before if c.cell_type == "code" and c.id not in taken and names_of(c.source)[1] & open_names]
        if not late:
            return kept
        taken.add(late[-1].id)


def _backwards(cells: Sequence[NotebookNode], taken: set[str]) -> tuple[list[NotebookNode], set[str]]:
    """Taken cells with those that set what they want, and names that nothing before them sets."""
    wanted: set[str] = set()
    kept = []
    for cell in reversed(cells):
        if cell.cell_type == "markdown":
            kept += [cell] * (cell.id in taken)
            continue
        wants, sets, changes = names_of(cell.source)
        if cell.id in taken or wanted & (sets | changes):
            wanted = (wanted - sets) | wants
            kept.append(cell)
    return kept[::-1], wanted


def section_cells(section: Section) -> list[NotebookNode]:
    """A section's cells: its words, what is folded, what is shown.

    Raises:
        ValueError: for an id that the notebook does not have.
    """
    file = next(HERE.glob(f"{section.notebook}*.ipynb"))
    lesson = [cell for cell in nbformat.read(file, nbformat.NO_CONVERT).cells if "exercise" not in cell.metadata]
    if missing := [name for name in section.cells if name not in {cell.id for cell in lesson}]:
        raise ValueError(f"{file.name} has no cell {', '.join(missing)}")
    made = [new_markdown_cell(section.words)]
    for cell in needed(lesson, section.cells):
        copied = deepcopy(cell)
        is_sizes = "parameters" in cell.metadata.get("tags", [])
        if is_sizes or cell.id not in section.cells and cell.cell_type == "code":
            copied.metadata = NotebookNode(deepcopy(FOLDED))
        made.append(copied)
        if is_sizes:
            given = f"globals().update({json.dumps(section.sizes)} | sizes({json.dumps(file.stem)}))"
            made.append(new_code_cell(given, metadata=deepcopy(FOLDED)))
    return made


def make() -> NotebookNode:
    """The notebook."""
    parameters = new_code_cell(
        'profile = "teaching"  # or "ci": sizes of all sections', metadata={"tags": ["parameters"]}
    )
    first = new_code_cell(
        "import s2dc_core  # before torch: threads that wait soon sleep, and leave the cores to others"
    )
    cells = [new_markdown_cell(HEADER), parameters, first, new_code_cell(SIZES, metadata=deepcopy(FOLDED))]
    for section in SECTIONS:
        cells += section_cells(section)
    cells.append(new_markdown_cell(FOOTER))
    for number, cell in enumerate(cells):
        cell.id = f"short-{number:03d}"
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return new_notebook(cells=cells, metadata={"kernelspec": kernel, "language_info": {"name": "python"}})


def text() -> str:
    """The file's text."""
    return nbformat.writes(make()) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
