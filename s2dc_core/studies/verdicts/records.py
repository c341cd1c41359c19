"""The numbers of the table of verdicts, each from a record, as the table writes them."""

from collections.abc import Iterable
from functools import lru_cache
from statistics import mean

from s2dc_core.data import ORGANS
from s2dc_core.evaluation.silhouettes import rank_correlation
from s2dc_core.intervals import decided, mean_interval
from s2dc_core.library import (
    ablation_results,
    few_label_results,
    lung_results,
    method_results,
    patient_results,
    real_results,
    shipped_record,
    study_results,
    transfer_results,
)
from s2dc_core.library.methods import ROWS, gain_over, gain_over_best, others_in, shown_items
from s2dc_core.library.patients import summary
from s2dc_core.studies import ablation, few_labels, lungs
from s2dc_core.studies.transfer import paired_gains, per_seed

Interval = tuple[float, float, float]
IMAGES = ("dose", "T1 to T2", "T1 to T1ce")
PROBES = ("probe, 1 labelled", "probe, 3 labelled", "probe, 12 labelled")


@lru_cache(maxsize=1)
def numbers() -> dict[str, str]:
    """All numbers of the table by their names in verdicts.yaml."""
    parts = (_encoders, _clusters, _choices, _organs, _lungs, _images, _patients, _carried, _methods)
    return {name: text for part in parts for name, text in part().items()}


def _encoders() -> dict[str, str]:
    record, study = shipped_record("s2dc"), study_results()
    return {
        "steps": f"{record['steps']}",
        "bodies": _count(len(record["trained_on"]["bodies"])),
        "trainings": _count(len(study["seeds"])),
    }


def silhouette_gains() -> dict[str, dict[str, Interval]]:
    """{other arm: {image: S2DC minus it}}, paired by training."""
    found: dict[str, dict[str, Interval]] = {}
    for image, differences in study_results()["differences"].items():
        for pair, interval in differences.items():
            other = pair.removeprefix("s2dc - ")
            found.setdefault(other, {})[image] = (interval["mean"], interval["low"], interval["high"])
    return found


def head_and_neck_gains() -> dict[str, Interval]:
    """{other arm: silhouette of S2DC minus it}, over patients, of encoders that were trained on generated bodies."""
    runs = real_results()["groups"]["headneck_ct"]["phantoms"]
    of_patient = {
        arm: {scan: mean(mean(run[scan].values()) for run in seeds) for scan in seeds[0]} for arm, seeds in runs.items()
    }
    ours = of_patient.pop("s2dc")
    return {
        arm: mean_interval([ours[scan] - theirs[scan] for scan in sorted(ours)]) for arm, theirs in of_patient.items()
    }


def _clusters() -> dict[str, str]:
    gains, real = silhouette_gains(), head_and_neck_gains()
    both = [gain[0] for arm in ("p2p", "p2s") for gain in gains[arm].values()]
    first = [gains["contrast"][image][0] - gains[arm][image][0] for arm in ("p2p", "p2s") for image in gains[arm]]
    runs = real_results()["groups"]["headneck_ct"]["phantoms"]["s2dc"]
    return {
        "silhouette over L_g": _range(gain[0] for gain in gains["contrast"].values()),
        "silhouette over untrained": _range(gain[0] for gain in gains["untrained"].values()),
        "one loss": f"{max(map(abs, both)):.3f}",
        "first loss silhouette": _range(first),
        "head and neck": _count(len(runs[0])),
        "head and neck over L_g": f"{real['contrast'][0]:.2f}",
        "head and neck over untrained": f"{real['untrained'][0]:.2f}",
    }


def ablation_leads() -> dict[str, dict[str, Interval]]:
    """{row: {measure: S2DC minus the row}}."""
    scores = ablation.scores_of(ablation_results())
    found: dict[str, dict[str, Interval]] = {}
    for measure, of_row in scores.items():
        for row, interval in ablation.lead_over(of_row).items():
            found.setdefault(row, {})[measure] = interval
    return found


