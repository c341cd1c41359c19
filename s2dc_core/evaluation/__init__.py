"""What frozen features know of anatomy, without any training of the encoder."""

from s2dc_core.evaluation.alignment import Alignment, align, align_matches
from s2dc_core.evaluation.baselines import centroid_labels, patch_map, place_map, register, starts_along
from s2dc_core.evaluation.conditions import box, cut, half, turned
from s2dc_core.evaluation.correctness import (
    centroids,
    dice_by_label,
    landmark_errors,
    nearest_found,
    partner_errors,
    retrieval,
    round_trip,
    side_confusion,
    surface_dice,
    true_partners,
)
from s2dc_core.evaluation.correspondence import TokenMatches, body_tokens, match_tokens, token_centres, token_sides
from s2dc_core.evaluation.deformation import bend
from s2dc_core.evaluation.maps import cosine_error, load_tokens, reduce_tokens, save_tokens, share_kept
from s2dc_core.evaluation.one_shot import LabelScores, Reference, carry_labels, label_scores, transfer_labels
from s2dc_core.evaluation.pairs import (
    WAYS,
    Side,
    Weights,
    answers,
    encoded_by,
    nearest_with,
    patches_of,
    score_answers,
)
from s2dc_core.evaluation.probe import example_tokens, fit_probe, pooled_tokens, probe_dice, token_dice
from s2dc_core.evaluation.report import Mean, Report, Row, evaluate
from s2dc_core.evaluation.silhouettes import labelled_tokens, mean_silhouette, rank_correlation, scan_silhouettes

__all__ = [
    "WAYS",
    "Alignment",
    "LabelScores",
    "Mean",
    "Reference",
    "Report",
    "Row",
    "Side",
    "TokenMatches",
    "Weights",
    "align",
    "align_matches",
    "answers",
    "bend",
    "body_tokens",
    "box",
    "carry_labels",
    "centroid_labels",
    "centroids",
    "cosine_error",
    "cut",
    "dice_by_label",
    "encoded_by",
    "evaluate",
    "example_tokens",
    "fit_probe",
    "half",
    "label_scores",
    "labelled_tokens",
    "landmark_errors",
    "load_tokens",
    "match_tokens",
    "mean_silhouette",
    "nearest_found",
    "nearest_with",
    "partner_errors",
    "patch_map",
    "patches_of",
    "place_map",
    "pooled_tokens",
    "probe_dice",
    "rank_correlation",
    "reduce_tokens",
    "register",
    "retrieval",
    "round_trip",
    "save_tokens",
    "scan_silhouettes",
    "score_answers",
    "share_kept",
    "side_confusion",
    "starts_along",
    "surface_dice",
    "token_centres",
    "token_dice",
    "token_sides",
    "transfer_labels",
    "true_partners",
    "turned",
]
