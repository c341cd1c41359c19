"""The explorer: click a voxel, and see in every encoder's viewer which other tokens are like the one that holds it."""

import asyncio
import html
import io
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import nibabel as nib
from ipywidgets import Image, IntSlider, Layout, VBox
from matplotlib.figure import Figure
from torch import Tensor, nn

from s2dc_core.data import Scan
from s2dc_core.explorer import controls as ui
from s2dc_core.explorer.frame import Frame
from s2dc_core.explorer.maps import (
    Look,
    Point,
    TokenMaps,
    anatomy,
    as_nifti,
    crosshair_at,
    first_anchor,
    label_colours,
    label_problem,
    pca_colours,
    place_of,
    scan_problem,
    usable_label,
    voxel_at,
    words_of,
)
from s2dc_core.explorer.panel import Panel
from s2dc_core.features import TokenMap
from s2dc_core.plots import HeatmapRow, display_window, label_words, plot_anchor, plot_heatmap_rows, plot_pictures
from s2dc_core.plots.sliders import with_sliders

MOST = 4
PATIENCE = 0.15
"""Seconds without another click before the chart is drawn: maps come first, and dragging stays fluent."""


class Explorer(Frame):
    """The widget that `explore` returns.

    Attributes:
        volume: name of the scan that is shown.
        voxel: the anchor.
        looks: title of each encoder to what it makes of the anchor; empty before the first map.
        panels: the viewers, in the order of the encoders; none before a browser with WebGL shows the widget.
        controls: see `controls.Controls`.
        folder: where `save` writes.
    """

    def __init__(self, maps: TokenMaps, folder: Path):
        self.maps, self.folder = maps, folder
        self.problems = {name: scan_problem(scan) for name, scan in maps.scans.items()}
        self.volume = next(name for name, problem in self.problems.items() if problem is None)
        self.voxel = first_anchor(self.scan)
        self.looks: dict[str, Look] = {}
        self.controls = ui.Controls(maps.scans, maps.levels, self.volume)
        self.chart, self._pending = Image(format="png", layout=Layout(max_width="1100px")), None
        super().__init__()

    @property
    def scan(self) -> Scan:
        """The scan that is shown."""
        return self.maps.scans[self.volume]

    def figure(self, plane: str = "axial") -> Figure:
        """The same as a picture that does not move: the anchor's slice with the map of every encoder."""
        looks, label = self.look(), usable_label(self.scan)
        number = 0 if label is None else int(label[self.voxel])
        row = HeatmapRow(
            self.volume,
            self.scan.raw,
            self.scan.affine,
            display_window(self.scan.modality),
            place_of(self.voxel, self.scan.affine),
            (label == number) * number if number else None,
            {title: (one.similarity, one.affine) for title, one in looks.items()},
            {title: f"Sharpe ratio {one.ratio:.2f}" for title, one in looks.items()},
            plane,
        )
        return plot_heatmap_rows([row], label_words(self._where()))

    def look(self) -> dict[str, Look]:
        """What each encoder makes of the anchor, at the chosen level."""
        for title in self.maps.encoders:
            if not self.maps.has(self.volume, title):
                self._say(f"{title} reads {self.volume} ...")
            self.looks[title] = self.maps.look(self.volume, title, self.controls.chosen_level, self.voxel)
        return self.looks

    def click(self, mm: Point, source: Panel | None = None) -> None:
        """Make the voxel at a place in world mm the anchor of all viewers; outside the volume the last one stays."""
        with self._telling():
            voxel = voxel_at(mm, self.scan.affine, self.scan.raw.shape)
            if voxel == self.voxel and self.looks:
                return
            self.voxel = voxel
            self._point_at_anchor([panel for panel in self.panels if panel is not source])
            self._show()

    def choose(self, name: str) -> None:
        """Show another scan; the anchor stays at its place in mm if that lies in it. A bad scan leaves the last one."""
        with self._telling():
            if problem := self.problems[name]:
                self.controls.volume.value = self.volume
                raise ValueError(problem)
            place, self.volume = place_of(self.voxel, self.scan.affine), name
            try:
                self.voxel = voxel_at(place, self.scan.affine, self.scan.raw.shape)
            except ValueError:
                self.voxel = first_anchor(self.scan)
            self._open_panels()

    def save(self) -> list[Path]:
        """Write the map of every encoder as NIfTI and the view as PNG into `folder`; say where.

        The picture of a browser follows a moment later than the files that are returned.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        stem = _slug(f"{self.volume} {'-'.join(map(str, self.voxel))}")
        files = [self.folder / f"{stem}_{_slug(title)}.nii.gz" for title in self.maps.encoders]
        for path, one in zip(files, self.look().values(), strict=True):
            nib.save(as_nifti(one.similarity, one.affine), path)
        picture, told = self.folder / f"{stem}.png", html.escape(str(self.folder.resolve()))
        if self.panels:
            self.browser.catch_pictures(lambda shots: self._write_picture(picture, shots, told))
            for panel in self.panels:
                panel.viewer.save_scene(picture.name)
        else:
            _write(self.figure(), picture)
            files.append(picture)
        self._say(f"Maps saved in {told}")
        return files

    def _write_picture(self, path: Path, shots: list[bytes], told: str) -> None:
        with self._telling():
            named = dict(zip(self.maps.encoders, shots, strict=True))
            _write(plot_pictures(named, label_words(f"{self.volume}, {self._where()}")), path)
            self._say(f"View and maps saved in {told}")

    def _start(self) -> None:
        self.panels = [Panel(title, self.click) for title in self.maps.encoders]
        self.lay_out(self.controls, self.chart)
        choices = self.controls
        choices.volume.observe(lambda change: change["new"] != self.volume and self.choose(change["new"]), "value")
        for control in (choices.level, choices.over, choices.outlines):
            control.observe(lambda _: self._show(), "value")
        for control in (choices.threshold, choices.opacity, choices.colours):
            control.observe(lambda _: self._dress(), "value")
        choices.save.on_click(lambda _: self._save_clicked())
        self._open_panels()

    def _save_clicked(self) -> None:
        with self._telling():
            self.save()

    def _shortcomings(self) -> list[str]:
        return [problem for problem in self.problems.values() if problem]

    def _sliders(self) -> VBox:
        """The fallback: choose the volume, the tokens and the anchor's voxel; every change draws `figure` anew."""

        def draw(volume: str, level: int | str, plane: str, **voxel: int) -> Figure:
            self.controls.level.value = level
            if volume != self.volume:
                self.choose(volume)
            self.voxel = tuple(min(v, side - 1) for v, side in zip(voxel.values(), self.scan.raw.shape, strict=True))
            return self.figure(plane)

        good = [name for name, problem in self.problems.items() if problem is None]
        sides = [max(self.maps.scans[name].raw.shape[axis] for name in good) for axis in range(3)]
        places = zip("xyz", sides, self.voxel, strict=True)
        voxel = {axis: IntSlider(value, min=0, max=side - 1) for axis, side, value in places}
        volume = ui.choice("volume", good, self.volume)
        plane = ui.choice("plane", ["axial", "coronal", "sagittal"])
        return with_sliders(draw, volume=volume, level=self.controls.level, plane=plane, **voxel)

    def _open_panels(self) -> None:
        image, crosshair = anatomy(self.scan), crosshair_at(self.voxel, self.scan)
        for panel in self.panels:
            panel.load(image, crosshair)
        self._show()

    def _point_at_anchor(self, panels: Sequence[Panel]) -> None:
        for panel in panels:
            panel.point_at(crosshair_at(self.voxel, self.scan))

    def _show(self) -> None:
        """Bring every viewer up to date: maps first, then layers, words and, when clicks pause, the chart."""
        with self._telling():
            began = time.perf_counter()
            for panel, one in zip(self.panels, self.look().values(), strict=False):
                panel.show_map(one.similarity, one.affine, **self._look_of_map())
            told = f"{html.escape(self._where())} &nbsp;·&nbsp; maps in {1000 * (time.perf_counter() - began):.0f} ms"
            self._dress()
            problem = label_problem(self.scan)
            self._say(told if problem is None else f"{told}<br>{html.escape(problem)}", wrong=problem is not None)
            self._draw_chart_soon()

    def _look_of_map(self) -> dict[str, str | float]:
        return self.controls.look_of_map(self.controls.over.value == ui.SIMILARITY)

    def _dress(self) -> None:
        """Opacities and colours of all that lies over the scans."""
        over, opacity, level = self.controls.over.value, self.controls.opacity.value, self.controls.chosen_level
        label = usable_label(self.scan)
        for panel in self.panels:
            panel.dress(**self._look_of_map())
            token_map = self.maps.of(self.volume, panel.title, level)
            layers = {f"pca {level}": (lambda m=token_map: self._pca_layer(m), opacity * (over == ui.PCA))}
            if label is not None:
                layers["labels"] = (lambda: self._label_layer(label), opacity * (over == ui.LABELS))
                layers["outlines"] = (lambda: self._label_layer(label, True), 1.0 * self.controls.outlines.value)
            panel.show_layers(layers)

    def _pca_layer(self, token_map: TokenMap) -> nib.Nifti1Image:
        return as_nifti(pca_colours(token_map, self.scan), token_map.affine)

    def _label_layer(self, label: Tensor, outline: bool = False) -> nib.Nifti1Image:
        return as_nifti(label_colours(label, outline), self.scan.affine)

    def _draw_chart_soon(self) -> None:
        if self._pending is not None:
            self._pending.cancel()
        try:
            self._pending = asyncio.get_running_loop().call_later(PATIENCE, self._draw_chart)
        except RuntimeError:  # no kernel, so nothing waits for its turn
            self._draw_chart()

    def _draw_chart(self) -> None:
        with self._telling():
            self.chart.value = self._chart_of_anchor()

    def _chart_of_anchor(self) -> bytes:
        looks = self.looks
        figure = plot_anchor(
            {title: one.similarity for title, one in looks.items()},
            {title: one.ratio for title, one in looks.items()},
            {title: one.by_organ for title, one in looks.items()},
            self._organ(),
        )
        picture = io.BytesIO()
        figure.savefig(picture, format="png", dpi=100)
        return picture.getvalue()

    def _organ(self) -> str | None:
        """Name of the organ that the anchor lies in, or None."""
        return self.maps.organ_at(self.volume, self.voxel)

    def _where(self) -> str:
        organ, place = self._organ(), place_of(self.voxel, self.scan.affine)
        return f"anchor{f' in {organ}' if organ else ''}: voxel {self.voxel}, {words_of(place)}"


