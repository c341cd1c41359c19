"""The study: arms that differ in their loss alone, runs that are kept, differences paired by seed."""

import copy
import json
from dataclasses import replace

import pytest
import torch
from scipy import stats

from s2dc_core.library import ARMS, OTHERS, open_weights
from s2dc_core.library import arms as shipped
from s2dc_core.library import results as results_of
from s2dc_core.pretraining import PretrainConfig
from s2dc_core.studies import arms as study
from s2dc_core.weights import load_encoder
from tests.pretraining.test_pretrain import CONFIG, blobs
from tests.studies.test_ablation import differing

TINY = replace(CONFIG, steps=4, levels=(0, 1), joined=True, token_head="none", matched_tokens=20)


@pytest.fixture
def tiny_study(monkeypatch, tmp_path):
    """The study on two blobs with a tiny recipe; what it measures is the mean of the patch embedding."""
    monkeypatch.setattr(PretrainConfig, "from_recipe", classmethod(lambda cls, recipe, **overrides: TINY))
    monkeypatch.setattr(study, "training_scans", lambda: [blobs(0), blobs(1)])
    monkeypatch.setattr(study, "SNAPSHOTS", (0, 1, 3))
    monkeypatch.setattr(study, "measure", lambda encoder, levels: {image: mean_weight(encoder) for image in IMAGES})
    return tmp_path


IMAGES = study.MEASURED_IMAGES


def mean_weight(encoder):
    weight = float(encoder.swinViT.patch_embed.proj.weight.detach().mean())
    return {"1000": {"1": weight, "2": weight + 0.2}, "1001": {"1": weight - 0.1}}


def test_arms_differ_in_loss_and_rate_and_repetitions_in_the_seed_only():
    base = study.recipe_of("s2dc", "teaching", 0)
    for arm, left_out in ARMS.items():
        other = study.recipe_of(arm, "teaching", 0)
        own = {"loss_options"} if left_out else set()
        own |= {"learning_rate"} if arm == "contrast" else set()
        assert differing(base, other) == own
        assert other.options.loss_options == {**base.options.loss_options, **left_out}
    assert differing(base, study.recipe_of("s2dc", "teaching", 1)) == {"seed"}
    one, other = (study.recipe_of(arm, "teaching", 3).build().student.encoder for arm in ("contrast", "s2dc"))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_no_body_is_both_trained_on_and_measured():
    assert not set(study.TRAINING_BODIES) & set(study.UNSEEN_BODIES) and len(study.UNSEEN_BODIES) >= 5


def test_the_study_writes_weights_records_and_paired_differences(tiny_study, monkeypatch):
    for seed in (0, 1):
        for arm in ARMS:
            study.train_arm(arm, "any", seed, tiny_study)
            study.measure_arm(arm, "any", seed, tiny_study)
        study.measure_arm("untrained", "any", seed, tiny_study)
    study.collect(tiny_study, "any", (0, 1))
    files = sorted(file.name for file in (tiny_study / "weights").iterdir())
    steps = ["s2dc_step_0001.safetensors", "s2dc_step_0003.safetensors"]
    assert files == sorted(
        [*(f"{arm}.{kind}" for arm in ARMS for kind in ("json", "safetensors")), *steps, "study.json"]
    )

    results = json.loads((tiny_study / "weights" / "study.json").read_text())

    def mean_of(run):
        bodies = run["phantom_ct"]
        return sum(sum(organs.values()) / len(organs) for organs in bodies.values()) / 2

    paired = [
        mean_of(ours) - mean_of(theirs)
        for ours, theirs in zip(results["silhouettes"]["s2dc"], results["silhouettes"]["p2p"], strict=True)
    ]
    centre = sum(paired) / 2
    half = stats.t.ppf(0.975, 1) * abs(paired[0] - paired[1]) / 2
    found = results["differences"]["phantom_ct"]["s2dc - p2p"]
    assert found == pytest.approx({"mean": centre, "low": centre - half, "high": centre + half}, abs=1e-4)
    assert list(results["differences"]["phantom_pet"]) == [f"s2dc - {arm}" for arm in ("untrained", *list(ARMS)[:3])]

    for room in (shipped, results_of):
        monkeypatch.setattr(room, "WEIGHTS", tiny_study / "weights")
    results_of.read_result.cache_clear()
    record = shipped.shipped_record("s2dc")
    assert record["snapshots"] == [0, 1, 3, 4] and record["seed"] == 0 and record["versions"]["torch"]
    assert record["recipe"] == study.recipe_of("s2dc", "any", 0).as_dict()
    last = shipped.open_snapshot(4)
    trained = load_encoder(tiny_study / "s2dc_seed0.safetensors")[0]
    assert all(torch.equal(a, b) for a, b in zip(last.parameters(), trained.parameters(), strict=True))
    first = shipped.open_snapshot(0)
    start = TINY.build().student.encoder
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), start.parameters(), strict=True))
    with pytest.raises(ValueError, match="no snapshot of step 2: there are 0, 1, 3, 4"):
        shipped.open_snapshot(2)
    results_of.read_result.cache_clear()


def test_a_run_that_lies_there_is_kept(tiny_study, monkeypatch):
    study.train_arm("p2p", "any", 0, tiny_study)
    monkeypatch.setattr(study, "pretrain", None)
    study.train_arm("p2p", "any", 0, tiny_study)
    with pytest.raises(TypeError):
        study.train_arm("p2p", "any", 1, tiny_study)


