"""Commands that are not run are parsed by the programs that they call: each option and recipe must be one."""

import re
import subprocess
import sys

from notebooks import run as notebooks
from s2dc_core import exercises
from s2dc_core.cli import data, evaluate, finetune, main, pretrain
from s2dc_core.cli.assignments import take_assignments
from s2dc_core.downstream import FinetuneConfig
from s2dc_core.pretraining import PretrainConfig
from s2dc_core.studies import pages
from s2dc_core.studies.__main__ import main as studies
from s2dc_core.studies.study import Study
from tests.docs.blocks import ROOT, words

OURS = ((pretrain, "_pretrain"), (finetune, "_finetune"), (evaluate, "_evaluate"), (data, "_fetch"), (data, "_check"))
"""What the parser of `s2dc` calls."""


def parse_ours(arguments, monkeypatch):
    """By the command's parser, and a recipe's fields by the recipe; what the command does is left out."""
    seen = []

    def look(options):
        if recipe := {"pretrain": PretrainConfig, "finetune": FinetuneConfig}.get(arguments[0]):
            recipe.from_recipe(options.config, take_assignments(options, recipe))
        seen.append(options)
        return 0

    with monkeypatch.context() as patch:
        for module, name in OURS:
            patch.setattr(module, name, look)
        assert main(arguments) == 0
    assert len(seen) == 1


def parse_make(arguments, _):
    """The target is one of the Makefile's; what it hands on is taken by what it calls."""
    rules = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    target, *given = arguments
    assert target in rules
    values = dict(each.split("=", 1) for each in given)
    assert set(values) <= {"ARGS", "JOBS", "PROFILE", "PYTHON"}
    if target == "notebooks":
        parse_notebooks(
            [
                "--profile",
                values.get("PROFILE", "teaching"),
                "--jobs",
                values.get("JOBS", "1"),
                *words(values.get("ARGS", "")),
            ],
            _,
        )
    else:
        assert not values or target == "lab", f"say here who takes {values}"


def parse_notebooks(arguments, monkeypatch):
    """By the runner's parser and plan, which refuses parameters that a notebook does not declare; none runs."""
    ran = []
    with monkeypatch.context() as patch:
        result = notebooks.Result("none", {}, 0, None, 0, None)
        patch.setattr(notebooks, "run_notebook", lambda *job, **entry: ran.append(job) or result)
        patch.setattr(notebooks, "write_report", lambda *report: None)
        assert notebooks.main(arguments) == 0
    assert ran


def parse_python(arguments, monkeypatch):
    """A script of the checkout, or a module of ours."""
    if arguments[0] == "-m":
        return parse_module(arguments[1], arguments[2:], monkeypatch)
    if arguments[0] == "notebooks/run.py":
        return parse_notebooks(arguments[1:], monkeypatch)
    script = ROOT / arguments[0]
    assert script.parent.name == "benchmarks" and script.is_file()
    options = [word for word in arguments[1:] if word.startswith("--")]
    if options:
        said = subprocess.run([sys.executable, script, "--help"], capture_output=True, text=True, check=True).stdout
        assert all(option in said for option in options)


def parse_module(module, arguments, monkeypatch):
    """By the module's own parser, with what it does left out."""
    with monkeypatch.context() as patch:
        if module == "s2dc_core.cli":
            return parse_ours(arguments, monkeypatch)
        if module == "s2dc_core.studies":
            patch.setattr(Study, "run", lambda study, options: None)
            assert studies(arguments) == 0
        elif module == "s2dc_core.studies.pages":
            from s2dc_core.studies.pages import __main__ as command

            patch.setattr(command, "differing", dict)
            assert command.main(arguments) == 0 and pages.PARTS
        else:
            from s2dc_core.exercises import __main__ as command

            assert module == "s2dc_core.exercises" and exercises.numbers()
            patch.setattr(command, "texts", dict)
            assert command.main(arguments) == 0


def parse_launched(arguments, monkeypatch):
    """By the launcher's parser; then what it launches."""
    if arguments[0] == "launch":
        from accelerate.commands.launch import launch_command_parser

        launched = launch_command_parser().parse_args(arguments[1:])
        assert launched.module
    else:
        from torch.distributed.run import get_args_parser

        launched = get_args_parser().parse_args(arguments)
        assert launched.module
    parse_module(launched.training_script, launched.training_script_args, monkeypatch)


def parse_tensorboard(arguments, _):
    """By TensorBoard's parser; no server is started."""
    from tensorboard import program

    program.TensorBoard().configure(argv=["tensorboard", *arguments])


PARSERS = {
    "s2dc": parse_ours,
    "make": parse_make,
    "python": parse_python,
    "accelerate": parse_launched,
    "torchrun": parse_launched,
    "tensorboard": parse_tensorboard,
}
