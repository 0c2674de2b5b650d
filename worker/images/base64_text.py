"""Bytes that came as base64 in a text, in each form that a reader can make out."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from urllib.parse import unquote

from providers.references import DATA_URI
from worker.images.check import BadImage, check

#: From the URL-safe alphabet of base64 to the standard one.
STANDARD = str.maketrans("-_", "+/")
#: Ends of lines as some encoders write them: the two characters of an escape.
ESCAPED_LINES = re.compile(r"\\[rn]")


def decoded(b64: str) -> bytes:
    """The bytes of a base64 text, or the text itself where it is none.

    It may be a data URI, have either alphabet, no padding, lines, blanks for "+" (as decoders of forms leave them), or
    percent signs. What cannot be read was paid for all the same: it is kept as it came, and found to be no image when
    it is copied.
    """
    readings = [content for text in _texts(b64) if (content := _strictly(text)) is not None]
    for content in readings[:-1]:
        if _is_image(content):
            return content
    return readings[-1] if readings else b64.encode("utf-8", "replace")


def _texts(b64: str) -> Iterator[str]:
    """The text without its dress. Blanks within a line stand for "+", or for nothing: both are tried."""
    uri = DATA_URI.match(b64)
    text = b64[uri.end() :] if uri else b64
    text = ESCAPED_LINES.sub("\n", unquote(text) if "%" in text else text).strip("\ufeff\u200b")
    lines = [line.strip() for line in text.splitlines()]
    if any(" " in line for line in lines):
        yield "".join(lines).replace(" ", "+")
        if text.startswith(" ") or text.endswith(" "):  # the blank at an end may be a letter too
            yield "".join(text.splitlines()).replace(" ", "+")
    yield re.sub(r"\s+", "", text)


def _strictly(text: str) -> bytes | None:
    """Decodes; None where a character is none of base64's, or one is missing."""
    plain = text.translate(STANDARD).rstrip("=")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None


def _is_image(content: bytes) -> bool:
    try:
        check(content)
    except BadImage:
        return False
    return True
