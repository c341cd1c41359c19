"""The orientation helper: left is left and up is up for any affine, and overlays fall where they belong."""

import os
from pathlib import Path

import matplotlib.pyplot as plt
import nibabel as nib
import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgba

from s2dc_core.features import token_affine
from s2dc_core.plots.slices import (
    PLANES,
    figure_grid,
    label_colour,
    label_words,
    oriented_slice,
    sample_on_slice,
    show_slice,
)

SHAPE = (24, 30, 27)


def rotation(x, y, z):
    """Rotation matrix from angles in degrees about the three axes."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(np.radians((x, y, z))), np.sin(np.radians((x, y, z)))
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    return np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]]) @ about_y @ about_x


def affine_of(axes):
    """Affine with the given columns and the volume's centre at a world point that is not the origin."""
    affine = np.eye(4)
    affine[:3, :3] = axes
    affine[:3, 3] = np.array([12.0, -30.0, 45.0]) - axes @ ((np.array(SHAPE) - 1) / 2)
    return affine


CYCLE, SWAP = np.eye(3)[[1, 2, 0]], np.eye(3)[[1, 0, 2]]
AFFINES = {
    "canonical": np.eye(3),
    "radiological storage (LAS)": np.diag([-1.0, 1, 1]),
    "DICOM axes (LPS)": np.diag([-1.0, -1, 1]),
    "all flipped (LPI), left-handed": -np.eye(3),
    "anisotropic": np.diag([0.8, 1.5, 4.0]),
    "permuted": CYCLE,
    "sagittal storage": np.array([[0, 0, -1.0], [1, 0, 0], [0, 1, 0]]),
    "swapped, left-handed": SWAP,
    "oblique": rotation(14, -18, 21),
    "oblique, anisotropic": rotation(-20, 11, 25) @ np.diag([1.0, 0.7, 3.0]),
    "oblique, permuted, left-handed, anisotropic": rotation(17, 23, -12) @ SWAP @ np.diag([2.0, -1.0, 0.6]),
    "oblique, permuted, flipped": rotation(-9, 16, 28) @ CYCLE @ np.diag([-1.2, 1.0, -2.5]),
    "sheared": np.array([[1.0, 0.2, 0], [0, 1, -0.3], [0, 0, 1]]) @ np.diag([1.0, -2.0, 1.5]),
}
all_affines = pytest.mark.parametrize("axes", AFFINES.values(), ids=AFFINES.keys())

# Directions in the world (RAS+) and the edge at which they must appear in each plane.
DIRECTIONS = {"R": (1, 0, 0), "L": (-1, 0, 0), "A": (0, 1, 0), "P": (0, -1, 0), "S": (0, 0, 1), "I": (0, 0, -1)}
EDGES = {"axial": ("R", "L", "P", "A"), "coronal": ("R", "L", "I", "S"), "sagittal": ("A", "P", "I", "S")}


def marked(affine, direction):
    """A volume with one bright voxel a good way from its centre in a world direction, and that voxel's world point."""
    step = np.linalg.inv(affine[:3, :3]) @ np.array(direction, dtype=float)
    middle = (np.array(SHAPE) - 1) / 2
    voxel = np.round(middle + step * (0.85 * middle / np.abs(step).clip(1e-9)).min()).astype(int)
    volume = np.zeros(SHAPE, dtype=np.float32)
    volume[tuple(voxel)] = 1
    return volume, (affine @ [*voxel, 1])[:3]


@all_affines
@pytest.mark.parametrize("plane", PLANES)
def test_each_direction_appears_at_its_edge(axes, plane):
    affine = affine_of(axes)
    assert oriented_slice(np.zeros(SHAPE), affine, plane).letters == EDGES[plane]
    for edge, letter in enumerate(EDGES[plane]):
        volume, point = marked(affine, DIRECTIONS[letter])
        cut = oriented_slice(volume, affine, plane, position=point)
        assert cut.image.max() == 1, "the slice through a point holds its voxel"
        row, column = np.unravel_index(cut.image.argmax(), cut.image.shape)
        rows, columns = np.array(cut.image.shape) - 1
        towards = (columns - 2 * column, 2 * column - columns, rows - 2 * row, 2 * row - rows)[edge]
        assert towards > 0.5 * (columns, columns, rows, rows)[edge], f"{letter} is not at its edge"


