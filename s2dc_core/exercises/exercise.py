"""One exercise: its stub, its solution, the mistakes that are easily made, and the check that tells them apart."""

import inspect
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

LEVELS = {"easy": 1, "medium": 2, "hard": 3}
"""The points that an exercise of each level is worth."""


class Style(NamedTuple):
    """A right answer that looks unlike the solution: its name, and the answer."""

    name: str
    answer: Callable


class Mistake(NamedTuple):
    """A wrong answer: what is wrong with it, what the check must say of it, and the answer."""

    name: str
    says: str
    answer: Callable


@dataclass
class Exercise:
    """A function to write.

    Attributes:
        title: a few words.
        level: "easy", "medium" or "hard", which decides the points.
        task: what to write, Markdown; the notebook shows it above the stub.
        hints: Markdown each, folded away.
        imports: lines of code that the answer needs, above the stub.
        use: code for the notebook, run there once the check has passed; it may use the notebook's variables.
        behind: id of the notebook's cell that it stands behind; without one it stands in the part at the end.
        identity: notebook and number, "02.1"; given when the file is loaded.
    """

    title: str
    level: str
    task: str
    hints: Sequence[str] = ()
    imports: str = ""
    use: str = ""
    behind: str = ""
    identity: str = ""
    answers: dict[str, Callable] = field(default_factory=dict, repr=False)
    styles: list[Style] = field(default_factory=list, repr=False)
    mistakes: list[Mistake] = field(default_factory=list, repr=False)
    checker: Callable | None = field(default=None, repr=False)

    def __post_init__(self):
        if self.level not in LEVELS:
            raise ValueError(f"level {self.level!r} of {self.title!r}: use one of {', '.join(LEVELS)}")
        texts = ("task", "imports", "use")
        vars(self).update({name: textwrap.dedent(getattr(self, name)).strip() for name in texts})
        self.hints = [textwrap.dedent(hint).strip() for hint in self.hints]

    @property
    def points(self) -> int:
        """What a right answer is worth."""
        return LEVELS[self.level]

    def stub(self, function: Callable) -> Callable:
        """Decorator: what the student gets; it raises NotImplementedError."""
        return self._keep("stub", function)

    def solution(self, function: Callable) -> Callable:
        """Decorator: a right answer."""
        return self._keep("solution", function)

    def check(self, function: Callable) -> Callable:
        """Decorator: takes an answer and raises an AssertionError that says what is wrong with it."""
        self.checker = function
        return function

    def accepted(self, name: str) -> Callable[[Callable], Callable]:
        """Decorator: a right answer in another style, which the check must take.

        Args:
            name: of the style, for the table: "with numpy".
        """

        def keep(function: Callable) -> Callable:
            self.styles.append(Style(name, function))
            return function

        return keep

    def mistake(self, name: str, says: str) -> Callable[[Callable], Callable]:
        """Decorator: a wrong answer.

        Args:
            name: of the mistake, for the table.
            says: words that the check's message must hold.
        """

        def keep(function: Callable) -> Callable:
            self.mistakes.append(Mistake(name, says, function))
            return function

        return keep

    def _keep(self, part: str, function: Callable) -> Callable:
        self.answers[part] = function
        return function

    @property
    def name(self) -> str:
        """Of the function to write."""
        return self.answers["stub"].__name__

    def code(self, part: str) -> str:
        """The text of the stub or of the solution, with the imports above it: what a cell holds."""
        lines = textwrap.dedent(inspect.getsource(self.answers[part])).splitlines()
        start = next(number for number, line in enumerate(lines) if line.startswith("def "))
        body = "\n".join(lines[start:])
        return f"{self.imports}\n\n\n{body}" if self.imports else body

    def verdict(self, answer: Callable) -> tuple[bool, str]:
        """Whether an answer is right, and what to tell whoever wrote it."""
        try:
            note = self.checker(answer)
        except NotImplementedError:
            return False, "not done yet"
        except AssertionError as error:
            return False, f"not yet: {error}"
        except Exception as error:
            cause = behind(error)
            return False, f"not yet: your code ended with {type(error).__name__}: {error}" + (cause and f". {cause}")
        return True, f"right. {note}" if note else "right"


def behind(error: Exception) -> str:
    """What is behind an error of torch that says little to whoever meets it first; "" for any other."""
    told = str(error).lower()
    if "float" in told and "double" in told:
        return "float32 met float64: make what you add with the dtype of what came in, torch.eye(4, dtype=A.dtype)"
    return ""


class Points(float):
    """Points as a number: nbgrader reads the plain text as a score, and a notebook shows a sentence.

    Attributes:
        most: the points of a right answer.
    """

    def __new__(cls, value: float | int, most: float | int) -> "Points":
        points = super().__new__(cls, value)
        points.most = most
        return points

    def __repr__(self) -> str:
        return f"{float(self):g}"

    def _repr_html_(self) -> str:
        yet = "" if self else " so far"
        return f"<small>{self!r} of {self.most:g} point{'s' * (self.most != 1)}{yet}</small>"
