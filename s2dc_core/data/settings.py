"""How scans were prepared for an encoder, noted beside what was trained on them, and compared with others later.

A note is a list, one entry for each kind of intensities: {"modality", "rule", "window", "spacing", "scans"}. "rule" is
one of scans.normalise, or a manifest's: "window" (to 0..1), "z-score over volume" or "z-score over nonzero"; null where
nobody noted it. "window" is of a CT or of a manifest. "spacing" is in mm, {"from", "to"} where it varies, or null.
"scans" counts them, where they were counted. "scale" and "offset" brought files to the unit, where that was needed.
"""

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

from s2dc_core.data.intensities import CT_WINDOW, kind_of
from s2dc_core.data.manifests import Manifest

Note = list[dict[str, Any]]
NEAR = 0.02
"""Spacings that differ by less, as a share, are held for the same."""


def settings_of(scans: Sequence[Any]) -> Note:
    """How some scans were prepared.

    Args:
        scans: each a Scan or its ScanFacts.
    """
    groups: dict[tuple, list[tuple[float, ...]]] = {}
    for scan in scans:
        key = (scan.modality, scan.rule, scan.window, scan.scale, scan.offset)
        groups.setdefault(key, []).append(tuple(scan.spacing))
    return [
        {
            "modality": modality,
            "rule": rule,
            "window": None if window is None else [float(bound) for bound in window],
            "spacing": _range(spacings),
            "scans": len(spacings),
            **({} if (scale, offset) == (1, 0) else {"scale": scale, "offset": offset}),
        }
        for (modality, rule, window, scale, offset), spacings in groups.items()
    ]


def settings_of_manifest(manifest: Manifest, images: Sequence[str], rule: str = "manifest") -> Note:
    """How some images of a data set are prepared, with the name of its manifest.

    Args:
        rule: see loading.transforms_of.
    """
    own = manifest.preprocessing["intensity"]
    notes: Note = []
    for kind in dict.fromkeys(manifest.kind_of(image) for image in images):
        window = None
        if rule == "manifest":
            window = [own["low"], own["high"]] if own["rule"] == "window" else None
            named = "window" if window else f"z-score over {own['over']}"
        else:
            named = rule
            if kind_of(kind) == "ct":
                window = list(manifest.window if kind == manifest.modality else CT_WINDOW)
        spacing = manifest.preprocessing["spacing"]
        notes.append({"modality": kind, "rule": named, "window": window, "spacing": spacing, "manifest": manifest.name})
    return notes


def difference_in_settings(trained: list | None, here: list | None) -> str | None:
    """What an encoder was trained on and what it is given, in words, if that differs; None if not, or not known."""
    known, asked = ([each for each in note or () if _is_known(each)] for note in (trained, here))
    strange = [
        each for each in asked if not any(_words(each) == _words(other) and _near(each, other) for other in known)
    ]
    if not known or not strange:
        return None
    one, other = ("; ".join(dict.fromkeys(map(settings_in_words, notes))) for notes in (known, strange))
    return f"trained on {one}; given {other}"


def _is_known(entry: Any) -> bool:
    return isinstance(entry, Mapping) and {"modality", "window", "spacing"} <= set(entry) and bool(entry.get("rule"))


def settings_in_words(note: Mapping[str, Any]) -> str:
    """An entry of a note in words, such as "ct from -175..250 to -2..2, 2.5 x 2.5 x 2.5 mm"."""
    if not note["spacing"]:
        return _words(note)
    smallest, largest = map(_by, _ends(note["spacing"]))
    return f"{_words(note)}, {smallest if smallest == largest else f'{smallest} to {largest}'} mm"


def _words(note: Mapping[str, Any]) -> str:
    """Modality and intensities; equal where a voxel of the same tissue gets the same value."""
    kind, rule = kind_of(note["modality"]), note["rule"]
    if rule == "window" or (kind == "ct" and rule in ("default", "paper")):
        low, high = note["window"]
        return f"{kind} from {low:g}..{high:g} to {'-2..2' if rule == 'default' else '0..1'}"
    if rule == "default":
        return {"pet": "pet, asinh of the SUV to -2..2", "mr": "mr, z-score over the body"}[kind]
    return f"{kind}, {'z-score over volume' if rule == 'paper' else rule or 'intensities that nobody noted'}"


def _range(spacings: Sequence[tuple[float, ...]]) -> list[float] | dict[str, list[float]]:
    lowest, highest = ([round(pick(sides), 4) for sides in zip(*spacings, strict=True)] for pick in (min, max))
    return lowest if lowest == highest else {"from": lowest, "to": highest}


def _near(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether the spacings of one lie among those of the other; also where one is not known."""
    if not one["spacing"] or not other["spacing"]:
        return True
    (low, high), (least, most) = map(_ends, (one["spacing"], other["spacing"]))
    below = any(side < bound * (1 - NEAR) for side, bound in zip(low, least, strict=True))
    return not below and all(side <= bound * (1 + NEAR) for side, bound in zip(high, most, strict=True))


def _ends(spacing: Any) -> tuple[Sequence[Real], Sequence[Real]]:
    return (spacing["from"], spacing["to"]) if isinstance(spacing, Mapping) else (spacing, spacing)


def _by(sides: Sequence[Real]) -> str:
    return " x ".join(f"{side:.4g}" for side in sides)
