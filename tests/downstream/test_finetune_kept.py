"""What a fine-tuning finds before its first step, what it keeps, and what it needs to go on."""

import json
import math
import shutil
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from s2dc_core.data import check_files, load_manifest, require_cases
from s2dc_core.downstream import (
    Classification,
    Downstream,
    Example,
    Examples,
    Finetuning,
    ImageToImage,
    Segmentation,
    downstream_of,
    evaluate,
    finetune,
)
from s2dc_core.encoder import Encoder
from s2dc_core.training import UnreadableScans
from s2dc_core.weights import export_encoder, load_encoder
from tests.data.miniature import MAKERS
from tests.downstream.test_finetune import BALLS, CONFIG, SHAPE, SIZES, ball, balls

QUICK = replace(CONFIG, head="linear", steps=2, look_every=1)


def reading(problems, after=0):
    """A reader that fails for some cases, from the time on that each was read so many times."""
    seen = {}

    def read(entry):
        seen[entry["name"]] = seen.get(entry["name"], 0) + 1
        if entry["name"] in problems and seen[entry["name"]] > after:
            raise problems[entry["name"]]
        return ball(entry)

    return read


def cases(read, *seeds, keep=True, **more):
    return Examples([{"name": f"ball {seed}", "seed": seed} for seed in seeds], read, keep, **more)


DAMAGED = {"ball 10": OSError("ball 10 cannot be read")}


# Before the first step


@pytest.mark.parametrize("section", ["training", "selection", "scored"])
def test_a_damaged_case_of_any_section_is_found_before_the_first_step(tmp_path, section):
    config, names = replace(QUICK, selection=1), {"training": "ball 0", "scored": "ball 10"}
    names["selection"] = Finetuning(config, BALLS).selection.names[0]
    names["training"] = Finetuning(config, BALLS).training.names[0]
    read = reading({names[section]: ValueError("cut short")})
    damaged = Downstream(BALLS.task, cases(read, 0, 1, 2, 3), cases(read, 10, 11))
    taken = []
    with pytest.raises(UnreadableScans, match=f"1 cases cannot be used, 0 may be\n  {names[section]}: cut short"):
        finetune(config, damaged, progress=False, folder=tmp_path, on_step=lambda run: taken.append(run.history))
    assert not taken and not list(tmp_path.glob("step_*"))


def test_all_of_them_are_named_at_once(tmp_path):
    read = reading({f"ball {k}": ValueError(f"damage {k}") for k in (1, 3, 10)})
    damaged = Downstream(BALLS.task, cases(read, 0, 1, 2, 3), cases(read, 10, 11))
    with pytest.raises(UnreadableScans, match=r"3 cases .*\n.*damage 1\n.*damage 3\n.*damage 10"):
        Finetuning(QUICK, damaged)
    with pytest.raises(UnreadableScans, match="none of the 1 scored cases can be used"):
        Finetuning(QUICK, damaged._replace(scored=damaged.scored.only([0])), most_damaged=3)


def test_what_may_be_damaged_is_set_apart_and_listed(tmp_path):
    damaged = Downstream(BALLS.task, BALLS.training, cases(reading(DAMAGED), 10, 11))
    result = finetune(QUICK, damaged, progress=False, folder=tmp_path, most_damaged=1)
    record = json.loads((tmp_path / "scores.json").read_text())
    assert list(result.scores.cases) == ["ball 11"] == list(record["cases"])
    assert result.scores.failed == record["failed"] == {"ball 10": "ball 10 cannot be read"}
    assert json.loads((tmp_path / "quarantine.json").read_text()) == record["failed"]


def strange(task, training, scored):
    """Examples of labels or classes whose truth is known without reading."""
    parts = [
        Examples([{"name": f"{section} {k}", **entry} for k, entry in enumerate(entries)], lambda entry: 1 / 0,
                 labels_in=lambda entry: entry["labels"], check=lambda entry: None)
        for section, entries in (("t", training), ("s", scored))
    ]  # fmt: skip
    return Downstream(task, *parts)


