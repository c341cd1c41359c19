"""Notebooks on one's own scan whose label map says little: they run, and one sentence says what is missing.

Two of the four, on the label maps that ask most of them: a kernel each takes its time.
"""

import re

import nbformat
import nibabel as nib
import numpy as np
import pytest

from notebooks.run import HERE, plan, run_notebook
from s2dc_core.data import make_phantom

ORGANS = re.compile(
    r"\b(liver|spleen|kidneys?|gallbladder|stomach|aorta|pancreas|adrenal|vertebrae?|ribs)\b", re.IGNORECASE
)
SPOKEN = {
    "00": {"ex-00-explore"},
    "05": {"heat-29", "heat-48", "heat-53", "heat-62", "ex-05-explore"},
    "06": {"c49", "ex-06-explore"},
    "07": {"ex-07-explore"},
}
"""Cells of text that name an organ: of a generated body, of the paper, or as something that a scan may have."""

QUICK = {
    "05": {"bodies": [], "images": ["phantom_ct"], "shape": [72, 48, 72], "spacing": [5.0, 5.0, 5.0]},
    "06": {"tokens": 100, "bodies": 1},
}


@pytest.mark.parametrize("number", SPOKEN)
def test_the_text_names_organs_only_where_it_speaks_of_a_generated_body(number):
    """A markdown cell cannot know the scan: it must be true of any."""
    (path,) = HERE.glob(f"{number}_*.ipynb")
    cells = nbformat.read(path, as_version=4).cells
    assert {cell.id for cell in cells if cell.cell_type == "markdown" and ORGANS.search(cell.source)} <= SPOKEN[number]


def label_maps(label):
    """A lesion smaller than a token; two structures of just enough tokens for a silhouette, with distant numbers."""
    lesion, two = np.zeros_like(label), np.zeros_like(label)
    lesion[40:42, 22:24, 40:42] = 1
    two[46:52, 16:25, 46:52], two[22:28, 22:31, 34:40] = 3, 2000
    return {"lesion": lesion, "two": two}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder, body = tmp_path_factory.mktemp("scan"), make_phantom(7, "ct", shape=(72, 48, 72), spacing=(5.0, 5.0, 5.0))
    nib.save(nib.Nifti1Image(body.volume.astype(np.int16), body.affine), folder / "CT.nii.gz")
    for name, label in label_maps(body.label.astype(np.int16)).items():
        nib.save(nib.Nifti1Image(label, body.affine), folder / f"{name}.nii.gz")
    return folder


def printed(path):
    """What the cells of an executed notebook printed."""
    cells = (cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code")
    return "".join(o.text for cell in cells for o in cell.outputs if o.output_type == "stream" and o.name == "stdout")


@pytest.mark.notebook
@pytest.mark.parametrize(
    ("number", "label", "says"),
    [
        (
            "05",
            "lesion",
            "your CT has too few tokens in its structures (label 1: 0; smaller voxels give more): a number",
        ),
        ("06", "two", "tokens in 2 organs; too few for 0 more"),
    ],
)
def test_a_notebook_runs_and_says_what_is_missing(files, tmp_path, number, label, says):
    """In the size of the profile ci and less, since what is asked here is whether every cell bears the label map."""
    given = {"image": str(files / "CT.nii.gz"), "label": str(files / f"{label}.nii.gz"), "modality": "ct"}
    ((path, entry),) = plan(HERE, "ci", [number], given | QUICK[number])
    result = run_notebook(path, tmp_path, entry["parameters"])
    assert result.problems == []
    told = printed(tmp_path / path.name)
    assert says in told
    own = told.split(": on generated body ")[0]  # where notebook 05 goes on to those; notebook 06 never does
    assert not ORGANS.search(own), "no printed sentence names an organ that this scan does not have"
