"""Sliders hand their values to the figure's function, once they are let go."""

import pytest
from ipywidgets import Dropdown, FloatSlider
from matplotlib.figure import Figure

from s2dc_core.plots.sliders import with_sliders


def test_a_moved_slider_redraws_with_all_values():
    seen = []

    def draw(angle, plane):
        seen.append((angle, plane))
        return Figure()

    angle, plane = FloatSlider(1.0, min=0, max=9), Dropdown(options=["axial", "coronal"])
    box = with_sliders(draw, angle=angle, plane=plane)
    assert seen == [] and not angle.continuous_update and angle.description == "angle"
    angle.value = 4.0
    plane.value = "coronal"
    assert seen == [(4.0, "axial"), (4.0, "coronal")]
    assert box.children[:2] == (angle, plane)


def test_an_error_in_the_figure_is_not_swallowed():
    def draw(angle):
        raise ValueError("no such angle")

    angle = FloatSlider(1.0, min=0, max=9)
    with_sliders(draw, angle=angle)
    with pytest.raises(ValueError, match="no such angle"):
        angle.value = 2.0
