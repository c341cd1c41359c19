"""What a lesson opens is named so that no two of its scans are called alike."""

import nibabel as nib
import numpy as np
import pytest
import torch

from s2dc_core.data import AIR, TISSUES, find_structure, open_at, stand_in, structure_names, title_of, with_tissues

SIZE = {"spacing": (10.0, 10.0, 10.0), "shape": (24, 16, 24)}


@pytest.fixture(scope="module")
def body():
    return open_at("phantom_pet", seed=4, **SIZE)


def test_a_generated_body_has_the_size_of_the_lesson(body):
    assert body.raw.shape == SIZE["shape"] and body.spacing == pytest.approx(SIZE["spacing"])
    assert (body.name, title_of(body), stand_in(body)) == ("phantom_pet, seed 4", "PET", "phantom_pet")


def test_all_tissues_of_a_generated_body_are_labels_and_the_air_around_it():
    body = open_at("phantom_ct", seed=4, spacing=(15.0, 15.0, 15.0), shape=(24, 16, 24))
    known = with_tissues(body, seed=4)
    assert torch.equal(torch.where(body.label > 0, known.label, 0), body.label), "organs keep theirs"
    assert AIR not in TISSUES and not known.foreground[known.label == AIR].any()
    numbers = [find_structure(structure_names(known), name) for name in ("liver", "vertebrae", "air")]
    assert numbers == [6, 16, AIR]
    assert torch.equal(known.raw, body.raw)


def test_of_a_file_the_labels_and_the_air_are_known(body):
    mask = (body.label > 0).int() * AIR
    known = with_tissues(body._replace(label=mask, names={AIR: "lesion"}))
    assert known.names == {AIR: "lesion", AIR + 1: "air"} and torch.equal(known.label == AIR, mask == AIR)
    unlabelled = with_tissues(body._replace(label=None, names={}))
    assert torch.equal(unlabelled.label == AIR, ~body.foreground)


@pytest.mark.parametrize(
    ("name", "modality", "generated"), [("PET", "pet", "phantom_pet"), ("MNI152", "mr", "phantom_mr_t1")]
)
def test_a_file_is_resampled_and_called_yours(tmp_path, body, name, modality, generated):
    """A file called PET or MNI152 must not hide the lesson's own."""
    nib.save(nib.Nifti1Image(body.raw.numpy(), body.affine), tmp_path / f"{name}.nii.gz")
    scan = open_at(str(tmp_path / f"{name}.nii.gz"), modality=modality, spacing=(20.0, 20.0, 20.0), shape=(1, 1, 1))
    assert scan.spacing == pytest.approx((20.0, 20.0, 20.0))
    assert scan.name == title_of(scan) == f"your {name}" and scan.label is None
    assert stand_in(scan) == generated


def test_the_brain_keeps_its_grid():
    brain = open_at("mni152", **SIZE)
    assert (brain.name, title_of(brain), brain.spacing) == ("MNI152", "MNI152", (2.0, 2.0, 2.0))
    assert np.unique(brain.label).tolist() == [0, 1, 2]
