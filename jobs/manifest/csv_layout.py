"""How a CSV is laid out: its delimiter, and the line that its header stands on, found from the file's beginning."""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from jobs.errors import BadInput
from jobs.manifest.csv_records import DELIMITERS, RecordFormat, RecordReader
from jobs.manifest.names import Header, clean_name, header_of
from jobs.manifest.raw_rows import KNOWN_COLUMNS
from jobs.manifest.text import TextFile, bounded_lines

#: Rows from the top among which a header is looked for, and those that tell whether it fits.
_HEADERS, LOOKED_AT = 20, 40
#: Rows with the line that each begins on.
_Rows = Sequence[tuple[int, list[str]]]
_BETWEEN = "".join(DELIMITERS)
#: Characters of a cell that are looked at.
_CELL = 200
#: Excel's own first line, which names the delimiter. Saved again by a spreadsheet, it ends with delimiters.
_SEP = re.compile(r'"?sep=(?P<delimiter>[^\r\n"])"?[;,\t|]*[\r\n]*', re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class CsvLayout:
    """How a CSV is laid out."""

    form: RecordFormat
    header: Header
    above: int  # rows above the header that hold something; they are not read
    perhaps: int | None  # a lower line that looks more like a header

    def __str__(self) -> str:
        """As a person knows it: "semicolon, header on line 3"."""
        lower = f", header on line {self.line:,}" if self.above else ""
        return f"{DELIMITERS.get(self.form.delimiter, self.form.delimiter)}{lower}"

    @property
    def line(self) -> int:
        """The header's physical line, from 1."""
        return self.form.skip + 1


def find_layout(file: TextFile, *, delimiter: str | None, header_row: int | None, wanted: Collection[str]) -> CsvLayout:
    """Looks at the file's beginning. `wanted`: columns that the user names; where no row above has them, a header does.

    `header_row`: the header's line, where it is given.
    """
    with file.open() as text:
        first = next(bounded_lines(text), "")
    said = _SEP.fullmatch(first.lstrip("\ufeff"))
    skip = max((header_row or 1) - 1, 1 if said else 0)
    asked = delimiter or (said["delimiter"] if said else None)
    found = [_best(file, each, skip, wanted, is_given=header_row is not None) for each in asked or DELIMITERS]
    layouts = [each for each in found if each is not None]
    if not layouts:
        where = f"{file.name} has no line {header_row:,}" if header_row else f"{file.name} is empty"
        raise BadInput(f"{where}; the first line of a CSV names its columns.")
    return max(layouts, key=lambda each: each.score).layout


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidate:
    layout: CsvLayout
    score: tuple[int, bool, float, int, int]


def _best(file: TextFile, delimiter: str, skip: int, wanted: Collection[str], *, is_given: bool) -> _Candidate | None:
    """The header there is with this delimiter: the first row, unless a lower one has more of the wanted names."""
    rows = _sample(file, RecordFormat(delimiter=delimiter, skip=skip))
    is_spaced = bool(rows) and _is_spaced(rows)
    if is_spaced:
        rows = _sample(file, RecordFormat(delimiter=delimiter, skip=skip, spaced=True))
    if not rows:
        return None
    at = 0 if is_given else header_among(rows, wanted)
    line, cells = rows[at]
    header = header_of(cells)
    form = RecordFormat(
        delimiter=delimiter, skip=line - 1, width=len(header.names), least=header.named, spaced=is_spaced
    )
    perhaps = None if is_given else wider_row(rows[at:])
    layout = CsvLayout(form=form, header=header, above=skip if is_given else at, perhaps=perhaps)
    known = _hits(cells, {*wanted, *KNOWN_COLUMNS})
    named = len(header.names) - len(header.unnamed)
    is_table = named > 1 or (not known and perhaps is not None)
    fit = _share_that_fits(header, rows[at + 1 :])
    return _Candidate(layout=layout, score=(known, is_table, fit, named, len(cells)))


def _sample(file: TextFile, form: RecordFormat) -> _Rows:
    """The first rows in which something stands, with their lines."""
    with file.open() as text:
        filled = ((line, cells) for line, cells, _ in RecordReader(text, form) if _held(cells))
        return list(itertools.islice(filled, LOOKED_AT))


def _is_spaced(rows: _Rows) -> bool:
    """Whether blanks stand behind each delimiter of the header, and quotes behind such blanks further down."""
    first = rows[0][1]
    is_so = len(first) > 1 and all(cell.startswith(" ") for cell in first[1:])
    return is_so and any(cell.lstrip().startswith('"') for _, cells in rows for cell in cells if cell.startswith(" "))


def header_among(rows: _Rows, wanted: Collection[str]) -> int:
    """Which of the first rows names the columns: the first, or a lower one that has more of the wanted names.

    That one must be fuller than the first, which is then a title, or have two names that are wanted or known.
    """
    at = max(range(min(_HEADERS, len(rows))), key=lambda each: (_hits(rows[each][1], wanted), -each))
    first, cells = rows[0][1], rows[at][1]
    is_fuller = _held(first) < _held(cells) or len(first) == len(cells) == 1
    return at if is_fuller or _hits(cells, {*wanted, *KNOWN_COLUMNS}) > 1 else 0


def _hits(cells: Collection[str], names: Collection[str]) -> int:
    return len({clean_name(cell) for cell in cells if len(cell) <= _CELL} & set(names))


def wider_row(rows: _Rows) -> int | None:
    """The line of the fullest row, where the first one is not half as full and most rows below that one fit it."""
    most = max(_held(cells) for _, cells in rows)
    at = next(at for at, (_, cells) in enumerate(rows) if _held(cells) == most)
    is_table = _share_that_fits(header_of(rows[at][1]), rows[at + 1 :]) > 1 / 2
    return rows[at][0] if 2 * _held(rows[0][1]) < most and is_table else None


def _held(cells: Collection[str]) -> int:
    """Cells that show anything but what another delimiter would be."""
    return sum(bool(clean_name(cell[:_CELL]).strip(_BETWEEN)) for cell in cells)


def _share_that_fits(header: Header, rows: _Rows) -> float:
    fitting = sum(header.named <= len(cells) and not any(cells[len(header.names) :]) for _, cells in rows)
    return fitting / len(rows) if rows else 1.0
