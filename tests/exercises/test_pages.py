"""Cells and pages made of exercises: where they stand, what is folded away, what nbgrader finds."""

import nbformat
import pytest

from s2dc_core import exercises
from s2dc_core.exercises import pages, sources
from tests.exercises.whole import square


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
