"""Parts about which term and which choice does what: the ablation, and the published matches."""

from collections.abc import Mapping
from statistics import mean

from s2dc_core.library import ablation_results, match_results
from s2dc_core.studies.ablation import DEFAULT, differences_from, scores_of
from s2dc_core.studies.pages.words import Interval, count, prose, series, side, spread, table, verdict
from s2dc_core.studies.published_matches import wrong_share

MEASURES = ("silhouette", "probe, 3 labelled", "probe, 12 labelled", "fine-tuned")
WORDS = {
    "untrained": "random weights",
    "L_g": "$L_g$ alone",
    "L_g + L_p2p": "$L_g + L_{p2p}$",
    "L_g + L_p2s": "$L_g + L_{p2s}$",
}
PERCENT = 100


def _differences() -> dict[str, dict[str, Interval]]:
    """{row: {measure: row minus the default}}; a measure that a row lacks is left out."""
    scores = scores_of(ablation_results())
    found = {measure: differences_from(scores[measure]) for measure in MEASURES}
    rows = (row for row in ablation_results()["rows"] if row != DEFAULT)
    return {row: {measure: found[measure][row] for measure in MEASURES if row in found[measure]} for row in rows}


def ablation() -> str:
    """Table: each row minus the default, clear ones in bold."""
    scores = scores_of(ablation_results())
    rows = [[f"*{DEFAULT} itself*", *(f"{PERCENT * mean(scores[name][DEFAULT].values()):.1f}" for name in MEASURES)]]
    for row, found in _differences().items():
        words = {measure: spread(interval, 1, True, PERCENT) for measure, interval in found.items()}
        bold = {measure: f"**{words[measure]}**" if side(found[measure]) else words[measure] for measure in found}
        rows.append([WORDS.get(row, row), *(bold.get(measure, "-") for measure in MEASURES)])
    return table([f"minus {DEFAULT}, times 100", *MEASURES], rows)


def _clear(found: Mapping[str, Interval], sign: int) -> list[str]:
    return [measure for measure, interval in found.items() if side(interval) == sign]


def _named(rows: Mapping[str, list[str]], where: bool) -> str:
    """Rows, with the measures in which they are clear if asked."""
    said = [f"{WORDS.get(row, row)}{f' ({series(measures)})' if where else ''}" for row, measures in rows.items()]
    return "; ".join(said) or "none"


def ablation_in_words() -> str:
    """Which rows are clear in every measure, which in some, and how many would be by chance."""
    found, results = _differences(), ablation_results()
    below, above = ({row: clear for row in found if (clear := _clear(found[row], sign))} for sign in (-1, 1))
    always = {row: measures for row, measures in below.items() if len(measures) == len(found[row])}
    partly = {row: measures for row, measures in below.items() if row not in always}
    nowhere = {row: [] for row in found if row not in below and row not in above}
    comparisons, seeds = sum(map(len, found.values())), count(len(results["rows"][DEFAULT]["seeds"]))
    clear = sum(len(measures) for rows in (below, above) for measures in rows.values())
    return prose(
        f"There are {len(results['rows'])} encoders, one choice different from the default each, {seeds} seeds each,"
        " paired by seed. Bold is clear.",
        f"- **Clearly below in every column that has them:** {_named(always, False)}.",
        f"- **Clearly below in some columns alone:** {_named(partly, True)}.",
        f"- **Clearly above in some:** {_named(above, True)}.",
        f"- **Nothing that {seeds} seeds can see:** {_named(nowhere, False)}.",
        f"{clear} of {comparisons} comparisons are clear; {0.05 * comparisons:.0f} would be by chance alone, so one"
        " that barely misses 0 is no finding.",
    )


def published_matches() -> str:
    """How many of the published matches are wrong, and what that costs an encoder."""
    settings = match_results()["settings"]
    ours, theirs = (
        spread(wrong_share(settings[name]), 1, factor=PERCENT, unit=" %") for name in ("lessons", "published")
    )
    listed, patch = (
        settings["published"]["listed"],
        {name: found["recipe"]["patch"][0] for name, found in settings.items()},
    )
    lost = _differences()["published matches"]["probe, 12 labelled"]
    return prose(
        f"Of the pairs that the published code lists under its own ranges, {theirs} are wrong: {sum(listed):,} pairs of"
        f" {len(listed)} random motions in the plane, patches of {patch['published']} voxels; the interval is over the"
        " motions.",
        f"Under the larger motions of the recipe `teaching`, in three dimensions with patches of {patch['lessons']}"
        f' voxels, its list would be wrong in {ours}. That is what the row "published matches" trains on.',
        f"What it costs, in a probe's Dice with 12 labelled bodies, is {verdict(lost)}:"
        f" {spread(lost, 1, signed=True, factor=PERCENT)} points.",
    )
