"""Builds the book: the executed notebooks, the core's docstrings and the texts of this folder as a site of plain files.

    python -m book.build                           # runs the notebooks first that have not run as they are now
    python -m book.build --executed outputs/ci     # from notebooks that ran already; runs none

The site is left in outputs/book/html; open index.html there. It loads nothing from the network.
"""

import argparse
import json
import os
import posixpath
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import nbformat

from book import click, gallery
from book.check import site_problems
from book.citation import bibtex
from book.extension import ALTS, GLOSSARY
from book.glossary import TermLinks, definitions
from book.guides import find_guides, find_pictures, link_finder
from book.pages import count_images, mend_links, own_cells, page_of, page_problems, parameters_of
from notebooks import run
from s2dc_core import exercises

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
NOTEBOOKS, CORE, DOCS = ROOT / "notebooks", ROOT / "s2dc_core", ROOT / "docs"
DOWNLOADS = "downloads"
"""Folder of the notebooks as they are in the course, beside the pages made of their runs."""


class BookError(Exception):
    """The book cannot be built from what there is."""


def read(path: Path) -> nbformat.NotebookNode:
    """A notebook as it is on disk."""
    return nbformat.read(path, as_version=nbformat.NO_CONVERT)


def is_current(executed: Path, source: Path, parameters: dict[str, Any], core: Path = CORE) -> bool:
    """Whether an executed notebook is a run of the notebook and the core as they are now, with these parameters."""
    if not executed.is_file():
        return False
    newest = max(file.stat().st_mtime for file in core.rglob("*") if file.is_file() and file.suffix != ".pyc")
    notebook = read(executed)
    same = own_cells(notebook) == own_cells(read(source)) and parameters_of(notebook) == parameters
    return same and executed.stat().st_mtime > newest


def bring_up_to_date(profile: str, folder: Path) -> None:
    """Run the notebooks whose runs in a folder are missing or not current.

    Raises:
        BookError: if one of them fails or the profile does not exist.
    """
    try:
        jobs = run.plan(NOTEBOOKS, profile, None, {})
    except run.UsageError as error:
        raise BookError(str(error)) from error
    old = [path.stem for path, job in jobs if not is_current(folder / path.name, path, job["parameters"])]
    if old and run.main(["--profile", profile, "--out", str(folder), "--only", *old]):
        raise BookError("a notebook failed, see above; the book was not built")


def gather(folder: Path, sources: Path = NOTEBOOKS) -> dict[str, nbformat.NotebookNode]:
    """The executed notebooks of the course by name.

    Args:
        folder: where they are.
        sources: the notebooks that they are runs of.

    Raises:
        BookError: naming every notebook that is missing, failed, was not run to its end, or has no figure.
    """
    found, problems = {}, []
    for name, source in run.find_notebooks(sources).items():
        executed = folder / source.name
        if not executed.is_file():
            problems.append(f"{name}: {executed} is missing")
            continue
        found[name] = read(executed)
        problems += [f"{name}: {problem}" for problem in page_problems(found[name], read(source))]
    if problems:
        mend = f"run the notebooks first: python notebooks/run.py --out {folder}"
        raise BookError("\n".join([*problems, mend]))
    return found


def lay_out(
    notebooks: dict[str, nbformat.NotebookNode],
    folder: Path,
    sources: Path = NOTEBOOKS,
    texts: Path = HERE,
    docs: Path = DOCS,
) -> None:
    """Write what Sphinx reads: texts, guides, solutions, and the pages that are made of notebooks.

    Args:
        notebooks: executed, by name.
        folder: replaced whole.
        sources: the notebooks that they are runs of, to be downloaded.
        texts: the Markdown files, and those of its folder api.
        docs: the guides, with their pictures.
    """
    shutil.rmtree(folder, ignore_errors=True)
    own = {file.relative_to(texts).as_posix(): file for file in [*texts.glob("*.md"), *texts.glob("api/*.md")]}
    guides, pictures, solutions = find_guides(docs), find_pictures(docs), "notebooks/exercises/solutions.md"
    pages = {*own, *guides, *pictures, solutions, *(f"notebooks/{name}.ipynb" for name in notebooks)}
    words = list(definitions(texts / GLOSSARY)) if GLOSSARY in own else []
    for name, file in own.items():
        find = link_finder(posixpath.join("book", posixpath.dirname(name)), pages)
        put(folder / name, mend_links(file.read_text(encoding="utf-8"), find))
    for name, file in guides.items():
        text = mend_links(file.read_text(encoding="utf-8"), link_finder("docs", pages))
        put(folder / name, TermLinks(words).link(text))
    for name, file in pictures.items():
        put(folder / name, file.read_bytes())
    find = link_finder(posixpath.dirname(solutions), pages)
    put(folder / solutions, mend_links(exercises.solutions_page(exercises.numbers()), find))
    put(folder / "citation.bib", bibtex(ROOT / "CITATION.cff"))
    figures = {name: gallery.pictures(name, notebook) for name, notebook in notebooks.items()}
    for name, notebook in notebooks.items():
        put(folder / DOWNLOADS / f"{name}.ipynb", (sources / f"{name}.ipynb").read_bytes())
        find, link = link_finder("notebooks", pages), TermLinks(words).link
        page = page_of(notebook, find, link, f"../{DOWNLOADS}/{name}.ipynb", figures[name])
        put(folder / "notebooks" / f"{name}.ipynb", nbformat.writes(nbformat.from_dict(page)))
    show(figures, notebooks, folder)


