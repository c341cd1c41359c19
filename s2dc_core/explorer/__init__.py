"""Click a voxel, see what the encoder thinks: viewers of JupyterLab over pure functions (figure 1B).

`explore` makes the widget. `maps` holds what it shows: all of it can be had without a browser.
"""

from s2dc_core.explorer.widget import Explorer, explore

__all__ = ["Explorer", "explore"]
