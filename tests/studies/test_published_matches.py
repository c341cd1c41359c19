"""The share of wrong published matches: counted as the record says, and by hand for one motion."""

import numpy as np
import pytest
import torch

from s2dc_core import geometry as geo
from s2dc_core.library import match_results
from s2dc_core.studies import STUDIES, published_matches
from s2dc_core.studies.published_matches import MOTIONS, SETTINGS, answer, count_wrong, wrong_share
from s2dc_core.training.records import read_json


@pytest.mark.parametrize("name", SETTINGS)
def test_the_record_is_counted_again(tmp_path, name):
    answer(name, tmp_path)
    assert read_json(tmp_path / f"{name}.json") == match_results()["settings"][name]


def test_motions_are_the_published_ones():
    """x = A y + t with A a rotation in plane times a scale: H is its inverse."""
    H = published_matches.published_motions(50, torch.Generator().manual_seed(1))
    reads = torch.linalg.inv(H)
    scale = torch.linalg.det(reads[:, :2, :2]).sqrt()
    degrees = torch.rad2deg(torch.atan2(reads[:, 1, 0], reads[:, 0, 0]))
    assert (scale >= 0.9).all() and (scale <= 1.2).all()
    torch.testing.assert_close(degrees, degrees.round(), atol=1e-6, rtol=0)
    assert degrees.abs().max() <= 30 and degrees.abs().max() > 20
    assert set(MOTIONS) == set(SETTINGS)


def test_wrong_pairs_are_those_of_equations_2_and_3():
    """One motion, each listed pair looked at by itself."""
    shape, patch = [96, 96, 32], [32, 32, 32]
    A = geo.affine_about_centre(shape, (1, 1, 1), (0, 0, 28), 1.1)
    reads, slip = A.clone(), geo.inverse(A)
    shift = torch.tensor([22.0, -17.0], dtype=torch.float64)
    reads[:2, 3] += shift
    slip[:2, 3] -= shift
    H, centres = geo.inverse(reads), geo.token_centres((3, 3, 1), (32, 32, 32))
    listed = geo.ground_truth_matches(slip, (3, 3, 1), (32, 32, 32))
    there, back = geo.transform_points(H, centres), geo.transform_points(reads, centres)
    wrong = 0
    for i, j in zip(listed.source.tolist(), listed.target.tolist(), strict=True):
        right = (there[i] - centres[j]).abs().max() <= 16 and (back[j] - centres[i]).abs().max() <= 16
        wrong += not right
    assert count_wrong(H[None], shape, patch) == ([wrong], [len(listed.source)]) and wrong > 0
    assert count_wrong(torch.eye(4, dtype=torch.float64)[None], shape, patch) == ([0], [9])


def test_the_share_has_an_interval_over_motions():
    share, low, high = wrong_share({"wrong": [0, 5, 10, 0], "listed": [10, 10, 10, 10]})
    assert share == 15 / 40 and low < share < high
    assert wrong_share({"wrong": [2, 2], "listed": [8, 8]}) == (0.25, 0.25, 0.25)
    counted = match_results()["settings"]["published"]
    assert 0.15 < wrong_share(counted)[0] < 0.25 and len(counted["wrong"]) == 600
    assert (np.array(counted["wrong"]) <= np.array(counted["listed"])).all()


def test_another_setting_in_the_folder_is_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(SETTINGS, "lessons", {**SETTINGS["lessons"], "draws": 2})
    answer("lessons", tmp_path)
    monkeypatch.setitem(SETTINGS, "lessons", {**SETTINGS["lessons"], "draws": 3})
    with pytest.raises(ValueError, match="recipe"):
        answer("lessons", tmp_path)
    assert STUDIES["published_matches"].fewest == 1
