"""How a CSV is laid out: its delimiter, and the line that its header stands on, found from the file's beginning."""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from jobs.errors import BadInput
from jobs.manifest.csv_records import DELIMITERS, RecordReader
from jobs.manifest.names import Header, clean_name, header_of
from jobs.manifest.raw_rows import KNOWN_COLUMNS
from jobs.manifest.text import TextFile, bounded_lines

#: Rows from the top among which a header is looked for, and those that tell whether it fits.
_HEADERS, LOOKED_AT = 20, 40
#: Excel's own first line, which says what stands between cells; saved again, it has them behind it.
_SEP = re.compile(r'"?sep=(?P<delimiter>[^\r\n"])"?[;,\t|]*[\r\n]*', re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How a CSV is laid out."""

    delimiter: str
    line: int  # the header's physical line, from 1
    header: Header
    above: int  # rows above the header that hold something; they are not read
    perhaps: int | None  # a lower line that looks more like a header

    def __str__(self) -> str:
        """As a person knows it: "semicolon, header on line 3"."""
        lower = f", header on line {self.line:,}" if self.above else ""
        return f"{DELIMITERS.get(self.delimiter, self.delimiter)}{lower}"


def find_layout(file: TextFile, *, delimiter: str | None, header_row: int | None, wanted: Collection[str]) -> Layout:
    """Looks at the file's beginning. `wanted`: columns that the user names; where no row above has them, a header does.

    `header_row`: the header's line, where it is given.
    """
    with file.open() as text:
        first = next(bounded_lines(text), "")
    said = _SEP.fullmatch(first.lstrip("\ufeff"))
    skip = header_row - 1 if header_row else 1 if said else 0
    asked = delimiter or (said["delimiter"] if said else None)
    found = [_best(file, each, skip, wanted, is_given=header_row is not None) for each in asked or DELIMITERS]
    layouts = [each for each in found if each is not None]
    if not layouts:
        where = f"{file.name} has no line {header_row:,}" if header_row else f"{file.name} is empty"
        raise BadInput(f"{where}; the first line of a CSV names its columns.")
    return max(layouts, key=lambda each: each.score).layout


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidate:
    layout: Layout
    score: tuple[int, bool, float, int, int]


def _best(file: TextFile, delimiter: str, skip: int, wanted: Collection[str], *, is_given: bool) -> _Candidate | None:
    """The header there is with this delimiter: the first row, unless a lower one has more of the wanted names."""
    with file.open() as text:
        records = RecordReader(text, delimiter, skip=skip)
        rows = list(itertools.islice(_filled(records), LOOKED_AT))
    if not rows:
        return None
    at = 0 if is_given else header_among(rows, wanted)
    line, cells = rows[at]
    header = header_of(cells)
    layout = Layout(
        delimiter=delimiter,
        line=line,
        header=header,
        above=at if not is_given else skip,
        perhaps=None if is_given else wider_row(rows[at:]),
    )
    known = _hits(cells, {*wanted, *KNOWN_COLUMNS})
    named = len(header.names) - len(header.unnamed)
    fit = _share_that_fits(header, rows[at + 1 :])
    return _Candidate(layout=layout, score=(known, named > 1, fit, named, len(cells)))


def header_among(rows: Sequence[tuple[int, list[str]]], wanted: Collection[str]) -> int:
    """Which of the first rows names the columns: the first, unless a lower one has more of the wanted names."""
    at = max(range(min(_HEADERS, len(rows))), key=lambda each: (_hits(rows[each][1], wanted), -each))
    return 0 if _is_narrower(rows[at][1], rows[0][1]) else at


def _filled(records: RecordReader) -> Iterator[tuple[int, list[str]]]:
    return ((line, cells) for line, cells, _ in records if any(map(clean_name, cells)))


def _hits(cells: Collection[str], names: Collection[str]) -> int:
    return len({clean_name(cell) for cell in cells} & set(names))


def _is_narrower(cells: Collection[str], first: Collection[str]) -> bool:
    """Whether a row holds less than the first one: then that one is no title above a table."""
    return _held(cells) < _held(first)


def wider_row(rows: Sequence[tuple[int, list[str]]]) -> int | None:
    """The line of the first row that is as full as any; None where the first one is at least half as full."""
    most = max(_held(cells) for _, cells in rows)
    full = next(line for line, cells in rows if _held(cells) == most)
    return full if 2 * _held(rows[0][1]) < most else None


def _held(cells: Collection[str]) -> int:
    return sum(bool(clean_name(cell)) for cell in cells)


def _share_that_fits(header: Header, rows: Collection[tuple[int, list[str]]]) -> float:
    fitting = sum(header.named <= len(cells) and not any(cells[len(header.names) :]) for _, cells in rows)
    return fitting / len(rows) if rows else 1.0
