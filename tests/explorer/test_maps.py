"""Voxels from places, maps from tokens, and the volumes that a viewer is sent."""

import nibabel as nib
import numpy as np
import pytest
import torch

from s2dc_core.data import open_scan, structure_sizes
from s2dc_core.explorer import maps
from s2dc_core.features import TokenMap, similarity_heatmap, token_affine, token_features
from s2dc_core.library import open_weights
from s2dc_core.matching import sharpe_ratio

SHAPE = (7, 5, 9)
turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
AFFINES = {
    "straight": np.diag([2.0, 2, 2, 1]),
    "oblique": np.block([[turn @ np.diag([0.8, 1.5, 4.0]), np.array([[3.0], [-7], [11]])], [np.zeros(3), 1]]),
    "left-handed": np.diag([-1.0, 2, 3, 1]),
}


@pytest.fixture(scope="module")
def scan():
    return open_scan("phantom_ct", seed=3, shape=(64, 32, 64), spacing=(5.0, 5.0, 5.0))


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
def test_a_place_is_in_the_voxel_whose_centre_is_nearest(affine):
    draw = np.random.default_rng(1)
    for _ in range(50):
        voxel = tuple(int(draw.integers(0, side)) for side in SHAPE)
        inside = affine[:3, :3] @ draw.uniform(-0.49, 0.49, 3)
        assert maps.voxel_at(maps.place_of(voxel, affine) + inside, affine, SHAPE) == voxel


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
def test_a_place_outside_is_refused_and_the_rim_is_inside(affine):
    rim = affine @ [-0.5, SHAPE[1] - 0.5, SHAPE[2] - 0.5, 1]
    assert maps.voxel_at(rim[:3], affine, SHAPE) == (0, SHAPE[1] - 1, SHAPE[2] - 1)
    for beyond in ([-0.6, 0, 0], [0, SHAPE[1], 0], [0, 0, 100]):
        with pytest.raises(ValueError, match="lies outside the volume: click inside it"):
            maps.voxel_at((affine @ [*beyond, 1])[:3], affine, SHAPE)


@pytest.mark.parametrize("place", [(1, 2), (1, 2, float("nan")), ()])
def test_what_is_no_place_is_told(place):
    with pytest.raises(ValueError, match="no place"):
        maps.voxel_at(place, AFFINES["straight"], SHAPE)


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
def test_the_crosshair_lies_where_the_voxel_is_in_what_is_drawn(scan, affine):
    """The bright voxel of the anatomy, found again at the crosshair's fractions of its grid."""
    raw = torch.zeros(SHAPE)
    raw[5, 1, 7] = 240
    shown = scan._replace(raw=raw, affine=affine, label=None)
    image, crosshair = maps.anatomy(shown), maps.crosshair_at((5, 1, 7), shown)
    grey = np.asarray(image.dataobj)
    cell = tuple(int(f * n) for f, n in zip(crosshair, grey.shape, strict=True))
    assert grey[cell] == 255 and (grey == 255).sum() == 1
    assert np.allclose((image.affine @ [*cell, 1])[:3], maps.place_of((5, 1, 7), affine))
    assert nib.aff2axcodes(image.affine) == ("R", "A", "S")


def test_a_look_is_the_map_its_ratio_and_the_means_of_the_organs():
    features = torch.randn(4, 3, 2, 6, generator=torch.Generator().manual_seed(0))
    organs = torch.zeros(4, 3, 2, dtype=torch.long)
    organs[0], organs[2:, 1] = 4, 9
    token_map = TokenMap(features, (2, 2, 2), np.eye(4))
    found = maps.look(token_map, (5, 1, 3), organs, {4: "liver"})
    unit = torch.nn.functional.normalize(features, dim=-1)
    wanted = unit @ unit[2, 0, 1]
    assert torch.allclose(found.similarity, wanted, atol=1e-6) and found.similarity[2, 0, 1] == pytest.approx(1)
    assert found.ratio == pytest.approx(float(sharpe_ratio(wanted.flatten())), rel=1e-4)
    means = {"liver": float(wanted[0].mean()), "label 9": float(wanted[2:, 1].mean())}
    assert found.by_organ == pytest.approx(means, abs=1e-6)
    assert maps.look(token_map, (0, 0, 0), None, {}).by_organ == {}
    with pytest.raises(IndexError, match="outside the token map"):
        maps.look(token_map, (8, 0, 0), None, {})


