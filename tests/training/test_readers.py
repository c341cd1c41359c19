"""Helper processes that read ahead: what they hand on must find room."""

import shutil
from argparse import Namespace
from types import SimpleNamespace

import pytest

from s2dc_core.cli.pretrain import _workers
from s2dc_core.pretraining import Pretraining
from s2dc_core.training.readers import refuse_small_shared_memory
from tests.training.test_checkpoints import SCANS, SHORT


def test_shared_memory_that_is_too_small_is_told(monkeypatch, tmp_path):
    """Docker's 64 MB beside regions of 384 x 384 x 96, of which four workers hold eight."""
    region = 384 * 384 * 96 * 6
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(total=64e6))
    with pytest.raises(ValueError, match=r"4 workers hand on up to 679 MB .*has 64 MB: .*--shm-size=2g.*workers=0"):
        refuse_small_shared_memory(region, 4, tmp_path)
    refuse_small_shared_memory(region, 0, tmp_path)
    refuse_small_shared_memory(region, 4, tmp_path / "windows")
    refuse_small_shared_memory(24**3 * 6, 4, tmp_path)


def test_a_run_asks_before_it_starts(monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(total=1000))
    Pretraining(SHORT, SCANS)
    with pytest.raises(ValueError, match="1 workers hand on"):
        Pretraining(SHORT, SCANS, workers=1)


@pytest.mark.parametrize(
    ("given", "device", "cache", "found"),
    [(3, "cpu", None, 3), (None, "cpu", "x", 0), (None, "cuda", None, 0), (None, "cuda", "x", 5), (0, "cuda", "x", 0)],
)
def test_how_many_read_ahead(given, device, cache, found, monkeypatch):
    monkeypatch.setattr("s2dc_core.cli.pretrain.cpu_count", lambda: 6)
    assert _workers(Namespace(workers=given, device=device, cache=cache), 6000) == found
    monkeypatch.setenv("WORLD_SIZE", "6")
    assert _workers(Namespace(workers=None, device="cuda", cache="x"), 6000) == 0


def test_so_many_read_ahead_by_themselves_as_shared_memory_holds(monkeypatch):
    monkeypatch.setattr("s2dc_core.cli.pretrain.cpu_count", lambda: 9)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(total=64e6))
    for batch, found in ((1e6, 8), (8e6, 4), (64e6, 0)):
        assert _workers(Namespace(workers=None, device="cuda", cache="x"), int(batch)) == found
    assert _workers(Namespace(workers=5, device="cuda", cache="x"), int(64e6)) == 5  # asked for: then it is refused