def test_a_run_of_another_recipe_is_refused_not_kept(tiny_study, monkeypatch):
    study.train_arm("p2p", "any", 0, tiny_study)
    other = replace(TINY, learning_rate=0.5)
    monkeypatch.setattr(PretrainConfig, "from_recipe", classmethod(lambda cls, recipe, **overrides: other))
    with pytest.raises(ValueError, match="p2p_seed0.json followed another recipe: give a new folder"):
        study.train_arm("p2p", "any", 0, tiny_study)


# What is shipped


def test_the_shipped_weights_fit_into_60_mb():
    files = list(results_of.WEIGHTS.glob("*.safetensors"))
    assert len(files) >= len(ARMS) + 3
    assert sum(file.stat().st_size for file in files) < 60e6


@pytest.mark.parametrize("name", ["untrained", *ARMS, *OTHERS])
def test_shipped_weights_open_in_evaluation_mode(name):
    encoder = open_weights(name)
    assert not encoder.training
    assert encoder.config == PretrainConfig.from_dict(shipped.shipped_record("s2dc")["recipe"]).encoder


def test_records_name_everything_needed_to_repeat_them():
    for arm in ARMS:
        record = shipped.shipped_record(arm)
        config = PretrainConfig.from_dict(record["recipe"])
        assert config == study.recipe_of(arm, "teaching", record["seed"])
        assert config.steps == record["steps"]
        assert record["trained_on"] == {
            "images": list(study.TRAINING_IMAGES),
            "bodies": list(study.TRAINING_BODIES),
        }
        assert {"torch", "monai", "python", "s2dc_core"} <= set(record["versions"])
    results = results_of.study_results()
    assert len(results["seeds"]) >= 5 and results["unseen_bodies"] == list(study.UNSEEN_BODIES)
    for runs in results["silhouettes"].values():
        assert len(runs) == len(results["seeds"])
        assert all(set(run["phantom_ct"]) == set(map(str, study.UNSEEN_BODIES)) for run in runs)


@pytest.mark.parametrize("name", ["s2dc", "untrained"])
def test_the_recorded_silhouettes_are_those_of_the_shipped_weights(name):
    """Weights and records of one study; other processors add in another order."""
    from s2dc_core.data import open_scan
    from s2dc_core.evaluation import scan_silhouettes

    found = scan_silhouettes(open_weights(name), open_scan("phantom_ct", seed=1000), study_levels())
    recorded = results_of.study_results()["silhouettes"][name][0]["phantom_ct"]["1000"]
    assert {str(organ) for organ in found} == set(recorded)
    means = [sum(values.values()) / len(values) for values in (found, recorded)]
    assert means[0] == pytest.approx(means[1], abs=0.003)


@pytest.mark.parametrize("name", ["untrained", "s2dc"])
def test_half_precision_moves_a_silhouette_by_less_than_0_005(name):
    """Only the float16 of trained weights are kept, so they are moved by as much as rounding may have moved them."""
    from s2dc_core.data import open_scan
    from s2dc_core.evaluation import scan_silhouettes

    scan = open_scan("phantom_ct", seed=1000, shape=(96, 64, 96), spacing=(3.75, 3.75, 3.75))
    encoder = open_weights(name)
    moved = copy.deepcopy(encoder)
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in moved.parameters():
            weight *= 1 + (2 * torch.rand(weight.shape, generator=draw) - 1) * torch.finfo(torch.float16).eps / 2
    values = [scan_silhouettes(one, scan, (1, 2, 3)) for one in (encoder, moved)]
    means = [sum(found.values()) / len(found) for found in values]
    assert means[0] == pytest.approx(means[1], abs=0.005) and means[0] != means[1]


def study_levels():
    return results_of.study_results()["levels"]


def test_unknown_weights_are_named(tmp_path):
    with pytest.raises(ValueError, match="no weights 'best': give one of untrained, contrast"):
        open_weights("best")
    with pytest.raises(FileNotFoundError, match="mine.safetensors"):
        open_weights(tmp_path / "mine.safetensors")
    with pytest.raises(ValueError, match="no shipped weights .best."):
        shipped.shipped_record("best")


def test_a_checkpoint_of_another_architecture_says_what_does_not_fit(tmp_path):
    from safetensors.torch import load_file, save_file

    from s2dc_core.encoder import Encoder, EncoderConfig
    from s2dc_core.weights import export_encoder

    encoder = Encoder(EncoderConfig.teaching(use_v2=False))
    file = tmp_path / "mine.safetensors"
    export_encoder(encoder, file)
    assert open_weights(file).config == encoder.config
    from safetensors import safe_open

    with safe_open(file, "pt") as archive:
        metadata = archive.metadata()
    tensors = load_file(file)
    tensors["swinViT.patch_embed.proj.weight"] = torch.zeros(48, 1, 2, 2, 2)
    tensors["head.weight"] = tensors.pop("swinViT.patch_embed.proj.bias")
    save_file(tensors, file, metadata)
    with pytest.raises(ValueError) as caught:
        open_weights(file)
    for part in ("wrong shape: swinViT.patch_embed.proj.weight", "unexpected: head.weight", "missing: swinViT.patch"):
        assert part in str(caught.value)
