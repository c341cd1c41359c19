"""Encoders compared on labelled scans without training them, beside what needs no encoder: the command `s2dc evaluate`.

Scans are scored as ordered neighbours: each labels the next one, and the last the first. So every scan is asked once
and answers once. Intervals are over these pairs; neighbouring pairs share a scan, so they are a little too narrow.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import pairwise
from numbers import Integral, Real
from statistics import mean
from time import perf_counter
from typing import Any, NamedTuple

from tqdm.auto import tqdm

from s2dc_core.data import Scan, settings_of, structure_problem
from s2dc_core.data.manifests import columns
from s2dc_core.data.structures import structure_grid
from s2dc_core.encoder import LEVELS, Encoder
from s2dc_core.evaluation.baselines import starts_along
from s2dc_core.evaluation.conditions import half as half_of
from s2dc_core.evaluation.pair_scores import TITLES, carried_way, score_baselines, score_features
from s2dc_core.evaluation.pairs import WAYS, Side, Weights, encoded_by, patches_of
from s2dc_core.features import organ_silhouettes, organ_tokens
from s2dc_core.intervals import mean_interval
from s2dc_core.options import whole_numbers

RAW, UNTRAINED, BASELINES = "raw patches", "untrained", "place, centroids, registration"

OF_ENCODERS = Weights()
"""Of place and alignment, for the features of any encoder; as RAW_WEIGHTS chosen on generated bodies."""

RAW_WEIGHTS = Weights(10.0, 0.03, "euclidean")
"""The same for raw patches; chosen on generated bodies too."""

USUAL_WAYS = tuple(way for way in WAYS if way != "finer")

MEASURES = {
    "dice": "Dice, tokens",
    "voxel_dice": "Dice, voxels",
    "surface_dice": "NSD, 5 mm",
    "retrieval": "retrieval",
    "landmarks_mm": "landmarks, mm",
    "silhouette": "silhouette",
}

DETAILS = tuple(MEASURES)[1:-1]
"""Of pairs, beside Dice in tokens."""


class Mean(NamedTuple):
    """A mean over pairs, or over scans, with its 95 % Student-t interval; None where fewer than two have none.

    Attributes:
        count: of pairs or scans.
    """

    mean: float
    low: float | None
    high: float | None
    count: int

    @classmethod
    def of(cls, values: Sequence[float | None]) -> "Mean | None":
        """Of the values that there are; None of none."""
        known = [value for value in values if value is not None]
        if len(known) < 2:
            return cls(known[0], None, None, 1) if known else None
        return cls(*mean_interval(known), len(known))

    def words(self, digits: int, sign: str = "") -> str:
        """Such as 0.612 (0.553 to 0.671)."""
        inside = "no interval" if self.low is None else f"{self.low:{sign}.{digits}f} to {self.high:{sign}.{digits}f}"
        return f"{self.mean:{sign}.{digits}f} ({inside})"


class Row(NamedTuple):
    """A line of the summary.

    Attributes:
        condition: "whole", "half", or "scans" for silhouettes.
        way: one of WAYS, "probe", "place", "registered"; "" for a silhouette.
        difference: the first encoder minus this method, paired; None for itself and where it has no such measure.
        against: the way of the first encoder in that difference: the same, or for a registration the deformed one.
    """

    condition: str
    method: str
    way: str
    measure: str
    value: Mean
    difference: Mean | None
    against: str


class Report(NamedTuple):
    """What `evaluate` measured.

    Attributes:
        settings: levels, ways, how the scans were prepared and whatever else decides the numbers.
        methods: in the order of the tables, the first encoder first.
        names: label to name.
        scores: {condition: {method: [of each pair {"labelled", "target", and what score_features returns}]}}; a pair
            whose target shows no organ of the labelled scan has "left_out" instead, the reason.
        silhouettes: {encoder: [of each scan {"scan", "silhouette": {label: value}}]}; empty with fewer than two organs.
    """

    settings: dict[str, Any]
    methods: list[str]
    names: dict[int, str]
    scores: dict[str, dict[str, list[dict]]]
    silhouettes: dict[str, list[dict]]

    def values(self, condition: str, method: str, way: str, measure: str) -> list[float | None]:
        """Of each pair the mean over organs; None where there is none. For condition "scans" of each scan."""
        if condition == "scans":
            found = [each["silhouette"] for each in self.silhouettes.get(method, [])]
        else:
            pairs = [pair.get(measure, {}) for pair in self.scores[condition].get(method, [])]
            found = [(pair if way == "nearest" else {}) if measure == "retrieval" else pair.get(way) for pair in pairs]
        return [mean(organs.values()) if organs else None for organs in found]

    def summary(self) -> list[Row]:
        """All means, each with its interval and its paired difference from the first encoder."""
        rows = []
        for condition in (*self.scores, "scans"):
            for method in self.methods:
                for way in [""] if condition == "scans" else self._ways(condition, method):
                    for measure in ("silhouette",) if condition == "scans" else ("dice", *DETAILS):
                        if (row := self._row(condition, method, way, measure)) is not None:
                            rows.append(row)
        return rows

    def _ways(self, condition: str, method: str) -> list[str]:
        return list(next((pair["dice"] for pair in self.scores[condition][method] if "dice" in pair), {}))

    def _row(self, condition: str, method: str, way: str, measure: str) -> Row | None:
        own = self.values(condition, method, way, measure)
        if (value := Mean.of(own)) is None:
            return None
        first, against = self.methods[0], carried_way(self.settings["ways"]) if way == "registered" else way
        theirs = self.values(condition, first, against, measure)
        gains = [a - b for a, b in zip(theirs, own, strict=True) if None not in (a, b)]
        return Row(condition, method, way, measure, value, None if method == first else Mean.of(gains), against)

    def record(self) -> dict[str, Any]:
        """All of it as JSON takes it, with the summary."""
        rows = [
            row._asdict() | {"value": row.value._asdict(), "difference": row.difference and row.difference._asdict()}
            for row in self.summary()
        ]
        return self._asdict() | {"summary": rows}

    def dice(self) -> dict[str, dict[str, dict[str, Mean]]]:
        """{condition: {method: {way: Dice in tokens}}}, as plots.plot_evaluation takes it."""
        found: dict[str, dict[str, dict[str, Mean]]] = {condition: {} for condition in self.scores}
        for row in self.summary():
            if row.measure == "dice":
                found[row.condition].setdefault(row.method, {})[row.way] = row.value
        return found

    def table(self) -> str:
        """The summary as text, a block per condition."""
        rows, blocks = self.summary(), []
        for condition in self.scores:
            here = [row for row in rows if row.condition == condition]
            blocks += [self._dice_table(condition, here), _detail_table(here)]
        blocks.append(self._silhouette_table([row for row in rows if row.condition == "scans"]))
        return "\n\n".join(filter(None, blocks))

    def _dice_table(self, condition: str, rows: Sequence[Row]) -> str:
        pairs = self.scores[condition][self.methods[0]]
        scored = sum("left_out" not in pair for pair in pairs)
        shown = "the whole scan is asked" if condition == "whole" else "its upper or lower half is asked, in turns"
        note = "" if scored == len(pairs) else f", {len(pairs) - scored} more show no organ of the labelled scan"
        few = "; no interval of fewer than two" if scored < 2 else ", 95 % Student-t intervals"
        lines = [("method", "way", MEASURES["dice"], f"{self.methods[0]} minus it")]
        lines += [_cells(row) for row in rows if row.measure == "dice"]
        return f"{shown}: means over {scored} pairs{few}{note}\n{columns(lines)}"

    def _silhouette_table(self, rows: Sequence[Row]) -> str:
        lines = [(row.method, *_cells(row)[2:]) for row in rows]
        return columns([("method", "silhouette, over scans", f"{self.methods[0]} minus it"), *lines]) if lines else ""


def _cells(row: Row) -> tuple[str, str, str, str]:
    difference = "" if row.difference is None else row.difference.words(3, "+")
    other = f" by {row.against}" if row.difference is not None and row.against != row.way else ""
    return row.method, row.way, row.value.words(3), difference + other


def _detail_table(rows: Sequence[Row]) -> str:
    """What is measured beside Dice in tokens: a line per method and way."""
    lines: dict[tuple[str, str], dict[str, str]] = {}
    for row in rows:
        if row.measure in DETAILS:
            digits = 1 if row.measure == "landmarks_mm" else 3
            lines.setdefault((row.method, row.way), {})[row.measure] = row.value.words(digits)
    table = [(*place, *(cells.get(name, "") for name in DETAILS)) for place, cells in lines.items()]
    return columns([("method", "way", *(MEASURES[name] for name in DETAILS)), *table]) if table else ""


class _Method(NamedTuple):
    """What makes tokens of a scan, and their weights; None for the baselines, which need the tokens' grid alone."""

    name: str
    encode: Callable
    weights: Weights | None


