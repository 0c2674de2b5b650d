"""Reads a manifest: CSV, JSON, OpenAI's batch format, .xlsx, Parquet or plain text, one row at a time.

    manifest = open_manifest(Path("products.csv"), name="products.csv", options=ReadOptions())
    for raw in manifest.rows():     # again and again: each call is a new pass over the file
        raw.line, raw.cells["Title"]

What is wrong with the file as a whole (bytes that are no text) is a `BadInput` that names the line; what is wrong with
one row only (too many cells, an unclosed quote, broken JSON) is the row's `fault`, for the planner to report. Rows in
which nothing stands are left out, and counted.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from jobs.errors import BadInput
from jobs.manifest.csv_layout import find_layout
from jobs.manifest.csv_rows import csv_rows
from jobs.manifest.encodings import encoding_of
from jobs.manifest.json_rows import REQUESTS, json_rows, json_shape
from jobs.manifest.kinds import FileKind, kind_of
from jobs.manifest.names import clean_name
from jobs.manifest.nested import MISSING, dotted_names, reach
from jobs.manifest.parquet_rows import parquet_rows, parquet_shape
from jobs.manifest.raw_rows import OWN_PREFIX, RawRow
from jobs.manifest.text import TextFile
from jobs.manifest.text_rows import COLUMN, text_rows
from jobs.manifest.xlsx_parts import Uncalculated
from jobs.manifest.xlsx_rows import Sheet, find_sheet, sheet_layout, xlsx_rows

#: Rows of JSON that are looked through for column names when the file is opened.
SCANNED_ROWS = 1_000
#: Different column names of one JSON file: beyond it the names are data.
COLUMN_LIMIT = 2_000

_JSON_LINES = (".jsonl", ".ndjson")
_KINDS = {FileKind.TEXT: "a text", FileKind.XLSX: "a workbook", FileKind.PARQUET: "a Parquet file"}
_JSON_LIST = re.compile(r"\[\s*[\[{\"\]]")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions:
    """How to read the file, where the file itself does not tell."""

    delimiter: str | None = None  # one character, or "tab"; None: found from the header
    encoding: str | None = None  # None: UTF-8, or as a byte order mark says
    header_row: int | None = None  # the header's line, from 1; None: found
    text: bool = False  # each line is a prompt
    sheet: str | None = None  # of a workbook; None: the first with rows
    names: frozenset[str] = frozenset()  # columns that the user names, by which delimiter and header are found
    endpoint: str = ""  # of OpenAI's API: each line is a request to it; "": as the file says


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A file that was looked at once, and can be read any number of times."""

    path: Path
    name: str  # as the user named it
    format: str  # "csv", "json", "openai-jsonl", "text", "xlsx", "parquet"
    looks: str  # how the file is read, for a person: "comma, UTF-8"
    delimiter: str = ""  # of a CSV
    unit: str = "line"  # what a row's number counts: "line", "row", "item"
    notes: tuple[str, ...] = ()  # what a person should know of how it is read
    _read: Callable[[], Iterator[RawRow]]  # one pass over the file, from its beginning
    _columns: dict[str, None]
    _order: tuple[str, ...] = ()  # of a CSV: its own columns, those without a name included
    header_line: int = 1
    lower_header: int | None = None  # a line that looks more like the header, where the first row may be a title
    repeated: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # name -> the columns that share it
    _passed: Counter[str] = field(default_factory=Counter)
    added: Mapping[str, str] = field(default_factory=dict)  # columns that the file does not have: the same in each row

    @property
    def columns(self) -> tuple[str, ...]:
        """The row's own columns, in order.

        Of JSON, and of columns without a name: those seen so far to hold something, all of them after one whole pass.
        """
        own = tuple(name for name in self._order if name in self._columns) or tuple(self._columns)
        return (*own, *self.added)

    @property
    def empty_rows(self) -> int:
        """Rows in which nothing stands, so far in the newest pass."""
        return self._passed["empty"]

    @property
    def longer_rows(self) -> tuple[int, int]:
        """How many rows have more cells than the header, so far in the newest pass, and the line of the first."""
        return self._passed["longer"], self._passed["first longer"]

    @property
    def is_sparse(self) -> bool:
        """Whether a row names its columns itself, so that a later one may have more of them."""
        return self.format in {"json", "openai-jsonl"}

    def has(self, name: str) -> bool:
        """Whether a column has this name, or a dotted name leads to something in the first rows."""
        if name in self._columns or name in self._order or name in self.added:
            return True
        if "." not in name:
            return False
        return any(reach(raw.carried, name) is not MISSING for raw in itertools.islice(self._read(), SCANNED_ROWS))

    def dotted_names(self) -> tuple[str, ...]:
        """What can be reached in the objects and lists of the first rows."""
        rows = itertools.islice(self._read(), SCANNED_ROWS)
        names = itertools.chain.from_iterable(dotted_names(raw.carried) for raw in rows)
        return tuple(dict.fromkeys(itertools.islice(names, COLUMN_LIMIT * SCANNED_ROWS)))[:COLUMN_LIMIT]

    def rows(self) -> Iterator[RawRow]:
        """One pass over the file; memory does not grow with it."""
        self._passed.clear()
        is_growing = self.is_sparse or len(self._columns) < len(self._order)
        for row in self._read():
            for text in row.cells.values():
                if text and not text.isspace():
                    break
            else:
                if row.fault is None and not row.wrong:
                    self._passed["empty"] += 1
                    continue
            if row.is_longer:
                self._passed["longer"] += 1
                self._passed.setdefault("first longer", row.line)
            if is_growing and not row.cells.keys() <= self._columns.keys():
                self._add_columns(row)
            yield row.with_cells(self.added) if self.added else row

    def _add_columns(self, row: RawRow) -> None:
        self._columns.update(dict.fromkeys(row.cells))
        if len(self._columns) > COLUMN_LIMIT:
            raise BadInput(f"{self.name}, line {row.line}: more than {COLUMN_LIMIT:,} different field names.")


