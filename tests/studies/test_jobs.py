"""Studies: their jobs in other processes, their options."""

import os

import pytest
import torch
from threadpoolctl import threadpool_info

from s2dc_core.studies.jobs import in_processes, study_options


def place(name, number):
    threads = {torch.get_num_threads(), *(library["num_threads"] for library in threadpool_info())}
    return f"{name} {number}, threads {threads}, here {os.getpid() == int(os.environ['PARENT'])}"


def test_jobs_run_on_one_core_each_in_other_processes(capsys, monkeypatch):
    monkeypatch.setenv("PARENT", str(os.getpid()))
    in_processes(place, [("a", 1), ("b", 2)], 2)
    assert capsys.readouterr().out == "done: a 1, threads {1}, here False\ndone: b 2, threads {1}, here False\n"


def test_options_name_what_there_is(tmp_path, capsys):
    options = study_options([str(tmp_path / "new"), "--rows", "b"], "about", "rows", ["a", "b"], 3)
    assert options.names == ["b"] and options.seeds == 3 and options.folder.is_dir() and not options.install
    assert study_options([str(tmp_path)], "about", "rows", ["a", "b"], 3).names == ["a", "b"]
    for wrong in (["--rows", "c"], ["--seeds", "1"]):
        with pytest.raises(SystemExit):
            study_options([str(tmp_path), *wrong], "about", "rows", ["a", "b"], 3)
    assert "two seeds" in capsys.readouterr().err