class _Plan(NamedTuple):
    """What is done with each pair."""

    conditions: tuple[str, ...]
    ways: tuple[str, ...]
    neighbours: int
    registration: bool
    missing: dict[str, list[str | None]]


def evaluate(
    encoders: Mapping[str, Encoder],
    scans: Sequence[Scan],
    levels: Sequence[Integral] = (1, 2, 3),
    *,
    ways: Sequence[str] = USUAL_WAYS,
    half: bool = False,
    neighbours: Integral = 1,
    registration: bool = True,
    untrained: bool = True,
    progress: bool = False,
    say: Callable[[str], object] | None = None,
) -> Report:
    """Encoders compared on labelled scans, without training them, and with what needs none.

    Labels are carried from each scan to the next one by frozen features in several ways and by a linear probe; raw
    patches go through the same ways, beside an encoder that was never trained, place alone, organ centroids and the
    registration of the images. The probe learns on one scan and is scored on the next, so it compares with the rest.

    Args:
        encoders: {name: encoder}, each of one input channel; the first is compared with every other row.
        scans: two or more, with labels; spacings may differ.
        levels: token levels that are joined, finest first.
        ways: some of pairs.WAYS.
        half: ask, beside the whole scan, for its upper or lower half in turns; landmarks are then those organs that
            are not cut.
        neighbours: tokens that vote in the ways "nearest", "place" and "aligned".
        registration: of the images, affine and B-spline; a minute or so a pair.
        untrained: add an encoder of the first one's sizes, from seed 0; not if one has this name.
        progress: show a bar.
        say: is given a sentence after each method, with the seconds that it took.

    Raises:
        ValueError: before anything is encoded, for fewer than two scans, one without labels, neighbours that share no
            label, an encoder of several channels, of another grid of tokens or without a level, and unknown ways.
    """
    levels, (neighbours,) = whole_numbers("level", levels), whole_numbers("neighbours", [neighbours], 1)
    patch = _check(encoders, scans, levels, ways)
    conditions = ("whole", "half") if half else ("whole",)
    missing = {condition: _missing(scans, condition, patch) for condition in conditions}
    plan = _Plan(conditions, tuple(way for way in WAYS if way in {"nearest", *ways}), neighbours, registration, missing)
    added = {UNTRAINED: Encoder.from_seed(next(iter(encoders.values())).config, 0).eval()} if untrained else {}
    encoders = {**encoders, **{name: each for name, each in added.items() if name not in encoders}}
    methods = [_Method(name, encoded_by(encoder, levels), OF_ENCODERS) for name, encoder in encoders.items()]
    methods += [_Method(RAW, patches_of(patch), RAW_WEIGHTS), _Method(BASELINES, patches_of(patch), None)]
    scores: dict[str, dict[str, list[dict]]] = {condition: {} for condition in conditions}
    silhouettes: dict[str, list[dict]] = {}
    count = len(methods) * len(scans) * len(conditions)
    with tqdm(total=count, disable=not progress, unit="pair", leave=False) as bar:
        for method in methods:
            bar.set_description(method.name)
            start = perf_counter()
            for number, (labelled, target) in enumerate(_neighbours(scans, method.encode)):
                if method.name in encoders:
                    entry = {"scan": target.scan.name, "silhouette": _silhouette(target)}
                    silhouettes.setdefault(method.name, []).append(entry)
                for condition in conditions:
                    for name, record in _scored(method, labelled, target, plan, condition, number):
                        scores[condition].setdefault(name, []).append(record)
                    bar.update()
            if say:
                say(f"{method.name}: {perf_counter() - start:.0f} s")
    return Report(_settings(plan, levels, patch, scans), list(scores["whole"]), _names(scans), scores, silhouettes)


