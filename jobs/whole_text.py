"""Whether a text is one that a ledger can keep and an answer can hold, whoever sent it. Pure."""

from __future__ import annotations

import re

#: Half of a character that is written as a pair of them.
HALF = re.compile("[\ud800-\udfff]")


def why_not_whole(text: str) -> str | None:
    """What keeps a text from being written; None: nothing.

    No database and no path takes a NUL. JSON and a few encodings can say half of a character that is written as a pair,
    and Python makes such halves of a command line's bytes that are no UTF-8; nothing takes them either.
    """
    if "\0" in text:
        return "it holds a NUL character"
    if not text.isascii() and HALF.search(text):
        return "it holds what is no character: a byte that is not UTF-8, or half of a pair (\\ud800 to \\udfff)"
    return None
