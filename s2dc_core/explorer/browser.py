"""The explorer's ear in the browser: it says whether there is WebGL, and takes the pictures that are on the screen."""

from collections.abc import Callable
from pathlib import Path

import anywidget
import traitlets


class Browser(anywidget.AnyWidget):
    """Nothing to see. It is shown before any viewer is made, so that a run without a browser makes none.

    Attributes:
        webgl: None until a browser shows it, then whether that browser has WebGL 2.
    """

    _esm = Path(__file__).with_name("browser.js")
    webgl = traitlets.Bool(None, allow_none=True).tag(sync=True)

    def __init__(self):
        super().__init__()
        self._pictures: dict[int, bytes] = {}
        self._deliver: Callable[[list[bytes]], None] | None = None
        self.on_msg(self._receive)

    def catch_pictures(self, deliver: Callable[[list[bytes]], None]) -> None:
        """Hand over the next picture of every canvas of the explorer, as PNG, once all have come."""
        self._pictures, self._deliver = {}, deliver
        self.send({"type": "catch"})

    def _receive(self, _: object, content: dict, buffers: list) -> None:
        if content.get("type") != "picture" or self._deliver is None:
            return
        self._pictures[content["index"]] = bytes(buffers[0])
        if len(self._pictures) == content["count"]:
            deliver, self._deliver = self._deliver, None
            deliver([self._pictures[index] for index in sorted(self._pictures)])
