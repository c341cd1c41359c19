"""Exercises: stubs fail, solutions pass, planted mistakes are named, and the notebooks hold what their file says."""

from pathlib import Path

import nbformat
import pytest
import torch

from s2dc_core import exercises
from s2dc_core.exercises import Exercise, Points, __main__, pages, sources

ROOT = Path(__file__).resolve().parents[2]
ALL = [exercise for number in exercises.numbers() for exercise in exercises.load(number)]


@pytest.mark.parametrize("exercise", ALL, ids=[exercise.identity for exercise in ALL])
def test_stub_fails_solution_passes_and_each_planted_mistake_is_named(exercise):
    assert exercises.faults(exercise) == []


def test_every_notebook_from_01_on_has_two_to_four_exercises():
    assert exercises.numbers() == [f"{number:02d}" for number in range(1, 13)]
    assert all(2 <= len(exercises.load(number)) <= 4 for number in exercises.numbers())


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


def test_points_are_shown_as_nbgrader_reads_them():
    assert [repr(Points(value)) for value in (0, 1, 3)] == ["0", "1", "3"]


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
    monkeypatch.setattr(pages, "module_of", lambda number: type("Module", (), {"EXPLORE": "- And 1.5?"}))
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
    moved.behind = "nowhere"
    with pytest.raises(ValueError, match="notebook 99 has no cell 'nowhere'"):
        exercises.with_exercises(lesson, "99")


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
