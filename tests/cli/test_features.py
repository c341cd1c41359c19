"""`s2dc features`: the numbers that token_features gives, at their place, or one line that says what is wrong."""

import json

import nibabel as nib
import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from s2dc_core.cli import main
from s2dc_core.data import load_scan, open_scan
from s2dc_core.encoder import Encoder, EncoderConfig
from s2dc_core.evaluation import load_tokens
from s2dc_core.features import token_features
from s2dc_core.library import open_weights
from s2dc_core.weights import export_encoder

TINY = EncoderConfig(embed_dim=12, heads=(1, 2, 4, 8), depths=(1, 1, 1, 1), window=4, use_v2=False)
TRAINED_ON = [{"modality": "ct", "rule": "default", "window": [-175.0, 250.0], "spacing": [2.5, 2.5, 2.5]}]
OBLIQUE = np.array([[-5.0, -3, 0, 40], [-3, 5, 0, -25], [0, 0, 6, 7], [0, 0, 0, 1]])
"""Left-handed and turned about the third axis."""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a small scan and the weights of small encoders."""
    folder = tmp_path_factory.mktemp("features")
    scan = open_scan("phantom_ct", shape=(48, 48, 48), spacing=(6.0, 6.0, 6.0))
    nib.save(nib.Nifti1Image(scan.raw.numpy(), OBLIQUE), folder / "scan.nii.gz")
    encoder = Encoder.from_seed(TINY, 0)
    encoder.trained_on = TRAINED_ON
    export_encoder(encoder, folder / "weights.safetensors")
    export_encoder(
        Encoder.from_seed(EncoderConfig(**{**vars(TINY), "in_channels": 3}), 0), folder / "three.safetensors"
    )
    return folder


def run(place, out, *more, scan="scan.nii.gz", weights="weights.safetensors"):
    """The command on files of the folder."""
    weights = place / weights if "." in str(weights) else weights
    scan = place / scan if "." in scan else scan
    return main(["features", str(scan), "--weights", str(weights), "--out", str(out), *more])


def expected(place, levels, weights="weights.safetensors", **options):
    scan = load_scan(place / "scan.nii.gz", modality="ct", **options)
    encoder = open_weights(place / weights, in_channels=1)
    return token_features(encoder, scan.volume, levels, affine=scan.affine, background=scan.background)


def note_in(file):
    with safe_open(file, framework="pt") as archive:
        return json.loads(archive.metadata()["s2dc_tokens"])


def test_the_file_holds_what_token_features_gives(place, tmp_path, capsys):
    assert run(place, tmp_path / "a.safetensors", "--modality", "ct", "--levels", "2", "1") == 0
    said, (loaded, right) = capsys.readouterr(), (load_tokens(tmp_path / "a.safetensors"), expected(place, [1, 2]))
    assert torch.equal(loaded.features, right.features) and np.array_equal(loaded.affine, right.affine)
    assert loaded.patch == right.patch == (4, 4, 4)
    assert "12 x 12 x 12 of 4 x 4 x 4 voxels, 72 channels" in said.out and "from HU" in said.out
    assert "was trained on ct from -175..250 to -2..2, 2.5 x 2.5 x 2.5 mm; given ct from" in said.err
    note = note_in(tmp_path / "a.safetensors")
    assert (note["levels"], note["weights"], note["modality"]) == ([1, 2], "weights.safetensors", "ct")
    assert note["rule"] == "default" and note["window"] == [-175, 250] and len(note["spacing"]) == 3


def test_the_scan_is_prepared_as_asked(place, tmp_path, capsys):
    asked = ["--modality", "ct", "--spacing", "7", "7", "7", "--rule", "paper", "--window", "-500", "500"]
    asked += ["--scale", "1.25", "--offset", "10"]
    assert run(place, tmp_path / "a.safetensors", *asked, "--levels", "2") == 0
    options = {"spacing": (7, 7, 7), "rule": "paper", "window": (-500, 500), "scale": 1.25, "offset": 10}
    right = expected(place, [2], **options)
    assert torch.equal(load_tokens(tmp_path / "a.safetensors").features, right.features)
    note = note_in(tmp_path / "a.safetensors")
    assert (note["rule"], note["window"], note["scale"], note["offset"]) == ("paper", [-500, 500], 1.25, 10)


def test_nifti_lies_where_the_scan_lies(place, tmp_path, capsys):
    """The scan's stored axes are oblique and left-handed; a token's centre is the mean of its voxels' places."""
    assert run(place, tmp_path / "a.nii.gz", "--modality", "ct", "--levels", "1") == 0
    image, right = nib.load(tmp_path / "a.nii.gz"), expected(place, 1)
    assert np.array_equal(np.asarray(image.dataobj), right.features.numpy())
    np.testing.assert_allclose(image.affine, right.affine, rtol=1e-6, atol=1e-4)
    scan = load_scan(place / "scan.nii.gz", modality="ct")
    voxels = np.array([[x, y, z, 1] for x in range(8, 12) for y in range(4, 8) for z in range(4)])
    np.testing.assert_allclose(image.affine @ [2, 1, 0, 1], (voxels @ scan.affine.T).mean(0), atol=1e-3)
    stored = np.linalg.inv(OBLIQUE) @ image.affine @ [2, 1, 0, 1]  # in voxels of the file: half-way between two
    np.testing.assert_allclose(stored[:3] % 1, 0.5, atol=1e-4)


