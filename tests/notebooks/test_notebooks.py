"""Every notebook of the course runs from its first cell to its last, in the profile ``ci``."""

import warnings

import pytest

from notebooks.run import HERE, plan, run_notebook

NOTEBOOKS = sorted(path.stem for path in HERE.glob("*.ipynb"))


@pytest.mark.notebook
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebook_runs(name):
    """What it did stays in outputs/ci, so that a failure can be looked at."""
    ((path, entry),) = plan(HERE, "ci", [name], {})
    result = run_notebook(path, HERE.parent / "outputs" / "ci", **entry)
    print(f"{name}: {result.minutes:.2f} minutes, {result.peak_gb:.2f} GB")
    for warning in result.warnings:
        warnings.warn(f"{name}: {warning}", stacklevel=1)
    assert result.problems == []
