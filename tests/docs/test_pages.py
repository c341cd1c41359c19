"""README and docs: their numbers are the records', their links lead somewhere, each page says for whom it is."""

import re
from pathlib import Path

import pytest

from s2dc_core.studies.pages import PARTS, names_in, without_parts
from s2dc_core.studies.pages.__main__ import differing, main, pages

ROOT = Path(__file__).resolve().parents[2]
README, RESULTS = ROOT / "README.md", ROOT / "docs" / "results.md"
COMING: set[str] = set()
"""Notebooks that have a row before they have a file."""

NAMED = re.compile(r"S2DC|notebooks? \d\db?|tables? \d+|95 %|excludes 0")
"""What holds a digit and is no result."""


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def prose_of(text: str) -> str:
    """What a page's writer wrote, without code, mathematics and the targets of links."""
    return re.sub(r"```.*?```|`[^`]*`|\$[^$]*\$|\]\([^)]*\)", "", without_parts(text), flags=re.DOTALL)


def test_pages_are_what_the_records_make_of_them():
    assert [page.name for page in differing()] == [], "run python -m s2dc_core.studies.pages write"
    used = [name for page in pages() for name in names_in(text_of(page))]
    assert sorted(used) == sorted(PARTS), "a part stands nowhere, or twice"


def test_every_number_of_the_results_comes_from_a_record():
    prose = prose_of(text_of(RESULTS))
    assert re.findall(r"[^\n]*\d[^\n]*", NAMED.sub("", prose)) == []
    assert not re.search(r"^\|", prose, re.MULTILINE), "a table of results is made from the records"


def test_a_number_that_was_typed_is_noticed():
    text = text_of(RESULTS) + "\nS2DC has 0.53 in notebook 12.\n"
    assert re.findall(r"\d+\.\d+", NAMED.sub("", prose_of(text))) == ["0.53"]


def test_readme_has_three_numbers_with_their_spread():
    assert names_in(text_of(README)) == ["three numbers"]
    points = PARTS["three numbers"]().split("\n- ")
    assert len(points) == 3
    assert all(re.search(r"\(.*\d to \+?\d", point.replace("\n", " ")) for point in points)


def test_what_differs_is_named(tmp_path, monkeypatch, capsys):
    (tmp_path / "docs").mkdir()
    page = tmp_path / "docs" / "one.md"
    (tmp_path / "README.md").write_text("# One\n")
    page.write_text("# One\n\n<!-- from records: images in words -->\n\nAll are clear.\n\n<!-- end -->\n")
    found = differing(tmp_path)
    assert list(found) == [page] and "None of the nine" in found[page]
    monkeypatch.setattr("s2dc_core.studies.pages.__main__.differing", lambda: found)
    assert main(["check"]) == 1 and "one.md differs" in capsys.readouterr().out
    assert "All are clear" in page.read_text()
    assert main(["write"]) == 0
    assert "None of the nine" in page.read_text() and differing(tmp_path) == {}


def test_readme_is_short():
    assert len(text_of(README).splitlines()) <= 170


def test_each_page_says_for_whom_it_is():
    for page in pages()[1:]:
        title, blank, first, *_ = text_of(page).splitlines()
        assert title.startswith("# ") and blank == "" and first.startswith("For whoever"), page.name


def test_a_gpu_is_spoken_of_once():
    said = [page.name for page in pages() for _ in re.findall(r"measured\s+on\s+a\s+GPU", text_of(page))]
    assert said == ["README.md"]


def anchors_of(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    heads = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", text_of(page), flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page):
    text = re.sub(r"```.*?```", "", text_of(page), flags=re.DOTALL)
    targets = [target for target in re.findall(r"\]\(([^)\s]+)\)", text) if not re.match(r"[a-z]+:", target)]
    for target in targets:
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists() or file.name in COMING, f"{page.name} leads to {target}"
        assert not anchor or anchor in anchors_of(file), f"{page.name} leads to {target}"


@pytest.mark.parametrize("name", ["README.md", "book/index.md"])
def test_every_notebook_has_a_row(name):
    rows = [line for line in text_of(ROOT / name).splitlines() if line.startswith("| ")]
    for notebook in sorted((ROOT / "notebooks").glob("*.ipynb")):
        assert sum(f"notebooks/{notebook.stem}" in row for row in rows) == 1, notebook.name
