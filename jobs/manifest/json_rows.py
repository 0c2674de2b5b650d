"""The rows of JSONL, one at a time: an object a line, the row itself or a request in OpenAI's batch format."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import orjson

from jobs.errors import BadInput
from jobs.manifest.openai_rows import openai_row
from jobs.manifest.raw_rows import OWN_PREFIX, RawRow, as_text
from jobs.manifest.text import CELL_LIMIT, LongLine, TextFile, too_long


def json_rows(file: TextFile, *, openai: bool) -> Iterator[RawRow]:
    """One pass over the file. `openai`: each line is one of OpenAI's batch requests."""
    read = openai_row if openai else _json_row
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
    if len(content) > CELL_LIMIT and any(len(as_text(value)) > CELL_LIMIT for value in values.values()):
        raise too_long(name, line)
    return values


def _json_row(position: int, line: int, values: Mapping[str, object]) -> RawRow:
    own = {name: value for name, value in values.items() if not name.startswith(OWN_PREFIX)}
    cells = {name: value if type(value) is str else as_text(value) for name, value in own.items()}
    return RawRow(position, line, cells, cells, typed=own)
