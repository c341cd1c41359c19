"""The numbers that come with the course: what each study measured."""

from functools import lru_cache
from importlib import resources
from pathlib import Path

from s2dc_core.training.records import read_json, with_nan

WEIGHTS = Path(str(resources.files("s2dc_core.library").joinpath("weights")))
TRANSFER, ABLATION, FEW_LABELS = "transfer.json", "ablation.json", "few_labels.json"
PATIENTS, LENGTH, LUNGS = "another_patient.json", "training_length.json", "lungs.json"
MATCHES, METHODS = "published_matches.json", "methods.json"


def study_results() -> dict:
    """Silhouettes of every arm, seed and unseen body, as `study` measured them."""
    return read_result("study.json")


def real_results() -> dict:
    """Silhouettes on real scans, of encoders trained on phantoms alone and on such scans, as `real` measured them."""
    return read_result("real.json")


def transfer_results() -> dict:
    """Scores of every downstream question, share of the labels, start and seed, as `transfer` measured them."""
    return _with_nan(read_result(TRANSFER), "questions", "scores")


def ablation_results() -> dict:
    """Silhouettes and few-label Dice of every row of the ablation and seed, as `ablation` measured them."""
    return read_result(ABLATION)


def lung_results() -> dict:
    """What linear probes said of every generated lung, by arm, seed and share of the labels, as `lungs` measured it."""
    return read_result(LUNGS)


def few_label_results() -> dict:
    """Scores of real patients after few labels, by group, number of labels and arm, as `few_labels` measured them."""
    return _with_nan(read_result(FEW_LABELS), "groups", "probe", "tuned")


def patient_results() -> dict:
    """Scores of labels carried from patient to patient, by group, arm, seed, condition and pair."""
    return read_result(PATIENTS)


def length_results() -> dict:
    """Silhouettes and a linear probe of one training after 400, 800, ... steps, as `trainings` measured them."""
    return read_result(LENGTH)


def match_results() -> dict:
    """Wrong and listed pairs of every random motion, by setting, as `published_matches` counted them."""
    return read_result(MATCHES)


def method_results() -> dict:
    """Scores of every pretext task, by method and seed, with the learning rates tried, as `methods` measured them."""
    return read_result(METHODS)


def _with_nan(results: dict, part: str, *scores: str) -> dict:
    """The results with NaN for a number that a score does not have."""
    parts = {
        name: {key: with_nan(value) if key in scores else value for key, value in found.items()}
        for name, found in results[part].items()
    }
    return {**results, part: parts}


@lru_cache
def read_result(name: str) -> dict:
    """A record among the weights."""
    return read_json(WEIGHTS / name)
