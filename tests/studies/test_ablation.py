"""Rows of the ablation differ from the default in what they say; the published matches are the published ones."""

from dataclasses import fields, replace

import pytest
import torch

from s2dc_core import geometry as geo
from s2dc_core.downstream import FinetuneConfig
from s2dc_core.downstream.generated import organ_lesson
from s2dc_core.library import ablation_results
from s2dc_core.methods import S2DCOptions
from s2dc_core.pretraining import PretrainConfig
from s2dc_core.pretraining.regions import draw_views
from s2dc_core.studies import ablation, study
from s2dc_core.studies.__main__ import main
from s2dc_core.studies.ablation import ROWS, PublishedMatches, published_matrix, recipe_of
from s2dc_core.training.records import read_json
from tests.training.test_checkpoints import SCANS, SHORT


def differing(one, other):
    """Fields of two recipes, their options' among them, that are not the same."""
    plain, own = ({**values.pop("options"), **values} for values in (one.as_dict(), other.as_dict()))
    return {name for name in plain if plain[name] != own[name]}


def test_each_row_differs_from_the_default_in_one_thing():
    default = recipe_of("S2DC", 2)
    assert default == PretrainConfig.from_recipe("teaching", seed=2)
    for name, row in ROWS.items():
        changed = differing(default, recipe_of(name, 2))
        assert len(changed) == (name != "S2DC" and row.options is S2DCOptions) or name == "L_g", name
    assert differing(default, recipe_of("L_g", 2)) == {"loss_options", "learning_rate"}


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


def test_a_run_on_published_matches_sees_the_same_images_and_other_pairs():
    plain, seen = replace(SHORT, matched_tokens=None), []
    own = {each.name: getattr(plain.options, each.name) for each in fields(plain.options)}
    for kind in (S2DCOptions, PublishedMatches):
        config = replace(plain, options=kind(**own))
        assert type(replace(config, seed=SHORT.seed).options) is kind
        seen.append(draw_views(config, SCANS))
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


def test_scores_are_means_of_what_was_measured_and_differences_are_paired():
    def row(shift, seeds):
        noise = {0: 0.0, 1: 0.3, 2: 0.7}
        organs = [{"1": noise[seed] + shift, "2": noise[seed] + shift + 0.2} for seed in seeds]
        return {
            "seeds": seeds,
            "silhouettes": [{"ct": {"1000": o}, "pet": {"1000": o}} for o in organs],
            "probe": [{"3": o} for o in organs],
            "dice": [{"a": {"Dice": o["1"]}, "b": {"Dice": o["2"]}} for o in organs],
        }

    scores = ablation.scores_of({"rows": {"S2DC": row(0.0, [0, 1, 2]), "other": row(0.05, [1, 2])}})
    assert set(scores) == {"silhouette", "probe, 3 labelled", "fine-tuned"}
    for found in scores.values():
        found["of one seed"] = {1: 0.9}
        assert "of one seed" not in ablation.differences_from(found)
        assert found["S2DC"] == pytest.approx({0: 0.1, 1: 0.4, 2: 0.8})
        assert ablation.differences_from(found)["other"] == pytest.approx((0.05, 0.05, 0.05))
        assert "S2DC" not in ablation.differences_from(found)
        assert ablation.lead_over(found)["other"] == pytest.approx((-0.05, -0.05, -0.05))


def test_a_study_of_two_rows_from_weights_to_results(tmp_path, monkeypatch):
    """The whole command on two small bodies: frozen and tuned halves, collected, and nothing made twice."""
    monkeypatch.setattr(ablation, "_scans", lambda: SCANS)
    monkeypatch.setattr(study, "in_processes", lambda work, jobs, _: [work(*job) for job in jobs])
    plain, tune = PretrainConfig.from_recipe, FinetuneConfig.from_recipe
    short = {"steps": 1, "batch": 1}
    monkeypatch.setattr(PretrainConfig, "from_recipe", lambda name: replace(plain(name), **short))
    monkeypatch.setattr(FinetuneConfig, "from_recipe", lambda name: replace(tune(name), **short))
    monkeypatch.setattr(ablation, "measure", lambda encoder, levels: {"phantom_ct": {"1000": {"6": 0.1, "1": 0.2}}})
    small = organ_lesson(range(2), range(1000, 1001), shape=(64, 64, 64), spacing=(5.6, 5, 5.6))
    monkeypatch.setattr(ablation, "_lesson", lambda: small)
    monkeypatch.setattr(ablation, "BODIES", 2)
    monkeypatch.setattr(ablation, "PROBED", (1, 2))
    monkeypatch.setattr(ablation, "TUNED", 1)
    command = ["ablation", str(tmp_path), "--only", "untrained", "temperature 1", "--seeds", "2"]
    assert main(command) == 0
    results = read_json(tmp_path / "ablation.json")
    assert set(results["rows"]) == {"untrained", "temperature 1"}
    scores = ablation.scores_of(results)
    assert set(scores) == {"silhouette", "probe, 1 labelled", "probe, 2 labelled", "fine-tuned"}
    assert all(set(seeds) == {0, 1} for found in scores.values() for seeds in found.values())
    before = {file: file.stat().st_mtime_ns for file in tmp_path.glob("*_seed*")}
    main(command)
    assert before == {file: file.stat().st_mtime_ns for file in tmp_path.glob("*_seed*")}


def test_the_committed_results_are_whole():
    """Every row, three seeds, the recipe of today; the default's numbers are there for each difference."""
    results = ablation_results()
    assert set(results["rows"]) == set(ROWS) and results["default"] == ablation.DEFAULT
    for name, row in results["rows"].items():
        assert row["seeds"] == [0, 1, 2] and row["group"] == ROWS[name].group, name
        assert differing(PretrainConfig.from_dict(row["recipe"]), recipe_of(name, 0)) == set(), name
        for silhouettes, probe in zip(row["silhouettes"], row["probe"], strict=True):
            assert len(silhouettes) == 3 and set(probe) == {"1", "3", "12"}
            assert all(len(organs) == 13 for organs in probe.values())
        assert None not in row["dice"] or row["group"] not in ("default", "start", "losses"), name
    for found in ablation.scores_of(results).values():
        assert all(-1 < score < 1 for seeds in found.values() for score in seeds.values())
        paired = {name for name, seeds in found.items() if len(seeds) > 1}
        assert set(ablation.differences_from(found)) == paired - {ablation.DEFAULT}
