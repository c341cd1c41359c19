"""The explorer of two patients without a browser: what a click finds, what is said, and what is refused."""

import numpy as np
import pytest
import torch

from s2dc_core.data import open_scan
from s2dc_core.explorer import explore_pair, match_at
from s2dc_core.explorer.maps import place_of
from s2dc_core.explorer.match import aligned
from s2dc_core.features import TokenMap, token_affine, token_features
from s2dc_core.library import open_weights

SHAPE = (64, 32, 64)


@pytest.fixture(scope="module")
def scans():
    return [open_scan("phantom_ct", seed=seed, shape=SHAPE, spacing=(5.0, 5.0, 5.0)) for seed in (3, 4)]


@pytest.fixture(scope="module")
def known(scans):
    encoder = open_weights("s2dc")
    return tuple(
        token_features(encoder, scan.volume, (1, 2), affine=scan.affine, background=scan.background) for scan in scans
    )


@pytest.fixture
def explorer(scans, known):
    return explore_pair(*scans, levels=(1, 2), tokens=known)


def same(one, other):
    return one.voxel == other.voxel and one.mutual == other.mutual and torch.equal(one.similarity, other.similarity)


def test_nothing_is_encoded_before_it_is_asked_for(scans):
    explorer = explore_pair(*scans)
    assert explorer.match is None and explorer.panels == []
    assert not any(explorer.maps.has(side, "the encoder") for side in ("left", "right"))


def test_an_encoder_is_given_by_name_or_itself(scans, known):
    for encoder in ("s2dc", open_weights("s2dc")):
        explorer = explore_pair(*scans, encoder, levels=(1, 2))
        assert torch.equal(explorer.pair().left.tokens.features, known[0].features)


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_click_on_either_side_finds_its_place_on_the_other(explorer, scans, side):
    scan = scans[side == "right"]
    explorer.click(place_of((40, 12, 30), scan.affine) + [1.0, -2, 2], side)
    pair = explorer.pair()
    source, target = (pair.left, pair.right) if side == "left" else (pair.right, pair.left)
    wanted = match_at((40, 12, 30), source, target)
    assert explorer.clicked == side and explorer.voxel == (40, 12, 30) and same(explorer.match, wanted)
    told = explorer.status.value
    assert f"cosine {wanted.cosine:.2f}, {wanted.margin:.3f} above" in told and f"{wanted.mm[0]:.1f}, " in told
    assert ("not mutual" in told) != wanted.mutual and "two modalities" not in told and "two spacings" not in told


def test_the_checkbox_switches_the_alignment(explorer, scans):
    explorer.browser.webgl = True  # as a browser would say
    explorer.click(place_of((40, 12, 30), scans[0].affine))
    plain = explorer.match
    explorer.controls.align.value = True
    pair = explorer.pair()
    assert pair.alignment is not None and "aligned by" in explorer.status.value
    assert same(explorer.match, match_at((40, 12, 30), pair.left, pair.right))
    assert explorer.pair() is pair, "it is made once"
    explorer.controls.align.value = False
    assert same(explorer.match, plain) and "align" not in explorer.status.value


def test_where_no_alignment_is_found_it_says_so(scans):
    draw = torch.Generator().manual_seed(0)
    noise = [
        TokenMap(torch.randn(16, 8, 16, 8, generator=draw), (4, 4, 4), token_affine(scan.affine, (4, 4, 4)))
        for scan in scans
    ]
    explorer = explore_pair(*scans, levels=(1,), align=True, tokens=tuple(noise))
    explorer.click(place_of((40, 12, 30), scans[0].affine))
    assert aligned(explorer.pair()).alignment is None and explorer.match is not None
    assert "no alignment was found" in explorer.status.value


def test_a_click_in_air_says_so_and_shows_nothing(explorer, scans):
    explorer.browser.webgl = True
    explorer.click(place_of((40, 12, 30), scans[0].affine))
    assert [panel.map.opacity > 0 for panel in explorer.panels] == [False, True]
    explorer.click(place_of((0, 0, 0), scans[0].affine))
    assert explorer.match is None and "lies in air: click in the body" in explorer.status.value
    assert not any(panel.map.opacity for panel in explorer.panels)
    explorer.click(place_of((40, 12, 30), scans[1].affine), "right")
    assert [panel.map.opacity > 0 for panel in explorer.panels] == [True, False]