def test_fewer_channels_come_with_their_basis(place, tmp_path, capsys):
    assert run(place, tmp_path / "a.safetensors", "--modality", "ct", "--levels", "1", "--reduce", "6") == 0
    said, whole = capsys.readouterr().out, expected(place, 1)
    with safe_open(tmp_path / "a.safetensors", framework="pt") as archive:
        basis, features = archive.get_tensor("basis"), archive.get_tensor("features")
    torch.testing.assert_close(torch.nn.functional.normalize(whole.features, dim=-1) @ basis, features)
    note = note_in(tmp_path / "a.safetensors")
    assert note["reduced_from"] == 24 and f"{note['share_kept']:.4f} of the tokens' squared length kept" in said
    assert run(place, tmp_path / "a.nii", "--modality", "ct", "--levels", "1", "--reduce", "6") == 0
    assert "the basis of the reduction is kept in .safetensors only" in capsys.readouterr().err
    assert np.array_equal(np.asarray(nib.load(tmp_path / "a.nii").dataobj), features.numpy())


def test_an_arm_gives_levels_and_knows_a_built_in_image(tmp_path, capsys):
    assert (
        main(["features", "mni152", "--weights", "s2dc", "--spacing", "5", "5", "5", "--out", f"{tmp_path}/a.nii"]) == 0
    )
    said = capsys.readouterr()
    assert "s2dc, levels 1 2 3" in said.out and "336 channels" in said.out and "was trained on" in said.err
    assert nib.load(tmp_path / "a.nii").shape[3] == 336


@pytest.mark.parametrize("recipe", [{"levels": [2]}, {"method": "s2dc", "options": {"levels": [2]}}])
def test_a_checkpoint_gives_its_recipes_levels(place, tmp_path, recipe, capsys):
    folder = tmp_path / "step_0000001"
    folder.mkdir()
    (folder / "encoder.safetensors").write_bytes((place / "weights.safetensors").read_bytes())
    (folder / "recipe.json").write_text(json.dumps(recipe))
    for weights in (folder, folder / "encoder.safetensors"):
        asked = ["features", str(place / "scan.nii.gz"), "--modality", "ct", "--weights", str(weights)]
        assert main([*asked, "--out", str(tmp_path / "a.safetensors")]) == 0
        assert load_tokens(tmp_path / "a.safetensors").features.shape == (6, 6, 6, 48)
    assert note_in(tmp_path / "a.safetensors")["weights"] == "step_0000001/encoder.safetensors"


