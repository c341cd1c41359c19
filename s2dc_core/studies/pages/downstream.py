"""Parts about what pre-training gives downstream: on generated bodies, and on patients with few labels."""

from statistics import mean

from s2dc_core.intervals import mean_interval
from s2dc_core.library import few_label_results, transfer_results
from s2dc_core.studies import few_labels
from s2dc_core.studies.pages.words import Interval, count, prose, series, side, spread, standing, table, verdict
from s2dc_core.studies.transfer import paired_gains, per_seed

OTHERS = {"contrast": "$L_g$ alone", "p2p": "$L_g + L_{p2p}$", "p2s": "$L_g + L_{p2s}$"}
IMAGES = {"dose": "1/50 of the dose to the full dose", "T1 to T2": "T1 to T2", "T1 to T1ce": "T1 to T1ce"}
SCORES = {"PSNR": 2, "NMSE": 4, "SSIM": 3}
"""Scores of images, and their digits."""
PATIENTS = {
    "headneck_ct": "{patients} head and neck CTs, {labels} organs",
    "hippocampus_mr": "{patients} hippocampi in MR, {labels} parts",
    "sarcoma_pet_ct_mr": "{patients} sarcomas in PET, CT and T1",
}
SHORT = {"headneck_ct": "head and neck", "hippocampus_mr": "hippocampus", "sarcoma_pet_ct_mr": "tumours"}
PERCENT = 100


def _by_labels(question: str, score: str) -> dict[int, dict[str, list[float]]]:
    """{labelled bodies: {start: [score of each training]}}."""
    found = transfer_results()["questions"][question]
    return {
        found["labelled"][share]: {start: per_seed(runs, score) for start, runs in starts.items()}
        for share, starts in found["scores"].items()
    }


def _gains(question: str, score: str) -> dict[int, Interval]:
    """{labelled bodies: S2DC minus from scratch}."""
    found = transfer_results()["questions"][question]
    return {found["labelled"][share]: paired_gains(runs, score)["scratch"] for share, runs in found["scores"].items()}


def _paired(ours: list[float], theirs: list[float]) -> Interval:
    return mean_interval([one - other for one, other in zip(ours, theirs, strict=True)])


def _percent(interval: Interval) -> str:
    return spread(interval, 1, signed=True, factor=PERCENT)


def _labels_table(question: str, score: str) -> str:
    gains, rows = _gains(question, score), []
    for labelled, starts in _by_labels(question, score).items():
        means = [f"{PERCENT * mean(starts[start]):.1f}" for start in ("scratch", "s2dc")]
        rows.append([str(labelled), *means, _percent(gains[labelled])])
    return table(["labelled bodies", "from scratch", "S2DC", "S2DC minus from scratch"], rows)


def segmentation() -> str:
    """Table: Dice of organs against labelled bodies."""
    return _labels_table("organs", "Dice")


def segmentation_in_words() -> str:
    """How many labels S2DC saves, what limits scratch, and the other arms."""
    found, question = _by_labels("organs", "Dice"), transfer_results()["questions"]["organs"]
    fewest, second, *_, most = sorted(found)
    one, all_ = found[fewest]["s2dc"], found[most]["scratch"]
    saved = _paired(one, all_)
    grown = _paired(found[most]["scratch"], found[second]["scratch"])
    limit = f": its {question['recipe']['steps']} steps limit it more than the labels, so part of the gain is speed"
    clear = [str(labelled) for labelled, gain in _gains("organs", "Dice").items() if side(gain)]
    word = {1: "more than", 0: "as much as", -1: "less than"}[side(saved)]
    return prose(
        f"- **With {count(fewest)} labelled body S2DC has {PERCENT * mean(one):.1f}, {word} from scratch with"
        f" {count(most)}: {PERCENT * mean(all_):.1f}.** The difference is {_percent(saved)}.",
        f"- From {second} to {most} labelled bodies scratch grows by {_percent(grown)},"
        f" {verdict(grown)}{'' if side(grown) else limit}.",
        f"- The gain is clear with {series(clear)} labelled bodies. Its intervals overlap: whether it shrinks with more"
        " labels is not decided.",
        *_arms_in_words(),
    )


