"""The paper's tables: they are copied whole, and what can be checked with nothing but themselves."""

import re
from statistics import mean

import numpy as np
import pytest

from s2dc_core.library.paper import AVERAGE, PRINTED, RETRAINED, paper_table
from s2dc_core.methods import METHODS

ORGANS = ["Spl", "RKid", "LKid", "Gall", "Eso", "Liv", "Sto", "Aor", "IVC", "Veins", "Pan", "RAG", "LAG"]


def test_table_1_has_twenty_rows_of_thirteen_organs():
    table = paper_table(1)
    assert list(table) == list(PRINTED) and len(table) == 20
    assert all(list(row) == [*ORGANS, AVERAGE] for row in table.values())
    assert table["s2dc"][AVERAGE] == 84.14 == max(row[AVERAGE] for row in table.values())
    assert set(METHODS) <= set(PRINTED) and set(RETRAINED) <= set(METHODS)


def test_which_averages_are_not_the_mean_of_their_organs():
    gaps = {name: row[AVERAGE] - mean(row[organ] for organ in ORGANS) for name, row in paper_table(1).items()}
    off = {name for name, gap in gaps.items() if abs(gap) > 0.03}
    assert off == {"unetr_scratch", "mae3d", "rubik", "swinmm", "gl_mae", "gvsl"}
    assert gaps["gvsl"] == pytest.approx(0.72, abs=0.006)


def test_rows_that_are_another_row_times_a_number():
    table = {name: np.array([row[organ] for organ in ORGANS]) for name, row in paper_table(1).items()}
    ratios = table["simmim"] / table["simclr"]
    assert (np.abs(ratios - 1.02985) < 1e-4).sum() == 8
    assert ratios.min() > 1.0045 and ratios.max() < 1.0505
    close = table["gl_mae"] / table["swinmm"]
    assert (close > 1.0014).all() and (close < 1.0036).all()


def test_the_other_tables_are_those_of_the_retrained():
    for number, columns in {3: 9, 4: 3, 8: 3}.items():
        table = paper_table(number)
        assert set(table) - {"swin_unetr_scratch"} <= {"s2dc", *RETRAINED}
        assert {len(row) for row in table.values()} == {columns}
        best = max(table, key=lambda name: list(table[name].values())[-1])
        assert best == "s2dc"
    of = paper_table(3)["s2dc"]
    assert of["BraTS"] == pytest.approx(mean([of["WT"], of["TC"], of["ET"]]), abs=0.01)


@pytest.mark.parametrize("number", [0, 2, 7])
def test_another_table_is_refused(number):
    with pytest.raises(ValueError, match=re.escape("table must be one of 1, 3, 4, 8, got")):
        paper_table(number)
