"""Reads a manifest: CSV, JSONL or OpenAI's batch format, plain or gzipped, one row at a time.

    manifest = open_manifest(Path("products.csv"), name="products.csv", options=ReadOptions())
    for raw in manifest.rows():     # again and again: each call is a new pass over the file
        raw.line, raw.cells["Title"]

What is wrong with the file as a whole (bad UTF-8, an unclosed quote, broken JSON) is a `BadInput` that names the line;
what is wrong with one row only (too many cells) is the row's `fault`, for the planner to report.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import itertools
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple, cast

import orjson

from jobs.errors import BadInput

#: The columns Lightfast understands; all others are carried.
KNOWN_COLUMNS = (
    "key",
    "prompt",
    "model",
    "provider",
    "ratio",
    "resolution",
    "size",
    "n",
    "image_urls",
    "quality",
    "options",
)
#: Columns of this beginning are Lightfast's own results; a results file read as a manifest goes without them.
OWN_PREFIX = "lf_"
#: Characters of one cell. A prompt is far below; beyond it is an unclosed quote or a wrong file.
CELL_LIMIT = 1_000_000
#: Bytes of one line: a cell of four-byte characters, and as much again. Keeps memory bounded before a line is whole.
LINE_LIMIT = 8_000_000
#: Rows of JSONL that are looked through for column names when the file is opened.
SCANNED_ROWS = 1_000
#: Different column names of one JSONL file: beyond it the names are data.
COLUMN_LIMIT = 2_000

_DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab"}
_GZIP = b"\x1f\x8b"
_NOT_TEXT = {
    b"PK\x03\x04": "looks like a spreadsheet (.xlsx) or a zip file: export it as CSV",
    b"PAR1": "is a Parquet file: export it as CSV or JSONL",
}
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
#: Fields of OpenAI's body that say how the answer comes back, which here is always the bucket.
_ANSWER_FIELDS = frozenset({"response_format", "stream", "user"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions:
    """How to read the file, where the file itself does not tell."""

    delimiter: str | None = None  # one character, or "tab"; None: found from the header
    encoding: str | None = None  # None: UTF-8


class RawRow(NamedTuple):
    """One row as it stands in the file. A plain tuple: a million are made."""

    position: int  # 0, 1, 2 …
    line: int  # physical line it begins on, from 1
    cells: Mapping[str, str]  # the row's own columns in order; what is no text is kept as JSON text, null as ""
    fields: Mapping[str, str]  # where known columns and templates look: `cells`, or the body of OpenAI's format
    fault: str | None = None  # why it cannot be a row at all


@dataclass(slots=True, kw_only=True)
class Manifest:
    """A file that was looked at once, and can be read any number of times."""

    path: Path
    name: str  # as the user named it
    format: str  # "csv", "jsonl", "openai-jsonl"
    encoding: str
    delimiter: str | None  # of a CSV
    _columns: dict[str, None]

    @property
    def columns(self) -> tuple[str, ...]:
        """The row's own columns, in order. Of JSONL: those seen so far, all of them after one whole pass."""
        return tuple(self._columns)

    @property
    def looks(self) -> str:
        """How the file is read, for a person: "comma, UTF-8"."""
        shape = _DELIMITERS.get(self.delimiter or "", self.delimiter) or self.format
        return f"{shape}, {'UTF-8' if self.encoding == 'utf-8-sig' else self.encoding}"

    def rows(self) -> Iterator[RawRow]:
        """One pass over the file; memory does not grow with it."""
        with _open_text(self.path, self.name, self.encoding) as text:
            yield from self._csv_rows(text) if self.format == "csv" else self._json_rows(text)

    def _csv_rows(self, text: IO[str]) -> Iterator[RawRow]:
        reader = _CsvReader(text, self)
        names = next(iter(reader))[1]
        keep = [not name.startswith(OWN_PREFIX) for name in names]
        columns = list(itertools.compress(names, keep))
        width, all_own = len(names), all(keep)
        for position, (line, values) in enumerate(reader):
            own = values if all_own else list(itertools.compress(values, keep))
            cells = dict(zip(columns, own, strict=False))
            fault = None if len(values) == width else f"{len(values)} cells where the header has {width}"
            yield RawRow(position, line, cells, cells, fault)

    def _json_rows(self, text: IO[str]) -> Iterator[RawRow]:
        read = _openai_row if self.format == "openai-jsonl" else _json_row
        for position, (line, values) in enumerate(_objects(text, self.name)):
            row = read(position, line, values)
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
    manifest = Manifest(
        path=path,
        name=name,
        encoding=_encoding(options.encoding),
        format=_found_format(path, name, _encoding(options.encoding)),
        delimiter=None,
        _columns={},
    )
    if manifest.format == "csv":
        return _with_header(manifest, options.delimiter)
    return _with_first_rows(manifest)


