"""Exercises: stubs fail, solutions pass in any style, mistakes are named, and notebooks hold what their file says."""

import ast
import builtins
import re
import symtable
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from IPython.core.formatters import DisplayFormatter

from s2dc_core import exercises
from s2dc_core.exercises import Exercise, Points, __main__, pages, sources

ROOT = Path(__file__).resolve().parents[2]
ALL = [exercise for number in exercises.numbers() for exercise in exercises.load(number)]


@pytest.mark.parametrize("exercise", ALL, ids=[exercise.identity for exercise in ALL])
def test_stub_fails_solution_and_other_styles_pass_and_each_planted_mistake_is_named(exercise):
    assert exercises.faults(exercise) == []


def test_notebook_00_has_one_exercise_every_other_one_two_to_four_and_all_have_questions_with_answers():
    assert exercises.numbers() == [f"{number:02d}" for number in range(13)]
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


def square():
    """A whole exercise."""
    made = Exercise(
        "A square", "easy", task="Write the square of a number.", hints=["Twice the same."], identity="99.1"
    )

    @made.stub
    def my_square(x):
        raise NotImplementedError

    @made.solution
    def my_square(x):
        return x * x

    @made.accepted("a power")
    def my_square(x):
        return x**2

    @made.mistake("double", "doubled")
    def my_square(x):
        return 2 * x

    @made.mistake("cube", "one factor too many")
    def my_square(x):
        return x**3

    @made.mistake("sign", "negative")
    def my_square(x):
        return -x * x

    @made.check
    def check(answer):
        assert answer(3) != 6, "doubled, not squared"
        assert answer(3) != 27, "one factor too many"
        assert answer(3) > 0, "a square is never negative"
        assert answer(3) == 9, "the square of 3 is 9"
        return "9 it is."

    return made


def test_a_whole_exercise_has_no_fault():
    assert exercises.faults(square()) == []


@pytest.mark.parametrize(
    ("fault", "change"),
    [
        ("its stub is right", lambda e: e.answers.update(stub=e.answers["solution"])),
        ("its solution is not done yet", lambda e: e.answers.update(solution=e.answers["stub"])),
        ("2 planted mistakes", lambda e: e.mistakes.pop()),
        ("no right answer in another style", lambda e: e.styles.clear()),
        ("'a power' is right, and", lambda e: e.styles.append(e.styles[0]._replace(answer=lambda x: x + 6.001))),
        ("not 'tripled'", lambda e: e.mistakes.append(e.mistakes[0]._replace(says="tripled"))),
        ("the check says 'right", lambda e: e.mistakes.append(e.mistakes[0]._replace(answer=lambda x: x * x))),
        ("'tripled'", lambda e: e.mistakes.append(e.mistakes[0]._replace(says="tripled", answer=lambda x: {}[x]))),
    ],
)
def test_a_fault_of_an_exercise_is_noticed(fault, change):
    exercise = square()
    change(exercise)
    assert fault in "; ".join(exercises.faults(exercise))


def test_a_solution_that_needs_more_than_its_imports_is_noticed():
    exercise = square()

    @exercise.solution
    def my_square(x):
        return Path and x * x

    assert "its solution is not yet: your code ended with NameError" in "; ".join(exercises.faults(exercise))


def test_an_answer_gets_words_and_points(monkeypatch, capsys):
    monkeypatch.setattr(sources, "load", lambda number: [square()])
    assert exercises.check("99.1", lambda x: x * x) == 1 and exercises.passed("99.1")
    assert exercises.check("99.1", lambda x: 2 * x) == 0 and not exercises.passed("99.1")
    assert exercises.check("99.1", square().answers["stub"]) == 0
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("99.1")]  # pytest adds its own
    assert said == ["99.1: right. 9 it is.", "99.1: not yet: doubled, not squared", "99.1: not done yet"]
    assert exercises.check("99.1", lambda: 1) == 0 and "TypeError" in capsys.readouterr().out
    with pytest.raises(ValueError, match="no exercise '99.2'; there are 99.1"):
        exercises.check("99.2", lambda x: x)


def test_nbgrader_reads_points_as_a_number_and_a_reader_sees_a_sentence():
    shown = [DisplayFormatter().format(points)[0] for points in (Points(0, 1), Points(2, 2))]
    assert [float(formats["text/plain"]) for formats in shown] == [0, 2]
    assert [formats["text/html"] for formats in shown] == [
        "<small>0 of 1 point so far</small>",
        "<small>2 of 2 points</small>",
    ]


