"""Without a terminal a line comes every so many steps; checkpoints stay as asked."""

import re
from dataclasses import replace

import pytest

from s2dc_core.pretraining import pretrain
from tests.training.test_checkpoints import SCANS, SHORT

QUICK = replace(SHORT, batch=1)


def kept(folder):
    return sorted(int(place.name.removeprefix("step_")) for place in folder.glob("step_*"))


def test_a_line_every_so_many_steps_and_one_after_the_last(capsys):
    history = pretrain(replace(QUICK, steps=5), SCANS, progress=False, log_every=2).history
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(",")[0] for line in lines] == ["step 2/5", "step 4/5", "step 5/5"]
    for line, step in zip(lines, (2, 4, 5), strict=True):
        found = dict(re.findall(r"(\w+) ([\d.e+-]+)(?:,|$)", line))
        for name, value in history[step - 1]._asdict().items():
            assert float(found[name]) == pytest.approx(value, rel=1e-3)
        assert re.search(r"learning rate [\d.e-]+, [\d.e+]+ sub-volumes/s, \d+:\d\d left$", line)
    assert lines[-1].endswith("00:00 left")


def test_the_rate_and_the_time_of_a_line_are_those_of_its_steps(capsys, monkeypatch):
    """A clock that takes 0.5 s a look, at 2 looks a step and one a line: 2.5 s for two steps of 8 sub-volumes."""
    from s2dc_core.training import progress

    ticks = iter(range(10**6))
    monkeypatch.setattr(progress.time, "perf_counter", lambda: next(ticks) / 2)
    pretrain(replace(QUICK, steps=4, warmup=0), SCANS, progress=False, log_every=2)
    first = capsys.readouterr().err.splitlines()[0]
    assert ", 0.8 sub-volumes/s, 00:03 left" in first and ", learning rate 0.0015," in first


def test_nothing_is_written_beside_a_bar_or_where_no_lines_are_asked_for(capsys):
    pretrain(replace(QUICK, steps=2), SCANS, progress=True, log_every=1)
    assert "step 1/2" not in capsys.readouterr().err
    pretrain(replace(QUICK, steps=2), SCANS, progress=False)
    pretrain(replace(QUICK, steps=2), SCANS, progress=False, log_every=0)
    assert capsys.readouterr().err == ""


def test_the_last_checkpoints_stay_and_one_of_each_so_many_steps(tmp_path):
    pretrain(QUICK, SCANS, progress=False, folder=tmp_path / "a", save_every=1, keep=1)
    assert kept(tmp_path / "a") == [6]
    pretrain(replace(QUICK, steps=7), SCANS, progress=False, folder=tmp_path / "b", save_every=2, keep=1, keep_every=3)
    assert kept(tmp_path / "b") == [3, 6, 7]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"keep": 0}, "keep must be at least 1, got 0"),
        ({"keep_every": 0}, "keep_every must be at least 1, got 0"),
        ({"save_every": 0}, "save_every must be at least 1, got 0"),
        ({"log_every": -1}, "log_every must be at least 0, got -1"),
    ],
)
def test_numbers_that_cannot_be_are_refused_before_the_first_step(tmp_path, option, message):
    steps = []
    with pytest.raises(ValueError, match=message):
        pretrain(QUICK, SCANS, progress=False, folder=tmp_path, on_step=steps.append, **option)
    assert not steps and not list(tmp_path.iterdir())
