"""The code blocks of README, docs and the book's texts: which there are, and how a test takes each.

A Python block runs, with those above it on its page, in a folder that holds what the page speaks of. Of a shell block
each command runs, or is parsed by the program's own parser, by the first of COMMANDS that fits it.
"""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "book/index.md", ROOT / "book/teachers.md")
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

RUN, PARSED, LEFT = "run", "parsed", "not run"
SMALL = "with the tests' recipe of two steps in place of the named one, which is read too"
COMMANDS = (
    (r"s2dc data fetch ", PARSED, "downloads; tests/data/test_fetch.py runs it on a server of its own"),
    (r"s2dc data check luna16 ", PARSED, "the same as on msd_spleen, which runs"),
    (r"s2dc data list$", RUN, "as it stands"),
    (r"s2dc data ", RUN, "on a small tree that lies as the data set does"),
    (
        r"s2dc pretrain .*--manifest adni ",
        PARSED,
        "as with ct_1k, which runs; tests/data/test_overlaps.py has its option",
    ),
    (r"s2dc (pretrain|finetune) ", RUN, SMALL),
    (r"s2dc features ", RUN, "on a generated body"),
    (r"s2dc weights ", RUN, "on weights of a small encoder in MONAI's layout"),
    (r"s2dc evaluate ", PARSED, "registers images, a minute a pair; tests/cli/test_evaluate.py runs it"),
    (
        r"(accelerate launch|torchrun) ",
        PARSED,
        "by the launcher's parser and ours; tests/training/test_processes.py runs it",
    ),
    (r"make( |$)", PARSED, "minutes or hours: the target exists, and the notebooks' runner takes its arguments"),
    (r"python notebooks/run.py( |$)", PARSED, "minutes; tests/notebooks run every notebook"),
    (r"python -m s2dc_core\.(exercises|studies|studies\.pages) ", PARSED, "writes into the checkout, or takes hours"),
    (r"python benchmarks/", PARSED, "measures for minutes: the script and its options exist"),
    (r"tensorboard ", PARSED, "a server that waits for a browser: its parser takes the options"),
    (r"nbgrader |cd s2dc$|cp COURSE|mkdir -p source", LEFT, "nbgrader is no dependency; tried by hand, see the page"),
)
"""What a command begins with, how it is taken, and why or on what."""


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Path
    line: int
    language: str
    text: str

    @property
    def name(self) -> str:
        """Page and line of its first line of code."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    def commands(self) -> list[str]:
        """Of a shell block, without comments."""
        lines = self.text.replace("\\\n", " ").splitlines()
        parts = [part.strip() for line in lines for part in re.split(r" && ", re.sub(r"(^|\s)#.*", "", line))]
        return [part for part in parts if part]


def blocks(*languages: str) -> list[Block]:
    """All of some languages, in the order of the pages."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in FENCE.finditer(text):
            if match[1] in languages:
                found.append(Block(page, text.count("\n", 0, match.start()) + 2, match[1], match[2]))
    return found


def how(command: str) -> tuple[str, str]:
    """How a command is taken, and why.

    Raises:
        LookupError: for one of which nobody has said how.
    """
    for beginning, taken, why in COMMANDS:
        if re.match(beginning, command):
            return taken, why
    raise LookupError(f"{command!r} stands on a page: say in tests/docs/blocks.py whether it is run or only parsed")


def words(command: str) -> list[str]:
    """As a shell splits it."""
    return shlex.split(command)


def listing() -> str:
    """A table of all blocks and commands, Markdown."""
    rows = [f"| {block.name} | Python | {RUN} | |" for block in blocks("python")]
    for block in blocks("bash"):
        for command in block.commands():
            taken, why = how(command)
            rows.append(f"| {block.name} | `{command[:60]}` | {taken} | {why} |")
    return "\n".join(["| page | block | how | why, or on what |", "| --- | --- | --- | --- |", *rows, ""])
