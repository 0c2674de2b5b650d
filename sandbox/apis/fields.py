"""Reading a submit's fields strictly: wrong types, unknown names and values are refused with the name of the field."""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import urlsplit

import orjson
from aiohttp import web
from PIL import Image

from sandbox.values import Refusal

PROMPT_LIMIT = 32_000  # characters; OpenAI's, taken for every provider


async def read_body(request: web.BaseRequest) -> Fields:
    """The body as a JSON object."""
    if "json" not in request.content_type:
        raise Refusal("invalid", f"Content-Type must be application/json, not {request.content_type}")
    try:
        values = orjson.loads(await request.read())
    except orjson.JSONDecodeError as error:
        raise Refusal("invalid", f"the body is not JSON: {error}") from None
    except web.HTTPRequestEntityTooLarge:
        raise Refusal("invalid", "the body is too large", status=413) from None
    if not isinstance(values, dict):
        raise Refusal("invalid", "the body must be a JSON object")
    return Fields(values)


class Fields:
    """A JSON object's fields; each reader raises Refusal when the value is not what is documented."""

    def __init__(self, values: Mapping[str, Any], path: str = "") -> None:
        self.values = values
        self._path = path

    def only(self, *known: str) -> None:
        """Nothing but these."""
        for name in self.values:
            if name not in known:
                raise self.wrong(name, f"unknown field: {self._path}{name}")

    def has(self, name: str) -> bool:
        """Whether it is there; null is as if it were not."""
        return self.values.get(name) is not None

    def text(self, name: str, *, required: bool = False) -> str | None:
        """A string; empty is as if it were not there."""
        value = self.values.get(name)
        if value is not None and not isinstance(value, str):
            raise self.wrong(name, f"{self._path}{name} must be a string")
        if required and not (value or "").strip():
            raise self.wrong(name, f"{self._path}{name} is required")
        return value or None

    def prompt(self, name: str = "prompt") -> str:
        """The prompt, which stands in the field `name`."""
        found = self.text(name, required=True) or ""
        if len(found) > PROMPT_LIMIT:
            raise self.wrong(name, f"{self._path}{name} may have at most {PROMPT_LIMIT} characters")
        return found

    def one_of(self, name: str, known: Collection[str], default: str | None = None) -> str | None:
        """One of these strings."""
        value = self.text(name)
        if value is not None and value not in known:
            raise self.wrong(name, f"{self._path}{name} must be one of {', '.join(known)}, not {value!r}")
        return value or default

    def integer(self, name: str, least: int, most: int, default: int) -> int:
        """A JSON integer in a range; true and "1" are none."""
        value = self.values.get(name, default)
        value = default if value is None else value
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise self.wrong(name, f"{self._path}{name} must be an integer from {least} to {most}")
        return value

    def flag(self, name: str) -> bool:
        """A JSON boolean."""
        value = self.values.get(name)
        if value is not None and not isinstance(value, bool):
            raise self.wrong(name, f"{self._path}{name} must be a boolean")
        return bool(value)

    def inner(self, name: str) -> Fields:
        """An object inside."""
        value = self.values.get(name)
        if not isinstance(value, dict):
            raise self.wrong(name, f"{self._path}{name} is required and must be an object")
        return Fields(value, f"{self._path}{name}.")

    def images(self, name: str, *, least: int, most: int, data: bool) -> list[str]:
        """A list of image addresses; `data`: base64 data URIs too."""
        values = self.values.get(name)
        values = [] if values is None else values
        if not isinstance(values, list) or not least <= len(values) <= most:
            raise self.wrong(name, f"{self._path}{name} must be an array of {least} to {most} image URLs")
        for value in values:
            if not (isinstance(value, str) and (_is_link(value) or (data and is_data_image(value)))):
                raise self.wrong(name, f"{self._path}{name}: {str(value)[:80]!r} is not an image URL")
        return values

    def wrong(self, name: str, message: str) -> Refusal:
        """The refusal of a field."""
        return Refusal("invalid", message, param=f"{self._path}{name}")


def picture_size(content: bytes) -> tuple[int, int] | None:
    """Width and height of a real image; None when it is none."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            image.verify()
            return image.size
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None


def is_data_image(text: str) -> bool:
    """Whether it is a base64 data URI of a real image."""
    head, comma, content = text.partition(",")
    if not comma or not head.startswith("data:image/") or not head.endswith(";base64"):
        return False
    try:
        return picture_size(base64.b64decode(content, validate=True)) is not None
    except binascii.Error:
        return False


def shortened(links: list[str]) -> list[str]:
    """Addresses as they are echoed: a data URI by its beginning."""
    return [link if len(link) < 2_000 else f"{link[:40]}…" for link in links]  # noqa: PLR2004  a long link is data


def _is_link(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)
