"""How to cite: BibTeX of CITATION.cff, so that it is written once."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml


def bibtex(cff: Path) -> str:
    """The paper that a CITATION.cff asks to cite, and the software itself, as BibTeX."""
    found = yaml.safe_load(cff.read_text(encoding="utf-8"))
    paper = found["preferred-citation"]
    preprint = [one["value"] for one in paper.get("identifiers", []) if one["value"].startswith("arXiv:")]
    entries = [
        _entry("inproceedings", _key(paper), _fields(paper) | {"booktitle": paper["collection-title"]}, preprint),
        _entry("software", "s2dc_core", _fields(found) | {"version": str(found["version"])}, []),
    ]
    return "\n".join(entries)


def _fields(item: Mapping[str, Any]) -> dict[str, str]:
    """What both entries have; a title in braces keeps its capitals."""
    authors = [_person(author) for author in item["authors"]]
    fields = {"title": f"{{{item['title']}}}", "author": " and ".join(authors)}
    return fields | {name: str(item[name]) for name in ("year", "url") if name in item}


def _person(author: Mapping[str, str]) -> str:
    return f"{author['family-names']}, {author['given-names']}" if "family-names" in author else f"{{{author['name']}}}"


def _key(item: Mapping[str, Any]) -> str:
    first = re.sub(r"\W", "", item["authors"][0]["family-names"]).lower()
    return f"{first}{item['year']}{re.findall(r'[a-z]+', item['title'].lower())[0]}"


def _entry(kind: str, key: str, fields: Mapping[str, str], preprint: list[str]) -> str:
    fields = dict(fields) | ({"note": preprint[0]} if preprint else {})
    lines = [f"  {name} = {{{value}}}," for name, value in fields.items()]
    return "\n".join([f"@{kind}{{{key},", *lines, "}", ""])
