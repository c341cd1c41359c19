"""The study of all pretext tasks: it searches a rate, trains, measures, keeps, and goes on from its record."""

from dataclasses import replace

import pytest

from s2dc_core.downstream import FinetuneConfig, networks
from s2dc_core.evaluation.pairs import Weights
from s2dc_core.library import results
from s2dc_core.library.methods import NETWORKS, rates_of, scores_of, taken_of
from s2dc_core.library.results import read_result
from s2dc_core.pretraining import PretrainConfig
from s2dc_core.studies import another_patient, arms, lungs, methods, study
from s2dc_core.studies.__main__ import main
from s2dc_core.training.records import read_json, write_json
from tests.methods.test_every_method import SCANS, small

TAUGHT = ("s2dc", "simmim")


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """Two methods of two steps on two small scans; what is measured is the sum of the encoder's weights."""
    taken = []

    def recipe(name, seed, rate=None, steps=None):
        config = small(name if name in TAUGHT else "s2dc", seed=seed, steps=steps or 2, warmup=0)
        return replace(config, learning_rate=rate or config.learning_rate)

    def known(encoder, *_):
        return round(sum(float(each.detach().abs().sum()) for each in encoder.parameters()), 3)

    def carried(name, seed, group, weights, encoders, data, ways):
        assert weights == Weights() and (encoders / f"{name}_seed{seed}.safetensors").exists()
        dice = {way: {"1": 0.2, "2": 0.4} for way in ways}
        pair = {"labelled": 0, "target": 1, "dice": dice, "retrieval": {"1": 0.5}, "mutual": 3}
        return {"half": [pair, pair]}

    def train(config, file, of=methods.train):
        taken.append(file.stem)
        of(config, file)

    monkeypatch.setattr(study, "in_processes", lambda work, jobs, _: [work(*job) for job in jobs])
    monkeypatch.setattr(methods, "recipe_of", recipe)
    monkeypatch.setattr(methods, "SEARCH_STEPS", 2)
    monkeypatch.setattr(methods, "TIMED", {"rounds": 1, "steps": 1, "first": 1})
    monkeypatch.setattr(methods, "train", train)
    monkeypatch.setattr(methods, "_scans", lambda: SCANS)
    monkeypatch.setattr(methods, "_choosing", lambda: type("Lesson", (), {"training": [], "scored": []}))
    monkeypatch.setattr(methods, "example_tokens", lambda encoder, part, levels: encoder)
    monkeypatch.setattr(methods, "probe_dice", lambda known_, scored: {1: known(known_)})
    monkeypatch.setattr(arms, "measure", lambda encoder, levels: {"phantom_ct": {"1000": {"1": known(encoder)}}})
    monkeypatch.setattr(methods, "probe_scores", lambda encoder, levels, seed: {"3": {"1": known(encoder)}})
    monkeypatch.setattr(methods, "tuned_scores", lambda tuning: {"1000": {"Dice": 0.5}})
    monkeypatch.setattr(lungs, "said_of", lambda *_: ({"0.10": 3}, {"0.10": [0] * len(lungs.SCORED)}))
    monkeypatch.setattr(another_patient, "score_group", carried)
    return tmp_path, taken


def run(folder, *more):
    assert main(["methods", str(folder), "--only", "untrained", *TAUGHT, *NETWORKS, "--seeds", "2", *more]) == 0
    return read_json(folder / "methods.json")


def test_a_study_from_scans_to_its_record(tiny):
    folder, taken = tiny
    record = run(folder)
    rates = rates_of(record)
    assert set(rates) == set(TAUGHT) and all(set(methods.RATES) <= set(found) for found in rates.values())
    scores = scores_of(record)
    assert set(scores) == {
        "silhouette", "probe, 3 labelled", "lungs", "fine-tuned",
        *(f"{group}, half, {how}" for group in methods.GROUPS for how in ("nearest", "deformed", "retrieval")),
    }  # fmt: skip
    for measure, found in scores.items():
        networks = NETWORKS if measure == "fine-tuned" else ()
        assert set(found) == {"untrained", *TAUGHT, *networks} and all(
            set(seeds) == {0, 1} for seeds in found.values()
        ), measure
    assert scores["ct, half, nearest"]["simmim"][1] == pytest.approx(0.3)
    assert scores["lungs"]["s2dc"][0] == pytest.approx(1 / 3, abs=1e-4)
    assert len({*scores["silhouette"]["s2dc"].values(), *scores["silhouette"]["untrained"].values()}) == 4
    assert "mutual" not in record["records"]["patients/ct_s2dc_seed0.json"]["scores"]["half"][0]
    for name in TAUGHT:
        chosen = max(rates[name], key=rates[name].get)
        assert read_json(folder / f"{name}_seed1.json")["recipe"]["learning_rate"] == chosen
    searched = sum(map(len, rates.values()))
    assert len(taken) == len(set(taken)) == searched + 2 + 2 * 2 + 1  # in full, seeds, equal time


