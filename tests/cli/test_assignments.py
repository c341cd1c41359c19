"""field=value on a command line: in any place, never lost, never taken for something else."""

import itertools

import pytest

from s2dc_core import cli
from s2dc_core.pretraining import PretrainConfig


class Reached(Exception):
    """The command has read its arguments."""


@pytest.fixture
def taken(monkeypatch):
    """What a command line comes to: {option: value}, and the recipe under "config"."""
    seen = {}

    def note(options, config):
        seen.update(vars(options), config=config)
        raise Reached

    take = cli.finetune.take_assignments
    monkeypatch.setattr(cli.pretrain, "_refuse_early", note)
    monkeypatch.setattr(
        cli.finetune,
        "take_assignments",
        lambda options, recipe: note(options, recipe.from_recipe(options.config, take(options, recipe))),
    )

    def run(*words):
        seen.clear()
        with pytest.raises(Reached):
            cli.main(list(words))
        return seen

    return run


PARTS = (["steps=10"], ["--scans", "a", "b"], ["--folder", "x"], ["batch=2"], ["--dry-run"])


@pytest.mark.parametrize("parts", list(itertools.permutations(PARTS))[::3], ids=lambda parts: " ".join(sum(parts, [])))
def test_assignments_work_in_any_order(taken, parts):
    seen = taken("pretrain", "--modality", "ct", *sum(parts, []))
    assert (seen["config"].steps, seen["config"].batch) == (10, 2)
    assert (seen["scans"], seen["folder"], seen["dry_run"]) == (["a", "b"], "x", True)


@pytest.mark.parametrize(
    "words",
    [
        ["--scans", "a", "b", "steps=10", "--folder", "x"],
        ["--scans", "a", "b", "--folder", "x", "--", "steps=10"],
        ["steps=10", "--scans", "a", "b", "--folder", "x", "--"],
        ["--scans", "a", "steps=10", "--folder=x", "--scans", "b"],
        ["--scans", "a", "b", "--skip", "*_low*", "steps=10", "--folder", "x"],
        ["--scans", "a", "b", "--spacing", "1", "1", "1", "steps=10", "--folder", "x"],
    ],
    ids=" ".join,
)
def test_assignments_behind_options_of_several_values(taken, words):
    seen = taken("pretrain", *words)
    assert (seen["config"].steps, seen["scans"], seen["folder"]) == (10, ["a", "b"], "x")
    assert seen["skip"] in ([], ["*_low*"])


def test_a_data_set_keeps_its_folder_and_a_field_goes_to_the_recipe(taken):
    seen = taken("pretrain", "--manifest", "ct_1k", "--root", "btcv=B", "steps=10", "own.json=C", "views.noise=0")
    assert seen["root"] == ["btcv=B", "own.json=C"]
    assert (seen["config"].steps, seen["config"].options.views.noise) == (10, 0)


def test_fine_tuning_takes_them_in_any_order_too(taken):
    options = (["--manifest", "btcv"], ["--root", "D"], ["--inputs", "t1", "t2"], ["--folder", "x"])
    orders = itertools.permutations([*options, ["steps=10"], ["region=[64, 64, 96]"]])
    for parts in itertools.islice(orders, 0, None, 31):
        seen = taken("finetune", *sum(parts, []))
        assert (seen["config"].steps, seen["config"].region) == (10, (64, 64, 96))
        assert (seen["root"], seen["inputs"], seen["folder"]) == (["D"], ["t1", "t2"], "x")


def test_a_file_with_such_a_name_stays_a_file(taken, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("steps=3.nii.gz", "batch=2"):
        (tmp_path / name).touch()
    seen = taken("pretrain", "--scans", "steps=3.nii.gz", "batch=2", "sub/steps=5", "./seed=1", "warmup=7")
    assert seen["scans"] == ["steps=3.nii.gz", "batch=2", "sub/steps=5", "./seed=1"]
    plain = PretrainConfig.from_recipe("teaching")
    assert (seen["config"].batch, seen["config"].warmup) == (plain.batch, 7)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--scans", "a", "stepz=10", "--folder", "x"], "recipe has no field 'stepz': did you mean steps?"),
        (["--scans", "a", "--folder", "x", "stepz=10"], "recipe has no field 'stepz': did you mean steps?"),
        (["--scans", "a", "case=1.nii.gz"], "no field 'case'"),
        (["--scans", "a", "case=1.nii.gz"], "and there is no file or folder 'case=1.nii.gz'"),
        (["--manifest", "ct_1k", "--root", "R", "stepz=10"], "recipe has no field 'stepz': did you mean steps?"),
        (["--manifest", "ct_1k", "--root", "btvc=R"], "and there is no data set 'btvc': did you mean btcv?"),
        (["--scans", "a", "--skip", "*x*", "stepz=10"], "recipe has no field 'stepz': did you mean steps?"),
        (["--scans", "a", "steps=10", "--folder", "x", "steps=20"], "steps is given twice: steps=10 and steps=20"),
        (["--folder", "x", "more"], "'more' is no field=value"),
        (["--folder", "x", "--", "--scans"], "'--scans' is no field=value"),
    ],
)
def test_what_is_neither_is_named(words, message, capsys):
    assert cli.main(["pretrain", *words]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("command", ["pretrain", "finetune"])
@pytest.mark.parametrize("words", [["--foldr", "x", "steps=10"], ["steps=10", "--foldr=x"], ["--folder", "x", "-z"]])
def test_a_misspelt_option_is_still_refused(command, words, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(
            [command, "--manifest", "btcv", "--root", "D", *words, *(["--folder", "y"] if "-z" not in words else [])]
        )
    strange = next(word for word in words if word.startswith(("--foldr", "-z")))
    assert stopped.value.code == 2 and f"unrecognized arguments: {strange}\n" in capsys.readouterr().err


def test_other_commands_take_no_assignments(capsys):
    with pytest.raises(SystemExit):
        cli.main(["data", "list", "steps=10"])
    assert "unrecognized arguments: steps=10" in capsys.readouterr().err


def test_an_error_is_shown_with_its_notes(monkeypatch, capsys):
    def fail(*_):
        error = ValueError("the file is gone")
        error.add_note("at step 7; the state before it is in run/step_0000007, resume=True goes on from there")
        error.add_note("and a second note")
        raise error

    monkeypatch.setattr(cli.pretrain, "_refuse_early", fail)
    assert cli.main(["pretrain", "--folder", "x"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "s2dc: the file is gone",
        "at step 7; the state before it is in run/step_0000007, --resume goes on from there",
        "and a second note",
    ]
