"""Parts of README.md and docs/*.md that are made from the records: tables, and sentences that hold numbers.

``python -m s2dc_core.studies.pages write`` fills them in; a test holds the pages equal to what it makes.
"""

from s2dc_core.studies.pages import another_patient, choices, downstream, methods, patients, silhouettes
from s2dc_core.studies.pages.markers import fill, names_in, without_parts

PARTS = {
    "pairs": another_patient.pair_tables,
    "pairs compared": another_patient.pair_differences,
    "places in mm": another_patient.places,
    "three numbers": patients.three_numbers,
    "the weights": silhouettes.weights,
    "silhouettes": silhouettes.silhouettes,
    "silhouettes in words": silhouettes.silhouettes_in_words,
    "training length": silhouettes.training_length,
    "silhouettes on scans": silhouettes.real_silhouettes,
    "silhouettes on scans in words": silhouettes.real_in_words,
    "half scans": patients.half_scans,
    "half scans in words": patients.half_scans_in_words,
    "segmentation": downstream.segmentation,
    "segmentation in words": downstream.segmentation_in_words,
    "classification": downstream.classification,
    "classification in words": downstream.classification_in_words,
    "images": downstream.images,
    "images in words": downstream.images_in_words,
    "patients": downstream.patients,
    "patients in words": downstream.patients_in_words,
    "ablation": choices.ablation,
    "ablation in words": choices.ablation_in_words,
    "published matches": choices.published_matches,
    "methods compared": methods.compared,
    "methods compared in words": methods.compared_in_words,
    "methods searched": methods.searched,
    "costs of methods": methods.costs,
}
"""By the name that stands in a page's marker."""

__all__ = ["PARTS", "fill", "names_in", "without_parts"]
