"""Reads a manifest: CSV, JSON or OpenAI's batch format, plain or gzipped, one row at a time.

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
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from jobs.errors import BadInput
from jobs.manifest.csv_layout import find_layout
from jobs.manifest.csv_rows import csv_rows
from jobs.manifest.encodings import encoding_of
from jobs.manifest.json_rows import json_rows, json_shape
from jobs.manifest.names import clean_name
from jobs.manifest.nested import MISSING, dotted_names, reach
from jobs.manifest.raw_rows import OWN_PREFIX, RawRow
from jobs.manifest.text import TextFile

#: Rows of JSON that are looked through for column names when the file is opened.
SCANNED_ROWS = 1_000
#: Different column names of one JSON file: beyond it the names are data.
COLUMN_LIMIT = 2_000

_JSON_LINES = (".jsonl", ".ndjson")
_JSON_LIST = re.compile(r"\[\s*[\[{\"\]]")
_NOT_TEXT = {
    b"PK\x03\x04": "looks like a spreadsheet (.xlsx) or a zip file: export it as CSV",
    b"PAR1": "is a Parquet file: export it as CSV or JSONL",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions:
    """How to read the file, where the file itself does not tell."""

    delimiter: str | None = None  # one character, or "tab"; None: found from the header
    encoding: str | None = None  # None: UTF-8, or as a byte order mark says
    header_row: int | None = None  # the header's line, from 1; None: found
    names: frozenset[str] = frozenset()  # columns that the user names, by which delimiter and header are found


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A file that was looked at once, and can be read any number of times."""

    path: Path
    name: str  # as the user named it
    format: str  # "csv", "json", "openai-jsonl"
    looks: str  # how the file is read, for a person: "comma, UTF-8"
    delimiter: str = ""  # of a CSV
    _read: Callable[[], Iterator[RawRow]]  # one pass over the file, from its beginning
    _columns: dict[str, None]
    _order: tuple[str, ...] = ()  # of a CSV: its own columns, those without a name included
    header_line: int = 1
    lower_header: int | None = None  # a line that looks more like the header, where the first row may be a title
    repeated: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # name -> the columns that share it
    _passed: Counter[str] = field(default_factory=Counter)

    @property
    def columns(self) -> tuple[str, ...]:
        """The row's own columns, in order.

        Of JSON, and of columns without a name: those seen so far to hold something, all of them after one whole pass.
        """
        return tuple(name for name in self._order if name in self._columns) or tuple(self._columns)

    @property
    def empty_rows(self) -> int:
        """Rows in which nothing stands, so far in the newest pass."""
        return self._passed["empty"]

    @property
    def is_sparse(self) -> bool:
        """Whether a row names its columns itself, so that a later one may have more of them."""
        return self.format in {"json", "openai-jsonl"}

    def has(self, name: str) -> bool:
        """Whether a column has this name, or a dotted name leads to something in the first rows."""
        if name in self._columns or name in self._order:
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
            if is_growing and not row.cells.keys() <= self._columns.keys():
                self._add_columns(row)
            yield row

    def _add_columns(self, row: RawRow) -> None:
        self._columns.update(dict.fromkeys(row.cells))
        if len(self._columns) > COLUMN_LIMIT:
            raise BadInput(f"{self.name}, line {row.line}: more than {COLUMN_LIMIT:,} different field names.")


def open_manifest(path: Path, *, name: str, options: ReadOptions) -> Manifest:
    """Looks at the file's beginning: format, encoding, delimiter, columns."""
    _check_file(path, name)
    file = TextFile(path=path, name=name, encoding=encoding_of(path, name, options.encoding))
    return _json_manifest(file) if _is_json(file) else _csv_manifest(file, options)


def _check_file(path: Path, name: str) -> None:
    try:
        with path.open("rb") as file:
            head = file.read(4)
    except FileNotFoundError:
        raise BadInput(f"{name}: there is no such file.") from None
    except IsADirectoryError:
        raise BadInput(f"{name} is a folder; a manifest is one file, such as a CSV.") from None
    except OSError as error:
        raise BadInput(f"{name} cannot be read: {error.strerror}.") from error
    if not head:
        raise BadInput(f"{name} is empty; the first line of a CSV names its columns.")
    for magic, what in _NOT_TEXT.items():
        if head.startswith(magic):
            raise BadInput(f"{name} {what}.")


def _is_json(file: TextFile) -> bool:
    if file.name.lower().removesuffix(".gz").endswith((*_JSON_LINES, ".json")):
        return True
    with file.open() as text:
        start = text.read(4096).lstrip("\ufeff \t\r\n")
    if not start:
        raise BadInput(f"{file.name} is empty; the first line of a CSV names its columns.")
    return start.startswith("{") or _JSON_LIST.match(start) is not None


def _json_manifest(file: TextFile) -> Manifest:
    shape = json_shape(file, is_lines=file.name.lower().removesuffix(".gz").endswith(_JSON_LINES))
    manifest = Manifest(
        path=file.path,
        name=file.name,
        format="openai-jsonl" if shape.is_openai else "json",
        looks=_looks(shape.looks, file),
        _read=partial(json_rows, file, shape),
        _columns={},
    )
    for _ in itertools.islice(manifest.rows(), SCANNED_ROWS):
        pass
    return manifest


def _looks(shape: str, file: TextFile) -> str:
    return f"{shape}, {file.encoding}"


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
        delimiter=layout.delimiter,
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
