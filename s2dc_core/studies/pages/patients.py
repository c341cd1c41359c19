"""Parts about labels carried to another patient, and README's three numbers."""

from s2dc_core.intervals import mean_interval
from s2dc_core.library import LONG, TITLES, ablation_results, match_results, patient_results, shipped_record
from s2dc_core.library.patients import compare, summary
from s2dc_core.studies.ablation import DEFAULT, UNTRAINED, scores_of
from s2dc_core.studies.pages.words import Interval, between, count, prose, series, side, spread, table
from s2dc_core.studies.published_matches import wrong_share

ROWS = {
    ("ct", "half"): "generated CT, {pairs} bodies, {organs} organs",
    ("ct_varied", "half"): "the same, of varied phase and scanner",
    ("headneck_ct", "lower"): "head and neck CT, {pairs} patients, {organs} organs, lower half",
    ("headneck_ct", "upper"): "head and neck CT, upper half",
}
COLUMNS = {
    "raw patch": ("raw", "nearest"),
    "random weights": ("untrained", "nearest"),
    "S2DC": ("s2dc", "nearest"),
    TITLES[LONG]: (LONG, "nearest"),
    "raw patch, deformed": ("raw", "deformed"),
    "S2DC, deformed": ("s2dc", "deformed"),
    f"{TITLES[LONG]}, deformed": (LONG, "deformed"),
}
WHOLE = {"ct": "generated CT", "headneck_ct": "head and neck CT"}


def _size(group: str, condition: str) -> dict[str, int]:
    """Pairs of a condition, and the organs that whole scans show."""
    scores = patient_results()["groups"][group]["s2dc"][0]
    organs = {organ for pair in scores["whole"] for organ in pair["dice"]["nearest"]}
    return {"pairs": len(scores[condition]), "organs": len(organs)}


def half_scans() -> str:
    """Table: Dice of labels carried to half a scan."""
    rows = []
    for (group, condition), words in ROWS.items():
        found = summary(patient_results(), group, condition)
        cells = [spread(found[arm][way]) for arm, way in COLUMNS.values()]
        rows.append([words.format(**_size(group, condition)), *cells])
    return table(["half of the other scan", *COLUMNS], rows)


def _against(arm: str, way: str, ours: str = "s2dc") -> str:
    """S2DC minus other features in the same way: its range over the rows, and in how many it is clear."""
    groups, rows = patient_results()["groups"], []
    for group, condition in ROWS:
        rows.append(compare(groups[group][ours], groups[group][arm], condition, way))
    means = [row["over pairs"][0] for row in rows]
    said = [f"over {over} {_in_rows([row[key] for row in rows])}" for key, over in
            (("over pairs", "pairs"), ("over seeds", "trainings"))
            if key in rows[0]]  # fmt: skip
    return f"{between(means, 2, signed=True)}, clearly above 0 {series(said)}"


def _in_rows(intervals: list[Interval]) -> str:
    above = sum(side(interval) > 0 for interval in intervals)
    words = {0: "in no row", len(intervals): "in every row"}
    return words.get(above, f"in {count(above)} of {count(len(intervals))} rows")


def half_scans_in_words() -> str:
    """Where plain tokens of S2DC are ahead, and where place or a deformation makes raw patches level."""
    groups = patient_results()["groups"]
    trainings = {arm: sorted({len(groups[group][arm]) for group, _ in ROWS}) for arm in ("s2dc", "untrained")}
    ours, random = (" to ".join(map(count, dict.fromkeys((numbers[0], numbers[-1])))) for numbers in trainings.values())
    hints = []
    for group, words in WHOLE.items():
        found = summary(patient_results(), group, "whole")
        hints.append(f"{found['raw']['place'][0]:.2f} and {found['s2dc']['nearest'][0]:.2f} on {words}")
    return prose(
        f"Trainings of S2DC: {ours}; of random weights: {random}. Intervals in the table are over the pairs.",
        f"- S2DC minus raw patches, plain tokens: {_against('raw', 'nearest')}.",
        f"- S2DC minus random weights, plain tokens: {_against('untrained', 'nearest')}.",
        "- S2DC minus raw patches, both *deformed* by an alignment of their own mutual matches:"
        f" {_against('raw', 'deformed')}.",
        f"- The one training of {shipped_record(LONG)['steps']:,} steps minus S2DC, plain tokens:"
        f" {_against('s2dc', 'nearest', LONG)}; both deformed: {_against('s2dc', 'deformed', LONG)}.",
        f"- In the *whole* scan, raw patches with a hint of place and plain S2DC have {series(hints)}.",
    )


def three_numbers() -> str:
    """README's list: organs found, labels saved, matches wrong."""
    found, size = summary(patient_results(), "ct", "half"), _size("ct", "half")
    dice = {arm: spread(found[arm]["nearest"]) for arm in ("s2dc", "untrained", "raw")}
    scores = scores_of(ablation_results())
    few, many = scores["probe, 3 labelled"], scores["probe, 12 labelled"]
    ours, same, most = (
        spread(mean_interval(list(values.values()))) for values in (few[DEFAULT], few[UNTRAINED], many[UNTRAINED])
    )
    gain = mean_interval([few[DEFAULT][seed] - many[UNTRAINED][seed] for seed in few[DEFAULT]])
    verb = "do more than" if side(gain) > 0 else "reach what" if gain[0] >= 0 else "do not reach what"
    published = match_results()["settings"]["published"]
    share, low, high = (100 * value for value in wrong_share(published))
    return prose(
        f"- **Dice {found['s2dc']['nearest'][0]:.2f}** over {size['organs']} organs in half a CT of another body,"
        f" carried from one labelled body by the nearest token: S2DC {dice['s2dc']}, random weights"
        f" {dice['untrained']}, raw patches {dice['raw']}; 95 % intervals over {count(size['pairs'])} pairs of bodies.",
        f"- **Three labels with S2DC {verb} twelve{'' if side(gain) > 0 else ' do'} with random weights.** A linear"
        f" probe of frozen S2DC tokens has a Dice of {ours} with three labelled bodies; of random weights {same} with"
        f" three and {most} with twelve. Over {count(len(few[DEFAULT]))} trainings the first minus the last is"
        f" {spread(gain, signed=True)}{'' if side(gain) else ': they are not told apart'}.",
        f"- **{share:.0f} %** of the matches that the published code trains on are wrong ({low:.1f} to {high:.1f} %"
        f" over {len(published['listed'])} random motions of its own ranges). Notebook 01 shows why, and proves the"
        " course's own right.",
    )
