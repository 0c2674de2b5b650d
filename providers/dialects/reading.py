"""How answers are read: tolerant of any bytes, and never by an exception.

A value of the wrong type is no value. Whatever is kept or shown is bounded, and cleaned of keys and image bytes.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit

import orjson

from providers.references import DATA_URI
from providers.token_prices import Usage
from providers.types import RAW_LIMIT, Link, Response, clean

#: Characters of an answer that are looked through for what to keep.
LOOKED_AT = 64_000
#: Longer ids, links and paths are taken for garbage.
LONGEST_ID, LONGEST_LINK, LONGEST_PATH = 200, 8_000, 2_000
#: Seconds that a provider is believed to want us to wait: whoever says more, by a slip or by malice, would stop an
#: account for good.
LONGEST_WAIT = 86_400.0
#: Unix seconds of the year 5138; larger numbers are milliseconds.
MILLISECONDS_FROM = 1e11

_SECRETS = re.compile(
    r"(?i)(\bbearer\s+)[^\s\"',;\\]+|\bsk-[\w*.-]{4,}"
    r"|((?:[?&\"]|(?:[?&\"]|\b|\\[nrt])x-(?:[a-z]{1,20}-)?)(?:api[_-]?)?key\"?\s*[=:]\s*\"?)[^\s\"&\\]+"
)
_BASE64 = re.compile(r"[A-Za-z0-9+/=_\\-]{256,}")

#: A provider's word for "not allowed", where it gives no code for it.
POLICY_WORDS: Final = re.compile(
    r"(?i)moderat|(?:content|usage|safety)[ _-]?polic|polic(?:y|ies)[ _-]violat|violat\w* .{0,40}polic"
    r"|safety[ _-]system|nsfw|\bsensitive|审核|违规|敏感|违反"
)
#: Its words for "wrong parameters" in a task that failed.
PARAMETER_WORDS: Final = re.compile(r"(?i)invalid[ _-]|build_request_failed|unsupported|not supported|参数")

Json = object


# -- JSON ----------------------------------------------------------------------------------------------------------


def read_json(body: bytes) -> Json:
    """The JSON value of a body; None when it is none."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return _read_lenient(body)


def _read_lenient(body: bytes) -> Json:
    """Takes what orjson does not, since an acceptance must not be lost over a lone surrogate in an echoed prompt."""
    try:
        return json.loads(body.decode("utf-8-sig", "replace"), parse_int=_number)
    except (ValueError, RecursionError):
        return None


def _number(digits: str) -> int | float:
    return int(digits) if len(digits) <= 18 else float(digits)  # noqa: PLR2004  what 64 bits surely hold


def mapping(value: Json) -> Mapping[str, Json]:
    """The value, if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def first(value: Json) -> Mapping[str, Json]:
    """An object, or the first object of a list: providers nest where it pleases them."""
    if isinstance(value, list):
        return next((item for item in value if isinstance(item, dict)), {})
    return mapping(value)


def text(value: Json) -> str:
    """A string, or a number's digits; anything else is none."""
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else ""


def code_of(value: Json) -> int | str | None:
    """A body's own `code`: an integer also where it comes as a string; a word in lower case; None when absent."""
    if isinstance(value, str):
        word = value.strip().lower()
        return int(word) if word.isascii() and word.isdigit() and len(word) < 10 else word or None  # noqa: PLR2004  digits
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None if value is None else "?"
    return int(value) if math.isfinite(value) and value == int(value) else "?"


def task_id(*values: Json) -> str | None:
    """The first value that can be a task's id: short, printable, not dots alone, which are steps in a path."""
    candidates = (text(value).strip() for value in values)
    return next(
        (item for item in candidates if item.strip(".") and len(item) <= LONGEST_ID and item.isprintable()), None
    )


def words(*values: Json) -> str:
    """The first value that says something, cleaned for people."""
    said = next((text(value).strip() for value in values if text(value).strip()), "")
    return clean(redact(said[:LOOKED_AT]))


# -- times ---------------------------------------------------------------------------------------------------------


def unix_seconds(value: Json) -> float | None:
    """Unix seconds, from a number (milliseconds too) or an ISO-8601 text; None when it is neither."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return _sane(float(value) / (1000 if value >= MILLISECONDS_FROM else 1))
    return _sane(_iso(value)) if isinstance(value, str) else None


def _sane(seconds: float | None) -> float | None:
    """A moment that can be written down."""
    return seconds if seconds is not None and 0 < seconds < MILLISECONDS_FROM else None


def _iso(value: str) -> float | None:
    try:
        moment = datetime.fromisoformat(value.strip())
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def span_of(began: Json, ended: Json) -> tuple[float, float] | None:
    """Seconds between two times of one clock, at least and at most: whole seconds were cut off, nobody knows where."""
    first, last = unix_seconds(began), unix_seconds(ended)
    if first is None or last is None:
        return None
    unsure = 1.0 if first.is_integer() and last.is_integer() else 0.0
    took = last - first
    return (max(0.0, took - unsure), took + unsure) if took >= 0 else None


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds the provider asks to wait. A date counts from the answer's own Date header: no clock is read here."""
    value = headers.get("retry-after", "").strip()
    try:
        seconds = float(value)
    except ValueError:
        until, now = _http_date(value), _http_date(headers.get("date", ""))
        seconds = until - now if until is not None and now is not None else math.nan
    return min(max(seconds, 0.0), LONGEST_WAIT) if math.isfinite(seconds) else None