def show(figures: dict[str, list[gallery.Picture]], notebooks: dict[str, nbformat.NotebookNode], folder: Path) -> None:
    """Write the gallery, and what the figures show in words."""
    alts = {gallery.key_of(one.png): one.alt for found in figures.values() for one in found}
    put(folder / ALTS, json.dumps(alts))
    titles = {
        name: notebook["cells"][0]["source"].partition("\n")[0].lstrip("# ") for name, notebook in notebooks.items()
    }
    # The short path draws what the others draw, with other sizes.
    shown = {name: (titles[name], found) for name, found in figures.items() if name != "short_path"}
    text, small = gallery.page(shown)
    for name, content in {
        "gallery.md": text,
        **{f"gallery/{name}": picture for name, picture in small.items()},
    }.items():
        put(folder / name, content)


def put(file: Path, content: str | bytes) -> None:
    """Write a file, and its folder if need be."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content.encode() if isinstance(content, str) else content)


def call_sphinx(folder: Path, html: Path) -> None:
    """Build the site; a warning is an error.

    Args:
        folder: as lay_out leaves it.
        html: replaced whole.

    Raises:
        BookError: if Sphinx had anything to complain of.
    """
    shutil.rmtree(html, ignore_errors=True)
    options = ["-b", "html", "-W", "--keep-going", "--fresh-env", "--quiet", "-c", HERE, "-d", folder / ".doctrees"]
    command = [sys.executable, "-m", "sphinx", *options, folder, html]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    if subprocess.run(list(map(str, command)), env={**os.environ, "PYTHONPATH": path}, check=False).returncode:
        raise BookError("Sphinx had warnings or errors, see above")


def build(executed: Path, out: Path, sources: Path = NOTEBOOKS, texts: Path = HERE, docs: Path = DOCS) -> Path:
    """Build and check the book; the folder of the site.

    Args:
        executed: folder of the executed notebooks.
        out: gets the folders source and html.
        sources: the notebooks that they are runs of.
        texts, docs: the other pages, see lay_out.

    Raises:
        BookError: if a notebook lacks something, Sphinx warns, or the finished site has a fault.
    """
    notebooks = gather(executed, sources)
    source, html = out / "source", out / "html"
    lay_out(notebooks, source, sources, texts, docs)
    call_sphinx(source, html)
    if (texts / "click.md").is_file():
        click.write(html / "_static" / "click")
    images = {f"notebooks/{name}.html": count_images(notebook) for name, notebook in notebooks.items()}
    if problems := site_problems(html, images):
        raise BookError("\n".join(problems))
    return html


def main(arguments: list[str] | None = None) -> int:
    """Command line; 0 if the book is there and whole, else 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--profile", default="teaching", help="of notebooks that have to run first (teaching)")
    parser.add_argument("--executed", type=Path, help="take the executed notebooks of this folder, and run none")
    parser.add_argument("--out", type=Path, default=ROOT / "outputs" / "book", help="output folder (outputs/book)")
    options = parser.parse_args(arguments)
    try:
        if options.executed is None:
            bring_up_to_date(options.profile, ROOT / "outputs")
        started = time.perf_counter()
        html = build(options.executed or ROOT / "outputs", options.out.resolve())
    except BookError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"The book, built and checked in {time.perf_counter() - started:.0f} s: {html / 'index.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
