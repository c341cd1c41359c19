"""The explorer in real JupyterLab: a click at a known place, the anchor and the maps that the kernel makes of it."""

import re

import nibabel as nib
import numpy as np
import pytest
from matplotlib.pyplot import imread

from s2dc_core.features import token_affine
from tests.browser.conftest import ROOT, Notebook
from tests.browser.markers import canvas_of, click_times, seen
from tests.browser.scene import MARKERS, START, affines

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def notebook(lab, browser):
    """A notebook with the explorer, run and ready."""
    cells = [f"import sys\n\nsys.path.insert(0, {str(ROOT)!r})\nfrom tests.browser.scene import open_explorer"]
    opened = Notebook(lab, browser, "clicks.ipynb", [*cells, 'explorer = open_explorer("clicks.json")\nexplorer'])
    opened.open().run()
    opened.facts(lambda facts: facts["webgl"] and ready(facts))
    yield opened
    opened.close()


def ready(facts):
    """Whether each viewer's map equals the pure function's, and the anchor in it is like itself."""
    maps = facts["maps"].values()
    return len(maps) == 2 and all(one["equal"] and abs(one["self"] - 1) < 1e-5 for one in maps)


def choose(notebook, name, option):
    """Choose an option of one of the explorer's lists."""
    box = notebook.page.locator(".s2dc-explorer .widget-dropdown", has_text=name)
    box.locator("select").select_option(label=option)


def click(notebook, marker):
    """Click at a marker, and see that the anchor lies within a voxel of it and that every map is right."""
    canvas_of(notebook).click(position=seen(notebook, marker))

    def near(facts):
        return np.abs(np.subtract(facts["voxel"], MARKERS[marker])).max() <= 1

    return notebook.facts(lambda facts: near(facts) and ready(facts))


@pytest.fixture(autouse=True)
def picture(notebook, pictures, request):
    """A picture of the page when a test has ended."""
    yield
    name = re.sub(r"\W+", "_", request.node.name.removeprefix("test_")).strip("_")
    notebook.page.locator(".s2dc-explorer").screenshot(path=pictures / f"{name}.png")


def clear(notebook):
    """Nothing over the scan, so that the greys are to be seen."""
    choose(notebook, "over it", "nothing")
    box = notebook.page.locator(".s2dc-explorer input[type=checkbox]")
    if box.is_checked():
        box.click()


@pytest.mark.parametrize("volume", list(affines()))
def test_a_click_reaches_its_voxel_in_every_plane(notebook, volume):
    clear(notebook)
    choose(notebook, "volume", volume)
    notebook.facts(lambda facts: facts["volume"] == volume and facts["voxel"] == list(START) and ready(facts))
    for marker in MARKERS:
        click(notebook, marker)


def test_another_level_gives_the_maps_of_that_level(notebook):
    choose(notebook, "over it", "similarity")
    for label, level in (("level 1", 1), ("level 2", 2), ("levels 1 + 2", None)):
        choose(notebook, "tokens", label)
        facts = notebook.facts(lambda facts, level=level: facts["level"] == level and ready(facts))
        assert "Sharpe" not in facts["status"] and "anchor" in facts["status"]


@pytest.mark.parametrize(
    ("volume", "says"),
    [("no affine", "no spatial affine"), ("4D", "4 dimensions, not 3: choose one frame")],
    ids=["no affine", "4D"],
)
def test_a_scan_that_cannot_be_shown_says_why_and_the_last_one_stays(notebook, volume, says):
    choose(notebook, "volume", "straight")
    notebook.facts(lambda facts: facts["volume"] == "straight" and ready(facts))
    choose(notebook, "volume", volume)
    facts = notebook.facts(lambda facts: says in facts["status"])
    assert facts["volume"] == "straight"


def test_labels_on_another_grid_are_left_out_and_said(notebook):
    choose(notebook, "volume", "other labels")
    facts = notebook.facts(lambda facts: facts["volume"] == "other labels" and "8, 8, 8" in facts["status"])
    assert "resample" in facts["status"]
    choose(notebook, "volume", "straight")


def test_a_click_beside_the_volume_leaves_the_anchor(notebook):
    before = notebook.facts(lambda facts: facts["volume"] == "straight" and ready(facts))
    box = canvas_of(notebook).bounding_box()
    canvas_of(notebook).click(position={"x": box["width"] / 2, "y": 3})
    notebook.page.wait_for_timeout(600)
    assert notebook.facts(ready)["voxel"] == before["voxel"]


def test_view_and_maps_are_saved(notebook, lab):
    notebook.page.click("text=Save view and maps")
    facts = notebook.facts(lambda facts: len(facts["saved"]) >= 3)
    stem = f"straight_{'-'.join(map(str, facts['voxel']))}"
    assert facts["saved"] == [f"{stem}.png", f"{stem}_s2dc.nii.gz", f"{stem}_untrained.nii.gz"]
    found = nib.load(lab.folder / "saved" / f"{stem}_s2dc.nii.gz")
    assert np.allclose(found.affine, token_affine(affines()["straight"], (4, 4, 4)))
    cell = tuple(v // 4 for v in facts["voxel"])
    assert abs(found.get_fdata()[cell] - 1) < 1e-5
    picture = imread(lab.folder / "saved" / f"{stem}.png")
    assert picture.shape[0] > 200 and picture[..., :3].std() > 0.05


def test_a_notebook_opened_again_goes_on(notebook):
    clear(notebook)
    notebook.page.keyboard.press("Control+s")
    notebook.page.wait_for_timeout(1500)
    notebook.close()
    notebook.open()
    notebook.page.wait_for_selector(".s2dc-explorer canvas", timeout=60_000)
    choose(notebook, "volume", "oblique")
    notebook.facts(lambda facts: facts["volume"] == "oblique" and facts["voxel"] == list(START) and ready(facts))
    for marker in MARKERS:
        click(notebook, marker)


def test_how_long_a_click_takes(notebook, pictures):
    """From the mouse to the new maps in the page, at 96 x 96 x 96 voxels with 24 x 24 x 24 tokens, two encoders."""
    choose(notebook, "over it", "similarity")
    choose(notebook, "volume", "large")
    notebook.facts(lambda facts: facts["volume"] == "large" and ready(facts))
    click_times(notebook, ready, pictures / "click_to_map.json")
