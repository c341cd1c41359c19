"""The scans of a run that goes on, each in the place that it had: what a region shows follows from those places."""

import re
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from torch import Tensor

from s2dc_core.data import Outline, Scan, ScanFacts, Scans
from s2dc_core.training.records import difference


class Placed(Sequence[Scan]):
    """Scans in the order of a run; reading one that is missing is an error, as for a file that cannot be read.

    Args:
        scans: those at hand.
        places: for each of the run's scans, where it is among them.
        missing: for those that are not, {place in the run: (what a quarantine calls it, what is wrong with it)}.

    Attributes:
        files: what a quarantine calls each.
    """

    def __init__(self, scans: Scans, places: Sequence[int | None], missing: Mapping[int, tuple[str, str]]):
        self.scans, self.places, self.missing = scans, places, missing
        files = getattr(scans, "files", None) or [f"scan {index}" for index in range(len(scans))]
        self.files = [missing[k][0] if at is None else files[at] for k, at in enumerate(places)]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Scan:
        """A scan; a ValueError says why it is missing."""
        return self.scans[self._place(index)]

    @property
    def in_parts(self) -> bool:
        """Whether parts of the scans can be read, see CachedScans."""
        return getattr(self.scans, "in_parts", False)

    def outline(self, index: int) -> Outline:
        """As of CachedScans; a ValueError says why a scan is missing."""
        return self.scans.outline(self._place(index))

    def cut(self, index: int, window: Sequence[slice]) -> tuple[Tensor, Tensor]:
        """As of CachedScans; a ValueError says why a scan is missing."""
        return self.scans.cut(self._place(index), window)

    def _place(self, index: int) -> int:
        if index in self.missing:
            raise ValueError(self.missing[index][1])
        return self.places[index]


class Found(NamedTuple):
    """What became of a run's scans.

    Attributes:
        places: for each of them, where it is among those at hand, None where it is missing.
        missing: {place in the run: (what a quarantine calls it, what is wrong with it)}.
        healed: names of those at hand that had been set apart before the run took its first step.
    """

    places: list[int | None]
    missing: dict[int, tuple[str, str]]
    healed: list[str]


def find_again(there: Sequence[str], here: Sequence[ScanFacts], apart: Mapping[str, str]) -> Found:
    """A run's scans among those at hand, by what they hold, whatever their order and names are now.

    Args:
        there: the facts of the run's scans, as texts.
        here: of those at hand.
        apart: {scan: what is wrong with it} of those that are known to be unusable, now or from the start on.

    Raises:
        ValueError: if others are at hand that the run was not made on.
    """
    texts = [str(facts) for facts in here]
    places: list[int | None] = [None] * len(there)
    for key in (str, _without_name):
        _match(there, texts, places, key)
    lost = [k for k, at in enumerate(places) if at is None]
    others = [index for index in range(len(here)) if index not in set(places)]
    changed = {here[index].name: index for index in others}
    unused, missing = dict(apart), {}
    for k in lost:
        name = name_in(there[k])
        if entry := _file_of(name, unused):
            missing[k] = (entry, unused.pop(entry))
        elif entry := _case_of(name, apart):
            missing[k] = (entry, apart[entry])
        elif name in changed:
            others.remove(changed.pop(name))
            missing[k] = (name, f"{name} has changed since the run started: it was {_without_name(there[k])}")
        else:
            missing[k] = (name, f"{name} is missing: the run was made on it")
    healed = [here[index].name for index in others if _file_of(here[index].name, unused)]
    if len(healed) < len(others) or (lost and len(lost) == len(there)):
        raise ValueError(f"made on other scans: {difference(there, texts)}")
    return Found(places, missing, healed)


def _match(there: Sequence[str], here: Sequence[str], places: list[int | None], key: Callable[[str], str]) -> None:
    """Give each scan that has no place yet the first at hand, in their order, that has the same key and is free."""
    free, taken = defaultdict(deque), set(places)
    for index, text in enumerate(here):
        if index not in taken:
            free[key(text)].append(index)
    for k, text in enumerate(there):
        if places[k] is None and free[key(text)]:
            places[k] = free[key(text)].popleft()


def name_in(text: str) -> str:
    """Of a scan, in the text of its facts."""
    return text.rpartition(": ")[0]


def _without_name(text: str) -> str:
    """Facts as they are whatever the scan is called: kind, grid and checksum."""
    return text.rpartition(": ")[2]


def _file_of(name: str, apart: Iterable[str]) -> str | None:
    """Which entry of a quarantine is a file of that name."""
    file = re.compile(rf"(?:.*/)?{re.escape(name)}(?:\.\w+){{0,2}}", re.DOTALL)
    return next((entry for entry in apart if file.fullmatch(entry)), None)


def _case_of(name: str, apart: Iterable[str]) -> str | None:
    """Which entry of a quarantine, such as "brats21 00003", is the case that a file of that name belongs to."""
    for entry in apart:
        case = entry.rpartition(" ")[2]
        if case != entry and re.search(rf"(?<!\d){re.escape(case)}(?!\d)", name):
            return entry
    return None
