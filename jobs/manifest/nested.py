"""Objects and lists in a row, reached by dotted names: `input.title`, `images.0.url`. Pure.

A column that has such a name itself comes first. A cell of a table that holds JSON text is reached into as well.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence

import orjson

from jobs.manifest.raw_rows import RawRow, as_text, is_too_deep

#: What `reach` finds where nothing is; null is something.
MISSING = object()
#: Levels that are listed; deeper ones can be reached.
_LISTED_LEVELS = 8

#: Where JSON may begin in a text, and its first value if it is no number.
_MAYBE_JSON = re.compile(r"[\[{]\s*[\]}\"\[{]")
_DECODER = json.JSONDecoder()


def reach(values: object, name: str) -> object:
    """What a dotted name leads to, or `MISSING`."""
    inside = _opened(values)
    if isinstance(inside, Mapping):
        if name in inside:
            return inside[name]
        heads = [name[: dot.start()] for dot in re.finditer(r"\.", name)]
        found = (reach(inside[head], name[len(head) + 1 :]) for head in reversed(heads) if head in inside)
        return next((each for each in found if each is not MISSING), MISSING)
    if isinstance(inside, list):
        head, dot, rest = name.partition(".")
        if head.isascii() and head.isdecimal() and int(head[:9]) < len(inside):
            return reach(inside[int(head)], rest) if dot else inside[int(head)]
    return MISSING


def reaching(raw: RawRow, names: Sequence[str]) -> RawRow:
    """The row with fields of these dotted names."""
    found = {name: reach(raw.carried, name) for name in names if name not in raw.fields} if names else {}
    more = {name: as_text(value) for name, value in found.items() if value is not MISSING}
    return raw._replace(fields={**raw.fields, **more}) if more else raw


class TemplateColumns(Mapping[str, str]):
    """A row's columns as templates see them; dotted names lead into them."""

    def __init__(self, carried: Mapping[str, object]) -> None:
        self._carried = carried

    def __getitem__(self, name: str) -> str:
        value = reach(self._carried, name)
        if value is MISSING:
            raise KeyError(name)
        return as_text(value)

    def __iter__(self) -> Iterator[str]:
        return iter(self._carried)

    def __len__(self) -> int:
        return len(self._carried)


def dotted_names(values: Mapping[str, object]) -> Iterator[str]:
    """The names of what is in a row's objects and lists; of a list the first element's."""
    for name, value in values.items():
        yield from _below(name, value, _LISTED_LEVELS)


def holds_json(text: str) -> bool:
    """Whether a prompt has an object or a list in it as a program writes it."""
    return any(_begins_json(text[match.start() :]) for match in _MAYBE_JSON.finditer(text))


def _below(name: str, value: object, levels: int) -> Iterator[str]:
    inside = _opened(value)
    members: dict[str, object] = {}
    if isinstance(inside, Mapping):
        members = {str(key): each for key, each in inside.items()}
    elif isinstance(inside, list) and inside:
        members = {"0": inside[0]}
    for key, each in members.items() if levels else ():
        deeper = list(_below(f"{name}.{key}", each, levels - 1))
        yield from deeper or [f"{name}.{key}"]


def _opened(value: object) -> object:
    """The object or list that a text holds; anything else as it is."""
    if not isinstance(value, str) or value[:1] not in ("{", "["):
        return value
    try:
        found = orjson.loads(value)
    except orjson.JSONDecodeError:
        return value
    return value if is_too_deep(found) else found


def _begins_json(text: str) -> bool:
    try:
        return isinstance(_DECODER.raw_decode(text)[0], dict | list)
    except (ValueError, RecursionError):
        return False
