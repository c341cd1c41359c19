"""Scans that go bad or missing while a run waits: it goes on without them, and every other draw is what it was."""

import json
from dataclasses import replace

import pytest

from s2dc_core.data import ScanFacts, open_scans
from s2dc_core.pretraining import Pretraining, pretrain
from s2dc_core.pretraining.places import find_again
from s2dc_core.training import UnreadableScans
from tests.data.test_folder import make_folder
from tests.pretraining.test_pretrain import blobs
from tests.training.test_checkpoints import SHORT
from tests.training.test_resuming import Stop, stop_at

LETTERS = "abcd"
SCANS = [blobs(seed)._replace(name=f"scan_{letter}") for seed, letter in enumerate(LETTERS)]
CONFIG = replace(SHORT, batch=1, steps=8)


class Failing(list):
    """Scans of which some can no longer be read from some moment on."""

    bad = ()

    def __getitem__(self, index):
        if index in self.bad:
            raise ValueError("gone")
        return super().__getitem__(index)


def losses_without(places, scans):
    """Of a run on scans of which these go after the third step."""
    scans = Failing(scans)

    def go(run):
        if len(run.history) == 3:
            scans.bad = places

    return pretrain(CONFIG, scans, progress=False, on_step=go, most_damaged=len(places)).history


@pytest.fixture(scope="module")
def without():
    return losses_without([1], SCANS)


def stopped(folder, scans=SCANS, **options):
    with pytest.raises(Stop):
        pretrain(CONFIG, scans, progress=False, folder=folder, save_every=3, on_step=stop_at(4), **options)


def test_a_missing_scan_is_set_apart_and_the_others_keep_their_places(tmp_path, without, capsys):
    stopped(tmp_path)
    there = [SCANS[3], SCANS[0], SCANS[2]]  # in whatever order they are found now
    resumed = pretrain(CONFIG, there, progress=False, folder=tmp_path, resume=True, most_damaged=1)
    assert resumed.history == without
    said = "scan_b is missing: the run was made on it"
    assert json.loads((tmp_path / "quarantine.json").read_text()) == {"scan_b": said}
    assert f"set apart: {said}\n" in capsys.readouterr().err
    again = Pretraining.resume(tmp_path, SCANS, most_damaged=1)  # and when it is back
    assert [facts.name for facts in again.facts] == [scan.name for scan in SCANS]


def test_a_scan_that_has_changed_is_set_apart(tmp_path, without):
    """Half of it zeroed, say: it can be read, and is another one."""
    stopped(tmp_path)
    there = [*SCANS[:1], SCANS[1]._replace(volume=SCANS[1].volume * 0.5), *SCANS[2:]]
    with pytest.raises(UnreadableScans, match="made on other scans: 1 there, such as scan_b: ct, .* 1 here"):
        pretrain(CONFIG, there, progress=False, folder=tmp_path, resume=True)
    resumed = pretrain(CONFIG, there, progress=False, folder=tmp_path, resume=True, most_damaged=1)
    assert resumed.history == without
    (reason,) = json.loads((tmp_path / "quarantine.json").read_text()).values()
    assert reason.startswith("scan_b has changed since the run started: it was ct, (24, 24, 24) voxels of")


def test_more_missing_than_may_be_are_named(tmp_path):
    stopped(tmp_path)
    with pytest.raises(UnreadableScans) as error:
        pretrain(CONFIG, SCANS[2:], progress=False, folder=tmp_path, resume=True, most_damaged=1)
    said = str(error.value)
    assert "2 there, such as scan_a" in said and "2 scans and steps are set apart, 1 may be" in said
    assert "\n  scan_a is missing" in said and "\n  scan_b is missing" in said
    with pytest.raises(UnreadableScans, match="2 scans and steps are set apart, 1 may be"):
        Pretraining.resume(tmp_path, SCANS[2:], most_damaged=1)


def test_what_is_set_apart_when_it_is_opened_again_counts_once(tmp_path, without):
    """By `open_scans`, which names the file; the run knew it by its name."""
    stopped(tmp_path)
    apart = {"/data/scan_b.nii.gz": "/data/scan_b.nii.gz: no NIfTI file"}
    there = [scan for scan in SCANS if scan.name != "scan_b"]
    resumed = pretrain(CONFIG, there, progress=False, folder=tmp_path, resume=True, most_damaged=1, quarantine=apart)
    assert resumed.history == without
    assert json.loads((tmp_path / "quarantine.json").read_text()) == apart


