"""The rows of JSON, one at a time: an object a line (JSONL), a list of objects, or objects one after the other.

A list may stand in an object, {"data": [...]}, if it is the only list of objects there. An object is the row itself or
a request in OpenAI's batch format. A list of texts is a list of prompts.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice

import orjson

from jobs.errors import BadInput
from jobs.manifest.json_text import UNREAD, JsonText
from jobs.manifest.names import clean_name
from jobs.manifest.nested import MISSING, reach
from jobs.manifest.openai_rows import is_openai_line, openai_row
from jobs.manifest.raw_rows import (
    KNOWN_COLUMNS,
    OWN_PREFIX,
    TOO_DEEP,
    WHOLE_ROW,
    Cell,
    RawRow,
    as_text,
    is_too_deep,
)
from jobs.manifest.text import CELL_LIMIT, LINE_LIMIT, TOO_LONG, TextFile, bounded_lines

#: An object with one of these names is a row, and wraps none.
_ROW_NAMES = frozenset({*KNOWN_COLUMNS, "custom_id"})
#: Lists of objects that are looked for in an object that holds everything; more than one leave the choice open.
_ENOUGH = 3
#: Objects in objects in which such a list is looked for.
_LEVELS = 8


class JsonLayout(enum.Enum):
    """How the rows lie in their file."""

    LINES = enum.auto()  # JSONL
    LIST = enum.auto()  # the elements of a list
    SEQUENCE = enum.auto()  # objects one after the other, each on several lines


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonShape:
    """How a file is to be read; found by `json_shape`."""

    layout: JsonLayout
    inside: tuple[str, ...] = ()  # where the list stands in the object that holds everything
    is_openai: bool = False
    has_lines: bool = True  # False: rows stand on one line, so that their numbers say more

    @property
    def looks(self) -> str:
        """For a person: `jsonl`, `JSON list "data"`."""
        name = f' "{".".join(self.inside)}"' if self.inside else ""
        shapes = {JsonLayout.LINES: "jsonl", JsonLayout.LIST: f"JSON list{name}", JsonLayout.SEQUENCE: "JSON objects"}
        shape = shapes[self.layout]
        named = f"openai-{shape}" if self.layout is JsonLayout.LINES else f"{shape} of OpenAI requests"
        return named if self.is_openai else shape


#: A file of requests to OpenAI's Batch API.
REQUESTS = JsonShape(layout=JsonLayout.LINES, is_openai=True)


@dataclass(frozen=True, slots=True)
class _Broken:
    """A line that is no JSON."""

    why: str


# -- rows ----------------------------------------------------------------------------------------------------------


def json_rows(
    file: TextFile, shape: JsonShape, repeated: dict[str, tuple[str, ...]] | None = None, endpoint: str = ""
) -> Iterator[RawRow]:
    """One pass over the file. `repeated`: takes in the names that several items of one row share, and their own.

    `endpoint`: of OpenAI's API, to which each line is a request.
    """
    repeated = {} if repeated is None else repeated
    read = partial(openai_row, endpoint=endpoint) if shape.is_openai else partial(_json_row, repeated)
    values = _lines(file) if shape.layout is JsonLayout.LINES else _values(file, shape)
    for position, (line, value) in enumerate(values):
        at = line if shape.has_lines else position + 1
        if isinstance(value, dict):
            yield read(position, at, value)
        elif isinstance(value, str) and shape.layout is JsonLayout.LIST:
            yield _json_row(repeated, position, at, {"prompt": value})
        else:
            why = value.why if isinstance(value, _Broken) else f"not a JSON object, but {as_text(value)[:60] or 'null'}"
            yield RawRow(position, at, {}, {}, wrong=(Cell(WHOLE_ROW, "", why),))


def _json_row(repeated: dict[str, tuple[str, ...]], position: int, line: int, values: Mapping[str, object]) -> RawRow:
    own: dict[str, object] = {}
    for raw, value in values.items():
        name = clean_name(raw)
        if not name.startswith(OWN_PREFIX):
            own[_apart(name, own, repeated) if name in own else name] = value
    cells = {name: value if type(value) is str else as_text(value) for name, value in own.items()}
    return RawRow(position, line, cells, cells, typed=own)


def _apart(name: str, taken: Mapping[str, object], repeated: dict[str, tuple[str, ...]]) -> str:
    """A name of its own for a further item whose name differs only in what nobody sees, as for columns of a CSV."""
    number = 2
    while (own := f"{name}_{number}") in taken:
        number += 1
    repeated[name] = tuple(dict.fromkeys((*repeated.get(name, (name,)), own)))
    return own


def _lines(file: TextFile) -> Iterator[tuple[int, object]]:
    with file.open() as text:
        for line, content in enumerate(bounded_lines(text), 1):
            if content.strip():
                yield line, _bounded(_parsed(content), len(content))


def _parsed(content: str) -> object:
    if len(content) >= LINE_LIMIT:
        return _Broken(TOO_LONG)
    try:
        value = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        if "depth" in error.msg:
            return _Broken(TOO_DEEP)
        if (before := content.rstrip()).endswith(","):  # lines of a list, without its brackets
            return _parsed(before[:-1])
        return _Broken(f"broken JSON at character {error.colno}: {error.msg}")
    return _Broken(TOO_DEEP) if is_too_deep(value) else value


def _values(file: TextFile, shape: JsonShape) -> Iterator[tuple[int, object]]:
    with file.open() as text:
        json = JsonText(text, file.name)
        values = _sequence(json) if shape.layout is JsonLayout.SEQUENCE else _lists(json, shape.inside)
        for line, value, length in values:
            yield line, _bounded(_writable(value), length)


def _writable(value: object) -> object:
    """The value, unless it cannot be written again."""
    if value is UNREAD or is_too_deep(value):
        return _Broken(TOO_DEEP)
    try:
        orjson.dumps(value)
    except TypeError:  # half a surrogate pair, which no text can hold
        return _Broken("broken JSON: a \\ud… that stands for half a character")
    return value


def _sequence(json: JsonText) -> Iterator[tuple[int, object, int]]:
    while json.peek():
        line = json.line
        yield line, json.value(), json.length


def _lists(json: JsonText, inside: tuple[str, ...]) -> Iterator[tuple[int, object, int]]:
    """The elements of a list; of several, where pages of answers were written one after the other."""
    while json.peek():
        yield from _listed(json, inside)


def _listed(json: JsonText, inside: tuple[str, ...]) -> Iterator[tuple[int, object, int]]:
    """The elements of one list. What stands behind it in an object is read too: perhaps the file breaks off there."""
    if not inside:
        for line, value in json.elements():
            yield line, value, json.length
    for name in json.members() if inside else ():
        if name == inside[0]:
            yield from _listed(json, inside[1:])
        else:
            json.skip()


def _bounded(value: object, length: int) -> object:
    """The value, unless a cell of it is too long."""
    cells = value.values() if length > CELL_LIMIT and isinstance(value, dict) else ()
    if any(len(as_text(each)) > CELL_LIMIT for each in cells):
        return _Broken(TOO_LONG)
    return value


# -- shapes --------------------------------------------------------------------------------------------------------


def json_shape(file: TextFile, *, is_lines: bool = False, wanted: Collection[str] = ()) -> JsonShape:
    """Looks at the beginning; at all of it where one object holds everything. `BadInput` where no rows are found.

    `is_lines`: the file's name says that it has an object a line. `wanted`: columns that the user names; a list
    of objects that have one is taken, and else an object that has one is a row, whatever lists it has.
    """
    with file.open() as text:
        json = JsonText(text, file.name)
        start = json.peek()
        if start == "[":
            return _list_shape(list(islice(json.elements(), 2)), file.name)
    first = next((value for _, value in _lines(file)), None) if is_lines else None
    if isinstance(first, dict):
        return JsonShape(layout=JsonLayout.LINES, is_openai=is_openai_line(first))
    return _object_shape(file, wanted)


def _object_shape(file: TextFile, wanted: Collection[str]) -> JsonShape:
    """Of a file that begins with an object."""
    with file.open() as text:
        json = JsonText(text, file.name)
        if json.peek() != "{":
            raise BadInput(f"{file.name} has no rows: JSON is read as a list of objects, or as an object a line.")
        begins, names, lists = json.line, set[str](), dict[tuple[str, ...], _Head]()
        for name in json.members():
            names.add(name)
            _find_lists(json, (name,), lists)
        ends = json.line
        is_alone = not json.peek()
    objects = {inside: head for inside, head in lists.items() if isinstance(_telling(head), dict)}
    named = {inside: head for inside, head in objects.items() if _has_one(_telling(head), wanted)}
    row_names = _ROW_NAMES.union(wanted, (name.partition(".")[0] for name in wanted))
    found = named or objects or lists
    if is_alone and found and (named or names.isdisjoint(row_names)):
        if len(found) > 1:
            several = ", ".join(f'"{".".join(each)}"' for each in found)
            raise BadInput(
                f"{file.name} is one JSON object with several lists ({several}), and nothing tells which of them has "
                "the rows. Write that list alone into a file."
            )
        inside, head = next(iter(found.items()))
        return _list_shape(head, file.name, inside)
    with file.open() as text:
        first = JsonText(text, file.name).value()
    if is_alone and isinstance(first, dict) and all(isinstance(each, dict) and "0" in each for each in first.values()):
        raise BadInput(
            f"{file.name} is one JSON object of columns, as pandas writes it by default; "
            'write its rows: to_json(path, orient="records").'
        )
    layout = JsonLayout.LINES if begins == ends else JsonLayout.SEQUENCE
    return JsonShape(layout=layout, is_openai=isinstance(first, dict) and is_openai_line(first))


def _has_one(values: object, names: Collection[str]) -> bool:
    return any(reach(values, name) is not MISSING for name in names)


#: The first elements of a list, each with its line.
_Head = list[tuple[int, object]]


def _telling(head: _Head) -> object:
    """The first element that could be read."""
    return next((value for _, value in head if value is not UNREAD), None)


def _find_lists(json: JsonText, inside: tuple[str, ...], lists: dict[tuple[str, ...], _Head]) -> None:
    """Reads over a value, and notes the lists of objects or texts in it."""
    start = json.peek()
    if start == "[":
        head: _Head = []
        for element in json.elements():
            head.extend([element] * (len(head) < 2))  # noqa: PLR2004  two tell whether each has its own line
        if isinstance(_telling(head), dict | str) and len(lists) < _ENOUGH:
            lists[inside] = head
    elif start == "{" and len(inside) < _LEVELS:
        for name in json.members():
            _find_lists(json, (*inside, name), lists)
    else:
        json.value()


def _list_shape(head: _Head, name: str, inside: tuple[str, ...] = ()) -> JsonShape:
    if not head:
        raise BadInput(f"{name} has no rows: its JSON list is empty.")
    (line, _), *more = head
    first = _telling(head)
    return JsonShape(
        layout=JsonLayout.LIST,
        inside=inside,
        is_openai=isinstance(first, dict) and is_openai_line(first),
        has_lines=all(after != line for after, _ in more),
    )
