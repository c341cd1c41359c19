"""Where the marked cubes are seen on a viewer's canvas, and how long a click takes."""

import io
import json

import numpy as np
from matplotlib.pyplot import imread
from scipy import ndimage

from tests.browser.scene import GREYS


def canvas_of(notebook, number=0):
    """A viewer's canvas."""
    return notebook.page.locator(".s2dc-explorer canvas").nth(number)


def place_of(notebook, marker, number=0):
    """Where a marker is seen on a canvas, in pixels: the middle of the largest patch of its grey, or None."""
    picture = imread(io.BytesIO(canvas_of(notebook, number).screenshot()), format="png")[..., :3] * 255
    same = (np.abs(picture - GREYS[marker]).max(-1) <= 9) & (np.ptp(picture, axis=-1) <= 6)
    patches, count = ndimage.label(ndimage.binary_opening(same, np.ones((5, 5))))
    if not count:
        return None
    largest = 1 + int(np.argmax(ndimage.sum_labels(same, patches, range(1, count + 1))))
    y, x = ndimage.center_of_mass(patches == largest)
    return {"x": float(x), "y": float(y)}


def seen(notebook, marker, number=0):
    """The place of a marker, once the viewer has drawn it."""
    for _ in range(100):
        if place := place_of(notebook, marker, number):
            return place
        notebook.page.wait_for_timeout(100)
    raise AssertionError(f"marker {marker} is not to be seen")


CLICK_TO_MAP = """
() => ({promise: new Promise((answer) => {
  const canvas = document.querySelector(".s2dc-explorer canvas");
  const status = document.querySelector(".s2dc-explorer .s2dc-status");
  let began = null;
  canvas.addEventListener("mousedown", () => { began = performance.now(); }, {once: true, capture: true});
  new MutationObserver((_, observer) => {
    if (began === null) return;
    observer.disconnect();
    answer(performance.now() - began);
  }).observe(status, {childList: true, subtree: true, characterData: true});
})})
"""
"""The line below the controls is sent after the maps, so they are in the page once it has changed."""


def click_times(notebook, ready, path, most=0.42):
    """From the mouse on the first canvas to the new maps in the page, in ms, twenty times; written as JSON and printed.

    Args:
        ready: whether the kernel's facts are as they shall be after a click.
        path: of the file.
        most: part of the canvas, along both axes, that is clicked in.
    """
    box, draw, times = canvas_of(notebook).bounding_box(), np.random.default_rng(0), []
    for x, y in draw.uniform(0.2, most, (20, 2)):
        page = notebook.page
        waiting = page.evaluate_handle(CLICK_TO_MAP)
        page.mouse.click(box["x"] + x * box["width"], box["y"] + y * box["height"])
        times.append(waiting.evaluate("(waiting) => waiting.promise"))
        notebook.facts(ready)
        page.wait_for_timeout(1000)  # somebody looks; meanwhile the chart is drawn, once
    median, high = np.quantile(times, (0.5, 0.95)).tolist()
    found = {"clicks": len(times), "median ms": round(median), "95th percentile ms": round(high)}
    path.write_text(json.dumps(found | {"ms": [round(value, 1) for value in times]}))
    print(found)