def _choices() -> dict[str, str]:
    leads = ablation_leads()
    listed, sinkhorn = leads["published matches"], leads["Sinkhorn"]
    levels = [leads[f"level {level}"]["probe, 12 labelled"] for level in (1, 2, 3, 4)]
    return {
        "published cost": _range((100 * lead[0] for lead in listed.values()), 0),
        "published decided": _share_decided(listed.values()),
        "Sinkhorn frozen": _range((-100 * sinkhorn[probe][0] for probe in PROBES), 0),
        "Sinkhorn decided": _share_decided(sinkhorn[probe] for probe in PROBES),
        "Sinkhorn tuned": _points(sinkhorn["fine-tuned"]),
        "temperature 1": _range((100 * leads["temperature 1"][probe][0] for probe in PROBES), 0),
        "levels": _range((100 * lead[0] for lead in levels), 0),
    }


def organ_clusters() -> dict[str, tuple[float, float]]:
    """{organ: (silhouette in CT before fine-tuning, Dice after it with all labels)} of S2DC, means over trainings."""
    runs = [body for run in study_results()["silhouettes"]["s2dc"] for body in run["phantom_ct"].values()]
    tuned = transfer_results()["questions"]["organs"]["scores"]["1.00"]["s2dc"]
    labels = [label for label in ORGANS if all(str(label) in body for body in runs)]
    return {
        ORGANS[label]: (mean(body[str(label)] for body in runs), mean(per_seed(tuned, ORGANS[label])))
        for label in labels
    }


def _organs() -> dict[str, str]:
    questions = transfer_results()["questions"]
    asked = questions["organs"]
    runs = {asked["labelled"][share]: found for share, found in asked["scores"].items()}
    gains = {labels: paired_gains(found, "Dice")["scratch"] for labels, found in runs.items()}
    scratch = {labels: 100 * mean(per_seed(found["scratch"], "Dice")) for labels, found in runs.items()}
    arms = questions["organs, arms"]["scores"]["0.25"]
    dice = {arm: 100 * mean(per_seed(found, "Dice")) for arm, found in arms.items()}
    first = [dice[arm] - dice["contrast"] for arm in ("p2p", "p2s")]
    second = [dice["s2dc"] - dice[arm] for arm in ("p2p", "p2s")]
    rho, p = rank_correlation(*map(list, zip(*organ_clusters().values(), strict=True)))
    return {
        "organs 1": _points(gains[1]),
        "organs 3": _points(gains[3]),
        "organs more": _range((100 * gains[labels][0] for labels in (6, 12)), 0),
        "S2DC with 1": f"{100 * mean(per_seed(runs[1]['s2dc'], 'Dice')):.1f}",
        "scratch with 12": f"{scratch[12]:.1f}",
        "scratch with 3, 6, 12": ", ".join(f"{scratch[labels]:.0f}" for labels in (3, 6, 12)),
        "clustered": _count(len(organ_clusters())),
        "cluster rho": f"{rho:+.2f}",
        "cluster p": f"{p:.2f}",
        "first loss Dice": _range(first, 0),
        "second loss Dice": _range(second, 1),
    }


def lung_gains() -> dict[str, Interval]:
    """{share of the labels: accuracy of S2DC minus random weights}, frozen, over trainings and draws of the labels."""
    return {share: lungs.paired_gain(lung_results(), share) for share in lung_results()["labelled"]}


def _lungs() -> dict[str, str]:
    record, gains, found = lung_results(), lung_gains(), {}
    for word, share in {"few": "0.10", "all": "1.00"}.items():
        found[f"lungs {word}"] = f"{record['labelled'][share]}"
        found[f"lungs gain {word}"] = _points(gains[share], 0, signed=True)
        for title, arm in {"S2DC": "s2dc", "untrained": "untrained"}.items():
            found[f"lungs {title} {word}"] = f"{100 * mean(lungs.accuracies(record, arm, share)):.0f}"
    tuned = transfer_results()["questions"]["lungs"]
    accuracies = [100 * mean(per_seed(runs["s2dc"], "accuracy")) for runs in tuned["scores"].values()]
    return found | {
        "lungs half": f"{record['labelled']['0.50']}",
        "lung steps": f"{tuned['recipe']['steps']}",
        "lungs counts": _listed(map(str, tuned["labelled"].values())),
        "lungs tuned": _listed(f"{value:.0f}" for value in accuracies),
    }


def image_gains() -> dict[tuple[str, str], Interval]:
    """{(task, score): S2DC minus from scratch} of the tasks that ask for an image."""
    questions = transfer_results()["questions"]
    return {
        (task, score): paired_gains(questions[task]["scores"]["1.00"], score)["scratch"]
        for task in IMAGES
        for score in ("PSNR", "NMSE", "SSIM")
    }


