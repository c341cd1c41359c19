"""What lies where a scan or weights should be: a Git LFS pointer, a web page, an error message, nothing."""

import re
import zlib
from pathlib import Path

HEAD = 4096
"""Bytes that are looked at."""

GZIP, APPLE_DOUBLE = b"\x1f\x8b", b"\x00\x05\x16\x07"
NO_MAGIC = (".raw", ".zraw", ".img")
"""Files that are voxels from their first byte on, and may look like text by chance."""

TEXT_HEADER = re.compile(r"\ANRRD\d|\AP[1-6]\s|^[ \t]*NDims[ \t]*=", re.MULTILINE)
"""What tells the formats whose header is text: NRRD, portable pictures, MetaImage."""

FAILED = "not the file (often a download that failed or needs a login)"


def stands_in(file: Path) -> str | None:
    """What a file is instead of a scan or of weights, to be put behind "FILE is"; None where it may be the real thing.

    Only the first kilobytes are read. What is compressed is judged by what it holds.
    """
    if not file.is_file():
        return None
    with file.open("rb") as opened:
        head = opened.read(HEAD)
    if not head:
        return "an empty file: fetch or copy it again"
    if head.startswith(APPLE_DOUBLE):
        return f"a macOS companion file, not the file: give {file.name.removeprefix('._')} instead"
    if head.startswith(GZIP):
        try:
            inside = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(head, HEAD)
        except zlib.error:
            return None
        if not inside and len(head) < HEAD:
            return "a compressed file without content: fetch or copy it again"
        head = inside
    return _text_instead(head, may_be_voxels=file.name.lower().removesuffix(".gz").endswith(NO_MAGIC))


def _text_instead(head: bytes, may_be_voxels: bool) -> str | None:
    """Which text it is that begins so; None for what is no text, or the header of an image."""
    text = _as_text(head)
    if text is None or TEXT_HEADER.search(text):
        return None
    start = text.lower()
    if re.match(r"version https://(git-lfs|hawser)\.github\.com/spec", start):
        return "a Git LFS pointer, not the file: fetch the file itself with `git lfs pull`"
    if re.match(r"\S*annex/objects/", start):
        return "a git-annex pointer, not the file: fetch the file itself with `datalad get` or `git annex get`"
    if start.startswith("<") and re.search(r"<(!doctype\s+)?html|<head\b|<body\b", start):
        return f"a web page (HTML), {FAILED}"
    if re.match(r"<(\?xml|!--|[a-z])", start):
        return f"XML text, {FAILED}: {_first_words(text)}"
    if re.match(r'\{\s*["}]|\[\s*["{\[\]]', start):
        return f"JSON text, {FAILED}: {_first_words(text)}"
    return None if may_be_voxels else f"plain text, not the file: {_first_words(text)}"


def _as_text(head: bytes) -> str | None:
    """The text from its first sign on; None if bytes are among it that no text has."""
    code = "utf-16" if head.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:
        text = head.decode(code)
    except UnicodeDecodeError as error:
        if error.start >= len(head) - 4:  # a letter that the end of the head cuts
            text = head[: error.start].decode(code)
        elif head.lstrip().startswith(b"<"):
            text = head.decode("latin-1")
        else:
            return None
    return None if any(ord(sign) < 32 and sign not in "\t\n\v\f\r" for sign in text) else text.strip()


def _first_words(text: str) -> str:
    words = " ".join(text[:200].split())
    return f'"{words[:60]}{"..." * (len(words) > 60)}"'
