"""Templates of prompts and object paths: `Lifestyle photo of {Title}, {Color|grey}`; `{{` and `}}` are braces."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from jobs.errors import BadInput

#: Literal text, a doubled brace, or a field with its default.
_TOKEN = re.compile(r"(?P<text>[^{}]+)|(?P<brace>\{\{|\}\})|\{(?P<name>[^{}|]+)(?P<bar>\|(?P<default>[^{}]*))?\}")


class Missing(Exception):  # noqa: N818  a row's ordinary lack
    """A field is empty in this row and the template has no default for it."""

    def __init__(self, column: str) -> None:
        self.column = column
        super().__init__(column)


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One `{name|default}`."""

    name: str
    default: str | None  # None: an empty value is an error


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """Text with fields; made by `parse`."""

    source: str
    parts: tuple[str | Field, ...]

    @property
    def fields(self) -> tuple[Field, ...]:
        """Its fields, in order."""
        return tuple(part for part in self.parts if isinstance(part, Field))

    def render(self, values: Mapping[str, str]) -> str:
        """The finished text; `Missing` when a field without default is empty."""
        return "".join([part if part.__class__ is str else _filled(part, values) for part in self.parts])


def parse(source: str, option: str) -> Template:
    """Reads a template; `option` names it in messages ("--prompt")."""
    return Template(source=source, parts=tuple(_parts(source, option)))


def _parts(source: str, option: str) -> Iterator[str | Field]:
    position = 0
    while position < len(source):
        token = _TOKEN.match(source, position)
        if token is None:
            raise BadInput(
                f"{option} {source!r}: the brace at character {position + 1} has no partner. "
                "A column is {Title} or {Title|default}; a brace itself is {{ or }}."
            )
        position = token.end()
        yield _part(token)


def _part(token: re.Match[str]) -> str | Field:
    if token["name"] is not None:
        return Field(name=token["name"], default=token["default"] if token["bar"] else None)
    return token["text"] or token["brace"][0]


def _filled(field: str | Field, values: Mapping[str, str]) -> str:
    if isinstance(field, str):
        return field
    value = values.get(field.name, "")
    if value.strip():
        return value
    if field.default is None:
        raise Missing(field.name)
    return field.default
