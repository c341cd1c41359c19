"""What frozen features know of anatomy, without any training of the encoder."""

from s2dc_core.evaluation.maps import cosine_error, load_tokens, reduce_tokens, save_tokens, share_kept
from s2dc_core.evaluation.probe import example_tokens, fit_probe, probe_dice, token_dice
from s2dc_core.evaluation.silhouettes import labelled_tokens, mean_silhouette, rank_correlation, scan_silhouettes

__all__ = [
    "cosine_error",
    "example_tokens",
    "fit_probe",
    "labelled_tokens",
    "load_tokens",
    "mean_silhouette",
    "probe_dice",
    "rank_correlation",
    "reduce_tokens",
    "save_tokens",
    "scan_silhouettes",
    "share_kept",
    "token_dice",
]