def test_labels_and_classes_of_what_is_scored_are_known_before_the_first_step():
    ball_or_cube = strange(
        Segmentation({1: "ball"}), [{"labels": {0, 1}}] * 2, [{"labels": {0, 1}}, {"labels": {0, 7}}]
    )
    with pytest.raises(UnreadableScans, match="s 1 holds the label 7, which has no name"):
        Finetuning(QUICK, ball_or_cube)
    sick_or_well = strange(
        Classification({0: "well", 1: "sick"}), [{"target": 0}, {"target": 1}], [{"target": 2}, {"target": 1}]
    )
    with pytest.raises(UnreadableScans, match="s 0 is of the class 2, which has no name"):
        Finetuning(QUICK, sick_or_well)


def test_a_data_sets_files_are_judged_by_their_headers(tmp_path):
    MAKERS["msd_spleen"](tmp_path)
    manifest = load_manifest("msd_spleen")
    whole = downstream_of(manifest, require_cases(manifest, tmp_path))
    file = whole.scored.entries[0]["image"]
    with open(file, "w") as page:
        page.write("<html>Sign in</html>")
    with pytest.raises(UnreadableScans, match=f"{file} is a web page"):
        Finetuning(replace(QUICK, pad=True), whole)
    run = Finetuning(replace(QUICK, pad=True), whole, most_damaged=1)
    assert not run.scored._kept and list(run.quarantine) == [whole.scored.names[0]]


def test_a_data_sets_damaged_case_is_set_apart_as_others_are(tmp_path):
    """What is wrong behind the header comes out of MONAI's transforms as a RuntimeError."""
    MAKERS["msd_spleen"](tmp_path)
    manifest = load_manifest("msd_spleen")
    learnt = downstream_of(manifest, require_cases(manifest, tmp_path), keep=False).training
    file = learnt.entries[0]["image"]
    image = nib.load(file)
    data = image.get_fdata()
    data.flat[0] = np.inf
    nib.save(nib.Nifti1Image(data.astype(np.float32), image.affine), file)
    learnt.check(0)
    with pytest.raises(ValueError, match=f"{file} holds 1 voxels that are NaN or infinite"):
        learnt[0]


HEADERS = {
    "cut": (lambda file, data: file.write_bytes(data[:-9]), "bytes of"),
    "no header": (lambda file, data: file.write_bytes(bytes(99)), "cannot be read by its header"),
    "empty": (lambda file, data: file.write_bytes(b""), "an empty file"),
    "gone": (lambda file, data: file.unlink(), "does not exist"),
    "five dimensions": (
        lambda file, data: nib.save(nib.Nifti1Image(np.zeros((4, 4, 4, 2, 2)), np.eye(4)), file), "5 dimensions"),
}  # fmt: skip


@pytest.mark.parametrize("what", HEADERS)
def test_what_a_header_tells(tmp_path, what):
    damage, said = HEADERS[what]
    file = tmp_path / "a.nii"
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 4, 1)), np.eye(4)), file)
    check_files([file, str(file)])
    damage(file, file.read_bytes())
    with pytest.raises((ValueError, FileNotFoundError), match=said) as caught:
        check_files([file])
    assert str(file) in str(caught.value)


# What fails later


FAILURES = {
    "unreadable": (OSError("ball 10 cannot be read"), "ball 10 cannot be read"),
    "out of memory": (RuntimeError("not enough memory"), "ball 10: RuntimeError: not enough memory"),
}


