"""One viewer: NiiVue with the scan, the similarity map of one encoder, and layers of colour above them."""

import html
from collections.abc import Callable, Mapping, Sequence
from numbers import Real

import nibabel as nib
import numpy as np
from ipyniivue import ColormapType, MultiplanarType, NiiVue, ShowRender, Volume
from ipywidgets import HTML, Layout, VBox
from jaxtyping import Float
from torch import Tensor

from s2dc_core.explorer.maps import as_nifti

DARK = (0.07, 0.07, 0.09, 1.0)
CYAN = (0.0, 0.9, 1.0, 0.8)
HEIGHT = 430
NUDGE = 1e-6
"""Of the volume's extent: too little to be seen, enough to be another place."""


class Panel(VBox):
    """The view of one encoder.

    Attributes:
        title: of the encoder.
        map: the similarity map as NiiVue holds it, None before the first; `map.img` is what the browser draws, the
            first axis fastest.
        wanted: what `map.img` is to hold.
        viewer: the NiiVue widget.
    """

    def __init__(self, title: str, click: Callable[[list[float], "Panel"], None], height: int = HEIGHT):
        """A viewer without a volume.

        Args:
            title: of the encoder.
            click: gets the place in world mm, and the panel, whenever the crosshair is moved by hand.
            height: in pixels.
        """
        self.title, self.map, self.wanted = title, None, np.zeros(0, dtype=np.float32)
        self._volumes: list[Volume] = []
        self._layers: dict[str, Volume] = {}
        self._nudge = NUDGE
        self.viewer = NiiVue(
            height=height,
            back_color=DARK,
            crosshair_color=CYAN,
            crosshair_gap=4.0,
            show_3d_crosshair=True,
            is_colorbar=True,
            is_radiological_convention=True,
            sagittal_nose_left=True,
            multiplanar_layout=MultiplanarType.GRID,
            multiplanar_show_render=ShowRender.ALWAYS,
            multiplanar_pad_pixels=4,
        )
        self.viewer.on_location_change(lambda event: click([float(value) for value in event["mm"][:3]], self))
        heading = HTML(f"<b>{html.escape(title)}</b>", layout=Layout(margin="0 0 0 6px"))
        super().__init__([heading, self.viewer], layout=Layout(flex="1 1 0", min_width="300px"))

    def load(self, anatomy: nib.Nifti1Image, crosshair: Sequence[Real]) -> None:
        """Take another scan, without any map; it is shown with what `show_map` and `show_layers` put over it."""
        self.map, self._layers = None, {}
        base = _volume(anatomy, "anatomy.nii", colormap="gray", cal_min=0.0, cal_max=255.0, colorbar_visible=False)
        self._volumes = [base]
        self.point_at(crosshair)

    def point_at(self, crosshair: Sequence[Real]) -> None:
        """Move the crosshair, given as fractions of the volume's extents."""
        # A place that was sent last is not sent again, though a click may have moved the browser's crosshair since.
        self._nudge = NUDGE - self._nudge
        self.viewer.scene.crosshair_pos = [float(value) + self._nudge for value in crosshair]

    def show_map(self, similarity: Float[Tensor, "x y z"], affine: np.ndarray, **look: str | float) -> None:
        """Put a map in the place of the last one: only the values that changed are sent, nothing is loaded anew.

        Args:
            similarity: on the same token grid until another scan is opened.
            affine: token index to mm.
            look: `threshold`, `opacity`, `colormap`, see `dress`.
        """
        values = np.ascontiguousarray(similarity.numpy(), dtype=np.float32)
        self.wanted = values.ravel(order="F")
        if self.map is None:
            self.map = _volume(
                as_nifti(values, affine),
                "similarity.nii",
                cal_max=1.0,
                colormap_type=ColormapType.ZERO_TO_MAX_TRANSPARENT_BELOW_MIN,
                **_traits(**look),
            )
            self.map.observe(self._check, "img")
            self._volumes.append(self.map)
        else:
            self.map.img = self.wanted

    def _check(self, _: dict) -> None:
        """A browser that opens the notebook (again) loads the first map and reports its values: then send the last."""
        if not np.array_equal(self.map.img, self.wanted):
            self.map.img = self.wanted

    def dress(self, **look: str | float) -> None:
        """Set from which cosine on the map is drawn (`threshold`), its `opacity` and its `colormap`."""
        if self.map is not None:
            for name, value in _traits(**look).items():
                setattr(self.map, name, value)

    def show_layers(self, layers: Mapping[str, tuple[Callable[[], nib.Nifti1Image], Real]]) -> None:
        """Show layers of colours above the map, each with its opacity, and hide all others.

        Args:
            layers: name to what makes the layer, and its opacity. It is made and sent when it is first visible.
        """
        for name, (make, opacity) in layers.items():
            if opacity > 0 and name not in self._layers:
                self._layers[name] = _volume(make(), f"{name}.nii", opacity=float(opacity), colorbar_visible=False)
                self._volumes.append(self._layers[name])
        for name, layer in self._layers.items():
            layer.opacity = float(layers[name][1]) if name in layers else 0.0
        # All at once: the browser loads a list while the next one comes, and would load what both hold twice.
        if self.viewer.volumes != self._volumes:
            self.viewer.load_volumes(self._volumes)


def _traits(threshold: Real, opacity: Real, colormap: str) -> dict[str, str | float | bool]:
    """Of a map that looks like this. Given when it is made: what is set while the browser loads it may be lost."""
    bar = opacity > 0
    return {"cal_min": float(threshold), "opacity": float(opacity), "colormap": colormap, "colorbar_visible": bar}


def _volume(image: nib.Nifti1Image, name: str, **options: object) -> Volume:
    volume = Volume(data=image.to_bytes(), name=name, **options)
    # The browser sends each volume's voxels back in pieces, and the widget gathers the pieces of all volumes in one
    # place, where those of two volumes get mixed up. So each volume gets a place of its own.
    volume._data_handlers = {}
    return volume
