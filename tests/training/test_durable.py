"""What is written is whole and on the disk, or not there; a full disk is one sentence and gets its room back."""

import errno
import os
from dataclasses import replace

import pytest

from s2dc_core.pretraining import Pretraining, pretrain
from s2dc_core.training import DiskFull
from s2dc_core.training.durable import put_back, replace_folder, write_durably
from s2dc_core.training.records import write_json
from tests.training.test_checkpoints import SCANS, SHORT


@pytest.fixture
def calls(monkeypatch):
    """(what, name) of each file or folder that is seen onto the disk or renamed, in order."""
    seen, sync, replace = [], os.fsync, os.replace

    def note_sync(handle):
        seen.append(("on the disk", os.readlink(f"/proc/self/fd/{handle}")))
        sync(handle)

    def note_replace(source, target):
        seen.append(("renamed", str(target)))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(os, "replace", note_replace)
    return seen


def test_files_are_on_the_disk_before_they_are_renamed_and_the_folder_after(tmp_path, calls):
    folder = tmp_path.resolve()
    write_json(folder / "record.json", {"a": 1})
    assert calls == [
        ("on the disk", f"{folder}/record.json.part"),
        ("renamed", f"{folder}/record.json"),
        ("on the disk", f"{folder}"),
    ]
    calls.clear()
    place = Pretraining(SHORT, SCANS).save(folder)
    moved = calls.index(("renamed", str(place)))
    before = {name.rsplit("/", 1)[1].removesuffix(".part") for what, name in calls[:moved] if what == "on the disk"}
    assert {entry.name for entry in place.iterdir()} <= before
    assert ("on the disk", f"{folder}/.step_0000000.part") in calls[:moved]
    assert ("on the disk", f"{folder}") in calls[moved:]


def fill(monkeypatch, name, number=errno.ENOSPC):
    """No room for what goes to a file of that name."""
    real = os.fsync

    def full(handle):
        if os.readlink(f"/proc/self/fd/{handle}").endswith(name):
            raise OSError(number, os.strerror(number))
        real(handle)

    monkeypatch.setattr(os, "fsync", full)


@pytest.mark.parametrize("name", ["model.safetensors.part", "state.pt.part", "encoder.safetensors", "recipe.json.part"])
def test_a_full_disk_is_one_sentence_and_the_part_goes(tmp_path, monkeypatch, name):
    run = Pretraining(SHORT, SCANS)
    run.step()
    place = run.save(tmp_path)
    before, taken = sorted(tmp_path.rglob("*")), sum(file.stat().st_size for file in place.iterdir())
    run.step()
    fill(monkeypatch, name)
    with pytest.raises(DiskFull) as full:
        run.save(tmp_path)
    said = str(full.value)
    assert said.startswith(f"the disk of {tmp_path} is full") and "\n" not in said and "MB are free" in said
    assert float(said.split(" a checkpoint takes ")[1].split(" MB")[0]) == pytest.approx(taken / 1e6, rel=0.3, abs=0.1)
    assert said.endswith(f"make room; the run can go on from {place}")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_full_disk_for_a_record_leaves_the_old_one(tmp_path, monkeypatch):
    write_json(tmp_path / "record.json", {"a": 1})
    fill(monkeypatch, "record.json.part", errno.EDQUOT)
    with pytest.raises(DiskFull, match=f"the disk of {tmp_path} is full, or all that this user may .* record.json"):
        write_json(tmp_path / "record.json", {"a": 2})
    assert [entry.name for entry in tmp_path.iterdir()] == ["record.json"]
    assert "1" in (tmp_path / "record.json").read_text()


def test_a_full_disk_does_not_hide_the_error_that_came_first(tmp_path, monkeypatch):
    def fail(run, prepared):
        raise MemoryError("the first error")

    def spoil(run):
        if len(run.history) == 1:
            fill(monkeypatch, "state.pt.part")
            monkeypatch.setattr(Pretraining, "forward", fail)

    with pytest.raises(MemoryError, match="the first error") as error:
        pretrain(replace(SHORT, batch=1), SCANS, progress=False, folder=tmp_path, on_step=spoil)
    assert "at step 1; the state before it could not be kept: the disk of" in error.value.__notes__[0]


def test_what_a_kill_has_left_goes_before_anything_is_written(tmp_path, monkeypatch):
    """Else the half checkpoint that filled the disk would keep it full."""
    (tmp_path / ".step_0000009.part").mkdir()
    (tmp_path / ".step_0000009.part" / "model.safetensors").write_bytes(b"half")
    fill(monkeypatch, "model.safetensors.part")
    with pytest.raises(DiskFull):
        Pretraining(SHORT, SCANS).save(tmp_path)
    assert not list(tmp_path.glob(".step_*"))


def test_a_folder_that_is_replaced_is_there_whenever_it_is_killed(tmp_path, monkeypatch):
    place, new = tmp_path / "place", tmp_path / "new"
    for folder, text in ((place, "old"), (new, "new")):
        folder.mkdir()
        (folder / "file").write_text(text)
    real, moves = os.replace, []

    def killed(source, target):
        if moves:
            raise KeyboardInterrupt
        moves.append(target)
        real(source, target)

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        replace_folder(new, place)
    monkeypatch.undo()
    assert not place.exists()
    put_back(place)
    assert (place / "file").read_text() == "old"
    replace_folder(new, place)
    assert (place / "file").read_text() == "new" and [entry.name for entry in tmp_path.iterdir()] == ["place"]


def test_nothing_stays_of_a_file_that_could_not_be_written(tmp_path, monkeypatch):
    fill(monkeypatch, "file.part", errno.EIO)
    with pytest.raises(OSError, match="Input/output error"):
        write_durably(tmp_path / "file", b"data")
    assert not list(tmp_path.iterdir())
