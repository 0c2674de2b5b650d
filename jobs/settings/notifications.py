"""Addresses that people and programs are told at: how they are written in the settings, and which can be used.

They hold tokens and passwords. No problem that is said here quotes more of one than its scheme.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import logging
import re
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, SecretStr, field_validator

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,31}):")
#: Addresses may hold commas themselves: one that divides two of them stands before a scheme.
_BETWEEN = re.compile(r"[,\s]+(?=(?:env|file):|[A-Za-z][A-Za-z0-9+.-]*://)")
#: A name that an address may be given; "webhook" is the program's.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
WEBHOOK = "webhook"
_PREFIX = "whsec_"


class WebhookSettings(BaseModel):
    """Where programs are told, signed as Standard Webhooks say."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: SecretStr  # services put tokens into it
    secret: SecretStr

    @field_validator("url")
    @classmethod
    def _is_http(cls, url: SecretStr) -> SecretStr:
        text = url.get_secret_value().strip()
        try:
            parts = urlsplit(text)
            usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            usable = False
        if not usable or parts.fragment or any(c.isspace() for c in text):
            raise ValueError("should be an address like https://host/path, without #")
        return SecretStr(text)

    @field_validator("secret")
    @classmethod
    def _signs(cls, secret: SecretStr) -> SecretStr:
        text = secret.get_secret_value().strip()
        encoded = text.removeprefix(_PREFIX).rstrip("=")
        try:
            usable = bool(base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True))
        except (binascii.Error, ValueError):
            usable = False
        if not usable:
            raise ValueError("should be whsec_ and base64, or base64, such as `openssl rand -base64 24` makes")
        return SecretStr(text)


def scheme_of(address: str) -> str:
    """What an address begins with, which is no secret: slack, mailto. "?": nothing that looks like a scheme."""
    found = _SCHEME.match(address.strip())
    return found[1].lower() if found else "?"


def is_address(text: str) -> bool:
    """Whether this is an address, and no name of one."""
    return ":" in text


def shown(address: str) -> str:
    """An address as it may be shown, `slack://…`."""
    return f"{scheme_of(address)}://…"


def split(value: object) -> object:
    """Several addresses in one text, such as a variable holds: a JSON list, or separated by commas."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    if text.startswith("["):
        try:
            return json.loads(text)
        except ValueError:
            return [text]
    return [each for each in _BETWEEN.split(text.strip(", \t\r\n")) if each]


def unknown(addresses: Sequence[SecretStr]) -> list[str]:
    """A phrase for each address that the library does not know, with its place among them."""
    if not addresses:
        return []
    library = load_library()
    asset = library.AppriseAsset(storage_mode="memory")
    return [
        f"address {at} ({shown(each.get_secret_value())})"
        for at, each in enumerate(addresses, 1)
        if library.Apprise.instantiate(each.get_secret_value(), asset=asset, suppress_exceptions=True) is None
    ]


_HEARD: ContextVar[bool] = ContextVar("heard", default=False)


@contextlib.contextmanager
def heard() -> Iterator[None]:
    """While it lasts, the library may collect the warnings of this call, for the result that it gives."""
    token = _HEARD.set(True)
    try:
        yield
    finally:
        _HEARD.reset(token)


def load_library() -> Any:
    """Apprise, which takes a while to load. What it and its HTTP client log quotes addresses: none of it is shown."""
    import apprise  # noqa: PLC0415  most start without it

    logger = logging.getLogger("apprise")
    if logger.propagate:
        logger.propagate = False  # it has a handler that does nothing
        logger.addFilter(lambda record: _HEARD.get() and record.levelno >= logging.WARNING)
    if logging.getLogger("urllib3").level < logging.INFO:
        logging.getLogger("urllib3").setLevel(logging.INFO)
    return apprise
