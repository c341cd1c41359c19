"""`s2dc finetune`: a task of a data set in one command, with its scores, gone on with after an interruption."""

import json

import pytest

from s2dc_core.cli import main
from tests.data.miniature import MAKERS

SMALL = ["encoder={embed_dim: 12, heads: [1, 2, 2, 2], window: 4, use_v2: false}", "encoder_rate=1", "pad=true"]
SMALL += ["region=[64,32,32]", "warmup=0"]


def command(name, root, folder, *more, fields=(*SMALL, "steps=2")):
    return ["finetune", "--manifest", name, "--root", str(root), "--folder", str(folder), *more, *fields]


def test_a_task_is_learnt_scored_and_gone_on_with(tmp_path, capsys):
    root, folder = tmp_path / "data", tmp_path / "run"
    MAKERS["cc_ccii"](root)
    assert main(command("cc_ccii", root, folder, "--labels", "0.5", "--rule", "default")) == 0
    said = capsys.readouterr().out
    assert "cases scored" in said and "accuracy" in said and "95 % over" in said
    record = json.loads((folder / "scores.json").read_text())
    assert record["recipe"]["steps"] == 2 and 3 <= len(record["trained_on"]) < 8
    assert main(command("cc_ccii", root, folder)) == 2
    assert "give --resume to go on" in capsys.readouterr().err
    assert main(command("cc_ccii", root, folder, "--resume", "--labels", "0.5", "--rule", "default")) == 0


def test_a_translation_names_its_images(tmp_path, capsys):
    root = tmp_path / "data"
    MAKERS["brats23"](root)
    images = ["--inputs", "t1n", "--target", "t1c"]
    assert main(command("brats23", root, tmp_path / "run", *images, fields=[*SMALL, "steps=1"])) == 0
    assert "PSNR" in capsys.readouterr().out
    assert main(command("brats23", root, tmp_path / "other")) == 2
    assert "translation needs a target: one of t1n, t1c, t2w, t2f" in capsys.readouterr().err


def test_overlaps_and_cases_that_are_too_small_are_told(tmp_path, capsys):
    root = tmp_path / "data"
    MAKERS["btcv"](root)
    weights = ["--weights", "s2dc"]
    assert main(command("btcv", root, tmp_path / "run", *weights, fields=["steps=1"])) == 2
    err = capsys.readouterr().err
    assert "known overlap, if the weights have seen it: " in err
    assert "voxels, fewer than the region 64 x 64 x 64" in err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--task", "classification"], "unknown task 'classification': choose one of segmentation"),
        (["--target", "image"], "predicts no image"),
        (["--weights", "nothing"], "there are no weights 'nothing'"),
        (["--labels", "0"], "above 0 and at most 1"),
        (["--save-every", "0"], "--save-every must be at least 1"),
        (["--device", "cuda:9"], "there is no device"),
        (["--config", "gpu"], "unknown recipe 'gpu': give one of paper, teaching"),
        (["--root", "a", "b"], "--root takes one folder without a name"),
    ],
)
def test_what_cannot_be_run_is_one_line(tmp_path, capsys, more, message):
    root = tmp_path / "data"
    MAKERS["msd_spleen"](root)
    assert main(command("msd_spleen", root, tmp_path / "run", *more)) == 2
    err = capsys.readouterr().err
    assert len(err.strip().splitlines()) <= 2
    assert message in err
