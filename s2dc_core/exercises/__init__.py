"""Exercises that check themselves: what notebooks/exercises/NN.py holds, and what is made from it.

One file a notebook. Each exercise there is a function to write, given five times or more: as the stub that the
student gets, as a solution, as right answers in another style, as mistakes that are easily made, and with the check
that tells them apart:

    softmax = Exercise("Equation 4", "easy", task="Write it.", hints=["Which two axes?"], imports="import torch")

    @softmax.stub
    def my_dual_softmax(similarity, temperature): ...

`python -m s2dc_core.exercises write` makes the notebooks' cells and the page of solutions from them; `table` tries all
stubs, solutions, styles and mistakes.
"""

from s2dc_core.exercises.answers import as_number, as_pair, as_tensor, explained
from s2dc_core.exercises.exercise import Exercise, Points
from s2dc_core.exercises.pages import cells_of, solutions_page, with_exercises, with_solutions
from s2dc_core.exercises.sources import SOURCES, check, explore, faults, load, numbers, passed, table

__all__ = [
    "SOURCES",
    "Exercise",
    "Points",
    "as_number",
    "as_pair",
    "as_tensor",
    "cells_of",
    "check",
    "explained",
    "explore",
    "faults",
    "load",
    "numbers",
    "passed",
    "solutions_page",
    "table",
    "with_exercises",
    "with_solutions",
]
