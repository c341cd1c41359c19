"""What every explorer has: the line that says what is shown, and what happens with and without a browser."""

import html
from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock

from ipywidgets import HBox, Layout, VBox, Widget

from s2dc_core.explorer.browser import Browser
from s2dc_core.explorer.controls import message
from s2dc_core.explorer.panel import Panel

WAITING = "The interactive view opens here in JupyterLab, in a browser with WebGL 2."
NO_WEBGL = "This browser has no WebGL 2, which the 3D viewer needs. Here are slices with sliders instead."


class Frame(VBox):
    """A widget that waits for a browser: with WebGL 2 `_start` makes its viewers, else `_sliders` takes their place.

    Attributes:
        panels: the viewers, from left to right; none before a browser with WebGL shows the widget.
        status: the line below the viewers.
        browser: says whether there is WebGL.
    """

    def __init__(self):
        self.panels: list[Panel] = []
        self.status, self.browser, self._one_at_a_time = message(WAITING), Browser(), RLock()
        super().__init__([self.browser, self.status])
        self.add_class("s2dc-explorer")
        self.status.add_class("s2dc-status")
        self.browser.observe(self._meet_browser, "webgl")

    def lay_out(self, controls: Widget, *below: Widget) -> None:
        """Controls, viewers side by side, the line, and what else there is."""
        viewers = HBox(self.panels, layout=Layout(width="100%", grid_gap="6px"))
        self.children = [self.browser, controls, viewers, self.status, *below]

    def _start(self) -> None:
        """Make the viewers and show what is chosen."""
        raise NotImplementedError

    def _sliders(self) -> VBox:
        """What a browser without WebGL shows."""
        raise NotImplementedError

    def _shortcomings(self) -> list[str]:
        """What cannot be shown, and why."""
        return []

    def _meet_browser(self, change: dict) -> None:
        if change["new"] and not self.panels:
            self._start()
        elif change["new"] is False:
            self.panels = []
            told = [NO_WEBGL, *map(html.escape, self._shortcomings())]
            self.children = [self.browser, message("<br>".join(told), wrong=True), self._sliders()]

    def _say(self, text: str, wrong: bool = False) -> None:
        self.status.value = message(text, wrong).value

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """One change at a time. An error becomes a line that says it; what was shown stays, and everything's use.

        JupyterLab hands widgets' messages to a thread of their own, while a cell may call `click` in the main one.
        """
        with self._one_at_a_time:
            try:
                yield
            except (ValueError, IndexError, OSError) as error:
                self._say(html.escape(str(error)), wrong=True)
