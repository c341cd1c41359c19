"""Data sets that share cases: what their manifests say of it, and leaving shared cases out."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from s2dc_core.data.cases import Case
from s2dc_core.data.dicom import series_uid
from s2dc_core.data.manifests import Manifest, load_all


class Overlap(NamedTuple):
    """What one manifest says of another: of which kind, why, and the part of the names that tells (or None)."""

    one: str
    kind: str
    other: str
    note: str
    key: str | None

    def __str__(self) -> str:
        return f"{self.one} {self.kind} {self.other}: {self.note}"


def overlaps_between(manifests: Sequence[Manifest]) -> list[Overlap]:
    """The known overlaps between data sets that are used together."""
    used = {manifest.name for manifest in manifests}
    return [overlap for overlap in _all(manifests) if {overlap.one, overlap.other} <= used]


def overlaps_of(manifest: Manifest) -> list[Overlap]:
    """The known overlaps of a data set with any other that comes with the repository, by whichever manifest says it."""
    others = {**load_all(), manifest.name: manifest}
    return [overlap for overlap in _all(others.values()) if manifest.name in (overlap.one, overlap.other)]


def _all(manifests) -> list[Overlap]:
    return [
        Overlap(manifest.name, relation["kind"], relation["with"], relation["note"], relation.get("key"))
        for manifest in manifests
        for relation in manifest.relations
    ]


def exclude_overlaps(
    manifests: Sequence[Manifest], cases: Mapping[str, Sequence[Case]]
) -> tuple[dict[str, list[Case]], list[str]]:
    """The cases without those that another data set in use holds too, where names tell, and a line on each overlap.

    Of two data sets the one whose manifest names the other gives way.

    Args:
        cases: {data set: its cases}.
    """
    kept, said = {name: list(found) for name, found in cases.items()}, []
    for overlap in overlaps_between(manifests):
        if overlap.key is None:
            said.append(f"{overlap}. Nothing is left out: `s2dc data check` finds what is equal voxel by voxel")
            continue
        theirs = {_value(case, overlap.key) for case in kept[overlap.other]} - {None}
        ours = [case for case in kept[overlap.one] if _value(case, overlap.key) not in theirs]
        gone = len(kept[overlap.one]) - len(ours)
        said.append(
            f"{gone} of {len(kept[overlap.one])} cases of {overlap.one} left out: {overlap.other} holds them too"
        )
        kept[overlap.one] = ours
    return kept, said


def _value(case: Case, key: str) -> str | None:
    """What a key is for a case. The download tools' folder names cut series identifiers short, so headers have them."""
    place = next(iter(case.images.values()))
    if key == "series" and place.is_dir():
        return series_uid(place)
    return case.parts.get(key)
