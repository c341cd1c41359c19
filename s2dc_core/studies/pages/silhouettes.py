"""Parts about what pre-training made of organs: the shipped weights, and silhouettes on generated bodies and scans."""

import math
from collections.abc import Mapping
from statistics import mean

from s2dc_core.intervals import mean_interval
from s2dc_core.library import (
    ARMS,
    LONG,
    OTHERS,
    TITLES,
    length_results,
    patient_results,
    real_results,
    shipped_record,
    study_results,
)
from s2dc_core.library.arms import RATES
from s2dc_core.library.patients import summary
from s2dc_core.library.results import WEIGHTS
from s2dc_core.losses import PRESETS
from s2dc_core.studies.pages.words import Interval, between, compared, count, prose, series, spread, standing, table

IMAGES = {"phantom_ct": "CT", "phantom_pet": "PET", "phantom_mr_t1": "MR T1"}
NAMES = {**{arm: TITLES[arm] for arm in ARMS}, "s2dc": "S2DC, all three"}
NAMES = {"untrained": "random weights", **NAMES}
GROUPS = {
    "headneck_ct": "head and neck CT, {scans} patients, {organs} organs contoured by hand",
    "abdomen_ct": "abdominal CT, {scans} patient, {organs} structures labelled by a model",
    "brain_mr": "brain MR T1, {scans} person, {organs} structures labelled by a model",
}
COLUMNS = {
    "random weights": ("phantoms", "untrained"),
    "$L_g$": ("phantoms", "contrast"),
    "S2DC": ("phantoms", "s2dc"),
    "S2DC, trained on such scans": ("scans", "s2dc"),
}


def of_scans(scans: Mapping[str, Mapping[str, float]]) -> float:
    """Mean over organs, then over scans."""
    return mean(mean(organs.values()) for organs in scans.values())


def per_training(image: str) -> dict[str, list[float]]:
    """{arm: [silhouette of every training]} on generated bodies never seen."""
    return {arm: [of_scans(run[image]) for run in runs] for arm, runs in study_results()["silhouettes"].items()}


def against(other: str, arm: str = "s2dc") -> dict[str, Interval]:
    """An arm minus another one, paired by training: {title of an image: interval}."""
    values = {title: per_training(image) for image, title in IMAGES.items()}
    return {
        title: mean_interval([a - b for a, b in zip(found[arm], found[other], strict=True)])
        for title, found in values.items()
    }


def _own(recipe: Mapping) -> Mapping:
    """The method's fields of a recipe, which earlier records hold beside the others."""
    return recipe.get("options", recipe)


def weights() -> str:
    """What the shipped weights are and how they came about."""
    record, long = shipped_record("s2dc"), shipped_record(LONG)
    own, default, bodies = _own(record["recipe"]), PRESETS["default"], len(record["trained_on"]["bodies"])
    size = sum(file.stat().st_size for file in WEIGHTS.glob("*.safetensors")) / 1e6
    moments = [str(step) for step in record["snapshots"] if 0 < step < record["steps"]]
    voxels = " x ".join(map(str, record["recipe"]["encoder"]["sub_volume"]))
    loss, levels = own["loss_options"], series(list(map(str, own["levels"])))
    return prose(
        f"There are {count(len(ARMS))} encoders, the arms of the paper's table 7; {count(len(moments))} earlier"
        f" moments of the S2DC arm (steps {series(moments)}); `{LONG}`, a longer training; and {count(len(OTHERS))}"
        f" other methods ({series([f'`{name}`' for name in OTHERS])}, compared in [methods.md](methods.md)): float16,"
        f" {size:.0f} MB together, each with a record.",
        f"The arms were trained by the recipe `{study_results()['recipe']}`: {record['steps']} steps of"
        f" {count(math.prod(own['views']['counts']))} sub-volumes of {voxels} voxels, on {count(bodies)} generated"
        " bodies in CT, PET and MR.",
        f"The loss is {loss['contrast_weight']:g} $L_g$ + $L_{{p2p}}$ + $L_{{p2s}}$ at temperature"
        f" {loss['temperature']:g}, on tokens of the levels {levels} joined; the preset `default`, which the lessons"
        f" start from, has temperature {default.temperature:g} and weighs $L_g$ by {default.contrast_weight:g}.",
        f"`{LONG}` is S2DC again, {long['steps']:,} steps on {count(len(long['trained_on']['bodies']))} bodies.",
        f"$L_g$ alone is trained at {RATES['contrast']:g} of the others' learning rate, the best that was tried: at"
        " theirs it does not learn.",
    )


def silhouettes() -> str:
    """Table: silhouettes of every arm, and S2DC minus each other."""
    values = {image: per_training(image) for image in IMAGES}
    rows = [[name, *(spread(mean_interval(values[image][arm]), 3) for image in IMAGES)] for arm, name in NAMES.items()]
    for arm in (arm for arm in NAMES if arm != "s2dc"):
        rows.append([f"*S2DC minus {NAMES[arm]}*", *(spread(found, 3, signed=True) for found in against(arm).values())])
    return table(["silhouette of organs (cosine, mean over organs)", *IMAGES.values()], rows)


