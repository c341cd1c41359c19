"""The cache: prepared once, read back equal, prepared anew whenever something that matters changes."""

import itertools
import json
import os
import shutil
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch

from s2dc_core.data import cache, facts_of, open_scans
from s2dc_core.pretraining import pretrain
from s2dc_core.pretraining.regions import RegionDraws
from s2dc_core.training import UnreadableScans
from s2dc_core.views import bounding_box
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


def same(one, other):
    assert torch.equal(one.volume, other.volume) and torch.equal(one.foreground, other.foreground)
    assert np.array_equal(one.affine, other.affine) and one[3:7] == other[3:7] and one.name == other.name


def rewrite(file, content):
    file.unlink()  # tensors in use are mapped to what it was
    file.write_bytes(content)


def test_an_entry_with_any_byte_changed_is_prepared_again(folder, tmp_path):
    scans = open_cached(folder, tmp_path)
    plain, file = open_scans([folder / "more"], "ct", keep_raw=False)[0][0], scans._entries[0]
    whole = file.read_bytes()
    zeroed = bytearray(whole)
    zeroed[len(whole) // 3 : len(whole) // 3 + 10_000] = bytes(10_000)
    rewrite(file, bytes(zeroed))
    same(scans[0], plain)
    same(cache._read(file), plain)  # it is whole again
    header = 8 + int.from_bytes(whole[:8], "little")
    for place in (*range(0, header, 37), *range(header, len(whole), len(whole) // 40), len(whole) - 1):
        changed = bytearray(whole)
        changed[place] ^= 1
        rewrite(file, bytes(changed))
        same(scans[0], plain)
        rewrite(file, bytes(changed))
        same(open_cached(folder, tmp_path)[0], plain)


def test_an_entry_under_anothers_name_is_prepared_again(folder, tmp_path):
    """Swapped, or of other settings."""
    scans = open_cached(folder, tmp_path)
    first, second = scans[0], scans[1]
    assert not torch.equal(first.volume, second.volume)
    one, other = (entry.read_bytes() for entry in scans._entries[:2])
    rewrite(scans._entries[0], other)
    rewrite(scans._entries[1], one)
    same(scans[0], first)
    same(open_cached(folder, tmp_path)[1], second)
    coarse = open_cached(folder, tmp_path, spacing=(24.0, 24.0, 24.0))
    rewrite(scans._entries[0], coarse._entries[0].read_bytes())
    same(open_cached(folder, tmp_path)[0], first)


def test_readers_prepare_a_damaged_entry_again(folder, tmp_path):
    config = replace(SHORT, steps=3, batch=1)
    whole = pretrain(config, open_cached(folder, tmp_path), progress=False)
    scans = open_cached(folder, tmp_path)
    damaged = {}
    for entry in scans._entries:
        content = entry.read_bytes()
        damaged[entry] = content[: len(content) // 2] + bytes(len(content) - len(content) // 2)
        rewrite(entry, damaged[entry])
    assert pretrain(config, scans, progress=False, workers=2).history == whole.history
    assert sum(entry.read_bytes() != content for entry, content in damaged.items()) >= 3


def test_what_can_be_read_neither_here_nor_there_is_named(tmp_path):
    (tmp_path / "scans").mkdir()
    folder = make_folder(tmp_path / "scans")
    scans = open_cached(folder, tmp_path / "cache")
    for index, said in ((0, "is damaged (the checksum of a block is another)"), (1, "is no longer there")):
        content = scans._entries[index].read_bytes()
        scans.files[index].unlink()
        scans._entries[index].unlink()
        if index == 0:
            scans._entries[index].write_bytes(content[:-1000] + bytes(byte ^ 255 for byte in content[-1000:]))
        with pytest.raises(ValueError, match="does not exist.* and its entry .* in the cache") as raised:
            scans[index]
        assert said in str(raised.value) and str(scans.files[index]) in str(raised.value)


def test_a_file_that_has_changed_since_takes_no_entry(tmp_path):
    """Its entry is gone, and what the file holds now is another scan than the run was made on."""
    (tmp_path / "scans").mkdir()
    scans = open_cached(make_folder(tmp_path / "scans"), tmp_path / "cache")
    scans._entries[0].unlink()
    scans.files[0].write_bytes(scans.files[1].read_bytes())
    with pytest.raises(ValueError, match="has changed since it was first read; and its entry"):
        scans[0]
    assert not scans._entries[0].exists()


def test_a_full_disk_keeps_no_scan_from_a_run(folder, tmp_path, monkeypatch):
    scans = open_cached(folder, tmp_path)
    whole = scans[0]
    scans._entries[0].unlink()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache.Path, "write_bytes", full)
    same(scans[0], whole)
    assert not list(tmp_path.glob(".*.part"))


@pytest.mark.slow
def test_several_processes_prepare_what_is_not_there(folder, tmp_path, monkeypatch):
    """As one would, file by file, with the same damaged ones; what is small one process prepares alone."""
    used = []
    alone = open_scans([folder], "ct", most_damaged=9, cache=tmp_path / "alone")
    monkeypatch.setattr(cache, "WORTH", 1)
    plain = cache.Parallel
    monkeypatch.setattr(cache, "Parallel", lambda *a, **k: used.append(a) or plain(*a, **k))
    monkeypatch.setattr(cache, "cpu_count", lambda: 2)
    together = open_scans([folder], "ct", most_damaged=9, cache=tmp_path / "together")
    assert used == [(2,)] and together[0].facts == alone[0].facts and together[1] == alone[1]
    for one, other in zip(alone[0], together[0], strict=True):
        assert torch.equal(one.volume, other.volume)


@pytest.mark.parametrize("shape", [(40, 33, 64), (10, 70, 32)])
def test_a_part_of_a_scan_is_read_as_it_is_in_the_whole(tmp_path, shape):
    """Windows across blocks, at the far ends and beyond; of the scan's outline nothing is read."""
    values = np.random.default_rng(0).normal(0, 200, shape)
    values[:3], values[:, :, -5:] = -1000, -1000
    file = tmp_path / "scan.nii.gz"
    nib.save(nib.Nifti1Image(values.astype(np.float32), np.diag([2, 2, 2, 1])), file)
    scans, _ = open_scans([file], "ct", cache=tmp_path / "cache")
    whole, outline = scans[0], scans.outline(0)
    assert outline[:4] == (whole.name, whole.volume.shape[1:], whole.spacing, whole.background)
    assert list(outline.box) == bounding_box(whole.foreground) and not outline.empty
    for start in itertools.product(*((0, side // 3, side - 4) for side in shape)):
        for length in (4, 31, 40):
            window = tuple(slice(a, a + length) for a in start)
            volume, foreground = scans.cut(0, window)
            assert torch.equal(volume, whole.volume[(slice(None), *window)])
            assert torch.equal(foreground, whole.foreground[window])


def test_a_run_cuts_from_the_cache_what_it_would_cut_from_memory(folder, tmp_path):
    plain, cached = open_scans([folder / "more"], "ct", keep_raw=False)[0], open_cached(folder, tmp_path)
    config = replace(SHORT, encoder=replace(SHORT.encoder, sub_volume=(8, 8, 8)))
    for number in range(2 * len(plain)):
        one, other = (RegionDraws(config, scans)[number] for scans in (plain, cached))
        assert (one.scan, one.spacing) == (other.scan, other.spacing)
        for left, right in zip(one.region[:3], other.region[:3], strict=True):
            assert torch.equal(left, right)
        assert one.region.background == other.region.background


def test_a_damaged_block_is_noticed_where_it_is_read(folder, tmp_path):
    scans = open_cached(folder, tmp_path)
    whole, entry = scans[0], scans._entries[0]
    data = bytearray(entry.read_bytes())
    data[-2000:-1000] = bytes(byte ^ 255 for byte in data[-2000:-1000])
    entry.write_bytes(data)
    with pytest.raises(ValueError, match="the checksum of a block is another"):
        cache._read(entry)
    everything = tuple(slice(0, side) for side in whole.volume.shape[1:])
    assert torch.equal(scans.cut(0, everything)[0], whole.volume)  # prepared again from its file
    assert torch.equal(cache._read(entry).volume, whole.volume)


@pytest.mark.slow
def test_a_broken_link_or_a_killed_helper_does_not_end_the_preparation(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "WORTH", 1)
    monkeypatch.setattr(cache, "cpu_count", lambda: 2)
    scans = tmp_path / "scans"
    shutil.copytree(folder / "more", scans)
    (scans / "broken.nii.gz").symlink_to(scans / "gone.nii.gz")
    expected = len(open_scans([folder / "more"], "ct")[0])

    def killed(*_):
        raise cache.BrokenProcessPool

    monkeypatch.setattr(cache, "Parallel", lambda *_, **__: killed)
    found, damaged = open_scans([scans], "ct", most_damaged=1, cache=tmp_path / "cache")
    assert len(found) == expected and list(damaged) == [str(scans / "broken.nii.gz")]
