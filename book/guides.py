"""The pages of docs/, and where a link leads in the book that leads to a file of the repository."""

import posixpath
from collections.abc import Callable, Collection
from pathlib import Path
from urllib.parse import unquote

PICTURES = (".png", ".svg", ".jpg")


def find_guides(docs: Path) -> dict[str, Path]:
    """The Markdown of a folder, by the path that a page of it has in the book."""
    return {f"docs/{file.name}": file for file in sorted(docs.glob("*.md"))}


def find_pictures(docs: Path) -> dict[str, Path]:
    """The pictures beside them, likewise."""
    return {f"docs/{file.name}": file for file in sorted(docs.iterdir()) if file.suffix in PICTURES}


def link_finder(folder: str, pages: Collection[str]) -> Callable[[str], str | None]:
    """What a relative link of a page becomes in the book; None for one to a file that the book does not have.

    README is the book's first page, and what lies in book/ is at the top of the book.

    Args:
        folder: of the page in the repository, such as "docs" or "book/api".
        pages: all files of the book that may be linked to, such as docs/data.md.
    """
    here = posixpath.relpath(folder, "book") if folder.startswith("book") else folder

    def find(target: str) -> str | None:
        path, mark, place = target.partition("#")
        wanted = posixpath.normpath(posixpath.join(folder, unquote(path)))
        if wanted == "README.md":
            wanted, mark, place = "index.md", "", ""
        wanted = wanted.removeprefix("book/")
        return posixpath.relpath(wanted, here) + mark + place if wanted in pages else None

    return find
