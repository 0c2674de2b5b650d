"""The rows of JSONL, one at a time: an object a line, the row itself or a request in OpenAI's batch format."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import orjson

from jobs.errors import BadInput
from jobs.manifest_text import CELL_LIMIT, LongLine, TextFile, too_long
from jobs.raw_rows import KNOWN_COLUMNS, OWN_PREFIX, RawRow

#: Fields of OpenAI's body that say how the answer comes back, which here is always the bucket.
_ANSWER_FIELDS = frozenset({"response_format", "stream", "user"})


def json_rows(file: TextFile, *, openai: bool) -> Iterator[RawRow]:
    """One pass over the file. `openai`: each line is one of OpenAI's batch requests."""
    read = _openai_row if openai else _json_row
    for position, (line, values) in enumerate(_objects(file)):
        yield read(position, line, values)


def first_object(file: TextFile) -> dict[str, object] | None:
    """What stands on the first line that is not blank."""
    return next((values for _, values in _objects(file)), None)


def _objects(file: TextFile) -> Iterator[tuple[int, dict[str, object]]]:
    line = 0
    with file.open() as text:
        try:
            for line, content in enumerate(text, 1):
                if content.strip():
                    yield line, _object(content, file.name, line)
        except LongLine:
            raise too_long(file.name, line + 1) from None


def _object(content: str, name: str, line: int) -> dict[str, object]:
    try:
        values = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise BadInput(f"{name}, line {line}, character {error.colno}: broken JSON: {error.msg}.") from error
    if not isinstance(values, dict):
        raise BadInput(f"{name}, line {line}: not a JSON object; each line of JSONL is one {{…}}.")
    if len(content) > CELL_LIMIT and any(len(_text(value)) > CELL_LIMIT for value in values.values()):
        raise too_long(name, line)
    return values


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else orjson.dumps(value).decode()


def _json_row(position: int, line: int, values: Mapping[str, object]) -> RawRow:
    cells = {
        name: value if type(value) is str else _text(value)
        for name, value in values.items()
        if not name.startswith(OWN_PREFIX)
    }
    return RawRow(position, line, cells, cells)


def _openai_row(position: int, line: int, values: Mapping[str, object]) -> RawRow:
    cells = {name: _text(value) for name, value in values.items() if not name.startswith(OWN_PREFIX)}
    body = values.get("body")
    if not isinstance(body, dict):
        return RawRow(position, line, cells, cells, "no body, as OpenAI's batch format has on each line")
    return RawRow(position, line, cells, _openai_fields(body) | {"key": cells.get("custom_id", "")})


def _openai_fields(body: Mapping[str, object]) -> dict[str, str]:
    """The body's fields as known columns; those no column has become `options`."""
    known = {name: value for name, value in body.items() if name in KNOWN_COLUMNS}
    rest = {name: value for name, value in body.items() if name not in KNOWN_COLUMNS and name not in _ANSWER_FIELDS}
    known["image_urls"] = known.get("image_urls") or _openai_references(rest.pop("images", rest.pop("image", None)))
    options = known.get("options")
    known["options"] = {**options, **rest} if isinstance(options, dict) else options or rest or None
    if known.get("size") == "auto":
        del known["size"]
    return {name: _text(value) for name, value in known.items()}


def _openai_references(images: object) -> object:
    """`images` is a link, a list of links, or a list of {"image_url": link}."""
    listed = images if isinstance(images, list) else [images] if images else []
    links = [each.get("image_url") if isinstance(each, dict) else each for each in listed]
    return links or None
