"""The exercises of notebooks/exercises: read, checked, and tried themselves."""

import importlib.util
import sys
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from textwrap import dedent
from types import ModuleType

from s2dc_core.exercises.exercise import Exercise, Points

SOURCES = Path(__file__).resolve().parents[2] / "notebooks" / "exercises"
_passed: set[str] = set()


def numbers() -> list[str]:
    """The notebooks that have exercises: "01", "02" and so on."""
    return sorted(path.stem for path in SOURCES.glob("[0-9][0-9].py"))


def load(number: str) -> list[Exercise]:
    """The exercises of a notebook, in order.

    Raises:
        ValueError: if it has none, or one of them is not whole.
    """
    return [value for value in vars(module_of(number)).values() if isinstance(value, Exercise)]


@lru_cache
def module_of(number: str) -> ModuleType:
    """The module notebooks/exercises/NN.py.

    Raises:
        ValueError: as load.
    """
    file = SOURCES / f"{number}.py"
    if not file.is_file():
        known = ", ".join(numbers()) or f"none in {SOURCES}: install the course with pip install -e in its folder"
        raise ValueError(f"there are no exercises of notebook {number!r}; there are {known}")
    spec = importlib.util.spec_from_file_location(f"exercises_{number}", file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # inspect finds the text of a function through it
    spec.loader.exec_module(module)
    found = [value for value in vars(module).values() if isinstance(value, Exercise)]
    for place, exercise in enumerate(found, start=1):
        exercise.identity = f"{number}.{place}"
        if set(exercise.answers) != {"stub", "solution"} or exercise.checker is None:
            raise ValueError(f"{file.name}: {exercise.title!r} needs a stub, a solution and a check")
    return module


def find(identity: str) -> Exercise:
    """The exercise of a notebook and number, such as "02.1".

    Raises:
        ValueError: if it does not exist.
    """
    found = {exercise.identity: exercise for exercise in load(identity.split(".")[0])}
    if identity not in found:
        raise ValueError(f"there is no exercise {identity!r}; there are {', '.join(found)}")
    return found[identity]


def check(identity: str, answer: Callable) -> Points:
    """Print what is wrong with an answer, or that it is right; its points, 0 if it is wrong or not done.

    Args:
        identity: of the exercise, see find.
        answer: the function that was written.
    """
    exercise = find(identity)
    right, message = exercise.verdict(answer)
    (_passed.add if right else _passed.discard)(identity)
    print(f"{identity}: {message}")
    return Points(exercise.points if right else 0, exercise.points)


def passed(identity: str) -> bool:
    """Whether the last answer to an exercise was right."""
    return identity in _passed


def faults(exercise: Exercise) -> list[str]:
    """What is wrong with an exercise itself: stub must fail, solution and other styles pass, each mistake be named.

    Stub and solution are tried as a student would have them: from their text, with nothing but its imports.
    """
    found = []
    for part, wanted in (("stub", "not done yet"), ("solution", "right")):
        space: dict = {}
        exec(compile(exercise.code(part), f"{exercise.identity} {part}", "exec"), space)
        message = exercise.verdict(space[exercise.name])[1]
        if not message.startswith(wanted):
            found.append(f"{exercise.identity}: its {part} is {message}")
    if exercise.answers["solution"].__name__ != exercise.name:
        found.append(f"{exercise.identity}: stub and solution have different names")
    if not exercise.styles:
        found.append(f"{exercise.identity}: no right answer in another style")
    for style in exercise.styles:
        right, message = exercise.verdict(style.answer)
        if not right:
            found.append(f"{exercise.identity}: {style.name!r} is right, and the check says {message!r}")
    if len(exercise.mistakes) < 3:
        found.append(f"{exercise.identity}: {len(exercise.mistakes)} planted mistakes, fewer than three")
    for mistake in exercise.mistakes:
        right, message = exercise.verdict(mistake.answer)
        if right or mistake.says not in message:
            found.append(f"{exercise.identity}, {mistake.name}: the check says {message!r}, not {mistake.says!r}")
    return found


def explore(number: str) -> list[tuple[str, str]]:
    """The questions without a check that a notebook ends with, each with its answer, Markdown.

    Raises:
        ValueError: if a question has no answer.
    """
    found = []
    for question, answer in getattr(module_of(number), "EXPLORE", ()):
        if not answer.strip():
            raise ValueError(f"{number}: no answer to {question.strip()!r}")
        found.append((dedent(question).strip(), dedent(answer).strip()))
    return found


def table() -> tuple[str, list[str]]:
    """A Markdown table of all exercises, of the right answers that the checks take and the mistakes that they name.

    With it come all faults.
    """
    lines = ["| exercise | title | other styles | planted mistakes | caught |", "| --- | --- | --- | --- | --- |"]
    problems, totals = [], [0, 0, 0, 0]
    for exercise in (exercise for number in numbers() for exercise in load(number)):
        wrong = faults(exercise)
        styles, planted = len(exercise.styles), len(exercise.mistakes)
        caught = planted - sum(line.startswith(f"{exercise.identity}, ") for line in wrong)
        listed = ("; ".join(each.name for each in group) for group in (exercise.styles, exercise.mistakes))
        lines.append(f"| {exercise.identity} | {exercise.title} | {' | '.join(listed)} | {caught} of {planted} |")
        totals = [a + b for a, b in zip(totals, (1, styles, planted, caught), strict=True)]
        problems += wrong
    lines.append(f"| {totals[0]} exercises | | {totals[1]} | {totals[2]} | {totals[3]} of {totals[2]} |")
    return "\n".join(lines) + "\n", problems
