"""The training step that S2DC's docstring shows is the one that a run takes."""

import json
import re
from pathlib import Path

import pytest
import torch

from s2dc_core.methods import s2dc
from s2dc_core.pretraining import PretrainConfig, Pretraining
from s2dc_core.pretraining.regions import draw_regions
from s2dc_core.training.rates import optimiser_of, schedule_of
from tests.pretraining.test_pretrain import CONFIG, blobs

ROOT = Path(__file__).resolve().parents[2]


def test_the_step_on_one_page_is_the_step():
    """Line by line as the docstring has it, five times, against a run: to six digits."""
    config = PretrainConfig(**{**vars(CONFIG), "steps": 5, "levels": (1, 2), "batch": 1, "clip": None})
    lines = re.findall(r"^    (.*)$", s2dc.__doc__.partition("::\n\n")[2], re.MULTILINE)
    assert 9 <= len(lines) <= 12 and any(".backward()" in line for line in lines)
    scans, method = [blobs(0), blobs(1)], config.build().train()
    optimiser, _ = optimiser_of(method, config)
    schedule = schedule_of(optimiser, config)
    found = []
    for step in range(config.steps):
        names = {"method": method, "optimiser": optimiser, "regions": draw_regions(config, scans, step)}
        optimiser.zero_grad()
        exec("\n".join(lines), names)
        schedule.step()
        found.append(tuple(term.item() for term in names["terms"]))
    run = Pretraining(config, scans, device="cpu")
    for terms in found:
        assert terms == pytest.approx(run.step(), rel=1e-6, abs=1e-6)
    for name, value in run.model.state_dict().items():
        torch.testing.assert_close(method.state_dict()[name], value, atol=1e-6, rtol=1e-5)


def test_docs_and_notebook_show_that_step():
    step = s2dc.__doc__.partition("::\n\n")[2]
    lines = [line.strip() for line in step.splitlines() if line.strip()]
    notebook = json.loads((ROOT / "notebooks" / "04_gpu_pretraining.ipynb").read_text(encoding="utf-8"))
    cells = ["".join(cell["source"]) for cell in notebook["cells"]]
    page = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    assert "\n".join(lines) in page and sum("\n".join(lines) in cell for cell in cells) == 1