def explore(
    scans: Mapping[str, Scan],
    encoders: Mapping[str, nn.Module],
    levels: Sequence[int] = (1, 2, 3),
    tokens: Mapping[str, Mapping[str, TokenMap]] | None = None,
    folder: str | Path = "outputs/explorer",
) -> Explorer:
    """Scans to click in, side by side as each encoder sees them.

    The widget works in JupyterLab. A run without a browser sends and encodes nothing: there `figure()` draws the same
    view. Without WebGL 2 slices with sliders take the viewers' place.

    Args:
        scans: name to scan. One that cannot be shown stays in the list and says why when it is chosen.
        encoders: title to encoder, up to MOST.
        levels: of the encoders, read together or one by one, finest first.
        tokens: name of a scan to title of an encoder to its token map of these levels, where there is one already; the
            others are made when they are first needed.
        folder: where the button writes; made when it is first used.

    Raises:
        ValueError: without any scan that can be shown, with no encoder or too many, or for tokens of a scan or an
            encoder that is not there.
    """
    problems = [problem for scan in scans.values() if (problem := scan_problem(scan))]
    if len(problems) == len(scans):
        raise ValueError("no scan can be shown: " + ("; ".join(problems) or "give at least one"))
    if not 1 <= len(encoders) <= MOST:
        raise ValueError(f"{len(encoders)} encoders side by side: give 1 to {MOST}")
    for name, of_scan in (tokens or {}).items():
        if name not in scans or set(of_scan) - set(encoders):
            raise ValueError(f"tokens of {name} by {', '.join(of_scan)}: no such scan or encoder was given")
    return Explorer(TokenMaps(scans, encoders, levels, tokens), Path(folder))


def _write(figure: Figure, path: Path) -> None:
    """Write a PNG; whoever looks meanwhile sees no half of it."""
    scratch = path.with_name(f".{path.name}.part")
    figure.savefig(scratch, format="png")
    scratch.replace(path)


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9-]+", "_", text.lower()).strip("_")