def silhouettes_in_words() -> str:
    """What the silhouettes decide."""
    study, contrast = study_results(), shipped_record("contrast")
    losses = [terms[1] for terms in contrast["losses_every_10"]]
    first = [found[0] for arm in ("p2p", "p2s") for found in against("contrast", arm).values()]
    second = [found[0] for arm in ("p2p", "p2s") for found in against(arm).values()]
    return prose(
        f"{count(len(study['seeds'])).capitalize()} trainings of each arm, all of a seed from the same start, were"
        f" measured on {count(len(study['unseen_bodies']))} bodies that none has seen; intervals are over the"
        " trainings.",
        f"- Against random weights S2DC is {compared(against('untrained'), 3)}.",
        f"- Against $L_g$ alone it is {compared(against('contrast'), 3)}.",
        f"- Against $L_g + L_{{p2p}}$ it is {compared(against('p2p'), 3)}; against $L_g + L_{{p2s}}$,"
        f" {compared(against('p2s'), 3)}.",
        f"- So the first structure loss, either of them, adds {between(first, 3, signed=True)} to $L_g$, and the second"
        f" {between(second, 3, signed=True)}.",
        f"- $L_g$ alone, against random weights, is {compared(against('untrained', 'contrast'), 3)}, though its own"
        f" loss falls, from {math.log(1 + _own(contrast['recipe'])['queue']):.1f} (chance) to {mean(losses[-4:]):.1f}"
        " (one training, mean of its last records).",
    )


def training_length() -> str:
    """Table: what one longer training was on the way, by silhouette, probe and labels carried to another body."""
    measured, rows = length_results()["steps"], []
    last = max(measured, key=int)
    carried = {condition: summary(patient_results(), "ct", condition) for condition in ("whole", "half")}
    for steps, found in measured.items():
        arm = LONG if steps == last else f"long_at_{int(steps):05d}"
        rows.append(
            [
                f"{int(steps):,}",
                *(f"{of_scans(found['silhouettes'][image]):.3f}" for image in IMAGES),
                *(f"{mean(organs.values()):.2f}" for organs in found["probe"].values()),
                *(f"{carried[condition][arm]['nearest'][0]:.2f}" for condition in carried),
            ]
        )
    probes = [f"probe, {bodies} labelled" for bodies in measured[last]["probe"]]
    silhouette = [f"silhouette, {title}" for title in IMAGES.values()]
    return table(["steps", *silhouette, *probes, "nearest token, whole CT", "half CT"], rows)


def real_silhouettes() -> str:
    """Table: the same encoders on real scans, and encoders that were trained on such scans."""
    rows = []
    for name, words in GROUPS.items():
        group = real_results()["groups"][name]
        first = group["phantoms"]["s2dc"][0]
        organs = {organ for found in first.values() for organ in found}
        cells = (mean(map(of_scans, group[source][arm])) for source, arm in COLUMNS.values())
        rows.append([words.format(scans=len(first), organs=len(organs)), *(f"{cell:.2f}" for cell in cells)])
    return table(["silhouette", *COLUMNS], rows)


def _over_patients(group: Mapping, one: tuple[str, str], other: tuple[str, str]) -> Interval:
    """One column minus another, the mean over trainings of each patient: interval over the patients."""
    ours, theirs = (
        {patient: mean(mean(run[patient].values()) for run in group[source][arm]) for patient in group[source][arm][0]}
        for source, arm in (one, other)
    )
    return mean_interval([ours[patient] - theirs[patient] for patient in ours])


def real_in_words() -> str:
    """What the silhouettes of the head and neck patients decide."""
    results = real_results()
    group, seeds = results["groups"]["headneck_ct"], results["seeds"]
    random, contrast, ours, trained = COLUMNS.values()
    said = [
        standing(_over_patients(group, one, other), name)
        for one, other, name in (
            (ours, random, "random weights"),
            (ours, contrast, "$L_g$"),
            (trained, random, "random weights"),
            (trained, ("scans", "contrast"), "$L_g$ trained on the same scans"),
        )
    ]
    return prose(
        "Encoders of the first three columns have seen generated bodies alone; trainings:"
        f" {count(len(seeds['phantoms']))}. Those of the last column were trained by the same recipe on other patients'"
        f" scans of the same kind, without labels; trainings: {count(len(seeds['scans']))}.",
        f"Over the {count(len(group['phantoms']['s2dc'][0]))} head and neck patients S2DC is {series(said[:2])}.",
        "Trained on scans of such patients instead (two halves, each measured by what was trained on the other), it is"
        f" {series(said[2:])}.",
        "Intervals are over the patients; a group of one scan has none.",
    )
