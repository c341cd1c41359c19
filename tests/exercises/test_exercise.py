"""One exercise: its own faults are noticed, an answer gets words and points."""

from pathlib import Path

import pytest
import torch
from IPython.core.formatters import DisplayFormatter

from s2dc_core import exercises
from s2dc_core.exercises import Exercise, Points, sources
from tests.exercises.whole import square


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
