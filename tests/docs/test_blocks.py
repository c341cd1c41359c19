"""Every code block of README, docs and the book's texts runs, or is parsed by the program that it calls."""

import contextlib
import io
import re
from dataclasses import replace

import matplotlib.pyplot as plt
import pytest

from notebooks import run as notebooks
from s2dc_core.cli import main
from s2dc_core.downstream import FinetuneConfig
from s2dc_core.pretraining import PretrainConfig
from s2dc_core.studies import STUDIES
from s2dc_core.studies import __main__ as studies
from tests.cli.test_finetune import SMALL
from tests.docs.blocks import LEFT, PAGES, ROOT, RUN, blocks, how, listing, words
from tests.docs.parsers import PARSERS
from tests.docs.places import PLACES
from tests.pretraining.test_pretrain import CONFIG

PYTHON, SHELL = blocks("python"), blocks("bash")


@pytest.fixture
def quick(monkeypatch):
    """Recipes are read and checked as they are named, and two small steps are taken."""
    read = {recipe: recipe.from_recipe.__func__ for recipe in (PretrainConfig, FinetuneConfig)}

    def small_pretraining(cls, *named, **fields):
        read[PretrainConfig](cls, *named, **fields)
        return replace(CONFIG, steps=2, warmup=0, batch=1, seed=0)

    def small_finetuning(cls, *named, **fields):
        asked = read[FinetuneConfig](cls, *named, **fields)
        sizes = [field for field in SMALL if not field.startswith("encoder=")]  # files of weights have their own
        return read[FinetuneConfig](cls, "teaching", [*sizes, "steps=2"], weights=asked.weights)

    monkeypatch.setattr(PretrainConfig, "from_recipe", classmethod(small_pretraining))
    monkeypatch.setattr(FinetuneConfig, "from_recipe", classmethod(small_finetuning))


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A page's folder, which is the working folder; its names."""

    def go(page):
        monkeypatch.chdir(tmp_path)
        return PLACES.get(page.name, lambda folder: {})(tmp_path)

    return go


def test_no_block_is_passed_over():
    """Every fence is one of Python or of a shell, or a directive of the book."""
    opened = [
        language
        for page in PAGES
        for language in re.findall(r"^ *```+(\S+)", page.read_text(encoding="utf-8"), re.MULTILINE)
        if not language.startswith("{")
    ]
    assert len(opened) == len(PYTHON) + len(SHELL) > 25
    pages = {block.page.name for block in (*PYTHON, *SHELL)}
    assert {"README.md", "scans.md", "data.md", "pretraining.md", "finetuning.md", "explorer.md", "methods.md"} <= pages


@pytest.mark.parametrize("page", sorted({block.page for block in PYTHON} - {PAGES[0]}), ids=lambda page: page.name)
def test_python_blocks_run(page, place, quick):
    """Those of a page one after the other, with the names that the page speaks of. README's is tried below."""
    names = place(page)
    for block in PYTHON:
        if block.page == page:
            exec(compile("\n" * (block.line - 1) + block.text, block.name, "exec"), names)
    plt.close("all")


def test_the_example_of_readme_is_short_and_finds_organs(capsys, place):
    (block,) = (block for block in PYTHON if block.page.name == "README.md")
    lines = [line for line in block.text.splitlines() if line]
    assert len(lines) <= 6 and max(map(len, lines)) <= 120
    place(block.page)
    exec(block.text, {})
    dice = eval(capsys.readouterr().out)
    assert len(dice) >= 10 and sum(dice.values()) / len(dice) > 0.4


@pytest.mark.parametrize("block", SHELL, ids=lambda block: block.name)
def test_shell_blocks_run_or_are_parsed(block, place, quick, monkeypatch):
    """The commands of a block one after the other, in a folder of the page."""
    place(block.page)
    for command in block.commands():
        taken, _ = how(command)
        if taken == LEFT:
            continue
        program, *arguments = words(command)
        if taken == RUN:
            assert (program, main(arguments)) == ("s2dc", 0), command
        else:
            PARSERS[program](arguments, monkeypatch)


ACTIONS = ("list", "show", "fetch", "check", "preview", "export")
HELPED = (["pretrain"], ["finetune"], ["evaluate"], ["features"], ["weights"], *(["data", each] for each in ACTIONS))
FOREIGN = {"--signal"}
"""Options of other programs."""


@pytest.fixture(scope="module")
def known_options():
    """Of `s2dc`, of the notebooks' runner and of the studies."""
    said = io.StringIO()
    asked = (*((main, each) for each in HELPED), (notebooks.main, []), *((studies.main, [each]) for each in STUDIES))
    for program, command in asked:
        with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
            program([*command, "--help"])
    return set(re.findall(r"--[a-z][\w-]*", said.getvalue()))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_options_that_a_text_names_exist(page, known_options):
    """Those in a line of text; blocks are parsed whole."""
    prose = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    named = {option for code in re.findall(r"`([^`\n]+)`", prose) for option in re.findall(r"--[a-z][\w-]*", code)}
    assert len(known_options) > 40 and named - known_options - FOREIGN == set()


def test_the_list_of_blocks_is_written():
    """outputs/blocks.md says which blocks run, which are only parsed, and why."""
    table = listing()
    (ROOT / "outputs").mkdir(exist_ok=True)
    (ROOT / "outputs" / "blocks.md").write_text(table, encoding="utf-8")
    assert table.count(f"| {RUN} |") > 15


@pytest.mark.parametrize("command", ["rm -rf outputs", "s2dc vanish", "make", "pip install x"])
def test_a_command_of_which_nobody_said_how_is_noticed(command, monkeypatch):
    with pytest.raises((LookupError, AssertionError, SystemExit, ValueError)):
        taken, _ = how(command)
        program, *arguments = words(command)
        PARSERS[program](arguments, monkeypatch)