@all_affines
@pytest.mark.parametrize("plane", PLANES)
def test_project_finds_the_pixel_of_a_world_point(axes, plane):
    affine = affine_of(axes)
    volume, point = marked(affine, (0.6, -0.5, 0.4))
    cut = oriented_slice(volume, affine, plane, point)
    across, up, away = cut.project(point)
    row, column = np.unravel_index(cut.image.argmax(), cut.image.shape)
    np.testing.assert_allclose((across, up), cut.picture(column, row), atol=1e-9)
    assert away == pytest.approx(0, abs=1e-9)
    np.testing.assert_allclose((cut.world @ [column, row, 0, 1])[:3], point, atol=1e-9)


@all_affines
def test_extent_has_the_true_size(axes):
    affine = affine_of(axes)
    for plane in PLANES:
        cut = oriented_slice(np.zeros(SHAPE), affine, plane)
        rows, columns = cut.image.shape
        left, right, bottom, top = cut.extent
        pixel = np.linalg.norm(cut.world[:3, :2], axis=0)
        assert left > right and top > bottom
        np.testing.assert_allclose((left - right, top - bottom), pixel * (columns, rows))


def test_an_axis_aligned_volume_is_drawn_at_its_world_coordinates():
    affine = affine_of(CYCLE @ np.diag([-1.0, 2.0, 1.5]))
    point = (14.0, -25.0, 40.0)
    for plane, (a, b) in {"axial": (0, 1), "coronal": (0, 2), "sagittal": (1, 2)}.items():
        assert oriented_slice(np.zeros(SHAPE), affine, plane).project(point)[:2] == pytest.approx((point[a], point[b]))


def test_position_in_millimetres():
    affine = affine_of(np.diag([-1.0, 1.0, 2.5]))
    volume = np.arange(SHAPE[2])[None, None] * np.ones(SHAPE)
    for index in (0, 3, 13, 26):
        height = affine[2, 3] + 2.5 * index
        cut = oriented_slice(volume, affine, "axial", height + 0.9)
        assert (cut.image == index).all()
        assert cut.position == pytest.approx(height)
    assert oriented_slice(volume, affine, "axial").image[0, 0] == SHAPE[2] // 2


@pytest.mark.parametrize(("place", "index"), [(4.45, 4), (4.55, 5), (4.75, 5), (-0.45, 0), (26.45, 26)])
def test_the_nearest_slice_is_taken(place, index):
    affine = affine_of(np.diag([-1.0, 1.0, 2.5]))
    volume = np.arange(SHAPE[2])[None, None] * np.ones(SHAPE)
    height = affine[2, 3] + 2.5 * place
    for position in (height, (12.0, -30.0, height)):
        assert (oriented_slice(volume, affine, "axial", position).image == index).all()


@all_affines
def test_position_of_any_slice_leads_back_to_it(axes):
    volume, affine = np.random.default_rng(0).random(SHAPE), affine_of(axes)
    for plane in PLANES:
        cut = oriented_slice(volume, affine, plane, position=(affine @ [8, 11, 9, 1])[:3])
        assert np.array_equal(oriented_slice(volume, affine, plane, cut.position).image, cut.image)


def test_colour_volumes_and_tensors():
    volume = torch.rand(*SHAPE, 3)
    cut = oriented_slice(volume, torch.from_numpy(affine_of(CYCLE)), "coronal")
    one = oriented_slice(volume[..., 1], affine_of(CYCLE), "coronal")
    assert np.array_equal(cut.image[..., 1], one.image)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros(SHAPE), np.eye(4), "transversal"), "axial, coronal, sagittal"),
        ((np.zeros(SHAPE[:2]), np.eye(4)), "X, Y, Z"),
        ((np.zeros((*SHAPE, 2)), np.eye(4)), "one channel"),
        ((np.zeros(SHAPE), np.diag([1.0, 0, 1, 1])), "cannot be inverted"),
        ((np.zeros(SHAPE), np.full((4, 4), np.nan)), "cannot be inverted"),
        ((np.zeros(SHAPE), np.eye(4), "axial", 27.0), "outside the volume"),
        ((np.zeros(SHAPE), np.eye(4), "axial", (0.0, 0.0, -1.0)), "outside the volume"),
        ((np.zeros(SHAPE), np.eye(4), "axial", float("nan")), "outside the volume"),
    ],
)
def test_bad_input_to_oriented_slice(arguments, message):
    with pytest.raises(ValueError, match=message):
        oriented_slice(*arguments)