def _arms_in_words() -> list[str]:
    """The other arms of table 7, with few labels."""
    arms = transfer_results()["questions"]["organs, arms"]
    ((labelled, found),) = _by_labels("organs, arms", "Dice").items()
    ((_, runs),) = arms["scores"].items()
    gains = paired_gains(runs, "Dice")
    means = [f"{name} {PERCENT * mean(found[arm]):.1f}" for arm, name in OTHERS.items()]
    said = [f"it is {standing(gains[arm], name, 1, PERCENT)}" for arm, name in OTHERS.items()]
    contrast = _paired(found["contrast"], found["scratch"])
    return [
        f"- The other arms of table 7, with {count(labelled)} labelled bodies, have: {series(means)}. S2DC against"
        f" them: {'; '.join(said)}.",
        f"- $L_g$ alone is {standing(contrast, 'the start from scratch', 1, PERCENT)}.",
    ]


def classification() -> str:
    """Table: accuracy on lungs against labelled bodies."""
    return _labels_table("lungs", "accuracy")


def classification_in_words() -> str:
    """What the accuracies decide, and whether the task was learnt."""
    found, recipe = _by_labels("lungs", "accuracy"), transfer_results()["questions"]["lungs"]["recipe"]
    ours = [PERCENT * mean(starts["s2dc"]) for starts in found.values()]
    clear = [str(labelled) for labelled, gain in _gains("lungs", "accuracy").items() if side(gain)]
    lines = [
        f"Chance is {PERCENT / 3:.1f}. The difference is clear with {series(clear)} labelled bodies, of"
        f" {series(list(map(str, found)))}."
        if clear
        else f"Chance is {PERCENT / 3:.1f}. No difference is clear."
    ]
    if ours[-1] < ours[0]:
        lines.append(
            f"**The accuracy of S2DC falls with more labels** ({series([f'{value:.1f}' for value in ours])}):"
            f" {recipe['steps']} steps of {recipe['batch']} bodies do not teach the task, so the table is no evidence"
            " of labels saved. It is a lesson about intervals."
        )
    return prose(*lines)


def images() -> str:
    """Table: scores of images made from images."""
    rows = []
    for question, words in IMAGES.items():
        for score, digits in SCORES.items():
            ((_, starts),) = _by_labels(question, score).items()
            ((_, gain),) = _gains(question, score).items()
            means = [f"{mean(starts[start]):.{digits}f}" for start in ("scratch", "s2dc")]
            rows.append([words, score, *means, spread(gain, digits, signed=True)])
    return table(["images", "score", "from scratch", "S2DC", "S2DC minus from scratch"], rows)


def images_in_words() -> str:
    """Whether any of the differences is clear."""
    gains = [gain for question in IMAGES for score in SCORES for gain in _gains(question, score).values()]
    clear = sum(side(gain) != 0 for gain in gains)
    number = count(clear).capitalize() if clear else "None"
    return f"{number} of the {count(len(gains))} differences {'is' if clear < 2 else 'are'} clear."


def patients() -> str:
    """Table: fine-tuning on patients with few labels."""
    rows = []
    for name, words in PATIENTS.items():
        group = few_label_results()["groups"][name]
        for labelled, found in group["tuned"].items():
            means = [mean(few_labels.per_patient(found[arm], "Dice").values()) for arm in ("scratch", "s2dc")]
            seeds = few_labels.by_seed(found, "s2dc", "scratch", "Dice")
            rows.append(
                [
                    words.format(patients=len(found["s2dc"]), labels=len(group["labels"])),
                    labelled,
                    *(f"{PERCENT * value:.1f}" for value in means),
                    _percent(few_labels.paired(found, "s2dc", "scratch", "Dice")),
                    ", ".join(f"{PERCENT * seed:+.1f}" for seed in seeds),
                ]
            )
    return table(
        ["patients, contoured by hand", "labelled", "from scratch", "S2DC", "difference", "of each seed"], rows
    )


def patients_in_words() -> str:
    """The linear probe on patients, and the translation of brains."""
    groups, lines = few_label_results()["groups"], []
    for place, words in ((0, "one labelled patient"), (-1, "half of the patients labelled")):
        found = {}
        for name, short in SHORT.items():
            probe = groups[name]["probe"]
            found[short] = few_labels.paired(probe[sorted(probe, key=int)[place]], "s2dc", "untrained")
        said = [f"{short} {_percent(gain)}, {verdict(gain)}" for short, gain in found.items()]
        lines.append(f"- A linear probe of frozen tokens, S2DC minus random weights, with {words}: {'; '.join(said)}.")
    ((_, brains),) = groups["brain_t1_to_t2"]["tuned"].items()
    gain = few_labels.paired(brains, "s2dc", "scratch", "PSNR")
    return prose(
        *lines,
        f"- T1 to T2 of {count(len(brains['s2dc']))} brains, fine-tuned: PSNR differs by"
        f" {spread(gain, 1, signed=True, unit=' dB')}, {verdict(gain)}.",
    )
