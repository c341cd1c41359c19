"""The weights and the numbers that come with the course."""

from s2dc_core.library.arms import (
    ARMS,
    LONG,
    OTHERS,
    SHIPPED,
    TITLES,
    open_snapshot,
    open_weights,
    shipped_record,
    snapshot_steps,
)
from s2dc_core.library.results import (
    ablation_results,
    few_label_results,
    length_results,
    lung_results,
    match_results,
    method_results,
    patient_results,
    real_results,
    study_results,
    transfer_results,
)

__all__ = [
    "ARMS",
    "LONG",
    "OTHERS",
    "SHIPPED",
    "TITLES",
    "ablation_results",
    "few_label_results",
    "length_results",
    "lung_results",
    "match_results",
    "method_results",
    "open_snapshot",
    "open_weights",
    "patient_results",
    "real_results",
    "shipped_record",
    "snapshot_steps",
    "study_results",
    "transfer_results",
]
