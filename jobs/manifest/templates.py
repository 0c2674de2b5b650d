"""Templates of prompts and object paths: `Lifestyle photo of {Title}, {Color|grey}`; `{{` and `}}` are braces."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from jobs.errors import BadInput
from jobs.manifest.names import clean_name

#: Literal text, a doubled brace, or a field with its default.
_TOKEN = re.compile(r"(?P<text>[^{}]+)|(?P<brace>\{\{|\}\})|\{(?P<name>[^{}|]+)(?P<bar>\|(?P<default>[^{}]*))?\}")


class Missing(Exception):
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


def field_names(*sources: str) -> frozenset[str]:
    """The fields of all these templates, those with a mistake included."""
    return frozenset(token["name"] for source in sources for token in _TOKEN.finditer(source) if token["name"])


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
        return Field(name=clean_name(token["name"]), default=token["default"] if token["bar"] else None)
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


# -- object paths --------------------------------------------------------------------------------------------------

#: Bytes S3 takes for a whole object key; GCS takes as many, Azure as many characters.
KEY_LIMIT = 1024
#: Bytes a disk takes for one name.
SEGMENT_LIMIT = 255
#: Bytes kept free for what is filled in later: a two-digit index, "jpeg", ".r99", "~2".
_LATER = 12
#: The destination's own folder, where the mark is.
RESERVED = ".lightfast"

_LATE_FIELDS = ("index", "ext")
_NO_CONTROL = "what stands in a path has no control character; take another column in --path"
#: A slash, and what would be taken for one that was written in a path.
_SLASH = re.compile(r"/|%(?=(?:25)*2F)")
_WRITTEN_SLASH = re.compile(r"%((?:25)*)2F")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class BadPath(Exception):
    """A row's values make no object path: which column, and what would be legal."""

    def __init__(self, column: str, value: str, legal: str) -> None:
        self.column = column
        self.value = value
        self.legal = legal
        super().__init__(legal)


@dataclass(frozen=True, slots=True, kw_only=True)
class PathTemplate:
    """Where a row's objects go below DEST; `{index}` and `{ext}` stay open until an image is stored."""

    template: Template
    prefix: int  # bytes of DEST's own prefix in front of each path
    has_index: bool
    one_per_key: bool  # rows of different keys cannot meet

    def render(self, values: Mapping[str, str], key: str) -> str:
        """The row's path, ready for `str.format(index=…, ext=…)`; `Missing` or `BadPath` when it cannot be."""
        parts = [part if part.__class__ is str else _path_part(part, values, key) for part in self.template.parts]
        path = "".join(parts)
        # Every doubled brace is one byte on the way out, so this never lets too long a path through.
        if len(path.encode()) + self.prefix + _LATER > SEGMENT_LIMIT or _may_have_bad_segment(path):
            self._check(path, values, key)
        if path.startswith(RESERVED) and path.partition("/")[0].casefold() == RESERVED:
            raise BadPath(*self._longest(values, key), f'the folder "{RESERVED}" is Lightfast\'s own')
        return path

    def _check(self, path: str, values: Mapping[str, str], key: str) -> None:
        column, value = self._longest(values, key)
        segments = path.split("/")
        if any(segment in ("", ".", "..") for segment in segments):
            raise BadPath(column, value, 'a name in a path is not empty, "." or ".."')
        length = len(path.encode()) + self.prefix + _LATER
        if length > KEY_LIMIT:
            raise BadPath(column, value, f"the object's whole path would be {length:,} bytes; S3 takes {KEY_LIMIT:,}")
        length = max(len(segment.encode()) for segment in segments) + _LATER
        if length > SEGMENT_LIMIT:
            raise BadPath(column, value, f"one name in the path would be {length} bytes; a disk takes {SEGMENT_LIMIT}")

    def _longest(self, values: Mapping[str, str], key: str) -> tuple[str, str]:
        """The column that weighs most in the path, and its value."""
        given = {field.name: _value(field, values, key) for field in self.template.fields} or {"key": key}
        suspicious = [name for name, value in given.items() if value in (".", "..") or value.startswith(RESERVED)]
        name = suspicious[0] if suspicious else max(given, key=lambda each: len(given[each]))
        return name, given[name]


def parse_path(source: str, *, batch: str, prefix: str) -> PathTemplate:
    """Reads `--path`. `prefix`: DEST's own path in its bucket, which counts toward the limit."""
    template = parse(source, "--path")
    if source.startswith("/") or _CONTROL.search(source):
        raise BadInput(f"--path {source!r} begins with a slash or has a control character; it is a path below --to.")
    parts = tuple(_known_now(part, batch) for part in template.parts)
    names = [field.name for field in template.fields]
    return PathTemplate(
        template=Template(source=source, parts=parts),
        prefix=len(prefix.strip("/").encode()) + 1 if prefix.strip("/") else 0,
        has_index="index" in names,
        one_per_key="{key}" in source.split("/"),
    )


def as_name(value: str) -> str:
    """A value as one name in a path: a slash is `%2F`. Two values never have one name; `from_name` reads it back."""
    return (
        _SLASH.sub(lambda found: "%2F" if found[0] == "/" else "%25", value) if "/" in value or "%" in value else value
    )


def from_name(name: str) -> str:
    """The value that `as_name` wrote."""
    return _WRITTEN_SLASH.sub(lambda found: f"%{found[1][2:]}2F" if found[1] else "/", name) if "%" in name else name


def bad_key(key: str) -> str | None:
    """What is wrong with a key wherever it is used; None: nothing."""
    if not key:
        return "a key is needed in every row; --map key=COLUMN takes another column, --map key= numbers the rows"
    if not key.isprintable() and _CONTROL.search(key):
        return "a key has no control characters"
    if len(key) * 4 > KEY_LIMIT and len(key.encode()) > KEY_LIMIT:
        return f"a key is at most {KEY_LIMIT:,} bytes long, as S3 takes"
    return None


def _may_have_bad_segment(path: str) -> bool:
    """Whether a name in a path may be empty, "." or "..": a quick look that lets none of these pass."""
    return "//" in path or "/." in path or path[:1] in "./" or path[-1] == "/"


def _known_now(part: str | Field, batch: str) -> str | Field:
    if isinstance(part, str):
        return _escaped(part)
    if part.name in _LATE_FIELDS:
        return "{" + part.name + "}"
    return _escaped(batch) if part.name == "batch" else part


def _escaped(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}") if "{" in text or "}" in text else text


def _value(field: Field, values: Mapping[str, str], key: str) -> str:
    return key if field.name == "key" else values.get(field.name, "").strip() or (field.default or "")


def _path_part(field: str | Field, values: Mapping[str, str], key: str) -> str:
    if isinstance(field, str):
        return field
    value = _value(field, values, key)
    if not value and field.default is None:
        raise Missing(field.name)
    if not value.isprintable() and _CONTROL.search(value):
        raise BadPath(field.name, value, _NO_CONTROL)
    return _escaped(as_name(value))
