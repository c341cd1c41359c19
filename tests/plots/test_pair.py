"""The figure of a clicked place and of the one that was found."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from s2dc_core.plots import plot_pair


def scan(name, spacing):
    return SimpleNamespace(raw=torch.rand(8, 10, 6), affine=np.diag([*spacing, 1.0]), modality="mr", name=name)


def match(**change):
    found = {"clicked": (2, 3, 4), "voxel": (4, 4, 4), "mm": np.array([13.5, 13.5, 13.5]), "cosine": 0.876}
    found |= {"similarity": torch.linspace(-1, 1, 60).reshape(4, 5, 3), "affine": np.diag([6.0, 6, 6, 1])}
    return SimpleNamespace(**found | change)


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_both_places_are_marked_and_told_in_mm(plane):
    figure = plot_pair(scan("one", (2, 2, 2)), scan("two", (3, 3, 3)), match(), plane)
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[:2] == ["clicked in one\n(4, 6, 8) mm", "found in two\n(14, 14, 14) mm"]
    assert "cosine 0.88" in titles[2]
    across = {"axial": 0, "coronal": 0, "sagittal": 1}[plane]
    marks = [float(axes.lines[0].get_xdata()[0]) for axes in figure.axes[:3]]
    assert marks == pytest.approx([(4, 6, 8)[across], 13.5, 13.5])


def test_what_is_less_similar_than_the_threshold_is_clear():
    figure = plot_pair(scan("one", (2, 2, 2)), scan("two", (3, 3, 3)), match(), threshold=0.2)
    values = np.asarray(figure.axes[2].images[1].get_array().filled(np.nan))
    assert np.isnan(values).any() and np.nanmin(values) >= 0.2


def test_the_middle_of_a_token_on_the_rim_may_be_found():
    """Half of the last token lies beyond the volume, and its middle on the rim."""
    found = match(voxel=(7, 9, 5), mm=np.array([3 * 7.5, 3 * 9.5, 3 * 5.5]))
    figure = plot_pair(scan("one", (2, 2, 2)), scan("two", (3, 3, 3)), found)
    assert "(22, 28, 16) mm" in figure.axes[1].get_title()