def open_manifest(path: Path, *, name: str, options: ReadOptions) -> Manifest:
    """Looks at the file's beginning: format, encoding, delimiter, columns."""
    kind = kind_of(path, name)
    _check_options(kind, name, options)
    if kind is FileKind.XLSX:
        return _xlsx_manifest(path, name, options)
    if kind is FileKind.PARQUET:
        return _parquet_manifest(path, name)
    file = TextFile(path=path, name=name, encoding=encoding_of(path, name, options.encoding))
    if options.text:
        return _text_manifest(file)
    if options.endpoint or _is_json(file):
        return _json_manifest(file, options.names, options.endpoint)
    return _csv_manifest(file, options)


def _check_options(kind: FileKind, name: str, options: ReadOptions) -> None:
    """Refuses what says nothing about a file of this kind."""
    given = {
        "--text": options.text,
        "--delimiter": options.delimiter,
        "--header-row": options.header_row,
        "--encoding": options.encoding,
        "--sheet": options.sheet,
    }
    legal = {FileKind.XLSX: ("--sheet", "--header-row"), FileKind.PARQUET: ()}.get(kind)
    if legal is None:
        legal = ("--text", "--encoding") if options.text else ("--delimiter", "--header-row", "--encoding")
    for option in (each for each, value in given.items() if value and each not in legal):
        what = "--text has no columns" if options.text and kind is FileKind.TEXT else f"{name} is {_KINDS[kind]}"
        raise BadInput(f"{option} is not possible here: {what}.")


def _is_json(file: TextFile) -> bool:
    if file.name.lower().removesuffix(".gz").endswith((*_JSON_LINES, ".json")):
        return True
    with file.open() as text:
        start = text.read(4096).lstrip("\ufeff \t\r\n")
    if not start:
        raise BadInput(f"{file.name} is empty; the first line of a CSV names its columns.")
    return start.startswith("{") or _JSON_LIST.match(start) is not None