def _scored(
    method: _Method, labelled: Side, target: Side, plan: _Plan, condition: str, number: int
) -> Iterator[tuple[str, dict]]:
    """Of one pair the records of a method, or of all those that need no features."""
    pair = {"labelled": labelled.scan.name, "target": target.scan.name}
    reason = plan.missing[condition][number]
    if reason is not None:
        names = [method.name] if method.weights else _without_features(plan.registration)
        yield from ((name, pair | {"left_out": reason}) for name in names)
        return
    asked = Side.of(_shown(target.scan, condition, number), method.encode) if condition == "half" else target
    starts = starts_along(labelled.scan, asked.scan) if plan.registration else None
    if method.weights:
        found = {method.name: score_features(labelled, asked, method.weights, plan.ways, plan.neighbours)}
    else:
        found = score_baselines(labelled, asked, starts)
    uncut = _uncut(target.scan, asked.scan)
    for name, record in found.items():
        marks = {way: _only(organs, uncut) for way, organs in record.get("landmarks_mm", {}).items()}
        yield name, pair | record | ({"landmarks_mm": marks} if marks else {})


def _uncut(scan: Scan, shown: Scan) -> set[int]:
    """The labels of which all voxels are shown; the centroid of a cut organ is another place of the body."""
    known, left = (
        dict(zip(*(part.tolist() for part in each.label.unique(return_counts=True)), strict=True))
        for each in (scan, shown)
    )
    return {label for label, count in known.items() if left.get(label) == count}


