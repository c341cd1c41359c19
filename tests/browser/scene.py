"""What the notebook of the browser tests shows: boxes with three marked cubes; and what its kernel tells of itself."""

import asyncio
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch

from s2dc_core.data import Scan, open_scan
from s2dc_core.explorer import Explorer, PairExplorer, explore, explore_pair, match_at
from s2dc_core.explorer.maps import TokenMaps, crosshair_at, place_of
from s2dc_core.explorer.match import Pair, aligned, side_of
from s2dc_core.explorer.panel import Panel
from s2dc_core.features import similarity_heatmap, token_features
from s2dc_core.library import open_weights

SHAPE, LEVELS, START = (64, 64, 64), (1, 2), (31, 31, 32)
MARKERS = {"A": (47, 42, 32), "B": (20, 42, 18), "C": (20, 22, 44)}
"""Each lies in a plane with the one before it, and the first in the axial plane of START; in no other of its planes."""

PAUSE = 0.2
"""Seconds between two looks of the kernel at itself."""

GREYS = {"A": 240, "B": 180, "C": 120}
"""How bright each is drawn, of 255."""


def affines() -> dict[str, np.ndarray]:
    """Voxel to mm: along the axes, oblique with unequal sides, and left-handed."""
    turn = np.linalg.qr(np.eye(3) + 0.12 * np.random.default_rng(1).normal(size=(3, 3)))[0]
    turn = turn * np.sign(np.diag(turn))
    parts = {
        "straight": (np.diag([2.0, 2, 2]), (0, 0, 0)),
        "oblique": (turn @ np.diag([1.5, 2.0, 2.5]), (-40, 25, 60)),
        "left-handed": (np.diag([-2.0, 2, 3]), (70, -30, 10)),
    }
    return {name: np.block([[m, np.array(t)[:, None]], [np.zeros(3), 1]]) for name, (m, t) in parts.items()}


def scan_of(name: str, affine: np.ndarray) -> Scan:
    """A dark box with the marked cubes, in the window of CT."""
    grey = torch.zeros(SHAPE)
    grey[4:60, 4:60, 4:60] = 40 + 4 * torch.rand(56, 56, 56, generator=torch.Generator().manual_seed(0))
    label = torch.zeros(SHAPE, dtype=torch.int32)
    label[10:54, 10:54, 10:54] = 1
    for number, (marker, voxel) in enumerate(MARKERS.items(), start=2):
        cube = tuple(slice(v - 3, v + 4) for v in voxel)
        grey[cube], label[cube] = GREYS[marker], number
    hu = -160 + grey * 400 / 255
    return Scan(
        volume=(hu / 250)[None],
        raw=hu,
        affine=affine,
        spacing=tuple(float(v) for v in np.linalg.norm(affine[:3, :3], axis=0)),
        label=label,
        names={1: "box"} | dict(enumerate(MARKERS, start=2)),
        modality="ct",
        background=-0.7,
        foreground=grey > 0,
        name=name,
    )


def scans() -> dict[str, Scan]:
    """Good ones, and ones that cannot be shown or have a label map that cannot."""
    good = {name: scan_of(name, affine) for name, affine in affines().items()}
    plain = good["straight"]
    return good | {
        "large": open_scan("phantom_ct", shape=(96, 96, 96), spacing=(2.5, 2.5, 2.5)),
        "no affine": plain._replace(name="no affine", affine=None),
        "4D": plain._replace(name="4D", raw=plain.raw[..., None]),
        "other labels": plain._replace(name="other labels", label=torch.ones(8, 8, 8, dtype=torch.int32)),
    }


def open_explorer(facts: str) -> Explorer:
    """The explorer of two encoders, whose kernel writes what it knows into a file, again and again."""
    shown, encoders = scans(), {name: open_weights(name) for name in ("untrained", "s2dc")}
    explorer = explore(shown, encoders, LEVELS, folder="saved")
    explorer.voxel = START
    own = TokenMaps(shown, encoders, LEVELS)

    def start_anew(_: dict) -> None:
        explorer.click(place_of(START, explorer.scan.affine))

    # The explorer hears of a choice once a browser is there, and this after it.
    explorer.browser.observe(lambda _: explorer.controls.volume.observe(start_anew, "value"), "webgl")
    keep_writing(explorer, lambda: facts_of(explorer, own), Path(facts))
    return explorer


def keep_writing(explorer: Explorer | PairExplorer, tell: Callable[[], dict], path: Path) -> None:
    """Write what is told of an explorer into a file, again and again, as JSON."""
    loop = asyncio.get_running_loop()

    def again() -> None:
        loop.call_later(PAUSE, again)  # first, so that it goes on whatever happens
        with explorer._one_at_a_time:  # clicks change the explorer in another thread than this one
            facts = json.dumps(tell())
        scratch = path.with_suffix(".part")
        scratch.write_text(facts)
        scratch.replace(path)  # whoever reads it meanwhile sees a whole file

    again()