def test_what_torch_says_of_two_dtypes_is_put_into_plain_words():
    def mixed(x):
        return torch.eye(2) @ torch.eye(2, dtype=torch.float64)

    right, message = square().verdict(mixed)
    assert not right and "your code ended with RuntimeError" in message and "float32 met float64" in message
    assert "float32" not in square().verdict(lambda x: {}[x])[1]


def test_what_is_no_exercise_is_refused():
    with pytest.raises(ValueError, match="no exercises of notebook '42'"):
        exercises.load("42")
    with pytest.raises(ValueError, match="level 'tough'"):
        Exercise("A", "tough", "")


def test_an_exercise_that_is_not_whole_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(sources, "SOURCES", tmp_path)
    text = 'from s2dc_core.exercises import Exercise\na = Exercise("Half", "easy", "")\n'
    (tmp_path / "77.py").write_text(text)
    with pytest.raises(ValueError, match="'Half' needs a stub, a solution and a check"):
        exercises.load("77")


@pytest.fixture
def lesson(monkeypatch):
    """A notebook with an old part of exercises."""
    monkeypatch.setattr(pages, "load", lambda number: [square()])
    monkeypatch.setattr(pages, "explore", lambda number: [("And 1.5?", "2.25."), ("And 0?", "0.")])
    words = ["# Lesson", "## Exercise\n\nOld.", "**2** older", "## What to take away\n\n- It grows."]
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(text) for text in words])


def test_the_part_between_the_headings_is_replaced_and_only_that(lesson):
    changed = exercises.with_exercises(lesson, "99")
    parts = [cell["metadata"].get("exercise", {}).get("part") for cell in changed["cells"]]
    assert parts == [None, "start", "task", "stub", "check", "explore", None]
    assert changed["cells"][0] == lesson["cells"][0] and changed["cells"][-1] == lesson["cells"][-1]
    assert exercises.with_exercises(changed, "99") == changed
    nbformat.validate(nbformat.from_dict(changed))
    stub, check = changed["cells"][3:5]
    assert stub["source"] == "def my_square(x):\n    raise NotImplementedError"
    assert check["source"].endswith('exercises.check("99.1", my_square)')
    assert stub["metadata"]["nbgrader"]["solution"] and not stub["metadata"]["nbgrader"]["grade"]
    assert check["metadata"]["nbgrader"] == {
        "grade": True,
        "grade_id": "ex-99-1-check",
        "locked": True,
        "points": 1,
        "schema_version": 3,
        "solution": False,
        "task": False,
    }


def test_an_exercise_stands_behind_the_cell_that_it_names(lesson, monkeypatch):
    moved = square()
    moved.behind = lesson["cells"][0]["id"]
    monkeypatch.setattr(pages, "load", lambda number: [moved])
    changed = exercises.with_exercises(exercises.with_exercises(lesson, "99"), "99")
    parts = [cell["metadata"].get("exercise", {}).get("part") for cell in changed["cells"]]
    assert parts == [None, "task", "stub", "check", "start", "explore", None]
    assert changed["cells"][4]["source"].startswith("## Exercises\n\nThe exercises stand above")
    assert pages.HOW in changed["cells"][1]["source"]
    moved.behind = "nowhere"
    with pytest.raises(ValueError, match="notebook 99 has no cell 'nowhere'"):
        exercises.with_exercises(lesson, "99")


@pytest.mark.parametrize("goes_on", ["## Next", "**Predict first.** How much?"])
def test_no_exercise_stands_between_a_question_and_its_answer(lesson, monkeypatch, goes_on):
    """A cell that reads a figure and goes on with the next section is cut in two, once."""
    moved = square()
    moved.behind = lesson["cells"][0]["id"]
    lesson["cells"][0]["source"] = f"Read it so.\n\nAnd so.\n\n{goes_on}\n\nMore."
    monkeypatch.setattr(pages, "load", lambda number: [moved])
    changed = nbformat.from_dict(exercises.with_exercises(lesson, "99"))
    assert [changed["cells"][place]["source"] for place in (0, 4)] == ["Read it so.\n\nAnd so.", f"{goes_on}\n\nMore."]
    assert changed["cells"][4]["id"] == f"{moved.behind}-on"
    assert exercises.with_exercises(changed, "99") == changed
    nbformat.validate(changed)


