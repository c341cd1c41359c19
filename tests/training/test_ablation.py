"""Rows of the ablation differ from the default in what they say; the published matches are the published ones."""

from dataclasses import replace

import pytest
import torch

from s2dc_core import geometry as geo
from s2dc_core.training import PretrainConfig, ablation
from s2dc_core.training.ablation import ROWS, PublishedMatches, published_matrix, recipe_of
from s2dc_core.training.run import Pretraining
from tests.training.test_checkpoints import SCANS, SHORT


def test_each_row_differs_from_the_default_in_one_thing():
    default = recipe_of("S2DC", 2)
    assert default == PretrainConfig.from_recipe("teaching", seed=2)
    for name, row in ROWS.items():
        plain, own = default.as_dict(), recipe_of(name, 2).as_dict()
        changed = {key for key in plain if plain[key] != own[key]}
        assert len(changed) == (name != "S2DC" and row.run is Pretraining) or name == "L_g", name
    assert {key for key in default.as_dict() if default.as_dict()[key] != recipe_of("L_g", 2).as_dict()[key]} == {
        "loss_options",
        "learning_rate",
    }


@pytest.mark.parametrize(("angle", "scale", "shift"), [(20, 1.1, (9, -7)), (-30, 0.9, (-24, 24)), (0, 1.0, (5, 3))])
def test_the_published_matrix_is_the_one_of_its_code(angle, scale, shift):
    """Rebuilt as in notebook 01: the warp reads output y at x = A y + t about the centre, the list has A^-1 x - t."""
    shape = (96, 96, 32)
    A = geo.affine_about_centre(shape, (1, 1, 1), (0, 0, angle), scale)
    reads, slip = A.clone(), geo.inverse(A)
    reads[:2, 3] += torch.tensor(shift, dtype=torch.float64)
    slip[:2, 3] -= torch.tensor(shift, dtype=torch.float64)
    true = geo.inverse(reads)[None]
    torch.testing.assert_close(published_matrix(true, shape)[0], slip)
    assert torch.allclose(published_matrix(true, shape), true) == (angle == 0)


def test_a_run_on_published_matches_sees_the_same_images_and_other_pairs(monkeypatch):
    seen = []

    def note(views, numbers):
        seen.append(views)
        raise InterruptedError

    for kind in (Pretraining, PublishedMatches):
        run = kind(SHORT, SCANS, "cpu")
        monkeypatch.setattr(run, "compute", note)
        with pytest.raises(InterruptedError):
            run.losses([run.draws()[k] for k in range(SHORT.batch)])
    exact, published = seen
    assert torch.equal(exact.source, published.source) and torch.equal(exact.target, published.target)
    pairs = [set(zip(m.batch.tolist(), m.source.tolist(), m.target.tolist(), strict=True)) for m in
             (exact.matches[0], published.matches[0])]  # fmt: skip
    assert pairs[0] != pairs[1] and len(pairs[1]) > 0


def test_what_lies_there_is_kept_and_not_mixed(tmp_path, monkeypatch):
    monkeypatch.setattr(ablation, "_scans", lambda: SCANS)
    small = {"steps": 1, "batch": 1}
    monkeypatch.setattr(ablation, "recipe_of", lambda name, seed, recipe="": replace(SHORT, seed=seed, **small))
    file = ablation.pretrain_row("S2DC", 0, tmp_path)
    time = file.stat().st_mtime_ns
    assert ablation.pretrain_row("S2DC", 0, tmp_path) == file and file.stat().st_mtime_ns == time
    small["steps"] = 2
    with pytest.raises(ValueError, match="followed another recipe"):
        ablation.pretrain_row("S2DC", 0, tmp_path)