def _http_date(value: str) -> float | None:
    try:
        return parsedate_to_datetime(value).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


# -- tokens --------------------------------------------------------------------------------------------------------


def usage_of(*places: Mapping[str, Json]) -> Usage | None:
    """OpenAI's `usage` of the first place that has one; None when there is none that can be read whole."""
    found = next((mapping(place.get("usage")) for place in places if place.get("usage")), {})
    details = mapping(found.get("input_tokens_details"))
    output, every = _tokens(found.get("output_tokens")), _tokens(found.get("input_tokens"))
    text_tokens, image = _tokens(details.get("text_tokens")), _tokens(details.get("image_tokens"))
    if output is None or (every is None and text_tokens is None and image is None):
        return None
    told = (text_tokens or 0) + (image or 0)
    # What the details leave out counts as text; what they say beyond the sum counts as well.
    return Usage(text=(text_tokens or 0) + max(0, (every or 0) - told), image=image or 0, output=output)


def _tokens(value: Json) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


# -- images --------------------------------------------------------------------------------------------------------


def links(*places: Json) -> tuple[Link, ...]:
    """Every image of the first place that has any; a link named twice is one image.

    A place is a link, an object with `url`, `urls` or `b64_json`, or a list of these. If a provider uses other names,
    its dialect takes the links out of them first.
    """
    for place in places:
        found = tuple(dict.fromkeys(_links(place)))
        if found:
            return found
    return ()


def _links(place: Json) -> Iterator[Link]:
    for item in _items(place):
        if isinstance(item, dict):
            expires_at = unix_seconds(item.get("expires_at"))
            urls = [_link(url, expires_at) for url in _items(item.get("url") or item.get("urls"))]
            yield from (link for link in urls or [_bytes(item.get("b64_json"), expires_at)] if link)
        elif link := _link(item, None):
            yield link


def _items(value: Json) -> Iterable[Json]:
    if isinstance(value, list):
        return value
    return [] if value is None else [value]


def _link(value: Json, expires_at: float | None) -> Link | None:
    if not isinstance(value, str):
        return None
    if DATA_URI.match(value):
        return _bytes(value, expires_at)
    parts = split(value)
    good = parts and parts.scheme in ("http", "https") and len(value) <= LONGEST_LINK and value.isprintable()
    return Link(url=value, expires_at=expires_at) if good else None


def _bytes(value: Json, expires_at: float | None) -> Link | None:
    """What is no base64 is handed on too: it is paid for, kept as it came, and found to be no image."""
    if not isinstance(value, str):
        return None
    uri = DATA_URI.match(value)
    b64 = (value[uri.end() :] if uri else value).replace("\0", "")
    b64 = b64 if b64.isascii() else b64.encode("utf-8", "replace").decode()  # what has surrogates cannot be kept
    return Link(b64=b64, expires_at=expires_at) if b64.strip() else None


def split(url: str) -> SplitResult | None:
    """The parts of a link that names a host; None when it is none."""
    try:
        parts = urlsplit(url)
        usable = bool(parts.hostname) and parts.port != 0
    except ValueError:
        return None
    return parts if usable else None


def own_path(url: Json, base_url: str) -> str | None:
    """The path, from the base URL on, of a link to the provider's own host; None for any other.

    The key goes with the request, so scheme, host and port have to be exactly those of the base.
    """
    if not isinstance(url, str) or len(url) > LONGEST_PATH or not url.isprintable() or " " in url or "\\" in url:
        return None
    base = split(base_url)
    relative = url.startswith("/") and not url.startswith("//")
    parts = split(f"{base.scheme}://{base.netloc}{url}" if base and relative else url)
    if not base or not parts or parts.username is not None or _origin(parts) != _origin(base):
        return None
    if ".." in unquote(parts.path).split("/"):
        return None
    return _below(base.path.rstrip("/"), parts, relative=relative)


def _origin(parts: SplitResult) -> tuple[str, str | None, int | None]:
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def _below(prefix: str, parts: SplitResult, *, relative: bool) -> str | None:
    path = parts.path.removeprefix(prefix) if parts.path.startswith(f"{prefix}/") else None
    if path is None and relative:
        path = parts.path
    query = f"?{parts.query}" if parts.query else ""
    return f"{path}{query}" if path else None


# -- what is kept --------------------------------------------------------------------------------------------------


def raw_of(response: Response) -> str:
    """The answer as kept with an attempt: no keys, image bytes cut short."""
    said = response.body[:LOOKED_AT].decode("utf-8", "replace")
    return clean(_BASE64.sub(_cut, redact(said)), RAW_LIMIT)


def redact(said: str) -> str:
    """The text without anything that looks like a key."""
    return _SECRETS.sub(lambda found: f"{found[1] or found[2] or ''}[redacted]", said)


def _cut(found: re.Match[str]) -> str:
    return f"{found[0][:16]}…({len(found[0])} characters)"
