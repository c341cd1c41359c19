"""The explorer of two patients in real JupyterLab: clicks at known places on both sides, what the other one shows."""

import numpy as np
import pytest

from tests.browser.conftest import ROOT, Notebook
from tests.browser.markers import canvas_of, click_times, seen
from tests.browser.scene import MARKERS

pytestmark = pytest.mark.browser


def opened(lab, browser, left, right):
    """A notebook with two patients, run and ready."""
    name = f"{left}_{right}"
    cells = [f"import sys\n\nsys.path.insert(0, {str(ROOT)!r})\nfrom tests.browser.scene import open_pair"]
    cells.append(f'explorer = open_pair({left!r}, {right!r}, "{name}.json")\nexplorer')
    notebook = Notebook(lab, browser, f"{name}.ipynb", cells).open().run()
    notebook.facts(lambda facts: facts["webgl"] and facts["equal"])
    return notebook


@pytest.fixture(scope="module", params=["straight, oblique", "oblique, left-handed"])
def notebook(request, lab, browser, pictures):
    found = opened(lab, browser, *request.param.split(", "))
    found.mirrored = "left-handed" in request.param
    yield found
    found.page.locator(".s2dc-explorer").screenshot(path=pictures / f"pair_{found.path.stem}.png")
    found.close()


def click(notebook, marker, number):
    """Click at a marker on the left (0) or right (1), and see that the other side finds it and shows it."""
    canvas_of(notebook, number).click(position=seen(notebook, marker, number))
    side = ("left", "right")[number]

    def near(voxel, reach):
        return np.abs(np.subtract(voxel, MARKERS[marker])).max() <= reach

    def known(facts):
        return facts["clicked"] == side and near(facts["voxel"], 1) and facts["equal"] and near(facts["found"], 4)

    return notebook.facts(known)


def toggle(notebook):
    notebook.page.locator(".s2dc-explorer input[type=checkbox]").click()


def test_clicks_left_and_right_find_the_same_place_on_the_other_side(notebook):
    """Each click lies in a plane of the place that the last one found there."""
    for marker, number in (("A", 0), ("B", 1), ("C", 0), ("B", 1), ("A", 0)):
        facts = click(notebook, marker, number)
        assert "cosine 1.00" in facts["status"] and "not mutual" not in facts["status"]
    notebook.page.wait_for_timeout(800)
    assert notebook.facts()["clicked"] == "left", "the crosshair that a match moves is no click"


def test_the_checkbox_switches_the_alignment(notebook):
    """Nobody is the mirror image of somebody else: there no alignment is found, and it says so."""
    toggle(notebook)
    facts = notebook.facts(lambda facts: facts["align"] and facts["equal"] and "align" in facts["status"])
    assert ("no alignment was found" if notebook.mirrored else "aligned by") in facts["status"]
    click(notebook, "B", 1)
    toggle(notebook)
    facts = notebook.facts(lambda facts: not facts["align"] and facts["equal"])
    notebook.facts(lambda facts: "align" not in facts["status"])


def test_a_click_in_air_shows_no_map(notebook):
    """The box begins four voxels from the volume's rim: what lies outside of it is air."""
    click(notebook, "A", 0)
    notebook.page.locator(".s2dc-explorer .widget-slider", has_text="opacity").locator(".widget-readout").click()
    for key in ("Control+a", "0", ".", "7", "Enter"):
        notebook.page.keyboard.press(key)
    notebook.facts(lambda facts: facts["opacity"] == [0, 0.7])
    canvas = canvas_of(notebook).bounding_box()
    for part in np.arange(0.01, 0.4, 0.01):  # from beside the volume into it
        canvas_of(notebook).click(position={"x": part * canvas["width"], "y": 0.25 * canvas["height"]})
        notebook.page.wait_for_timeout(500)
        if notebook.facts()["air"]:
            break
    facts = notebook.facts(lambda facts: facts["air"] and facts["opacity"] == [0, 0])
    assert "lies in air: click in the body" in facts["status"]
    notebook.page.wait_for_timeout(1000)  # until the map is gone, which tints the greys
    click(notebook, "B", 1)  # the viewers still stand where the last match was


def test_how_long_a_click_takes(lab, browser, pictures):
    """From the mouse to the other patient's map in the page, two scans of 96 x 96 x 96 voxels, 24 x 24 x 24 tokens."""
    notebook = opened(lab, browser, "large", "other")
    click_times(notebook, lambda facts: facts["equal"] or facts["air"], pictures / "click_to_match.json")
    notebook.page.locator(".s2dc-explorer").screenshot(path=pictures / "pair_large.png")
    notebook.close()