@all_affines
@pytest.mark.parametrize("plane", PLANES)
def test_a_token_map_falls_on_its_voxels(axes, plane):
    """Each pixel of the slice shows the token that holds its voxel, also where tokens reach beyond the border."""
    affine, patch = affine_of(axes), (4, 5, 2)
    grid = tuple(-(-side // p) for side, p in zip(SHAPE, patch, strict=True))
    tokens = np.random.default_rng(0).random(grid)
    each = np.kron(tokens, np.ones(patch))[tuple(map(slice, SHAPE))]
    cut = oriented_slice(each, affine, plane)
    assert np.array_equal(sample_on_slice(tokens, token_affine(affine, patch), cut), cut.image)


def test_an_overlay_stored_in_other_axes_falls_on_the_same_place():
    volume = np.random.default_rng(0).random(SHAPE)
    image = nib.Nifti1Image(volume, affine_of(rotation(10, -15, 20) @ np.diag([1.0, 2.0, 1.5])))
    turned = image.as_reoriented(nib.orientations.axcodes2ornt(("P", "S", "R")))
    for plane in PLANES:
        cut = oriented_slice(volume, image.affine, plane)
        assert np.array_equal(sample_on_slice(turned.get_fdata(), turned.affine, cut), cut.image)


def test_outside_the_overlay_stays_clear():
    cut = oriented_slice(np.zeros((6, 6, 6)), np.eye(4), "axial")
    half = sample_on_slice(np.ones((3, 6, 6)), np.eye(4), cut)
    assert np.isnan(half[:, :3]).all() and (half[:, 3:] == 1).all(), "low x is the patient's left, the picture's right"
    colour = sample_on_slice(np.full((3, 6, 6, 3), 0.5), np.eye(4), cut)
    assert (colour[:, :3] == 0).all() and (colour[:, 3:] == (0.5, 0.5, 0.5, 1)).all()


@pytest.mark.parametrize("axes", [AFFINES["oblique, permuted, left-handed, anisotropic"], AFFINES["canonical"]])
@pytest.mark.parametrize("plane", PLANES)
def test_what_is_drawn(axes, plane):
    """Looks at the rendered pixels: the bright voxel is at the edge whose letter names its direction."""
    affine = affine_of(axes)
    for edge, letter in enumerate(EDGES[plane]):
        volume, point = marked(affine, DIRECTIONS[letter])
        with figure_grid(size=(2, 2)) as (figure, grid):
            show_slice(grid[0, 0], volume, affine, plane, point, vmin=0, vmax=1, scale_bar=False)
        drawn = {text.get_text(): text.get_position() for text in grid[0, 0].texts}
        for text in grid[0, 0].texts:
            text.set_visible(False)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        picture = np.asarray(canvas.buffer_rgba())[..., 0]
        box = grid[0, 0].get_window_extent()
        rows = slice(int(picture.shape[0] - box.y1) + 2, int(picture.shape[0] - box.y0) - 2)
        inside = picture[rows, int(box.x0) + 2 : int(box.x1) - 2].astype(float)
        y, x = np.argwhere(inside > 128).mean(axis=0) / inside.shape
        towards = (1 - 2 * x, 2 * x - 1, 2 * y - 1, 1 - 2 * y)[edge]
        assert towards > 0.4, letter
        across, up = drawn[letter]
        assert (1 - across, across, 1 - up, up)[edge] > 0.9, "the letter stands at its edge"
        assert set(drawn) == set(EDGES[plane])


def test_show_slice_draws_overlay_labels_and_mark():
    labels = np.zeros(SHAPE, int)
    labels[4:10, 5:12, 6:20], labels[0:3, 0:3] = 2, 5
    mark = (6.0, 8.0, 12.0)
    with figure_grid(1, 2) as (figure, axes):
        shown = show_slice(axes[0, 0], labels.astype(float), np.eye(4), overlay=np.ones((2, 2, 2)),
                           overlay_affine=np.diag([12.0, 15, 14, 1]), labels=labels, mark=mark)  # fmt: skip
        plain = show_slice(axes[0, 1], torch.zeros(SHAPE), np.eye(4), "coronal", title="coronal")
    assert shown.slice.position == 12, "the slice through the mark"
    assert np.nanmax(shown.overlay.get_array()) == 1
    assert plain.overlay is None and axes[0, 1].get_title() == "coronal"
    colours = [collection.get_edgecolor()[0] for collection in axes[0, 0].collections]
    np.testing.assert_allclose(colours, [to_rgba(label_colour(label)) for label in (2, 5)])
    cross = axes[0, 0].lines[0]
    assert (cross.get_xdata()[0], cross.get_ydata()[0]) == pytest.approx(mark[:2])
    figure.canvas.draw()


def test_show_slice_draws_masks():
    """Boolean volume, overlay and labels; a mask of few voxels is not lost in the percentiles."""
    mask = np.zeros(SHAPE, bool)
    mask[4:6, 5:7, 6:8] = True
    for volume in (mask, torch.from_numpy(mask)):
        with figure_grid() as (figure, axes):
            shown = show_slice(axes[0, 0], volume, np.eye(4), position=6.0, overlay=volume, labels=volume)
            figure.canvas.draw()
        assert shown.image.get_clim() == (0, 1)
        assert shown.image.get_array().sum() == 4


@pytest.mark.parametrize("name", ["overlay", "labels"])
def test_an_overlay_on_another_grid_needs_its_affine(name):
    with figure_grid() as (_, axes), pytest.raises(ValueError, match=f"{name} of shape"):
        show_slice(axes[0, 0], np.zeros(SHAPE), np.eye(4), **{name: np.ones((4, 4, 4), int)})


def test_figures_do_not_pile_up():
    before = plt.rcParams["font.size"]
    with pytest.raises(RuntimeError), figure_grid(2, 3) as (_, axes):
        assert axes.shape == (2, 3)
        raise RuntimeError
    assert plt.get_fignums() == []
    assert plt.rcParams["font.size"] == before


@pytest.mark.skipif("S2DC_DATA" not in os.environ, reason="S2DC_DATA names no folder with real scans")
def test_the_liver_is_on_the_left_of_the_picture():
    folder = Path(os.environ["S2DC_DATA"])
    image = nib.load(folder / "ct_abdomen_a.nii.gz")
    label = np.asarray(nib.load(folder / "ct_abdomen_a_seg.nii.gz").dataobj).astype(int)
    liver, spleen, vertebra = 5, 1, 31
    point = (image.affine @ [*np.argwhere(label == vertebra).mean(axis=0), 1])[:3]
    for codes in ("RAS", "LPS", "ASL", "SRP"):
        turned = nib.Nifti1Image(label.astype(np.int16), image.affine)
        turned = turned.as_reoriented(
            nib.orientations.ornt_transform(
                nib.orientations.io_orientation(image.affine), nib.orientations.axcodes2ornt(codes)
            )
        )
        axial = oriented_slice(np.asarray(turned.dataobj), turned.affine, "axial", point).image
        column = {organ: np.argwhere(axial == organ)[:, 1].mean() for organ in (liver, spleen, vertebra)}
        assert column[liver] < column[vertebra] < column[spleen]
        row = {organ: np.argwhere(axial == organ)[:, 0].mean() for organ in (liver, vertebra)}
        assert row[vertebra] < row[liver], "the spine is below: the front of the body is up"


def test_names_are_written_without_underscores_and_formulas():
    assert label_words("left_kidney") == "left kidney"
    with figure_grid() as (figure, axes):
        axes[0, 0].set_title(label_words("a $x_1^ and b $"))
        figure.canvas.draw()