def _images() -> dict[str, str]:
    gains = image_gains()
    return {
        "images decided": _count(sum(map(decided, gains.values()))),
        "image trainings": _count(len(transfer_results()["questions"]["dose"]["seeds"])),
        "dose": _spread(gains["dose", "PSNR"], 2, signed=True),
        "translation": f"{max(gains[task, 'PSNR'][0] for task in ('T1 to T2', 'T1 to T1ce')):.1f}",
    }


def _patients() -> dict[str, str]:
    groups, found = few_label_results()["groups"], {}
    for title, group in {"head and neck": "headneck_ct", "hippocampus": "hippocampus_mr"}.items():
        tuned = groups[group]["tuned"]
        most = tuned[str(max(map(int, tuned)))]
        found[f"{title} tuned"] = _points(few_labels.paired(most, "s2dc", "scratch", "Dice"))
        by_seed = few_labels.by_seed(most, "s2dc", "scratch", "Dice")
        found[f"{title} seeds"] = _listed(f"{100 * gain:+.0f}" for gain in by_seed)
    mean_, low, high = few_labels.lead_over(groups["sarcoma_pet_ct_mr"])["probe"]["untrained", 1]
    return found | {"tumour probe": _points((-mean_, -high, -low), 0)}


def _carried() -> dict[str, str]:
    record = patient_results()
    whole, half = (summary(record, "ct", condition) for condition in ("whole", "half"))
    asked = {
        "S2DC nearest": whole["s2dc"]["nearest"],
        "untrained nearest": whole["untrained"]["nearest"],
        "raw nearest": whole["raw"]["nearest"],
        "raw place": whole["raw"]["place"],
        "raw place half": half["raw"]["place"],
        "raw nearest half": half["raw"]["nearest"],
        "S2DC nearest half": half["s2dc"]["nearest"],
        "raw aligned half": half["raw"]["aligned"],
        "S2DC aligned half": half["s2dc"]["aligned"],
    }
    return {name: f"{interval[0]:.2f}" for name, interval in asked.items()}


def method_gains() -> dict[str, tuple[str, Interval]]:
    """{measure: the best other pretext task or start, S2DC minus it} of the study of all of them."""
    return {measure: gain_over_best(of) for measure, of in shown_items(method_results()).items()}


def _methods() -> dict[str, str]:
    gains, items = method_gains(), shown_items(method_results())
    behind = [f"{measure} ({ROWS[best]})" for measure, (best, gain) in gains.items() if gain[0] <= 0]
    tuned = items["fine-tuned, 3 labelled"]
    others = others_in(tuned)
    above = sum(decided(gain := gain_over(tuned, name, "untrained")) and gain[0] > 0 for name in others)
    runs = {float(len(seeds)) for of in items.values() for seeds in of.values()}
    return {
        "methods first": _count(len(gains) - len(behind)),
        "methods measures": _count(len(gains)),
        "methods clear": _count(sum(gain[1] > 0 for _, gain in gains.values())),
        "methods behind": "; ".join(behind) or "none",
        "methods above": _count(above),
        "methods others": _count(len(others) + 1),
        "methods trainings": _range(runs, 0),
    }


def _spread(interval: Interval, digits: int = 1, signed: bool = False) -> str:
    middle, low, high = (f"{value:{'+' if signed else ''}.{digits}f}" for value in interval)
    return f"{middle} ({low} to {high})"


def _points(interval: Interval, digits: int = 1, signed: bool = False) -> str:
    return _spread(tuple(100 * value for value in interval), digits, signed)


def _range(values: Iterable[float], digits: int = 2) -> str:
    found = sorted(values)
    low, high = (f"{value:.{digits}f}" for value in (found[0], found[-1]))
    return low if low == high else f"{low} to {high}"


def _share_decided(intervals: Iterable[Interval]) -> str:
    found = [decided(interval) for interval in intervals]
    return f"{_count(sum(found))} of {_count(len(found))}"


def _count(number: int) -> str:
    names = ["none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
    return names[number] if number < len(names) else str(number)


def _listed(texts: Iterable[str]) -> str:
    *most, last = texts
    return f"{', '.join(most)} and {last}"
