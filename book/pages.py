"""The pages that are made from notebooks: what an executed notebook must have, and what is changed in it."""

import re
from base64 import b64decode
from collections.abc import Callable
from copy import deepcopy
from hashlib import sha256
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote

from nbformat.v4 import new_markdown_cell

from notebooks.run import execution_problems
from s2dc_core import exercises

WIDGET = "application/vnd.jupyter.widget-view+json"
LINK = re.compile(r"```.*?```|`[^`]*`|\$\$.*?\$\$|\$[^$]*\$|(?<!!)\[([^\]]*)\]\(([^()\s]+)\)", re.DOTALL)
"""A link; or code or mathematics, in which brackets mean something else."""

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


def alt_texts(executed: dict[str, Any]) -> dict[str, str]:
    """Alternative text of each picture of a notebook, by the name, without ending, that MyST-NB gives its file."""
    texts = {}
    for cell in executed["cells"]:
        for output in cell.get("outputs", []):
            for kind, content in output.get("data", {}).items():
                if kind.startswith("image/") and (text := output["metadata"].get(kind, {}).get("alt")):
                    data = content.encode() if kind == "image/svg+xml" else b64decode(content)
                    texts[sha256(data).hexdigest()] = text
    return texts


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


def page_of(executed: dict[str, Any], knows: Callable[[str], bool]) -> dict[str, Any]:
    """A copy of an executed notebook as the book shows it.

    Solutions are folded away below the checks, widgets are left out, the header has a line for each of its fields, and
    a run with other sizes than the notebook declares says so.

    Args:
        executed: as nbformat reads it.
        knows: whether the book has the page that a relative link from this notebook leads to.
    """
    page = deepcopy(executed)
    page["metadata"].pop("widgets", None)
    cells = []
    for cell in page["cells"]:
        cells.append(cell)
        if cell["cell_type"] == "markdown":
            cell["source"] = mend_links(cell["source"], knows)
        else:
            cells += _below(cell)
    cells[0]["source"] = re.sub(r"(?<=\S)\n(?=\*\*\w+\*\* )", "\\\\\n", cells[0]["source"])
    if changed := parameters_of(executed):
        cells.insert(1, new_markdown_cell(_sizes(changed)))
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


def mend_links(text: str, knows: Callable[[str], bool]) -> str:
    """Markdown in which a link to a file that the book does not have is the words alone.

    Args:
        text: Markdown.
        knows: whether the book has the page of a relative path.
    """

    def mend(match: re.Match) -> str:
        words, target = match.groups()
        if target is None or re.match(r"[a-z]+:|#", target):
            return match.group(0)
        if knows(str(PurePosixPath(unquote(target.partition("#")[0])))):
            return match.group(0)
        return words

    return LINK.sub(mend, text)
