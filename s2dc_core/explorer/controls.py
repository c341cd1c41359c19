"""The explorers' controls and the line that says what is shown."""

from collections.abc import Mapping, Sequence

from ipywidgets import HTML, Button, Checkbox, Dropdown, FloatSlider, HBox, Layout, VBox, Widget

from s2dc_core.data import Scan

COLOUR_MAPS = ("inferno", "viridis", "magma", "plasma", "cividis")
"""Perceptually uniform, and known by these names to NiiVue and to matplotlib."""

SIMILARITY, PCA, LABELS, ANATOMY = "similarity", "PCA colours", "labels", "nothing"
EVERY, JOINED = "all", "joined"


class MapControls(VBox):
    """How a similarity map is made and looks. Each control is an attribute: `level.value` and so on.

    Attributes:
        level: one of the levels, or JOINED for all of them together (a list takes None for no choice).
        threshold: cosine below which the map is clear.
        opacity: of the map.
        colours: one of COLOUR_MAPS.
    """

    def __init__(self, levels: Sequence[int], threshold: float = 0.5):
        joined = [("levels " + " + ".join(map(str, levels)), JOINED)] if len(levels) > 1 else []
        self.level = choice("tokens", [*joined, *((f"level {level}", level) for level in levels)])
        self.threshold = _slider("threshold", threshold)
        self.opacity = _slider("opacity", 0.7)
        self.colours = choice("colours", COLOUR_MAPS)
        super().__init__([HBox(row, layout=Layout(flex_flow="row wrap", grid_gap="2px 6px")) for row in self.rows()])

    def rows(self) -> Sequence[Sequence[Widget]]:
        """The controls as they are laid out."""
        return [[self.level, self.threshold, self.opacity, self.colours]]

    @property
    def chosen_level(self) -> int | None:
        """The level to read, None for all of them together."""
        return None if self.level.value == JOINED else self.level.value

    def look_of_map(self, shown: bool = True) -> dict[str, str | float]:
        """What `Panel.show_map` and `Panel.dress` take; a map that is not shown is clear."""
        opacity = self.opacity.value if shown else 0.0
        return {"threshold": self.threshold.value, "opacity": opacity, "colormap": self.colours.value}


class Controls(MapControls):
    """What can be chosen in the explorer of several encoders, beside the map itself.

    Attributes:
        modality: of the scans that `volume` offers.
        volume: name of the scan.
        over: what lies over the scan: SIMILARITY, PCA, LABELS or ANATOMY; `opacity` is that of the colours too.
        outlines: whether organs are outlined.
        save: the button.
    """

    def __init__(self, scans: Mapping[str, Scan], levels: Sequence[int], first: str):
        self.modalities = {name: modality_of(scan) for name, scan in scans.items()}
        self.modality = choice("modality", [EVERY, *dict.fromkeys(self.modalities.values())])
        self.volume = choice("volume", list(scans), first)
        self.over = choice("over it", [SIMILARITY, PCA, LABELS, ANATOMY])
        self.outlines = Checkbox(True, description="organ outlines", indent=False, layout=Layout(width="130px"))
        self.save = Button(description="Save view and maps", icon="download", layout=Layout(width="180px"))
        super().__init__(levels)
        self.modality.observe(self._offer, "value")

    def rows(self) -> Sequence[Sequence[Widget]]:
        """The controls as they are laid out."""
        return (
            [self.modality, self.volume, self.level, self.over],
            [self.threshold, self.opacity, self.colours, self.outlines, self.save],
        )

    def _offer(self, change: dict) -> None:
        """Offer the scans of the chosen modality; the one that is shown stays if it is one of them."""
        names = [name for name, kind in self.modalities.items() if change["new"] in (EVERY, kind)]
        shown = self.volume.value
        # New options alone would put the first one in the place of the value for a moment.
        with self.volume.hold_trait_notifications():
            self.volume.options = names
            self.volume.value = shown if shown in names else names[0]


class PairControls(MapControls):
    """What can be chosen in the explorer of two patients, beside the map itself.

    Attributes:
        align: whether places count too, after an alignment of the two.
    """

    def __init__(self, levels: Sequence[int], align: bool):
        look = {"indent": False, "layout": Layout(width="200px")}
        self.align = Checkbox(align, description="align the two patients", **look)
        super().__init__(levels, threshold=0.3)  # two patients are less alike than one is to itself

    def rows(self) -> Sequence[Sequence[Widget]]:
        """The controls as they are laid out."""
        return [[self.level, self.threshold, self.opacity, self.colours, self.align]]


def modality_of(scan: Scan) -> str:
    """CT, PET, MR, MR T1 and so on."""
    return scan.modality.upper().replace("_", " ")


def message(text: str, wrong: bool = False) -> HTML:
    """A line of text; what went wrong stands out. The text is HTML: escape what comes from outside."""
    colour = "color:#B3261E;font-weight:600" if wrong else "color:var(--jp-ui-font-color1,#333)"
    return HTML(f'<span style="{colour};line-height:1.5">{text}</span>')


def choice(name: str, options: Sequence, value: object = None) -> Dropdown:
    """A named list to choose from."""
    first = {} if value is None else {"value": value}
    layout = Layout(width="auto", min_width="190px", max_width="340px")
    return Dropdown(
        options=list(options), description=name, layout=layout, style={"description_width": "64px"}, **first
    )


def _slider(name: str, value: float) -> FloatSlider:
    look = {"layout": Layout(width="270px"), "style": {"description_width": "64px"}, "readout_format": ".2f"}
    return FloatSlider(value, min=0.0, max=1.0, step=0.01, description=name, **look)
