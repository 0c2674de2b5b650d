"""How a cell of .xlsx holds characters that XML cannot: `_x000D_`, as ECMA-376 part 1, 22.9.2.19 has it. Pure."""

from __future__ import annotations

import re

from jobs.whole_text import HALF

#: Control characters and halves of characters, a carriage return (XML readers make it a newline), and what would be
#: taken for an escape.
_TO_ESCAPE = re.compile(r"[\x00-\x08\x0b-\x1f\ud800-\udfff\ufffe\uffff]|_(?=x[0-9A-Fa-f]{4}_)")
_ESCAPED = re.compile(r"_x([0-9A-Fa-f]{4})_")


def escaped(text: str) -> str:
    """The text as a cell holds it."""
    return _TO_ESCAPE.sub(lambda found: f"_x{ord(found[0]):04X}_", text)


def unescaped(text: str) -> str:
    """The text that a cell means: two halves of a character are that character, and one alone is none."""
    if "_x" not in text:
        return text
    meant = _ESCAPED.sub(lambda found: chr(int(found[1], 16)), text)
    return meant.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace") if HALF.search(meant) else meant
