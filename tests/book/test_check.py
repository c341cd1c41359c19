"""The check of the finished book, on small sites each broken in one way."""

import pytest

from book.check import site_problems

INDEX = """<link rel="stylesheet" href="style.css"><script src="app.js"></script>
<h1 id="top">A</h1><a href="page.html#there">on</a><a href="#top">up</a><a href="https://example.org">out</a>"""
PAGE = '<h1 id="there">B</h1><img src="figure.png" alt="A curve."><img src="data:image/png;base64,AAAA" alt="A map.">'


def write_site(folder, **changed):
    """A whole site of two pages; ``changed`` replaces files by name, None leaves one out."""
    files = {
        "index.html": INDEX,
        "page.html": PAGE,
        "style.css": "body { background: url(figure.png) } b { background: url(data:image/png;base64,AA) }",
        "app.js": "",
        "figure.png": "",
        "searchindex.js": 'Search.setIndex({"docnames":["index","page"]})',
    } | changed
    for name, text in files.items():
        if text is not None:
            (folder / name).write_text(text)
    return folder


def test_a_whole_site_has_no_problem(tmp_path):
    assert site_problems(write_site(tmp_path), {"page.html": 2}) == []


@pytest.mark.parametrize(
    ("file", "text", "says"),
    [
        ("index.html", '<a href="gone.html">x</a>', "gone.html leads to no file"),
        ("index.html", '<a href="page.html#elsewhere">x</a>', "no place on its page"),
        ("index.html", '<script src="https://cdn.example.org/a.js"></script>', "from the network"),
        ("index.html", '<link rel="stylesheet" href="//fonts.example.org/a.css">', "from the network"),
        ("index.html", '<img src="https://example.org/a.png" alt="A.">', "from the network"),
        ("index.html", '<b style="background: url(https://example.org/a.png)">x</b>', "from the network"),
        ("index.html", "<style>@import 'https://example.org/a.css';</style>", "from the network"),
        ("index.html", '<script>load("https://cdn.example.org/a.js")</script>', "from the network"),
        ("index.html", '<script src="gone.js"></script>', "which is not there"),
        ("index.html", '<script type="application/vnd.jupyter.widget-view+json">{}</script>', "holds a widget"),
        ("style.css", "@import url('https://fonts.example.org/a.css');", "from the network"),
        ("page.html", '<h1 id="there">B</h1><img src="figure.png" alt="A curve.">', "1 of its 2 figures"),
        ("page.html", PAGE.replace(' alt="A curve."', ""), "the picture figure.png has no words"),
        ("page.html", PAGE.replace("A curve.", "_images/figure.png"), "the picture figure.png has no words"),
        ("searchindex.js", None, "no search index"),
        ("searchindex.js", 'Search.setIndex({"docnames":["index"]})', "does not know page"),
    ],
)
def test_a_fault_is_named(tmp_path, file, text, says):
    (problem,) = site_problems(write_site(tmp_path, **{file: text}), {"page.html": 2})
    assert says in problem


def test_a_missing_page_is_named(tmp_path):
    problems = site_problems(write_site(tmp_path, **{"page.html": None, "index.html": "<p>"}), {"page.html": 2})
    assert problems == ["page.html: no page, so 0 of its 2 figures"]


def test_an_empty_folder_is_no_site(tmp_path):
    assert "there is no page" in site_problems(tmp_path, {})[0]
