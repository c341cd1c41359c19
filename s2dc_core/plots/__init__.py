"""The figures of the course, one function per figure, one file per lesson; each returns a matplotlib Figure.

`talk()` makes the figures that follow readable in a lecture room, `talk(False)` ends it. A figure shown in a notebook
says in words what it shows: `describe` makes them of its titles, notes and legends, or set its attribute `alt`.

What all figures share: style (type, the grid of panels), colours (lines, labels, names), orientation (which way up a
slice is), slices (one slice with what lies over it), frame (letters, scale bar), names (organs named as in an atlas),
fit (last touches when all is drawn), alt (the words).
"""

from s2dc_core.plots.ablation import plot_differences
from s2dc_core.plots.alt import describe, plain
from s2dc_core.plots.assignment import (
    plot_assignment_maps,
    plot_gain_by_iterations,
    plot_loss_against_temperature,
    plot_marginals,
    plot_matched_pair,
    plot_numbered_matrices,
    plot_quality_against_temperature,
    plot_training_curves,
)
from s2dc_core.plots.clusters import (
    plot_by_organ,
    plot_cosine_by_distance,
    plot_intervals,
    plot_rows_of_dots,
    plot_toy,
)
from s2dc_core.plots.colours import LABEL_COLOURS, short_name
from s2dc_core.plots.correspondence import (
    plot_arrows,
    plot_equivariance,
    plot_matched_tokens,
    plot_offsets,
    plot_rotations,
    plot_two_boxes,
    plot_wrong_shares,
)
from s2dc_core.plots.distribution import (
    Anchor,
    effective_number,
    plot_anchors,
    plot_asked,
    plot_peaks,
    plot_ratios_by_tissue,
    plot_sorted_weights,
)
from s2dc_core.plots.evaluation import plot_evaluation
from s2dc_core.plots.explorer import plot_anchor, plot_pictures
from s2dc_core.plots.heatmaps import (
    HeatmapRow,
    display_window,
    mean_note,
    plot_by_tissue,
    plot_comparisons,
    plot_heatmap_rows,
)
from s2dc_core.plots.methods import plot_inputs, plot_methods, plot_two_scores
from s2dc_core.plots.names import write_names
from s2dc_core.plots.overview import plot_heatmaps, plot_losses, plot_method, plot_whose_organs
from s2dc_core.plots.pair import plot_pair
from s2dc_core.plots.patients import (
    FoundLabels,
    MatchLines,
    plot_curves,
    plot_dice_by_way,
    plot_found_labels,
    plot_match_lines,
    plot_over_target,
)
from s2dc_core.plots.pca import (
    ColourRow,
    as_colours,
    plot_colour_rows,
    plot_followed,
    plot_learning_order,
)
from s2dc_core.plots.pretraining import plot_gradient_reach, plot_pretraining, plot_regions
from s2dc_core.plots.scaling import bytes_in_words, plot_clamped_confidences, plot_memory_against_tokens
from s2dc_core.plots.segmentation import Segmented, plot_segmented
from s2dc_core.plots.sheet import SheetEntry, contact_sheet
from s2dc_core.plots.slices import PALETTE, figure_grid, label_colour, label_words, oriented_slice, show_slice
from s2dc_core.plots.style import talk
from s2dc_core.plots.transfer import (
    Panel,
    plot_confusion,
    plot_label_curve,
    plot_loss_curves,
    plot_scores_against,
    plot_side_by_side,
)
from s2dc_core.plots.tsne import Organs, choose_organs, plot_maps

__all__ = [
    "Segmented",
    "plot_segmented",
    "Panel",
    "plot_confusion",
    "plot_differences",
    "plot_label_curve",
    "plot_loss_curves",
    "plot_scores_against",
    "plot_side_by_side",
    "FoundLabels",
    "MatchLines",
    "plot_curves",
    "plot_dice_by_way",
    "plot_found_labels",
    "plot_match_lines",
    "plot_over_target",
    "SheetEntry",
    "contact_sheet",
    "LABEL_COLOURS",
    "PALETTE",
    "describe",
    "plain",
    "short_name",
    "talk",
    "write_names",
    "Anchor",
    "ColourRow",
    "HeatmapRow",
    "Organs",
    "choose_organs",
    "as_colours",
    "bytes_in_words",
    "display_window",
    "effective_number",
    "figure_grid",
    "label_colour",
    "label_words",
    "mean_note",
    "oriented_slice",
    "plot_anchor",
    "plot_anchors",
    "plot_arrows",
    "plot_asked",
    "plot_assignment_maps",
    "plot_by_organ",
    "plot_by_tissue",
    "plot_comparisons",
    "plot_clamped_confidences",
    "plot_cosine_by_distance",
    "plot_colour_rows",
    "plot_equivariance",
    "plot_evaluation",
    "plot_followed",
    "plot_gain_by_iterations",
    "plot_heatmap_rows",
    "plot_gradient_reach",
    "plot_heatmaps",
    "plot_inputs",
    "plot_intervals",
    "plot_learning_order",
    "plot_loss_against_temperature",
    "plot_losses",
    "plot_maps",
    "plot_marginals",
    "plot_matched_pair",
    "plot_matched_tokens",
    "plot_memory_against_tokens",
    "plot_method",
    "plot_methods",
    "plot_numbered_matrices",
    "plot_offsets",
    "plot_pair",
    "plot_peaks",
    "plot_pictures",
    "plot_pretraining",
    "plot_quality_against_temperature",
    "plot_ratios_by_tissue",
    "plot_regions",
    "plot_rotations",
    "plot_rows_of_dots",
    "plot_sorted_weights",
    "plot_toy",
    "plot_training_curves",
    "plot_two_boxes",
    "plot_two_scores",
    "plot_whose_organs",
    "plot_wrong_shares",
    "show_slice",
]


def __getattr__(name: str):
    """with_sliders, whose widgets come with the notebooks' installation alone."""
    if name == "with_sliders":
        from s2dc_core.plots.sliders import with_sliders

        return with_sliders
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
