"""The pages of docs/, and links between what the repository and the book have in different places."""

import pytest

from book.guides import find_guides, find_pictures, link_finder

PAGES = {"index.md", "teachers.md", "docs/data.md", "docs/map.png", "notebooks/01_a.ipynb", "api/losses.md"}


def test_every_page_of_a_folder_is_found(tmp_path):
    for name in ("speed.md", "data.md", "map.png", "notes.txt"):
        (tmp_path / name).write_text("")
    assert list(find_guides(tmp_path)) == ["docs/data.md", "docs/speed.md"]
    assert list(find_pictures(tmp_path)) == ["docs/map.png"]


@pytest.mark.parametrize(
    ("folder", "target", "found"),
    [
        ("docs", "data.md", "data.md"),
        ("docs", "data.md#formats", "data.md#formats"),
        ("docs", "../notebooks/01_a.ipynb", "../notebooks/01_a.ipynb"),
        ("docs", "../book/teachers.md", "../teachers.md"),
        ("docs", "../README.md#cite", "../index.md"),
        ("docs", "../Makefile", None),
        ("docs", "gone.md", None),
        ("notebooks", "../docs/data.md", "../docs/data.md"),
        ("notebooks", "01_a.ipynb#2-more", "01_a.ipynb#2-more"),
        ("book", "../notebooks/01_a.ipynb", "notebooks/01_a.ipynb"),
        ("book", "../docs/map.png", "docs/map.png"),
        ("book", "teachers.md", "teachers.md"),
        ("book/api", "../teachers.md", "../teachers.md"),
        ("book/api", "losses.md", "losses.md"),
    ],
)
def test_where_a_link_leads(folder, target, found):
    assert link_finder(folder, PAGES)(target) == found