def test_tokens_are_made_once_and_levels_are_cut_out_of_them(scan, monkeypatch):
    made = []
    monkeypatch.setattr(maps, "token_features", lambda *args, **how: made.append(1) or token_features(*args, **how))
    encoder = open_weights("untrained")
    own = maps.TokenMaps({"body": scan}, {"untrained": encoder}, (1, 2))
    assert not own.has("body", "untrained")
    joined, first, second = (own.of("body", "untrained", level) for level in (None, 1, 2))
    assert own.has("body", "untrained") and len(made) == 1
    alone = token_features(encoder, scan.volume, 1, affine=scan.affine, background=scan.background)
    angles = [torch.nn.functional.cosine_similarity(a, b, dim=-1) for a, b in ((first.features, alone.features),)]
    assert torch.allclose(angles[0], torch.ones(()), atol=1e-4)
    voxel = maps.first_anchor(scan)
    parts = [similarity_heatmap(part, voxel) for part in (first, second)]
    assert torch.allclose(sum(parts) / 2, similarity_heatmap(joined, voxel), atol=1e-5)
    with pytest.raises(ValueError, match="level 3 is none of the levels read"):
        own.of("body", "untrained", 3)
    reduced = {"body": {"untrained": joined._replace(features=joined.features[..., :5])}}
    with pytest.raises(ValueError, match="tokens of 5 channels, not 144: no single level can be cut out"):
        maps.TokenMaps({"body": scan}, {"untrained": encoder}, (1, 2), reduced).of("body", "untrained", 1)


def test_tokens_that_are_there_are_not_made_again(scan, monkeypatch):
    monkeypatch.setattr(maps, "token_features", None)
    token_map = TokenMap(torch.randn(16, 8, 16, 3), (4, 4, 4), token_affine(scan.affine, (4, 4, 4)))
    own = maps.TokenMaps({"body": scan}, {"mine": torch.nn.Identity()}, (1,), {"body": {"mine": token_map}})
    assert own.of("body", "mine") is token_map


def test_a_map_keeps_its_affine_through_a_file(tmp_path):
    values = torch.rand(SHAPE)
    nib.save(maps.as_nifti(values, AFFINES["oblique"]), tmp_path / "map.nii.gz")
    found = nib.load(tmp_path / "map.nii.gz")
    assert np.allclose(found.affine, AFFINES["oblique"], atol=1e-5)
    assert np.allclose(found.get_fdata(), values) and found.header.get_xyzt_units()[0] == "mm"


def test_outlines_are_the_outer_voxels_of_each_label():
    label = torch.zeros(9, 9, 9, dtype=torch.int32)
    label[2:7, 2:7, 2:7] = 1
    label[4:7, 2:7, 2:7] = 3
    filled, outline = maps.label_colours(label), maps.label_colours(label, outline=True)
    assert ((filled[..., 3] > 0) == (label.numpy() > 0)).all()
    assert outline[3, 4, 4, 3] > 0 and outline[5, 4, 4, 3] == 0 and outline[..., 3].sum() < filled[..., 3].sum()
    assert (outline[3, 4, 4, :3] != outline[4, 4, 4, :3]).any()


def test_outlines_do_not_wrap_around_the_volume():
    """Beyond the border lies background: what fills the volume has an outline all around, and only there."""
    full = maps.label_colours(torch.ones(5, 6, 7, dtype=torch.int32), outline=True)[..., 3] > 0
    assert not full[1:-1, 1:-1, 1:-1].any() and full.sum() == 5 * 6 * 7 - 3 * 4 * 5
    for axis in range(3):
        label = torch.zeros(9, 9, 9, dtype=torch.int32)
        ends = label.movedim(axis, 0)
        ends[:3] = ends[-3:] = 2
        outline = np.moveaxis(maps.label_colours(label, outline=True)[..., 3] > 0, axis, 0)
        assert outline[[0, 2, 6, 8]].all() and not outline[3:6].any()
        assert not outline[[1, 7], 1:-1, 1:-1].any() and outline[[1, 7], 0].all()


