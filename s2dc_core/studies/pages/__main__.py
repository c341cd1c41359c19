"""``python -m s2dc_core.studies.pages write`` fills README.md and docs/*.md from the records; ``check`` compares."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from s2dc_core.studies.pages import PARTS, fill

ROOT = Path(__file__).resolve().parents[3]


def pages(root: Path = ROOT) -> list[Path]:
    """The pages of a checkout that may hold parts."""
    return [root / "README.md", *sorted((root / "docs").glob("*.md"))]


def differing(root: Path = ROOT) -> dict[Path, str]:
    """Pages that are not what the records make of them, and what they should hold."""
    texts = {page: page.read_text(encoding="utf-8") for page in pages(root)}
    return {page: made for page, text in texts.items() if (made := fill(text, PARTS)) != text}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 1 if `check` finds a page that differs."""
    parser = argparse.ArgumentParser(prog="python -m s2dc_core.studies.pages", description=__doc__)
    parser.add_argument("action", choices=("write", "check"))
    action, found = parser.parse_args(arguments).action, differing()
    for page, text in found.items():
        print(f"{page.name} {'written' if action == 'write' else 'differs from the records'}")
        if action == "write":
            page.write_text(text, encoding="utf-8")
    return int(action == "check" and bool(found))


if __name__ == "__main__":
    sys.exit(main())
