"""The studies whose numbers the course shows: trainings over seeds, each with its record."""

from s2dc_core.studies import (
    ablation,
    another_patient,
    arms,
    few_labels,
    lungs,
    methods,
    published_matches,
    real_scans,
    trainings,
    transfer,
)

STUDIES = {
    "arms": arms.STUDY,
    "transfer": transfer.STUDY,
    "ablation": ablation.STUDY,
    "real_scans": real_scans.STUDY,
    "few_labels": few_labels.STUDY,
    "lungs": lungs.STUDY,
    "methods": methods.STUDY,
    "trainings": trainings.STUDY,
    "another_patient": another_patient.STUDY,
    "published_matches": published_matches.STUDY,
}
"""By the name that ``python -m s2dc_core.studies`` takes."""

__all__ = ["STUDIES"]
