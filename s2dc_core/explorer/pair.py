"""The explorer of two patients: click in one, and see where the other has the same place."""

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from ipywidgets import IntSlider, VBox
from matplotlib.figure import Figure
from torch import nn

from s2dc_core.data import Scan
from s2dc_core.explorer import controls as ui
from s2dc_core.explorer.frame import Frame
from s2dc_core.explorer.maps import (
    Point,
    TokenMaps,
    anatomy,
    crosshair_at,
    first_anchor,
    place_of,
    scan_problem,
    voxel_at,
)
from s2dc_core.explorer.match import Pair, PairMatch, aligned, match_at, side_of
from s2dc_core.explorer.panel import Panel
from s2dc_core.explorer.words import DOT, match_words, particulars, place_words
from s2dc_core.features import TokenMap
from s2dc_core.geometry import check_fits
from s2dc_core.library import open_weights
from s2dc_core.plots import plot_pair
from s2dc_core.plots.sliders import with_sliders

SIDES = ("left", "right")
ENCODER = "the encoder"
ECHO = 0.01
"""Millimetres: nearer to where a crosshair was put, a place that a viewer tells is no click but that crosshair."""


class PairExplorer(Frame):
    """The widget that `explore_pair` returns.

    Attributes:
        scans: of the "left" and the "right" patient.
        clicked: the side that was clicked last.
        voxel: that was clicked, of that side.
        match: what it found on the other side; None before the first click, and for one in air.
        controls: see `controls.PairControls`.
    """

    def __init__(self, maps: TokenMaps, align: bool):
        self.maps, self.scans = maps, maps.scans
        self.clicked, self.voxel = "left", first_anchor(self.scans["left"])
        self.match: PairMatch | None = None
        self.controls = ui.PairControls(maps.levels, align)
        self._pairs: dict[tuple, Pair] = {}
        self._put = dict.fromkeys(SIDES, (np.inf,) * 3)
        super().__init__()

    @property
    def other(self) -> str:
        """The side in which the clicked place is searched."""
        return SIDES[1 - SIDES.index(self.clicked)]

    def figure(self, plane: str = "axial") -> Figure:
        """The same as a picture that does not move, see `plots.plot_pair`."""
        return plot_pair(self.scans[self.clicked], self.scans[self.other], self.find(), plane)

    def find(self) -> PairMatch:
        """What the clicked voxel finds on the other side, see `match.match_at`.

        Raises:
            ValueError: for a voxel in air, or a scan that cannot be encoded or has no token in its body.
        """
        self.match = None
        pair = self.pair()
        self.match = match_at(self.voxel, getattr(pair, self.clicked), getattr(pair, self.other))
        return self.match

    def pair(self) -> Pair:
        """Both sides at the chosen level, aligned if that is chosen; made once, when first asked for."""
        level, align = self.controls.chosen_level, self.controls.align.value
        if (level, False) not in self._pairs:
            if not all(self.maps.has(side, ENCODER) for side in SIDES):
                self._say("The encoder reads both scans ...")
            sides = {side: self.maps.of(side, ENCODER, level) for side in SIDES}
            plain = Pair(*(side_of(tokens, self.scans[side].foreground) for side, tokens in sides.items()))
            self._pairs[level, False] = plain
        if (level, align) not in self._pairs:
            self._say("The two patients are aligned by their own mutual matches ...")
            self._pairs[level, True] = aligned(self._pairs[level, False])
        return self._pairs[level, align]

    def click(self, mm: Point, side: str = "left", by_hand: bool = False) -> None:
        """Search the place in world mm of one side on the other; outside the volume what was found last stays.

        Args:
            mm: world (x, y, z) of that side.
            side: "left" or "right".
            by_hand: whether that side's crosshair is there already.
        """
        with self._telling():
            if side not in SIDES:
                raise ValueError(f"there is no side {side!r}: give left or right")
            voxel = voxel_at(mm, self.scans[side].affine, self.scans[side].raw.shape)
            if (side, voxel) == (self.clicked, self.voxel) and self.match is not None:
                return
            self.clicked, self.voxel = side, voxel
            self._show(by_hand)

    def _start(self) -> None:
        titles = [f"{side}: {self.scans[side].name} ({ui.modality_of(self.scans[side])})" for side in SIDES]
        self.panels = [Panel(titles[n], partial(self._hear, side=side)) for n, side in enumerate(SIDES)]
        for control in (self.controls.level, self.controls.align):
            control.observe(lambda _: self._show(), "value")
        for control in (self.controls.threshold, self.controls.opacity, self.controls.colours):
            control.observe(lambda _: self._dress(), "value")
        self.lay_out(self.controls)
        for panel, scan in zip(self.panels, self.scans.values(), strict=True):
            panel.load(anatomy(scan), (0.5, 0.5, 0.5))
        self._show()

    def _hear(self, mm: list[float], _: Panel, side: str) -> None:
        """A viewer tells where its crosshair is: a click, unless it is where a match has put it."""
        if np.abs(np.subtract(mm, self._put[side])).max() > ECHO:
            self._put[side] = (np.inf,) * 3
            self.click(mm, side, by_hand=True)

    def _show(self, by_hand: bool = False) -> None:
        """Search anew, and bring both viewers up to date: the map, the crosshairs, then the line."""
        with self._telling():
            self.match = None
            try:
                self.pair()  # in which scans may be read, or aligned
                began = time.perf_counter()
                match = self.find()
                self._show_maps()
                self._point(self.other, match.voxel)
                self._say(self._told(time.perf_counter() - began))
            finally:  # a click in air shows no map, but the place itself
                if not by_hand:
                    self._point(self.clicked, self.voxel)
                self._dress()

    def _show_maps(self) -> None:
        """The similarity over the other side. What will lie over this one once that is clicked is sent along, clear."""
        for side, panel in zip(SIDES, self.panels, strict=False):
            if side == self.other:
                panel.show_map(self.match.similarity, self.match.affine, **self.controls.look_of_map())
            elif panel.map is None:
                tokens = self.maps.of(side, ENCODER)
                blank = torch.zeros(tokens.features.shape[:3])
                panel.show_map(blank, tokens.affine, **self.controls.look_of_map(False))

    def _point(self, side: str, voxel: Sequence[int]) -> None:
        scan = self.scans[side]
        for panel in self.panels[SIDES.index(side) :][:1]:
            self._put[side] = place_of(voxel, scan.affine)
            panel.point_at(crosshair_at(voxel, scan))

    def _dress(self) -> None:
        for side, panel in zip(SIDES, self.panels, strict=False):
            panel.dress(**self.controls.look_of_map(side == self.other and self.match is not None))
            panel.show_layers({})

    def _told(self, seconds: float) -> str:
        """The match in words, and below it what is particular about the two scans, and how long it took."""
        match, places = self.match, []
        asked = place_of(match.clicked, self.scans[self.clicked].affine)
        for side, voxel, mm in ((self.clicked, match.clicked, asked), (self.other, match.voxel, match.mm)):
            places.append(place_words(side, self.maps.organ_at(side, voxel), mm))
        notes = particulars(self.scans, self.controls.align.value, self.pair())
        return f"{match_words(match, *places)}<br>{DOT.join([*notes, f'found in {1000 * seconds:.0f} ms'])}"

    def _sliders(self) -> VBox:
        """The fallback: choose the side, the tokens and the voxel; every change draws `figure` anew."""

        def draw(side: str, level: int | str, align: bool, plane: str, **voxel: int) -> Figure:
            self.controls.level.value, self.controls.align.value = level, align
            shape = self.scans[side].raw.shape
            self.clicked = side
            self.voxel = tuple(min(v, length - 1) for v, length in zip(voxel.values(), shape, strict=True))
            return self.figure(plane)

        lengths = np.max([scan.raw.shape for scan in self.scans.values()], 0).tolist()
        places = zip("xyz", lengths, self.voxel, strict=True)
        voxel = {axis: IntSlider(value, min=0, max=length - 1) for axis, length, value in places}
        chosen = {"side": ui.choice("clicked", SIDES, self.clicked), "level": self.controls.level}
        plane = ui.choice("plane", ["axial", "coronal", "sagittal"])
        return with_sliders(draw, **chosen, align=self.controls.align, plane=plane, **voxel)


