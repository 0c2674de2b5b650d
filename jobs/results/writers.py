"""Result lines as CSV, JSONL or Parquet, written as they come: a million rows take no more memory than a thousand."""

from __future__ import annotations

import codecs
import csv
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import IO, Any

import orjson

from jobs.errors import LightfastError
from jobs.formatting import dollars, usd, utc
from jobs.manifest.raw_rows import as_text as raw_text
from jobs.results.rows import Column, Type, Value, Values
from jobs.results.spreadsheet import without_formula, write_xlsx

#: Rows of a Parquet row group: large enough to compress well, small enough to hold (about 10 MB).
ROW_GROUP = 10_000

Writer = Callable[[IO[bytes], Sequence[Column], Iterable[Values]], int]


def write_csv(
    file: IO[bytes],
    columns: Sequence[Column],
    lines: Iterable[Values],
    *,
    delimiter: str = ",",
    mark: bool = False,
    no_formulas: bool = False,
) -> int:
    """UTF-8 with a header row; lists as JSON. Returns the lines written.

    `mark`: a byte order mark, without which Excel takes the file for another encoding. `no_formulas`: an apostrophe
    stands before what a spreadsheet would take for a formula: other people's text may be one that sends data away.
    """
    if mark:
        file.write(codecs.BOM_UTF8)
    table = csv.writer(_Utf8(file), delimiter=delimiter, lineterminator="\n")
    cell = without_formula if no_formulas else str
    table.writerow([cell(column.name) for column in columns])
    count = 0
    for count, line in enumerate(lines, start=1):  # noqa: B007  the last number is the count
        table.writerow([cell(as_text(*column.of(line))) for column in columns])
    return count