# -- the file's beginning ------------------------------------------------------------------------------------------


def _check_file(path: Path, name: str) -> None:
    try:
        with path.open("rb") as file:
            head = file.read(4)
    except FileNotFoundError:
        raise BadInput(f"{name}: there is no such file.") from None
    except IsADirectoryError:
        raise BadInput(f"{name} is a folder; a manifest is one CSV or JSONL file.") from None
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
    except LookupError:
        raise BadInput(f'--encoding "{asked}" is not known; for example utf-8, cp1252, utf-16.') from None
    return "utf-8-sig" if name == "utf-8" else name


def _found_format(path: Path, name: str, encoding: str) -> str:
    if name.lower().removesuffix(".gz").endswith((".jsonl", ".ndjson")):
        return "jsonl"
    with _open_text(path, name, encoding) as text:
        start = text.read(4096).lstrip()
    if not start:
        raise BadInput(f"{name} is empty; the first line of a CSV names its columns.")
    if start.startswith(("[{", "[\n", "[\r", "[ ")):
        raise BadInput(f"{name} is one JSON array; write one object a line (JSONL), or a CSV.")
    return "jsonl" if start.startswith("{") else "csv"


def _with_first_rows(manifest: Manifest) -> Manifest:
    with _open_text(manifest.path, manifest.name, manifest.encoding) as text:
        first = next(iter(_objects(text, manifest.name)), None)
    if first is None:
        raise BadInput(f"{manifest.name} is empty; a JSONL file has one object a line.")
    if "custom_id" in first[1] and isinstance(first[1].get("body"), dict):
        manifest.format = "openai-jsonl"
    for _ in itertools.islice(manifest.rows(), SCANNED_ROWS):
        pass
    return manifest


def _with_header(manifest: Manifest, asked: str | None) -> Manifest:
    manifest.delimiter = _delimiter(asked) if asked else max(_DELIMITERS, key=lambda each: _score(manifest, each))
    names = _header(manifest, manifest.delimiter)
    repeated = [name for name, times in Counter(names).items() if times > 1]
    if repeated:
        shown = ", ".join(f'"{name}"' for name in repeated)
        raise BadInput(f"{manifest.name}, line 1: column {shown} is named more than once; each needs its own name.")
    manifest._columns.update(dict.fromkeys(name for name in names if not name.startswith(OWN_PREFIX)))  # noqa: SLF001  built here
    return manifest


def _delimiter(asked: str) -> str:
    delimiter = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";"}.get(asked, asked)
    if len(delimiter) != 1 or delimiter in '"\r\n\0 ':
        raise BadInput(f'--delimiter "{asked}" is not possible; it is one character, such as , ; | or the word tab.')
    return delimiter


def _score(manifest: Manifest, delimiter: str) -> tuple[int, int]:
    """The delimiter that shows more known columns, then more columns at all."""
    try:
        names = _header(manifest, delimiter)
    except BadInput:  # with this one the header is no CSV
        return -1, 0
    return sum(name in KNOWN_COLUMNS for name in names), len(names)


def _header(manifest: Manifest, delimiter: str) -> list[str]:
    with _open_text(manifest.path, manifest.name, manifest.encoding) as text:
        manifest.delimiter = delimiter
        return next(iter(_CsvReader(text, manifest)), (1, [""]))[1]


# -- text ----------------------------------------------------------------------------------------------------------


class _LongLine(Exception):  # noqa: N818  caught where the line's number is known
    """A line beyond LINE_LIMIT."""


class _BoundedLines(io.BufferedIOBase):
    """Passes bytes on, and stops at a line that would not fit in memory."""

    def __init__(self, inner: IO[bytes]) -> None:
        self._inner = inner
        self._length = 0

    def readable(self) -> bool:
        """Always."""
        return True

    def read1(self, size: int = -1, /) -> bytes:
        """What the text layer asks for."""
        data = cast("io.BufferedReader", self._inner).read1(size)
        end = max(data.rfind(b"\n"), data.rfind(b"\r"))
        self._length = len(data) - end - 1 + (self._length if end < 0 else 0)
        if self._length > LINE_LIMIT:
            raise _LongLine
        return data


@contextmanager
def _open_text(path: Path, name: str, encoding: str) -> Iterator[IO[str]]:
    with _open_bytes(path) as raw:
        try:
            # Line ends stay as they are: inside quotes they belong to the cell.
            yield io.TextIOWrapper(cast("IO[bytes]", _BoundedLines(raw)), encoding=encoding, newline="")
        except UnicodeError as error:
            raise BadInput(_bad_text(path, name, encoding)) from error
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise BadInput(f"{name} is a damaged gzip file: {error}.") from error


