"""The figures of the course, one function per figure, one file per lesson; each returns a matplotlib Figure."""

from s2dc_core.plots.slices import PALETTE, figure_grid, label_colour, oriented_slice, show_slice

__all__ = ["PALETTE", "figure_grid", "label_colour", "oriented_slice", "show_slice"]
