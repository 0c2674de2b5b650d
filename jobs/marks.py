"""Byte order marks: what a file's first bytes say of its encoding. Windows writes them into plain text of all kinds."""

from __future__ import annotations

import codecs

#: The longest first: UTF-32's mark begins with that of UTF-16. Each name is a codec that takes the mark away.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def marked(head: bytes) -> tuple[str, int]:
    """The encoding that a mark at the beginning says, and the mark's length in bytes; "" and 0 without one."""
    return next(((name, len(mark)) for mark, name in _MARKS if head.startswith(mark)), ("", 0))


def text_of(content: bytes) -> str:
    """A small file's text: as its mark says, else UTF-8. Raises `UnicodeDecodeError` where it is no such text."""
    return content.decode(marked(content)[0] or "utf-8")