@contextmanager
def _open_bytes(path: Path) -> Iterator[IO[bytes]]:
    with path.open("rb") as file:
        if file.peek(2).startswith(_GZIP):
            with gzip.open(file) as unpacked:
                yield cast("IO[bytes]", unpacked)
        else:
            yield file


def _bad_text(path: Path, name: str, encoding: str) -> str:
    """Reads again, slowly, to name the line."""
    with _open_bytes(path) as raw:
        head = raw.read(4)
    if encoding == "utf-8-sig" and head.startswith(_UTF_16):
        return f"{name} is UTF-16, not UTF-8: give --encoding utf-16, or export it as UTF-8."
    shown = "UTF-8" if encoding == "utf-8-sig" else encoding
    line, byte = _first_bad_byte(path, encoding)
    return (
        f"{name}, line {line}: byte 0x{byte:02x} is not {shown}. "
        "Export the file as UTF-8, or say what it is: --encoding cp1252 (Excel on Windows), utf-16 …"
    )


def _first_bad_byte(path: Path, encoding: str) -> tuple[int, int]:
    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder(encoding)(), translate=True)
    line, byte = 1, 0
    with _open_bytes(path) as raw:
        try:
            for chunk in iter(lambda: raw.read(1 << 16), b""):
                for byte in chunk:
                    line += decoder.decode(bytes((byte,))).count("\n")
            decoder.decode(b"", final=True)
        except UnicodeError:
            pass
    return line, byte


# -- CSV -----------------------------------------------------------------------------------------------------------


class _CsvReader:
    """Rows of a CSV with the line each begins on; blank lines are left out."""

    def __init__(self, text: IO[str], manifest: Manifest) -> None:
        csv.field_size_limit(CELL_LIMIT)
        self._manifest = manifest
        self._reader = csv.reader(text, delimiter=manifest.delimiter or ",", strict=True)
        self._line = 1

    def __iter__(self) -> Iterator[tuple[int, list[str]]]:
        try:
            for values in self._reader:
                line, self._line = self._line, self._reader.line_num + 1
                if values:
                    yield line, values
        except csv.Error as error:
            raise BadInput(_quote_problem(self._manifest, self._line, error)) from error
        except _LongLine:
            raise _too_long(self._manifest.name, self._reader.line_num + 1) from None


def _too_long(name: str, line: int) -> BadInput:
    return BadInput(
        f"{name}, line {line}: a cell is longer than {CELL_LIMIT:,} characters. "
        "Perhaps a quote is not closed, or this is no manifest."
    )


def _quote_problem(manifest: Manifest, row_line: int, error: csv.Error) -> str:
    """Names the line where the quote opened, which may be far above the one that broke."""
    with _open_text(manifest.path, manifest.name, manifest.encoding) as text:
        lines = itertools.islice(text, row_line - 1, None)
        opened, closed = _last_quote(lines, row_line, manifest.delimiter or ",")
    where = f"{manifest.name}, line {opened or row_line}"
    if "field larger" in str(error):
        return str(_too_long(manifest.name, opened or row_line))
    if closed is None:
        return f'{where}: a quote (") that opens here is never closed.'
    return (
        f'{where}: the quote (") that opens here closes on line {closed} in the middle of a cell. '
        'Inside quotes a quote is written twice ("").'
    )


def _last_quote(lines: Iterable[str], line: int, delimiter: str) -> tuple[int | None, int | None]:
    """Where the last quoted cell opened, and where it closed (None: never), up to the place where the CSV breaks."""
    opened = closed = None
    inside, fresh, length = False, True, 0  # fresh: at a cell's beginning
    for number, text in enumerate(lines, line):
        for char in text:
            length += 1
            if length > CELL_LIMIT:
                return opened, closed
            if inside:
                if char == '"':
                    inside, closed = False, number
            elif char == '"' and (fresh or closed is not None):
                inside, opened, closed = True, (number if fresh else opened), None
            elif char == delimiter or char in "\r\n":
                fresh, length, closed = True, 0, None
                continue
            elif closed is not None:
                return opened, closed
            fresh = False
    return opened, closed


# -- JSONL ---------------------------------------------------------------------------------------------------------


def _objects(text: IO[str], name: str) -> Iterator[tuple[int, dict[str, object]]]:
    line = 0
    try:
        for line, content in enumerate(text, 1):
            if content.strip():
                yield line, _object(content, name, line)
    except _LongLine:
        raise _too_long(name, line + 1) from None


def _object(content: str, name: str, line: int) -> dict[str, object]:
    try:
        values = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise BadInput(f"{name}, line {line}, character {error.colno}: broken JSON: {error.msg}.") from error
    if not isinstance(values, dict):
        raise BadInput(f"{name}, line {line}: not a JSON object; each line of JSONL is one {{…}}.")
    if len(content) > CELL_LIMIT and any(len(_text(value)) > CELL_LIMIT for value in values.values()):
        raise _too_long(name, line)
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
