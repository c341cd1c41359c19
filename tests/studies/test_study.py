"""Studies: their jobs in other processes, their options."""

import json
import os

import pytest
import torch
from threadpoolctl import threadpool_info

from s2dc_core.library import shipped_record
from s2dc_core.pretraining import PretrainConfig
from s2dc_core.studies import STUDIES, study
from s2dc_core.studies.__main__ import main
from s2dc_core.studies.study import in_processes
from s2dc_core.training.records import write_json


def place(name, number):
    threads = {torch.get_num_threads(), *(library["num_threads"] for library in threadpool_info())}
    return f"{name} {number}, threads {threads}, here {os.getpid() == int(os.environ['PARENT'])}"


def test_jobs_run_on_one_core_each_in_other_processes(capsys, monkeypatch):
    monkeypatch.setenv("PARENT", str(os.getpid()))
    in_processes(place, [("a", 1), ("b", 2)], 2)
    assert capsys.readouterr().out == "done: a 1, threads {1}, here False\ndone: b 2, threads {1}, here False\n"


@pytest.fixture
def tried(monkeypatch, tmp_path):
    """A study of two names whose work is noted, and the place of installed results."""
    done, record = [], tmp_path / "out" / "tried.json"

    def collect(options):
        record.write_text(json.dumps(done), encoding="utf-8")
        return [record]

    jobs = lambda options: [(name, seed) for seed in range(options.seeds) for name in options.only]  # noqa: E731
    one = study.Study("a try", jobs, lambda *job: done.append(job) or str(job), collect, 3, names=("a", "b"))
    monkeypatch.setattr(study, "in_processes", lambda work, jobs, _: [work(*job) for job in jobs])
    monkeypatch.setattr(study, "WEIGHTS", tmp_path)
    monkeypatch.setitem(STUDIES, "tried", one)
    return done


def test_a_study_does_what_is_named_collects_and_installs(tried, tmp_path):
    assert main(["tried", str(tmp_path / "out"), "--only", "b", "--seeds", "2"]) == 0
    assert tried == [("b", 0), ("b", 1)] and not (tmp_path / "tried.json").exists()
    main(["tried", str(tmp_path / "out"), "--install"])
    assert len(tried) == 2 + 6 and json.loads((tmp_path / "tried.json").read_text()) == [list(job) for job in tried]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["tried", "x", "--only", "c"], "invalid choice: 'c'"),
        (["tried", "x", "--seeds", "1"], "--seeds must be at least 2: an interval needs so many"),
        (["best", "x"], "invalid choice: 'best'"),
        (["few_labels", "x", "nowhere"], "there is no folder nowhere"),
        (["real_scans", "x", "nowhere"], "there is no folder nowhere"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_done(tried, words, message, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        main(words)
    assert message in capsys.readouterr().err and tried == [] and not (tmp_path / "x").exists()


def test_what_an_earlier_version_left_is_kept(tmp_path):
    """The shipped records hold recipes from before there were methods."""
    old = shipped_record("s2dc")["recipe"]
    asked = {"pretraining": PretrainConfig.from_dict(old).as_dict(), "bodies": [1]}
    write_json(tmp_path / "a.json", {"recipe": {"pretraining": old, "bodies": [1]}, "found": 3})
    assert study.kept(tmp_path / "a.json", asked)["found"] == 3
    with pytest.raises(ValueError, match="differing: pretraining"):
        study.kept(tmp_path / "a.json", {**asked, "pretraining": {**asked["pretraining"], "seed": 7}})
    assert study.kept(tmp_path / "b.json", asked) is None