@pytest.mark.parametrize("kind", FAILURES)
def test_a_case_that_fails_after_the_last_step_takes_no_other_score_with_it(tmp_path, capsys, kind):
    error, said = FAILURES[kind]
    whole = finetune(QUICK, BALLS, progress=False)
    damaged = BALLS._replace(scored=cases(reading({"ball 10": error}, after=1), 10, 11, keep=False))
    result = finetune(QUICK, damaged, progress=False, folder=tmp_path)
    record = json.loads((tmp_path / "scores.json").read_text())
    assert record["cases"] == {"ball 11": whole.scores.cases["ball 11"]} == result.scores.cases
    assert record["failed"] == {"ball 10": said} == result.scores.failed
    assert record["mean"] == whole.scores.cases["ball 11"]
    assert f"not scored: {said}" in capsys.readouterr().err
    assert "1 could not be scored" in result.scores.interval()


def test_where_nothing_can_be_scored_the_training_is_kept(tmp_path):
    broken = {f"ball {k}": ValueError(f"damage {k}") for k in (10, 11)}
    damaged = BALLS._replace(scored=cases(reading(broken, after=1), 10, 11, keep=False))
    with pytest.raises(ValueError, match="no case could be scored: ball 10: damage 10; ball 11: damage 11"):
        finetune(QUICK, damaged, progress=False, folder=tmp_path)
    record = json.loads((tmp_path / "scores.json").read_text())
    assert record["cases"] == {} and len(record["failed"]) == 2
    assert finetune(QUICK, BALLS, progress=False, folder=tmp_path, resume=True).scores.cases


def test_a_look_that_misses_a_case_chooses_nothing(tmp_path, capsys):
    config = replace(QUICK, selection=2, steps=3)
    lost = Finetuning(config, BALLS).selection.names[0]
    training = cases(reading({lost: OSError("disk gone")}, after=3), 0, 1, 2, 3, keep=False)
    result = finetune(config, BALLS._replace(training=training), progress=False, folder=tmp_path)
    record = json.loads((tmp_path / "scores.json").read_text())
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert record["chosen_step"] == 1 and len(result.history) == 3
    assert [line["chosen"] for line in lines] == [True, False, False]
    assert [list(line.get("failed", [])) for line in lines] == [[], [lost], [lost]]
    assert "the look after step 2 misses cases and chooses nothing" in capsys.readouterr().err


def test_two_cases_of_one_name_would_lose_a_score():
    with pytest.raises(ValueError, match="1 names stand for several cases, such as ball 10"):
        Finetuning(QUICK, BALLS._replace(scored=balls(10, 11, 10)))
    with pytest.raises(ValueError, match="such as ball 10"):
        evaluate(torch.nn.Linear(1, 1), BALLS.task, balls(10, 10), CONFIG)


def test_scores_go_by_the_names_of_the_entries():
    renamed = cases(lambda entry: ball(entry)._replace(name="anything"), 10, 11)
    assert list(finetune(QUICK, BALLS._replace(scored=renamed), progress=False).scores.cases) == ["ball 10", "ball 11"]


# Patients


def entries(*known):
    return Examples([{"name": f"case {k}", **entry} for k, entry in enumerate(known)], lambda entry: 1 / 0)


def named(*known):
    return Examples([{**entry} for entry in known], lambda entry: 1 / 0)


SHARED = {
    "patient": ([{"name": "a", "patient": "P7"}], [{"name": "b", "patient": "P7"}], "1 patients .* such as P7 .a is"),
    "number and text": ([{"name": "a", "patient": 61}], [{"name": "b", "patient": "61 "}], "such as 61 .a is"),
    "one names it": ([{"name": "a", "patient": "P7"}], [{"name": "P7"}], "such as P7 .a is learnt from, P7 is scored"),
    "other keys": ([{"name": "a", "subject": "P7"}], [{"name": "b", "PatientID": "P7"}], "1 patients .* such as P7"),
    "empty": ([{"name": "P7", "patient": ""}], [{"name": "b", "patient": "P7"}], "1 patients .* such as P7"),
    "image": ([{"name": "a", "image": "/d/x.nii"}], [{"name": "b", "image": "/d/y/../x.nii"}], "1 images .* /d/x.nii"),
    "several": ([{"name": "a", "patient": "P1"}, {"name": "b", "patient": "P2"}],
                [{"name": "c", "patient": "P2"}, {"name": "d", "patient": "P1"}, {"name": "e", "patient": "P3"}],
                "2 patients .* such as P1 .a is learnt from, d is scored"),
    "name": ([{"name": "a", "patient": "P1"}], [{"name": "a", "patient": "P2"}], "1 cases .* such as a$"),
}  # fmt: skip
TASKS = [Segmentation({1: "ball"}), Classification({0: "well", 1: "sick"}), ImageToImage()]


