"""The words of the glossary: what they mean, and where they are linked."""

import pytest

from book.build import HERE
from book.glossary import TermLinks, definitions


def test_the_glossary_has_the_words_of_the_course():
    found = definitions(HERE / "glossary.md")
    words = {"patch", "token", "region", "sub-volume", "level", "joined", "arm", "hits", "anchor", "preset"}
    assert words | {"structure", "organ"} == set(found)
    assert all(meaning.endswith(".") and len(meaning) < 200 for meaning in found.values())
    assert found["patch"].startswith("A small box of voxels")


@pytest.mark.parametrize(
    ("text", "linked"),
    [
        ("A token and a token.", "A {term}`token` and a token."),
        ("Patches are patches.", "Patches are {term}`patches <patch>`."),
        ("tokens of a patch", "{term}`tokens <token>` of a {term}`patch`"),
        ("**tokens**, *tokens*", "**{term}`tokens <token>`**, *tokens*"),
        ("the broken one, a token-wise sum, tokenise", "the broken one, a token-wise sum, tokenise"),
        ("`token` of $token$ and\n```\ntoken\n```", "`token` of $token$ and\n```\ntoken\n```"),
        ("# A token\n\nA token.", "# A token\n\nA {term}`token`."),
        ("[a token](page.md), <b>a token</b>", "[a token](page.md), <b>a {term}`token`</b>"),
        ("![a token](token.png)", "![a token](token.png)"),
        ("| token |\n| --- |", "| token |\n| --- |"),
        ("{doc}`token`", "{doc}`token`"),
    ],
)
def test_a_word_is_linked_where_it_first_stands_in_prose(text, linked):
    assert TermLinks(["token", "patch"]).link(text) == linked


def test_a_page_is_many_texts():
    links = TermLinks(["token"])
    assert [links.link("a token") for _ in range(2)] == ["a {term}`token`", "a token"]
