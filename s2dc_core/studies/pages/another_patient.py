"""The tables of docs/another_patient.md: every group, condition and way, differences, and places in mm."""

from collections.abc import Iterator
from statistics import mean

from s2dc_core.library import LONG, TITLES, patient_results
from s2dc_core.library.patients import compare, summary
from s2dc_core.studies.pages.words import spread, table

GROUPS = {
    "ct": "Generated CT",
    "ct_varied": "Generated CT of varied phase and scanner",
    "headneck_ct": "Head and neck CT, eight patients",
    "hippocampus_mr": "Hippocampi of MR, sixteen patients",
    "pet": "Generated PET",
    "mr_t1": "Generated MR, T1",
    "ct_fields": "Generated CT",
}
FIELDS = {
    "whole": "whole scan",
    "half": "half scan",
    "lower": "lower half",
    "upper": "upper half",
    "box": "a box of 60 % a side",
    "turned": "turned by 20 degrees",
}
ARMS = {
    "raw": "raw patch",
    "untrained": "random weights",
    "contrast": "$L_g$ alone",
    "p2p": TITLES["p2p"],
    "p2s": TITLES["p2s"],
    "s2dc": "S2DC",
    LONG: TITLES[LONG],
}
WAYS = {
    "nearest": "nearest",
    "place": "with place",
    "aligned": "aligned",
    "deformed": "deformed",
    "finer": "finer grid",
}
PAIRS = (
    ("nearest", "raw"),
    ("nearest", "untrained"),
    ("aligned", "raw"),
    ("deformed", "raw"),
    ("deformed", "untrained"),
)
"""Ways, and features that S2DC is compared with in them."""


def _asked() -> Iterator[tuple[str, str]]:
    """Groups and conditions that S2DC was scored in."""
    groups = patient_results()["groups"]
    for group in GROUPS:
        if "s2dc" in groups.get(group, {}):
            yield from ((group, condition) for condition in groups[group]["s2dc"][0])


def pair_tables() -> str:
    """A table for each group and condition: a row for each kind of features, a column for each way."""
    blocks = []
    for group, condition in _asked():
        found, runs = summary(patient_results(), group, condition), patient_results()["groups"][group]
        rows = []
        for arm, words in ARMS.items():
            if arm in found:
                trainings = "-" if arm == "raw" else len(runs[arm])
                cells = [spread(found[arm][way]) if way in found[arm] else "-" for way in WAYS]
                rows.append([f"{words} ({trainings})", *cells])
        blocks += [f"**{GROUPS[group]}, {FIELDS[condition]}**", table(["features (trainings)", *WAYS.values()], rows)]
        if "baselines" in found:
            said = [f"{way} {spread(values)}" for way, values in found["baselines"].items()]
            blocks.append(f"Without features: {', '.join(said)}.")
    return "\n\n".join(blocks)


def pair_differences() -> str:
    """Table: S2DC minus raw patches, random weights and registration, intervals over pairs and over trainings."""
    rows = []
    for group, condition in _asked():
        runs = patient_results()["groups"][group]
        compared = [(way, arm, None) for way, arm in PAIRS if arm in runs]
        compared += [("deformed", "baselines", "bspline")] if "baselines" in runs else []
        for ours in [each for each in ("s2dc", LONG) if each in runs]:
            for way, arm, theirs in compared:
                found = compare(runs[ours], runs[arm], condition, way, theirs)
                over = [
                    spread(found[key], signed=True) if key in found else "-" for key in ("over pairs", "over seeds")
                ]
                against = f"{ARMS[ours]} {way} - {theirs or ARMS[arm]}"
                rows.append([f"{GROUPS[group]}, {FIELDS[condition]}", against, *over])
    return table(["scans", "difference in Dice", "over pairs", "over trainings"], rows)


def places() -> str:
    """Table: mean distance in mm of places from their true partners, by features and way."""
    rows = []
    for group, condition in _asked():
        for arm, words in {**ARMS, "baselines": "registration"}.items():
            scored = [runs for runs in patient_results()["groups"][group].get(arm, []) if condition in runs]
            if scored and "body_mm" in scored[0][condition][0]:
                errors = [pair["body_mm"] for runs in scored for pair in runs[condition]]
                means = {way: mean(each[way]["mean"] for each in errors if way in each) for way in errors[0]}
                said = ", ".join(f"{way} {value:.1f}" for way, value in means.items())
                rows.append([f"{GROUPS[group]}, {FIELDS[condition]}", words, said])
    return table(["scans", "features", "mean mm"], rows)
