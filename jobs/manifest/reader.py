"""Reads a manifest: CSV, JSON or OpenAI's batch format, plain or gzipped, one row at a time.

    manifest = open_manifest(Path("products.csv"), name="products.csv", options=ReadOptions())
    for raw in manifest.rows():     # again and again: each call is a new pass over the file
        raw.line, raw.cells["Title"]

What is wrong with the file as a whole (bad UTF-8, an unclosed quote, broken JSON) is a `BadInput` that names the line;
what is wrong with one row only (too many cells) is the row's `fault`, for the planner to report.
"""

from __future__ import annotations

import codecs
import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from jobs.errors import BadInput
from jobs.manifest.csv_rows import csv_rows, header
from jobs.manifest.json_rows import json_rows, json_shape
from jobs.manifest.nested import MISSING, dotted_names, reach
from jobs.manifest.raw_rows import KNOWN_COLUMNS, OWN_PREFIX, RawRow
from jobs.manifest.text import TextFile

#: Rows of JSON that are looked through for column names when the file is opened.
SCANNED_ROWS = 1_000
#: Different column names of one JSON file: beyond it the names are data.
COLUMN_LIMIT = 2_000

_DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab"}
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
    encoding: str | None = None  # None: UTF-8


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

    @property
    def columns(self) -> tuple[str, ...]:
        """The row's own columns, in order. Of JSON: those seen so far, all of them after one whole pass."""
        return tuple(self._columns)

    @property
    def is_sparse(self) -> bool:
        """Whether a row names its columns itself, so that a later one may have more of them."""
        return self.format in {"json", "openai-jsonl"}

    def has(self, name: str) -> bool:
        """Whether a column has this name, or a dotted name leads to something in the first rows."""
        if name in self._columns or "." not in name:
            return name in self._columns
        return any(reach(raw.carried, name) is not MISSING for raw in itertools.islice(self._read(), SCANNED_ROWS))

    def dotted_names(self) -> tuple[str, ...]:
        """What can be reached in the objects and lists of the first rows."""
        rows = itertools.islice(self._read(), SCANNED_ROWS)
        names = itertools.chain.from_iterable(dotted_names(raw.carried) for raw in rows)
        return tuple(dict.fromkeys(itertools.islice(names, COLUMN_LIMIT * SCANNED_ROWS)))[:COLUMN_LIMIT]

    def rows(self) -> Iterator[RawRow]:
        """One pass over the file; memory does not grow with it."""
        return self._growing() if self.is_sparse else self._read()

    def _growing(self) -> Iterator[RawRow]:
        for row in self._read():
            if not row.cells.keys() <= self._columns.keys():
                self._add_columns(row)
            yield row

    def _add_columns(self, row: RawRow) -> None:
        self._columns.update(dict.fromkeys(row.cells))
        if len(self._columns) > COLUMN_LIMIT:
            raise BadInput(f"{self.name}, line {row.line}: more than {COLUMN_LIMIT:,} different field names.")


def open_manifest(path: Path, *, name: str, options: ReadOptions) -> Manifest:
    """Looks at the file's beginning: format, encoding, delimiter, columns."""
    _check_file(path, name)
    file = TextFile(path=path, name=name, encoding=_encoding(options.encoding))
    return _json_manifest(file) if _is_json(file) else _csv_manifest(file, options.delimiter)


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


def _encoding(asked: str | None) -> str:
    try:
        name = codecs.lookup(asked or "utf-8").name
        "".encode(name)  # refuses what is a codec and no text, such as base64
    except (LookupError, UnicodeError):  # Python's own "undefined" refuses everything
        raise BadInput(f'--encoding "{asked}" is not known; for example utf-8, cp1252, utf-16.') from None
    return "utf-8-sig" if name == "utf-8" else name


def _is_json(file: TextFile) -> bool:
    if file.name.lower().removesuffix(".gz").endswith((*_JSON_LINES, ".json")):
        return True
    with file.open() as text:
        start = text.read(4096).lstrip()
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
    return f"{shape}, {'UTF-8' if file.encoding == 'utf-8-sig' else file.encoding}"


def _csv_manifest(file: TextFile, asked: str | None) -> Manifest:
    delimiter = delimiter_of(asked) if asked else max(_DELIMITERS, key=lambda each: _score(file, each))
    names = header(file, delimiter)
    repeated = [name for name, times in Counter(names).items() if times > 1]
    if repeated:
        shown = ", ".join(f'"{name}"' for name in repeated)
        raise BadInput(f"{file.name}, line 1: column {shown} is named more than once; each needs its own name.")
    return Manifest(
        path=file.path,
        name=file.name,
        format="csv",
        looks=_looks(_DELIMITERS.get(delimiter, delimiter), file),
        delimiter=delimiter,
        _read=partial(csv_rows, file, delimiter),
        _columns=dict.fromkeys(name for name in names if not name.startswith(OWN_PREFIX)),
    )


def delimiter_of(asked: str) -> str:
    """The character that `--delimiter` means."""
    delimiter = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";"}.get(asked, asked)
    if len(delimiter) != 1 or delimiter in '"\r\n\0 ':
        raise BadInput(f'--delimiter "{asked}" is not possible; it is one character, such as , ; | or the word tab.')
    return delimiter


def _score(file: TextFile, delimiter: str) -> tuple[int, int]:
    """The delimiter that shows more known columns, then more columns at all."""
    try:
        names = header(file, delimiter)
    except BadInput:  # with this one the header is no CSV
        return -1, 0
    return sum(name in KNOWN_COLUMNS for name in names), len(names)
