"""`s2dc evaluate`: its table is its record, the record is whole or not there, and wrong input is one line."""

import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from s2dc_core.cli import evaluate as command
from s2dc_core.cli import main
from s2dc_core.data import load_manifest, load_scan, open_scan, require_cases
from s2dc_core.encoder import Encoder, EncoderConfig
from s2dc_core.evaluation import evaluate
from s2dc_core.library import open_weights
from s2dc_core.weights import export_encoder
from tests.data.miniature import MAKERS

TINY = EncoderConfig(embed_dim=12, heads=(1, 2, 4, 8), depths=(1, 1, 1, 1), window=4, use_v2=False)
QUICK = ("--levels", "2", "1", "--no-registration")


def save(values, file, affine):
    file.parent.mkdir(exist_ok=True)
    nib.save(nib.Nifti1Image(np.asarray(values, dtype=np.float32), affine), file)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Three bodies with their labels beside them, one of them alone, and weights of small encoders."""
    folder = tmp_path_factory.mktemp("evaluate")
    for seed in range(3):
        scan = open_scan("phantom_ct", shape=(48, 40, 56), spacing=(5.0, 5.0, 5.0), seed=seed)
        save(scan.raw, folder / "scans" / f"body_{seed}.nii.gz", scan.affine)
        save(scan.label, folder / "scans" / f"body_{seed}_seg.nii.gz", scan.affine)
    save(scan.raw, folder / "bare" / "body.nii.gz", scan.affine)
    save(scan.label[:-4], folder / "labels" / "body_0.nii.gz", scan.affine)
    save(scan.label, folder / "labels" / "body_1.nii.gz", scan.affine)
    save(scan.raw, folder / "shifted" / "other.nii.gz", scan.affine)
    save(scan.label + 20 * (scan.label > 0), folder / "shifted" / "other_seg.nii.gz", scan.affine)
    export_encoder(Encoder.from_seed(TINY, 1), folder / "one.safetensors")
    export_encoder(Encoder.from_seed(replace(TINY, in_channels=2), 2), folder / "two.safetensors")
    export_encoder(Encoder.from_seed(replace(TINY, patch=4), 2), folder / "coarse.safetensors")
    (folder / "nothing.safetensors").write_bytes(b"these are no weights")
    return folder


def run(place, out, *more, weights=("one.safetensors",), scans=("scans",), modality=("--modality", "ct")):
    """The command on files of the folder."""
    names = [str(place / name) if "." in name else name for name in weights]
    places = ["--scans", *(str(place / name) for name in scans)] if scans else []
    return main(["evaluate", "--weights", *names, *places, *modality, "--out", str(out), *more])


@pytest.fixture(scope="module")
def record(place, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "new" / "folder"
    assert run(place, out, *QUICK, weights=("one.safetensors", "two.safetensors")) == 0
    return json.loads((out / "evaluation.json").read_text()), out


def test_the_record_is_what_evaluate_returns(place, record):
    found, _ = record
    scans = [load_scan(*(place / "scans" / f"body_{k}{end}.nii.gz" for end in ("", "_seg"))) for k in range(3)]
    encoders = {name: open_weights(place / name, in_channels=1) for name in ("one.safetensors", "two.safetensors")}
    right = evaluate(encoders, scans, (1, 2), registration=False).record()
    assert {name: found[name] for name in right} == json.loads(json.dumps(right))
    assert found["weights"]["two.safetensors"]["file"] == str(place / "two.safetensors")
    assert found["versions"]["s2dc_core"] and found["command"].startswith("s2dc evaluate --weights")
    assert found["settings"]["scans"] == ["body_0", "body_1", "body_2"]


def test_the_table_is_the_record(place, tmp_path, capsys):
    assert run(place, tmp_path / "out", *QUICK, "--half") == 0
    said = capsys.readouterr()
    found = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    lines = said.out.splitlines()
    assert lines[0] == "the whole scan is asked: means over 3 pairs, 95 % Student-t intervals"
    assert "its upper or lower half is asked, in turns: means over 3 pairs, 95 % Student-t intervals" in lines
    dice = [row for row in found["summary"] if row["measure"] == "dice"]
    told = [line for line in lines if line.startswith(tuple({row["method"] for row in dice}))]
    assert len(dice) == 2 * (3 * 5 + 2)
    for row in dice:
        value, gain = row["value"], row["difference"]
        words = f"{value['mean']:.3f} ({value['low']:.3f} to {value['high']:.3f})"
        more = "" if gain is None else f"{gain['mean']:+.3f} ({gain['low']:+.3f} to {gain['high']:+.3f})"
        here = [line for line in told if line.split("  ")[0] == row["method"] and f" {row['way']} " in line]
        assert any(words in line and line.endswith(more or words) for line in here)
    for row in found["summary"]:
        digits = 1 if row["measure"] == "landmarks_mm" else 3
        assert f"{row['value']['mean']:.{digits}f} (" in said.out
    assert "written " in lines[-1] and "one.safetensors: " in said.err


def test_a_picture_lies_beside_it(record):
    _, out = record
    assert sorted(file.name for file in out.iterdir()) == ["evaluation.json", "evaluation.png"]
    assert (out / "evaluation.png").read_bytes().startswith(b"\x89PNG")


def test_what_the_reader_should_know_is_said(place, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(command, "evaluate", lambda *given, **more: (_ for _ in ()).throw(ValueError("far enough")))
    scan = open_scan("phantom_ct", shape=(48, 40, 56), spacing=(6.0, 6.0, 6.0), seed=5)
    save(scan.raw, tmp_path / "large.nii", scan.affine)
    save(scan.label, tmp_path / "large_seg.nii", scan.affine)
    assert run(place, tmp_path / "out", "--scans", str(tmp_path), weights=("two.safetensors", "s2dc")) == 2
    err = capsys.readouterr().err
    assert "has 2 channels: the scan is taken for all of them" in err
    assert "the scans have 2 voxel sizes, 5 x 5 x 5 to 6 x 6 x 6 mm: --spacing brings them to one" in err
    assert "the encoder of s2dc was trained on ct" in err
    assert "4 pairs are registered twice each" in err and "far enough" in err


def test_spacing_and_labels_elsewhere(place, tmp_path, monkeypatch, capsys):
    seen = {}

    def looked_at(encoders, scans, levels, **more):
        seen.update(scans=scans, levels=levels, **more)
        raise ValueError("far enough")

    monkeypatch.setattr(command, "evaluate", looked_at)
    more = ("--spacing", "6", "6", "6", "--finer", "--neighbours", "3", "--half")
    assert run(place, tmp_path / "out", "--labels", str(place / "labels"), *more, scans=("scans/body_1.nii.gz",)) == 2
    [scan] = seen["scans"]
    assert scan.spacing == pytest.approx((6, 6, 6)) and scan.label is not None and scan.name == "body_1"
    assert (seen["ways"][-1], seen["neighbours"], seen["half"], seen["levels"]) == ("finer", 3, True, [1, 2, 3])


def test_a_data_set_by_its_manifest(place, tmp_path, monkeypatch, capsys):
    """Its labelled cases, with the manifest's spacing, window and names."""
    seen = {}

    def looked_at(encoders, scans, levels, **more):
        seen.update(scans=scans)
        raise ValueError("far enough")

    monkeypatch.setattr(command, "evaluate", looked_at)
    MAKERS["msd_spleen"](tmp_path / "data")
    manifest = load_manifest("msd_spleen")
    asked = ("--manifest", "msd_spleen", "--root", str(tmp_path / "data"))
    assert run(place, tmp_path / "out", *asked, scans=(), modality=()) == 2
    cases = [case for case in require_cases(manifest, tmp_path / "data") if case.label]
    assert [scan.name for scan in seen["scans"]] == [case.name for case in cases] and len(cases) > 2
    for scan in seen["scans"]:
        assert scan.spacing == pytest.approx(manifest.preprocessing["spacing"]) and scan.label.any()
        assert (scan.modality, scan.window, scan.names[1]) == ("ct", manifest.window, manifest.label_names[1])
    assert run(place, tmp_path / "out", *asked, scans=(), modality=("--modality", "mr")) == 2
    assert "msd_spleen is ct, not mr: leave out --modality" in capsys.readouterr().err
    MAKERS["cc_ccii"](tmp_path / "classes")
    asked = ("--manifest", "cc_ccii", "--root", str(tmp_path / "classes"))
    assert run(place, tmp_path / "out", *asked, scans=(), modality=()) == 2
    assert "has a label map: there is nothing to score" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "more", "message"),
    [
        ({"scans": ("scans/body_0.nii.gz", "scans/body_0_seg.nii.gz")}, (), "1 scan: labels are carried from one scan"),
        ({"scans": ("scans", "bare")}, (), "no labels for 1 of 4 scans (body)"),
        ({"scans": ("scans", "shifted")}, (), "share no label that fills half a token"),
        ({"scans": ("scans/body_0.nii.gz",)}, ("--labels", "labels"), "is on another grid than"),
        ({"scans": ("nowhere",)}, (), "there is no file or folder"),
        ({"modality": ()}, (), "scans do not say what they are: give --modality ct, pet or mr"),
        ({"scans": ()}, (), "give either --scans, --labels and --modality, or --manifest and --root"),
        ({}, ("--manifest", "msd_spleen", "--root", "."), "give either --scans"),
        ({"scans": ()}, ("--manifest", "msd_spleen"), "--manifest msd_spleen needs --root"),
        ({}, ("--levels", "5"), "--levels 5: an encoder has the levels 0 to 4"),
        ({}, ("--levels", "0", "1", "--finer"), "there is none below 0"),
        ({}, ("--neighbours", "0"), "--neighbours must be at least 1, got 0"),
        ({"weights": ("nothing.safetensors",)}, (), "nothing.safetensors"),
        ({"weights": ("s3dc",)}, (), "there are no weights 's3dc'"),
        ({"weights": ("one.safetensors", "one.safetensors")}, (), "one.safetensors is given twice: give each once"),
        ({"weights": ("one.safetensors", "coarse.safetensors")}, (), "tokens of different sizes cannot be compared"),
    ],
)
def test_what_cannot_be_compared_is_one_line(place, tmp_path, capsys, monkeypatch, given, more, message):
    monkeypatch.chdir(place)
    assert run(place, tmp_path / "out", "--no-registration", *more, **given) == 2
    said = capsys.readouterr()
    assert message in said.err and not said.out
    assert [line for line in said.err.splitlines() if line.startswith("s2dc: ")] == said.err.splitlines()[-1:]
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_is_refused_first(place, tmp_path, capsys, monkeypatch):
    (tmp_path / "file").write_text("")
    assert run(place, tmp_path / "file", scans=("nowhere",)) == 2
    assert "file is a file, give a folder" in capsys.readouterr().err
    assert run(place, tmp_path / "file" / "below", scans=("nowhere",)) == 2
    assert "file is a file, give a folder" in capsys.readouterr().err
    monkeypatch.setattr(command.os, "access", lambda *place: False)
    assert run(place, tmp_path / "new", scans=("nowhere",)) == 2
    assert "nothing can be written in" in capsys.readouterr().err


@pytest.mark.parametrize("broken", ["plot_evaluation", "write_durably", "write_json"])
def test_nothing_half_written_stays(place, tmp_path, capsys, monkeypatch, broken):
    def fails(*given, **more):
        raise OSError("no room")

    monkeypatch.setattr(command, broken, fails)
    scans = tuple(f"scans/body_{k}{end}.nii.gz" for k in (0, 1) for end in ("", "_seg"))
    assert run(place, tmp_path / "out", *QUICK, scans=scans) == 2
    assert "no room" in capsys.readouterr().err
    left = [file.name for file in (tmp_path / "out").glob("*")]
    assert left == (["evaluation.png"] if broken == "write_json" else [])