def test_what_lies_there_is_kept_and_a_study_goes_on_from_its_record(tiny, monkeypatch, tmp_path):
    folder, taken = tiny
    record = run(folder)
    first = list(taken)
    assert run(folder)["records"] == record["records"]
    assert all((folder / f"{stem}.safetensors").exists() for stem in first)
    read_result.cache_clear()
    monkeypatch.setattr(results, "WEIGHTS", folder)
    monkeypatch.setattr(methods, "WEIGHTS", folder)
    taken.clear()
    again = folder / "again"
    assert run(again, "--go-on")["records"] == record["records"]
    assert not list(again.glob("*.safetensors")) and not taken
    read_result.cache_clear()


def test_a_method_of_equal_time_takes_as_many_times_the_steps_as_it_is_quicker(tiny):
    folder, _ = tiny
    run(folder)
    file = folder / "seconds.json"
    write_json(file, read_json(file) | {"seconds_a_step": {"s2dc": 1.0, "simmim": 0.4}})
    for file in folder.glob("*equal_time*"):
        file.unlink()
    methods.answer_in_equal_time("simmim", folder)
    assert read_json(folder / "simmim_equal_time.json")["recipe"]["steps"] == 5
    assert not (folder / "lungs_simmim_equal_time.json").exists()


def test_every_method_has_its_row_and_the_recipe_of_teaching():
    for name in set(methods.NAMES) - set(NETWORKS):
        config = methods.recipe_of(name, 1, 2e-4, 7)
        assert (config.seed, config.learning_rate, config.steps) == (1, 2e-4, 7)
        assert config.encoder == methods.recipe_of("s2dc", 0).encoder
        assert methods.recipe_of(name, 0).steps == 400
    assert set(methods.METHODS) <= set(methods.NAMES)


def test_the_two_networks_without_pretraining_are_of_one_size():
    sizes = []
    for how in methods.NETWORKS.values():
        tuning = FinetuneConfig.from_recipe("teaching", **how)
        encoder = PretrainConfig.from_recipe("teaching").encoder
        vit = tuning.head == "vit_unetr"
        network = networks.vit_unetr(tuning.vit, tuning.region, 1, 14) if vit else networks.swin_unetr(encoder, 14)
        sizes.append(sum(each.numel() for each in network.parameters()) / 1e6)
    assert [round(size, 1) for size in sizes] == [16.3, 15.5]


def test_a_single_term_takes_the_rate_of_the_whole(tiny):
    folder, taken = tiny
    best = methods.rate_of("p2p", folder)
    assert best == methods.rate_of("s2dc", folder)
    tried = {f"search_s2dc_{rate:g}" for rate in methods.RATES} | {f"full_s2dc_{best:g}"}
    assert set(taken) - {f"search_s2dc_{methods.LOWER:g}"} == tried and len(taken) == len(set(taken))


@pytest.mark.parametrize("best", [2e-4, 2e-3])
def test_a_lower_rate_is_tried_where_the_lowest_is_the_best(monkeypatch, tmp_path, best):
    dice = {rate: 0.3 - abs(rate - best) for rate in (*methods.RATES, methods.LOWER)}
    monkeypatch.setattr(methods, "_probed", lambda how, name, rate, folder: dice[rate])
    lower = {methods.LOWER} if best == min(methods.RATES) else set()
    assert set(methods.searched("voco", tmp_path)) == {*methods.RATES, *lower}


@pytest.mark.parametrize(
    ("whole", "taken"),
    [
        ({2e-3: 0.31}, 2e-3),
        ({2e-3: 0.3}, 2e-3),
        ({2e-3: 0.1, 1e-3: 0.2}, 1e-3),
        ({2e-3: 0.25, 1e-3: 0.2}, 2e-3),
        ({2e-3: 0.1, 1e-3: 0.15, 2e-4: 0.05}, 1e-3),
        ({2e-3: 0.05, 1e-3: 0.05, 2e-4: 0.1}, 2e-4),
    ],
)
def test_a_rate_that_longer_training_spoils_is_not_taken(monkeypatch, tmp_path, whole, taken):
    half, asked = {2e-4: 0.1, 1e-3: 0.2, 2e-3: 0.3}, []

    def probed(how, name, rate, folder):
        asked.append((how, rate))
        return {"search": half, "full": whole}[how][rate]

    monkeypatch.setattr(methods, "_probed", probed)
    assert methods.rate_of("voco", tmp_path) == taken
    assert {rate for how, rate in asked if how == "full"} == set(whole)
    records = {f"probe_search_voco_{rate:g}.json": {"dice": dice} for rate, dice in half.items()}
    records |= {f"probe_full_voco_{rate:g}.json": {"dice": dice} for rate, dice in whole.items()}
    assert taken_of({"records": records}) == {"voco": (taken, whole)}
    assert set(rates_of({"records": records})["voco"]) == set(half)
