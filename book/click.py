"""The data of the page that answers a click: generated bodies and their token maps, small enough to travel with it.

Nothing is fetched when the page is read, not even from its own folder, which a browser forbids for pages opened from a
disk: everything stands as text in scripts. `data.js` holds the bodies and the maps, `niivue.js` the viewer that the
package ipyniivue carries. Bytes are compressed (gzip) and written in base85, five letters for four bytes.

A token's channels are reduced without centring (`evaluation.reduce_tokens`), and a cosine is the dot product of what is
kept: of unit tokens that is the best that so few numbers can give. Dividing by the lengths that are left would undo it.
"""

import base64
import gzip
import json
import re
from collections.abc import Mapping
from importlib.metadata import files
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
import torch

from s2dc_core.data import TISSUES, Scan, body_grid, make_phantom, scan_from_phantom
from s2dc_core.evaluation.maps import reduce_tokens
from s2dc_core.explorer.maps import anatomy
from s2dc_core.features import TokenMap, deepest_voxel, organ_grid, token_features
from s2dc_core.library import open_weights

FILES = ("data.js", "niivue.js", "niivue-license.txt")
SCANS = {
    "one": ("Body 1, CT", "ct", 1000),
    "two": ("Body 2, CT", "ct", 1001),
    "mr": ("Body 2, MR T1", "mr_t1", 1001),
}
"""Title, modality and seed of the body; the seeds of notebook 12, on which no encoder was trained."""

ENCODERS = {"untrained": ("untrained", 48), "contrast": ("L<sub>g</sub> alone", 36), "s2dc": ("S2DC", 36)}
"""Title, and directions kept: so many that of 100 patches of a body 99 have a map that correlates with the full one by
0.99 or more, and 99 of 100 means over an organ are right to 0.02. Random features need the most."""

LEVELS, PATCH = (1, 2, 3), 4
SHAPE, SPACING = (144, 96, 144), 2.5
BOX = ((1, 36), (1, 23), (6, 25))
"""The part that the page shows, in tokens along each axis: the belly, over all of the body's width."""

STEP = 64
"""A number of a reduced token is stored as a whole number of 1/64."""

GREYS = 16
MIXED = 255
"""In the map of structures: a token of the body that no structure fills by half. Air is 0."""


class Body(NamedTuple):
    """A generated body as an encoder and a reader see it.

    Attributes:
        scan: made ready for the encoder.
        tissue: [X, Y, Z] every tissue, not only the organs that are labelled; a key of TISSUES.
    """

    scan: Scan
    tissue: np.ndarray


def make_bodies(shape: tuple[int, int, int] = SHAPE, spacing: float = SPACING) -> dict[str, Body]:
    """The bodies of SCANS by name, whole."""
    found = {}
    for name, (title, modality, seed) in SCANS.items():
        phantom = make_phantom(seed, modality, shape, (spacing,) * 3)
        found[name] = Body(scan_from_phantom(phantom, title), phantom.tissue)
    return found


def encode(bodies: Mapping[str, Body], encoder: str) -> dict[str, TokenMap]:
    """Token map of each body, with all channels."""
    network = open_weights(encoder)
    how = {name: {"affine": one.scan.affine, "background": one.scan.background} for name, one in bodies.items()}
    return {name: token_features(network, one.scan.volume, LEVELS, **how[name]) for name, one in bodies.items()}


def cut(values: Any, box: tuple, side: int = 1) -> Any:
    """The part of an array or tensor [X, Y, Z, ...] that the page shows.

    Args:
        box: first token and the one after the last, along each axis.
        side: 1 where a token has one value, PATCH where a voxel has one.
    """
    return values[tuple(slice(low * side, high * side) for low, high in box)]


def reduced(maps: Mapping[str, TokenMap], directions: int, box: tuple = BOX) -> dict[str, np.ndarray]:
    """What the page knows of each body's tokens: [x, y, z, directions] int8, in steps of 1 / STEP.

    All bodies share the directions, so that tokens of one can be compared with those of another.
    """
    parts = {name: cut(tokens.features, box) for name, tokens in maps.items()}
    together = torch.cat([part.flatten(0, 2) for part in parts.values()])
    kept, _ = reduce_tokens(TokenMap(together[:, None, None], (1, 1, 1), np.eye(4)), directions)
    numbers = (
        (kept.features[:, 0, 0] * STEP).round().to(torch.int8).split([part[..., 0].numel() for part in parts.values()])
    )
    return {
        name: piece.reshape(*part.shape[:3], directions).numpy()
        for (name, part), piece in zip(parts.items(), numbers, strict=True)
    }


def structures(body: Body) -> np.ndarray:
    """The structure that fills at least half of each token, uint8: a key of TISSUES, 0 for air, MIXED for none."""
    inside = body_grid(body.scan, (PATCH,) * 3).numpy()
    empty = TokenMap(torch.empty(*inside.shape, 0), (PATCH,) * 3, np.eye(4))
    owner = organ_grid(empty, body.tissue.astype(np.int64)).numpy()
    return np.where(owner > 0, owner, np.where(inside, MIXED, 0)).astype(np.uint8)


