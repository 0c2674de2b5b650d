"""Who may do what: tokens, roles, and what a token is known by. Nothing here keeps a token.

A token is `lf_` and 32 random bytes as text. It is shown once. Kept are its first letters, by which it is found, and
its SHA-256, with which it is compared: 32 random bytes cannot be guessed from that, so no slow hash is needed.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from pydantic import SecretStr

#: Random bytes of a token.
RANDOM = 32
#: Characters of a token that are kept as they are: `lf_` and eight more, a quarter of what makes it hard to guess.
VISIBLE = 11
_TOKEN = re.compile(r"lf_[A-Za-z0-9_-]{43}")
#: What a name may be made of: it stands in addresses, in logs and on screens.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Role(enum.StrEnum):
    """What the holder of a token may do."""

    VIEWER = "viewer"  # sees everything
    PRODUCER = "producer"  # makes batches of its own, within its budget, and sees only those
    OPERATOR = "operator"  # does everything


@dataclass(frozen=True, slots=True)
class MadeToken:
    """A token that was just made, with what is kept of it."""

    secret: SecretStr
    prefix: str
    digest: str


def is_below(address: str, prefix: str) -> bool:
    """Whether the address of an object, or a destination, is `prefix` or lies below it.

    Whole names count: s3://shop/catalog-2 is not below s3://shop/catalog. An address with names that some store may
    take for a step upwards lies below nothing.
    """
    above = prefix.rstrip("/")
    names = unquote(unquote(address)).replace("\\", "/").partition("://")[2 if "://" in address else 0].split("/")
    return not {".", ".."} & set(names) and (address.rstrip("/") == above or address.startswith(f"{above}/"))


def readable(reads: Sequence[str]) -> str:
    """Which objects a producer's manifests may name, in words that follow "may read objects"."""
    return f"only below {' and '.join(reads)}" if reads else "nowhere: it has no --read"


def make_token() -> MadeToken:
    """A new token, of random bytes that only the caller has."""
    text = f"lf_{secrets.token_urlsafe(RANDOM)}"
    return MadeToken(secret=SecretStr(text), prefix=text[:VISIBLE], digest=digest(text))


def is_token(text: str) -> bool:
    """Whether a text has a token's form."""
    return _TOKEN.fullmatch(text) is not None


def digest(text: str) -> str:
    """What is kept of a token: the SHA-256 of all of it, in hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def is_same(text: str, kept: str | None) -> bool:
    """Whether a token is the one of which a digest is kept; takes as long where none is."""
    return hmac.compare_digest(digest(text), kept or digest("")) and kept is not None