class _Utf8:
    """Text into a binary file, which stays open when a write fails (io.TextIOWrapper would close it)."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def write(self, text: str) -> int:
        return self._file.write(text.encode("utf-8", "replace"))


def write_jsonl(file: IO[bytes], columns: Sequence[Column], lines: Iterable[Values]) -> int:
    """One JSON object a line, numbers as numbers and lists as lists. Returns the lines written."""
    count = 0
    for count, line in enumerate(lines, start=1):  # noqa: B007  the last number is the count
        file.write(orjson.dumps(as_json(columns, line), option=orjson.OPT_APPEND_NEWLINE))
    return count


def with_own_types(
    columns: Sequence[Column], lines: Iterable[Values], *, mixes_numbers: bool = False
) -> tuple[Column, ...]:
    """The columns for Parquet: an own one is of numbers, or of true and false, where every line says so.

    Reads the lines up to the one that leaves nothing to find out: of a CSV's values, which are text, the first.
    `mixes_numbers`: 1 may become 1.0 beside 2.5. Not where the file may be a manifest again: "size 1.0" is paid anew.
    """
    types = _OWN_TYPES | (_MIXED_TYPES if mixes_numbers else {})
    unsure = [each for each in columns if each.type is Type.OWN and not each.instead_of]
    kinds: dict[str, frozenset[str]] = {each.name: frozenset() for each in unsure}
    for line in lines:
        for column in unsure:
            value = column.of(line)[1]
            if value is not None:
                kinds[column.name] |= {_kind(value)}
        unsure = [each for each in unsure if not kinds[each.name] or kinds[each.name] in types]
        if not unsure:
            break
    own = {name: types.get(found, Type.OWN) for name, found in kinds.items()}
    return tuple(replace(each, type=own.get(each.name, each.type)) for each in columns)


def _kind(value: Value) -> str:
    """What a value of JSON can stand beside in a column of one type."""
    if isinstance(value, bool):
        return "truth"
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return "integer" if abs(value) <= _EXACT else "large integer"
    return "number" if isinstance(value, float) else "text"


#: A float says every integer up to this one exactly.
_EXACT = 2**53
#: The type of a column whose values are all of these kinds; of others it is text.
_OWN_TYPES: dict[frozenset[str], Type] = {
    frozenset({"integer"}): Type.OWN_INTEGER,
    frozenset({"large integer"}): Type.OWN_INTEGER,
    frozenset({"integer", "large integer"}): Type.OWN_INTEGER,
    frozenset({"number"}): Type.OWN_NUMBER,
    frozenset({"truth"}): Type.OWN_TRUTH,
}
_MIXED_TYPES = {frozenset({"integer", "number"}): Type.OWN_NUMBER}


def write_parquet(file: IO[bytes], columns: Sequence[Column], lines: Iterable[Values]) -> int:
    """Typed columns, one row group after the other. Returns the lines written."""
    arrow, parquet = pyarrow_for("--format parquet")
    schema = arrow.schema([(column.name, arrow_type(arrow, _parquet_type(column))) for column in columns])
    count = 0
    with parquet.ParquetWriter(file, schema) as writer:
        for group in _groups(lines, ROW_GROUP):
            writer.write_table(arrow.table(_arrays(arrow, schema, columns, group), schema=schema))
            count += len(group)
    return count


WRITERS: dict[str, Writer] = {
    "csv": write_csv,
    "jsonl": write_jsonl,
    "parquet": write_parquet,
    "xlsx": write_xlsx,
}


# -- one value -----------------------------------------------------------------------------------------------------


def as_text(kind: Type, value: Value) -> str:
    """A value as CSV shows it; None is empty."""
    if value is None:
        return ""
    if isinstance(value, list | dict):
        return orjson.dumps(value).decode()
    return raw_text(value) if kind is Type.OWN else _TEXT[kind](value)


def as_json(columns: Sequence[Column], line: Values) -> dict[str, Value]:
    """A line as JSON shows it."""
    return {column.name: _json_value(*column.of(line)) for column in columns}


_TEXT: dict[Type, Callable[[Any], str]] = {
    Type.TEXT: str,
    Type.INTEGER: str,
    Type.MONEY: dollars,
    Type.TIME: utc,
    Type.TEXTS: str,
    Type.INTEGERS: str,
}


def _json_value(kind: Type, value: Value) -> Value:
    if value is None:
        return [] if kind in {Type.TEXTS, Type.INTEGERS} else None
    if kind is Type.MONEY and isinstance(value, int):
        return usd(value)
    if kind is Type.TIME and isinstance(value, int | float):
        return utc(value)
    return value


# -- Parquet -------------------------------------------------------------------------------------------------------


def pyarrow_for(what: str) -> tuple[Any, Any]:
    """The library of Arrow and its module for Parquet. `what`: the option that needs them.

    Raises:
        LightfastError: It is not installed.
    """
    try:
        import pyarrow as pa  # noqa: PLC0415  large, and optional
        from pyarrow import parquet  # noqa: PLC0415  the same
    except ImportError as error:
        raise LightfastError(f"{what} needs pyarrow, which is not installed:  pip install pyarrow") from error
    return pa, parquet


def arrow_type(arrow: Any, kind: Type) -> Any:
    """The type of a column in a table of Arrow."""
    return {
        Type.TEXT: arrow.string(),
        Type.OWN: arrow.string(),
        Type.OWN_INTEGER: arrow.int64(),
        Type.OWN_NUMBER: arrow.float64(),
        Type.OWN_TRUTH: arrow.bool_(),
        Type.INTEGER: arrow.int64(),
        Type.MONEY: arrow.float64(),
        Type.TIME: arrow.timestamp("ms", tz="UTC"),
        Type.TEXTS: arrow.list_(arrow.string()),
        Type.INTEGERS: arrow.list_(arrow.int64()),
    }[kind]


def _arrays(arrow: Any, schema: Any, columns: Sequence[Column], group: Sequence[Values]) -> list[Any]:
    return [
        arrow.array([arrow_value(_parquet_type(column), *column.of(line)) for line in group], type=field.type)
        for column, field in zip(columns, schema, strict=True)
    ]


def _parquet_type(column: Column) -> Type:
    """A column of Parquet has one type: text where a row's own value may stand in it."""
    return column.type if column.instead_of is None else Type.OWN


def arrow_value(wanted: Type, kind: Type, value: Value) -> Value:
    """A value of one kind as it stands in a column of the type that is wanted."""
    if wanted in {Type.TEXT, Type.OWN}:
        return None if value is None else as_text(kind, value)
    if kind is Type.TIME and isinstance(value, int | float):
        return round(value * 1000)
    if wanted is Type.OWN_NUMBER and isinstance(value, int):
        return float(value)
    return _json_value(kind, value)


def _groups(lines: Iterable[Values], size: int) -> Iterator[list[Values]]:
    lines = iter(lines)
    while group := list(itertools.islice(lines, size)):
        yield group
