"""Checks the finished book: links lead somewhere, nothing comes from the network, figures are there and have words."""

import json
import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADED = dict.fromkeys(("audio", "embed", "iframe", "img", "script", "source", "video"), "src")
"""The attribute by which an element loads a file; a <link> loads as well, an <a> only when it is clicked."""

STYLE_URL = re.compile(r"""(?:url\(\s*|@import\s+(?!url))["']?([^"')\s;]+)""")
ABROAD = re.compile(r"(?:https?:)?//[\w-]+\.")


@dataclass
class Page(HTMLParser):
    """What a page holds: places to link to, links, files that it loads, its pictures, and those that say nothing."""

    text: str
    places: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)
    images: int = 0
    silent: list[str] = field(default_factory=list)
    widgets: int = 0
    _inline: str = ""

    def __post_init__(self):
        super().__init__()
        self.feed(self.text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """Called for each element."""
        given = {name: value or "" for name, value in attributes}
        self.places |= {given[name] for name in ("id", "name") if name in given}
        self._inline = tag if tag in ("script", "style") else ""
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if tag == "link" and given.get("rel") not in ("canonical", "index", "search", "next", "prev"):
            self.loads.append(given.get("href", ""))
        if given.get(LOADED.get(tag, "")):
            self.loads.append(given[LOADED[tag]])
        self.images += tag == "img"
        if tag == "img" and re.fullmatch(r"(\S+\.(png|jpe?g|svg|webp))?", given.get("alt", "").strip()):
            self.silent.append(given.get("src", ""))
        self.widgets += "jupyter.widget" in given.get("type", "")
        self.loads += STYLE_URL.findall(given.get("style", ""))

    def handle_data(self, data: str) -> None:
        """Called for text, among it that of scripts and styles."""
        if self._inline == "style":
            self.loads += STYLE_URL.findall(data)
        elif self._inline == "script":
            self.loads += re.findall(r"""["']((?:https?:)?//[^"'\s]+\.js[^"']*)["']""", data)

    def handle_endtag(self, tag: str) -> None:
        """Called at the end of each element."""
        self._inline = ""


def site_problems(html: Path, images: dict[str, int]) -> list[str]:
    """What is wrong with a finished site.

    Args:
        html: its folder.
        images: the pages of the notebooks, and how many figures each must have at least.
    """
    files = sorted(file for file in html.rglob("*.html") if "_static" not in file.relative_to(html).parts)
    pages = {file.resolve(): Page(file.read_text(encoding="utf-8")) for file in files}
    problems = [] if pages else [f"there is no page in {html}"]
    for file, page in pages.items():
        found = [*_link_problems(file, page, pages), *_load_problems(file, page.loads)]
        found += [f"the picture {name[:80]} has no words for those who cannot see it" for name in page.silent]
        if page.widgets:
            found.append("holds a widget, which is empty without JupyterLab")
        problems += [f"{file.relative_to(html.resolve())}: {problem}" for problem in found]
    for file in sorted(html.rglob("*.css")):
        found = _load_problems(file, STYLE_URL.findall(file.read_text(encoding="utf-8", errors="replace")))
        problems += [f"{file.relative_to(html)}: {problem}" for problem in found]
    for name, wanted in images.items():
        page = pages.get((html / name).resolve())
        if page is None or page.images < wanted:
            problems.append(f"{name}: {page.images if page else 'no page, so 0'} of its {wanted} figures")
    return problems + _search_problems(html, images)


def _link_problems(file: Path, page: Page, pages: dict[Path, Page]) -> list[str]:
    """Links of a page within the site that lead nowhere."""
    problems = []
    for link in page.links:
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            continue
        target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
        place = unquote(parts.fragment)
        if not target.is_file():
            problems.append(f"the link {link} leads to no file")
        elif place and target in pages and place not in pages[target].places:
            problems.append(f"the link {link} leads to no place on its page")
    return problems


def _load_problems(file: Path, loads: list[str]) -> list[str]:
    """Files that a page or a style loads from the network, or that are not there."""
    problems = []
    for address in loads:
        if ABROAD.match(address):
            problems.append(f"loads {address} from the network")
        elif not address.startswith(("data:", "#")) and not (file.parent / unquote(urlsplit(address).path)).is_file():
            problems.append(f"loads {address}, which is not there")
    return problems


def _search_problems(html: Path, images: dict[str, int]) -> list[str]:
    """Notebooks that the search index does not know."""
    index = html / "searchindex.js"
    if not index.is_file():
        return ["there is no search index"]
    text = index.read_text(encoding="utf-8")
    known = json.loads(text[text.index("{") : text.rindex("}") + 1]).get("docnames", [])
    names = (name.removesuffix(".html") for name in images)
    return [f"the search index does not know {name}" for name in names if name not in known]
