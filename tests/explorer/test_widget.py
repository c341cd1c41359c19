"""The explorer without a browser: what a click does, what goes wrong kindly, and what is saved."""

import nibabel as nib
import numpy as np
import pytest
import torch

from s2dc_core.data import open_scan
from s2dc_core.explorer import explore
from s2dc_core.explorer.maps import place_of
from s2dc_core.features import similarity_heatmap, token_features
from s2dc_core.library import open_weights


@pytest.fixture(scope="module")
def scan():
    return open_scan("phantom_ct", seed=3, shape=(64, 32, 64), spacing=(5.0, 5.0, 5.0))


@pytest.fixture
def explorer(scan, tmp_path):
    encoders = {"untrained": open_weights("untrained"), "S2DC": open_weights("s2dc")}
    moved = scan._replace(affine=scan.affine + np.array([[0, 0, 0, 1000]] * 3 + [[0] * 4]), name="far")
    scans = {"body": scan, "no affine": scan._replace(affine=None, name="no affine"), "far": moved}
    return explore(scans, encoders, (1, 2), folder=tmp_path / "saved")


def test_nothing_is_encoded_before_it_is_asked_for(explorer):
    assert explorer.looks == {} and explorer.panels == [] and not explorer.maps.has("body", "S2DC")


def test_a_click_gives_the_map_of_the_voxel_by_every_encoder(explorer, scan):
    explorer.click(place_of((40, 12, 30), scan.affine) + [1.0, -2, 2])
    assert explorer.voxel == (40, 12, 30) and "(40, 12, 30)" in explorer.status.value
    for title, one in explorer.looks.items():
        how = {"affine": scan.affine, "background": scan.background}
        tokens = token_features(explorer.maps.encoders[title], scan.volume, (1, 2), **how)
        assert torch.equal(one.similarity, similarity_heatmap(tokens, (40, 12, 30)))
    assert bytes(explorer.chart.value).startswith(b"\x89PNG")


def test_a_click_outside_is_told_and_the_anchor_stays(explorer):
    before = explorer.voxel
    explorer.click((5000, 0, 0))
    assert explorer.voxel == before and "outside the volume" in explorer.status.value
    explorer.click(place_of((40, 12, 30), explorer.scan.affine))
    assert explorer.voxel == (40, 12, 30)


def test_another_level_gives_other_maps(explorer):
    both = explorer.look()["S2DC"].similarity
    explorer.controls.level.value = 2
    coarse = explorer.look()["S2DC"].similarity
    explorer.controls.level.value = "joined"
    assert not torch.equal(both, coarse) and torch.equal(both, explorer.look()["S2DC"].similarity)


def test_a_scan_that_cannot_be_shown_is_told_and_the_last_one_stays(explorer):
    explorer.choose("no affine")
    assert explorer.volume == "body" and "no spatial affine" in explorer.status.value


def test_the_anchor_keeps_its_place_where_the_next_scan_has_it(explorer, scan):
    explorer.choose("far")
    assert explorer.volume == "far" and explorer.voxel == explore({"far": scan}, explorer.maps.encoders).voxel


def test_maps_and_view_are_saved(explorer, scan):
    explorer.click(place_of((40, 12, 30), scan.affine))
    files = explorer.save()
    assert [file.suffix for file in files] == [".gz", ".gz", ".png"] and all(file.exists() for file in files)
    found = nib.load(files[1])
    assert np.allclose(found.get_fdata(), explorer.looks["S2DC"].similarity)
    assert np.allclose(found.affine, explorer.looks["S2DC"].affine) and "saved in" in explorer.status.value


def test_without_webgl_there_are_sliders(explorer):
    explorer.browser.webgl = False
    assert "no WebGL 2" in explorer.children[1].value and "no spatial affine" in explorer.children[1].value
    names = [control.description for control in explorer.children[2].children[:-1]]
    assert names == ["volume", "tokens", "plane", "x", "y", "z"]


def test_the_volumes_of_one_modality_are_offered(scan):
    shown = {"one": scan, "two": scan._replace(modality="pet", name="two")}
    explorer = explore(shown, {"untrained": open_weights("untrained")})
    explorer.controls.modality.value = "PET"
    assert explorer.controls.volume.options == ("two",)
    explorer.controls.modality.value = "all"
    assert explorer.controls.volume.options == ("one", "two")


def test_what_cannot_be_explored_is_refused(scan):
    encoder = {"untrained": open_weights("untrained")}
    with pytest.raises(ValueError, match="no scan can be shown: body has no spatial affine"):
        explore({"body": scan._replace(affine=None, name="body")}, encoder)
    with pytest.raises(ValueError, match="give at least one"):
        explore({}, encoder)
    with pytest.raises(ValueError, match="0 encoders side by side: give 1 to 4"):
        explore({"body": scan}, {})
    with pytest.raises(ValueError, match="no such scan or encoder"):
        explore({"body": scan}, encoder, tokens={"head": {}})


def test_a_scan_with_an_empty_label_map_is_one_without(scan):
    empty = scan._replace(label=torch.zeros_like(scan.label), name="empty")
    explorer = explore({"empty": empty}, {"untrained": open_weights("untrained")}, (1, 2))
    explorer.browser.webgl = True  # as a browser would say
    explorer.controls.over.value = "labels"
    assert explorer.panels and all(not one.by_organ for one in explorer.looks.values())
    assert "anchor: voxel" in explorer.status.value and bytes(explorer.chart.value).startswith(b"\x89PNG")
    assert explorer.figure().get_suptitle().startswith("anchor: voxel")


def test_the_name_of_an_organ_is_text_and_no_markup(scan):
    number = int(scan.label.max())
    one = scan._replace(names={number: "<img src=x> $a^"}, label=(scan.label == number) * number)
    explorer = explore({"body": one}, {"untrained": open_weights("untrained")}, (1, 2))
    explorer.click(place_of(explorer.voxel, scan.affine))
    assert "&lt;img" in explorer.status.value and "<img" not in explorer.status.value
    explorer.figure().canvas.draw()
