"""Builds the book: the executed notebooks, the core's docstrings and the texts of this folder as a site of plain files.

    python -m book.build                           # runs the notebooks first that have not run as they are now
    python -m book.build --executed outputs/ci     # from notebooks that ran already; runs none

The site is left in outputs/book/html; open index.html there. It loads nothing from the network.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import nbformat

from book.check import site_problems
from book.pages import count_images, own_cells, page_of, page_problems, parameters_of
from notebooks import run
from s2dc_core import exercises

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
NOTEBOOKS, CORE = ROOT / "notebooks", ROOT / "s2dc_core"


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


def lay_out(notebooks: dict[str, nbformat.NotebookNode], folder: Path, texts: Path = HERE) -> None:
    """Write what Sphinx reads: the texts of book/, the pages of the notebooks, solutions, and the picture.

    Args:
        notebooks: executed, by name.
        folder: replaced whole.
        texts: the Markdown files, and those of its folder api.
    """
    shutil.rmtree(folder, ignore_errors=True)
    for file in [*texts.glob("*.md"), *texts.glob("api/*.md")]:
        target = folder / file.relative_to(texts)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
    (folder / "notebooks" / "exercises").mkdir(parents=True)
    shutil.copyfile(ROOT / "docs" / "another_patient.png", folder / "another_patient.png")
    solutions = exercises.solutions_page(exercises.numbers())
    (folder / "notebooks" / "exercises" / "solutions.md").write_text(solutions, encoding="utf-8")
    pages = {f"{name}.ipynb" for name in notebooks} | {"exercises/solutions.md"}
    for name, notebook in notebooks.items():
        page = page_of(notebook, pages.__contains__)
        nbformat.write(nbformat.from_dict(page), folder / "notebooks" / f"{name}.ipynb")


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


def build(executed: Path, out: Path, sources: Path = NOTEBOOKS, texts: Path = HERE) -> Path:
    """Build and check the book; the folder of the site.

    Args:
        executed: folder of the executed notebooks.
        out: gets the folders source and html.
        sources: the notebooks that they are runs of.
        texts: the other pages, see lay_out.

    Raises:
        BookError: if a notebook lacks something, Sphinx warns, or the finished site has a fault.
    """
    notebooks = gather(executed, sources)
    source, html = out / "source", out / "html"
    lay_out(notebooks, source, texts)
    call_sphinx(source, html)
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