@pytest.mark.parametrize("task", TASKS, ids=lambda task: type(task).__name__)
@pytest.mark.parametrize("what", SHARED)
def test_a_patient_in_training_and_scoring_is_refused_by_name(task, what):
    training, scored, said = SHARED[what]
    with pytest.raises(ValueError, match=f"learnt from and scored.*{said.split(' .* ')[-1]}") as caught:
        Finetuning(QUICK, Downstream(task, named(*training), named(*scored)))
    assert said.split(" .* ")[0] in str(caught.value) or said.startswith("such")


def test_other_patients_are_let_in():
    training = named({"name": "a", "patient": "P1", "image": ["/d/a.nii", "/d/atlas.nii"]})
    scored = named({"name": "b", "patient": "P2", "image": ["/d/b.nii", "/d/atlas.nii"]}, {"name": "c"})
    with pytest.raises(UnreadableScans, match="division by zero"):  # it comes as far as reading them
        Finetuning(QUICK, Downstream(TASKS[0], training, scored))


def test_a_patient_is_set_aside_whole_whatever_its_key_is_called():
    by_subject = Examples([{"name": f"c{k}", "subject_id": k // 2} for k in range(8)], ball)
    learnt, aside = by_subject.split(1, 0)
    assert len(aside) == 2 and len({entry["subject_id"] for entry in aside.entries}) == 1 and len(learnt) == 6


# Going on


@pytest.mark.parametrize("as_checkpoint", [False, True])
def test_a_run_goes_on_without_the_file_it_started_from(tmp_path, as_checkpoint):
    start = tmp_path / "pretraining" / "step_0000100"
    start.mkdir(parents=True)
    export_encoder(Encoder(SIZES), start / "encoder.safetensors")
    weights = str(start if as_checkpoint else start / "encoder.safetensors")
    config = replace(QUICK, encoder=None, weights=weights, steps=3, selection=1)
    whole = finetune(config, BALLS, progress=False)

    def stop(run):
        if len(run.history) == 2:
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        finetune(config, BALLS, progress=False, folder=tmp_path / "run", save_every=1, on_step=stop)
    shutil.rmtree(tmp_path / "pretraining")
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    again = finetune(config, BALLS, progress=False, folder=tmp_path / "run", resume=True)
    assert again.history == whole.history and again.scores == whole.scores
    run = Finetuning.resume(tmp_path / "copy", BALLS)
    run.step()
    assert [terms.total for terms in run.history] == whole.history
    with pytest.raises((FileNotFoundError, ValueError), match="no weights"):  # a new run needs them
        finetune(config, BALLS, progress=False, folder=tmp_path / "other")


# What is kept


def test_the_encoders_file_is_of_the_chosen_step(tmp_path):
    config = replace(QUICK, selection=1, steps=3)
    run = Finetuning(config, BALLS)
    run.step()
    run.look()
    run.best.score.fill_(2.0)  # nothing that follows is better
    run.step()
    run.look()
    run.save(tmp_path)
    encoder, _ = load_encoder(tmp_path / "step_0000002" / "encoder.safetensors")
    chosen, last = (dict(network.swinViT.named_parameters()) for network in (run.chosen, run.network))
    assert all(torch.equal(weight, chosen[name]) for name, weight in encoder.swinViT.named_parameters())
    assert not all(torch.equal(weight, last[name]) for name, weight in encoder.swinViT.named_parameters())


def test_what_no_look_could_choose_is_the_last_step(tmp_path):
    """No case of the selection has the ball, so no look has a number."""

    def without(entry):
        example = ball(entry)
        return example if entry["seed"] < 3 else example._replace(truth=torch.zeros(SHAPE, dtype=torch.int32))

    config = replace(QUICK, selection=1)
    seed = next(k for k in range(40) if BALLS.training.split(1, k)[1].names == ["ball 3"])
    learnt = BALLS._replace(training=cases(without, 0, 1, 2, 3), scored=cases(without, 10, 11))
    finetune(replace(config, seed=seed), learnt, progress=False, folder=tmp_path)
    text = (tmp_path / "scores.json").read_text() + (tmp_path / "log.jsonl").read_text()
    assert "NaN" not in text and '"Dice": null' in text
    record = json.loads((tmp_path / "scores.json").read_text())
    assert record["chosen_step"] == 2 and record["mean"] == {
        "Dice": None,
        "invented ball": record["mean"]["invented ball"],
    }


def test_losses_rates_and_looks_are_in_the_log_and_in_tensorboard(tmp_path):
    config = replace(QUICK, selection=1, steps=4, look_every=2, warmup=2, encoder_rate=0.5)
    result = finetune(config, BALLS, progress=False, folder=tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert [line["loss"] for line in lines] == result.history
    rates = [0.5 * config.learning_rate, config.learning_rate, config.learning_rate]
    rates.append(config.learning_rate * 0.5 * (1 + math.cos(math.pi / 2)))
    assert [line["learning_rate"] for line in lines] == pytest.approx(rates)
    assert [line["encoder_learning_rate"] for line in lines] == pytest.approx([0.5 * rate for rate in rates])
    looks = {line["step"]: line["selection"] for line in lines if "selection" in line}
    assert list(looks) == [2, 4] and all(0 <= look["Dice"] <= 1 for look in looks.values())
    chosen = max(looks, key=lambda step: (looks[step]["Dice"], -step))
    assert json.loads((tmp_path / "scores.json").read_text())["chosen_step"] == chosen
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    for name, expected in (("loss", result.history), ("selection/Dice", [look["Dice"] for look in looks.values()])):
        assert [event.value for event in events.Scalars(name)] == pytest.approx(expected, rel=1e-6)


def test_a_run_that_goes_on_writes_no_line_twice(tmp_path):
    config = replace(QUICK, steps=4, selection=1)
    whole = finetune(config, BALLS, progress=False, folder=tmp_path / "whole")

    def stop(run):
        if len(run.history) == 3:
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        finetune(config, BALLS, progress=False, folder=tmp_path / "run", save_every=2, on_step=stop)
    with (tmp_path / "run" / "log.jsonl").open("a") as lines:
        lines.write('{"step": 4, "lo')
    finetune(config, BALLS, progress=False, folder=tmp_path / "run", resume=True)
    one, two = ((tmp_path / name / "log.jsonl").read_text() for name in ("whole", "run"))
    assert one == two and len(one.splitlines()) == 4 and len(whole.history) == 4
    starts = json.loads((tmp_path / "run" / "run.json").read_text())["starts"]
    assert [start["step"] for start in starts] == [0, 2]


def test_the_numbers_of_a_perfect_image_are_no_broken_json(tmp_path):
    """PSNR of an exact prediction is infinite, which JSON does not know."""
    image = torch.rand(1, *SHAPE)
    same = lambda entry: Example(entry["name"], image, image[0])  # noqa: E731
    task = ImageToImage(residual=True)
    parts = (Examples([{"name": name}], same) for name in ("a", "b"))
    config = replace(QUICK, learning_rate=1e-12, steps=1)
    finetune(config, Downstream(task, *parts), progress=False, folder=tmp_path)

    def refuse(constant):
        raise AssertionError(constant)

    for file in tmp_path.glob("*.json*"):
        for line in file.read_text().splitlines() if file.suffix == ".jsonl" else [file.read_text()]:
            json.loads(line, parse_constant=refuse)
