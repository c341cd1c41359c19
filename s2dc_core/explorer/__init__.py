"""Click a voxel, see what the encoder thinks: viewers of JupyterLab over pure functions (figure 1B).

`explore` makes the widget of one patient by several encoders, `explore_pair` that of the same place in two patients.
`maps` and `match` hold what they show: all of it can be had without a browser.
"""

from s2dc_core.explorer.match import PairMatch, match_at
from s2dc_core.explorer.pair import PairExplorer, explore_pair
from s2dc_core.explorer.widget import Explorer, explore

__all__ = ["Explorer", "PairExplorer", "PairMatch", "explore", "explore_pair", "match_at"]
