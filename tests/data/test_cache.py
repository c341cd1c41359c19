"""The cache: prepared once, read back equal, prepared anew whenever something that matters changes."""

import json
import os
from dataclasses import replace

import numpy as np
import pytest
import torch

from s2dc_core.data import cache, facts_of, open_scans
from s2dc_core.training import UnreadableScans, pretrain
from tests.data.test_folder import make_folder
from tests.training.test_checkpoints import SHORT


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("scans"))


def open_cached(folder, place, **options):
    return open_scans([folder / "more"], "ct", cache=place, **options)[0]


def test_what_comes_back_is_what_was_prepared(folder, tmp_path):
    plain, cached = open_scans([folder / "more"], "ct", keep_raw=False)[0], open_cached(folder, tmp_path)
    assert len(plain) == len(cached) > 1 and facts_of(plain) == facts_of(cached)
    for one, other in zip(plain, cached, strict=True):
        for name, value in one._asdict().items():
            again = getattr(other, name)
            same = torch.equal if isinstance(value, torch.Tensor) else np.array_equal
            assert same(value, again) if isinstance(value, (torch.Tensor, np.ndarray)) else value == again, name


def test_a_scan_is_prepared_once_until_something_changes(folder, tmp_path, monkeypatch):
    read = []
    real = cache.load_scan
    monkeypatch.setattr(cache, "load_scan", lambda file, **options: read.append(file) or real(file, **options))
    scans = open_cached(folder, tmp_path)
    count = len(scans)
    assert len(read) == count
    open_cached(folder, tmp_path)[0]
    assert len(read) == count
    open_cached(folder, tmp_path, spacing=(9.0, 9.0, 9.0))
    assert len(read) == 2 * count
    os.utime(scans.files[0])
    open_cached(folder, tmp_path)
    assert len(read) == 2 * count + 1
    monkeypatch.setattr(cache, "_makers", lambda: "another way of preparing")
    open_cached(folder, tmp_path)
    assert len(read) == 3 * count + 1


def test_an_unusable_scan_is_set_apart_as_without_a_cache(tmp_path):
    (tmp_path / "scans").mkdir()
    folder = make_folder(tmp_path / "scans")
    plain, cached = (open_scans([folder], "ct", most_damaged=5, cache=place) for place in (None, tmp_path / "cache"))
    assert cached[1] == plain[1] and len(cached[1]) == 5 and len(cached[0]) == 35
    with pytest.raises(ValueError, match="is not three lengths in mm"):
        open_scans([folder], "ct", spacing=2.5, cache=tmp_path / "cache")


def test_a_half_written_file_is_made_again(folder, tmp_path):
    scans = open_cached(folder, tmp_path)
    whole = scans[0].volume
    file = scans._entries[0]
    for damaged in (file.read_bytes()[:1000], b""):
        for opened in (lambda: scans, lambda: open_cached(folder, tmp_path)):
            file.unlink()  # tensors in use are mapped to what it was
            file.write_bytes(damaged)
            assert torch.equal(opened()[0].volume, whole)


def test_a_run_on_the_cache_is_the_run_on_memory(folder, tmp_path):
    config = replace(SHORT, steps=3, batch=1)
    memory = pretrain(config, open_scans([folder / "more"], "ct", keep_raw=False)[0], progress=False)
    for workers in (0, 2):
        cached = pretrain(config, open_cached(folder, tmp_path), progress=False, workers=workers)
        assert cached.history == memory.history


def test_scans_that_can_no_longer_be_read_are_set_apart(tmp_path):
    """Two files go while the run is on its way: it takes the next ones, and goes on alike when it is resumed."""
    (tmp_path / "scans").mkdir()
    folder, place, run = make_folder(tmp_path / "scans"), tmp_path / "cache", tmp_path / "run"
    config = replace(SHORT, steps=8, batch=1)
    scans = open_cached(folder, place)
    for index in (0, 2):
        scans.files[index].unlink()
        scans._entries[index].unlink()
    gone = {str(scans.files[index]) for index in (0, 2)}
    whole = pretrain(config, scans, progress=False, most_damaged=2, folder=run)
    assert set(json.loads((run / "quarantine.json").read_text())) == gone

    class Stop(Exception):
        pass

    def stop(current):
        if len(current.history) == 5:
            raise Stop

    with pytest.raises(Stop):
        pretrain(config, scans, progress=False, most_damaged=2, folder=run / "b", save_every=4, on_step=stop)
    again = pretrain(config, scans, progress=False, most_damaged=2, folder=run / "b", resume=True)
    assert again.history == whole.history
    with pytest.raises(UnreadableScans, match="at step [0-7]: [12] scans cannot be used, [01] may be") as stopped:
        pretrain(config, scans, progress=False, most_damaged=1, folder=run / "c")
    assert "does not exist" in str(stopped.value) and "the state before it is in" in str(stopped.value)
    assert list((run / "c").glob("step_*"))


def test_no_scan_left_is_said(tmp_path):
    (tmp_path / "scans").mkdir()
    scans = open_cached(make_folder(tmp_path / "scans"), tmp_path / "cache")
    for index, file in enumerate(scans.files):
        file.unlink()
        scans._entries[index].unlink()
    with pytest.raises(ValueError, match="no scan can be read any more"):
        pretrain(replace(SHORT, batch=1), scans, progress=False, most_damaged=99)
