"""Sliders beside a figure: a notebook draws the figure once by itself, and this draws it anew when one is moved."""

from collections.abc import Callable

from IPython.display import clear_output, display
from ipywidgets import Output, VBox, Widget
from matplotlib.figure import Figure


def with_sliders(draw: Callable[..., Figure], **controls: Widget) -> VBox:
    """Controls with a figure below them that is redrawn when one is let go; empty until then.

    ``interact`` would draw at once and capture that figure through the kernel's messages, which can leave a headless
    run waiting; so the notebook draws its static figure in a cell of its own.

    Args:
        draw: takes the controls' values by name and returns a figure.
        controls: ipywidgets by the name of draw's argument.
    """
    picture = Output()

    def redraw(_: dict) -> None:
        with picture:
            clear_output(wait=True)
            display(draw(**{name: control.value for name, control in controls.items()}))

    for name, control in controls.items():
        control.description = control.description or name
        if hasattr(control, "continuous_update"):
            control.continuous_update = False
        control.observe(redraw, names="value")
    return VBox([*controls.values(), picture])
