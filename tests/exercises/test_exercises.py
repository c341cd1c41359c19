"""The exercises: stubs fail, solutions pass in any style, mistakes are named, notebooks hold what their files say."""

import ast
import builtins
import re
import symtable
from pathlib import Path

import nbformat
import pytest

from s2dc_core import exercises
from s2dc_core.exercises import __main__

ROOT = Path(__file__).resolve().parents[2]
ALL = [exercise for number in exercises.numbers() for exercise in exercises.load(number)]


@pytest.mark.parametrize("exercise", ALL, ids=[exercise.identity for exercise in ALL])
def test_stub_fails_solution_and_other_styles_pass_and_each_planted_mistake_is_named(exercise):
    assert exercises.faults(exercise) == []


def test_notebook_00_has_one_exercise_every_other_one_two_to_four_and_all_have_questions_with_answers():
    assert exercises.numbers() == [f"{number:02d}" for number in range(14)]
    counts = {number: len(exercises.load(number)) for number in exercises.numbers()}
    assert counts.pop("00") == 1
    assert all(2 <= count <= 4 for count in counts.values())
    assert all(len(exercises.explore(number)) >= 2 for number in exercises.numbers())


def names_of(code):
    """The names that code writes at its top level, and those that it reads from there."""

    def read(table):
        inner = set().union(*map(read, table.get_children()))
        own = {symbol for symbol in table.get_symbols() if symbol.is_referenced()}
        return inner | {symbol.get_name() for symbol in own if table.get_type() == "module" or symbol.is_global()}

    whole = symtable.symtable(code, "cell", "exec")
    written = {symbol.get_name() for symbol in whole.get_symbols() if symbol.is_assigned() or symbol.is_imported()}
    return written, read(whole)


def needed(code, later):
    """The names that must hold their values before code, if those of `later` must behind it."""
    for statement in reversed(ast.parse(code).body):
        written, read = names_of(ast.unparse(statement))
        alone = isinstance(
            statement, (ast.Assign, ast.AugAssign, ast.Expr, ast.Assert)
        )  # a loop writes before it reads
        later = (later - written) | (read if alone else read - written)
    return later


@pytest.mark.parametrize("number", exercises.numbers())
def test_exercises_stand_in_their_order_and_leave_the_lessons_names_alone(number):
    """A lesson that goes on below an exercise must find its variables as it left them."""
    notebook = nbformat.read(__main__.notebook_of(number), as_version=4)
    placed = [cell.metadata["exercise"] for cell in notebook.cells if "exercise" in cell.metadata]
    tasks = [part["id"] for part in placed if part["part"] == "task"]
    assert tasks == [exercise.identity for exercise in exercises.load(number)]
    later, spoilt = set(), {}
    for cell in reversed([cell for cell in notebook.cells if cell.cell_type == "code"]):
        if "exercise" in cell.metadata:
            code = re.sub(r"^(from|import) .*", "", cell.source, flags=re.M)  # what both import is the same
            spoilt[cell.id] = names_of(code)[0] & later
        else:
            later = needed(cell.source, later)
    assert not any(spoilt.values()), {name: names for name, names in spoilt.items() if names}


@pytest.mark.parametrize("number", exercises.numbers())
def test_what_an_exercise_uses_of_its_lesson_stands_above_it(number):
    notebook, above = nbformat.read(__main__.notebook_of(number), as_version=4), {*vars(builtins), "display"}
    for cell in (cell for cell in notebook.cells if cell.cell_type == "code"):
        written, read = names_of(cell.source)
        if cell.metadata.get("exercise", {}).get("part") == "use":
            assert read <= above | written, f"{cell.id}: {', '.join(read - above - written)}"
        above |= written


def test_a_name_that_an_exercise_takes_from_the_lesson_is_noticed():
    assert names_of("for k in range(3):\n    a = [b for b in c]")[0] == {"k", "a"}
    assert needed("a = a + 1\nb = 2\nfor k in a:\n    print(k, b)", {"z"}) >= {"a", "z"}
    assert not needed("b = 2\nfor k in range(b):\n    print(k)", {"b"}) & {"b", "k"}


def test_the_table_is_kept_for_whoever_reads_the_run():
    listed, problems = exercises.table()
    folder = ROOT / "outputs"
    folder.mkdir(exist_ok=True)
    (folder / "exercises.md").write_text(listed, encoding="utf-8")
    assert problems == []
    assert len(listed.splitlines()) == len(ALL) + 3


@pytest.mark.parametrize("file", list(__main__.texts()), ids=lambda file: file.name)
def test_notebooks_and_solutions_are_those_of_the_sources(file):
    assert file.read_text(encoding="utf-8") == __main__.texts()[file], "run python -m s2dc_core.exercises write"
