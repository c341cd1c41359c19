"""What is made from the exercises: the cells of the notebooks, and the page of solutions."""

import re
from copy import deepcopy
from typing import Any

from s2dc_core.exercises.exercise import Exercise
from s2dc_core.exercises.sources import explore, find, load

START, END = "## Exercise", "## What to take away"
"""The headings between which those exercises stand that are behind no cell of the lesson."""

WORDS = (
    "Write each function in place of its `raise NotImplementedError`, then run the cell below it: it says what is "
    "wrong, or gives the points."
)
HOW = "*Write it in place of `raise NotImplementedError`, then run the check below; or skip it and read on.*"
ABOVE = "{} above, behind what they ask about."
WHERE = "Solutions: [exercises/solutions.md](exercises/solutions.md)."


def cells_of(number: str) -> list[dict[str, Any]]:
    """The cells that a notebook's exercises become, as nbformat 4 has them; stub and check as nbgrader marks them."""
    return [cell for cells in _placed(number).values() for cell in cells]


def _placed(number: str) -> dict[str, list[dict[str, Any]]]:
    """The same, by the cell that they stand behind; "" is the part at the end."""
    placed: dict[str, list] = {}
    for exercise in load(number):
        placed.setdefault(exercise.behind, []).extend(_cells(exercise))
    end = placed.pop("", [])
    above = [ABOVE.format("Others stand" if end else "The exercises stand")] if placed else []
    words = " ".join(([WORDS] if end else []) + above + [WHERE])
    last = [_markdown(f"ex-{number}", f"## Exercises\n\n{words}", {"exercise": {"id": number, "part": "start"}}), *end]
    if more := explore(number):
        part = {"exercise": {"id": number, "part": "explore"}}
        last.append(_markdown(f"ex-{number}-explore", _explored(more), part))
    return placed | {"": last}


def _explored(items: list[tuple[str, str]]) -> str:
    """Questions, each with its answer folded away, Markdown."""
    asked = [f"{place}. {question}\n\n{_folded('Answer', answer)}" for place, (question, answer) in enumerate(items, 1)]
    return "\n\n".join(["**To explore**", *asked])


def _cells(exercise: Exercise) -> list[dict[str, Any]]:
    name = f"ex-{exercise.identity.replace('.', '-')}"
    call = f'exercises.check("{exercise.identity}", {exercise.name})'
    stub, grade = _graded(f"{name}-stub", solution=True), _graded(f"{name}-check", solution=False)
    grade["points"] = exercise.points
    cells = [
        _markdown(f"{name}-task", _task(exercise, HOW if exercise.behind else ""), _part(exercise, "task")),
        _code(f"{name}-stub", exercise.code("stub"), _part(exercise, "stub") | {"nbgrader": stub}),
        _code(
            f"{name}-check",
            f"from s2dc_core import exercises\n\n{call}",
            _part(exercise, "check") | {"nbgrader": grade},
        ),
    ]
    if exercise.use:
        code = "\n".join(f"    {line}" if line else "" for line in exercise.use.splitlines())
        guarded = f'if exercises.passed("{exercise.identity}"):\n{code}'
        cells.append(_code(f"{name}-use", guarded, _part(exercise, "use")))
    return cells


def _task(exercise: Exercise, how: str = "") -> str:
    number, points = exercise.identity.split(".")[1], exercise.points
    worth = f"{points} point" + "s" * (points > 1)
    text = f"**Exercise {number}. {exercise.title}** ({exercise.level}, {worth}). {exercise.task}"
    text += f"\n\n{how}" if how else ""
    return text + "".join(f"\n\n{_folded('Hint', hint)}" for hint in exercise.hints)


def _folded(title: str, text: str) -> str:
    return f"<details><summary>{title}</summary>\n\n{text}\n\n</details>"


def _part(exercise: Exercise, part: str) -> dict[str, Any]:
    return {"exercise": {"id": exercise.identity, "part": part}}


def _graded(name: str, solution: bool) -> dict[str, Any]:
    flags = {"grade": not solution, "locked": not solution, "solution": solution, "task": False}
    return {"grade_id": name, "schema_version": 3, **flags}


def _markdown(name: str, text: str, metadata: dict) -> dict[str, Any]:
    return {"cell_type": "markdown", "id": name, "metadata": metadata, "source": text}


def _code(name: str, text: str, metadata: dict) -> dict[str, Any]:
    empty = {"execution_count": None, "outputs": []}
    return {"cell_type": "code", "id": name, "metadata": metadata, "source": text, **empty}


def with_exercises(notebook: dict[str, Any], number: str) -> dict[str, Any]:
    """A copy of a notebook, as nbformat reads it, whose exercises are what their file says now.

    Raises:
        ValueError: if the notebook does not have the two headings, in order, or a cell that an exercise stands behind.
    """
    changed, placed = deepcopy(notebook), _placed(number)
    lesson = [cell for cell in changed["cells"] if cell["metadata"].get("exercise", {}).get("part", "start") == "start"]
    heads = [cell["source"].split("\n")[0] if cell["cell_type"] == "markdown" else "" for cell in lesson]
    starts = [place for place, head in enumerate(heads) if re.fullmatch(f"{START}s?", head)]
    ends = [place for place, head in enumerate(heads) if head == END]
    if len(starts) != 1 or len(ends) != 1 or starts > ends:
        raise ValueError(f"notebook {number} needs one cell that begins {START!r} and a later one that begins {END!r}")
    lesson[starts[0] : ends[0]] = placed.pop("")
    for behind, cells in placed.items():
        places = [place for place, cell in enumerate(lesson) if cell.get("id") == behind]
        if not places:
            raise ValueError(f"notebook {number} has no cell {behind!r} for its exercise to stand behind")
        first, *rest = _apart(lesson[places[0]])
        lesson[places[0] : places[0] + 1] = [first, *cells, *rest]
    changed["cells"] = lesson
    return changed


def _apart(cell: dict[str, Any]) -> list[dict[str, Any]]:
    """A cell in two where its text goes on with another section or a prediction, whose answer is the cell behind it."""
    begins = re.search(r"\n+(?=## |\*\*Predict first)", cell["source"]) if cell["cell_type"] == "markdown" else None
    if begins is None:
        return [cell]
    first, second = deepcopy(cell), deepcopy(cell)
    first["source"], second["source"] = cell["source"][: begins.start()], cell["source"][begins.end() :]
    return [first, second | {"id": f"{cell['id']}-on"}]


def with_solutions(notebook: dict[str, Any]) -> dict[str, Any]:
    """A copy of a notebook with each stub replaced by the solution: what a teacher runs."""
    changed = deepcopy(notebook)
    for cell in changed["cells"]:
        part = cell["metadata"].get("exercise", {})
        if part.get("part") == "stub":
            cell["source"] = find(part["id"]).code("solution")
    return changed


def solutions_page(numbers: list[str]) -> str:
    """All tasks and questions, Markdown, each with its solution or answer folded away."""
    lines = ["# Solutions", "", "Try first. Each notebook's cells say what is wrong with an answer."]
    for number in numbers:
        lines += ["", f"## Notebook {number}"]
        for exercise in load(number):
            code = f"```python\n{exercise.code('solution')}\n```"
            lines += ["", _task(exercise), "", _folded("Solution", code)]
        if more := explore(number):
            lines += ["", _explored(more)]
    # Texts are written for the notebooks, which lie a folder above this page.
    return re.sub(r"\]\((?=[\w-]+\.ipynb)", "](../", "\n".join(lines)) + "\n"
