"""How a reference image stands in a request: a link, an object in a bucket, or a file by its words and its hash. Pure.

A file's hash is part of the request: a row whose file has other bytes is another row. Where the bytes lie meanwhile,
and the signed address that a provider is given, are no part of it.
"""

from __future__ import annotations

import enum
import re
from urllib.parse import urlsplit

LINKS = ("http", "https")
OBJECTS = ("s3", "gs", "az")

#: What stands before the bytes in a data URI (RFC 2397), in any case: a type, parameters, and perhaps "base64".
DATA_URI = re.compile(r"\s*data:[^,]*(?:,|\Z)", re.IGNORECASE)

_FILE = re.compile(r"#sha256-([0-9a-f]{64}\.(?:png|jpg|webp))$")


class ReferencesBy(enum.StrEnum):
    """How a provider takes references that are no link."""

    LINK = "link"  # it fetches every reference itself
    DATA = "data"  # links, and data URIs
    FILE = "file"  # the bytes, in a form


def is_link(reference: str) -> bool:
    """Whether it is a whole http(s) link."""
    try:
        parts = urlsplit(reference)
        named = parts.scheme in LINKS and bool(parts.hostname)
    except ValueError:
        return False
    return named and reference.isprintable() and " " not in reference


def is_object(reference: str) -> bool:
    """Whether it names an object in a bucket: s3://bucket/key, and the same of gs and az."""
    scheme, _, rest = reference.partition("://")
    bucket, _, key = rest.partition("/")
    return scheme in OBJECTS and bool(bucket and key) and reference.isprintable()


def file_name(reference: str) -> str | None:
    """What the bytes of a file are known by, "HASH.png"; None when it is no file."""
    found = None if is_link(reference) or is_object(reference) else _FILE.search(reference)
    return found[1] if found else None


def words_of(reference: str) -> str:
    """A reference as its user wrote it."""
    return _FILE.sub("", reference) if file_name(reference) else reference


def as_file(words: str, sha256: str, ext: str) -> str:
    """How a request holds a file."""
    return f"{words}#sha256-{sha256}.{ext}"
