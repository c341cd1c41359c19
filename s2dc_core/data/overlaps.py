"""Data sets that share cases: what their manifests say of it, and leaving shared cases out."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from s2dc_core.data.dicom import series_uid
from s2dc_core.data.layout import Case
from s2dc_core.data.manifests import Manifest, load_all, members_of


class Overlap(NamedTuple):
    """What one manifest says of another: of which kind, why, and the part of the names that tells (or None)."""

    one: str
    kind: str
    other: str
    note: str
    key: str | None

    def __str__(self) -> str:
        return f"{self.one} {self.kind} {self.other}: {self.note}"


def overlaps_of(*manifests: Manifest) -> list[Overlap]:
    """The known overlaps of one data set or collection with any other, or of several that are used together.

    Of a collection those of its members count too, among each other and with others.
    """
    used = {each.name for manifest in manifests for each in (manifest, *members_of(manifest))}
    known = _all({**load_all(), **{manifest.name: manifest for manifest in manifests}}.values())
    if len(manifests) > 1:
        return [overlap for overlap in known if {overlap.one, overlap.other} <= used]
    return [overlap for overlap in known if used & {overlap.one, overlap.other}]


def _all(manifests: Iterable[Manifest]) -> list[Overlap]:
    return [
        Overlap(manifest.name, relation["kind"], relation["with"], relation["note"], relation.get("key"))
        for manifest in manifests
        for relation in manifest.relations
    ]


def exclude_overlaps(
    trained: Mapping[str, Sequence[Case]], kept_apart: Mapping[str, Sequence[Case]], *manifests: Manifest
) -> tuple[dict[str, list[Case]], list[str]]:
    """The cases to train on without those that another data set holds too, where names tell; a line on each overlap.

    Of two data sets that are both trained on, the one whose manifest names the other gives way; what is kept apart
    never does. A data set that a collection takes from a downstream task gives way as a whole.

    Args:
        trained: {data set: the cases that training would read}.
        kept_apart: {data set: all its cases}, those of `trained` too if their other sections are scored on.
        manifests: of all of them, and of the collection.
    """
    left, said = {name: list(cases) for name, cases in trained.items()}, []
    for overlap in overlaps_of(*manifests) if len(manifests) > 1 else ():
        loser, winner = (overlap.one, overlap.other) if overlap.one in trained else (overlap.other, overlap.one)
        if loser not in left:
            continue
        before = len(left[loser])
        if overlap.kind == "used in":
            left[loser] = []
            said.append(f"all {before} cases of {loser} left out: a downstream task trains on them")
            continue
        theirs = {_value(case, overlap.key) for case in kept_apart.get(winner, left.get(winner, ()))}
        ours = [(_value(case, overlap.key), case) for case in left[loser]]
        left[loser] = [case for value, case in ours if value is None or value not in theirs]
        silent = sum(value is None for value, _ in ours) if None not in theirs else before
        said.append(f"{before - len(left[loser])} of {before} cases of {loser} left out: {winner} holds them too")
        if silent:
            said.append(
                f"names do not tell of {silent} cases of {loser} whether {winner} holds them ({overlap.note}): "
                f"`s2dc data check {loser}` with {winner}=DIR in --root finds what is equal voxel by voxel"
            )
    return left, said


def _value(case: Case, key: str | None) -> str | None:
    """What a key is for a case. The download tools' folder names cut series identifiers short, so headers have them."""
    place = next(iter(case.images.values()))
    if key == "series" and place.is_dir():
        return series_uid(place)
    return case.parts.get(key)