def _only(organs: Mapping[int, float], labels: Collection[int]) -> dict[int, float]:
    return {label: value for label, value in organs.items() if label in labels}


def _without_features(registration: bool) -> list[str]:
    return ["place alone", "centroids", *(TITLES.values() if registration else ())]


def _neighbours(scans: Sequence[Scan], encode: Callable) -> Iterator[tuple[Side, Side]]:
    """Each scan with the next one, the last with the first; three at most are held at a time."""
    first = last = Side.of(scans[0], encode)
    for scan in scans[1:]:
        now = Side.of(scan, encode)
        yield last, now
        last = now
    yield last, first


def _shown(scan: Scan, condition: str, number: int) -> Scan:
    return half_of(scan, number % 2 == 1) if condition == "half" else scan


def _silhouette(side: Side) -> dict[int, float]:
    """As scan_silhouettes, of tokens that are there already; empty with fewer than two organs of five tokens."""
    if structure_problem(side.scan, side.tokens.patch, "a silhouette"):
        return {}
    tokens = organ_tokens(side.tokens, side.scan.label)
    return organ_silhouettes(tokens.features, tokens.organ)


def _check(
    encoders: Mapping[str, Encoder], scans: Sequence[Scan], levels: Sequence[int], ways: Sequence[str]
) -> tuple[int, int, int]:
    """The sides of a token in voxels, the same for all encoders."""
    if not encoders:
        raise ValueError("no encoder: give at least one")
    if strange := [way for way in ways if way not in WAYS]:
        raise ValueError(f"there is no way {', '.join(strange)}: there are {', '.join(WAYS)}")
    if not levels or levels != tuple(sorted(set(levels))) or not set(levels) <= set(range(LEVELS)):
        raise ValueError(f"levels {tuple(levels)}: give some of 0 to {LEVELS - 1}, each once, finest first")
    if "finer" in ways and levels[0] == 0:
        raise ValueError("the way finer goes on with the level below the finest one: there is none below 0")
    for name, encoder in encoders.items():
        if name in (RAW, BASELINES, *_without_features(True)):
            raise ValueError(f"{name} is what a baseline is called: give the encoder another name")
        if (channels := encoder.config.in_channels) != 1:
            raise ValueError(f"the encoder {name} has {channels} input channels: open it with in_channels=1")
    patches = {encoder.stride(levels[0]) for encoder in encoders.values()}
    if len(patches) > 1:
        sizes = "; ".join(f"{name}: {encoder.stride(levels[0])}" for name, encoder in encoders.items())
        raise ValueError(f"tokens of different sizes cannot be compared ({sizes}): give encoders of one patch size")
    if len(scans) < 2:
        raise ValueError(f"{len(scans)} scan: labels are carried from one scan to another, give two or more")
    if bare := [scan.name for scan in scans if scan.label is None or not scan.label.any()]:
        raise ValueError(f"no labels in {', '.join(bare)}: every scan is asked, and labels another")
    return patches.pop()


def _missing(scans: Sequence[Scan], condition: str, patch: Sequence[int]) -> list[str | None]:
    """Of each pair why it cannot be scored, None where it can; a ValueError if whole scans share nothing."""
    whole, reasons = [_labels_of(scan, patch) for scan in scans], []
    for number, (labelled, target) in enumerate(pairwise([*range(len(scans)), 0])):
        there = whole[target] if condition == "whole" else _labels_of(_shown(scans[target], condition, number), patch)
        names = f"{scans[labelled].name} and {scans[target].name}"
        if condition == "whole" and not whole[labelled] & there:
            raise ValueError(f"{names} share no label that fills half a token: give scans with organs in common")
        reasons.append(None if whole[labelled] & there else f"{names} share no label in the {condition}")
    if all(reasons):
        raise ValueError(f"no pair shares a label in the {condition}: leave it out")
    return reasons


def _labels_of(scan: Scan, patch: Sequence[int]) -> set[int]:
    return set(structure_grid(scan, patch).unique().tolist()) - {0}


def _names(scans: Sequence[Scan]) -> dict[int, str]:
    return {label: name for scan in reversed(scans) for label, name in scan.names.items()}


def _settings(plan: _Plan, levels: Sequence[int], patch: Sequence[Real], scans: Sequence[Scan]) -> dict[str, Any]:
    return {
        "levels": list(levels),
        "token_voxels": list(patch),
        "ways": list(plan.ways),
        "neighbours": plan.neighbours,
        "conditions": list(plan.conditions),
        "registration": plan.registration,
        "weights_of_encoders": OF_ENCODERS._asdict(),
        "weights_of_raw_patches": RAW_WEIGHTS._asdict(),
        "scans": [scan.name for scan in scans],
        "prepared": settings_of(scans),
    }
