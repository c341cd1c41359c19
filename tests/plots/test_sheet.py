"""The contact sheet: as many slices as it says, through what is labelled, each organ named once."""

import numpy as np
import pytest

from s2dc_core.plots import SheetEntry, contact_sheet


def entry(title="a", label=True, window=(None, None)):
    volume = np.random.default_rng(0).normal(size=(20, 24, 28))
    mask = np.zeros(volume.shape, dtype=int)
    mask[3:6, 4:9, 20:24] = 2
    return SheetEntry(title, volume, np.diag([2.0, 2.0, 2.0, 1.0]), mask if label else None, window)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_each_scan_shows_three_slices(count):
    figure = contact_sheet("A set", (entry(f"case {k}") for k in range(count)), {1: "one", 2: "two"}, count)
    shown = [axes for axes in figure.axes if axes.images]
    assert len(shown) == 3 * count
    assert [axes.get_title(loc="left") for axes in shown[::3]] == [f"case {k}" for k in range(count)]
    names = [text.get_text() for axes in shown for text in axes.texts if text.get_gid() == "name"]
    assert names == count * ["two"] and not figure.legends
    assert all(axes.collections for axes in shown)  # each slice cuts the labelled box


def test_without_labels_there_are_no_names_and_the_window_is_the_given_one():
    figure = contact_sheet("A set", [entry(label=False, window=(-1.0, 2.0)), entry("x" * 90, label=False)], {}, 2)
    assert not any(text.get_gid() == "name" for axes in figure.axes for text in axes.texts)
    assert figure.axes[0].images[0].get_clim() == (-1.0, 2.0)
    assert len(figure.axes[3].get_title(loc="left")) <= 60
