"""The records of a CSV, one at a time; one that breaks costs one row, whatever follows it.

The file is read strictly, so that a stray quote is noticed where a lenient reader would swallow rows. When a record
breaks, its first physical line alone is read in another way or given up, and strict reading goes on with the line after
it. A record that is whole and fits the header is believed; only between tabs, which nobody writes inside quotes, lines
that could each be a row are rows.
"""

from __future__ import annotations

import csv
import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO

from jobs.formatting import count
from jobs.manifest.names import clean_name
from jobs.manifest.raw_rows import Fault
from jobs.manifest.text import CELL_LIMIT, LINE_LIMIT, TOO_LONG, bounded_lines, leave_line

#: The line that a record begins on, its cells, and why it can be no row.
Record = tuple[int, list[str], Fault | None]

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "pipe"}
#: Characters of a line that is given up that are kept, to name it by.
_KEPT = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordFormat:
    """How records are written."""

    delimiter: str
    skip: int = 0  # physical lines above the first record
    width: int | None = None  # cells of the header; None while it is being looked for
    least: int = 0  # cells that a row must have; columns without a name at the end may be missing
    spaced: bool = False  # blanks stand between a delimiter and the cell


class RecordReader:
    """Iterates over records. Blank lines are left out."""

    def __init__(self, text: IO[str], form: RecordFormat) -> None:
        csv.field_size_limit(CELL_LIMIT)
        self._text = text
        self._form = form
        self._delimiter = form.delimiter
        self._width = form.width
        self._taken: list[str] = []  # physical lines of the present record
        self.longer = 0  # the line of the last record that had more cells than the header, the rest of them empty
        self._again: deque[str] = deque()  # lines of a record that broke, to be read as records of their own

    def __iter__(self) -> Iterator[Record]:
        line = 1 + sum(1 for _ in itertools.islice(bounded_lines(self._text), self._form.skip))
        taken, width = self._taken, self._width
        is_tabbed = self._delimiter == "\t"
        reader = self._strict()
        while True:
            try:
                values = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                values, fault = self._broken(line, error)
                reader = self._strict()
            else:
                fault = None
                is_plain = len(values) == width and (len(taken) == 1 or not is_tabbed)
                if not is_plain and values and width is not None:
                    values, fault = self._misfit(line, values)
                    reader = self._strict() if self._again else reader
            if values:
                yield line, values, fault
            line += len(taken)
            taken.clear()

    def _strict(self) -> Iterator[list[str]]:
        return self._reader(self._source(), strict=True)

    def _reader(self, lines: Iterable[str], *, strict: bool, escape: str | None = None) -> Iterator[list[str]]:
        form = self._form
        return csv.reader(
            lines, delimiter=form.delimiter, skipinitialspace=form.spaced, escapechar=escape, strict=strict
        )

    def _source(self) -> Iterator[str]:
        again, take, readline = self._again, self._taken.append, self._text.readline
        while again:
            take(again[0])
            yield again.popleft()
        while line := readline(LINE_LIMIT):
            if len(line) == LINE_LIMIT:
                leave_line(self._text, line)
            take(line)
            yield line

    def _fitting(self, values: list[str]) -> list[str] | None:
        """The cells, as many as the header's: empty ones beyond it go, those of nameless columns may be missing."""
        width = self._width
        if width is None:
            return values
        if len(values) < self._form.least or any(map(str.strip, values[width:])):
            return None
        return values[:width] + [""] * (width - len(values))

    def _misfit(self, line: int, values: list[str]) -> tuple[list[str], Fault | None]:
        """A record that is whole, with more or fewer cells than the header; or of several lines, with tabs."""
        taken = self._taken
        fitting = self._fitting(values)
        if fitting is not None and not (self._delimiter == "\t" and len(taken) > 1 and self._are_rows(taken)):
            self.longer = line if len(values) > len(fitting) else self.longer
            return fitting, None
        if not any(map(clean_name, values)):  # a DOS file's end, NULs of a disk that was full
            return [""], None
        fault = f"{count(len(values), 'cell')} where the header has {self._width}"
        if len(taken) > 1 and all(map(self._is_row, taken)):
            fault = f'a quote (") that opens here closes on line {line + len(taken) - 1}, which makes {fault}. {_TWICE}'
            return self._first_line(fault, is_open=True)
        if len(taken) == 1 and (escaped := self._escaped(taken[0])) is not None:
            return escaped, None
        if len(values) > (self._width or 0):
            return values, Fault(f"{fault}; a cell that holds the delimiter must stand in quotes")
        is_end = not taken[-1].endswith(("\n", "\r"))
        is_note = not is_end and sum(map(bool, map(str.strip, values))) == 1
        return values, Fault(f"{'the file ends in the middle of this line: ' * is_end}{fault}", is_note=is_note)

    def _are_rows(self, lines: Sequence[str]) -> bool:
        """Whether lines between tabs are rows of their own, though their quotes would make one record of them.

        A record without tabs inside its quotes has on no line as many cells as the header. One that has a tab there
        is told by a quote that stands alone, or by a line that begins with the tab.
        """
        each = [self._literal(line) for line in lines]
        return (self._width or 0) > 1 and all(
            len(cells) == self._width and cells[0].strip() and '"' not in map(str.strip, cells) for cells in each
        )

    def _is_row(self, line: str) -> bool:
        """Whether a physical line could be a row of its own."""
        return any(self._fitting(cells) is not None for cells in (self._literal(line), self._lenient(line)))

    def _broken(self, line: int, error: csv.Error) -> tuple[list[str], Fault | None]:
        """A record that ends at a quote, at the file's end, or where a cell is too long."""
        why = str(error)
        is_open = len(self._taken) > 1 or "unexpected end" in why
        fault = TOO_LONG if "field larger" in why else self._quote_problem(line)
        return self._first_line(fault, is_open=is_open)

    def _quote_problem(self, line: int) -> str:
        """Names the line where the quote opens, which may be far above the one that breaks."""
        opened, closed = _last_quote(self._taken, self._delimiter)
        where = "here" if not opened else f"on line {line + opened}"
        if closed is None:
            return f'a quote (") that opens {where} is never closed. {_TWICE}'
        ends = "" if closed == opened else f" on line {line + closed}"
        return f'the quote (") that opens {where} closes{ends} in the middle of a cell. {_TWICE}'

    # -- one line alone -------------------------------------------------------------------------------------------

    def _first_line(self, fault: str, *, is_open: bool) -> tuple[list[str], Fault | None]:
        """Gives the other lines back. `is_open`: a quote that opens on the first line does not close on it."""
        first, *rest = self._taken
        del self._taken[1:]
        self._again.extendleft(reversed(rest))
        after = rest[0] if rest else None
        values = self._otherwise(first, after, is_open=is_open) if len(first) <= CELL_LIMIT else None
        if values is not None:
            return values, None
        shown = first[:_KEPT]
        return self._fitting(self._literal(shown)) or self._lenient(shown) or [""], Fault(fault)

    def _otherwise(self, first: str, after: str | None, *, is_open: bool) -> list[str] | None:
        """The line read in another way, if it then fits the header.

        Files with tabs often know no quotes. A line that a quoted cell of several lines begins on looks the same, and
        is told by the line after it. Elsewhere a quote that stays open may hold anything, and is not guessed at.
        """
        if self._delimiter == "\t":
            literal = self._fitting(self._literal(first))
            is_alone = not is_open or after is None or self._fitting(self._literal(after)) is not None
            if literal is not None and is_alone:
                return literal
        if (escaped := self._escaped(first)) is not None:
            return escaped
        if is_open:
            return self._literal(first) if self._width is None else None
        return self._fitting(self._lenient(first))

    def _literal(self, line: str) -> list[str]:
        return line.rstrip("\r\n").split(self._delimiter)

    def _lenient(self, line: str) -> list[str]:
        """As spreadsheets and pandas take it."""
        return next(self._reader([line.rstrip("\r\n")[:CELL_LIMIT]], strict=False), [])

    def _escaped(self, line: str) -> list[str] | None:
        r"""As databases export it: a quote inside quotes is \"."""
        if '\\"' not in line:
            return None
        try:
            cells = next(self._reader([line], strict=True, escape="\\"))
        except csv.Error:
            return None
        return self._fitting(cells)


_TWICE = 'Inside quotes a quote is written twice ("").'


def _last_quote(lines: Sequence[str], delimiter: str) -> tuple[int, int | None]:
    """The lines, from 0, where the last quoted cell opens and where it closes (None: never), up to where it breaks."""
    opened: int = 0
    closed: int | None = None
    inside, fresh = False, True  # fresh: at a cell's beginning
    for number, text in enumerate(lines):
        for char in text:
            if inside:
                if char == '"':
                    inside, closed = False, number
            elif char == '"' and (fresh or closed is not None):
                inside, opened, closed = True, (number if fresh else opened), None
            elif char == delimiter or char in "\r\n":
                fresh, closed = True, None
                continue
            elif closed is not None:
                return opened, closed
            fresh = False
    return opened, closed
