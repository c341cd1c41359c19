"""Token maps in files and with fewer channels: what is kept, how well, and where it lies."""

import json

import nibabel as nib
import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from s2dc_core.evaluation.maps import cosine_error, load_tokens, reduce_tokens, save_tokens, share_kept
from s2dc_core.features import TokenMap, fit_pca, token_affine
from s2dc_core.matching import unit_length

ANGLE = np.deg2rad(30)
OBLIQUE = np.array(  # left-handed: the first axis is mirrored; turned about the third
    [
        [-2 * np.cos(ANGLE), -3 * np.sin(ANGLE), 0, 40],
        [-2 * np.sin(ANGLE), 3 * np.cos(ANGLE), 0, -25],
        [0, 0, 2.5, 7],
        [0, 0, 0, 1],
    ]
)
SHEARED = OBLIQUE @ np.array([[1, 0.3, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])


def token_map(channels=12, grid=(5, 4, 3), affine=OBLIQUE, seed=0):
    """Tokens that differ little about a large mean and much along few axes, as an encoder's do."""
    generator = torch.Generator().manual_seed(seed)
    axes = torch.randn(4, channels, generator=generator)
    weights = torch.randn(*grid, 4, generator=generator) + torch.tensor([1.5, 0, 0, 0])
    features = weights @ axes + 0.2 * torch.randn(*grid, channels, generator=generator)
    return TokenMap(features, (4, 4, 4), token_affine(affine, (4, 4, 4)))


@pytest.mark.parametrize("components", [2, 3, 5])
def test_reduced_tokens_keep_cosines_better_than_a_centred_pca(components):
    whole = token_map()
    reduced, basis = reduce_tokens(whole, components)
    centred = fit_pca(whole._replace(features=unit_length(whole.features)), components)
    rows = unit_length(whole.features).flatten(0, 2)
    projected = torch.from_numpy(centred.transform(rows.double().numpy())).unflatten(0, whole.features.shape[:3])
    ours, theirs = (cosine_error(whole, each) for each in (reduced, whole._replace(features=projected)))
    assert ours[0] < theirs[0] and ours[1] < theirs[1]
    assert reduced.patch == whole.patch and np.array_equal(reduced.affine, whole.affine)
    torch.testing.assert_close(basis.T @ basis, torch.eye(components))
    torch.testing.assert_close(reduced.features.flatten(0, 2), rows @ basis)


def test_no_map_of_that_rank_keeps_dot_products_better():
    """Eckart and Young: the squared errors of the Gram matrix are those of the left-out singular values."""
    whole = token_map()
    unit = unit_length(whole.features).flatten(0, 2).double()
    reduced = reduce_tokens(whole, 3)[0].features.flatten(0, 2).double()
    left = torch.linalg.svdvals(unit)[3:] ** 4
    error = (unit @ unit.T - reduced @ reduced.T).square().sum()
    torch.testing.assert_close(error, left.sum(), rtol=1e-4, atol=0)
    assert share_kept(reduce_tokens(whole, 3)[0]) == pytest.approx(float(reduced.square().sum(1).mean()), abs=1e-6)


def test_all_components_are_exact_and_each_draw_is_the_same():
    whole = token_map()
    reduced, basis = reduce_tokens(whole, 12)
    assert cosine_error(whole, reduced)[1] < 1e-5 and share_kept(reduced) == pytest.approx(1, abs=1e-5)
    assert torch.equal(basis, reduce_tokens(whole, 12)[1])
    assert (basis.gather(0, basis.abs().argmax(0, keepdim=True)) > 0).all()


def test_tokens_of_length_zero_stay_and_do_not_count():
    whole = token_map()
    whole.features[0, 0, 0] = 0
    reduced, _ = reduce_tokens(whole, 12)
    assert not reduced.features[0, 0, 0].any() and share_kept(reduced) == pytest.approx(1, abs=1e-5)
    with pytest.raises(ValueError, match="all tokens are of length zero"):
        reduce_tokens(whole._replace(features=torch.zeros(2, 2, 2, 3)), 2)


@pytest.mark.parametrize("components", [0, -1, 13])
def test_components_that_there_are_not_are_refused(components):
    with pytest.raises(ValueError, match=f"12 channels cannot be reduced to {components}: give 1 to 12"):
        reduce_tokens(token_map(), components)


def test_tokens_that_are_not_finite_and_other_grids_are_refused():
    whole = token_map()
    with pytest.raises(ValueError, match="do not hold the same tokens"):
        cosine_error(whole, token_map(grid=(5, 4, 2)))
    whole.features[1, 1, 1, 1] = torch.nan
    with pytest.raises(ValueError, match="NaN or infinite"):
        reduce_tokens(whole, 2)


def test_a_safetensors_file_gives_all_back(tmp_path):
    reduced, basis = reduce_tokens(token_map(), 5)
    file = tmp_path / "tokens.safetensors"
    save_tokens(reduced, file, {"levels": [1], "weights": "s2dc"}, basis)
    loaded = load_tokens(file)
    assert torch.equal(loaded.features, reduced.features) and np.array_equal(loaded.affine, reduced.affine)
    assert loaded.patch == (4, 4, 4) and loaded.affine.dtype == np.float64
    with safe_open(file, framework="pt") as archive:
        assert torch.equal(archive.get_tensor("basis"), basis)
        said = json.loads(archive.metadata()["s2dc_tokens"])
    assert said == {"patch": [4, 4, 4], "levels": [1], "weights": "s2dc"}
    assert [path.name for path in tmp_path.iterdir()] == ["tokens.safetensors"]


@pytest.mark.parametrize(("affine", "code"), [(OBLIQUE, 1), (SHEARED, 0)])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_nifti_has_the_same_numbers_at_the_same_place(tmp_path, affine, code, suffix):
    whole = token_map(affine=affine)
    save_tokens(whole, tmp_path / f"a{suffix}", {"levels": [1]})
    image = nib.load(tmp_path / f"a{suffix}")
    assert np.array_equal(np.asarray(image.dataobj), whole.features.numpy())
    np.testing.assert_allclose(image.affine, whole.affine, rtol=1e-6, atol=1e-5)
    assert (int(image.header["sform_code"]), int(image.header["qform_code"])) == (1, code)
    if code:
        np.testing.assert_allclose(image.get_qform(), whole.affine, rtol=1e-5, atol=1e-4)
    assert json.loads(image.header.extensions[0].get_content())["levels"] == [1]
    # Token (2, 1, 0) holds voxels 8..11, 4..7 and 0..3: its centre is at voxel (9.5, 5.5, 1.5).
    expected = affine @ [9.5, 5.5, 1.5, 1]
    np.testing.assert_allclose(image.affine @ [2, 1, 0, 1], expected, atol=1e-4)


def test_what_cannot_be_written_leaves_the_old_file(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"token maps are files that end in .safetensors, .nii.gz, .nii"):
        save_tokens(token_map(), tmp_path / "a.npy")
    with pytest.raises(FileNotFoundError, match="a folder that exists"):
        save_tokens(token_map(), tmp_path / "absent" / "a.nii")
    with pytest.raises(ValueError, match="not made of plain values"):
        save_tokens(token_map(), tmp_path / "a.nii", {"what": object()})
    (tmp_path / "a.nii.gz").write_text("old")

    def full(image, file):
        file.write_text("half")
        raise OSError("no space left")

    monkeypatch.setattr(nib, "save", full)
    with pytest.raises(OSError, match="no space left"):
        save_tokens(token_map(), tmp_path / "a.nii.gz")
    assert [path.name for path in tmp_path.iterdir()] == ["a.nii.gz"] and (tmp_path / "a.nii.gz").read_text() == "old"


def test_what_is_no_token_map_is_named(tmp_path):
    file = tmp_path / "a.safetensors"
    with pytest.raises(FileNotFoundError, match="there is no token map"):
        load_tokens(file)
    file.write_text("nothing of the kind")
    with pytest.raises(ValueError, match="is no safetensors file, or a damaged one"):
        load_tokens(file)
    save_file({"other": torch.ones(2)}, file)
    with pytest.raises(ValueError, match="holds no token map"):
        load_tokens(file)