def explore_pair(
    scan_a: Scan,
    scan_b: Scan,
    encoder: str | Path | nn.Module = "s2dc",
    *,
    levels: Sequence[int] = (1, 2, 3),
    align: bool = False,
    tokens: tuple[TokenMap, TokenMap] | None = None,
) -> PairExplorer:
    """Two patients side by side: a click in one moves the other's crosshair to the best match among its body's tokens.

    Works where `explore` does; a run without a browser encodes nothing until `find()` or `figure()` is called.

    Args:
        scan_a, scan_b: left and right; modality and spacing may differ, which is said.
        encoder: a name or file that `library.open_weights` takes, or an encoder.
        levels: of the encoder, read together or one by one, finest first.
        align: begin with the alignment: a score is then the cosine less `evaluation.alignment.WEIGHT` times the squared
            distance in tokens, after an affine that the two scans' own mutual matches agree on.
        tokens: the token maps of both at these levels, where they are there already.

    Raises:
        ValueError: for a scan that cannot be shown, is smaller than a token, has no body or other channels than the
            encoder.
    """
    encoder = encoder if isinstance(encoder, nn.Module) else open_weights(encoder)
    for scan in (scan_a, scan_b):
        if problem := scan_problem(scan) or _pair_problem(scan, encoder, levels):
            raise ValueError(problem)
    known = {side: {ENCODER: of_side} for side, of_side in zip(SIDES, tokens or (), strict=False)}
    return PairExplorer(TokenMaps({"left": scan_a, "right": scan_b}, {ENCODER: encoder}, levels, known), align)


def _pair_problem(scan: Scan, encoder: nn.Module, levels: Sequence[int]) -> str | None:
    """Why the encoder cannot find places in a scan; None for a good one."""
    channels = getattr(getattr(encoder, "config", None), "in_channels", len(scan.volume))
    if channels != len(scan.volume):
        return (
            f"{scan.name} has {len(scan.volume)} channels, the encoder takes {channels}: give one that was trained so"
        )
    if not scan.foreground.any():
        return f"{scan.name} has no body: its foreground is empty"
    try:
        check_fits(scan.raw.shape, [encoder.stride(levels[0])])
    except ValueError as error:
        return f"{scan.name}: {error}"
    return None