def test_answers_to_questions_are_folded_away(lesson):
    text = exercises.with_exercises(lesson, "99")["cells"][-2]["source"]
    assert text.startswith("**To explore**\n\n1. And 1.5?\n\n<details><summary>Answer</summary>\n\n2.25.\n\n</details>")
    assert "2. And 0?" in text and text in exercises.solutions_page(["99"])


def test_a_question_without_an_answer_is_refused(monkeypatch):
    monkeypatch.setattr(sources, "module_of", lambda number: type("Module", (), {"EXPLORE": [("Why?", " ")]}))
    with pytest.raises(ValueError, match=r"99: no answer to 'Why\?'"):
        exercises.explore("99")


def test_a_teachers_copy_holds_the_solutions(lesson, monkeypatch):
    monkeypatch.setattr(sources, "load", lambda number: [square()])
    solved = exercises.with_solutions(exercises.with_exercises(lesson, "99"))
    assert solved["cells"][3]["source"] == "def my_square(x):\n    return x * x"


@pytest.mark.parametrize("drop", [1, 3])
def test_a_notebook_without_a_heading_is_refused(lesson, drop):
    del lesson["cells"][drop]
    with pytest.raises(ValueError, match="notebook 99 needs one cell that begins '## Exercise'"):
        exercises.with_exercises(lesson, "99")


def test_the_page_of_solutions_folds_them_away(lesson):
    page = exercises.solutions_page(["99"])
    folded = page.split("<details><summary>Solution</summary>")[1].split("</details>")[0]
    assert "return x * x" in folded and "return x * x" not in page.replace(folded, "")


def test_an_answer_is_brought_to_a_tensor_or_a_number_once_it_is_one():
    grown = torch.ones(2, requires_grad=True)
    assert exercises.as_tensor(grown, (2,), "a vector").dtype == torch.float64
    assert exercises.as_tensor([1, 2], (2,), "a vector").tolist() == [1, 2]
    assert exercises.as_tensor([1, float("nan")], (2,), "a vector", nan=True).isnan().tolist() == [False, True]
    assert exercises.as_number(grown.sum(), "a sum") == 2


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (None, r"a vector is wanted, \[2\]; yours is a NoneType"),
        (torch.ones(2, 1), r"yours has the shape \[2, 1\]"),
        ([1, float("nan")], "holds NaN"),
        ([1, float("inf")], "holds infinity"),
    ],
)
def test_what_is_no_such_tensor_is_told(found, says):
    with pytest.raises(AssertionError, match=says):
        exercises.as_tensor(found, (2,), "a vector")


def test_an_answer_of_two_parts_is_one_or_is_told():
    assert exercises.as_pair((1, "b"), "parts") == (1, "b")
    for wrong in (None, 3, (1, 2, 3)):
        with pytest.raises(AssertionError, match="two numbers are wanted"):
            exercises.as_pair(wrong, "numbers are wanted")


@pytest.mark.parametrize(("found", "says"), [(None, "a NoneType"), ([1, 2], "a list"), (float("inf"), "yours is inf")])
def test_what_is_no_number_is_told(found, says):
    with pytest.raises(AssertionError, match=says):
        exercises.as_number(found, "a Dice")


@pytest.mark.parametrize(
    "given",
    [
        {3, 1},
        (torch.tensor(1), torch.tensor(3.0)),
        [np.float32(1), 3],
        np.array([3, 1])[::-1],
        pd.Series([1, 3], index=["a", "b"]),
    ],
    ids=["set", "tensors", "list", "turned", "pandas"],
)
def test_a_tensor_may_come_in_any_dress(given):
    assert exercises.as_tensor(given, (2,), "a vector").tolist() == [1, 3]


def test_none_in_a_list_is_nan_where_there_may_be_one():
    assert exercises.as_tensor([1, None], (2,), "a vector", nan=True).isnan().tolist() == [False, True]
    with pytest.raises(AssertionError, match="yours holds None"):
        exercises.as_tensor([1, None], (2,), "a vector")


def test_an_error_of_torch_is_explained_where_its_cause_is_known():
    with (
        pytest.raises(AssertionError, match="lies across .*must match the size"),
        exercises.explained("match", "lies across"),
    ):
        torch.ones(2, 3) + torch.ones(3, 2)
    with pytest.raises(RuntimeError, match="must match the size"), exercises.explained("dtype", "lies across"):
        torch.ones(2, 3) + torch.ones(3, 2)