def test_scans_that_the_run_was_not_made_on_are_refused_unless_they_were_set_apart_then(tmp_path, capsys):
    apart = {"/data/scan_d.nii.gz": "/data/scan_d.nii.gz: a stale file handle"}
    stopped(tmp_path, SCANS[:3], most_damaged=1, quarantine=apart)
    whole = pretrain(CONFIG, SCANS[:3], progress=False).history
    other = blobs(9)._replace(name="scan_z")
    with pytest.raises(ValueError, match="made on other scans: 1 here, such as scan_z"):
        pretrain(CONFIG, [*SCANS[:3], other], progress=False, folder=tmp_path, resume=True, most_damaged=9)
    resumed = pretrain(CONFIG, SCANS, progress=False, folder=tmp_path, resume=True, most_damaged=1)
    assert resumed.history == whole
    assert "left out: scan_d, which could not be used when the run started" in capsys.readouterr().err


@pytest.mark.parametrize("cached", [False, True])
def test_files_that_go_while_a_run_waits(tmp_path, cached):
    """One is deleted and one cut, in memory and with a cache; the run is that on all of them up to there."""
    (tmp_path / "scans").mkdir()
    make_folder(tmp_path / "scans")
    folder, cache = tmp_path / "scans" / "more", tmp_path / "cache" if cached else None
    first = open_scans([folder], "ct", cache=cache, keep_raw=False)[0]
    stopped(tmp_path / "run", first)
    (folder / "case_03.nii.gz").unlink()
    (folder / "case_09.nii.gz").write_bytes((folder / "case_09.nii.gz").read_bytes()[:200])
    there, damaged = open_scans([folder], "ct", most_damaged=2, cache=cache, keep_raw=False)
    assert len(there) == len(first) - 2 and len(damaged) == 1
    options = {"progress": False, "folder": tmp_path / "run", "resume": True, "quarantine": damaged}
    with pytest.raises(UnreadableScans, match="2 scans and steps are set apart, 1 may be"):
        pretrain(CONFIG, there, most_damaged=1, **options)
    resumed = pretrain(CONFIG, there, most_damaged=2, workers=2 * cached, **options)
    apart = json.loads((tmp_path / "run" / "quarantine.json").read_text())
    assert sorted(apart) == [str(folder / "case_09.nii.gz"), "case_03"]
    assert [first[place].name for place in (1, 3)] == ["case_03", "case_09"]
    assert resumed.history == losses_without([1, 3], first)


FACTS = [ScanFacts(name, "ct", (4, 4, 4), (1.0, 1.0, 1.0), 16 + k) for k, name in enumerate(("a/ct", "b/ct", "c/ct"))]


def test_scans_are_known_by_what_they_hold_whatever_they_are_called():
    there = [str(facts._replace(name="ct")) for facts in FACTS]
    assert find_again(there, [FACTS[2], FACTS[0], FACTS[1]], {}).places == [1, 2, 0]
    found = find_again(there, FACTS[1:], {"/x/a/ct.nii.gz": "cut"})
    assert found.places == [None, 0, 1] and found.missing == {0: ("/x/a/ct.nii.gz", "cut")}
    same = [str(FACTS[0])] * 3
    assert find_again(same, [FACTS[0]] * 2, {}).places == [0, 1, None]


def test_a_case_that_lost_a_file_stands_for_its_images():
    case = [FACTS[0]._replace(name=f"BraTS_00003_{what}", checksum=k) for k, what in enumerate(("t1", "t2"))]
    there = [str(facts) for facts in (*case, FACTS[0])]
    for case, entries in (("00003", ["brats21 00003"] * 2), ("3", ["BraTS_00003_t1", "BraTS_00003_t2"])):
        found = find_again(there, FACTS[:1], {f"brats21 {case}": "no t2"})
        assert [entry for entry, _ in found.missing.values()] == entries


def test_where_nothing_is_left_the_scans_are_others():
    with pytest.raises(ValueError, match="made on other scans: 2 there, such as a/ct: ct, .*; 1 here, such as a/ct"):
        find_again([str(each) for each in FACTS[:2]], [FACTS[0]._replace(checksum=99)], {})