def test_an_encoder_of_several_channels_sees_the_scan_in_all(place, tmp_path, capsys):
    three = {"weights": "three.safetensors"}
    assert run(place, tmp_path / "a.safetensors", "--modality", "ct", "--levels", "1", **three) == 0
    assert "has 3 channels: the scan is taken for all of them" in capsys.readouterr().err
    scan, encoder = load_scan(place / "scan.nii.gz", modality="ct"), open_weights(place / "three.safetensors")
    right = token_features(encoder, scan.volume.expand(3, -1, -1, -1), 1, background=scan.background)
    loaded = load_tokens(tmp_path / "a.safetensors").features
    torch.testing.assert_close(loaded, right.features, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ([], "scan.nii.gz does not say what it is: give --modality ct, pet or mr"),
        (["--modality", "ct", "--levels", "5"], "--levels 5: an encoder has the levels 0 to 4"),
        (["--modality", "ct", "--levels", "1", "1"], "--levels 1 1: an encoder has the levels 0 to 4, give each once"),
        (
            ["--modality", "ct", "--levels", "1", "--reduce", "25"],
            "--reduce 25 is more than the 24 channels of levels 1",
        ),
        (["--modality", "ct", "--reduce", "0"], "--reduce must be at least 1, got 0"),
        (["--modality", "ct", "--window", "250", "-175"], "--window 250 -175: give the lower bound first"),
        (["--modality", "mr", "--window", "0", "1"], "--window is of a CT, the scan is mr"),
        (["--modality", "ct", "--device", "cuda:9"], "there is no device"),
        (["--modality", "ct", "--spacing", "0", "1", "1"], "is not three lengths in mm"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_leaves_nothing(place, tmp_path, capsys, more, message):
    assert run(place, tmp_path / "a.nii.gz", *more) == 2
    err = capsys.readouterr().err
    assert message in err and len(err.strip().splitlines()) == 1 and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("scan", "weights", "out", "message"),
    [
        ("absent.nii.gz", "weights.safetensors", "a.nii", "absent.nii.gz: give a file, a folder, or phantom_ct"),
        ("phantom_xray", "weights.safetensors", "a.nii", "there is no image 'phantom_xray'"),
        ("scan.nii.gz", "absent.safetensors", "a.nii", "no weights file"),
        ("scan.nii.gz", "nothing", "a.nii", "there are no weights 'nothing'"),
        ("scan.nii.gz", "weights.safetensors", "a.npy", "token maps are files that end in .safetensors, .nii.gz, .nii"),
        ("scan.nii.gz", "weights.safetensors", "absent/a.nii", "give the name of a file in a folder that exists"),
    ],
)
def test_places_that_are_not_there_are_one_line(place, tmp_path, capsys, scan, weights, out, message):
    modality = ["--modality", "ct"] if "." in scan else []
    assert run(place, tmp_path / out, *modality, scan=scan, weights=weights) == 2
    err = capsys.readouterr().err
    assert message in err and len(err.strip().splitlines()) == 1 and not list(tmp_path.iterdir())


def test_weights_that_lack_a_tensor_are_one_line(place, tmp_path, capsys):
    weights = load_file(place / "weights.safetensors")
    absent = [name for name in weights if "layers2" in name and "norm" in name]
    save_file({name: each for name, each in weights.items() if name not in absent}, tmp_path / "part.safetensors")
    assert run(place, tmp_path / "a.nii", "--modality", "ct", weights=tmp_path / "part.safetensors") == 2
    err = capsys.readouterr().err
    assert f"{len(absent)} missing" in err and absent[0] in err and len(err.strip().splitlines()) == 1


def test_what_is_read_is_not_overwritten(place, capsys):
    before = (place / "scan.nii.gz").read_bytes()
    assert run(place, place / "scan.nii.gz", "--modality", "ct") == 2
    assert "is what is read: give another name" in capsys.readouterr().err
    assert (place / "scan.nii.gz").read_bytes() == before


def test_a_built_in_image_has_its_own_rule(tmp_path, capsys):
    out = str(tmp_path / "a.nii")
    assert main(["features", "phantom_ct", "--weights", "s2dc", "--rule", "paper", "--out", out]) == 2
    assert "phantom_ct is prepared by the default rule: leave out --rule" in capsys.readouterr().err
