"""Reads the cells of a row that say what is to be made; a cell that says nothing legal is told with what would be."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

import orjson

from jobs.manifest.raw_rows import Cell, is_too_deep
from providers.registry import PROVIDERS
from providers.types import Request

#: Images one row may ask for; more is more rows.
MOST_IMAGES = 10
#: Characters of a value that are shown.
SHOWN = 60

WHOLE = re.compile(r"(\d{1,9})(?:\.0+)?")  # pandas writes 2.0 for 2
#: Between two references that were joined by something else than `|`.
_JOINED = re.compile(r"[,;\s]+(?=(?:https?|s3|gs|az|file)://)")
#: A picture's name and the next one's, in one link: a comma is legal there, and two of these are hardly one picture.
_NEXT_FILE = re.compile(
    r"^[^?#]*\.(png|jpe?g|webp|gif|avif)\s*[,;][^,;?#]*\.(png|jpe?g|webp|gif|avif)\b", re.IGNORECASE
)
SEVERAL = 'several references are separated by |, or are a JSON list: ["https://…", "https://…"]'
#: No provider makes a picture whose longer edge is shorter.
LEAST_EDGE = 512
_SIZE = re.compile(r"(\d{1,5})\s*[xX\u00d7*]\s*(\d{1,5})")


def is_picture_size(text: str) -> bool:
    """Whether a text can be meant as a picture's pixels; a carpet's 160x230 and a shirt's XL cannot."""
    size = _SIZE.fullmatch(text.strip())
    return size is not None and max(int(size[1]), int(size[2])) >= LEAST_EDGE


def shown(value: str) -> str:
    """A value as a message shows it: quoted, bounded, nothing invisible."""
    return json.dumps(value if len(value) <= SHOWN else value[:SHOWN] + "…", ensure_ascii=False)


def references(text: str) -> tuple[str, ...]:
    """The words of `image_urls`: a JSON list, or separated by `|`. ValueError says what is legal."""
    if text.startswith("["):
        return tuple(each for each in _json_list(text) if each)
    return tuple(word for each in text.split("|") if each.strip() for word in apart(each.strip()))


def apart(words: str) -> list[str]:
    """Links that a spreadsheet joined by commas, semicolons, blanks or new lines. ValueError: it cannot be told."""
    links = _JOINED.split(words)
    in_a_query = len(links) > 1 and any("?" in link or "#" in link for link in links[:-1])
    if in_a_query or any("://" in link and (_NEXT_FILE.match(link) or link[-1] in ",;") for link in links):
        raise ValueError(SEVERAL)
    return links


def _json_list(text: str) -> list[str]:
    try:
        words = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"a JSON list of references, or references separated by | ({error.msg})") from error
    if not all(isinstance(each, str) for each in words):
        raise ValueError("a JSON list of references: each of them is text")
    return list(words)


def shape_request(given: Mapping[str, str], cells: list[Cell]) -> Request:
    """The request without its prompt and references; what does not parse goes to `cells`."""
    return Request(
        prompt="",
        model=given.get("model", ""),
        ratio=given["ratio"].replace(" ", "") if "ratio" in given else None,
        resolution=given["resolution"].lower() if "resolution" in given else None,
        size=_size(given, cells),
        n=_count(given.get("n", "1"), cells),
        quality=given["quality"].lower() if "quality" in given else None,
        options=_options(given.get("options", ""), cells),
        provider=_provider(given.get("provider"), cells),
    )


def _count(text: str, cells: list[Cell]) -> int:
    whole = WHOLE.fullmatch(text)
    if whole and 1 <= int(whole[1]) <= MOST_IMAGES:
        return int(whole[1])
    cells.append(Cell("n", text, f"a whole number from 1 to {MOST_IMAGES}"))
    return 1


def _size(given: Mapping[str, str], cells: list[Cell]) -> tuple[int, int] | None:
    text = given.get("size")
    if text is None:
        return None
    pixels = _SIZE.fullmatch(text)
    if pixels is None:
        cells.append(Cell("size", text, "WIDTHxHEIGHT in pixels, such as 1536x1024"))
        return None
    if "ratio" in given or "resolution" in given:
        cells.append(Cell("size", text, "either size, or ratio and resolution"))
    return int(pixels[1]), int(pixels[2])


def _options(text: str, cells: list[Cell]) -> dict[str, object]:
    if not text:
        return {}
    try:
        values = orjson.loads(text)
    except orjson.JSONDecodeError:
        values = None
    if isinstance(values, dict) and not is_too_deep(values):
        return values
    cells.append(Cell("options", text, 'a JSON object of provider fields, such as {"background": "opaque"}'))
    return {}


def _provider(text: str | None, cells: list[Cell]) -> str | None:
    name = text.lower() if text else None
    if name is not None and name not in PROVIDERS:
        cells.append(Cell("provider", text or "", f"one of {' '.join(PROVIDERS)}"))
    return name