def greys(body: Body) -> np.ndarray:
    """The scan for the eye, uint8, in GREYS greys: more would be noise, which cannot be compressed."""
    fine = np.asarray(anatomy(body.scan).dataobj) / 255
    return np.round(np.round(fine * (GREYS - 1)) * 255 / (GREYS - 1)).astype(np.uint8)


def places(body: Body, box: tuple = BOX) -> dict[int, list[int]]:
    """A voxel of the page deep in each structure that owns a token there, for readers who cannot click."""
    tissue, owned = cut(body.tissue, box, PATCH), cut(structures(body), box)
    labels = [label for label in np.unique(owned).tolist() if 0 < label < MIXED]
    return {label: list(deepest_voxel(tissue, label)) for label in labels}


def packed(values: np.ndarray) -> str:
    """Bytes as text: the first axis fastest, compressed, in base85 (RFC 1924, no letter of which needs an escape)."""
    return base64.b85encode(gzip.compress(values.tobytes(order="F"), 9, mtime=0)).decode()


def packed_tokens(numbers: np.ndarray) -> str:
    """A plane a direction; each number less the one before it in its plane, which is compressed better."""
    planes = numbers.reshape(-1, numbers.shape[-1], order="F").view(np.uint8)
    return packed(np.diff(planes, axis=0, prepend=np.zeros_like(planes[:1])))


def gather(bodies: Mapping[str, Body], maps: Mapping[str, Mapping[str, TokenMap]], box: tuple = BOX) -> dict[str, Any]:
    """All that `data.js` holds.

    Args:
        bodies: by name.
        maps: encoder to name of the body to its whole token map.
        box: see BOX.
    """
    scans = {name: {"title": SCANS[name][0], "body": SCANS[name][2], "tokens": {}} for name in bodies}
    for name, body in bodies.items():
        scans[name]["grey"] = packed(cut(greys(body), box, PATCH))
    for encoder, of_bodies in maps.items():
        for name, numbers in reduced(of_bodies, ENCODERS[encoder][1], box).items():
            scans[name]["tokens"][encoder] = packed_tokens(numbers)
    anatomies = {
        SCANS[name][2]: {
            "tissue": packed(cut(body.tissue.astype(np.uint8), box, PATCH)),
            "structure": packed(cut(structures(body), box)),
            "places": places(body, box),
        }
        for name, body in bodies.items()
    }
    return {
        "grid": [high - low for low, high in box],
        "patch": PATCH,
        "spacing": next(iter(bodies.values())).scan.spacing[0],
        "step": STEP,
        "mixed": MIXED,
        "encoders": {name: dict(zip(("title", "directions"), ENCODERS[name], strict=True)) for name in maps},
        "names": {label: name.replace("_", " ") for label, name in TISSUES.items()} | {0: "air"},
        "colours": (matplotlib.colormaps["inferno"](np.arange(256))[:, :3] * 255).round().astype(int).ravel().tolist(),
        "scans": scans,
        "bodies": anatomies,
    }


def niivue() -> tuple[str, str]:
    """NiiVue as a plain script that sets window.Niivue, and its licence; from the installed ipyniivue.

    A page from a disk may not import modules, and the widget exports itself alone: so its last statement, the export,
    makes way for one that hands out the class. The copy of NiiVue that it carries as a text, for pages that it saves,
    is left out.

    Raises:
        ValueError: if another version of ipyniivue is made in another way.
    """
    found = {Path(file).name: Path(file.locate()) for file in files("ipyniivue") or []}
    script = found["widget.js"].read_text(encoding="utf-8")
    class_name = re.search(r"Creating new Niivue instance.{0,200}?=new ([\w$]+)\(", script, re.DOTALL)
    body, exports, _ = script.rpartition("export{")
    if not class_name or not exports:
        raise ValueError("ipyniivue's widget.js is not as expected: take the version that requirements.lock names")
    body = re.sub(r'"[^"\s]{1000000,}"', '""', body)
    return f"(() => {{{body};window.Niivue={class_name[1]}}})();", found["LICENSE"].read_text(encoding="utf-8")


def write(folder: Path) -> None:
    """Make the page's data and viewer, in about a minute.

    Args:
        folder: of the page's scripts; it gets FILES.
    """
    bodies = make_bodies()
    write_data(folder, gather(bodies, {encoder: encode(bodies, encoder) for encoder in ENCODERS}))
    write_viewer(folder)


def write_data(folder: Path, data: Mapping[str, Any]) -> None:
    """`data.js`, of what `gather` gives."""
    (folder / FILES[0]).write_text(f"window.S2DC_DATA = {json.dumps(data)};\n", encoding="utf-8")


def write_viewer(folder: Path) -> None:
    """`niivue.js` and its licence."""
    script, licence = niivue()
    text = packed(np.frombuffer(script.encode(), np.uint8))
    (folder / FILES[1]).write_text(f'// NiiVue, see {FILES[2]}.\nwindow.S2DC_NIIVUE = "{text}";\n', encoding="utf-8")
    (folder / FILES[2]).write_text(licence, encoding="utf-8")