def test_a_click_outside_is_told_and_what_was_found_stays(explorer, scans):
    explorer.click(place_of((40, 12, 30), scans[0].affine))
    before = explorer.match
    explorer.click((5000, 0, 0))
    assert explorer.match is before and "outside the volume" in explorer.status.value
    explorer.click((0, 0, 0), "middle")
    assert explorer.match is before and "there is no side" in explorer.status.value


def test_a_crosshair_that_a_match_has_moved_is_no_click(explorer, scans):
    """A viewer tells of every move of its crosshair, in single precision; a click at the same voxel is one."""
    explorer.browser.webgl = True
    explorer.click(place_of((40, 12, 30), scans[0].affine))
    found = explorer.match
    place = place_of(found.voxel, scans[1].affine)
    explorer._hear((place + 2e-4).tolist(), explorer.panels[1], "right")
    assert explorer.clicked == "left" and explorer.match is found
    explorer._hear((place + 0.3).tolist(), explorer.panels[1], "right")
    assert explorer.clicked == "right" and explorer.voxel == found.voxel


def test_another_level_finds_by_that_level(explorer, scans):
    explorer.browser.webgl = True
    both = explorer.match
    explorer.controls.level.value = 2
    assert not torch.equal(both.similarity, explorer.match.similarity)
    assert explorer.pair().left.tokens.features.shape[-1] == 96


def test_other_modality_and_spacing_are_said(scans):
    pet = open_scan("phantom_pet", seed=3, shape=(48, 32, 48), spacing=(6.0, 6.0, 6.0))
    explorer = explore_pair(scans[0], pet, "untrained", levels=(1,))
    explorer.click(place_of((40, 12, 30), scans[0].affine))
    assert "two modalities, CT and PET" in explorer.status.value
    assert "two spacings, 5 x 5 x 5 and 6 x 6 x 6 mm" in explorer.status.value


def test_without_webgl_there_are_sliders(explorer):
    explorer.browser.webgl = False
    names = [control.description for control in explorer.children[2].children[:-1]]
    assert names == ["clicked", "tokens", "align the two patients", "plane", "x", "y", "z"]
    assert "no WebGL 2" in explorer.children[1].value


def test_names_are_text_and_no_markup(scans, known):
    odd = scans[0]._replace(names=dict.fromkeys(scans[0].names, "<img src=x>"), name="<b>")
    explorer = explore_pair(odd, scans[1], levels=(1, 2), tokens=known)
    explorer.click(place_of(explorer.voxel, odd.affine))
    assert "&lt;img" in explorer.status.value and "<img" not in explorer.status.value


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"affine": None}, "mine has no spatial affine"),
        ({"raw": torch.zeros(4, 4, 4, 2)}, "4 dimensions"),
        ({"raw": torch.zeros(64, 3, 64)}, r"mine: a scan of \(64, 3, 64\) voxels is smaller than one patch"),
        ({"volume": torch.zeros(2, *SHAPE)}, "mine has 2 channels, the encoder takes 1"),
        ({"foreground": torch.zeros(SHAPE, dtype=torch.bool)}, "mine has no body"),
    ],
)
def test_what_cannot_be_explored_is_refused_on_either_side(scans, change, says):
    wrong = scans[0]._replace(name="mine", **change)
    for pair in ((wrong, scans[1]), (scans[1], wrong)):
        with pytest.raises(ValueError, match=says):
            explore_pair(*pair)


def test_the_figure_shows_what_was_found(explorer, scans):
    explorer.click(place_of((40, 12, 30), scans[1].affine), "right")
    figure = explorer.figure("coronal")
    titles = [axes.get_title().replace("\n", " ") for axes in figure.axes[:3]]
    assert titles[0].startswith("clicked in phantom_ct, seed 4") and titles[1].startswith("found in phantom_ct, seed 3")
    assert f"cosine {explorer.match.cosine:.2f}" in titles[2]
    assert f"({', '.join(f'{v:.0f}' for v in np.asarray(explorer.match.mm))}) mm" in titles[1]
