"""The book is made from whole, current runs of all notebooks, or not at all; a tiny one is built here."""

import base64
import os
import re
from importlib.util import find_spec

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from book import build as book
from notebooks.run import find_notebooks
from tests.test_imports import APPENDIX, DOORS, METHOD

DOT = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGNgYGD4DwABBAEAX+XDSwAAAABJRU5ErkJggg=="
needs_sphinx = pytest.mark.skipif(find_spec("sphinx") is None, reason="the extra book is not installed")
TOCTREE = "# Tiny\n\n```{toctree}\n:glob:\n\n*\nnotebooks/*\nnotebooks/exercises/solutions\ndocs/*\n```\n"


def write_pair(sources, executed, name="01_trial", picture=True):
    """A notebook and its run: a header with mathematics and a code cell with a picture."""
    cells = [new_markdown_cell("# 01 Trial\n\nWhere $x^2$."), new_code_cell("draw()")]
    notebook = new_notebook(cells=cells, metadata={"language_info": {"name": "python", "pygments_lexer": "ipython3"}})
    sources.mkdir(exist_ok=True)
    executed.mkdir(exist_ok=True)
    nbformat.write(notebook, sources / f"{name}.ipynb")
    described = {"image/png": {"alt": 'A dot, "small"'}}
    outputs = [new_output("display_data", data={"image/png": DOT}, metadata=described)] if picture else []
    cells[1].update(execution_count=1, outputs=outputs, metadata={"papermill": {"duration": 0.1}})
    notebook.metadata["papermill"] = {"parameters": {}}
    nbformat.write(notebook, executed / f"{name}.ipynb")


def test_every_notebook_that_lacks_something_is_named(tmp_path):
    sources, executed = tmp_path / "sources", tmp_path / "executed"
    write_pair(sources, executed, "01_whole")
    write_pair(sources, executed, "02_bare", picture=False)
    write_pair(sources, executed, "03_missing")
    (executed / "03_missing.ipynb").unlink()
    with pytest.raises(book.BookError, match="run the notebooks first") as error:
        book.gather(executed, sources)
    named = re.findall(r"(?m)^(\d\d_\w+): ", str(error.value))
    assert named == ["02_bare", "03_missing"]


def test_a_run_is_current_until_notebook_parameters_or_core_change(tmp_path):
    sources, executed, core = (tmp_path / name for name in ("sources", "executed", "core"))
    core.mkdir()
    (core / "losses.py").write_text("")
    write_pair(sources, executed)
    source, run = sources / "01_trial.ipynb", executed / "01_trial.ipynb"
    later = run.stat().st_mtime + 10
    os.utime(run, (later, later))
    assert book.is_current(run, source, {}, core)
    assert not book.is_current(run, source, {"steps": 2}, core)
    assert not book.is_current(executed / "02_gone.ipynb", source, {}, core)
    os.utime(core / "losses.py", (later + 10, later + 10))
    assert not book.is_current(run, source, {}, core)
    os.utime(run, (later + 20, later + 20))
    assert book.is_current(run, source, {}, core)
    nbformat.write(new_notebook(cells=[new_markdown_cell("# Another")]), source)
    assert not book.is_current(run, source, {}, core)


def test_only_what_is_not_current_runs(tmp_path, monkeypatch):
    called = []
    monkeypatch.setattr(book, "is_current", lambda executed, source, parameters: executed.stem[:2] not in ("03", "07"))
    monkeypatch.setattr(book.run, "main", lambda arguments: called.append(arguments))
    book.bring_up_to_date("ci", tmp_path)
    names = ["03_sharpe_ratio", "07_pca_feature_maps"]
    assert called == [["--profile", "ci", "--out", str(tmp_path), "--only", *names]]
    monkeypatch.setattr(book.run, "main", lambda arguments: 1)
    with pytest.raises(book.BookError, match="a notebook failed"):
        book.bring_up_to_date("ci", tmp_path)
    with pytest.raises(book.BookError, match="no profile huge"):
        book.bring_up_to_date("huge", tmp_path)