def facts_of(explorer: Explorer, own: TokenMaps) -> dict:
    """The anchor, and whether each viewer's map is what the pure functions make of it.

    Args:
        explorer: as it is now.
        own: token maps that the explorer has no part in.
    """
    return {
        "voxel": [int(v) for v in explorer.voxel],
        "volume": explorer.volume,
        "level": explorer.controls.chosen_level,
        "maps": {panel.title: compared(explorer, own, panel) for panel in explorer.panels if panel.map is not None},
        "webgl": explorer.browser.webgl,
        "status": explorer.status.value,
        "saved": sorted(file.name for file in explorer.folder.glob("[!.]*")),
    }


def compared(explorer: Explorer, own: TokenMaps, panel: Panel) -> dict[str, float | bool]:
    """Cosine of the anchor with itself in a viewer's map, and whether the map equals the pure function's array.

    NaN and False until the browser has loaded the map; "sent" is whether the explorer wanted to show that array.
    """
    token_map = own.of(explorer.volume, panel.title, explorer.controls.chosen_level)
    wanted = similarity_heatmap(token_map, explorer.voxel).numpy()
    values = np.asarray(panel.map.img)
    if values.size != wanted.size:
        return {"self": math.nan, "equal": False, "sent": False}
    shown = values.reshape(wanted.shape, order="F")
    cell = tuple(v // p for v, p in zip(explorer.voxel, token_map.patch, strict=True))
    sent = np.array_equal(panel.wanted, wanted.ravel(order="F"))
    return {"self": float(shown[cell]), "equal": bool(np.array_equal(shown, wanted)), "sent": bool(sent)}


def open_pair(left: str, right: str, facts: str) -> PairExplorer:
    """The explorer of two patients of LEVELS, as `open_explorer`; in the affines' scans one finds every token again."""
    shown = {name: scan_of(name, affine) for name, affine in affines().items()}
    shown |= {name: scans()["large"] for name in ("large", "other") if name in (left, right)}
    if right == "other":
        shown["other"] = open_scan("phantom_ct", seed=4, shape=(96, 96, 96), spacing=(2.5, 2.5, 2.5))
    encoder, pair = open_weights("s2dc"), (shown[left], shown[right])
    explorer = explore_pair(*pair, encoder, levels=LEVELS)
    if left in affines():
        explorer.voxel = START
        explorer.controls.opacity.value = 0.0  # so that the greys are to be seen
    how = [{"affine": scan.affine, "background": scan.background} for scan in pair]
    tokens = [token_features(encoder, scan.volume, LEVELS, **one) for scan, one in zip(pair, how, strict=True)]
    plain = Pair(*(side_of(of_scan, scan.foreground) for of_scan, scan in zip(tokens, pair, strict=True)))
    own = {False: plain, True: aligned(plain)}
    keep_writing(explorer, lambda: facts_of_pair(explorer, own), Path(facts))
    return explorer


def facts_of_pair(explorer: PairExplorer, own: Mapping[bool, Pair]) -> dict:
    """What was clicked and found, and whether the viewers show what `match_at` finds.

    Args:
        explorer: as it is now.
        own: without and with the alignment, sides that the explorer has no part in.
    """
    facts = {
        "clicked": explorer.clicked,
        "voxel": [int(v) for v in explorer.voxel],
        "align": explorer.controls.align.value,
        "webgl": explorer.browser.webgl,
        "status": explorer.status.value,
        "air": explorer.match is None,
        "opacity": [panel.map.opacity for panel in explorer.panels if panel.map is not None],
    }
    if explorer.match is None or not explorer.panels:
        return facts | {"equal": False}
    pair, match = own[facts["align"]], explorer.match
    wanted = match_at(explorer.voxel, getattr(pair, explorer.clicked), getattr(pair, explorer.other))
    panel, scan = explorer.panels[explorer.other == "right"], explorer.scans[explorer.other]
    put = np.subtract(panel.viewer.scene.crosshair_pos, crosshair_at(wanted.voxel, scan))
    drawn = np.array_equal(np.asarray(panel.map.img), wanted.similarity.numpy().ravel(order="F"))
    same = (match.voxel, match.mutual, match.margin) == (wanted.voxel, wanted.mutual, wanted.margin)
    return facts | {
        "found": list(match.voxel),
        "equal": bool(same and drawn and np.array_equal(match.mm, wanted.mm) and np.abs(put).max() < 1e-5),
    }