def _json_manifest(file: TextFile, wanted: Collection[str], endpoint: str) -> Manifest:
    is_lines = file.name.lower().removesuffix(".gz").endswith(_JSON_LINES)
    shape = REQUESTS if endpoint else json_shape(file, is_lines=is_lines, wanted=wanted)
    repeated: dict[str, tuple[str, ...]] = {}
    manifest = Manifest(
        path=file.path,
        name=file.name,
        format="openai-jsonl" if shape.is_openai else "json",
        looks=_looks(shape.looks, file),
        unit="line" if shape.has_lines else "item",
        repeated=repeated,
        _read=partial(json_rows, file, shape, repeated, endpoint),
        _columns={},
    )
    wrong = [row for row in itertools.islice(manifest.rows(), SCANNED_ROWS) if row.wrong]
    if wrong and not manifest.columns and not endpoint:
        raise BadInput(f"{file.name}, {manifest.unit} {wrong[0].line}: {wrong[0].wrong[0].legal}.")
    return manifest


def _looks(shape: str, file: TextFile) -> str:
    return f"{shape}, {file.encoding}"


def _text_manifest(file: TextFile) -> Manifest:
    return Manifest(
        path=file.path,
        name=file.name,
        format="text",
        looks=_looks("a prompt a line", file),
        _read=partial(text_rows, file),
        _columns={COLUMN: None},
    )


def _xlsx_manifest(path: Path, name: str, options: ReadOptions) -> Manifest:
    sheet = find_sheet(path, name, options.sheet)
    layout = sheet_layout(sheet, header_row=options.header_row, wanted=frozenset(map(clean_name, options.names)))
    empty = sheet.uncalculated()
    note = (
        f"{_formulas(empty, sheet)} without a value, and {'is' if empty.cells == 1 else 'are'} taken for empty: "
        "open the file in Excel or LibreOffice and save it, so that it is calculated"
    )
    return Manifest(
        path=path,
        name=name,
        format="xlsx",
        looks=str(layout),
        unit="row",
        notes=(note,) if empty.cells else (),
        header_line=layout.line,
        lower_header=layout.perhaps,
        repeated=layout.header.repeated,
        _read=partial(xlsx_rows, layout),
        _columns=dict.fromkeys(layout.header.own),
        _order=tuple(name for name in layout.header.names if not name.startswith(OWN_PREFIX)),
    )


def _formulas(empty: Uncalculated, sheet: Sheet) -> str:
    if empty.cells == 1:
        return f'cell {empty.first} of sheet "{sheet.title}" has a formula'
    return f'{empty.cells:,} cells of sheet "{sheet.title}", the first {empty.first}, have a formula'


def _parquet_manifest(path: Path, name: str) -> Manifest:
    shape = parquet_shape(path, name)
    left_out = ", ".join(shape.left_out)
    return Manifest(
        path=path,
        name=name,
        format="parquet",
        looks="parquet",
        unit="row",
        notes=(f"bytes are not read, and are not in the results: {left_out}",) if left_out else (),
        repeated=shape.repeated,
        _read=partial(parquet_rows, path, name, shape),
        _columns=dict.fromkeys(shape.columns),
    )


def _csv_manifest(file: TextFile, options: ReadOptions) -> Manifest:
    layout = find_layout(
        file,
        delimiter=delimiter_of(options.delimiter) if options.delimiter else None,
        header_row=options.header_row,
        wanted=frozenset(map(clean_name, options.names)),
    )
    return Manifest(
        path=file.path,
        name=file.name,
        format="csv",
        looks=_looks(str(layout), file),
        delimiter=layout.form.delimiter,
        header_line=layout.line,
        lower_header=layout.perhaps,
        repeated=layout.header.repeated,
        _read=partial(csv_rows, file, layout),
        _columns=dict.fromkeys(layout.header.own),
        _order=tuple(name for name in layout.header.names if not name.startswith(OWN_PREFIX)),
    )


def delimiter_of(asked: str) -> str:
    """The character that `--delimiter` means."""
    words = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|"}
    delimiter = words.get(asked, asked)
    if len(delimiter) != 1 or delimiter in '"\r\n\0 ':
        raise BadInput(f'--delimiter "{asked}" is not possible; it is one character, such as , ; | or the word tab.')
    return delimiter
