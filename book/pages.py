"""The pages that are made from notebooks: what an executed notebook must have, and what is changed in it."""

import re
from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

from nbformat.v4 import new_markdown_cell

from book.gallery import Picture
from notebooks.run import execution_problems
from s2dc_core import exercises

WIDGET = "application/vnd.jupyter.widget-view+json"
LINK = re.compile(r"```.*?```|`[^`]*`|\$\$.*?\$\$|\$[^$]*\$|(!?)\[([^\]]*)\]\(([^()\s]+)\)", re.DOTALL)
"""A link or, with "!" before it, a picture; or code or mathematics, in which brackets mean something else."""

SLIDERS = "*In JupyterLab, controls stand here.*"


def own_cells(notebook: dict[str, Any]) -> list[tuple[str, str]]:
    """Kind and text of a notebook's cells, without the parameters that a run put in."""
    kept = (cell for cell in notebook["cells"] if "injected-parameters" not in cell["metadata"].get("tags", []))
    return [(cell["cell_type"], cell["source"].rstrip()) for cell in kept]


def parameters_of(executed: dict[str, Any]) -> dict[str, Any]:
    """The parameters that a notebook was run with, beyond the defaults that it declares."""
    return dict(executed["metadata"].get("papermill", {}).get("parameters", {}))


def count_images(executed: dict[str, Any]) -> int:
    """The pictures among a notebook's outputs."""
    outputs = (output for cell in executed["cells"] for output in cell.get("outputs", []))
    return sum(any(kind.startswith("image/") for kind in output.get("data", {})) for output in outputs)


def page_problems(executed: dict[str, Any], source: dict[str, Any]) -> list[str]:
    """Why an executed notebook cannot become a page.

    Args:
        executed: as nbformat reads it.
        source: the notebook of the course that it should be a run of.
    """
    problems = list(execution_problems(executed))
    if not count_images(executed):
        problems.append("it has no figure")
    if own_cells(executed) != own_cells(source):
        problems.append("its cells are not those of the notebook in notebooks/")
    return problems


def page_of(
    executed: dict[str, Any],
    find: Callable[[str], str | None],
    words: Callable[[str], str] = str,
    download: str | None = None,
    figures: Sequence[Picture] = (),
) -> dict[str, Any]:
    """A copy of an executed notebook as the book shows it.

    Solutions are folded away below the checks, widgets are left out, the header has a line for each of its fields, and
    a run with other sizes than the notebook declares says so.

    Args:
        executed: as nbformat reads it.
        find: what a relative link of this notebook becomes in the book, None without its page.
        words: links words of the glossary in a text, one text after the other.
        download: path of the notebook that readers may take with them.
        figures: of this notebook; each becomes a place to link to.
    """
    page = deepcopy(executed)
    page["metadata"].pop("widgets", None)
    cells = []
    for number, cell in enumerate(page["cells"]):
        if labels := [f"({one.label})=" for one in figures if one.cell == number]:
            cells.append(new_markdown_cell("\n".join(labels)))
        cells.append(cell)
        if cell["cell_type"] == "markdown":
            cell["source"] = words(mend_links(cell["source"], find))
        else:
            cells += _below(cell)
    cells[0]["source"] = re.sub(r"(?<=\S)\n(?=\*\*\w+\*\* )", "\\\\\n", cells[0]["source"])
    if changed := parameters_of(executed):
        cells.insert(1, new_markdown_cell(_sizes(changed)))
    if download:
        cells.insert(1, new_markdown_cell(f"{{download}}`Download this notebook <{download}>`"))
    page["cells"] = cells
    return page


def _below(cell: dict[str, Any]) -> list[dict[str, Any]]:
    """Cells to add after a code cell, which loses its widgets."""
    added = []
    shown = [output for output in cell["outputs"] if WIDGET not in output.get("data", {})]
    if len(shown) < len(cell["outputs"]):
        cell["outputs"] = shown
        added.append(new_markdown_cell(SLIDERS))
    part = cell["metadata"].get("exercise", {})
    if part.get("part") == "check":
        added.append(new_markdown_cell(solution_of(part["id"])))
    return added


def solution_of(identity: str) -> str:
    """An exercise's solution, folded away, Markdown."""
    found = {exercise.identity: exercise for exercise in exercises.load(identity.split(".")[0])}
    code = found[identity].code("solution")
    return f"<details><summary>Solution of {identity}</summary>\n\n```python\n{code}\n```\n\n</details>"


def _sizes(parameters: dict[str, Any]) -> str:
    values = ", ".join(f"`{name} = {value!r}`" for name, value in parameters.items())
    return f":::{{note}}\nRun with other sizes than the notebook's own: {values}. Its texts speak of its own.\n:::"


def mend_links(text: str, find: Callable[[str], str | None]) -> str:
    """Markdown in which links and pictures lead to files of the book; a link to what it does not have is words alone.

    Args:
        text: Markdown.
        find: what a relative link becomes in the book, None without its page.
    """

    def mend(match: re.Match) -> str:
        mark, words, target = match.groups()
        if target is None or re.match(r"[a-z]+:|#", target):
            return match.group(0)
        if (found := find(target)) is None:
            return match.group(0) if mark else words
        return f"{mark}[{words}]({found})"

    return LINK.sub(mend, text)
