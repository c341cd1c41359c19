"""What the book adds to Sphinx: figures say what they show, and a word of the glossary says what it means."""

import json
from pathlib import Path, PurePosixPath
from typing import Any

from docutils import nodes

from book.glossary import definitions

ALTS, GLOSSARY = "alts.json", "glossary.md"
"""In the folder that Sphinx reads: pictures' names, without their endings, to words; and the glossary."""


def describe_pictures(app: Any, doctree: nodes.document) -> None:
    """Give the figures of a page their alternative text; MyST-NB does not take it over from the notebook."""
    file = Path(app.srcdir) / ALTS
    alts = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    for image in doctree.findall(nodes.image):
        if said := alts.get(PurePosixPath(image["uri"]).stem):
            image["alt"] = said


def explain_terms(app: Any, doctree: nodes.document, page: str) -> None:
    """Give every link to a word of the glossary its meaning as title, which is shown where the mouse rests on it."""
    file = Path(app.srcdir) / GLOSSARY
    meanings = definitions(file) if file.is_file() else {}
    places = {nodes.make_id(f"term-{word}"): meaning for word, meaning in meanings.items()}
    for link in doctree.findall(nodes.reference):
        if said := places.get(link.get("refuri", "").partition("#")[2]):
            link["reftitle"] = said


def skip_aliases(app: Any, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """Leave out a NamedTuple's fields, "Alias for field number 0": its docstring lists them."""
    return True if type(obj).__name__ == "_tuplegetter" else None


def setup(app: Any) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("doctree-read", describe_pictures)
    app.connect("doctree-resolved", explain_terms)
    app.connect("autodoc-skip-member", skip_aliases)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
