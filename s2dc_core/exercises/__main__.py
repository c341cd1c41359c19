"""``python -m s2dc_core.exercises write`` makes the notebooks' cells and solutions.md; ``table`` tries them all."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import nbformat

from s2dc_core.exercises.pages import solutions_page, with_exercises
from s2dc_core.exercises.sources import SOURCES, numbers, table


def notebook_of(number: str) -> Path:
    """The notebook that the exercises belong to."""
    return next(SOURCES.parent.glob(f"{number}_*.ipynb"))


def texts() -> dict[Path, str]:
    """What each notebook and solutions.md should hold."""
    found = {}
    for number in numbers():
        file = notebook_of(number)
        notebook = nbformat.read(file, as_version=nbformat.NO_CONVERT)
        found[file] = nbformat.writes(nbformat.from_dict(with_exercises(notebook, number))) + "\n"
    found[SOURCES / "solutions.md"] = solutions_page(numbers())
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 1 if an exercise has a fault."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("action", choices=("write", "table"))
    if parser.parse_args(arguments).action == "write":
        for file, text in texts().items():
            file.write_text(text, encoding="utf-8")
        return 0
    listed, problems = table()
    print(listed, *problems, sep="\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