def test_a_book_that_cannot_be_built_ends_with_one_error(tmp_path, capsys):
    assert book.main(["--executed", str(tmp_path), "--out", str(tmp_path / "book")]) == 1
    assert capsys.readouterr().err.startswith("error: 00_start_here: ")


@pytest.mark.parametrize("page", ["index.md", "teachers.md"])
def test_the_page_names_every_notebook(page):
    text = (book.HERE / page).read_text()
    assert [name for name in find_notebooks(book.NOTEBOOKS) if not re.search(rf"notebooks/{name}[>.]", text)] == []


def test_the_reference_has_the_core_and_its_wings():
    pages = {file.stem: file.read_text() for file in (book.HERE / "api").glob("*.md")}
    for name in {*METHOD, *APPENDIX, *DOORS} - {"plots", "threads", "exercises"}:
        assert f"automodule:: s2dc_core.{name}\n" in pages[name]
        assert f"\n{name}\n" in pages["index"].split("{toctree}")[1]


def write_texts(texts, docs):
    """A first page, a glossary of one word, and a guide with a picture and links to what the book has and has not."""
    texts.mkdir()
    docs.mkdir()
    (texts / "index.md").write_text(TOCTREE)
    (texts / "glossary.md").write_text("# Words\n\n```{glossary}\ntoken\n  What a patch\n  becomes.\n```\n")
    (docs / "data.md").write_text("# Data\n\nTwo tokens, [a trial](../notebooks/01_trial.ipynb), ![dot](dot.png).\n")
    (docs / "dot.png").write_bytes(base64.b64decode(DOT))


@needs_sphinx
def test_a_tiny_book(tmp_path):
    """Pictures, mathematics, solutions, guides, words and the gallery arrive, and the finished site is whole."""
    sources, executed, texts, docs = (tmp_path / name for name in ("sources", "executed", "texts", "docs"))
    write_pair(sources, executed)
    write_texts(texts, docs)
    html = book.build(executed, tmp_path / "out", sources, texts, docs)
    page = (html / "notebooks" / "01_trial.html").read_text()
    assert 'alt="A dot, &quot;small&quot;"' in page
    assert "math notranslate" in page and "mathjax/tex-chtml.js" in page and 'src="../_images/' in page
    assert 'id="figure-01-trial-1"' in page
    assert (html / "_static" / "mathjax" / "tex-chtml.js").is_file()
    assert "<summary>Solution</summary>" in (html / "notebooks" / "exercises" / "solutions.html").read_text()
    guide = (html / "docs" / "data.html").read_text()
    assert 'href="../notebooks/01_trial.html"' in guide and 'title="What a patch becomes."' in guide
    assert 'href="notebooks/01_trial.html#figure-01-trial-1"' in (html / "gallery.html").read_text()
    (taken,) = html.rglob("_downloads/*/01_trial.ipynb")
    assert taken.read_bytes() == (sources / "01_trial.ipynb").read_bytes()
    assert "copybutton.js" in page and 'property="og:title"' in page


@needs_sphinx
def test_with_an_address_each_page_has_a_card(tmp_path, monkeypatch):
    monkeypatch.setenv("BOOK_URL", "https://example.org/book/")
    (tmp_path / "index.md").write_text("# Tiny\n\nA book.\n")
    book.call_sphinx(tmp_path, tmp_path / "html")
    (card,) = re.findall(
        r'"og:image" content="https://example.org/book/([^"]*)"', (tmp_path / "html/index.html").read_text()
    )
    assert (tmp_path / "html" / card).is_file()


@needs_sphinx
def test_what_sphinx_warns_of_is_an_error(tmp_path, capfd):
    (tmp_path / "index.md").write_text("# Tiny\n\n{doc}`gone`\n")
    with pytest.raises(book.BookError, match="Sphinx had warnings"):
        book.call_sphinx(tmp_path, tmp_path / "html")
    assert "unknown document" in capfd.readouterr().err
