"""What the commands leave of a run: the line that started it, its data set, and what it was warned of."""

import json
import shlex

import nibabel as nib
import numpy as np

from s2dc_core.cli import main
from s2dc_core.data import open_scan
from s2dc_core.encoder import Encoder, EncoderConfig
from s2dc_core.weights import export_encoder, load_encoder
from tests.cli.test_finetune import SMALL, command
from tests.data.miniature import MAKERS

TINY = ["encoder={embed_dim: 12, heads: [1, 2, 4, 8], depths: [1, 1, 1, 1], sub_volume: [16, 16, 16], use_v2: false}"]
TINY += ["steps=1", "batch=1", "levels=[1]", "joined=false", "views.counts=[1, 1, 1]", "matched_tokens=null"]


def last_start(folder):
    return json.loads((folder / "run.json").read_text())["starts"][-1]


def test_a_pre_training_keeps_its_command_and_how_the_scans_were_prepared(tmp_path):
    scan = open_scan("phantom_ct", shape=(32, 32, 32), spacing=(6.0, 6.0, 6.0))
    (tmp_path / "my scans").mkdir()
    nib.save(nib.Nifti1Image(scan.raw.numpy(), scan.affine), tmp_path / "my scans" / "a.nii.gz")
    asked = ["pretrain", "--scans", str(tmp_path / "my scans"), "--modality", "ct", "--spacing", "5", "5", "6"]
    asked += [
        "--rule",
        "paper",
        "--folder",
        str(tmp_path / "run"),
        "--pictures-every",
        "0",
        "--device",
        "cpu",
        "--",
        *TINY,
    ]
    assert main(asked) == 0
    start = last_start(tmp_path / "run")
    assert shlex.split(start["command"]) == ["s2dc", *asked] and start["manifest"] is None
    expected = {"modality": "ct", "rule": "paper", "window": [-175.0, 250.0], "spacing": [5.0, 5.0, 6.0], "scans": 1}
    assert start["scans"] == [expected]
    assert load_encoder(tmp_path / "run" / "step_0000001" / "encoder.safetensors")[0].trained_on == [expected]


def test_a_fine_tuning_keeps_its_manifest_and_says_what_differs(tmp_path, capsys):
    root, folder = tmp_path / "data", tmp_path / "run"
    MAKERS["msd_spleen"](root)
    encoder = Encoder(EncoderConfig(embed_dim=12, heads=(1, 2, 2, 2), window=4, use_v2=False))
    window = [-175.0, 250.0]
    encoder.trained_on = [
        {"modality": "ct", "rule": "default", "window": window, "spacing": [1.5, 1.5, 2.0], "scans": 9}
    ]
    export_encoder(encoder, tmp_path / "start.safetensors")
    weights = ["--weights", str(tmp_path / "start.safetensors")]
    fields = [field for field in SMALL if not field.startswith(("encoder=", "steps="))] + ["steps=1", "head=linear"]
    assert main(command("msd_spleen", root, folder, *weights, fields=fields)) == 0
    [note] = last_start(folder)["scans"]
    assert note["manifest"] == "msd_spleen" == last_start(folder)["manifest"] and note["rule"] == "window"
    assert "was trained on ct from -175..250 to -2..2, 1.5 x 1.5 x 2 mm; given ct from " in capsys.readouterr().err
    assert main(command("msd_spleen", root, tmp_path / "other", *weights, "--rule", "default", fields=fields)) == 0
    err = capsys.readouterr().err
    assert ("was trained on" in err) == (last_start(tmp_path / "other")["scans"][0]["spacing"] != [1.5, 1.5, 2.0])


def test_a_case_that_cannot_be_scored_is_listed_and_tells_by_the_exit_code(tmp_path, capsys):
    """Its file is damaged behind its header, which nothing but reading it can tell."""
    root, folder = tmp_path / "data", tmp_path / "run"
    MAKERS["btcv"](root)
    fields = [*SMALL, "steps=1", "head=linear"]
    assert main(command("btcv", root, folder, fields=fields)) == 0
    scored = list(json.loads((folder / "scores.json").read_text())["cases"])
    [file] = [file for file in root.rglob("*.nii.gz") if scored[0] in file.name and "label" not in str(file)]
    data = nib.load(file).get_fdata()
    data.flat[0] = np.nan
    nib.save(nib.Nifti1Image(data.astype(np.float32), nib.load(file).affine), file)
    capsys.readouterr()
    assert main(command("btcv", root, tmp_path / "again", fields=fields)) == 1
    said = capsys.readouterr()
    record = json.loads((tmp_path / "again" / "scores.json").read_text())
    assert list(record["failed"]) == scored[:1] and list(record["cases"]) == scored[1:]
    assert f"not scored: {scored[0]}" in said.out or f"not scored: {record['failed'][scored[0]]}" in said.out
    assert "NaN or infinite" in record["failed"][scored[0]]
