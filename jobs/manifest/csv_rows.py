"""The rows of a CSV, one at a time, with the line each begins on; an unclosed quote is named where it opens."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterable, Iterator
from typing import IO

from jobs.errors import BadInput
from jobs.manifest.raw_rows import OWN_PREFIX, RawRow
from jobs.manifest.text import CELL_LIMIT, LongLine, TextFile, too_long


def csv_rows(file: TextFile, delimiter: str) -> Iterator[RawRow]:
    """One pass over the file."""
    with file.open() as text:
        reader = _CsvReader(text, file, delimiter)
        names = next(iter(reader))[1]
        keep = [not name.startswith(OWN_PREFIX) for name in names]
        columns = list(itertools.compress(names, keep))
        width, all_own = len(names), all(keep)
        for position, (line, values) in enumerate(reader):
            own = values if all_own else list(itertools.compress(values, keep))
            cells = dict(zip(columns, own, strict=False))
            fault = None if len(values) == width else f"{len(values)} cells where the header has {width}"
            yield RawRow(position, line, cells, cells, fault)


def header(file: TextFile, delimiter: str) -> list[str]:
    """The names on the first line, read with this delimiter."""
    with file.open() as text:
        return next(iter(_CsvReader(text, file, delimiter)), (1, [""]))[1]


class _CsvReader:
    """Rows of a CSV with the line each begins on; blank lines are left out."""

    def __init__(self, text: IO[str], file: TextFile, delimiter: str) -> None:
        csv.field_size_limit(CELL_LIMIT)
        self._file = file
        self._delimiter = delimiter
        self._reader = csv.reader(text, delimiter=delimiter, strict=True)
        self._line = 1

    def __iter__(self) -> Iterator[tuple[int, list[str]]]:
        try:
            for values in self._reader:
                line, self._line = self._line, self._reader.line_num + 1
                if values:
                    yield line, values
        except csv.Error as error:
            raise BadInput(_quote_problem(self._file, self._delimiter, self._line, error)) from error
        except LongLine:
            raise too_long(self._file.name, self._reader.line_num + 1) from None


def _quote_problem(file: TextFile, delimiter: str, row_line: int, error: csv.Error) -> str:
    """Names the line where the quote opened, which may be far above the one that broke."""
    with file.open() as text:
        lines = itertools.islice(text, row_line - 1, None)
        opened, closed = _last_quote(lines, row_line, delimiter)
    where = f"{file.name}, line {opened or row_line}"
    if "field larger" in str(error):
        return str(too_long(file.name, opened or row_line))
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