def test_outlines_of_a_single_slice_are_drawn_in_it():
    label = torch.zeros(7, 7, 1, dtype=torch.int32)
    label[1:6, 1:6] = 1
    outline = maps.label_colours(label, outline=True)[..., 0, 3] > 0
    assert outline.sum() == 16 and not outline[2:5, 2:5].any()


def test_pca_colours_are_clear_outside_the_body(scan):
    how = {"affine": scan.affine, "background": scan.background}
    token_map = token_features(open_weights("untrained"), scan.volume, (1, 2), **how)
    colours = maps.pca_colours(token_map, scan)
    assert colours.dtype == np.uint8 and colours.shape == (*token_map.features.shape[:3], 4)
    assert set(np.unique(colours[..., 3])) == {0, 255}
    assert not colours[colours[..., 3] == 0].any()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"affine": None}, "has no spatial affine: give the"),
        ({"affine": np.zeros((4, 4))}, "no usable spatial affine"),
        ({"raw": torch.zeros(4, 4, 4, 2)}, "4 dimensions, not 3: choose one frame or channel"),
    ],
)
def test_why_a_scan_cannot_be_shown(scan, change, says):
    assert maps.scan_problem(scan) is None
    assert says in maps.scan_problem(scan._replace(**change))


def test_a_label_map_on_another_grid_is_left_out(scan):
    other = scan._replace(label=torch.ones(4, 4, 4, dtype=torch.int32))
    assert maps.label_problem(scan) is None and "resample it to the volume's grid" in maps.label_problem(other)
    assert maps.usable_label(other) is None and maps.usable_label(scan) is scan.label
    assert scan.foreground[maps.first_anchor(other)]


def with_label(scan, label, names=None):
    return scan._replace(label=torch.as_tensor(label, dtype=torch.int32), names=names or {})


def hard_labels(scan):
    """Label maps that say little, or much: by name."""
    sides = scan.raw.shape
    lesion, hundred = torch.zeros(sides), torch.arange(sides[0] * sides[1] * sides[2]).reshape(sides) % 101
    lesion[30:32, 15:17, 30:32] = 7
    return {"empty": torch.zeros(sides), "lesion": lesion, "everything": torch.ones(sides), "hundred": hundred}


@pytest.mark.parametrize("kind", ["none", "empty", "lesion", "everything", "hundred"])
def test_any_label_map_can_be_explored(scan, kind):
    one = scan._replace(label=None) if kind == "none" else with_label(scan, hard_labels(scan)[kind])
    own = maps.TokenMaps({"mine": one}, {"untrained": open_weights("untrained")}, (1, 2))
    anchor = maps.first_anchor(one)
    assert one.label is None or not structure_sizes(one) or int(one.label[anchor]) in structure_sizes(one)
    found = own.look("mine", "untrained", None, anchor)
    assert found.similarity.max() == pytest.approx(1, abs=1e-5)
    assert list(found.by_organ) == (["label 1"] if kind == "everything" else []), "no other fills half of a token"
    label = maps.usable_label(one)
    assert (label is None) == (kind in ("none", "empty"))
    if label is not None:
        colours = maps.label_colours(label)
        assert ((colours[..., 3] > 0) == (label > 0).numpy()).all()


def test_two_organs_of_one_name_keep_their_own_means(scan):
    label = torch.zeros(scan.raw.shape)
    label[:32], label[32:] = 1, 2
    one = with_label(scan, label, {1: "lesion", 2: "lesion"})
    own = maps.TokenMaps({"mine": one}, {"untrained": open_weights("untrained")}, (1,))
    assert list(own.look("mine", "untrained", None, (3, 3, 3)).by_organ) == ["lesion (label 1)", "lesion (label 2)"]
