"""BibTeX made of CITATION.cff."""

import re

from book.build import ROOT
from book.citation import bibtex


def test_the_paper_and_the_software_can_be_cited():
    text = bibtex(ROOT / "CITATION.cff")
    paper, software = re.findall(r"(?ms)^@.*?^}$", text)
    assert paper.startswith("@inproceedings{pan2025structure,")
    assert "author = {Pan, Tan and Tan, Zhaorui and " in paper and "year = {2025}," in paper
    assert "booktitle = {Proceedings of the IEEE/CVF" in paper and "note = {arXiv:2507.02581}," in paper
    assert software.startswith("@software{s2dc_core,") and "author = {{The s2dc_core contributors}}," in software
    assert all(entry.count("{") == entry.count("}") for entry in (paper, software))
