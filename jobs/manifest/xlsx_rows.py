"""The rows of a sheet of .xlsx, one at a time, each with its number in the sheet; formulas as Excel calculated them."""

from __future__ import annotations

import datetime as dt
import itertools
import warnings
import zipfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import ParseError
from xml.parsers.expat import ExpatError

from jobs.errors import BadInput
from jobs.formatting import as_stands
from jobs.manifest.csv_layout import LOOKED_AT, header_among, wider_row
from jobs.manifest.names import Header, header_of
from jobs.manifest.raw_rows import OWN_PREFIX, Fault, RawRow, as_text, bounded
from jobs.manifest.xlsx_parts import Uncalculated, demand_bounded, uncalculated
from jobs.manifest.xlsx_text import unescaped

#: A row's number in its sheet, and its cells as JSON values.
SheetRow = tuple[int, list[object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """One sheet of a workbook."""

    path: Path
    name: str  # the workbook's, as the user named it
    title: str
    others: int  # visible sheets beside it

    def rows(self) -> Iterator[SheetRow]:
        """Rows that hold something. `BadInput` where the file is damaged."""
        with _workbook(self.path, self.name) as book:
            yield from _rows(book[self.title])

    def uncalculated(self) -> Uncalculated:
        """Its formulas that have no value."""
        # openpyxl's own way to a sheet's XML: to ask it for formulas costs ten times as much.
        with _workbook(self.path, self.name) as book, book[self.title]._get_source() as xml:  # noqa: SLF001  openpyxl offers no other way
            return uncalculated(xml)


@dataclass(frozen=True, slots=True, kw_only=True)
class SheetLayout:
    """Where the table of a sheet begins."""

    sheet: Sheet
    line: int  # the header's row in the sheet, from 1
    header: Header
    perhaps: int | None  # a lower row that looks more like a header

    def __str__(self) -> str:
        """As a person knows it: `xlsx, sheet "Products" (1 of 3), header on row 3`."""
        among = f" of {self.sheet.others + 1}" if self.sheet.others else ""
        lower = f", header on row {self.line:,}" if self.line > 1 else ""
        return f'xlsx, sheet "{self.sheet.title}"{among}{lower}'


def sheet_layout(sheet: Sheet, *, header_row: int | None, wanted: Collection[str]) -> SheetLayout:
    """Finds the header as in a CSV. `wanted`: columns that the user names. `header_row`: its row, where it is given."""
    below = itertools.dropwhile(lambda row: row[0] < (header_row or 1), sheet.rows())
    rows = [(number, list(map(as_text, cells))) for number, cells in itertools.islice(below, LOOKED_AT)]
    if not rows or (header_row and rows[0][0] != header_row):
        raise BadInput(f'{sheet.name}, sheet "{sheet.title}": nothing stands in row {header_row}.')
    at = 0 if header_row else header_among(rows, wanted)
    line, names = rows[at]
    widest = max(len(cells) for _, cells in rows[at:])
    return SheetLayout(
        sheet=sheet,
        line=line,
        header=header_of([*names, *[""] * (widest - len(names))]),
        perhaps=None if header_row else wider_row(rows[at:]),
    )


def xlsx_rows(layout: SheetLayout) -> Iterator[RawRow]:
    """One pass over the sheet, from below the header. Rows keep their number where empty ones stand between them."""
    header = layout.header
    names = [None if name.startswith(OWN_PREFIX) else name for name in header.names]
    rows = (row for row in layout.sheet.rows() if row[0] > layout.line)
    for line, values in rows:
        padded = itertools.zip_longest(names, values[: len(names)])
        own = {name: value for name, value in padded if name and (value is not None or name not in header.unnamed)}
        cells = {name: value if type(value) is str else as_text(value) for name, value in own.items()}
        too_many = any(value is not None for value in values[len(names) :])
        fault = Fault(f"{len(values)} cells where the header has {len(names)}") if too_many else None
        yield bounded(RawRow(line - layout.line - 1, line, cells, cells, fault, typed=own))


def find_sheet(path: Path, name: str, asked: str | None) -> Sheet:
    """The sheet that `--sheet` names, else the first that can be seen and holds something."""
    demand_bounded(path, name)
    with _workbook(path, name) as book:
        sheets = [sheet for sheet in book.worksheets if sheet.sheet_state == "visible"] or list(book.worksheets)
        if asked is not None:
            alike = [each for each in book.worksheets if each.title.strip().casefold() == asked.strip().casefold()]
            found = next((each for each in alike if each.title == asked), alike[0] if alike else None)
        else:
            found = next((each for each in sheets if next(_rows(each), None) is not None), None)
        titles = ", ".join(f'"{each.title}"' for each in book.worksheets)
        if found is None:
            raise BadInput(
                f"{name} has no rows." if asked is None else f'--sheet "{asked}": {name} has {titles or "no sheet"}.'
            )
        return Sheet(path=path, name=name, title=found.title, others=sum(each is not found for each in sheets))


@contextmanager
def _workbook(path: Path, name: str) -> Iterator[Any]:
    """A workbook that is read row by row."""
    from openpyxl import load_workbook  # noqa: PLC0415  large, rarely used
    from openpyxl.utils.exceptions import InvalidFileException  # noqa: PLC0415  the same

    # It warns of what it does not keep (styles, validation), and only values are asked for.
    warnings.filterwarnings("ignore", category=UserWarning, module=r"openpyxl\b")
    with path.open("rb") as file:  # a name without an ending would be refused
        try:
            book = load_workbook(file, read_only=True, data_only=True, keep_links=False)
            try:
                yield book
            finally:
                book.close()
        except (
            zipfile.BadZipFile,
            InvalidFileException,
            ParseError,
            ExpatError,
            LookupError,
            ValueError,
            TypeError,
        ) as error:
            raise BadInput(f"{name} is a damaged .xlsx file, or none: {error}") from error


def _rows(sheet: Any) -> Iterator[SheetRow]:
    sheet.reset_dimensions()  # what a file says of its own size is wrong in some
    for number, cells in enumerate(sheet.iter_rows(values_only=True), 1):
        values = [_as_json(value) for value in cells]
        if not all(value is None or (isinstance(value, str) and not value.strip()) for value in values):
            yield number, values


def _as_json(value: object) -> object:
    """A cell's value: whole numbers without a fraction, dates as ISO 8601 has them."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return unescaped(value)
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    if isinstance(value, dt.datetime):
        return as_stands(value.replace(microsecond=0))  # what a day's fraction is not exact in
    return as_stands(value) if isinstance(value, dt.date | dt.time) else str(value)
