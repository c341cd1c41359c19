"""Names of organs: within where there is room, else beside with a line, and none over another."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from s2dc_core import plots
from s2dc_core.plots.names import name_once, place_names

SHAPE = (60, 80)


def blocks(*boxes):
    """Labels 1, 2 ... in boxes (row, column, height, width)."""
    labels = np.zeros(SHAPE, dtype=int)
    for number, (row, column, height, width) in enumerate(boxes, start=1):
        labels[row : row + height, column : column + width] = number
    return labels


def covered(box):
    mask = np.zeros(SHAPE, dtype=bool)
    mask[box.mask(SHAPE)] = True
    return mask


def test_a_name_stands_within_its_organ_where_it_has_room():
    labels = blocks((10, 10, 30, 40))
    box, tip = place_names(labels, {1: (9, 3)}, np.zeros(SHAPE, dtype=bool))[1]
    assert tip is None and (labels[covered(box)] == 1).all()


def test_a_name_without_room_stands_beside_with_a_line_into_its_organ():
    labels = blocks((25, 40, 4, 4))
    box, tip = place_names(labels, {1: (9, 3)}, np.zeros(SHAPE, dtype=bool))[1]
    assert labels[round(tip[1]), round(tip[0])] == 1
    assert (labels[covered(box)] == 1).mean() < 0.2
    assert np.hypot(box.column - tip[0], box.row - tip[1]) < 20, "near to it"


def test_no_name_covers_another_or_what_is_taken():
    """A dozen small organs in a crowd."""
    rng = np.random.default_rng(0)
    labels = blocks(*[(row, column, 4, 5) for row in (20, 27, 34) for column in (25, 33, 41, 49)])
    taken = np.zeros(SHAPE, dtype=bool)
    taken[:8] = True
    sizes = {label: (float(rng.uniform(5, 9)), 2.0) for label in range(1, 13)}
    placed = place_names(labels, sizes, taken)
    assert len(placed) == 12
    names = sum(covered(box).astype(int) for box, _ in placed.values())
    assert names.max() <= 1 or (names > 1).sum() <= 12, "at most rims touch"
    assert not (covered_all(placed) & taken).any()


def covered_all(placed):
    return np.any([covered(box) for box, _ in placed.values()], axis=0)


def test_the_largest_piece_is_named_and_specks_are_not():
    labels = blocks((5, 5, 4, 4), (40, 60, 1, 2))
    labels[20:50, 10:50] = 1
    placed = place_names(labels, {1: (8, 3), 2: (8, 3)}, np.zeros(SHAPE, dtype=bool))
    assert set(placed) == {1} and 20 <= placed[1][0].row < 50


def test_a_label_is_named_in_the_slice_that_shows_most_of_it():
    first, second = blocks((0, 0, 5, 5)), blocks((0, 0, 9, 9), (20, 20, 3, 3))
    assert name_once([first, second * 1.0], {1: "a", 2: "b", 3: "c"}) == [{}, {1: "a", 2: "b"}]


def test_names_are_drawn_in_their_organs():
    label = np.zeros((60, 50, 8), dtype=int)
    label[5:50, 5:30], label[54:57, 44:47] = 1, 2
    with plots.figure_grid(size=(4, 4)) as (figure, axes):
        plots.show_slice(axes[0, 0], label * 0.0, np.eye(4), labels=label, names={1: "liver", 2: "right_kidney"})
    texts = {text.get_text(): text for text in axes[0, 0].texts if text.get_gid() == "name"}
    assert set(texts) == {"liver", "R kidney"}
    across, up = texts["liver"].get_position()
    assert label[round(across), round(up), 4] == 1
    (line,) = [line for line in axes[0, 0].lines if line.get_gid() == "name"]
    end = line.get_xydata()[-1].round().astype(int)
    assert label[end[0], end[1], 4] == 2
    FigureCanvasAgg(figure).draw()
    boxes = [text.get_window_extent() for text in axes[0, 0].texts]
    assert not any(a.overlaps(b) for n, a in enumerate(boxes) for b in boxes[:n])


def test_names_without_the_course_s_figure_are_written_at_once():
    plt = pytest.importorskip("matplotlib.pyplot")
    figure, axes = plt.subplots()
    label = np.zeros((20, 20, 3), dtype=int)
    label[5:15, 5:15] = 1
    plots.show_slice(axes, label, np.eye(4), labels=label, names={1: "a"})
    assert "a" in [text.get_text() for text in axes.texts]
    plt.close(figure)
