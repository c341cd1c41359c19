"""All figures of the course on one page: a small picture of each, which leads to the cell that draws it."""

import base64
import hashlib
import io
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from PIL import Image

WIDTH = 480
"""Pixels of a small picture: twice what it takes on the page, for screens of fine pixels."""

NUMBER, ESCAPED = re.compile(r"^(\d+)\."), r"\1\."
"""What would begin a list where a heading is written as a text."""

HEAD = """# All figures

Each picture leads to the cell that draws it. The numbers are those of the notebooks.
"""


class Picture(NamedTuple):
    """A figure among a notebook's outputs.

    Attributes:
        cell: its place among the notebook's cells.
        png: the picture.
        section: the heading that it stands under.
        alt: what it shows, in words.
        page: of its notebook in the book.
        label: of the place of its cell there.
    """

    cell: int
    png: bytes
    section: str
    alt: str
    page: str
    label: str


def pictures(name: str, notebook: Mapping[str, Any]) -> list[Picture]:
    """The figures of an executed notebook, in order.

    What a figure shows is said by the alternative text beside its output; where there is none, by its section's name.
    """
    found, section = [], name
    for number, cell in enumerate(notebook["cells"]):
        if cell["cell_type"] == "markdown":
            section = (re.findall(r"(?m)^#+ +(.+)$", cell["source"]) or [section])[-1]
        for output in cell.get("outputs", []):
            if "image/png" not in output.get("data", {}):
                continue
            said = output.get("metadata", {}).get("image/png", {}).get("alt", "")
            png = base64.b64decode(output["data"]["image/png"])
            alt = " ".join(said.split()) or f"Figure {len(found) + 1} of notebook {name}: {plain(section)}"
            label = f"figure-{name.replace('_', '-')}-{len(found) + 1}"
            found.append(Picture(number, png, section, alt, f"notebooks/{name}.html", label))
    return found


def plain(text: str) -> str:
    """Markdown of one line as plain words."""
    text = re.sub(r"\\mathcal|\\mathrm|[$*`{}]", "", text)
    return re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)


def key_of(png: bytes) -> str:
    """How MyST-NB names the file of a picture, without its ending."""
    return hashlib.sha256(png).hexdigest()


def small(png: bytes) -> bytes:
    """The picture at WIDTH, JPEG on white."""
    with Image.open(io.BytesIO(png)) as picture:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        flat = Image.alpha_composite(white, picture).convert("RGB")
        flat.thumbnail((WIDTH, WIDTH))
        out = io.BytesIO()
        flat.save(out, "JPEG", quality=80, optimize=True)
        return out.getvalue()


def page(found: Mapping[str, tuple[str, list[Picture]]]) -> tuple[str, dict[str, bytes]]:
    """The gallery as Markdown, and its small pictures by the name of their file.

    Args:
        found: name of each notebook to its title and its figures. One that stands in two notebooks is shown once.
    """
    parts, files, seen = [HEAD], {}, set()
    for title, figures in found.values():
        new = [one for one in figures if not (key_of(one.png) in seen or seen.add(key_of(one.png)))]
        if new:
            parts.append(f"## {title}\n\n::::{{grid}} 2 2 3 3\n:gutter: 2\n\n{''.join(_cards(new))}::::\n")
            files |= {f"{one.label}.jpg": small(one.png) for one in new}
    return "\n".join(parts), files


def _cards(figures: list[Picture]) -> Iterator[str]:
    for one in figures:
        options = {"img-top": f"gallery/{one.label}.jpg", "img-alt": one.alt, "link": f"{one.page}#{one.label}"}
        lines = [f":{name}: {value}" for name, value in options.items()]
        yield "\n".join([":::{grid-item-card}", *lines, "", NUMBER.sub(ESCAPED, one.section), ":::", "", ""])
