"""The course's words: what glossary.md says they mean, and where they first stand on a page."""

import re
from pathlib import Path

ENTRY = re.compile(r"(?m)^(\w[\w-]*)\n((?:  \S.*\n?)+)")

NOT_PROSE = re.compile(
    r"```.*?```|`[^`]*`|\$\$.*?\$\$|\$[^$]*\$"  # code and mathematics
    r"|!?\[[^\]]*\]\([^()]*\)|\{\w+\}`[^`]*`|<[^>\n]*>"  # links, pictures, roles, tags
    r"|^(?:#|:::|\(|\||\s*<).*?$",  # headings, directives, targets, tables, blocks of HTML
    re.DOTALL | re.MULTILINE,
)


def definitions(glossary: Path) -> dict[str, str]:
    """What each word of a glossary means, on one line.

    Args:
        glossary: Markdown with a glossary directive: a word on a line, its meaning indented by two below it.
    """
    text = glossary.read_text(encoding="utf-8").partition("{glossary}")[2]
    return {word: " ".join(meaning.split()) for word, meaning in ENTRY.findall(text)}


class TermLinks:
    """Links the words of a glossary where they first stand on a page.

    Args:
        words: as the glossary has them; their plurals are taken as well.
    """

    def __init__(self, words: list[str]):
        self.left = list(words)

    def link(self, text: str) -> str:
        """The next piece of the page's Markdown, with links at words that have not stood before."""
        parts, at = [], 0
        for skipped in NOT_PROSE.finditer(text):
            parts += [self._prose(text[at : skipped.start()]), skipped.group(0)]
            at = skipped.end()
        return "".join([*parts, self._prose(text[at:])])

    def _prose(self, text: str) -> str:
        for word in list(self.left):
            pattern = rf"(?<![\w-]){re.escape(word)}(?:e?s)?(?![\w-])"
            text, found = re.subn(pattern, lambda match, word=word: self._role(match[0], word), text, count=1)
            if found:
                self.left.remove(word)
        return text

    @staticmethod
    def _role(said: str, word: str) -> str:
        return f"{{term}}`{said}`" if said == word else f"{{term}}`{said} <{word}>`"
