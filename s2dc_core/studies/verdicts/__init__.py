"""The table at the end of notebook 11 and in the book: what the paper claims, and what the course found.

The words are in verdicts.yaml; their numbers, in records.py, come from the records of `s2dc_core.library`.
``python -m s2dc_core.studies.verdicts FILE`` writes the book's page.
"""

import re
from importlib import resources

import yaml

from s2dc_core.studies.verdicts.records import numbers, organ_clusters

TITLE = "What the paper claims, and what we found"
HEAD = ("claim of the paper", "notebooks", "our verdict")

__all__ = ["TITLE", "filled", "numbers", "organ_clusters", "verdict_page", "verdict_table", "words"]


def verdict_table() -> str:
    """The table in Markdown, under the sentence that says what all rows have in common."""
    rows = [(row["claim"], row["notebooks"], row["verdict"]) for row in words()["rows"]]
    lines = [HEAD, ["---"] * len(HEAD), *rows]
    table = "\n".join(f"| {' | '.join(cell.strip() for cell in line)} |" for line in lines)
    return f"{filled(words()['before']).strip()}\n\n{filled(table)}\n"


def verdict_page() -> str:
    """The book's page; orphan, because no list of pages has to name it."""
    made = "<!-- made by: python -m s2dc_core.studies.verdicts book/verdicts.md -->"
    return f"---\norphan: true\n---\n\n{made}\n\n# {TITLE}\n\n{verdict_table()}"


def words() -> dict:
    """What verdicts.yaml holds: "before", and "rows" with "claim", "notebooks" and "verdict"."""
    text = resources.files("s2dc_core.studies.verdicts").joinpath("verdicts.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text)


def filled(text: str) -> str:
    """A text with numbers for its [[names]].

    Raises:
        KeyError: for a name that no record has.
    """
    return re.sub(r"\[\[(.+?)\]\]", lambda match: numbers()[match.group(1)], text)
